"""A recurrent network with stacks, which it pushes to and pops from by degrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import finite, positive_int
from evojax_nar.models.unrolled import CellModel
from evojax_nar.types import Carry, TaskSpec

ACTIONS = ("push", "pop", "keep")
"""What a stack does at a step, in the order in which the parameters have them."""


@final
@dataclass(frozen=True)
class StackRNN(CellModel):
    """A plain recurrent network with soft stacks, for any length.

    At each step a controller reads the input and the tops of the stacks as the step before left
    them, h' = tanh(W [x, tops] + U h + b). From its new state h' come the outputs and, for each
    stack, the value to push and how much of each action is taken, by softmax: push, pop, or keep.
    The new stack is the mixture of the stacks that these would leave. An empty cell is zero, and so
    is what a pop finds below the bottom.

    The stacks of an unbounded machine are had by `depth=None`, which adds no parameters: T / 2
    cells do for T steps, since a cell that lies deeper is still empty, or never comes up again.

    Shows: "actions" (T, B, stacks, 3) in the order of `ACTIONS`, and "top" (T, B, stacks,
    cell_width) as it is read.

    Source: Joulin and Mikolov 2015, arXiv:1503.01007, as in Deletang et al. 2023, arXiv:2207.02098:
    what is pushed is linear in the new state and no sigmoid of it, the bottom is 0 and not -1, and
    the whole cell is read. There the units are rectified ones, and here tanh. With several stacks
    each has a softmax of its own, as in the first paper; the code of the second has one for all.

    Args:
      hidden: units H of the controller.
      cell_width: numbers in a cell of a stack.
      depth: cells of a stack, beyond which what is pushed under is lost; None for no bottom.
      stacks: how many there are.
      sharpness: what the scores of actions are multiplied by before the softmax, 1 in the papers;
        the fresh weights of the scores are divided by it. Actions that are nearly hard leave no
        loss at the sizes trained on, and what is left over of the others blurs the stack at larger
        ones. A gradient with Adam makes them harder at 5; evolution does so by itself at 1.
    """

    name: ClassVar[str] = "stack_rnn"
    hidden: int = 64
    cell_width: int = 8
    depth: int | None = None
    stacks: int = 1
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        for argument in ("hidden", "cell_width", "stacks"):
            positive_int(argument, getattr(self, argument))
        if self.depth is not None:
            positive_int("depth", self.depth)
        finite("sharpness", self.sharpness, above=0.0)

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(hidden=12, cell_width=2)

    def cell(self, spec: TaskSpec, time: int) -> nn.RNNCellBase:
        """The cell with the outputs of `spec`, and with stacks that do for `time` steps."""
        # A cell i from the top is empty before step i + 1, and comes up i steps later at best.
        depth = max(1, time // 2) if self.depth is None else self.depth
        sizes = self.hidden, self.cell_width, depth, self.stacks
        return StackCell(*sizes, float(self.sharpness), spec.output_features)


class StackCell(nn.RNNCellBase):
    """One step; the carry is the state (B, H) and the stacks (B, depth, stacks, width)."""

    hidden: int
    width: int
    depth: int
    stacks: int
    sharpness: float
    outputs: int

    @nn.compact
    def __call__(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        """The next carry, and outputs (B, F of the outputs), of inputs (B, F)."""
        state, stack = carry
        batch, top = len(inputs), stack[:, 0]
        self.sow("shown", "top", top)
        read = jnp.concatenate([inputs, top.reshape(batch, -1)], axis=-1)
        state, _ = nn.SimpleCell(self.hidden, name="controller")(state, read)
        # Actions begin as soft as those without sharpness, and harden sooner.
        small = nn.initializers.variance_scaling(self.sharpness**-2, "fan_in", "truncated_normal")
        layer = nn.Dense(self.stacks * len(ACTIONS), name="scores", kernel_init=small)
        scores = self.sharpness * layer(state).reshape(batch, self.stacks, len(ACTIONS))
        actions = jax.nn.softmax(scores)
        self.sow("shown", "actions", actions)
        value = nn.Dense(self.stacks * self.width, name="value")(state).reshape(top.shape)
        outputs = nn.Dense(self.outputs, name="outputs")(state)
        # For a gradient the stack alone is kept of each step, not what it was mixed from.
        update = jax.checkpoint(updated, prevent_cse=False)
        return (state, update(stack, actions, value)), outputs

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> Carry:
        """Zeros: nothing has been pushed."""
        batch = input_shape[:-1]
        stack = jnp.zeros((*batch, self.depth, self.stacks, self.width))
        return jnp.zeros((*batch, self.hidden)), stack

    @property
    def num_feature_axes(self) -> int:
        """One: the inputs of a step are (B, F)."""
        return 1


def updated(stack: jax.Array, actions: jax.Array, value: jax.Array) -> jax.Array:
    """The mixture of `stack` (B, depth, stacks, width) with `value` pushed, popped, and kept.

    One expression of two shifted slices, which compilers fuse: the stack is read and written once.

    Args:
      stack: the top first.
      actions: (B, stacks, 3), which sum to 1.
      value: (B, stacks, width).
    """
    push, pop, keep = jnp.moveaxis(actions[:, None, ..., None], -2, 0)
    pushed = jnp.concatenate([value[:, None], stack[:, :-1]], axis=1)
    popped = jnp.concatenate([stack[:, 1:], jnp.zeros_like(stack[:, :1])], axis=1)
    return push * pushed + pop * popped + keep * stack
