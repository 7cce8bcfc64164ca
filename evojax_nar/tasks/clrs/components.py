"""Articulation points and bridges: a walk that keeps how far up the tree each subtree leads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import walk
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.graph_inputs import ADJACENCY, WEIGHTS, Undirected
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, read
from evojax_nar.tasks.clrs.probes import POS, Specification, edge, node
from evojax_nar.tasks.clrs.reading import identity, neighbours, pairs
from evojax_nar.types import Key

_GRAPHS = Undirected(density=0.2, scale=0.5)


class _Search(NamedTuple):
    walk: walk.Walk
    parent: jax.Array
    times: walk.Times
    low: jax.Array
    """(V,) int32: when the earliest node was found to which a subtree leads by one edge, so far."""
    onward: jax.Array
    """The first neighbour that has not been looked at since the walk came here, int32."""


class _Finish(NamedTuple):
    """What a finished node is told, where there is one."""

    finished: jax.Array
    here: jax.Array
    """(V,) bool: the node."""
    child: jax.Array
    """(V,) bool: its children."""
    found: jax.Array
    """When it was found."""
    root: jax.Array
    """Whether it is a root."""


def _start(problem: Problem) -> _Search:
    none = jnp.zeros(problem.nodes, jnp.int32)
    begun = walk.begin(problem, jnp.int32(0))
    return _Search(begun, identity(problem), walk.never(problem), none, jnp.int32(0))


def _step(problem: Problem, registers: _Search) -> tuple[_Search, walk.Move, _Finish]:
    parent, low, found = registers.parent, registers.low, registers.times.found
    root = walk.first_new(problem, registers.walk)
    moved, rooted, popped = walk.arrive(problem, registers.walk, root)
    at = moved.at
    onward = jnp.where(popped, 0, registers.onward)
    above = read(parent, at)
    # Neighbours are pushed or looked at in turn, but for the one that the walk came from.
    turn = (problem.index >= onward) & ((moved.color == walk.NEW) | (problem.index != above))
    known = read(found, at) > 0
    moved, move = walk.act(problem, moved, known, rooted, neighbours(problem, at) & turn)
    times = walk.tick(problem, registers.times, moved, move)

    here = problem.index == at
    child = (parent == at) & ~here & problem.exists
    own = jnp.where(move.discovered, times.now, read(low, at))
    own = jnp.where(move.looked, jnp.minimum(own, read(found, moved.seen)), own)
    below = jnp.where(child, low, own).min()
    own = jnp.where(move.finished, jnp.minimum(own, below), own)
    search = _Search(
        walk=moved,
        parent=jnp.where(move.pushed & (problem.index == moved.top), at, parent),
        times=times,
        low=jnp.where(here & ~rooted, own, low),
        onward=jnp.where(move.discovered, 0, jnp.where(move.looked, moved.seen + 1, onward)),
    )
    return search, move, _Finish(move.finished, here, child, read(found, at), above == at)


def _show(problem: Problem, registers: _Search) -> dict[str, jax.Array]:
    shown = walk.show(problem, registers.walk) | walk.show_times(problem, registers.times)
    return shown | {"pi_h": registers.parent, "low": walk.clock(problem, registers.low)}


def _most_frames(nodes: int) -> int:
    """As for a depth-first search, and all looks: no more than in a complete graph.

    A node looks at n - 1 others at most before it is finished, as its parent is left out. Before it
    pushes v, it looks at nodes before v alone: v - 1 at most, or v if its parent comes after v. But
    then the tree leads to that parent from a root before v, which was the first new node, so it
    leads somewhere from a node w before v to one after v. As v was new, w has no edge to v. So w
    looks at one other less before it is finished, for each such v.
    """
    return 3 * nodes + nodes * (nodes - 1) + (nodes - 1) * (nodes - 2) // 2


# Articulation points.


class _Points(NamedTuple):
    search: _Search
    children: jax.Array
    """(V,) int32: how many each node has pushed."""
    cut: jax.Array


def _start_points(problem: Problem) -> _Points:
    none = jnp.zeros(problem.nodes, jnp.int32)
    return _Points(_start(problem), none, none.astype(bool))


def _step_points(problem: Problem, registers: _Points) -> _Points:
    search, move, told = _step(problem, registers.search)
    # A child whose subtree leads no further up is cut off with the node; a root, with two of them.
    stuck = (told.child & (search.low >= told.found)).any()
    several = read(registers.children, search.walk.at) > 1
    cut = told.finished & jnp.where(told.root, several, stuck)
    return _Points(
        search=search,
        children=registers.children + (move.pushed & told.here),
        cut=registers.cut | (cut & told.here),
    )


def _show_points(problem: Problem, registers: _Points) -> Probes:
    return _show(problem, registers.search) | {
        "is_cut_h": registers.cut.astype(problem.dtype),
        "child_cnt": walk.clock(problem, registers.children),
    }


@final
@dataclass(frozen=True)
class ArticulationPoints(ClrsTask):
    """Find the nodes of an undirected graph without which it has more components."""

    name: ClassVar[str] = "clrs/articulation_points"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, WEIGHTS, ADJACENCY),
        outputs=(node("is_cut", "mask"),),
        hints=(
            node("is_cut_h", "mask"),
            node("pi_h", "pointer"),
            walk.COLOR,
            walk.FOUND,
            walk.LEFT,
            node("low", "scalar"),
            node("child_cnt", "scalar"),
            *walk.BELOW_TO_TOP,
            walk.TIME,
        ),
    )
    machine: ClassVar[Machine] = Machine(
        frames=_most_frames,
        start=_start_points,
        step=_step_points,
        done=lambda problem, registers: walk.over(problem, registers.search.walk),
        hints=_show_points,
        outputs=lambda problem, registers: {"is_cut": registers.cut.astype(problem.dtype)},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Undirected Erdos-Renyi graphs of density 0.2."""
        return _GRAPHS.draw(key, size, nodes, varied=self.varied)

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Undirected Erdos-Renyi graphs of density 0.2."""
        return _GRAPHS.replay(random, size)


# Bridges. Those found are edges of the tree, so each is known by its lower end.


class _Edges(NamedTuple):
    search: _Search
    bridge: jax.Array
    """(V,) bool: whether the edge to a node's parent is one."""


