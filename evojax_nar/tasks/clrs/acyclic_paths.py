"""Shortest paths in an acyclic graph, whose nodes are first put in order from the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import walk
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.depth_first import Order, show_order, start_order, step_order
from evojax_nar.tasks.clrs.graph_inputs import ADJACENCY, SOURCE, WEIGHTS, WeightedAcyclic
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, read
from evojax_nar.tasks.clrs.probes import POS, Specification, graph, node
from evojax_nar.tasks.clrs.reading import identity, source
from evojax_nar.types import Key

_GRAPHS = WeightedAcyclic()


class _Paths(NamedTuple):
    order: Order
    """Its head is the node at hand once the nodes are in order."""
    parent: jax.Array
    distance: jax.Array
    reached: jax.Array
    ordered: jax.Array
    """Whether the nodes are in order, bool."""


def _start(problem: Problem) -> _Paths:
    return _Paths(
        order=start_order(problem, source(problem)),
        parent=identity(problem),
        distance=jnp.zeros(problem.nodes, problem.dtype),
        reached=jnp.zeros(problem.nodes, bool),
        ordered=jnp.asarray(False),
    )


def _step(problem: Problem, registers: _Paths) -> _Paths:
    order, parent, distance, reached, ordered = registers
    _, emptied = walk.ends(order.walk)
    # The stack is never empty again: the walk stays as it is while paths are found.
    ordering = ~ordered & ~emptied
    walked = step_order(problem, order, order.walk.root)
    after = read(order.after, order.head)

    weights = read(problem.inputs["A"], order.head)
    offer = read(distance, order.head) + weights
    better = ordered & (weights != 0) & (~reached | (offer < distance))
    head = jnp.where(ordering, walked.head, jnp.where(ordered, after, order.head))
    return _Paths(
        order=Order(
            walk=jax.tree.map(
                lambda new, old: jnp.where(ordering, new, old), walked.walk, order.walk
            ),
            after=jnp.where(ordering, walked.after, order.after),
            head=head,
        ),
        parent=jnp.where(better, order.head, parent),
        distance=jnp.where(better, offer, distance),
        reached=reached | better | (~ordering & (problem.index == head)),
        ordered=~ordering,
    )


def _done(problem: Problem, registers: _Paths) -> jax.Array:
    order = registers.order
    return registers.ordered & (read(order.after, order.head) == order.head)


def _hints(problem: Problem, registers: _Paths) -> Probes:
    shown = show_order(problem, registers.order)
    del shown["s"]  # an input here
    return shown | {
        "pi_h": registers.parent,
        "d": registers.distance,
        "mark": registers.reached.astype(problem.dtype),
        "phase": registers.ordered.astype(problem.dtype),
    }


@final
@dataclass(frozen=True)
class DagShortestPaths(ClrsTask):
    """Find the parent of each node on a shortest path from a source in an acyclic graph."""

    name: ClassVar[str] = "clrs/dag_shortest_paths"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, SOURCE, WEIGHTS, ADJACENCY),
        outputs=(node("pi", "pointer"),),
        hints=(
            node("pi_h", "pointer"),
            node("d", "scalar"),
            node("mark", "mask"),
            node("topo_h", "pointer"),
            node("topo_head_h", "mask_one"),
            walk.COLOR,
            walk.BELOW,
            walk.AT,
            walk.SEEN,
            walk.TOP,
            graph("phase", "mask"),
        ),
    )
    machine: ClassVar[Machine] = Machine(
        # The source is seen as root and being discovered, the other nodes being pushed, and all
        # being finished; then each is at hand once.
        frames=lambda nodes: 3 * nodes + 1,
        start=_start,
        step=_step,
        done=_done,
        hints=_hints,
        outputs=lambda problem, registers: {"pi": registers.parent},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Weighted acyclic graphs of density 0.5, and a uniform source."""
        return _GRAPHS.draw_with_source(key, size, nodes, varied=self.varied)

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Weighted acyclic graphs of density 0.5, and a uniform source."""
        return _GRAPHS.replay_with_source(random, size)
