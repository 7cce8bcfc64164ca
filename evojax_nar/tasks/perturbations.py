"""Changes to the inputs that a task has drawn: of keys, of operands, or whatever a class says.

Answers are computed from the changed inputs, by the task, so they are right as ever. Changed graphs
are in `graph_families`.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import finite, reject
from evojax_nar.settings import Configurable
from evojax_nar.tasks.chomsky.binary import BinaryAddition, BinaryMultiplication
from evojax_nar.tasks.chomsky.draws import above_zero
from evojax_nar.tasks.clrs.lists import Keys
from evojax_nar.tasks.clrs.searching import BinarySearch
from evojax_nar.tasks.formal import SerialAddition
from evojax_nar.tasks.logic import AutoregressiveAddition, DecimalAddition
from evojax_nar.tasks.sequence import SequenceTask
from evojax_nar.tasks.sort import Sort
from evojax_nar.types import Key


class Perturbation(Configurable, abc.ABC):
    """A change to what a task has drawn, as a pure function. Frozen and hashable."""

    @property
    @abc.abstractmethod
    def applies_to(self) -> str:
        """What tasks it applies to, to follow "applies to" in a sentence."""

    @abc.abstractmethod
    def fits(self, task: Any) -> bool:
        """Whether it applies to `task`."""

    @abc.abstractmethod
    def change(self, key: Key, task: Any, content: Any, size: jax.Array) -> Any:
        """The changed content of B examples, in the same shapes and types, under jit.

        Args:
          key: of the change.
          task: one that `fits`.
          content: what `task.build` takes: an array (B, L, ...), or input probes (B, V, ...) by
            name, of which only the first `size` of each example exist.
          size: (B,) int32.
        """

    def check(self, task: Any) -> None:
        """Refuse a task that it does not apply to.

        Raises:
          InputError: in one sentence.
        """
        if not self.fits(task):
            name = getattr(task, "name", type(task).__name__)
            problem = f"does not apply to task={name!r}"
            raise reject("perturbation", self.name, problem, f"it applies to {self.applies_to}")


def draw(task: Any, key: Key, sizes: jax.Array, *, max_size: int) -> Any:
    """The content that `task.build` takes, for examples of these sizes (B,), as the task draws it.

    An array (B, max_size, ...) of a task of sequences, and input probes (B, V, ...) by name of one
    of CLRS-30.
    """
    if isinstance(task, SequenceTask):
        return task.draw(key, max_size=max_size, batch=len(sizes))
    nodes = task.length(max_size)
    keys = jax.random.split(key, len(sizes))
    return jax.vmap(lambda own, size: task.draw(own, size, nodes))(keys, sizes)


# Keys.


@dataclass(frozen=True)
class KeyChange(Perturbation):
    """The base of changes to real-valued keys.

    A list that is sorted by its nature, as for a binary search, is sorted again.
    """

    @abc.abstractmethod
    def keys(self, key: Key, keys: jax.Array, size: jax.Array) -> jax.Array:
        """The changed keys (L,) of one example; what stands past the size is ignored."""

    def target(self, target: jax.Array) -> jax.Array:
        """What is looked for in them, likewise."""
        return target

    @property
    def applies_to(self) -> str:
        """Tasks on lists of real-valued keys."""
        return "tasks on lists of numbers: sort, and those of CLRS-30 on keys"

    def fits(self, task: Any) -> bool:
        """See `applies_to`."""
        return isinstance(task, (Sort, Keys, BinarySearch))

    def change(self, key: Key, task: Any, content: Any, size: jax.Array) -> Any:
        """See `Perturbation`."""
        probes = {"key": content} if isinstance(task, Sort) else dict(content)
        keys = jax.random.split(key, len(size))
        exists = jnp.arange(probes["key"].shape[1]) < size[:, None]
        changed = jax.vmap(self.keys)(keys, probes["key"], size)
        if isinstance(task, BinarySearch):
            changed = jnp.sort(jnp.where(exists, changed, jnp.inf), axis=1)
            probes["target"] = self.target(probes["target"])
        probes["key"] = jnp.where(exists, changed, 0.0)
        return probes["key"] if isinstance(task, Sort) else probes


@final
@dataclass(frozen=True)
class KeyNoise(KeyChange):
    """Gaussian noise on every key, so that some are outside the range that was trained on.

    Args:
      scale: its standard deviation; keys are drawn from a range of width 1, or 2 with signs.
    """

    name: ClassVar[str] = "key_noise"
    scale: float = 0.1

    def __post_init__(self) -> None:
        finite("scale", self.scale, above=0.0)

    def keys(self, key: Key, keys: jax.Array, size: jax.Array) -> jax.Array:
        """See `KeyChange`."""
        return keys + self.scale * jax.random.normal(key, keys.shape)


@final
@dataclass(frozen=True)
class KeyRange(KeyChange):
    """Every key, and what is looked for, times a factor; their order stays as it is.

    Args:
      factor: above 0.
    """

    name: ClassVar[str] = "key_range"
    factor: float = 10.0

    def __post_init__(self) -> None:
        finite("factor", self.factor, above=0.0)

    def keys(self, key: Key, keys: jax.Array, size: jax.Array) -> jax.Array:
        """See `KeyChange`."""
        return keys * self.factor

    def target(self, target: jax.Array) -> jax.Array:
        """See `KeyChange`."""
        return target * self.factor


@final
@dataclass(frozen=True)
class KeyTies(KeyChange):
    """Some keys become equal to others, which keys that are drawn at random hardly ever are.

    Args:
      fraction: the chance of each key to become that of another place of its list, drawn uniformly
        and read before any change.
    """

    name: ClassVar[str] = "key_ties"
    fraction: float = 0.5

    def __post_init__(self) -> None:
        if finite("fraction", self.fraction, above=0.0) > 1:
            raise reject("fraction", self.fraction, "is no chance", "give one of at most 1")

    def keys(self, key: Key, keys: jax.Array, size: jax.Array) -> jax.Array:
        """See `KeyChange`."""
        chosen_key, place_key = jax.random.split(key)
        ahead = jax.random.randint(place_key, keys.shape, 1, jnp.maximum(size, 2))
        other = (jnp.arange(keys.shape[0]) + ahead) % jnp.maximum(size, 1)
        return jnp.where(
            jax.random.bernoulli(chosen_key, self.fraction, keys.shape), keys[other], keys
        )


# Operands.

_PAIRS = (SerialAddition, DecimalAddition, AutoregressiveAddition)
"""Their content is (B, L, 2): a digit of either operand at each place."""
_STRINGS = (BinaryAddition, BinaryMultiplication)
"""Theirs is random words (B, L, 4) that a string of both operands is made of."""


@final
@dataclass(frozen=True)
class EqualOperands(Perturbation):
    """Both operands are the same number: each bit meets itself, and carries come in other patterns.

    In a string of both operands, with a sign between them, they are as long as each other, or the
    second has one more 0 at its end where the string has an even number of tokens. Strings of
    fewer than three tokens have one operand, and stay as they are.
    """

    name: ClassVar[str] = "equal_operands"

    @property
    def applies_to(self) -> str:
        """Tasks with two operands."""
        return f"{', '.join(task.name for task in (*_PAIRS, *_STRINGS))}"

    def fits(self, task: Any) -> bool:
        """See `applies_to`."""
        return isinstance(task, (*_PAIRS, *_STRINGS))

    def change(self, key: Key, task: Any, content: Any, size: jax.Array) -> Any:
        """See `Perturbation`. Nothing is drawn."""
        del key
        if isinstance(task, _STRINGS):
            return _repeat_operand(content, size)
        return jnp.broadcast_to(content[..., :1], content.shape)


def _repeat_operand(words: jax.Array, size: jax.Array) -> jax.Array:
    """Words (B, L, 4) of strings whose second operand is the first.

    The first word of a place is a bit of the string, by its highest bit; the second one of place 0
    says how long the first operand is, as a fraction of what it may be; the third is what the first
    operand is drawn from where all its bits are 0, as none may be.
    """
    both = jnp.maximum(size - 1, 2)
    length = both // 2
    place = jnp.arange(words.shape[1])
    bits = above_zero((words[..., 0] >> 31).astype(jnp.int32), length, words[:, 0, 2])
    behind = place - length[:, None] - 1
    second = jnp.take_along_axis(bits, jnp.clip(behind, 0, words.shape[1] - 1), axis=1)
    string = jnp.where(behind < 0, bits, second)
    # The middle of the share of all words that means this length.
    share = (length - 0.5) / jnp.maximum(size - 2, 1)
    changed = words.at[..., 0].set(string.astype(jnp.uint32) << 31)
    changed = changed.at[:, 0, 1].set((share * 2.0**32).astype(jnp.uint32))
    return jnp.where((size >= 3)[:, None, None], changed, words)
