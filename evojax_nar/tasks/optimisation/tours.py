"""Tours, each as the successor of every node: (V,) int32, 0 at nodes that do not exist."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.machine import read, write


def length(successor: jax.Array, distance: jax.Array, exists: jax.Array) -> jax.Array:
    """The length of a tour, from distances (V, V)."""
    steps = jnp.take_along_axis(distance, successor[:, None], axis=1)[:, 0]
    return jnp.where(exists, steps, 0.0).sum()


def from_order(order: jax.Array, size: jax.Array) -> jax.Array:
    """The tour that visits the first `size` nodes of (V,) in turn."""
    place = jnp.arange(order.shape[0], dtype=jnp.int32)
    after = order[jnp.where(place + 1 < size, place + 1, 0)]
    places = jnp.argsort(order)
    return jnp.where(places < size, after[places], 0).astype(jnp.int32)


def counterclockwise(
    successor: jax.Array, x: jax.Array, y: jax.Array, exists: jax.Array
) -> jax.Array:
    """The tour, reversed if it runs clockwise, by the sign of the area that it encloses.

    Neither shortest tours nor those that 2-opt ends with cross themselves, so they have a sense.
    """
    index = jnp.arange(successor.shape[0], dtype=jnp.int32)
    doubled = jnp.where(exists, x * y[successor] - x[successor] * y, 0.0).sum()
    pointed = (successor == index[:, None]) & exists
    before = jnp.where(pointed, index, 0).sum(axis=1, dtype=jnp.int32)
    return jnp.where(doubled < 0, before, successor)


def greedy(logits: jax.Array, exists: jax.Array) -> jax.Array:
    """The tour that logits (V, V) of successors stand for.

    From the first node on, the next one is the most likely successor among the nodes that have not
    been visited, so the tour closes only when there are none. A NaN is less likely than any number.
    """
    nodes = logits.shape[0]
    size = exists.sum()
    largest = jnp.finfo(logits.dtype).max
    logits = jnp.clip(jnp.where(jnp.isnan(logits), -jnp.inf, logits), -largest, largest)

    def move(carry: tuple, step: jax.Array) -> tuple:
        at, free, successor = carry
        free = free & (jnp.arange(nodes) != at)
        best = jnp.where(free, read(logits, at), -jnp.inf).argmax().astype(jnp.int32)
        then = jnp.where(step + 1 < size, best, 0)
        return (then, free, write(successor, jnp.where(step < size, at, -1), then)), None

    carry = (jnp.int32(0), exists, jnp.zeros(nodes, jnp.int32))
    return jax.lax.scan(move, carry, jnp.arange(nodes))[0][2]


def is_tour(successor: jax.Array, exists: jax.Array) -> jax.Array:
    """Whether successors form one cycle of all nodes that exist, bool; -1 stands for none."""
    size = exists.sum()

    def move(carry: tuple, step: jax.Array) -> tuple:
        at, seen = carry
        going = step < size
        seen = seen | (going & (jnp.arange(seen.shape[0]) == at))
        return (jnp.where(going, read(successor, at), at), seen), None

    carry = (jnp.int32(0), jnp.zeros_like(exists))
    (end, seen), _ = jax.lax.scan(move, carry, jnp.arange(exists.shape[0]))
    return (end == 0) & (seen | ~exists).all() & ((successor >= 0) | ~exists).all()
