"""Repeat copy in its two forms: give a list of bit vectors back several times, and say the end."""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import finite, positive_int
from evojax_nar.tasks.memory.base import MemoryTask
from evojax_nar.tasks.sequence import assemble, gather
from evojax_nar.tasks.sizes import Sizes, parse
from evojax_nar.types import Batch, Field, Key


@dataclass(frozen=True)
class _RepeatCopy(MemoryTask):
    """What the two share; they differ in a marker, and in how the number of repeats is said."""

    train_sizes: Sizes = range(1, 11)
    test_sizes: Sizes = (10, 20, 50, 100)
    width: int = 8
    repeats: Sizes = range(1, 11)
    test_repeats: Sizes = (10,)

    lead: ClassVar[int] = 0
    """Steps before the first vector."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_int("width", self.width)
        for argument in ("repeats", "test_repeats"):
            object.__setattr__(self, argument, parse(argument, getattr(self, argument)))

    @abc.abstractmethod
    def said(self, repeats: jax.Array) -> jax.Array:
        """The number of repeats (B,) as the model sees it, float32."""

    @abc.abstractmethod
    def marked(self, step: jax.Array, size: jax.Array) -> jax.Array:
        """Which of the steps (1, T) bears the marker, for sizes (B, 1): (B, T) bool."""

    @property
    def test(self) -> Self:
        """The same task with the repeats of tests."""
        return replace(self, repeats=self.test_repeats)

    @property
    def inputs(self) -> tuple[Field, ...]:
        """A vector of bits, the channel of the marker, and that of the number of repeats."""
        return (
            Field("bits", "bits", self.width),
            Field("marker", "bits", 1),
            Field("repeats", "scalar", 1),
        )

    @property
    def output(self) -> Field:
        """A vector of bits, and the end marker as the last one."""
        return Field("bits", "bits", self.width + 1)

    def length(self, size: int) -> int:
        """T for the most repeats there are; after fewer, blank steps follow the end marker."""
        return self.lead + size + 1 + size * max(self.repeats) + 1

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Fair bits and, as the last column of every row, how often to repeat them.

        (B, max_size, width + 1) int32; each of the `repeats` is as likely as the others.
        """
        bit_key, repeat_key = jax.random.split(key)
        bits = jax.random.bernoulli(bit_key, shape=(batch, max_size, self.width))
        repeats = jax.random.choice(repeat_key, jnp.asarray(self.repeats), (batch, 1, 1))
        columns = (bits, jnp.broadcast_to(repeats, (batch, max_size, 1)))
        return jnp.concatenate([column.astype(jnp.int32) for column in columns], axis=-1)

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of the first `size` (B,) vectors (B, max_size, width), and the repeats."""
        max_size, vectors, repeats = content.shape[1], content[..., :-1], content[:, :1, -1]
        step, column = jnp.arange(self.length(max_size))[None], size[:, None]
        spoken = self.lead + column
        shown = (step >= self.lead) & (step < spoken)
        after = step.shape[1] - self.lead - max_size
        padded = jnp.pad(vectors, ((0, 0), (self.lead, after), (0, 0)))
        values = jnp.where(shown[..., None], padded, 0)
        marker = self.marked(step, column)
        count = jnp.where(step == spoken, self.said(repeats), 0.0)
        since = step - spoken - 1
        end = column * repeats
        again = gather(vectors, since % jnp.maximum(column, 1))
        wanted = jnp.where((since < end)[..., None], again, 0)
        return assemble(
            values=jnp.concatenate([values, marker[..., None], count[..., None]], axis=-1),
            exists=step < self.lead + column + 1 + column * max(self.repeats) + 1,
            targets=jnp.concatenate([wanted, (since == end)[..., None]], axis=-1),
            mask=(since >= 0) & (since <= end),
            size=size,
            max_size=max_size,
        )


@final
@dataclass(frozen=True)
class RepeatCopy(_RepeatCopy):
    """Give back a list of bit vectors as often as asked, then an end marker.

    The size is the number of vectors L. They are shown one a step; then, in one step, a delimiter
    in a channel of its own and the number of repeats R in another, less the mean and over the
    standard deviation of those of training; then L * R blank steps for the vectors, and one for the
    end marker, a further output that is 0 until then. T = L + 2 + L * R for the largest R, inputs
    (B, T, width + 2), outputs (B, T, width + 1); what follows the end marker is not judged.

    The published tests are length 20 with 10 repeats, and length 10 with 20: `test_sizes=20`, and
    `test_sizes=10, test_repeats=20`.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
      width: bits in a vector.
      repeats: numbers of repeats, each as likely as the others.
      test_repeats: those of tests, which the evaluator takes by itself. Models built for one fixed
        length cannot run more than `repeats` has.
      scaled_by: the numbers of repeats by whose mean and deviation R is scaled; None for `repeats`.
    """

    name: ClassVar[str] = "memory/repeat_copy"
    source: ClassVar[str] = "Graves et al. 2014, arXiv:1410.5401, section 4.2"
    scaled_by: Sizes | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scaled_by is not None:
            object.__setattr__(self, "scaled_by", parse("scaled_by", self.scaled_by))

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=1, test_sizes=(1, 2), repeats=(10, 12), test_repeats=12)

    @property
    def test(self) -> Self:
        """The same task with the repeats of tests, scaled by those of training."""
        return replace(super().test, scaled_by=self._scale)

    @property
    def _scale(self) -> tuple[int, ...]:
        return self.repeats if self.scaled_by is None else self.scaled_by

    def said(self, repeats: jax.Array) -> jax.Array:
        """Less the mean, over the standard deviation where that is not 0."""
        deviation = float(np.std(self._scale))
        return (repeats - float(np.mean(self._scale))) / (deviation or 1.0)

    def marked(self, step: jax.Array, size: jax.Array) -> jax.Array:
        """The step after the last vector."""
        return step == size


@final
@dataclass(frozen=True)
class RepeatCopyDNC(_RepeatCopy):
    """Repeat copy as the generator of the differentiable neural computer lays it out.

    The size is the number of vectors L. A start marker comes first, in a channel of its own; then
    the vectors; then the number of repeats R over `unit` in another channel; then L * R blank steps
    for the vectors, and one for the end marker. T = L * (R + 1) + 3 for the largest R, inputs
    (B, T, width + 2), outputs (B, T, width + 1); what follows the end marker is not judged. The
    defaults are those of the published run, but for the test sizes above 2.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
      width: bits in a vector.
      repeats: numbers of repeats, each as likely as the others.
      test_repeats: those of tests, which the evaluator takes by itself. Models built for one fixed
        length cannot run more than `repeats` has.
      unit: what the number of repeats is divided by.
    """

    name: ClassVar[str] = "memory/repeat_copy_dnc"
    source: ClassVar[str] = "Graves et al. 2016, doi:10.1038/nature20101, released generator"
    train_sizes: Sizes = (1, 2)
    test_sizes: Sizes = (2, 4, 8)
    width: int = 4
    repeats: Sizes = (1, 2)
    test_repeats: Sizes = (1, 2)
    unit: float = 10.0
    lead: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        finite("unit", self.unit, above=0.0)

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=1, test_sizes=(1, 2), width=8, repeats=(10, 12), test_repeats=12)

    def said(self, repeats: jax.Array) -> jax.Array:
        """Over the unit."""
        return repeats / self.unit

    def marked(self, step: jax.Array, size: jax.Array) -> jax.Array:
        """The first step."""
        return jnp.broadcast_to(step == 0, (len(size), step.shape[1]))
