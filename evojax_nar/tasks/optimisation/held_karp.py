"""Shortest tours by dynamic programming over sets of nodes.

Source: Held and Karp 1962, "A dynamic programming approach to sequencing problems". For V nodes it
keeps 2**(V - 1) * (V - 1) numbers, and takes V - 1 times as many steps, those of all sets of a size
at once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs.machine import read, write

LARGEST = 12
"""Of V: 22528 numbers, 88 KiB."""


def shortest_tour(distance: jax.Array, size: jax.Array) -> jax.Array:
    """A shortest tour of the first `size` nodes, as successors (V,) int32, for V to `LARGEST`.

    Args:
      distance: (V, V); what is past the size is ignored.
      size: from 1, traced.
    """
    nodes = distance.shape[0]
    if nodes == 1:
        return jnp.zeros(1, jnp.int32)
    # Sets are of the nodes but the first, which all paths come from; node j + 1 is bit j.
    bits = 2 ** np.arange(nodes - 1)
    inside = (np.arange(2 ** (nodes - 1))[:, None] & bits) > 0
    members = inside.sum(axis=1)
    apart = distance[1:, 1:]
    # (sets, V - 1): the shortest path through a set to its last node; infinite for others.
    shortest = jnp.where(np.eye(nodes - 1, dtype=bool), distance[0, 1:], jnp.inf)
    layers = [jnp.full((1, nodes - 1), jnp.inf), shortest]
    for count in range(2, nodes):
        sets, smaller = np.flatnonzero(members == count), np.flatnonzero(members == count - 1)
        # A set without a node of it is in the layer before; where it has no such node, anywhere.
        without = np.searchsorted(smaller, sets[:, None] & ~bits) % len(smaller)
        shortest = (shortest[without] + apart.T).min(axis=-1)
        shortest = jnp.where(inside[sets], shortest, jnp.inf)
        layers.append(shortest)
    shortest = jnp.concatenate(layers)[np.argsort(np.argsort(members, kind="stable"))]

    def back(carry: tuple, _: None) -> tuple:
        """From the end: the last node of a set, then the set without it."""
        left, after, successor = carry
        then = jnp.where(left > 0, (read(shortest, left) + read(distance.T, after)[1:]).argmin(), 0)
        at = jnp.where(left > 0, then + 1, 0)
        successor = write(successor, jnp.where(after == at, -1, at), after)
        return (left & ~jnp.where(left > 0, 1 << then, 0), at, successor), None

    everything = (1 << (size - 1)) - 1
    carry = (everything, jnp.int32(0), jnp.zeros(nodes, jnp.int32))
    return jax.lax.scan(back, carry, length=nodes)[0][2]
