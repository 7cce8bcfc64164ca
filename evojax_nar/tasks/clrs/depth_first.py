"""Depth-first search, and the order of an acyclic graph that it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import walk
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.graph_inputs import ADJACENCY, WEIGHTS, Acyclic, Directed
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, one_hot, read
from evojax_nar.tasks.clrs.probes import POS, Specification, node
from evojax_nar.tasks.clrs.reading import identity, neighbours
from evojax_nar.types import Key

_DIRECTED = Directed()
_ACYCLIC = Acyclic()


class _Search(NamedTuple):
    walk: walk.Walk
    parent: jax.Array
    times: walk.Times


def _start_search(problem: Problem) -> _Search:
    begun = walk.begin(problem, jnp.int32(0))
    return _Search(begun, identity(problem), walk.never(problem))


def _step_search(problem: Problem, registers: _Search) -> _Search:
    root = walk.first_new(problem, registers.walk)
    moved, rooted, _ = walk.arrive(problem, registers.walk, root)
    wanted = neighbours(problem, moved.at) & (moved.color == walk.NEW)
    known = read(registers.times.found, moved.at) > 0
    moved, move = walk.act(problem, moved, known, rooted, wanted)
    pushed = move.pushed & (problem.index == moved.top)
    return _Search(
        walk=moved,
        parent=jnp.where(pushed, moved.at, registers.parent),
        times=walk.tick(problem, registers.times, moved, move),
    )


def _show_search(problem: Problem, registers: _Search) -> Probes:
    shown = walk.show(problem, registers.walk) | walk.show_times(problem, registers.times)
    return shown | {"pi_h": registers.parent}


@final
@dataclass(frozen=True)
class DepthFirstSearch(ClrsTask):
    """Find the parent of each node in a depth-first search of a directed graph."""

    name: ClassVar[str] = "clrs/dfs"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, WEIGHTS, ADJACENCY),
        outputs=(node("pi", "pointer"),),
        hints=(
            node("pi_h", "pointer"),
            walk.COLOR,
            walk.FOUND,
            walk.LEFT,
            *walk.BELOW_TO_TOP,
            walk.TIME,
        ),
    )
    machine: ClassVar[Machine] = Machine(
        # Each node is discovered once, finished once, and either a root or pushed.
        frames=lambda nodes: 3 * nodes,
        start=_start_search,
        step=_step_search,
        done=lambda problem, registers: walk.over(problem, registers.walk),
        hints=_show_search,
        outputs=lambda problem, registers: {"pi": registers.parent},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Directed Erdos-Renyi graphs, of density 0.5."""
        return _DIRECTED.draw(key, size, nodes, varied=self.varied)

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Directed Erdos-Renyi graphs, of density 0.5."""
        return _DIRECTED.replay(random, size)


class Order(NamedTuple):
    """A walk, and the order in which it has finished nodes, backwards."""

    walk: walk.Walk
    after: jax.Array
    """(V,) int32: the node after each closed one in the order, the node itself for the last."""
    head: jax.Array
    """The first node of the order so far, int32; node 0 while there is none."""


def start_order(problem: Problem, root: jax.Array) -> Order:
    """The search for an order from one root."""
    return Order(walk.begin(problem, root), identity(problem), jnp.int32(0))


def step_order(problem: Problem, registers: Order, root: jax.Array) -> Order:
    """One frame on, at `root` where the stack is empty."""
    moved, rooted, _ = walk.arrive(problem, registers.walk, root)
    wanted = neighbours(problem, moved.at) & (moved.color == walk.NEW)
    # A node that was pushed has a colour, so none but roots are seen being discovered.
    known = read(moved.color, moved.at) != walk.NEW
    moved, move = walk.act(problem, moved, known, rooted, wanted)
    linked = move.finished & (read(moved.color, registers.head) == walk.CLOSED)
    return Order(
        walk=moved,
        after=jnp.where(linked & (problem.index == moved.at), registers.head, registers.after),
        head=jnp.where(move.finished, moved.at, registers.head),
    )


def show_order(problem: Problem, registers: Order) -> dict[str, jax.Array]:
    """The hints of the walk, and of the order so far."""
    return walk.show(problem, registers.walk) | {
        "topo_h": registers.after,
        "topo_head_h": one_hot(registers.head, problem),
    }


@final
@dataclass(frozen=True)
class TopologicalSort(ClrsTask):
    """Find an order of the nodes of an acyclic graph in which all edges go forward."""

    name: ClassVar[str] = "clrs/topological_sort"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, WEIGHTS, ADJACENCY),
        outputs=(node("topo", "pointer"), node("topo_head", "mask_one")),
        hints=(
            node("topo_h", "pointer"),
            node("topo_head_h", "mask_one"),
            walk.COLOR,
            *walk.BELOW_TO_TOP,
        ),
    )
    machine: ClassVar[Machine] = Machine(
        # Each node is finished once, and either a root that is then discovered or pushed: two
        # frames, or three for a root, as all nodes are in a graph without edges.
        frames=lambda nodes: 3 * nodes,
        start=lambda problem: start_order(problem, jnp.int32(0)),
        step=lambda problem, registers: step_order(
            problem, registers, walk.first_new(problem, registers.walk)
        ),
        done=lambda problem, registers: walk.over(problem, registers.walk),
        hints=show_order,
        outputs=lambda problem, registers: {
            "topo": registers.after,
            "topo_head": one_hot(registers.head, problem),
        },
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Acyclic graphs, of density 0.5."""
        return _ACYCLIC.draw(key, size, nodes, varied=self.varied)

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Acyclic graphs, of density 0.5."""
        return _ACYCLIC.replay(random, size)
