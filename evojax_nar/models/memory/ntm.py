"""Neural Turing machines: a controller with heads that move over the slots of a memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import positive_int
from evojax_nar.models.memory.addressing import content_weights, rewrite, sharpen, shift
from evojax_nar.models.unrolled import CellModel
from evojax_nar.types import Carry, TaskSpec

PLACE = 6
"""Numbers that place a head, besides its key: a strength, a gate, a sharpness and three moves."""


class NTMCarry(NamedTuple):
    """What a step hands to the next."""

    controller: Carry
    memory: jax.Array
    """(B, N, W)."""
    reads: jax.Array
    """(B, R, W), what the read heads have read."""
    read_weights: jax.Array
    """(B, R, N)."""
    write_weights: jax.Array
    """(B, R, N)."""


class FeedForward(nn.RNNCellBase):
    """A controller that remembers nothing: one layer of tanh units."""

    features: int

    @nn.compact
    def __call__(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        """The units (B, H), and the carry as it was."""
        return carry, nn.tanh(nn.Dense(self.features)(inputs))

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> Carry:
        """Nothing."""
        return ()

    @property
    def num_feature_axes(self) -> int:
        """Of an input: 1."""
        return 1


class NTMCell(nn.RNNCellBase):
    """One step: the controller, the writes, then the reads of the memory as it is after them."""

    controller: type[nn.RNNCellBase]
    hidden: int
    slots: int
    width: int
    heads: int
    outputs: int

    @nn.compact
    def __call__(self, carry: NTMCarry, inputs: jax.Array) -> tuple[NTMCarry, jax.Array]:
        """The next carry, and outputs (B, F of the outputs) of inputs (B, F)."""
        seen = jnp.concatenate([inputs, carry.reads.reshape(len(inputs), -1)], axis=-1)
        own = self.controller(self.hidden, name="controller")  # type: ignore[call-arg]
        controller, hidden = own(carry.controller, seen)

        said = self._emit("write_heads", hidden, 3 * self.width + PLACE)
        erase, add, aim = jnp.split(said, (self.width, 2 * self.width), axis=-1)
        write_weights = _moved(aim, carry.memory, carry.write_weights)
        memory = rewrite(carry.memory, write_weights, nn.sigmoid(erase), add)
        aim = self._emit("read_heads", hidden, self.width + PLACE)
        read_weights = _moved(aim, memory, carry.read_weights)
        reads = read_weights @ memory

        self.sow("shown", "read_weights", read_weights)
        self.sow("shown", "write_weights", write_weights)
        self.sow("shown", "erased", nn.sigmoid(erase))
        self.sow("shown", "added", add)
        known = jnp.concatenate([hidden, reads.reshape(len(inputs), -1)], axis=-1)
        outputs = nn.Dense(self.outputs, name="read_out")(known)
        return NTMCarry(controller, memory, reads, read_weights, write_weights), outputs

    def _emit(self, name: str, hidden: jax.Array, features: int) -> jax.Array:
        """What the controller gives each head, (B, R, features)."""
        flat = nn.Dense(self.heads * features, name=name)(hidden)
        return flat.reshape(len(hidden), self.heads, features)

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> NTMCarry:
        """A memory of zeros, with every head on slot 0."""
        batch = input_shape[:-1]
        own = self.controller(self.hidden, parent=None)  # type: ignore[call-arg]
        focus = jnp.zeros((*batch, self.heads, self.slots)).at[..., 0].set(1.0)
        return NTMCarry(
            controller=own.initialize_carry(rng, input_shape),
            memory=jnp.zeros((*batch, self.slots, self.width)),
            reads=jnp.zeros((*batch, self.heads, self.width)),
            read_weights=focus,
            write_weights=focus,
        )

    @property
    def num_feature_axes(self) -> int:
        """Of an input: 1."""
        return 1


def _moved(aim: jax.Array, memory: jax.Array, last: jax.Array) -> jax.Array:
    """The next weights (B, R, N) of heads whose last ones were `last` (B, R, N).

    The memory is (B, N, W). `aim` (B, R, W + PLACE) is, side by side, the key and what `PLACE`
    counts.
    """
    strength, gate, sharpness, *moves = jnp.moveaxis(aim[..., -PLACE:], -1, 0)
    found = content_weights(memory, aim[..., :-PLACE], nn.softplus(strength))
    gate = nn.sigmoid(gate)[..., None]
    mixed = gate * found + (1.0 - gate) * last
    moved = shift(mixed, nn.softmax(jnp.stack(moves, axis=-1)))
    return sharpen(moved, 1.0 + nn.softplus(sharpness))


@dataclass(frozen=True)
class _NTM(CellModel):
    """What the two share; they differ in the controller."""

    controller: ClassVar[type[nn.RNNCellBase]]
    hidden: int = 100
    slots: int = 128
    width: int = 20
    heads: int = 1

    def __post_init__(self) -> None:
        for argument in ("hidden", "slots", "width", "heads"):
            positive_int(argument, getattr(self, argument))

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(hidden=16, slots=8, width=6)

    def cell(self, spec: TaskSpec, time: int) -> nn.RNNCellBase:
        """The cell with the outputs of `spec`, for any T."""
        return NTMCell(
            self.controller, self.hidden, self.slots, self.width, self.heads, spec.output_features
        )


@final
@dataclass(frozen=True)
class NTM(_NTM):
    """A neural Turing machine with a feed-forward controller, for any length.

    At each step a layer of tanh units sees the inputs and what was read last. Each head then goes
    to slots that are like a key, or stays with its last weights, moves by a slot or none, and
    sharpens. All R write heads erase and add, then all R read heads read. Outputs are a dense layer
    of the units and the reads.

    The memory begins with zeros and every head on slot 0, so slots differ by place from the first
    step on, and nothing of the start is learned. `slots` is thus in the shape of no parameter:
    `dataclasses.replace(model, slots=256)` runs the same parameters with a larger memory, as long
    inputs need where each step takes a slot of its own.

    Gradients are steep at times, so train it with a limit on their global norm, such as
    `strategies.optimizer("adam", learning_rate=3e-3, clip=1.0)`.

    Shown by `inspect`: read_weights and write_weights (T, B, R, N); what each write head erases, in
    0 to 1, and adds, `erased` and `added` (T, B, R, W).

    Source: Graves et al. 2014, "Neural Turing Machines", arXiv:1410.5401. It gives 17,162
    parameters for copy with these defaults, where its equations ask for 13,260 with 9 inputs and 8
    outputs: 22.7 % fewer. What the others are is not known.

    Args:
      hidden: units H of the controller.
      slots: N of the memory.
      width: W of each slot.
      heads: R, the number of read heads, and of write heads.
    """

    name: ClassVar[str] = "ntm"
    controller: ClassVar[type[nn.RNNCellBase]] = FeedForward


@final
@dataclass(frozen=True)
class NTMLSTM(_NTM):
    """A neural Turing machine whose controller is an LSTM, for any length.

    All else is as in `NTM`. The paper gives 67,561 parameters for copy with these defaults, where
    its equations ask for 62,260 with 9 inputs and 8 outputs: 7.8 % fewer.
    Source: Graves et al. 2014, arXiv:1410.5401.

    Args:
      hidden: units H of the controller.
      slots: N of the memory.
      width: W of each slot.
      heads: R, the number of read heads, and of write heads.
    """

    name: ClassVar[str] = "ntm_lstm"
    controller: ClassVar[type[nn.RNNCellBase]] = nn.OptimizedLSTMCell
