"""Graphs as inputs of the algorithms on graphs, and what each algorithm asks of a graph."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from evojax_nar.errors import InputError, unknown
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.graph_files import NamedGraph
from evojax_nar.tasks.salsa.base import SalsaTask
from evojax_nar.tasks.sizes import LARGEST

GraphAlgorithm: TypeAlias = ClrsTask | SalsaTask
"""A task whose `name` is in `NEEDS`."""
_TINY = float(np.finfo(np.float32).tiny)


class Needs(NamedTuple):
    """Of which kind the graphs of an algorithm are, as its sampler draws them."""

    directed: bool = False
    acyclic: bool = False
    """Directed, and no path leads back to where it began."""
    weighted: bool = False
    """Edges have weights above 0; else A holds 0 and 1."""
    connected: bool = False
    """The answer is one tree over all nodes, which a graph in pieces does not have."""


NEEDS: dict[str, Needs] = {
    "clrs/articulation_points": Needs(),
    "clrs/bellman_ford": Needs(weighted=True),
    "clrs/bfs": Needs(),
    "clrs/bridges": Needs(),
    "clrs/dag_shortest_paths": Needs(directed=True, acyclic=True, weighted=True),
    "clrs/dfs": Needs(directed=True),
    "clrs/dijkstra": Needs(weighted=True),
    "clrs/floyd_warshall": Needs(weighted=True),
    "clrs/mst_kruskal": Needs(weighted=True, connected=True),
    "clrs/mst_prim": Needs(weighted=True, connected=True),
    "clrs/strongly_connected_components": Needs(directed=True),
    "clrs/topological_sort": Needs(directed=True, acyclic=True),
    "salsa/bfs": Needs(),
    "salsa/dfs": Needs(),
    "salsa/dijkstra": Needs(weighted=True),
    "salsa/mst_prim": Needs(weighted=True, connected=True),
}
"""The algorithms on graphs, of CLRS-30 and on sparse graphs."""


def needs(task: Any) -> Needs | None:
    """What the graphs of `task` are like; None where it has no graphs as inputs."""
    return NEEDS.get(getattr(task, "name", ""))


def has_source(task: GraphAlgorithm) -> bool:
    """Whether the algorithm starts from a node that is given to it."""
    return any(field.name == "s" for field in task.specification.inputs)


def probes(
    task: GraphAlgorithm, graph: NamedGraph, source: str | None = None
) -> dict[str, np.ndarray]:
    """The input probes of `task` on a graph, for one example, padded to nothing, float32.

    Places are i / n, as in the inputs by which models are judged. Weights are divided by the
    smallest power of two that none exceeds, so they are at most 1, as those of the sampler are, and
    sums of them tie where sums of the given ones do. A graph without weights has 1 everywhere, and
    where an algorithm has no use for weights they are left out.

    Args:
      task: an algorithm on graphs.
      graph: its nodes and edges. Where its edges may or may not have a direction, they have one if
        the algorithm needs it.
      source: the name of the node to start from; None for the first. Of no meaning to algorithms
        that start nowhere.

    Raises:
      InputError: for a task without graphs, or a graph that `check` refuses, or an unknown source.
    """
    need = check(task, graph)
    count = len(graph.names)
    start, end = graph.edges.T
    matrix = np.zeros((count, count), np.float32)
    matrix[start, end] = weights = _scaled(graph, need)
    if not need.directed:
        matrix[end, start] = weights
    given = {
        "pos": (np.arange(count) / count).astype(np.float32),
        "A": matrix,
        "adj": ((matrix != 0) | np.eye(count, dtype=bool)).astype(np.float32),
    }
    if has_source(task):
        given["s"] = np.zeros(count, np.float32)
        given["s"][find_source(graph, source)] = 1.0
    return given


def find_source(graph: NamedGraph, source: str | None) -> int:
    """The place of the node called `source`, 0 for None.

    Raises:
      InputError: for a name that no node has.
    """
    if source is None:
        return 0
    if source not in graph.names:
        raise unknown("source", source, graph.names)
    return graph.names.index(source)


def check(task: Any, graph: NamedGraph) -> Needs:
    """What `task` needs, once it is known that the graph has it. No array of V x V is made.

    Raises:
      InputError: for a task without graphs; more nodes than a task can have; edges with a direction
        where the algorithm has none, or the reverse; an edge from a node to itself or a cycle where
        there may be none; weights that are not above 0, or so different that the smallest would
        vanish beside the largest; a graph in pieces for an algorithm that gives one tree.
    """
    need = needs(task)
    if need is None:
        raise unknown("task", getattr(task, "name", task), NEEDS)
    if len(graph.names) > LARGEST:
        raise InputError(
            f"{graph.origin} has {len(graph.names)} nodes, and a task at most {LARGEST}; "
            "give a smaller graph"
        )
    _check_direction(task.name, graph, need)
    if need.acyclic:
        _check_acyclic(task.name, graph)
    if need.weighted and graph.weights is not None:
        _check_weights(task.name, graph)
    if need.connected and (pieces := _pieces(graph)) > 1:
        raise InputError(
            f"{graph.origin} falls into {pieces} pieces, and {task.name} finds one tree over all "
            "nodes; give one of the pieces"
        )
    return need


def _check_direction(name: str, graph: NamedGraph, need: Needs) -> None:
    if graph.directed is not None and graph.directed != need.directed:
        kinds = ("undirected", "directed")
        raise InputError(
            f"{graph.origin} is {kinds[graph.directed]}, and {name} needs "
            f"{kinds[need.directed]} graphs; give such a graph, or choose another task"
        )
    if need.directed:
        return
    seen = set()
    for start, end in graph.edges.tolist():
        if (end, start) in seen and start != end:
            raise InputError(
                f"{graph.origin} has an edge both ways between {graph.names[start]!r} and "
                f"{graph.names[end]!r}, and {name} needs undirected graphs; give each edge once"
            )
        seen.add((start, end))


def _check_acyclic(name: str, graph: NamedGraph) -> None:
    """By removing nodes to which no edge leads, until there are none (Kahn 1962)."""
    leads: list[list[int]] = [[] for _ in graph.names]
    incoming = [0] * len(graph.names)
    for start, end in graph.edges.tolist():
        if start == end:
            raise InputError(
                f"{graph.origin} has an edge from {graph.names[start]!r} to itself, and {name} "
                "needs graphs without cycles; leave it out"
            )
        leads[start].append(end)
        incoming[end] += 1
    free = [node for node, count in enumerate(incoming) if count == 0]
    while free:
        for end in leads[free.pop()]:
            incoming[end] -= 1
            if incoming[end] == 0:
                free.append(end)
    on_or_behind = [graph.names[node] for node, count in enumerate(incoming) if count]
    if on_or_behind:
        raise InputError(
            f"{graph.origin} has a cycle, which leads to {on_or_behind[0]!r}, and {name} needs "
            "graphs without cycles; remove an edge of it"
        )


def _check_weights(name: str, graph: NamedGraph) -> None:
    assert graph.weights is not None
    place = int(graph.weights.argmin())
    least, largest = float(graph.weights[place]), float(graph.weights.max())
    start, end = (graph.names[node] for node in graph.edges[place].tolist())
    if least <= 0:
        raise InputError(
            f"{graph.origin} has the weight {least:g} at the edge {start!r} {end!r}, and {name} "
            "needs weights above 0; change it or leave the edge out"
        )
    if np.ldexp(least, -_exponent(largest)) < _TINY:
        raise InputError(
            f"{graph.origin} has the weight {least:g} at the edge {start!r} {end!r}, which "
            f"vanishes beside {largest:g} in 32 bits; give weights that are less different"
        )


def _scaled(graph: NamedGraph, need: Needs) -> np.ndarray:
    """What stands in A at each edge, (E,) float32."""
    if not need.weighted or graph.weights is None:
        return np.ones(len(graph.edges), np.float32)
    return np.ldexp(graph.weights, -_exponent(float(graph.weights.max()))).astype(np.float32)


def _exponent(largest: float) -> int:
    """The smallest power of two that `largest` does not exceed."""
    fraction, exponent = np.frexp(largest)
    return int(exponent) - int(fraction == 0.5)


def _pieces(graph: NamedGraph) -> int:
    """How many connected components there are, whatever the direction of edges."""
    above = list(range(len(graph.names)))

    def root(node: int) -> int:
        while above[node] != node:
            above[node] = node = above[above[node]]
        return node

    count = len(above)
    for start, end in graph.edges.tolist():
        first, second = root(start), root(end)
        if first != second:
            above[first] = second
            count -= 1
    return count
