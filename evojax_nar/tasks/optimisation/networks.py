"""Random flow networks, drawn on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp

from evojax_nar.types import Key


@final
@dataclass(frozen=True)
class TwoHalves:
    """Directed networks of two dense halves with few edges between; source and sink are apart.

    In a random network without halves the smallest cut nearly always separates the source alone, or
    the sink alone, from everything else. Here it mostly is neither. Halves are random, of n // 2
    and n - n // 2 nodes; the first one has the source and the second one the sink. A path through
    all nodes, the first half before the second, always exists, so every node can be reached and the
    maximum flow is above 0. Capacities are k / levels with k uniform in 1 to `levels`. Sums of
    fewer than 2**24 such steps are exact in float32, so an edge is full or it is not.

    Args:
      levels: the number of capacities, a power of 2.
      inside: probability of each ordered pair in one half.
      fewest: the least number of edges expected in each direction between the halves, in terms of
        those expected from a node to its own half.
      most: the largest such number; each network draws its own, uniform between the two.
    """

    levels: int = 4
    inside: float = 0.75
    fewest: float = 0.3
    most: float = 1.0

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Probes `pos`, the capacities `A`, `adj`, the source `s` and the sink `t`.

        Args:
          key: consumed.
          size: n, from 2, traced.
          nodes: V to pad to.
        """
        order_key, share_key, edge_key, capacity_key = jax.random.split(key, 4)
        index = jnp.arange(nodes)
        exists = index < size
        drawn = jnp.where(exists, jax.random.uniform(order_key, (nodes,)), jnp.inf)
        place = jnp.argsort(jnp.argsort(drawn))
        first = place < size // 2
        share = jax.random.uniform(share_key, minval=self.fewest, maxval=self.most)
        between = 2.0 * share * self.inside / jnp.maximum(size, 1)
        probability = jnp.where(first[:, None] == first, self.inside, between)
        edges = jax.random.uniform(edge_key, (nodes, nodes)) < probability
        edges |= place[:, None] + 1 == place
        edges &= exists[:, None] & exists & ~jnp.eye(nodes, dtype=bool)
        steps = jax.random.randint(capacity_key, (nodes, nodes), 1, self.levels + 1)
        loops = jnp.eye(nodes, dtype=bool) & exists
        return {
            "pos": jnp.where(exists, index / jnp.maximum(size, 1), 0.0).astype(jnp.float32),
            "A": jnp.where(edges, steps / self.levels, 0.0).astype(jnp.float32),
            "adj": (edges | loops).astype(jnp.float32),
            "s": (place == 0).astype(jnp.float32),
            "t": (place == size - 1).astype(jnp.float32),
        }
