"""Recurrent networks of step units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import positive_int
from evojax_nar.models.discrete.step import step, straight_through_step
from evojax_nar.models.unrolled import CellModel
from evojax_nar.types import TaskSpec


@final
@dataclass(frozen=True)
class StepRNN(CellModel):
    """A plain recurrent network of units that are 0 or 1, for any length.

        h = step(W x + U h + b),   step(z) = 1 where z > 0, else 0

    Outputs are a linear function of h. The state is exact: nothing fades and no error adds up in a
    long example. It has no gradient. With `straight_through` the outputs are the same, and the
    backward pass takes the step for clip(z + 1/2, 0, 1).

    Source: McCulloch and Pitts 1943, "A logical calculus of the ideas immanent in nervous
    activity"; the straight-through estimator: Bengio, Léonard and Courville 2013, arXiv:1308.3432.

    Args:
      hidden: units H.
      straight_through: whether it can be differentiated, with a gradient that is made up.

    Raises:
      InputError: where it is differentiated without `straight_through`.
    """

    name: ClassVar[str] = "step_rnn"
    hidden: int = 16
    straight_through: bool = False

    def __post_init__(self) -> None:
        positive_int("hidden", self.hidden)

    @classmethod
    def example(cls) -> Self:
        """A small one, with a gradient."""
        return cls(hidden=24, straight_through=True)

    def cell(self, spec: TaskSpec, time: int) -> nn.RNNCellBase:
        """The cell with the outputs of `spec`."""
        return StepCell(self.hidden, self.straight_through, spec.output_features)


class StepCell(nn.RNNCellBase):
    """One step of a network of step units; shows "hidden" (T, B, H)."""

    hidden: int
    straight_through: bool
    outputs: int

    @nn.compact
    def __call__(self, carry: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The next state (B, H), and outputs (B, F), of a state and inputs (B, F)."""
        activation = straight_through_step if self.straight_through else step
        of_inputs = nn.Dense(self.hidden, name="inputs")(inputs)
        orthogonal = nn.initializers.orthogonal()
        of_state = nn.Dense(self.hidden, use_bias=False, kernel_init=orthogonal, name="state")
        state = activation(of_inputs + of_state(carry))
        self.sow("shown", "hidden", state)
        return state, nn.Dense(self.outputs, name="read_out")(state)

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> jax.Array:
        """All units 0; `rng` is not used."""
        return jnp.zeros((*input_shape[:-1], self.hidden))

    @property
    def num_feature_axes(self) -> int:
        """Inputs are vectors."""
        return 1
