"""Breadth-first search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.graph_inputs import ADJACENCY, SOURCE, WEIGHTS, Undirected
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem
from evojax_nar.tasks.clrs.probes import POS, Specification, node
from evojax_nar.tasks.clrs.reading import identity
from evojax_nar.types import Key

_GRAPHS = Undirected()


class _Search(NamedTuple):
    reached: jax.Array
    parent: jax.Array


def _start(problem: Problem) -> _Search:
    return _Search(problem.inputs["s"] > 0, identity(problem))


def _step(problem: Problem, registers: _Search) -> _Search:
    nodes = problem.nodes
    near = (problem.inputs["A"] > 0) & registers.reached[:, None]
    by = jnp.where(near, problem.index[:, None], nodes).min(axis=0)
    new = (by < nodes) & ~registers.reached
    return _Search(registers.reached | new, jnp.where(new, by, registers.parent))


def _done(problem: Problem, registers: _Search) -> jax.Array:
    return (_step(problem, registers).reached == registers.reached).all()


def _hints(problem: Problem, registers: _Search) -> Probes:
    return {"reach_h": registers.reached.astype(problem.dtype), "pi_h": registers.parent}


@final
@dataclass(frozen=True)
class BreadthFirstSearch(ClrsTask):
    """Find the parent of each node in a breadth-first search of an undirected graph."""

    name: ClassVar[str] = "clrs/bfs"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, SOURCE, WEIGHTS, ADJACENCY),
        outputs=(node("pi", "pointer"),),
        hints=(node("reach_h", "mask"), node("pi_h", "pointer")),
    )
    machine: ClassVar[Machine] = Machine(
        # A frame is a distance from the source, and no distance is left out.
        frames=lambda nodes: nodes,
        start=_start,
        step=_step,
        done=_done,
        hints=_hints,
        outputs=lambda problem, registers: {"pi": registers.parent},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Undirected Erdos-Renyi graphs of density 0.5, and a uniform source."""
        return _GRAPHS.draw_with_source(key, size, nodes, varied=self.varied)

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Undirected Erdos-Renyi graphs of density 0.5, and a uniform source."""
        return _GRAPHS.replay_with_source(random, size)
