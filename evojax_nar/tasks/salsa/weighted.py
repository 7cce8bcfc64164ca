"""Algorithms on graphs with weights: shortest paths and spanning trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.graph_inputs import LEAST_WEIGHT
from evojax_nar.tasks.clrs.machine import Machine
from evojax_nar.tasks.clrs.probes import Specification
from evojax_nar.tasks.clrs.shortest_paths import Dijkstra
from evojax_nar.tasks.clrs.spanning_trees import Prim
from evojax_nar.tasks.salsa.base import SalsaTask, uniform_source
from evojax_nar.types import Key


@dataclass(frozen=True)
class _Weighted(SalsaTask):
    """Weights are roots of the products of two uniform numbers, from 0.03 to 1, as in CLRS-30."""

    def draw_other(self, key: Key, edges: jax.Array, exists: jax.Array) -> dict[str, jax.Array]:
        """The weights of the edges, and a uniform source."""
        weight_key, source_key = jax.random.split(key)
        drawn = jax.random.uniform(weight_key, edges.shape)
        weights = jnp.where(edges, jnp.sqrt(drawn * drawn.T + LEAST_WEIGHT), 0.0)
        return {"A": weights, "s": uniform_source(source_key, exists)}


@final
@dataclass(frozen=True)
class SparseDijkstra(_Weighted):
    """Find the parent of each node on a shortest path from a source in a sparse graph.

    Inputs, output and hints are those of clrs/dijkstra.
    """

    name: ClassVar[str] = "salsa/dijkstra"
    specification: ClassVar[Specification] = Dijkstra.specification
    machine: ClassVar[Machine] = Dijkstra.machine


@final
@dataclass(frozen=True)
class SparsePrim(_Weighted):
    """Find the parent of each node in a minimum spanning tree that grows from a source.

    Inputs, output and hints are those of clrs/mst_prim.
    """

    name: ClassVar[str] = "salsa/mst_prim"
    specification: ClassVar[Specification] = Prim.specification
    machine: ClassVar[Machine] = Prim.machine
