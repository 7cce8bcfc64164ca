"""Fitness shaping: losses of a population to weights, where a larger weight is a worse member.

Every rule ranks a member whose loss is NaN or infinite last, and gives finite weights that sum to
zero where at least one loss is finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

Shaping: TypeAlias = Callable[[jax.Array], jax.Array]


def centered_rank(losses: jax.Array) -> jax.Array:
    """Ranks spread evenly over [-0.5, 0.5]; ties share their mean rank (Salimans et al. 2017).

    Args:
      losses: (N,) float32, N at least 2.
    """
    ranks = jax.scipy.stats.rankdata(_worst_last(losses), method="average") - 1
    return (ranks / (losses.shape[0] - 1) - 0.5).astype(losses.dtype)


def z_score(losses: jax.Array) -> jax.Array:
    """Losses less their mean, over their standard deviation; non-finite ones count as the worst.

    Args:
      losses: (N,) float32.
    """
    finite = jnp.isfinite(losses)
    worst = jnp.max(jnp.where(finite, losses, -jnp.inf))
    filled = jnp.where(finite, losses, jnp.where(jnp.isfinite(worst), worst, 0))
    # Shifted and scaled to [0, 1], which leaves the result as it is and losses that differ little
    # their differences. The squares of what is clipped would overflow.
    filled = jnp.clip(filled, -1e15, 1e15)
    filled = filled - filled.min()
    filled = filled / jnp.maximum(filled.max(), jnp.finfo(losses.dtype).tiny)
    centred = filled - filled.mean()
    return centred / (jnp.sqrt(jnp.mean(centred**2)) + 1e-8)


def sign(losses: jax.Array) -> jax.Array:
    """Within each antithetic pair +0.5 for the worse and -0.5 for the better, 0 for a tie.

    Needs no statistics of the whole population (Sarkar et al. 2025, arXiv:2511.16652, section G).

    Args:
      losses: (N,) float32, members 2i and 2i + 1 being a pair.
    """
    pairs = _worst_last(losses).reshape(-1, 2)
    better = jnp.sign(jnp.where(pairs[:, 0] == pairs[:, 1], 0, pairs[:, 0] - pairs[:, 1]))
    return 0.5 * jnp.stack([better, -better], axis=1).reshape(-1).astype(losses.dtype)


def _worst_last(losses: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(losses), losses, jnp.inf)


RULES: dict[str, Shaping] = {"centered_rank": centered_rank, "z_score": z_score, "sign": sign}
