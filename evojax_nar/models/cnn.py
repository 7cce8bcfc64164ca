"""Convolutions over time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from evojax_nar.errors import positive_int, reject
from evojax_nar.models.linen import LinenModel
from evojax_nar.types import TaskSpec


class Convolution(nn.Module):
    """What `nn.Conv` computes of the same parameters, with zeros beyond the ends.

    As one product with the windows side by side, which a CPU is several times faster at than at the
    gradient of a convolution, the more so where each of several runs has a kernel of its own.
    """

    features: int
    window: tuple[int, ...]
    """Length of the window along each axis but the first and the last, odd."""
    bias_init: Callable[..., Any] = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features (B, ..., features) of x (B, ..., F)."""
        shape = (*self.window, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        return slide(x, kernel) + self.param("bias", self.bias_init, (self.features,))


@jax.checkpoint
def slide(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The products of all windows of x (B, ..., F) with a kernel (window..., F, features).

    The windows are made again for the gradient: kept, they would take many times the memory of x.
    """
    *window, _, _ = kernel.shape
    sides = [(length // 2, length // 2) for length in window]
    padded = jnp.pad(x, [(0, 0), *sides, (0, 0)])
    sizes = x.shape[1:-1]
    seen = [
        padded[(slice(None), *(slice(i, i + size) for i, size in zip(start, sizes, strict=True)))]
        for start in np.ndindex(*window)
    ]
    windows = jnp.stack(seen, axis=-2).reshape(*x.shape[:-1], *window, x.shape[-1])
    return jnp.tensordot(windows, kernel, axes=kernel.ndim - 1)


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
            x = x + Convolution(self.channels, (self.kernel,))(y)
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
