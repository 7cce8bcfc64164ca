"""The differentiable neural computer: a memory that knows what is free and what came after what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import positive_int
from evojax_nar.models.memory.addressing import (
    allocation,
    content_weights,
    next_links,
    next_precedence,
    next_usage,
    rewrite,
)
from evojax_nar.models.unrolled import CellModel
from evojax_nar.types import Carry, TaskSpec

LIMIT = 20.0
"""Where the controller and the outputs are cut off, in both directions."""


class DNCCarry(NamedTuple):
    """What a step hands to the next."""

    controller: Carry
    memory: jax.Array
    """(B, N, W)."""
    usage: jax.Array
    """(B, N)."""
    links: jax.Array
    """(B, N, N)."""
    precedence: jax.Array
    """(B, N)."""
    reads: jax.Array
    """(B, R, W), what the read heads have read."""
    read_weights: jax.Array
    """(B, R, N)."""
    write_weights: jax.Array
    """(B, N)."""


class DNCCell(nn.RNNCellBase):
    """One step: the controller, the write, then the reads of the memory as it is after it."""

    hidden: int
    slots: int
    width: int
    read_heads: int
    outputs: int

    @nn.compact
    def __call__(self, carry: DNCCarry, inputs: jax.Array) -> tuple[DNCCarry, jax.Array]:
        """The next carry, and outputs (B, F of the outputs) of inputs (B, F)."""
        seen = jnp.concatenate([inputs, carry.reads.reshape(len(inputs), -1)], axis=-1)
        controller, hidden = nn.OptimizedLSTMCell(self.hidden, name="controller")(
            carry.controller, seen
        )
        controller, hidden = jax.tree.map(_limited, (controller, hidden))

        width, heads = self.width, self.read_heads
        said = nn.Dense(3 * width + 3, name="write_head")(hidden)
        erase, add, aim = jnp.split(said, (width, 2 * width), axis=-1)
        said = nn.Dense(heads * (width + 5), name="read_heads")(hidden)
        said = said.reshape(len(inputs), heads, width + 5)
        free = nn.sigmoid(said[..., -1])

        usage = next_usage(carry.usage, carry.write_weights, carry.read_weights, free)
        write_weights = _write_weights(aim, carry.memory, allocation(usage))
        memory = rewrite(
            carry.memory, write_weights[:, None], nn.sigmoid(erase)[:, None], add[:, None]
        )
        links = next_links(carry.links, carry.precedence, write_weights)
        precedence = next_precedence(carry.precedence, write_weights)
        read_weights = _read_weights(said[..., :-1], memory, links, carry.read_weights)
        reads = read_weights @ memory

        shown = {
            "read_weights": read_weights,
            "write_weights": write_weights[:, None],
            "usage": usage,
            "free": free,
            "allocation": nn.sigmoid(aim[..., -2:-1]),
            "write": nn.sigmoid(aim[..., -1:]),
        }
        for name, array in shown.items():
            self.sow("shown", name, array)
        known = jnp.concatenate([hidden, reads.reshape(len(inputs), -1)], axis=-1)
        outputs = _limited(nn.Dense(self.outputs, name="read_out")(known))
        return (
            DNCCarry(
                controller, memory, usage, links, precedence, reads, read_weights, write_weights
            ),
            outputs,
        )

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> DNCCarry:
        """All zeros: an empty memory, in which nothing is in use or linked."""
        batch, slots = input_shape[:-1], self.slots
        own = nn.OptimizedLSTMCell(self.hidden, parent=None)
        return DNCCarry(
            controller=own.initialize_carry(rng, input_shape),
            memory=jnp.zeros((*batch, slots, self.width)),
            usage=jnp.zeros((*batch, slots)),
            links=jnp.zeros((*batch, slots, slots)),
            precedence=jnp.zeros((*batch, slots)),
            reads=jnp.zeros((*batch, self.read_heads, self.width)),
            read_weights=jnp.zeros((*batch, self.read_heads, slots)),
            write_weights=jnp.zeros((*batch, slots)),
        )

    @property
    def num_feature_axes(self) -> int:
        """Of an input: 1."""
        return 1


def _write_weights(aim: jax.Array, memory: jax.Array, vacant: jax.Array) -> jax.Array:
    """The weights (B, N) of the write: of the `vacant` slots (B, N), of ones like a key, or none.

    `aim` (B, W + 3) is, side by side, the key, its strength, and the gates of allocation and write.
    """
    strength, allocate, write = jnp.split(aim[..., -3:], 3, axis=-1)
    found = content_weights(memory, aim[:, None, :-3], nn.softplus(strength))[:, 0]
    allocate = nn.sigmoid(allocate)
    return nn.sigmoid(write) * (allocate * vacant + (1.0 - allocate) * found)


def _read_weights(
    aim: jax.Array, memory: jax.Array, links: jax.Array, last: jax.Array
) -> jax.Array:
    """The weights (B, R, N) of the reads: of what was written before or after that read last
    (B, R, N), or is like a key.

    `aim` (B, R, W + 4) is, side by side, the key, its strength, and the three modes.
    """
    found = content_weights(memory, aim[..., :-4], nn.softplus(aim[..., -4]))
    # Row i, column j of the links: i was written after j.
    ways = jnp.stack([last @ links, last @ jnp.swapaxes(links, -1, -2), found], axis=-1)
    return (nn.softmax(aim[..., -3:])[..., None, :] * ways).sum(axis=-1)


def _limited(values: jax.Array) -> jax.Array:
    return jnp.clip(values, -LIMIT, LIMIT)


@final
@dataclass(frozen=True)
class DNC(CellModel):
    """A differentiable neural computer: an LSTM that reads and writes an external memory.

    At each step the LSTM sees the inputs and what was read last. One head writes, to slots that are
    free or that are like a key; slots are free where they were never written, or where a read head
    freed what it had read. Each of the R read heads mixes three ways: the slot written before the
    one that it read last, the one written after it, and those like a key. Outputs are a dense layer
    of the LSTM and the reads. All of it begins at zero. The LSTM, its cells and the outputs are cut
    off at 20 in both directions. For any length; the memory of the links is slots**2 an example.

    `slots` is in the shape of no parameter: `dataclasses.replace(model, slots=64)` runs the same
    parameters with a larger memory. Gradients are steep at times, so train it with a limit on their
    global norm, such as `strategies.optimizer("adam", learning_rate=3e-3, clip=5.0)`.

    Shown by `inspect`: read_weights (T, B, R, N), write_weights (T, B, 1, N), usage (T, B, N), and
    the gates in 0 to 1: free (T, B, R), allocation (T, B, 1) and write (T, B, 1).

    Source: Graves et al. 2016, "Hybrid computing using a neural network with dynamic external
    memory", doi:10.1038/nature20101, methods. The defaults are those of the released repeat copy.

    Args:
      hidden: units H of the LSTM.
      slots: N of the memory.
      width: W of each slot.
      read_heads: R.
    """

    name: ClassVar[str] = "dnc"
    hidden: int = 64
    slots: int = 16
    width: int = 16
    read_heads: int = 4

    def __post_init__(self) -> None:
        for argument in ("hidden", "slots", "width", "read_heads"):
            positive_int(argument, getattr(self, argument))

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(hidden=16, slots=6, width=4, read_heads=1)

    def cell(self, spec: TaskSpec, time: int) -> nn.RNNCellBase:
        """The cell with the outputs of `spec`, for any T."""
        return DNCCell(self.hidden, self.slots, self.width, self.read_heads, spec.output_features)
