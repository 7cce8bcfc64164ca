"""Short lists in ascending order, by comparing all pairs.

That is plain arithmetic, which is quicker than a sort: many times, for lists as short as these.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

SHORT = 64
"""Beyond this length a sort is quicker."""


def ranks(values: jax.Array, exists: jax.Array) -> jax.Array:
    """The place of each of `values` (V,) in ascending order, by index where equal: (V,) int32.

    V for those that do not exist.
    """
    index = jnp.arange(len(values), dtype=jnp.int32)
    before = (values[:, None] < values) | ((values[:, None] == values) & (index[:, None] < index))
    rank = (before & exists[:, None]).sum(axis=0, dtype=jnp.int32)
    return jnp.where(exists, rank, len(values))


def by_rank(rank: jax.Array) -> jax.Array:
    """The index at each place of the order that `ranks` gives, (V,) int32; 0 past the last."""
    index = jnp.arange(len(rank), dtype=jnp.int32)
    here = rank[:, None] == index
    return jnp.where(here, index[:, None], 0).sum(axis=0, dtype=jnp.int32)


def ascending(values: jax.Array, exists: jax.Array) -> jax.Array:
    """Those of `values` (V,) that exist, sorted; then zeros."""
    if len(values) > SHORT:
        ordered = jnp.sort(jnp.where(exists, values, jnp.inf))
    else:
        ordered = values[by_rank(ranks(values, exists))]
    index = jnp.arange(len(values), dtype=jnp.int32)
    return jnp.where(index < exists.sum(dtype=jnp.int32), ordered, 0)
