"""A recurrent network with tapes, along which its heads step and jump by degrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import finite, positive_int
from evojax_nar.models.unrolled import CellModel
from evojax_nar.types import Carry, Sequence, TaskSpec

ACTIONS = ("stay", "left", "right", "jump left", "jump right")
"""Where a head goes after it has written, in the order in which the parameters have them."""

_BASE = 256
"""Whole numbers to here are exact in every floating type, bfloat16 among them."""


@final
@dataclass(frozen=True)
class TapeRNN(CellModel):
    """A plain recurrent network with soft tapes, for any length.

    At each step a controller reads the input and the cells under the heads, h' =
    tanh(W [x, cells] + U h + b). From its new state h' come the outputs and, for each tape, what is
    written over the cell under the head, and then how much of each move is made, by softmax: stay,
    a cell to the left or right, or a jump to the left or right by the length l. The tape moves
    under the head, which stays where it is: the new tape is the mixture of the tape so moved.

    A tape is a ring. With `tape=None` it has as many cells as the example has steps, so that no
    padding changes an output. The length l is read off the inputs of each example: it is the number
    of steps before the run of equal inputs with which the example ends, such as the empty steps
    at which an answer is read; 0, and the jumps stay, where all inputs are equal.

    A jump takes a step, in which a head that walks along the tape would have gone a cell further.
    After l steps to the right and a jump by l it is thus back where it began, but too late: the
    first cell was to be read at the step of the jump. No other moves make that up, so what must be
    answered in its order from the first empty step on is out of reach with `lag=0`, as in the
    paper, where further empty steps may come before the answer; with `lag=1` it is not.

    Shows: "actions" (T, B, tapes, 5) in the order of `ACTIONS`, and "cell" (T, B, tapes,
    cell_width) as it is read.

    Source: Deletang et al. 2023, arXiv:2207.02098. There the units of the controller are rectified
    ones, and here tanh; what is written comes there from two further layers of 64, and here is
    linear in the new state; and there a tape has a fixed number of cells, as with `tape`.

    Args:
      hidden: units H of the controller.
      cell_width: numbers in a cell of a tape.
      tape: cells of a tape; None for as many as an example has steps.
      tapes: how many there are.
      lag: by how much a jump is shorter than l, 0 in the paper.
      sharpness: what the scores of actions are multiplied by before the softmax, 1 in the paper;
        the fresh weights of the scores are divided by it. Actions that are nearly hard leave no
        loss at the sizes trained on, and what is left over of the others blurs the tape at larger
        ones. A gradient with Adam makes them harder at 5; evolution does so by itself at 1.
    """

    name: ClassVar[str] = "tape_rnn"
    hidden: int = 64
    cell_width: int = 8
    tape: int | None = None
    tapes: int = 1
    lag: int = 0
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        for argument in ("hidden", "cell_width", "tapes"):
            positive_int(argument, getattr(self, argument))
        if self.tape is not None:
            positive_int("tape", self.tape)
        positive_int("lag", self.lag, least=0)
        finite("sharpness", self.sharpness, above=0.0)

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(hidden=12, cell_width=2)

    def cell(self, spec: TaskSpec, time: int) -> nn.RNNCellBase:
        """The cell with the outputs of `spec`, and with tapes that do for `time` steps."""
        cells = time if self.tape is None else self.tape
        sizes = self.hidden, self.cell_width, cells, self.tapes
        return TapeCell(*sizes, float(self.sharpness), spec.output_features)

    def start(self, cell: nn.RNNCellBase, inputs: Sequence) -> Carry:
        """Empty tapes, with the ring and the jump of each example."""
        state, tape, _ = super().start(cell, inputs)
        steps = inputs.mask.sum(axis=1)
        ring = steps if self.tape is None else jnp.full_like(steps, self.tape)
        ring = jnp.maximum(ring, 1)
        jump = jnp.maximum(input_length(inputs) - self.lag, 0) % ring
        return state, tape, digits(jnp.stack([ring, jump], axis=1))


class TapeCell(nn.RNNCellBase):
    """One step; the carry is the state (B, H), the tapes (B, cells, tapes, width), the head's cell
    first, and the ring and jump of each example, as digits (B, 2, 2).
    """

    hidden: int
    width: int
    cells: int
    tapes: int
    sharpness: float
    outputs: int

    @nn.compact
    def __call__(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        """The next carry, and outputs (B, F of the outputs), of inputs (B, F)."""
        state, tape, sizes = carry
        batch, under = len(inputs), tape[:, 0]
        self.sow("shown", "cell", under)
        read = jnp.concatenate([inputs, under.reshape(batch, -1)], axis=-1)
        state, _ = nn.SimpleCell(self.hidden, name="controller")(state, read)
        # Actions begin as soft as those without sharpness, and harden sooner.
        small = nn.initializers.variance_scaling(self.sharpness**-2, "fan_in", "truncated_normal")
        layer = nn.Dense(self.tapes * len(ACTIONS), name="scores", kernel_init=small)
        scores = self.sharpness * layer(state).reshape(batch, self.tapes, len(ACTIONS))
        actions = jax.nn.softmax(scores)
        self.sow("shown", "actions", actions)
        value = nn.Dense(self.tapes * self.width, name="value")(state).reshape(under.shape)
        outputs = nn.Dense(self.outputs, name="outputs")(state)
        ring, jump = jnp.moveaxis(number(sizes), 1, 0)
        written = jnp.concatenate([value[:, None], tape[:, 1:]], axis=1)
        # For a gradient the tape alone is kept of each step, not what it was mixed from.
        move = jax.checkpoint(moved, prevent_cse=False)
        return (state, move(written, actions, ring, jump), sizes), outputs

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> Carry:
        """Zeros: empty tapes of full size, and jumps that stay."""
        batch = input_shape[:-1]
        tape = jnp.zeros((*batch, self.cells, self.tapes, self.width))
        sizes = jnp.zeros((*batch, 2), jnp.int32).at[..., 0].set(self.cells)
        return jnp.zeros((*batch, self.hidden)), tape, digits(sizes)

    @property
    def num_feature_axes(self) -> int:
        """One: the inputs of a step are (B, F)."""
        return 1


def input_length(inputs: Sequence) -> jax.Array:
    """The steps of each example before the run of equal inputs with which it ends, (B,) int32."""
    values, mask = inputs
    step = jnp.arange(mask.shape[1])
    last = jnp.maximum(mask.sum(axis=1) - 1, 0)
    ending = jnp.take_along_axis(values, last[:, None, None], axis=1)
    differs = (values != ending).any(axis=-1) & mask
    return jnp.where(differs, step + 1, 0).max(axis=1)


def moved(tape: jax.Array, actions: jax.Array, ring: jax.Array, jump: jax.Array) -> jax.Array:
    """The mixture of `tape` (B, cells, tapes, width) as it lies after each of the moves.

    Args:
      tape: the cell under the head first. Only the first `ring` cells are a tape; what is in the
        others is never read.
      actions: (B, tapes, 5), which sum to 1.
      ring: (B,) int32, from 1 to cells.
      jump: (B,) int32, from 0 to ring - 1.
    """
    stay, left, right, jump_left, jump_right = jnp.moveaxis(actions[:, None, ..., None], -2, 0)
    place = jnp.arange(tape.shape[1])[None]
    ring, jump = ring[:, None], jump[:, None]
    after = jnp.where(place == ring - 1, 0, place + 1)
    before = jnp.where(place == 0, ring, place) - 1
    far_after = jnp.where(place + jump < ring, place + jump, place + jump - ring)
    far_before = jnp.where(place < jump, place + ring, place) - jump
    return (
        stay * tape
        + left * rows(tape, before)
        + right * rows(tape, after)
        + jump_left * rows(tape, far_before)
        + jump_right * rows(tape, far_after)
    )


def rows(tape: jax.Array, place: jax.Array) -> jax.Array:
    """The cells of `tape` (B, cells, tapes, width) at `place` (B, cells)."""
    return jnp.take_along_axis(tape, place[..., None, None], axis=1, mode="clip")


def digits(whole: jax.Array) -> jax.Array:
    """Whole numbers (...) below 65,536 as two digits (..., 2), since a carry takes the type of the
    inputs, in which they themselves may not be exact.
    """
    return jnp.stack([whole // _BASE, whole % _BASE], axis=-1)


def number(digit: jax.Array) -> jax.Array:
    """The whole numbers (...) int32 of digits (..., 2)."""
    digit = digit.astype(jnp.int32)
    return digit[..., 0] * _BASE + digit[..., 1]
