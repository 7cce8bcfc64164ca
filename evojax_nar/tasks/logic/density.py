"""Density classification: say which of two states most cells of a row are in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import finite, reject
from evojax_nar.tasks.logic.restricted import RestrictedSizes
from evojax_nar.tasks.sequence import assemble
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Field, Key

Densities = Any
"""Two numbers from 0 to 1, the lower first; a task turns them into a tuple when it is made."""

UNBIASED = (0.5, 0.5)
"""Every cell is fair: most rows are close calls. This is what published figures are for."""
UNIFORM = (0.0, 1.0)
"""The density is uniform, and with it the number of ones, exactly, at every size."""


def draw_rows(key: Key, densities: tuple[float, float], shape: tuple[int, ...]) -> jax.Array:
    """Rows of bits (..., N), int32, each of a density of its own, uniform between two numbers."""
    density_key, cell_key = jax.random.split(key)
    low, high = densities
    density = low + (high - low) * jax.random.uniform(density_key, (*shape[:-1], 1))
    return (jax.random.uniform(cell_key, shape) < density).astype(jnp.int32)


@final
@dataclass(frozen=True)
class DensityClassification(RestrictedSizes):
    """Say at the last cell of a row whether most of its cells are ones.

    The size is the number of cells N, odd so that there is a majority, and T = N; an even size is
    refused. Inputs (B, T, 2): the cell, one-hot. Output: two classes, judged at the step size - 1
    alone. A row has a density of its own, uniform in an interval, and each cell is a one with that
    probability. Tests have an interval of their own; validation is as in training. Source: the task
    and both intervals are those of Mitchell, Hraber and Crutchfield 1993, "Revisiting the edge of
    chaos", Complex Systems 7, where a cellular automaton has to do it (see `classify`).

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
      density: lowest and highest density of training rows.
      test_density: the same, of test rows.

    Raises:
      InputError: for an even size, or densities that are not an interval within 0 and 1.
    """

    name: ClassVar[str] = "logic/density_classification"
    source: ClassVar[str] = "Mitchell, Hraber and Crutchfield 1993, Complex Systems 7"
    train_sizes: Sizes = (149,)
    test_sizes: Sizes = (149, 599, 999)
    density: Densities = UNIFORM
    test_density: Densities = UNBIASED

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument in ("density", "test_density"):
            object.__setattr__(self, argument, _interval(argument, getattr(self, argument)))

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=(1, 3, 5), test_sizes=(5, 9))

    @staticmethod
    def check_size(argument: str, size: int) -> None:
        """Half of an even number of cells may be ones."""
        if size % 2 == 0:
            raise reject(argument, size, "is even, so there may be no majority", "give an odd size")

    @property
    def test(self) -> Self:
        """The same task on rows of the test densities."""
        return replace(self, density=self.test_density)

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The cell, one-hot."""
        return (Field("cell", "categorical", 2),)

    @property
    def output(self) -> Field:
        """The state of most cells."""
        return Field("majority", "categorical", 2)

    def length(self, size: int) -> int:
        """T = size.

        Raises:
          InputError: for an even size.
        """
        self.check_size("size", size)
        return size

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Rows (B, max_size) of bits, int32, of densities within `density`."""
        return draw_rows(key, self.density, (batch, max_size))

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of the first `size` (B,) of the cells (B, max_size)."""
        step, size_column = jnp.arange(content.shape[1])[None], size[:, None]
        exists = step < size_column
        ones = jnp.where(exists, content, 0).sum(axis=1, keepdims=True)
        return assemble(
            values=jax.nn.one_hot(content, 2),
            exists=exists,
            targets=jnp.broadcast_to(2 * ones > size_column, exists.shape).astype(jnp.int32),
            mask=(step == size_column - 1) & (size_column % 2 == 1),
            size=size,
            max_size=content.shape[1],
        )


def _interval(argument: str, value: Any) -> tuple[float, float]:
    remedy = "give two numbers from 0 to 1, the lower first"
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise reject(argument, value, "is not an interval", remedy)
    low, high = (finite(argument, number) for number in value)
    if not 0 <= low <= high <= 1:
        raise reject(argument, value, "is not an interval of densities", remedy)
    return low, high
