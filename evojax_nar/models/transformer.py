"""The Transformer encoder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import positive_int, reject
from evojax_nar.models.linen import LinenModel
from evojax_nar.types import TaskSpec


class TransformerModule(nn.Module):
    """Blocks of attention and a dense layer, each after LayerNorm and added to what it read."""

    width: int
    layers: int
    heads: int
    mlp_ratio: int
    causal: bool
    outputs: int

    @nn.compact
    def __call__(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        """Outputs (B, T, F of the outputs) of values (B, T, F); `mask` (B, T) bool."""
        time = values.shape[1]
        # (B, 1, T, T): who asks does not matter, only who is asked. A step of padding so attends
        # to the steps that exist, and its softmax is never over nothing.
        allowed = jnp.broadcast_to(mask[:, None, None, :], (len(mask), 1, time, time))
        if self.causal:
            allowed = allowed & jnp.tril(jnp.ones((time, time), bool))
        x = nn.Dense(self.width)(values)
        x = x + positions(time, self.width).astype(x.dtype)
        for _ in range(self.layers):
            y = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(self.heads)(y, mask=allowed)
            y = nn.gelu(nn.Dense(self.mlp_ratio * self.width)(nn.LayerNorm()(x)))
            x = x + nn.Dense(self.width)(y)
        return nn.Dense(self.outputs)(nn.LayerNorm()(x))


def positions(time: int, width: int) -> jax.Array:
    """Sinusoidal positions (T, width) of Vaswani et al. 2017, sines first; `width` is even."""
    rate = jnp.exp(jnp.arange(0, width, 2, dtype=jnp.float32) * (-math.log(10_000.0) / width))
    angle = jnp.arange(time, dtype=jnp.float32)[:, None] * rate
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


@final
@dataclass(frozen=True)
class Transformer(LinenModel):
    """A Transformer encoder with sinusoidal positions, for any length.

    Source: Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762, with LayerNorm
    before each part as in Xiong et al. 2020, arXiv:2002.04745. Memory grows with T squared.

    Args:
      width: features of a step, even and a multiple of `heads`.
      layers: how many blocks.
      heads: how many heads of attention.
      mlp_ratio: units of the dense layer of a block, as a multiple of `width`.
      causal: whether a step attends to itself and earlier steps alone.
    """

    name: ClassVar[str] = "transformer"
    width: int = 64
    layers: int = 2
    heads: int = 4
    mlp_ratio: int = 4
    causal: bool = False

    def __post_init__(self) -> None:
        for argument in ("width", "layers", "heads", "mlp_ratio"):
            positive_int(argument, getattr(self, argument))
        if self.width % 2 or self.width % self.heads:
            remedy = f"give an even multiple of heads={self.heads}"
            raise reject("width", self.width, "does not fit", remedy)
        if not isinstance(self.causal, bool):
            raise reject("causal", self.causal, "is not allowed", "give true or false")

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(width=16, layers=1, heads=2, mlp_ratio=2)

    def module(self, spec: TaskSpec) -> nn.Module:
        """The module with the outputs of `spec`, for any T."""
        return TransformerModule(
            self.width, self.layers, self.heads, self.mlp_ratio, self.causal, spec.output_features
        )
