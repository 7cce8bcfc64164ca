"""Maximum matching in a bipartite graph, by Edmonds and Karp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import inputs
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.graph_inputs import ADJACENCY, SOURCE, WEIGHTS
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, one_hot, read
from evojax_nar.tasks.clrs.probes import POS, Specification, edge, graph, node
from evojax_nar.tasks.clrs.reading import adjacency, first, identity, pairs
from evojax_nar.types import Key

DENSITY = 0.3


class _Flow(NamedTuple):
    matched: jax.Array
    """(V, V): 1 at an edge of the matching, 0 at the others of the network, -1 where is none."""
    residual: jax.Array
    """(V, V): 1 where flow may still be sent."""
    distance: jax.Array
    """(V,) int32: edges from the source, 0 where not reached."""
    reached: jax.Array
    parent: jax.Array
    at: jax.Array
    sending: jax.Array
    """Whether flow is being sent back from the sink to the source, bool; else the latter looks for
    a way, and a frame is a distance from it."""


def _sink(problem: Problem) -> jax.Array:
    return first(problem.inputs["t"] > 0)


def _start(problem: Problem) -> _Flow:
    adjacent = problem.inputs["adj"]
    return _Flow(
        matched=jnp.where(pairs(problem), adjacent + adjacent.T - 1, 0),
        residual=problem.inputs["A"],
        distance=jnp.zeros(problem.nodes, jnp.int32),
        reached=problem.inputs["s"] > 0,
        parent=identity(problem),
        at=_sink(problem),
        sending=jnp.asarray(False),
    )


def _step(problem: Problem, registers: _Flow) -> _Flow:
    index, sink, start = problem.index, _sink(problem), problem.inputs["s"] > 0
    _, residual, distance, reached, parent, at, sending = registers
    new, by = _search(problem, registers)
    arrived = ~sending & read(new, sink)
    searched = ~sending & ~arrived
    # The way to the sink is walked back: what has been sent along an edge can be taken back.
    before = read(parent, at)
    sent = sending & (before != at)
    again = sending & ~sent
    here, there = index == before, index == at
    along = sent & here[:, None] & there
    forth = (before < at) & along
    back = ((before > at) & along).T
    matched = jnp.where(forth, 1, jnp.where(back, 0, registers.matched))
    residual = jnp.where(along, 0, jnp.where(along.T, 1, residual))

    parent = jnp.where(~sending & new, by, parent)
    near = distance.max() + 1
    return _Flow(
        matched=matched.astype(problem.dtype),
        residual=residual.astype(problem.dtype),
        distance=jnp.where(again, 0, jnp.where(searched & new, near, distance)),
        reached=jnp.where(again, start, reached | (searched & new)),
        parent=jnp.where(again, identity(problem), parent),
        at=jnp.where(sent, before, jnp.where(again, at, sink)),
        sending=arrived | sent,
    )


def _search(problem: Problem, registers: _Flow) -> tuple[jax.Array, jax.Array]:
    """The nodes (V,) that are one edge further than those reached, and from which (V,) they are."""
    near = (registers.residual != 0) & registers.reached[:, None]
    by = jnp.where(near, problem.index[:, None], problem.nodes).min(axis=0)
    return (by < problem.nodes) & ~registers.reached, by


def _done(problem: Problem, registers: _Flow) -> jax.Array:
    new, _ = _search(problem, registers)
    return ~registers.sending & ~new.any()


def _hints(problem: Problem, registers: _Flow) -> Probes:
    dtype = problem.dtype
    return {
        "in_matching_h": registers.matched,
        "A_h": registers.residual,
        "adj_h": adjacency(problem, registers.residual),
        "d": registers.distance.astype(dtype),
        "msk": registers.reached.astype(dtype),
        "pi": registers.parent,
        "u": one_hot(registers.at, problem),
        "phase": registers.sending.astype(dtype),
    }


def _most_frames(nodes: int) -> int:
    """Of the largest matching that n nodes besides source and sink allow, of k = n // 2 edges.

    A way of L edges is found in L frames, and walked back in L + 1. By Hopcroft and Karp, the
    shortest one that makes a matching of i edges larger, where one of k is possible, has 2 floor(i
    / (k - i)) + 1 edges besides those at source and sink. The last search, which fails, sees the
    source, then nodes of both sides in turn, each but the first with another edge of the matching:
    2 k + 2 distances at most. A smaller k gives fewer frames.
    """
    matches = max(nodes - 2, 0) // 2
    lengths = [2 * (i // (matches - i)) + 3 for i in range(matches)]
    return sum(2 * length + 1 for length in lengths) + 2 * matches + 2


@final
@dataclass(frozen=True)
class BipartiteMatching(ClrsTask):
    """Find a largest matching of two sets of nodes, as the flow from a source to a sink.

    The size is the number of nodes in both sets, of which the first one has half, rounded up. The
    source comes before them and the sink after them, so V is the size and 2.
    """

    name: ClassVar[str] = "clrs/bipartite_matching"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, WEIGHTS, ADJACENCY, SOURCE, node("t", "mask_one")),
        outputs=(edge("in_matching", "mask"),),
        hints=(
            edge("in_matching_h", "mask"),
            edge("A_h", "scalar"),
            edge("adj_h", "mask"),
            node("d", "scalar"),
            node("msk", "mask"),
            node("pi", "pointer"),
            node("u", "mask_one"),
            graph("phase", "mask"),
        ),
    )
    machine: ClassVar[Machine] = Machine(
        frames=_most_frames,
        start=_start,
        step=_step,
        done=_done,
        hints=_hints,
        outputs=lambda problem, registers: {"in_matching": registers.matched},
    )

    @classmethod
    def nodes(cls, size: int) -> int:
        """Source and sink besides."""
        return size + 2

    @classmethod
    def count(cls, size: jax.Array) -> jax.Array:
        """Likewise."""
        return size + 2

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Edges from the first set to the second with probability 0.3."""
        at_key, density_key, edge_key = jax.random.split(key, 3)
        density = jnp.float32(DENSITY)
        if self.varied:
            density = jax.random.randint(density_key, (), 1, 10) / 10
        index, first_set = jnp.arange(nodes), size - size // 2
        source, sink = index == 0, index == size + 1
        one, two = (index >= 1) & (index <= first_set), (index > first_set) & (index <= size)
        drawn = jax.random.bernoulli(edge_key, density, (nodes, nodes))
        edges = (one[:, None] & two & drawn) | (source[:, None] & one) | (two[:, None] & sink)
        own = jnp.eye(nodes, dtype=bool) & (index < size + 2)
        return {
            "pos": inputs.positions(at_key, size + 2, nodes, varied=self.varied),
            "A": edges.astype(jnp.float32),
            "adj": (edges | own).astype(jnp.float32),
            "s": source.astype(jnp.float32),
            "t": sink.astype(jnp.float32),
        }

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Edges from the first set to the second with probability 0.3."""
        two = size // 2
        one, nodes = size - two, size + 2
        edges = np.zeros((nodes, nodes))
        edges[0, 1 : one + 1] = 1
        edges[one + 1 : size + 1, size + 1] = 1
        density = random.choice((DENSITY,))
        edges[1 : one + 1, one + 1 : size + 1] = random.binomial(1, density, size=(one, two))
        return {
            "pos": inputs.replay_positions(nodes),
            "A": edges,
            "adj": np.maximum(edges, np.eye(nodes)),
            "s": np.eye(nodes)[0],
            "t": np.eye(nodes)[size + 1],
        }
