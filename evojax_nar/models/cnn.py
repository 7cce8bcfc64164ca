"""Convolutions over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import positive_int, reject
from evojax_nar.models.linen import LinenModel
from evojax_nar.types import TaskSpec


class CNNModule(nn.Module):
    """Layers of a convolution, each after LayerNorm and GELU and added to what it read."""

    channels: int
    layers: int
    kernel: int
    outputs: int

    @nn.compact
    def __call__(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        """Outputs (B, T, F of the outputs) of values (B, T, F); `mask` (B, T) bool."""
        x = nn.Dense(self.channels)(values)
        for _ in range(self.layers):
            y = nn.gelu(nn.LayerNorm()(x))
            # What does not exist is as empty as what is beyond the ends.
            y = jnp.where(mask[..., None], y, 0.0)
            x = x + nn.Conv(self.channels, (self.kernel,))(y)
        return nn.Dense(self.outputs)(nn.LayerNorm()(x))


@final
@dataclass(frozen=True)
class CNN(LinenModel):
    """Convolutions over time with residual connections, for any length.

    A step sees layers * (kernel - 1) / 2 steps to each side and nothing further, and it is not
    told its position, except by an end of the example in sight.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks", arXiv:1603.05027, for
    the order of the parts, with one convolution a layer, LayerNorm and GELU.

    Args:
      channels: features of a step.
      layers: how many convolutions.
      kernel: steps that a convolution sees, odd.
    """

    name: ClassVar[str] = "cnn"
    channels: int = 32
    layers: int = 5
    kernel: int = 5

    def __post_init__(self) -> None:
        for argument in ("channels", "layers", "kernel"):
            positive_int(argument, getattr(self, argument))
        if self.kernel % 2 == 0:
            raise reject("kernel", self.kernel, "has no middle", "give an odd number")

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(channels=16, layers=3)

    def module(self, spec: TaskSpec) -> nn.Module:
        """The module with the outputs of `spec`, for any T."""
        return CNNModule(self.channels, self.layers, self.kernel, spec.output_features)
