"""Tours that no exchange of two edges makes shorter, from the nearest neighbours on.

Source: Croes 1958, "A method for solving traveling-salesman problems".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evojax_nar.tasks.optimisation.tours import from_order

EXCHANGES = 4
"""At most so many times V exchanges are made; on uniform points some V / 5 are."""
LEAST_GAIN = 1e-6
"""In units of the distances: a smaller one may be an error of rounding."""


def nearest_neighbours(distance: jax.Array, size: jax.Array) -> jax.Array:
    """The nodes (V,) int32 in the order of a walk to the nearest one that is left, from the first.

    Those past the size come last.
    """
    nodes = distance.shape[0]
    exists = jnp.arange(nodes) < size
    apart = jnp.where(exists, distance, jnp.finfo(distance.dtype).max)

    def move(carry: tuple, _: None) -> tuple:
        at, free = carry
        then = jnp.where(free, apart[at], jnp.inf).argmin().astype(jnp.int32)
        return (then, free & (jnp.arange(nodes) != then)), then

    free = jnp.arange(nodes) > 0
    _, order = jax.lax.scan(move, (jnp.int32(0), free), length=nodes - 1)
    return jnp.concatenate([jnp.zeros(1, jnp.int32), order])


def improved_tour(distance: jax.Array, size: jax.Array) -> jax.Array:
    """A tour of the first `size` nodes, as successors (V,) int32.

    Of all exchanges of two edges the one that gains most is made, until none gains anything: the
    part of the tour between the edges is reversed.

    Args:
      distance: (V, V), symmetric; what is past the size is ignored.
      size: from 1, traced.
    """
    nodes = distance.shape[0]
    place = jnp.arange(nodes, dtype=jnp.int32)
    following = jnp.where(place + 1 < size, place + 1, 0)
    pairs = (place[:, None] < place) & (place < size)

    def gains(order: jax.Array) -> jax.Array:
        """(V, V): the edges that leave places i and j, less those between i and j, i+1 and j+1."""
        after = order[following]
        leaving = distance[order, after]
        both = distance[order[:, None], order] + distance[after[:, None], after]
        return jnp.where(pairs, leaving[:, None] + leaving - both, 0.0)

    def exchange(carry: tuple) -> tuple:
        order, gain, count = carry
        i, j = jnp.unravel_index(gain.argmax(), gain.shape)
        between = (place > i) & (place <= j)
        order = order[jnp.where(between, i + 1 + j - place, place)]
        return order, gains(order), count + 1

    def going(carry: tuple) -> jax.Array:
        _, gain, count = carry
        return (gain.max() > LEAST_GAIN) & (count < EXCHANGES * nodes)

    order = nearest_neighbours(distance, size)
    order, _, _ = jax.lax.while_loop(going, exchange, (order, gains(order), 0))
    return from_order(order, size)
