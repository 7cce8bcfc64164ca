"""Algorithms as state machines: one step a hint frame, for one example, under jit and vmap.

A machine shows its registers, then steps, until it is done; what it shows is a frame of hints. All
state has the static shapes of V nodes, of which the first `size` exist. Registers are written
through one-hot masks rather than by indexing: under vmap those are plain arithmetic, where an index
that differs from example to example is a scatter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, final

import jax
import jax.numpy as jnp

Probes: TypeAlias = Mapping[str, jax.Array]
"""Probe names to arrays, in the encoding of `probes`."""
Registers: TypeAlias = Any
"""What a machine keeps from step to step, a pytree of static shapes."""


class Problem(NamedTuple):
    """One example as a machine sees it."""

    inputs: Probes
    """The input probes, padded to V nodes."""
    size: jax.Array
    """The number of nodes that exist, int32."""

    @property
    def nodes(self) -> int:
        """V, padding included."""
        return self.inputs["pos"].shape[0]

    @property
    def index(self) -> jax.Array:
        """0 to V - 1, (V,) int32."""
        return jnp.arange(self.nodes, dtype=jnp.int32)

    @property
    def exists(self) -> jax.Array:
        """(V,) bool."""
        return self.index < self.size

    @property
    def dtype(self) -> Any:
        """Type of the real numbers."""
        return self.inputs["pos"].dtype


@final
@dataclass(frozen=True)
class Machine:
    """An algorithm, as pure functions of one problem.

    Args:
      frames: the most frames that V nodes can take, from V.
      start: the registers at the first frame.
      step: the registers at the next frame. It is also called once done, and then ignored.
      done: whether the frame of these registers is the last.
      hints: what a frame shows.
      outputs: the answer, from the registers of the last frame.
    """

    frames: Callable[[int], int]
    start: Callable[[Problem], Registers]
    step: Callable[[Problem, Registers], Registers]
    done: Callable[[Problem, Registers], jax.Array]
    hints: Callable[[Problem, Registers], Probes]
    outputs: Callable[[Problem, Registers], Probes]


class Trace(NamedTuple):
    """A finished run."""

    outputs: Probes
    hints: Probes
    """Time first; zero after the last frame. Empty where none were asked for."""
    length: jax.Array
    """Frames, int32. More than the frames there is room for where a run was cut."""


def trace(machine: Machine, problem: Problem, frames: int) -> Trace:
    """Run one example, with hints (T = frames, ...)."""

    def body(carry: Any, _: None) -> tuple[Any, Probes]:
        registers, length, over = carry
        shown = machine.hints(problem, registers)
        shown = {name: jnp.where(over, jnp.zeros_like(x), x) for name, x in shown.items()}
        return _advance(machine, problem, registers, length, over), shown

    carry = (machine.start(problem), jnp.int32(0), jnp.asarray(False))
    (registers, length, over), hints = jax.lax.scan(body, carry, length=frames)
    return Trace(machine.outputs(problem, registers), hints, length + ~over)


def trace_batch(
    machine: Machine,
    problems: Problem,
    frames: int,
    constants: tuple[str, ...] = (),
    room: int | None = None,
) -> Trace:
    """Run B examples, leaves of `problems` (B, ...), with hints (T = room, B, ...).

    The same as `trace` under vmap, but it ends with the last example rather than with the room.

    Args:
      machine: the algorithm.
      problems: the examples.
      frames: the most there can be.
      room: frames to keep; None for all.
      constants: hints that stay as they are; of these there is the first frame alone, (1, B, ...).
    """
    registers = jax.vmap(machine.start)(problems)
    batch = problems.size.shape[0]

    def show(problems: Problem, registers: Registers) -> dict[str, jax.Array]:
        shown = jax.vmap(machine.hints)(problems, registers)
        return {name: x for name, x in shown.items() if name not in constants}

    kept = frames if room is None else room
    blank = jax.tree.map(
        lambda x: jnp.zeros((kept, *x.shape), x.dtype), jax.eval_shape(show, problems, registers)
    )
    advance = jax.vmap(lambda *own: _advance(machine, *own))

    def body(carry: Any) -> Any:
        frame, (registers, length, over), hints = carry
        shown = show(problems, registers)
        shown = {name: select(over, jnp.zeros_like(x), x) for name, x in shown.items()}
        place = jax.lax.dynamic_update_index_in_dim  # needs no check of bounds, unlike .at
        hints = {name: place(hints[name], x, frame, 0) for name, x in shown.items()}
        return frame + 1, advance(problems, registers, length, over), hints

    def going(carry: Any) -> jax.Array:
        frame, (_, _, over), _ = carry
        return (frame < kept) & ~over.all()

    first = jax.vmap(machine.hints)(problems, registers)
    start = (registers, jnp.zeros(batch, jnp.int32), jnp.zeros(batch, bool))
    frame, state, hints = jax.lax.while_loop(going, body, (0, start, blank))
    if kept < frames:  # on to the answer, with nothing to keep

        def unseen(carry: Any) -> Any:
            frame, state = carry
            return frame + 1, advance(problems, *state)

        def unanswered(carry: Any) -> jax.Array:
            frame, (_, _, over) = carry
            return (frame < frames) & ~over.all()

        _, state = jax.lax.while_loop(unanswered, unseen, (frame, state))
    registers, length, over = state
    hints |= {name: first[name][None] for name in constants}
    return Trace(jax.vmap(machine.outputs)(problems, registers), hints, length + ~over)


def answer(machine: Machine, problem: Problem, frames: int) -> Trace:
    """Run one example without hints; under vmap it ends with the last example."""

    def going(carry: Any) -> jax.Array:
        _, length, over = carry
        return ~over & (length < frames)

    carry = (machine.start(problem), jnp.int32(0), jnp.asarray(False))
    registers, length, over = jax.lax.while_loop(
        going, lambda carry: _advance(machine, problem, *carry), carry
    )
    return Trace(machine.outputs(problem, registers), {}, length + ~over)


def _advance(
    machine: Machine, problem: Problem, registers: Registers, length: Any, over: Any
) -> tuple[Registers, jax.Array, jax.Array]:
    """Past one frame: the next registers, the frames so far, and whether that was the last."""
    length = length + ~over
    over = over | machine.done(problem, registers)
    moved = machine.step(problem, registers)
    return jax.tree.map(lambda old, new: jnp.where(over, old, new), registers, moved), length, over


def select(condition: jax.Array, yes: jax.Array, no: jax.Array) -> jax.Array:
    """`where` with the condition's axes in front, whatever follows in the arrays."""
    return jnp.where(
        condition.reshape(*condition.shape, *[1] * (no.ndim - condition.ndim)), yes, no
    )


