"""The batch of an algorithm, written as a state machine, on given inputs."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.machine import Machine, Problem, Trace, answer, trace_batch
from evojax_nar.types import Batch, Graph


def run_batch(
    machine: Machine,
    inputs: Mapping[str, jax.Array],
    sizes: jax.Array,
    *,
    hints: bool,
    exist: jax.Array | None = None,
    constants: tuple[str, ...] = (),
    max_frames: int | None = None,
) -> Batch:
    """The answers of a machine to B problems, and what it shows on its way.

    Args:
      machine: the algorithm, on V nodes.
      inputs: its input probes with B in front, `pos` (B, V) among them, zero past the sizes.
      sizes: (B,) int32, as the batch gives them.
      hints: whether all frames are kept; else the first one, which the inputs decide.
      exist: (B,) int32, the nodes that exist; None where they are the sizes.
      constants: hints that never change, which are given with the inputs instead.
      max_frames: room for no more frames than these; None for the most there can be.
    """
    exist = sizes if exist is None else exist
    problems = Problem(dict(inputs), exist)
    nodes = inputs["pos"].shape[1]
    frames = machine.frames(nodes)
    room = frames if max_frames is None else min(frames, max_frames)
    if hints:
        run: Trace = trace_batch(machine, problems, frames, constants, room)
    else:
        run = jax.vmap(lambda own: answer(machine, own, frames))(problems)
        first = jax.vmap(lambda own: machine.hints(own, machine.start(own)))(problems)
        run = run._replace(hints={name: frame[None] for name, frame in first.items()})
    # A model takes one step from each frame to the next, and one where there is a single frame.
    steps = jnp.maximum(run.length - 1, 1)
    running = jnp.arange(max(room - 1, 1))[:, None] < steps
    mask = jnp.arange(nodes) < exist[:, None]
    given = {**inputs, **{name: run.hints[name][0] for name in constants}}
    shown = {name: frames for name, frames in run.hints.items() if name not in constants}
    return Batch(Graph(given, mask, running, shown), dict(run.outputs), mask, sizes)
