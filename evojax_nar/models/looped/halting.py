"""Adaptive computation time: each position decides for itself after how many steps it halts.

Source: Graves 2016, "Adaptive Computation Time for Recurrent Neural Networks", arXiv:1603.08983,
section 2, for each position of a sequence as in Dehghani et al. 2019, arXiv:1807.03819. Nothing
branches: who has halted gets the weight 0, so that gradients go through.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Halting(NamedTuple):
    """How far each position is, with one entry for each, (B, T)."""

    running: jax.Array
    """Whether it takes the next step, bool."""
    total: jax.Array
    """The sum of the probabilities of the steps before the one at which it halts, float32."""
    remainder: jax.Array
    """The weight of the step at which it halted, 1 - total, and 0 before that. float32."""
    steps: jax.Array
    """Steps taken, int32."""


def begin(mask: jax.Array) -> Halting:
    """Before the first step: what exists in `mask` (B, T) runs."""
    zeros = jnp.zeros(mask.shape, jnp.float32)
    return Halting(mask, zeros, zeros, jnp.zeros(mask.shape, jnp.int32))


def advance(
    halting: Halting, probability: jax.Array, is_last: jax.Array, epsilon: float
) -> tuple[Halting, jax.Array]:
    """One step further, and the weight (B, T) of the step in the mean over all steps.

    Args:
      halting: before the step.
      probability: (B, T), the halting unit's after the step.
      is_last: a bool, whether no further step is allowed: whoever still runs halts.
      epsilon: a position halts once its probabilities sum to more than 1 - epsilon.

    The weights of a position are its probabilities, and the remainder at its last step, so that
    they sum to 1. Those of positions that do not run are 0.
    """
    probability = jnp.where(halting.running, probability.astype(jnp.float32), 0.0)
    enough = halting.total + probability > 1.0 - epsilon
    halts = halting.running & (enough | is_last)
    goes_on = halting.running & ~halts
    remainder = jnp.where(halts, 1.0 - halting.total, 0.0)
    before_halting = jnp.where(goes_on, probability, 0.0)
    after = Halting(
        running=goes_on,
        total=halting.total + before_halting,
        remainder=halting.remainder + remainder,
        steps=halting.steps + halting.running,
    )
    return after, before_halting + remainder


def ponder_cost(halting: Halting, mask: jax.Array) -> jax.Array:
    """Steps and remainder, averaged over the positions of each example, then over the batch.

    It falls with every probability before the last one: the gradient is that of the remainder.
    """
    each = jnp.where(mask, halting.steps + halting.remainder, 0.0)
    return (each.sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1)).mean()
