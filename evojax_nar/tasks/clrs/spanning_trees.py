"""Minimum spanning trees, by Kruskal and by Prim."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import frontier
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.graph_inputs import ADJACENCY, SOURCE, WEIGHTS, WeightedUndirected
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, at, one_hot, read
from evojax_nar.tasks.clrs.probes import POS, Specification, edge, graph, node
from evojax_nar.tasks.clrs.reading import first, identity
from evojax_nar.types import Key

_GRAPHS = WeightedUndirected()
_SPARSE_GRAPHS = WeightedUndirected(density=0.2, scale=0.5)

# Kruskal. A frame is an edge at hand, a step from one of its ends to the root of its tree, or the
# decision on the edge.

_DECIDED, _FROM_FIRST, _FROM_SECOND = 0, 1, 2


class _Forest(NamedTuple):
    left: jax.Array
    """The weight of each edge that has not been at hand, infinite for all other of `_pairs`."""
    chosen: jax.Array
    """(V, V): 1 at the edges of the tree. Real numbers, as they are shown: booleans are slower."""
    parent: jax.Array
    one: jax.Array
    two: jax.Array
    """The ends of the edge at hand, int32."""
    root_one: jax.Array
    root_two: jax.Array
    path_one: jax.Array
    path_two: jax.Array
    """(V,) bool: the nodes from each end to its root so far."""
    phase: jax.Array


def _pairs(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """The nodes of each pair, the smaller one first, and one pair more that is never an edge."""
    one, two = np.triu_indices(nodes, 1)
    return np.append(one, 0).astype(np.int32), np.append(two, 0).astype(np.int32)


def _start_forest(problem: Problem) -> _Forest:
    nodes = problem.nodes
    weights = problem.inputs["A"][_pairs(nodes)].at[-1].set(0.0)
    zero, none = jnp.int32(0), jnp.zeros(nodes, bool)
    return _Forest(
        left=jnp.where(weights > 0, weights, jnp.inf),
        chosen=jnp.zeros((nodes, nodes), problem.dtype),
        parent=identity(problem),
        one=zero,
        two=zero,
        root_one=zero,
        root_two=zero,
        path_one=none,
        path_two=none,
        phase=jnp.int32(_DECIDED),
    )


def _step_forest(problem: Problem, registers: _Forest) -> _Forest:
    index, parent, left = problem.index, registers.parent, registers.left
    root_one, root_two = registers.root_one, registers.root_two
    over_one, over_two = read(parent, root_one), read(parent, root_two)
    next_edge = registers.phase == _DECIDED
    from_one = ~next_edge & (over_one != root_one)
    from_two = ~next_edge & ~from_one & (over_two != root_two)
    decided = ~(next_edge | from_one | from_two)
    united = decided & (root_one != root_two)

    lightest = first(left == left.min())
    one, two = (read(jnp.asarray(ends), lightest) for ends in _pairs(problem.nodes))
    one = jnp.where(next_edge, one, registers.one)
    two = jnp.where(next_edge, two, registers.two)
    here, there = index == one, index == two
    pair = here[:, None] & there
    # A step up makes all nodes on the path so far point at where it leads.
    upper = jnp.where(from_one, over_one, jnp.where(from_two, over_two, 0))
    moved = (from_one & registers.path_one) | (from_two & registers.path_two)
    parent = jnp.where(moved, upper, parent)
    lower = jnp.minimum(root_one, root_two)
    parent = jnp.where(united & (index == lower), jnp.maximum(root_one, root_two), parent)
    reached = index == upper
    return _Forest(
        left=jnp.where(next_edge & at(lightest, left.shape[0]), jnp.inf, left),
        chosen=jnp.where(united & (pair | pair.T), 1.0, registers.chosen),
        parent=parent,
        one=one,
        two=two,
        root_one=jnp.where(next_edge, one, jnp.where(from_one, over_one, root_one)),
        root_two=jnp.where(next_edge, two, jnp.where(from_two, over_two, root_two)),
        path_one=jnp.where(next_edge, here, registers.path_one | (from_one & reached)),
        path_two=jnp.where(next_edge, there, registers.path_two | (from_two & reached)),
        phase=jnp.where(from_two, _FROM_SECOND, jnp.where(decided, _DECIDED, _FROM_FIRST)),
    )


def _done_forest(problem: Problem, registers: _Forest) -> jax.Array:
    return (registers.phase == _DECIDED) & (registers.left == jnp.inf).all()


def _show_forest(problem: Problem, registers: _Forest) -> Probes:
    dtype = problem.dtype
    return {
        "in_mst_h": registers.chosen,
        "pi": registers.parent,
        "u": one_hot(registers.one, problem),
        "v": one_hot(registers.two, problem),
        "root_u": one_hot(registers.root_one, problem),
        "root_v": one_hot(registers.root_two, problem),
        "mask_u": registers.path_one.astype(dtype),
        "mask_v": registers.path_two.astype(dtype),
        "phase": (registers.phase == jnp.arange(3, dtype=jnp.int32)).astype(dtype),
    }


def _most_frames(nodes: int) -> int:
    """The first frame, two for each edge, and the steps towards roots.

    Edges that are missing could be there and come last, so let there be all n (n - 1) / 2. Of
    their ends, each of which is looked up, the n - 1 that are the last node, and the first of any
    other node, are roots then: 2 (n - 1) need no step. The rest need one, and one more for each
    node on the way that comes to point at a new root. That happens to a node at most once for each
    time that its root is put below another. The t-th time that trees are united, the tree whose
    root that is has t nodes at most, t - 1 of them below it: (n - 1) (n - 2) / 2 in all.
    """
    edges = nodes * (nodes - 1) // 2
    return 1 + 2 * edges + 2 * edges - 2 * (nodes - 1) + (nodes - 1) * (nodes - 2) // 2


@final
@dataclass(frozen=True)
class Kruskal(ClrsTask):
    """Find the edges of a minimum spanning tree, or of one for each component, lightest first."""

    name: ClassVar[str] = "clrs/mst_kruskal"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, WEIGHTS, ADJACENCY),
        outputs=(edge("in_mst", "mask"),),
        hints=(
            edge("in_mst_h", "mask"),
            node("pi", "pointer"),
            *(node(name, "mask_one") for name in ("u", "v", "root_u", "root_v")),
            *(node(name, "mask") for name in ("mask_u", "mask_v")),
            graph("phase", "categorical", 3),
        ),
    )
    machine: ClassVar[Machine] = Machine(
        frames=_most_frames,
        start=_start_forest,
        step=_step_forest,
        done=_done_forest,
        hints=_show_forest,
        outputs=lambda problem, registers: {"in_mst": registers.chosen},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Weighted undirected Erdos-Renyi graphs of density 0.2."""
        return _SPARSE_GRAPHS.draw(key, size, nodes, varied=self.varied)

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Weighted undirected Erdos-Renyi graphs of density 0.2."""
        return _SPARSE_GRAPHS.replay(random, size)


@final
@dataclass(frozen=True)
class Prim(ClrsTask):
    """Find the parent of each node in a minimum spanning tree that grows from a source."""

    name: ClassVar[str] = "clrs/mst_prim"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, SOURCE, WEIGHTS, ADJACENCY),
        outputs=(node("pi", "pointer"),),
        hints=(
            node("pi_h", "pointer"),
            node("key", "scalar"),
            node("mark", "mask"),
            node("in_queue", "mask"),
            node("u", "mask_one"),
        ),
    )
    machine: ClassVar[Machine] = Machine(
        frames=frontier.frames,
        start=frontier.start,
        step=partial(frontier.step, offered=lambda own, weights: weights),
        done=frontier.done,
        hints=partial(frontier.show, "key"),
        outputs=lambda problem, registers: {"pi": registers.parent},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Weighted undirected Erdos-Renyi graphs of density 0.5, and a uniform source."""
        return _GRAPHS.draw_with_source(key, size, nodes, varied=self.varied)

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Weighted undirected Erdos-Renyi graphs of density 0.5, and a uniform source."""
        return _GRAPHS.replay_with_source(random, size)