def _start_edges(problem: Problem) -> _Edges:
    return _Edges(_start(problem), jnp.zeros(problem.nodes, bool))


def _step_edges(problem: Problem, registers: _Edges) -> _Edges:
    search, _, told = _step(problem, registers.search)
    bridge = told.finished & told.child & (search.low > told.found)
    return _Edges(search, registers.bridge | bridge)


def _bridges(problem: Problem, registers: _Edges) -> jax.Array:
    """(V, V): 1 at a bridge, 0 at other edges, -1 where there is none."""
    up = registers.bridge[:, None] & (registers.search.parent[:, None] == problem.index)
    edges = problem.inputs["adj"] - pairs(problem)
    return jnp.where(up | up.T, jnp.ones_like(edges), edges)


def _show_edges(problem: Problem, registers: _Edges) -> Probes:
    return _show(problem, registers.search) | {"is_bridge_h": _bridges(problem, registers)}


@final
@dataclass(frozen=True)
class Bridges(ClrsTask):
    """Find the edges of an undirected graph without which it has more components."""

    name: ClassVar[str] = "clrs/bridges"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, WEIGHTS, ADJACENCY),
        outputs=(edge("is_bridge", "mask"),),
        hints=(
            edge("is_bridge_h", "mask"),
            node("pi_h", "pointer"),
            walk.COLOR,
            walk.FOUND,
            walk.LEFT,
            node("low", "scalar"),
            *walk.BELOW_TO_TOP,
            walk.TIME,
        ),
    )
    machine: ClassVar[Machine] = Machine(
        frames=_most_frames,
        start=_start_edges,
        step=_step_edges,
        done=lambda problem, registers: walk.over(problem, registers.search.walk),
        hints=_show_edges,
        outputs=lambda problem, registers: {"is_bridge": _bridges(problem, registers)},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Undirected Erdos-Renyi graphs of density 0.2."""
        return _GRAPHS.draw(key, size, nodes, varied=self.varied)

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Undirected Erdos-Renyi graphs of density 0.2."""
        return _GRAPHS.replay(random, size)
