"""The batch of an algorithm, written as a state machine, on given inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import InputError
from evojax_nar.tasks.clrs.machine import Machine, Problem, Trace, answer, trace_batch
from evojax_nar.types import Batch, Graph


def run_batch(
    machine: Machine, inputs: Mapping[str, jax.Array], sizes: jax.Array, *, hints: bool
) -> Batch:
    """The answers of a machine to B problems, and what it shows on its way.

    Args:
      machine: the algorithm, on V nodes.
      inputs: its input probes with B in front, `pos` (B, V) among them, zero past the sizes.
      sizes: (B,) int32, the nodes that exist.
      hints: whether all frames are kept; else the first one, which the inputs decide.
    """
    problems = Problem(dict(inputs), sizes)
    nodes = inputs["pos"].shape[1]
    frames = machine.frames(nodes)
    if hints:
        run: Trace = trace_batch(machine, problems, frames)
    else:
        run = jax.vmap(lambda own: answer(machine, own, frames))(problems)
        first = jax.vmap(lambda own: machine.hints(own, machine.start(own)))(problems)
        run = run._replace(hints={name: frame[None] for name, frame in first.items()})
    # A model takes one step from each frame to the next, and one where there is a single frame.
    steps = jnp.maximum(run.length - 1, 1)
    running = jnp.arange(max(frames - 1, 1))[:, None] < steps
    mask = jnp.arange(nodes) < sizes[:, None]
    graph = Graph(dict(inputs), mask, running, dict(run.hints))
    return Batch(graph, dict(run.outputs), mask, sizes)


def at_least(argument: str, sizes: Any, least: int) -> None:
    """Sizes that a task can have, as far as they are known on the host.

    Raises:
      InputError: where one is smaller than `least`.
    """
    if isinstance(sizes, jax.Array):
        return
    for number in np.ravel(np.asarray(sizes)).tolist():
        if number < least:
            raise InputError(f"{argument} holds {number}; give sizes of at least {least}.")
