"""Rolling a learned rule out: its own answers are its next inputs, beside the true automaton."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax_nar.errors import InputError, positive_int

Rule = Callable[[jax.Array], jax.Array]
"""The next states of all cells, an integer array of the shape of the present ones."""


class RollOut(NamedTuple):
    """What a rule makes of a start, and how much of it is as it should be."""

    diagram: jax.Array
    """(steps + 1, ...) int32: the start, and the cells after each step."""
    fraction: jax.Array
    """The fraction of cells after the start that are right, float32."""
    exact: jax.Array
    """Whether all of them are, bool."""


def roll_out(rule: Rule, true_rule: Rule, start: jax.Array, *, steps: int) -> RollOut:
    """Apply `rule` and `true_rule` to `start` (...) over and over, each to its own cells.

    It is one scan, so it can be under `jit` and `vmap`, and is compiled for any number of cells.
    `rule` may well be a model's: see `ElementaryAutomaton.next_row` and `GameOfLife.next_grid`.

    Raises:
      InputError: for `steps` below 1, or a rule that changes the shape of the cells.
    """
    positive_int("steps", steps)
    start = jnp.asarray(start, jnp.int32)

    def step(cells: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple, tuple]:
        own, true = _apply("rule", rule, cells[0]), _apply("true_rule", true_rule, cells[1])
        wrong = own != true
        return (own, true), (own, wrong.mean(dtype=jnp.float32), wrong.any())

    _, (after, wrong, any_wrong) = jax.lax.scan(step, (start, start), None, length=steps)
    return RollOut(jnp.concatenate([start[None], after]), 1 - wrong.mean(), ~any_wrong.any())


def _apply(argument: str, rule: Rule, cells: jax.Array) -> jax.Array:
    after = rule(cells)
    if after.shape != cells.shape:
        raise InputError(
            f"{argument} makes cells of the shape {after.shape} from {cells.shape}; "
            "give a rule that keeps the shape."
        )
    return after.astype(jnp.int32)
