"""Searches of a graph without weights, breadth first and depth first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import jax

from evojax_nar.tasks.clrs.breadth_first import BreadthFirstSearch
from evojax_nar.tasks.clrs.depth_first import DepthFirstSearch
from evojax_nar.tasks.clrs.machine import Machine
from evojax_nar.tasks.clrs.probes import Specification
from evojax_nar.tasks.salsa.base import SalsaTask, uniform_source
from evojax_nar.types import Key


@final
@dataclass(frozen=True)
class SparseBreadthFirstSearch(SalsaTask):
    """Find the parent of each node in a breadth-first search of a sparse graph.

    Inputs, output and hints are those of clrs/bfs: of possible parents the first one counts.
    """

    name: ClassVar[str] = "salsa/bfs"
    specification: ClassVar[Specification] = BreadthFirstSearch.specification
    machine: ClassVar[Machine] = BreadthFirstSearch.machine

    def draw_other(self, key: Key, edges: jax.Array, exists: jax.Array) -> dict[str, jax.Array]:
        """The edges, and a uniform source."""
        return {"A": edges, "s": uniform_source(key, exists)}


@final
@dataclass(frozen=True)
class SparseDepthFirstSearch(SalsaTask):
    """Find the parent of each node in a depth-first search of a sparse graph, from the first node.

    Inputs, output and hints are those of clrs/dfs: the first neighbour is visited first.
    """

    name: ClassVar[str] = "salsa/dfs"
    specification: ClassVar[Specification] = DepthFirstSearch.specification
    machine: ClassVar[Machine] = DepthFirstSearch.machine
