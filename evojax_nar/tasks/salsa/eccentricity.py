"""Eccentricity: a flood from a source, and its echo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.graph_inputs import ADJACENCY, SOURCE, WEIGHTS
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, read
from evojax_nar.tasks.clrs.probes import POS, Specification, graph, node
from evojax_nar.tasks.clrs.reading import source
from evojax_nar.tasks.salsa.base import SalsaTask, uniform_source
from evojax_nar.types import Key


class _Flood(NamedTuple):
    visited: jax.Array
    """(V,) bool."""
    depth: jax.Array
    """(V,) int32: the distance from the source of nodes that are visited, else 0."""
    answered: jax.Array
    """(V,) bool: nodes that know the largest depth of all that the flood has reached past them."""
    echo: jax.Array
    """(V,) int32: that depth, else 0."""


def _start(problem: Problem) -> _Flood:
    never, none = jnp.zeros(problem.nodes, bool), jnp.zeros(problem.nodes, jnp.int32)
    return _Flood(problem.inputs["s"] > 0, none, never, none)


def _step(problem: Problem, registers: _Flood) -> _Flood:
    visited, depth, answered, echo = registers
    linked = problem.inputs["A"] != 0
    near = linked & visited[:, None]
    new = near.any(axis=0) & ~visited
    reached = jnp.where(near, depth[:, None] + 1, 0).max(axis=0)
    # A node waits for its neighbours to be visited, and for those further out to answer.
    outer = depth > depth[:, None]
    waiting = (linked & (~visited | (outer & ~answered))).any(axis=1)
    ready = visited & ~answered & ~waiting
    largest = jnp.maximum(depth, jnp.where(linked & outer, echo, 0).max(axis=1))
    return _Flood(
        visited=visited | new,
        depth=jnp.where(new, reached, depth),
        answered=answered | ready,
        echo=jnp.where(ready, largest, echo),
    )


def _result(problem: Problem, registers: _Flood) -> jax.Array:
    return read(registers.echo, source(problem)).astype(problem.dtype)


def _hints(problem: Problem, registers: _Flood) -> Probes:
    dtype = problem.dtype
    return {
        "visited_h": registers.visited.astype(dtype),
        "floodstate_h": registers.depth.astype(dtype),
        "leaf_h": registers.answered.astype(dtype),
        "echostate_h": registers.echo.astype(dtype),
        "eccentricity_h": _result(problem, registers),
    }


@final
@dataclass(frozen=True)
class Eccentricity(SalsaTask):
    """Find the largest distance, in edges, of any node from a source.

    A flood runs from the source, a distance a frame. Where it can go no further it returns as an
    echo: a node answers with the largest depth that it has heard of once all neighbours that are
    further out have answered. Output: `eccentricity`, one number of the graph. Hints are which
    nodes are visited and which have answered, their depths and echoes. The benchmark's flood also
    shows the edges that wait for an answer, by frame; they follow from the depths, and are omitted.
    """

    name: ClassVar[str] = "salsa/eccentricity"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, SOURCE, WEIGHTS, ADJACENCY),
        outputs=(graph("eccentricity", "scalar"),),
        hints=(
            node("visited_h", "mask"),
            node("floodstate_h", "scalar"),
            node("leaf_h", "mask"),
            node("echostate_h", "scalar"),
            graph("eccentricity_h", "scalar"),
        ),
    )
    machine: ClassVar[Machine] = Machine(
        # With e the eccentricity, at most V - 1: the flood arrives after e steps, the node that it
        # reached last answers in the next one, and its answer takes e steps to the source.
        frames=lambda nodes: 2 * nodes,
        start=_start,
        step=_step,
        done=lambda problem, registers: read(registers.answered, source(problem)),
        hints=_hints,
        outputs=lambda problem, registers: {"eccentricity": _result(problem, registers)},
    )

    def draw_other(self, key: Key, edges: jax.Array, exists: jax.Array) -> dict[str, jax.Array]:
        """The edges, and a uniform source."""
        return {"A": edges, "s": uniform_source(key, exists)}
