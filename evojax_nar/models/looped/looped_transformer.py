"""The looped Transformer: one block, run as many times as the example is long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import positive_int, reject
from evojax_nar.models.linen import LinenModel
from evojax_nar.models.transformer import positions
from evojax_nar.types import TaskSpec


class Block(nn.Module):
    """Attention, then a dense layer, each after LayerNorm and added to what it read."""

    heads: int
    mlp_ratio: int

    @nn.compact
    def __call__(self, x: jax.Array, allowed: jax.Array) -> jax.Array:
        """The next x (B, T, F); `allowed` (B, 1, T, T) bool says who attends to whom."""
        width = x.shape[-1]
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads)(y, mask=allowed)
        y = nn.gelu(nn.Dense(self.mlp_ratio * width)(nn.LayerNorm()(x)))
        return x + nn.Dense(width)(y)


def visible(mask: jax.Array, *, causal: bool) -> jax.Array:
    """Who attends to whom, (B, 1, T, T) bool: all to what exists in `mask` (B, T).

    Where `causal`, to itself and what is earlier alone. Padding attends too, so that its softmax is
    never over nothing.
    """
    time = mask.shape[1]
    allowed = jnp.broadcast_to(mask[:, None, None, :], (len(mask), 1, time, time))
    return allowed & jnp.tril(jnp.ones((time, time), bool)) if causal else allowed


class LoopedModule(nn.Module):
    """The block in a scan over loops; an example that has had all of its loops stays as it is."""

    width: int
    heads: int
    layers: int
    mlp_ratio: int
    loops: int | None
    causal: bool
    sinusoidal: bool
    outputs: int

    def setup(self) -> None:
        """The layers."""
        # A step without inputs must not be embedded as zeros: it would stay at zero through all
        # loops, and a norm there has a slope of a thousand, loop after loop.
        self.embed = nn.Dense(self.width, bias_init=nn.initializers.normal(0.1))
        self.blocks = [Block(self.heads, self.mlp_ratio) for _ in range(self.layers)]
        self.normalise = nn.LayerNorm()
        self.read = nn.Dense(self.outputs)

    def __call__(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        """Outputs (B, T, F of the outputs) of values (B, T, F); `mask` (B, T) bool."""
        time = values.shape[1]
        embedded = self.embed(values)
        if self.sinusoidal:
            embedded = embedded + positions(time, self.width).astype(embedded.dtype)
        allowed = visible(mask, causal=self.causal)
        most = time if self.loops is None else self.loops
        wanted = mask.sum(axis=1) if self.loops is None else jnp.full(len(mask), self.loops)
        is_shown = self.is_mutable_collection("shown")

        def turn(module: Any, state: jax.Array, index: jax.Array) -> tuple[jax.Array, Any]:
            new = state + embedded
            for block in module.blocks:
                new = block(new, allowed)
            state = jnp.where((index < wanted)[:, None, None], new, state)
            return state, module.answer(state) if is_shown else None

        loop = nn.scan(turn, variable_broadcast="params", split_rngs={"params": False})
        state, answers = loop(self, jnp.zeros_like(embedded), jnp.arange(most))
        if is_shown:
            self.sow("shown", "steps", jnp.where(mask, wanted[:, None], 0).astype(jnp.int32))
            self.sow("shown", "step_outputs", answers)
        return self.answer(state)

    def answer(self, state: jax.Array) -> jax.Array:
        """The read-out (B, T, F of the outputs) of a state (B, T, width)."""
        return self.read(self.normalise(state))


def check_attention(model: Any, *more: str, even: bool) -> None:
    """Raise an `InputError` for sizes of a block that do not fit; `more` are further sizes."""
    for argument in ("width", "heads", "mlp_ratio", *more):
        positive_int(argument, getattr(model, argument))
    if model.width % model.heads or (even and model.width % 2):
        remedy = f"give {'an even' if even else 'a'} multiple of heads={model.heads}"
        raise reject("width", model.width, "does not fit", remedy)


def check_bool(argument: str, value: Any) -> None:
    """Raise an `InputError` for anything but true and false."""
    if not isinstance(value, bool):
        raise reject(argument, value, "is not allowed", "give true or false")


@final
@dataclass(frozen=True)
class LoopedTransformer(LinenModel):
    """A block of a Transformer, looped as often as the example has steps, for any length.

    The state begins at zero, and the embedded inputs are added to it before every loop. An example
    has its own number of loops, and padding does not count. As in the paper, a step attends to
    itself and earlier ones alone, and nothing but that tells it its position: without either, the
    order of the steps is not seen. The gradient takes memory of loops times T squared.

    `inspect` shows `steps` (B, T), the loops of each position, and `step_outputs` (loops, B, T, F),
    the read-out after each loop, where an example that has had all of its loops keeps the last.

    Source: Fan et al. 2025, "Looped Transformers for Length Generalization", arXiv:2409.15647,
    sections 3 and 4. The number of loops there is a function of the length which each task knows;
    here it is the length itself, or a constant. Stopping by confidence is not part of this.

    Args:
      width: features of a step, a multiple of `heads`; even where `sinusoidal`.
      heads: how many heads of attention.
      layers: how many parts, each of attention and a dense layer, the looped block has.
      mlp_ratio: units of the dense layer, as a multiple of `width`.
      loops: how many loops; None for as many as the example has steps.
      causal: whether a step attends to itself and earlier steps alone.
      sinusoidal: whether positions are added to the embedded inputs, as in `Transformer`.
    """

    name: ClassVar[str] = "looped_transformer"
    width: int = 64
    heads: int = 4
    layers: int = 1
    mlp_ratio: int = 4
    loops: int | None = None
    causal: bool = True
    sinusoidal: bool = False

    def __post_init__(self) -> None:
        for argument in ("causal", "sinusoidal"):
            check_bool(argument, getattr(self, argument))
        check_attention(self, "layers", even=self.sinusoidal)
        if self.loops is not None:
            positive_int("loops", self.loops)

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(width=16, heads=2, mlp_ratio=2, sinusoidal=True)

    def module(self, spec: TaskSpec) -> nn.Module:
        """The module with the outputs of `spec`, for any T."""
        return LoopedModule(
            width=self.width,
            heads=self.heads,
            layers=self.layers,
            mlp_ratio=self.mlp_ratio,
            loops=self.loops,
            causal=self.causal,
            sinusoidal=self.sinusoidal,
            outputs=spec.output_features,
        )
