"""Cells side by side: where the neighbours of each are, in examples of different lengths."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def neighbours(mask: jax.Array, radius: int, *, ring: bool) -> jax.Array:
    """Where the 2 * radius + 1 cells around each cell are, (B, T, 2 * radius + 1) int32.

    From the furthest to the left on. T stands for no cell: what is beyond the ends of a row. A ring
    closes where the example ends, not where the padding does; where it is small, a neighbour occurs
    more than once.

    Args:
      mask: (B, T) bool, the cells that exist, which come first.
      radius: how far a cell sees.
      ring: whether the last cell is the left neighbour of the first.
    """
    time = mask.shape[1]
    length = mask.sum(axis=1, dtype=jnp.int32)[:, None, None]
    around = jnp.arange(time)[:, None] + jnp.arange(-radius, radius + 1)
    if ring:
        return jnp.where(mask[..., None], around % jnp.maximum(length, 1), time)
    return jnp.where(mask[..., None] & (around >= 0) & (around < length), around, time)


def look(cells: jax.Array, places: jax.Array) -> jax.Array:
    """States (B, T, K, ...) at `places` (B, T, K) of cells (B, T, ...); 0 where there is none."""
    beyond = jnp.zeros_like(cells[:, :1])
    padded = jnp.concatenate([cells, beyond], axis=1)
    return jax.vmap(lambda row, at: row[at])(padded, places)
