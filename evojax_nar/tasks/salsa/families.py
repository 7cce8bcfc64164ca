"""Families of connected graphs: what each draws, and how it is made connected."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from evojax_nar.settings import Configurable
from evojax_nar.types import Key

TRIES = 256
"""Graphs drawn at most before one is made connected by edges of its own."""


@dataclass(frozen=True)
class Family(Configurable, abc.ABC):
    """A distribution of connected graphs without weights, directions or loops."""

    @abc.abstractmethod
    def draw(self, key: Key, size: jax.Array, nodes: int) -> jax.Array:
        """Where there are edges, (V, V) bool, symmetric; none past the size.

        Args:
          key: consumed.
          size: n, from 1, traced.
          nodes: V to pad to.
        """


def until_connected(
    key: Key, size: jax.Array, nodes: int, draw: Callable[[Key], jax.Array]
) -> jax.Array:
    """The first of `TRIES` draws (V, V) that is connected.

    Where none is, the last one, with an edge from each part that the first node does not reach to a
    random node that it does.
    """
    loop_key, link_key = jax.random.split(key)
    exists = jnp.arange(nodes) < size

    def attempt(count: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        edges = draw(jax.random.fold_in(loop_key, count))
        edges &= exists[:, None] & exists
        return edges, reach(edges), count + 1

    def lacking(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, reached, count = carry
        return (exists & ~reached).any() & (count < TRIES)

    edges, reached, _ = jax.lax.while_loop(
        lacking, lambda carry: attempt(carry[2]), attempt(jnp.int32(0))
    )
    return _link(link_key, edges, reached, exists)


def reach(edges: jax.Array) -> jax.Array:
    """The nodes (V,) bool that the first one reaches: a round a distance, at most V."""

    def look(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        reached, _ = carry
        near = (edges & reached[:, None]).any(axis=0)
        return reached | near, (near & ~reached).any()

    start = (jnp.arange(edges.shape[0]) == 0, jnp.asarray(True))
    return jax.lax.while_loop(lambda carry: carry[1], look, start)[0]


def _link(key: Key, edges: jax.Array, reached: jax.Array, exists: jax.Array) -> jax.Array:
    """One edge more a round, so at most V - 1 of them; none where all nodes are reached."""
    index = jnp.arange(len(exists))
    drawn = jax.random.uniform(key, exists.shape)

    def join(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        edges, reached = carry
        apart = (exists & ~reached).argmax()
        # The node of the largest of independent numbers is a random one.
        to = jnp.where(reached, drawn, -1.0).argmax()
        added = (index[:, None] == apart) & (index == to)
        edges = edges | added | added.T
        return edges, reach(edges)

    return jax.lax.while_loop(
        lambda carry: (exists & ~carry[1]).any(), join, (edges, reached & exists)
    )[0]
