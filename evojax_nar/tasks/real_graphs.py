"""Small graphs from life that networkx brings with it, as tests for the algorithms on graphs.

| name | nodes | edges | weights |
|---|---|---|---|
| karate_club | 34 members of a club | 78 friendships | contexts in which two met |
| les_miserables | 77 characters of the novel | 254 that meet | chapters in which two meet |
| florentine_families | 15 families | 20 marriages | none |
| davis_southern_women | 18 women and 14 events | 89 visits | none |

Sources: Zachary 1977; Knuth 1993; Breiger and Pattison 1986; Davis, Gardner and Gardner 1941.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import InputError, unknown
from evojax_nar.tasks.graph_files import Edge, NamedGraph, named_graph
from evojax_nar.tasks.graph_problems import (
    GraphAlgorithm,
    find_source,
    has_source,
    needs,
    probes,
)
from evojax_nar.types import Batch

_WEIGHTS = {
    "karate_club": "weight",
    "les_miserables": "weight",
    "florentine_families": None,
    "davis_southern_women": None,
}
NAMES = tuple(_WEIGHTS)
"""What the graphs are called."""


def load(name: str) -> NamedGraph:
    """The graph called `name`, undirected, its nodes in the order of networkx.

    Raises:
      InputError: for an unknown name, or where networkx is not installed.
    """
    if name not in _WEIGHTS:
        raise unknown("graph", name, NAMES)
    try:
        import networkx
    except ImportError:
        raise InputError(
            f"graph={name!r} comes with networkx, which is not installed; "
            'install "evojax-nar[graphs]"'
        ) from None
    given: Any = getattr(networkx, f"{name}_graph")()
    weight = _WEIGHTS[name]
    edges = [
        Edge(str(start), str(end), None if weight is None else float(data[weight]))
        for start, end, data in given.edges(data=True)
    ]
    return named_graph(f"graph={name!r}", edges, names=map(str, given.nodes), directed=False)


def batch(task: GraphAlgorithm, graph: NamedGraph, sources: Iterable[str] | None = None) -> Batch:
    """The batch by which `task` is judged on a graph of any kind, for `task.evaluate`.

    Weights are used where the graph and the algorithm have them. An algorithm on directed graphs is
    given each edge of an undirected one in both directions; one on graphs without cycles only that
    from the node that stands first to the other.

    Args:
      task: an algorithm on graphs.
      graph: see `load` and `graph_files.read_graph`.
      sources: nodes to start from, an example each; None for every node. For an algorithm that
        starts nowhere there is one example, and this must be None.

    Raises:
      InputError: for a task without graphs, no source or an unknown one, or a graph that the
        algorithm cannot do with: see `graph_problems.check`.
    """
    fitting = fit(task, graph)
    if not has_source(task):
        if sources is not None:
            raise InputError(f"sources is given, and {task.name} starts nowhere; leave it out")
        examples = [probes(task, fitting)]
    else:
        names = graph.names if sources is None else tuple(sources)
        if not names:
            raise InputError("sources is empty; give at least one node, or None for every node")
        starts = np.asarray([find_source(graph, name) for name in names])
        given = probes(task, fitting)
        examples = [
            given | {"s": row} for row in np.eye(len(graph.names), dtype=np.float32)[starts]
        ]
    stacked = {name: np.stack([own[name] for own in examples]) for name in examples[0]}
    sizes = np.full(len(examples), len(graph.names), np.int32)
    return build(task, stacked, jnp.asarray(sizes))


@partial(jax.jit, static_argnames="task")
def build(task: GraphAlgorithm, inputs: dict[str, jax.Array], sizes: jax.Array) -> Batch:
    """The batch of these probes (B, ...) and sizes (B,) as a model is judged by: without hints."""
    return task.test.build(inputs, sizes)


def fit(task: GraphAlgorithm, graph: NamedGraph) -> NamedGraph:
    """`graph` with edges that have such directions as `task` needs: see `batch`."""
    need = needs(task)
    if need is None or not need.directed or graph.directed is not False:
        return graph
    if need.acyclic:
        ordered = np.sort(graph.edges, axis=1)
        # An edge from a node to itself would be a cycle.
        apart = ordered[:, 0] != ordered[:, 1]
        weights = None if graph.weights is None else graph.weights[apart]
        return replace(graph, edges=ordered[apart], weights=weights, directed=True)
    loops = graph.edges[:, 0] == graph.edges[:, 1]
    back = graph.edges[~loops, ::-1]
    weights = graph.weights
    if weights is not None:
        weights = np.concatenate([weights, weights[~loops]])
    return replace(graph, edges=np.concatenate([graph.edges, back]), weights=weights, directed=True)
