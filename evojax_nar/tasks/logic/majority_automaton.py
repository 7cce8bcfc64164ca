"""Cellular automata of radius 3 that classify densities: run one, and count what it gets right."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from evojax_nar.errors import InputError, positive_int
from evojax_nar.tasks.logic.table import bits_of

RADIUS = 3
TABLE = 2 ** (2 * RADIUS + 1)
"""Entries of a rule: one for each neighbourhood of seven cells."""


class Classified(NamedTuple):
    """Which rows an automaton has classified."""

    right: jax.Array
    """(..., B) bool: the row has come to rest in the state of its majority."""
    fraction: jax.Array
    """(...) float32: the fraction of the B rows that are right."""


def radius_three_step(table: jax.Array, row: jax.Array) -> jax.Array:
    """The rows (..., N) of bits after `row`, on a ring, by a rule (128,) of bits, int32.

    Entry sum(2**(3 - d) * cell at distance d, for d from -3 to 3) of the rule is the next state:
    the cell furthest to the left counts most, so the entries are in lexicographic order.
    """
    number = jnp.zeros(row.shape, jnp.int32)
    for distance in range(-RADIUS, RADIUS + 1):
        number = 2 * number + jnp.roll(row, -distance, axis=-1).astype(jnp.int32)
    return table.astype(jnp.int32)[number]


def classify(table: jax.Array, rows: jax.Array, steps: Any = None) -> Classified:
    """Run the automaton of a rule (128,) of bits on rows (B, N) of bits, and judge where it ends.

    A row is right where, after the steps, every cell is in the state that most cells were in at
    first, and the rule keeps it so. All of it runs on the device, so many rules at once are a
    `vmap` over `table`. Source: Mitchell, Hraber and Crutchfield 1993, "Revisiting the edge of
    chaos", section 4, with 2N steps as is usual for published figures.

    Args:
      table: the rule, whose entries are those of `radius_three_step`.
      rows: the initial rows; N is odd.
      steps: how many steps to run, a number or traced; 2N where it is None.

    Raises:
      InputError: for a table or rows of another shape, an even N, or `steps` below 1.
    """
    table, rows = jnp.asarray(table), jnp.asarray(rows, jnp.int32)
    if table.shape != (TABLE,):
        raise InputError(f"table has the shape {table.shape}; give {TABLE} bits.")
    if rows.ndim != 2 or rows.size == 0:
        raise InputError(f"rows has the shape {rows.shape}; give bits (B, N).")
    cells = rows.shape[1]
    if cells % 2 == 0:
        raise InputError(f"rows has N={cells} cells, so there may be no majority; give an odd N.")
    if not isinstance(steps, jax.Array):
        steps = positive_int("steps", 2 * cells if steps is None else steps)
    majority = 2 * rows.sum(axis=1, keepdims=True) > cells
    last = jax.lax.fori_loop(0, steps, lambda _, row: radius_three_step(table, row), rows)
    rests = jnp.where(majority, table[-1], table[0]) == majority
    right = (last == majority).all(axis=1) & rests[:, 0]
    return Classified(right, right.mean(dtype=jnp.float32))


def gkl_table() -> jax.Array:
    """The rule (128,) of Gacs, Kurdyumov and Levin 1978, int32, the usual reference made by hand.

    A cell that is 0 becomes the majority of itself and the cells 1 and 3 to its left; a cell that
    is 1, of itself and those 1 and 3 to its right. Mitchell, Crutchfield and Das 1996, "Evolving
    cellular automata with genetic algorithms: a review of recent work", table 1, give 0.816, 0.766
    and 0.757 as the fractions of unbiased rows that it classifies at N = 149, 599 and 999.
    """
    cells = bits_of(jnp.arange(TABLE, dtype=jnp.int32), 2 * RADIUS + 1)
    left = cells[:, 3] + cells[:, 2] + cells[:, 0]
    right = cells[:, 3] + cells[:, 4] + cells[:, 6]
    return (jnp.where(cells[:, 3] == 0, left, right) >= 2).astype(jnp.int32)
