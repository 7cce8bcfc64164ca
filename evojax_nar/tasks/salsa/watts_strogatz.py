"""Watts-Strogatz graphs: rings with shortcuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import finite, reject
from evojax_nar.tasks.salsa.families import Family, until_connected
from evojax_nar.types import Key


@final
@dataclass(frozen=True)
class WattsStrogatz(Family):
    """A ring in which each node has its k nearest neighbours, with some edges led elsewhere.

    Edges are taken in turn, those to the next node first: each is replaced with the graph's
    probability by one from the same node to a uniform one that it has no edge to. That is repeated
    until the graph is connected. A graph has one of `neighbours` as k, or the largest even number
    below n if that is smaller, and a uniform probability; two nodes have their one edge. Sources:
    Watts and Strogatz 1998; numbers of Minder et al. 2023, SALSA-CLRS, arXiv:2309.12253.

    Args:
      neighbours: what k may be, even numbers.
      fewest: the smallest probability.
      most: the largest one.
    """

    name: ClassVar[str] = "watts_strogatz"
    neighbours: Any = (4, 6, 8)
    fewest: float = 0.05
    most: float = 0.2

    def __post_init__(self) -> None:
        if not 0.0 <= finite("fewest", self.fewest) <= finite("most", self.most) <= 1.0:
            raise reject(
                "fewest", self.fewest, f"and most={self.most} are no range in 0 to 1", "give one"
            )
        numbers = self.neighbours if isinstance(self.neighbours, (tuple, list)) else ()
        if not numbers or not all(isinstance(k, int) and k > 0 and k % 2 == 0 for k in numbers):
            raise reject(
                "neighbours",
                self.neighbours,
                "is not a list of even numbers from 2",
                "give some such as (4, 6, 8)",
            )
        object.__setattr__(self, "neighbours", tuple(numbers))

    def draw(self, key: Key, size: jax.Array, nodes: int) -> jax.Array:
        """See `Family`."""
        near_key, share_key, graph_key = jax.random.split(key, 3)
        near = jax.random.choice(near_key, jnp.asarray(self.neighbours, jnp.int32))
        near = jnp.maximum(jnp.minimum(near // 2, (size - 1) // 2), 1)  # on each side
        probability = jax.random.uniform(share_key, minval=self.fewest, maxval=self.most)

        def rewired(own: Key) -> jax.Array:
            return self._rewire(own, size, nodes, near, probability)

        return until_connected(graph_key, size, nodes, rewired)

    def _rewire(
        self, key: Key, size: jax.Array, nodes: int, near: jax.Array, probability: jax.Array
    ) -> jax.Array:
        index = jnp.arange(nodes)
        ahead = (index - index[:, None]) % size
        ring = (ahead >= 1) & (ahead <= near)
        rounds = max(self.neighbours) // 2
        drawn = jax.random.uniform(key, (rounds * nodes, 2))

        def turn(edges: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            place, (chance, where) = step
            apart, at = place // nodes + 1, place % nodes
            old = (at + apart) % size
            free = ~edges[at] & (index != at) & (index < size)
            count = free.sum(dtype=jnp.int32)
            chosen = jnp.minimum((where * count).astype(jnp.int32), count - 1)
            new = (jnp.cumsum(free) == chosen + 1).argmax()
            moved = (chance < probability) & (at < size) & (apart <= near) & (count > 0)
            removed, added = jnp.where(moved, old, nodes), jnp.where(moved, new, nodes)
            for one, value in ((removed, False), (added, True)):
                edges = edges.at[at, one].set(value, mode="drop")
                edges = edges.at[one, at].set(value, mode="drop")
            return edges, None

        steps = (jnp.arange(rounds * nodes), drawn)
        return jax.lax.scan(turn, ring | ring.T, steps)[0]
