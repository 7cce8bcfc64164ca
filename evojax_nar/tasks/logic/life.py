"""Conway's Game of Life: the rule as a truth table, and the game on a torus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import finite, reject
from evojax_nar.tasks.logic.table import TruthTable, bits_of
from evojax_nar.tasks.sequence import predictions
from evojax_nar.types import Field, Key, Model, Params

CELLS = 9
ALIVE = 140
"""Neighbourhoods of the 512 whose cell is alive next."""


def neighbourhoods(grid: jax.Array) -> jax.Array:
    """The 3 x 3 cells around each cell of grids (..., H, W) on a torus, (..., H, W, 9).

    Row by row from the upper left. Where H or W is below 3, a neighbour occurs more than once.
    """
    rows = [jnp.roll(grid, down, axis=-2) for down in (1, 0, -1)]
    return jnp.stack([jnp.roll(row, by, axis=-1) for row in rows for by in (1, 0, -1)], axis=-1)


def life_rule(cells: jax.Array) -> jax.Array:
    """What the middle of neighbourhoods (..., 9) becomes, (...) int32.

    It lives with three neighbours, and with two where it lives already.
    """
    cells = jnp.asarray(cells, jnp.int32)
    own, count = cells[..., CELLS // 2], cells.sum(axis=-1)
    return ((count == 3) | ((own == 1) & (count == 4))).astype(jnp.int32)


def life_step(grid: jax.Array) -> jax.Array:
    """The grids (..., H, W) after those given, on a torus, int32."""
    return life_rule(neighbourhoods(grid))


@final
@dataclass(frozen=True)
class GameOfLife(TruthTable):
    """Say whether a cell of the Game of Life is alive next, from the 3 x 3 cells around it.

    The size is always 1, and T = 1. Inputs (B, 1, 9): the cells, row by row. Output (B, 1, 1). Of
    the 512 neighbourhoods 140 lead to life, so "dead" is right for 72.7 % of the table; `alive`
    says how often one of them is drawn. `next_grid` plays a learned rule on a torus. Source:
    Gardner 1970, "The fantastic combinations of John Conway's new solitaire game 'life'"; learned
    from all neighbourhoods by Miotti et al. 2025, "Differentiable Logic Cellular Automata",
    arXiv:2506.04912.

    Args:
      train_sizes: 1.
      test_sizes: 1.
      alive: the fraction of examples whose cell is alive next, above 0 and below 1; with 140 / 512
        all neighbourhoods are equally likely.
    """

    name: ClassVar[str] = "logic/game_of_life"
    source: ClassVar[str] = (
        "Gardner 1970, Scientific American; Miotti et al. 2025, arXiv:2506.04912"
    )
    alive: float = ALIVE / 2**CELLS

    def __post_init__(self) -> None:
        super().__post_init__()
        if finite("alive", self.alive, above=0.0) >= 1:
            raise reject("alive", self.alive, "is not a fraction", "give one below 1")

    @classmethod
    def example(cls) -> Self:
        """As many live cells as dead ones."""
        return cls(alive=0.5)

    @property
    def columns(self) -> int:
        """The cells."""
        return CELLS

    @property
    def output(self) -> Field:
        """1 for alive."""
        return Field("alive", "bits", 1)

    def values(self, rows: jax.Array) -> jax.Array:
        """What the middle of rows (..., 9) becomes: (..., 1) int32."""
        return life_rule(rows)[..., None]

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Neighbourhoods (B, max_size, 9), int32, the fraction `alive` of them leading to life."""
        alive_key, row_key = jax.random.split(key)
        shape = (batch, max_size)
        alive = jax.random.bernoulli(alive_key, self.alive, shape)
        rows = bits_of(jnp.arange(2**CELLS, dtype=jnp.int32), CELLS)
        ordered = rows[jnp.argsort(1 - life_rule(rows))]  # those that lead to life come first
        first, last = jnp.where(alive, 0, ALIVE), jnp.where(alive, ALIVE, 2**CELLS)
        return ordered[jax.random.randint(row_key, shape, first, last, jnp.int32)]

    def next_grid(self, model: Model, params: Params, grid: jax.Array) -> jax.Array:
        """The grid (H, W) that `model` says comes after `grid` (H, W), int32, for `roll_out`.

        A cell whose output is NaN becomes -1, which is never right.
        """
        content = neighbourhoods(grid).reshape(-1, 1, CELLS)
        batch = self.build(content, jnp.ones(len(content), jnp.int32))
        outputs = model.apply(params, batch.inputs, spec=self.spec)
        return predictions(self.output, outputs, batch).reshape(grid.shape)
