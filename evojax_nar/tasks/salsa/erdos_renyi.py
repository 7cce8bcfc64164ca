"""Erdos-Renyi graphs, sparse and connected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import finite, positive_int, reject
from evojax_nar.tasks.salsa.families import Family, until_connected
from evojax_nar.types import Key


@final
@dataclass(frozen=True)
class ErdosRenyi(Family):
    """Each pair of n nodes is an edge with the same probability, and the graph is connected.

    The probability is uniform between `fewest` and `most` times ln(m) / m, where m is n, or `least`
    if that is larger: at ln(n) / n a large graph is connected with probability 1 / e. Graphs are
    drawn with this probability until one is connected; of 256 at `least` = 16 that fails for fewer
    than 2 in a million whatever the size, see `until_connected`. The benchmark trains on 4 to 16
    nodes with the range of 16, and tests on larger ones with their own. Source: Minder et al. 2023,
    SALSA-CLRS, arXiv:2309.12253.

    Args:
      fewest: the smallest probability, in units of ln(m) / m.
      most: the largest one.
      least: the smallest m.
    """

    name: ClassVar[str] = "erdos_renyi"
    fewest: float = 1.0
    most: float = 3.0
    least: int = 16

    def __post_init__(self) -> None:
        if finite("fewest", self.fewest, above=0.0) > finite("most", self.most):
            raise reject("fewest", self.fewest, f"is above most={self.most}", "give a smaller one")
        positive_int("least", self.least, least=2)

    def draw(self, key: Key, size: jax.Array, nodes: int) -> jax.Array:
        """See `Family`."""
        share_key, graph_key = jax.random.split(key)
        share = jax.random.uniform(share_key, minval=self.fewest, maxval=self.most)
        wide = jnp.maximum(size, self.least).astype(jnp.float32)
        probability = share * jnp.log(wide) / wide

        def pairs(own: Key) -> jax.Array:
            upper = jnp.triu(jax.random.bernoulli(own, probability, (nodes, nodes)), k=1)
            return upper | upper.T

        return until_connected(graph_key, size, nodes, pairs)
