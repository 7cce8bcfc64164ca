"""Strongly connected components, by Kosaraju: a walk along edges, then one against them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import walk
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.graph_inputs import ADJACENCY, WEIGHTS, Communities
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, read
from evojax_nar.tasks.clrs.probes import POS, Specification, edge, graph, node
from evojax_nar.tasks.clrs.reading import adjacency, first, identity, neighbours
from evojax_nar.types import Key

_GRAPHS = Communities()


class _Search(NamedTuple):
    walk: walk.Walk
    component: jax.Array
    """(V,) int32: the root from which the second walk came to each node, or the node itself."""
    times: walk.Times
    """Of both walks. The first one decides in which order the second one takes its roots."""
    back: jax.Array
    """Whether this is the second walk, bool."""


def _start(problem: Problem) -> _Search:
    begun = walk.begin(problem, jnp.int32(0))
    return _Search(begun, identity(problem), walk.never(problem), jnp.asarray(False))


def _step(problem: Problem, registers: _Search) -> _Search:
    times = registers.times
    turned = walk.over(problem, registers.walk)
    back = registers.back | turned
    before = registers.walk
    # All nodes are new to the second walk, but it knows when they were found. The place where the
    # first one ended is kept, so that the stack is seen to be empty.
    color = jnp.where(turned, walk.NEW, before.color)
    new = (color == walk.NEW) & problem.exists
    latest = jnp.where(new, times.left, -1)
    root = jnp.where(back, first(new & (latest == latest.max())), first(new))
    moved, rooted, _ = walk.arrive(problem, before, root)
    moved = moved._replace(color=color)

    against = read(problem.inputs["A"].T, moved.at) != 0
    near = jnp.where(back, against, neighbours(problem, moved.at))
    met = read(color, moved.at) != walk.NEW
    known = met & (read(times.found, moved.at) > 0)
    moved, move = walk.act(problem, moved, known, rooted, near & (color == walk.NEW))
    joined = back & ~rooted & (problem.index == moved.at)
    return _Search(
        walk=moved,
        component=jnp.where(joined, moved.root, registers.component),
        times=walk.tick(problem, times, moved, move),
        back=back,
    )


def _done(problem: Problem, registers: _Search) -> jax.Array:
    return registers.back & walk.over(problem, registers.walk)


def _hints(problem: Problem, registers: _Search) -> Probes:
    shown = walk.show(problem, registers.walk) | walk.show_times(problem, registers.times)
    return shown | {
        "scc_id_h": registers.component,
        "A_t": adjacency(problem, problem.inputs["A"].T),
        "phase": registers.back.astype(problem.dtype),
    }


@final
@dataclass(frozen=True)
class StronglyConnectedComponents(ClrsTask):
    """Find, for each node of a directed graph, one node for all of its strong component."""

    name: ClassVar[str] = "clrs/strongly_connected_components"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, WEIGHTS, ADJACENCY),
        outputs=(node("scc_id", "pointer"),),
        hints=(
            node("scc_id_h", "pointer"),
            edge("A_t", "mask"),
            walk.COLOR,
            walk.FOUND,
            walk.LEFT,
            *walk.BELOW_TO_TOP,
            walk.TIME,
            graph("phase", "mask"),
        ),
    )
    machine: ClassVar[Machine] = Machine(
        # As for a depth-first search, twice; nodes that are pushed are discovered the first time.
        # In a graph without edges all are roots.
        frames=lambda nodes: 6 * nodes,
        start=_start,
        step=_step,
        done=_done,
        hints=_hints,
        outputs=lambda problem, registers: {"scc_id": registers.component},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Four directed communities of density 0.5."""
        return _GRAPHS.draw(key, size, nodes, varied=self.varied)

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Four directed communities of density 0.5."""
        return _GRAPHS.replay(random, size)
