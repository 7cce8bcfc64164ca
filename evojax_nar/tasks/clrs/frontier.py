"""The search that Prim's and Dijkstra's algorithms share: the nearest waiting node comes next."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.machine import Probes, Problem, one_hot, read
from evojax_nar.tasks.clrs.reading import first, identity, source


class Frontier(NamedTuple):
    """What has been reached."""

    parent: jax.Array
    value: jax.Array
    """(V,): by which waiting nodes are compared, 0 where a node has not been reached."""
    done: jax.Array
    """(V,) bool: nodes whose value and parent are final."""
    waiting: jax.Array
    """(V,) bool: nodes that have been reached and are not done."""
    at: jax.Array


def start(problem: Problem) -> Frontier:
    """The source alone is waiting."""
    return Frontier(
        parent=identity(problem),
        value=jnp.zeros(problem.nodes, problem.dtype),
        done=jnp.zeros(problem.nodes, bool),
        waiting=problem.inputs["s"] > 0,
        at=source(problem),
    )


def step(
    problem: Problem,
    registers: Frontier,
    offered: Callable[[jax.Array, jax.Array], jax.Array],
) -> Frontier:
    """The nearest waiting node is done, and offers its neighbours to be reached from there.

    Args:
      problem: the graph.
      registers: what has been reached.
      offered: the values that it offers, (V,), from its own, and the weights of its edges, (V,).
    """
    value, waiting = registers.value, registers.waiting
    least = jnp.where(waiting, value, jnp.inf).min()
    at = first(waiting & (value == least))
    here = problem.index == at
    done, waiting = registers.done | here, waiting & ~here
    weights = read(problem.inputs["A"], at)
    offer = offered(least, weights)
    better = (weights != 0) & ~done & (~waiting | (offer < value))
    return Frontier(
        parent=jnp.where(better, at, registers.parent),
        value=jnp.where(better, offer, value),
        done=done,
        waiting=waiting | better,
        at=at,
    )


def done(problem: Problem, registers: Frontier) -> jax.Array:
    """Whether nothing is waiting."""
    return ~registers.waiting.any()


def show(value: str, problem: Problem, registers: Frontier) -> Probes:
    """The hints, with a name for the value."""
    return {
        "pi_h": registers.parent,
        value: registers.value,
        "mark": registers.done.astype(problem.dtype),
        "in_queue": registers.waiting.astype(problem.dtype),
        "u": one_hot(registers.at, problem),
    }


def frames(nodes: int) -> int:
    """The first frame, and one for each node as it is done."""
    return nodes + 1
