"""The multilayer perceptron: one fixed length, no notion of time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
from flax import linen as nn

from evojax_nar.errors import InputError, positive_int
from evojax_nar.models.linen import LinenModel
from evojax_nar.types import Params, Sequence, TaskSpec


class MLPModule(nn.Module):
    """Values (B, T, F) flattened, dense layers with ReLU between them, and back to (B, T, F)."""

    hidden: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        """Outputs (B, T, F of the outputs). The mask is not used."""
        batch, time, _ = values.shape
        values = values.reshape(batch, -1)
        for width in self.hidden:
            values = nn.relu(nn.Dense(width)(values))
        return nn.Dense(time * self.outputs)(values).reshape(batch, time, self.outputs)


@final
@dataclass(frozen=True)
class MLP(LinenModel):
    """A multilayer perceptron over the whole padded sequence, which fits one length alone.

    It runs batches that are padded to the largest training size, and nothing beyond.

    Args:
      hidden: units of each hidden layer; one number for one layer.
    """

    name: ClassVar[str] = "mlp"
    hidden: tuple[int, ...] = (128,)

    def __post_init__(self) -> None:
        hidden = self.hidden if isinstance(self.hidden, Iterable) else (self.hidden,)
        object.__setattr__(self, "hidden", tuple(positive_int("hidden", item) for item in hidden))

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(hidden=(32,))

    def max_size(self, spec: TaskSpec) -> int | None:
        """The largest training size."""
        return spec.max_size

    def module(self, spec: TaskSpec) -> nn.Module:
        """The module for batches of `spec.max_length` steps."""
        return MLPModule(self.hidden, spec.output_features)

    def apply(self, params: Params, inputs: Sequence, *, spec: TaskSpec) -> jax.Array:
        """Outputs (B, T, F of the outputs), where T is `spec.max_length`.

        Raises:
          InputError: for another T.
        """
        time = inputs.values.shape[1]
        if time != spec.max_length:
            raise InputError(
                f"inputs has T={time} where model='mlp' was built for T={spec.max_length}; "
                f"pad the batch with max_size={spec.max_size}, or take a model without a limit."
            )
        return super().apply(params, inputs, spec=spec)
