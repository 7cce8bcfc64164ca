"""CLRS-30: thirty classical algorithms with every step that they show, one file a group."""

from collections.abc import Mapping
from typing import Any

import jax

from evojax_nar.errors import unknown
from evojax_nar.tasks.clrs import base, official
from evojax_nar.tasks.clrs.acyclic_paths import DagShortestPaths
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.bipartite import BipartiteMatching
from evojax_nar.tasks.clrs.breadth_first import BreadthFirstSearch
from evojax_nar.tasks.clrs.components import ArticulationPoints, Bridges
from evojax_nar.tasks.clrs.depth_first import DepthFirstSearch, TopologicalSort
from evojax_nar.tasks.clrs.greedy import ActivitySelector, TaskScheduling
from evojax_nar.tasks.clrs.halving import FindMaximumSubarray
from evojax_nar.tasks.clrs.heapsort import Heapsort
from evojax_nar.tasks.clrs.hull import GrahamScan, JarvisMarch
from evojax_nar.tasks.clrs.intervals import MatrixChainOrder, OptimalBst
from evojax_nar.tasks.clrs.partition import Quickselect, Quicksort
from evojax_nar.tasks.clrs.searching import BinarySearch, Minimum
from evojax_nar.tasks.clrs.segments import SegmentsIntersect
from evojax_nar.tasks.clrs.shortest_paths import BellmanFord, Dijkstra, FloydWarshall
from evojax_nar.tasks.clrs.sorting import BubbleSort, InsertionSort
from evojax_nar.tasks.clrs.spanning_trees import Kruskal, Prim
from evojax_nar.tasks.clrs.string_matching import KmpMatcher, NaiveStringMatcher
from evojax_nar.tasks.clrs.strong_components import StronglyConnectedComponents
from evojax_nar.tasks.clrs.subarray import FindMaximumSubarrayKadane
from evojax_nar.tasks.clrs.subsequence import LcsLength

__all__ = [
    "ALL",
    "ActivitySelector",
    "ArticulationPoints",
    "BellmanFord",
    "BinarySearch",
    "BipartiteMatching",
    "BreadthFirstSearch",
    "Bridges",
    "BubbleSort",
    "ClrsTask",
    "DagShortestPaths",
    "DepthFirstSearch",
    "Dijkstra",
    "FindMaximumSubarray",
    "FindMaximumSubarrayKadane",
    "FloydWarshall",
    "GrahamScan",
    "Heapsort",
    "InsertionSort",
    "JarvisMarch",
    "KmpMatcher",
    "Kruskal",
    "LcsLength",
    "MatrixChainOrder",
    "Minimum",
    "NaiveStringMatcher",
    "OptimalBst",
    "Prim",
    "Quickselect",
    "Quicksort",
    "SegmentsIntersect",
    "StronglyConnectedComponents",
    "TaskScheduling",
    "TopologicalSort",
    "names",
    "official",
    "run",
]

ALL: tuple[type[ClrsTask], ...] = (
    ActivitySelector,
    ArticulationPoints,
    BellmanFord,
    BreadthFirstSearch,
    BinarySearch,
    BipartiteMatching,
    Bridges,
    BubbleSort,
    DagShortestPaths,
    DepthFirstSearch,
    Dijkstra,
    FindMaximumSubarray,
    FindMaximumSubarrayKadane,
    FloydWarshall,
    GrahamScan,
    Heapsort,
    InsertionSort,
    JarvisMarch,
    KmpMatcher,
    LcsLength,
    MatrixChainOrder,
    Minimum,
    Kruskal,
    Prim,
    NaiveStringMatcher,
    OptimalBst,
    Quickselect,
    Quicksort,
    SegmentsIntersect,
    StronglyConnectedComponents,
    TaskScheduling,
    TopologicalSort,
)
"""Every algorithm, in the order of the alphabet."""

_KNOWN = {task.name.removeprefix("clrs/"): task for task in ALL}


def names() -> list[str]:
    """What the algorithms are called, without their prefix."""
    return list(_KNOWN)


def run(
    name: str, inputs: Mapping[str, Any], size: Any = None
) -> tuple[dict[str, jax.Array], dict[str, jax.Array], jax.Array]:
    """The algorithm itself, for one example, under jit and vmap.

    Args:
      name: of the algorithm, such as "bfs".
      inputs: its input probes, each padded to V nodes: see `probes`. Real numbers are computed
        with in the type of `pos`.
      size: how many of the nodes exist; None for all V.

    Returns:
      Outputs; hints (T, ...), with T the most frames that V nodes can take and zeros after the
      last; and the number of frames, int32.

    Raises:
      InputError: for an unknown name, or probes other than those of its specification.
    """
    if name not in _KNOWN:
        raise unknown("algorithm", name, _KNOWN)
    return base.run(_KNOWN[name], inputs, size)
