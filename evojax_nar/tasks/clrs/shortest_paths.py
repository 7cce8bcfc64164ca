"""Shortest paths: from a source by Bellman-Ford and Dijkstra, between all by Floyd-Warshall."""

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
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, one_hot, read
from evojax_nar.tasks.clrs.probes import POS, Specification, edge, node
from evojax_nar.tasks.clrs.reading import identity, pairs
from evojax_nar.types import Key

_GRAPHS = WeightedUndirected()


# Bellman-Ford. A frame is a round over all edges, from the distances of the frame before.


class _Rounds(NamedTuple):
    parent: jax.Array
    distance: jax.Array
    reached: jax.Array


def _start_rounds(problem: Problem) -> _Rounds:
    distance = jnp.zeros(problem.nodes, problem.dtype)
    return _Rounds(identity(problem), distance, problem.inputs["s"] > 0)


def _step_rounds(problem: Problem, registers: _Rounds) -> _Rounds:
    parent, distance, reached = registers
    weights = problem.inputs["A"]
    usable = (weights != 0) & reached[:, None]
    offers = jnp.where(usable, distance[:, None] + weights, jnp.inf)
    least = offers.min(axis=0)
    by = jnp.where(offers == least, problem.index[:, None], problem.nodes).min(axis=0)
    better = least < jnp.where(reached, distance, jnp.inf)
    return _Rounds(
        parent=jnp.where(better, by, parent),
        distance=jnp.where(better, least, distance),
        reached=reached | better,
    )


def _done_rounds(problem: Problem, registers: _Rounds) -> jax.Array:
    return (_step_rounds(problem, registers).distance == registers.distance).all()


def _show_rounds(problem: Problem, registers: _Rounds) -> Probes:
    return {
        "pi_h": registers.parent,
        "d": registers.distance,
        "msk": registers.reached.astype(problem.dtype),
    }


@final
@dataclass(frozen=True)
class BellmanFord(ClrsTask):
    """Find the parent of each node on a shortest path from a source, by rounds over all edges."""

    name: ClassVar[str] = "clrs/bellman_ford"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, SOURCE, WEIGHTS, ADJACENCY),
        outputs=(node("pi", "pointer"),),
        hints=(node("pi_h", "pointer"), node("d", "scalar"), node("msk", "mask")),
    )
    machine: ClassVar[Machine] = Machine(
        # Frame k, from 0, has the shortest paths of at most k edges. As weights are positive, and
        # rounding keeps the order of sums, none is shorter than the same without its cycles.
        frames=lambda nodes: nodes,
        start=_start_rounds,
        step=_step_rounds,
        done=_done_rounds,
        hints=_show_rounds,
        outputs=lambda problem, registers: {"pi": registers.parent},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Weighted undirected Erdos-Renyi graphs of density 0.5, and a uniform source."""
        return _GRAPHS.draw_with_source(key, size, nodes, varied=self.varied)

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Weighted undirected Erdos-Renyi graphs of density 0.5, and a uniform source."""
        return _GRAPHS.replay_with_source(random, size)


@final
@dataclass(frozen=True)
class Dijkstra(ClrsTask):
    """Find the parent of each node on a shortest path from a source, the nearest node first."""

    name: ClassVar[str] = "clrs/dijkstra"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, SOURCE, WEIGHTS, ADJACENCY),
        outputs=(node("pi", "pointer"),),
        hints=(
            node("pi_h", "pointer"),
            node("d", "scalar"),
            node("mark", "mask"),
            node("in_queue", "mask"),
            node("u", "mask_one"),
        ),
    )
    machine: ClassVar[Machine] = Machine(
        frames=frontier.frames,
        start=frontier.start,
        step=partial(frontier.step, offered=lambda own, weights: own + weights),
        done=frontier.done,
        hints=partial(frontier.show, "d"),
        outputs=lambda problem, registers: {"pi": registers.parent},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Weighted undirected Erdos-Renyi graphs of density 0.5, and a uniform source."""
        return _GRAPHS.draw_with_source(key, size, nodes, varied=self.varied)

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Weighted undirected Erdos-Renyi graphs of density 0.5, and a uniform source."""
        return _GRAPHS.replay_with_source(random, size)


# Floyd-Warshall. A frame is a node that paths may go through from then on.


class _Pairs(NamedTuple):
    parent: jax.Array
    """(V, V) int32: the node before the second on the path from the first."""
    distance: jax.Array
    known: jax.Array
    through: jax.Array


def _start_pairs(problem: Problem) -> _Pairs:
    exist = pairs(problem)
    weights = problem.inputs["A"]
    own = problem.index[:, None]
    known = ((weights != 0) | (own == problem.index)) & exist
    return _Pairs(jnp.where(exist, own, 0), weights, known, jnp.int32(0))


def _step_pairs(problem: Problem, registers: _Pairs) -> _Pairs:
    parent, distance, known, through = registers
    usable = read(known.T, through)[:, None] & read(known, through)
    offer = read(distance.T, through)[:, None] + read(distance, through)
    # No row changes by way of its own node, so rows can be read before any of them is written.
    better = usable & (~known | (offer < distance))
    return _Pairs(
        parent=jnp.where(better, read(parent, through), parent),
        distance=jnp.where(better, offer, distance),
        known=known | usable,
        through=through + 1,
    )


def _show_pairs(problem: Problem, registers: _Pairs) -> Probes:
    return {
        "Pi_h": registers.parent,
        "D": registers.distance,
        "msk": registers.known.astype(problem.dtype),
        "k": one_hot(registers.through, problem),
    }


@final
@dataclass(frozen=True)
class FloydWarshall(ClrsTask):
    """Find the node before the last on a shortest path between all pairs of nodes."""

    name: ClassVar[str] = "clrs/floyd_warshall"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, WEIGHTS, ADJACENCY),
        outputs=(edge("Pi", "pointer"),),
        hints=(
            edge("Pi_h", "pointer"),
            edge("D", "scalar"),
            edge("msk", "mask"),
            node("k", "mask_one"),
        ),
    )
    machine: ClassVar[Machine] = Machine(
        # A frame for each node: the last shows what is known before paths go through that node.
        frames=lambda nodes: nodes,
        start=_start_pairs,
        step=_step_pairs,
        done=lambda problem, registers: registers.through >= problem.size - 1,
        hints=_show_pairs,
        outputs=lambda problem, registers: {"Pi": _step_pairs(problem, registers).parent},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Weighted undirected Erdos-Renyi graphs of density 0.5."""
        return _GRAPHS.draw(key, size, nodes, varied=self.varied)

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Weighted undirected Erdos-Renyi graphs of density 0.5."""
        return _GRAPHS.replay(random, size)
