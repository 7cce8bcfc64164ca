"""What algorithms on lists share: the order of a list, and two nodes that trade places in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import inputs
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.machine import Problem, at, exchange
from evojax_nar.types import Key

CONSTANT = ("pred_h",)
"""The order of the input, which is no news in any frame of an algorithm that leaves it as it is."""


@dataclass(frozen=True)
class Keys(ClrsTask):
    """The base of tasks on a list of keys."""

    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Keys uniform in [low, high)."""
        at_key, key_key = jax.random.split(key)
        return {
            "pos": inputs.positions(at_key, size, nodes, varied=self.varied),
            "key": inputs.uniform(key_key, size, nodes, self.low, self.high),
        }

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Keys uniform in [low, high)."""
        keys = inputs.replay_uniform(random, size, cls.low, cls.high)
        return {"pos": inputs.replay_positions(size), "key": keys}


def predecessors(problem: Problem) -> jax.Array:
    """The node before each, the first one before itself, (V,) int32; 0 past the size."""
    return jnp.where(problem.exists, jnp.maximum(problem.index - 1, 0), 0)


def itself(pointers: jax.Array, problem: Problem) -> jax.Array:
    """Pointers (V,) that are those of nodes that do not exist to themselves: see `trade`."""
    return jnp.where(problem.exists, pointers, problem.index)


def rename(pointers: jax.Array, one: jax.Array, two: jax.Array) -> jax.Array:
    """Pointers to the nodes `one` and `two` exchanged, those to other nodes as they are."""
    return jnp.where(pointers == one, two, jnp.where(pointers == two, one, pointers))


def trade(pointers: jax.Array, one: jax.Array, two: jax.Array) -> jax.Array:
    """Pointers (V,) of a structure in which the nodes `one` and `two` have traded places.

    Whoever points at one of them points at the other from then on, and each points where the
    other did. Nodes that do not exist must point to themselves, or they would be renamed too.
    """
    return rename(exchange(pointers, one, two), one, two)


def first_where(mask: jax.Array) -> jax.Array:
    """The first index at which a mask (V,) is true, int32; V where it is nowhere."""
    length = mask.shape[0]
    return jnp.where(mask, jnp.arange(length, dtype=jnp.int32), length).min()


def categorical(index: jax.Array, classes: int, problem: Problem) -> jax.Array:
    """(classes,) in the type of the real numbers, 1 at `index`: a categorical probe."""
    return at(index, classes).astype(problem.dtype)