# Registers. An index out of range reads 0 and writes nothing.


def at(index: jax.Array, length: int) -> jax.Array:
    """(length,) bool, true at `index` alone."""
    return jnp.arange(length, dtype=jnp.int32) == index


def one_hot(index: jax.Array, problem: Problem) -> jax.Array:
    """(V,) in the type of the real numbers, 1 at `index`: a `mask_one` probe."""
    return at(index, problem.nodes).astype(problem.dtype)


def read(array: jax.Array, index: jax.Array) -> jax.Array:
    """`array[index]` along the first axis, for a traced index.

    A gather, which needs no sum over the axis; it is writes that are slow by indexing.
    """
    last = array.shape[0] - 1
    value = array.at[jnp.clip(index, 0, last)].get(mode="promise_in_bounds")
    return jnp.where((index >= 0) & (index <= last), value, jnp.zeros_like(value))


def write(array: jax.Array, index: jax.Array, value: Any) -> jax.Array:
    """`array` with `value` at `index` along the first axis."""
    chosen = at(index, array.shape[0]).reshape(-1, *[1] * (array.ndim - 1))
    return jnp.where(chosen, jnp.asarray(value, array.dtype), array)


def exchange(array: jax.Array, one: jax.Array, two: jax.Array) -> jax.Array:
    """`array` with the values at two indices swapped."""
    first, second = read(array, one), read(array, two)
    return write(write(array, one, second), two, first)
