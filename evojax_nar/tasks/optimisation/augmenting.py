"""Maximum flow by shortest augmenting paths, as a state machine: a frame a path.

Source: Edmonds and Karp 1972, "Theoretical improvements in algorithmic efficiency for network flow
problems". Of the shortest paths the one is taken that a breadth-first search finds whose nodes have
the first of their possible parents in the order of the input.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, read
from evojax_nar.tasks.clrs.reading import first, identity


class Flow(NamedTuple):
    """A flow, and where the source can still send more."""

    net: jax.Array
    """(V, V): what is sent from one to the other, less what is sent back; antisymmetric."""
    reached: jax.Array
    """(V,) bool: nodes to which the source can still send."""
    parent: jax.Array
    """(V,) int32: the node before on the way from the source, else the node itself."""


def edmonds_karp(levels: int) -> Machine:
    """The machine for capacities that are multiples of 1 / levels and at most 1.

    Each path carries a multiple of 1 / levels and at least that, and no more flow leaves the source
    than V - 1 edges hold: after levels * (V - 1) paths there is no further one.
    """
    return Machine(
        frames=lambda nodes: levels * (nodes - 1) + 1,
        start=lambda problem: _search(problem, jnp.zeros_like(problem.inputs["A"])),
        step=_send,
        done=lambda problem, registers: ~read(registers.reached, _sink(problem)),
        hints=_hints,
        outputs=lambda problem, registers: {
            "flow": jnp.maximum(registers.net, 0),
            "cut": registers.reached.astype(problem.dtype),
        },
    )


def _hints(problem: Problem, registers: Flow) -> Probes:
    return {
        "flow_h": jnp.maximum(registers.net, 0),
        "reach_h": registers.reached.astype(problem.dtype),
        "pi_h": registers.parent,
    }


def _sink(problem: Problem) -> jax.Array:
    return first(problem.inputs["t"] > 0)


def _search(problem: Problem, net: jax.Array) -> Flow:
    """Breadth first, to every node that can be reached: at most V rounds, as each finds a node."""
    spare = problem.inputs["A"] - net > 0

    def look(registers: tuple[jax.Array, jax.Array, jax.Array]) -> tuple:
        reached, parent, _ = registers
        usable = spare & reached[:, None]
        by = jnp.where(usable, problem.index[:, None], problem.nodes).min(axis=0)
        new = (by < problem.nodes) & ~reached
        return reached | new, jnp.where(new, by, parent), new.any()

    begin = (problem.inputs["s"] > 0, identity(problem), jnp.asarray(True))
    reached, parent, _ = jax.lax.while_loop(lambda registers: registers[2], look, begin)
    return Flow(net, reached, parent)


def _send(problem: Problem, registers: Flow) -> Flow:
    """Send as much as the found path holds, and search again."""
    net, reached, parent = registers
    sink = _sink(problem)

    def back(walked: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        at, path = walked
        return read(parent, at), path | (problem.index == at)

    # Parents were all found before their children, so that at most V nodes are passed.
    start = (jnp.where(read(reached, sink), sink, 0), jnp.zeros(problem.nodes, bool))
    at_source = jnp.where(read(reached, sink), first(problem.inputs["s"] > 0), 0)
    _, path = jax.lax.while_loop(lambda walked: walked[0] != at_source, back, start)
    edges = path & (problem.index[:, None] == parent)
    amount = jnp.where(edges, problem.inputs["A"] - net, jnp.inf).min()
    sent = jnp.where(edges, amount, 0)  # nothing where there is no path, and the minimum is inf
    return _search(problem, net + sent - sent.T)
