"""Maximal independent sets, found in parallel with the help of random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.graph_inputs import ADJACENCY
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem
from evojax_nar.tasks.clrs.probes import POS, Specification, graph, node
from evojax_nar.tasks.salsa.base import SalsaTask
from evojax_nar.types import Key


class _Rounds(NamedTuple):
    alive: jax.Array
    """(V,) bool: nodes of which nothing is decided."""
    chosen: jax.Array
    """(V,) bool: nodes of the set."""
    leaving: jax.Array
    """Whether the next step takes away what is decided, bool; else it chooses."""


def _start(problem: Problem) -> _Rounds:
    return _Rounds(problem.exists, jnp.zeros(problem.nodes, bool), jnp.asarray(False))


def _step(problem: Problem, registers: _Rounds) -> _Rounds:
    alive, chosen, leaving = registers
    number, index = problem.inputs["randomness"], problem.index
    linked = (problem.inputs["adj"] > 0) & (index[:, None] != index)
    # Of equal numbers that of the later node counts as the smaller one.
    smaller = (number < number[:, None]) | ((number == number[:, None]) & (index > index[:, None]))
    beaten = (linked & smaller & alive).any(axis=1)
    beside = (linked & chosen).any(axis=1)
    return _Rounds(
        alive=jnp.where(leaving, alive & ~chosen & ~beside, alive),
        chosen=jnp.where(leaving, chosen, chosen | (alive & ~beaten)),
        leaving=~leaving,
    )


def _hints(problem: Problem, registers: _Rounds) -> Probes:
    return {
        "alive_h": registers.alive.astype(problem.dtype),
        "inmis_h": registers.chosen.astype(problem.dtype),
        "phase_h": registers.leaving.astype(problem.dtype),
    }


@final
@dataclass(frozen=True)
class FastIndependentSet(SalsaTask):
    """Find the maximal independent set that random numbers of the nodes decide, in a few rounds.

    In a round each node whose number is smaller than those of all its neighbours joins the set;
    then it leaves with its neighbours, until no node is left. A frame is one or the other. Inputs:
    `pos`, `adj` and `randomness`, uniform in [0, 1). Output: `inmis`, the nodes of the set.

    Two things are not as in the benchmark. It draws new numbers for each round and hands them to
    models step by step; here a node keeps its number, so that the set is the one that is found by
    taking nodes one by one, the smallest number first, wherever no neighbour has been taken. And
    its hint of the edges that are left is omitted, since the nodes that are left have them.
    Sources: Metivier et al. 2011, "An optimal bit complexity randomized distributed MIS algorithm";
    with one number a node Blelloch et al. 2012, arXiv:1202.3205.
    """

    name: ClassVar[str] = "salsa/fast_mis"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, node("randomness", "scalar"), ADJACENCY),
        outputs=(node("inmis", "mask"),),
        hints=(node("alive_h", "mask"), node("inmis_h", "mask"), graph("phase_h", "mask")),
    )
    machine: ClassVar[Machine] = Machine(
        # A round takes two frames. Where it takes away one node alone, that one has no neighbours
        # left, and no other node is left either, whose part of the graph would have lost one too:
        # each round but the last takes at least two nodes.
        frames=lambda nodes: 1 + 2 * ((nodes + 1) // 2),
        start=_start,
        step=_step,
        done=lambda problem, registers: ~registers.alive.any(),
        hints=_hints,
        outputs=lambda problem, registers: {"inmis": registers.chosen.astype(problem.dtype)},
    )

    def draw_other(self, key: Key, edges: jax.Array, exists: jax.Array) -> dict[str, jax.Array]:
        """A uniform number for each node."""
        return {"randomness": jnp.where(exists, jax.random.uniform(key, exists.shape), 0.0)}
