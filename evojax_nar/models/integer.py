"""Recurrent networks of int8 weights and activations, with int32 sums and no float until the end.

There are no activation functions: saturation is the nonlinearity. Rescaling is by powers of two.
Source: EGG, Sarkar et al. 2025, arXiv:2511.16652, appendix G.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import positive_int, reject
from evojax_nar.integer import (
    LONGEST,
    UNIT_BITS,
    Weights,
    halve,
    lookup,
    product,
    saturate,
    vector,
)
from evojax_nar.settings import Configurable
from evojax_nar.types import Key, Params, Sequence, TaskSpec

HEAD_SPREAD = 4
"""Standard deviation of fresh head weights, in bins: the first outputs are near 0."""
GATE_SPREAD = 96
"""Fresh biases of gates run from minus this to this: each unit keeps its state for its own time."""


@final
@dataclass(frozen=True)
class IntegerGRU(Configurable):
    """A recurrent network with minimal gated units in int8, for any length; see `IntegerES`.

    A layer adds h to its input x, with x' = norm(x), rescaled products and sums saturated to int8:

        f = x' W_f + h U_f + b_f           a gate, read as (f + 127) / 256
        c = x' W_h + (f h) U_h + b_h       the candidate
        h = h + f (c - h)

    A norm divides by the mean absolute value and multiplies by a weight. A read-out of int32 sums
    comes last; outputs are those sums as float32, divided by a power of two, so the loss is
    computed in float32 from whole numbers.

    Args:
      hidden: units H of each layer.
      layers: how many are stacked.
    """

    name: ClassVar[str] = "integer_gru"
    integer: ClassVar[bool] = True
    hidden: int = 64
    layers: int = 1

    def __post_init__(self) -> None:
        positive_int("hidden", self.hidden)
        positive_int("layers", self.layers)
        if self.hidden > LONGEST:
            raise reject(
                "hidden", self.hidden, "could leave int32 in a sum", f"give at most {LONGEST}"
            )

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(hidden=16)

    def max_size(self, spec: TaskSpec) -> int | None:
        """None: any size."""
        return None

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Fresh parameters, int8: round(16 N(0, 1)), less in the head; biases of gates spread."""
        embed_key, head_key, *keys = jax.random.split(key, 2 + self.layers)
        hidden, outputs = self.hidden, spec.output_features
        params: dict[str, Any] = {
            f"layer_{place}": self._layer(own) for place, own in enumerate(keys)
        }
        return {
            "embed": _normal(embed_key, (spec.input_features, hidden)),
            **params,
            "norm": jnp.full((hidden,), 2**UNIT_BITS, jnp.int8),
            "head": _normal(head_key, (hidden, outputs), HEAD_SPREAD),
            "head_bias": jnp.zeros((outputs,), jnp.int8),
        }

    def _layer(self, key: Key) -> Params:
        shape = (self.hidden, self.hidden)
        names = ("gate_input", "gate_state", "candidate_input", "candidate_state")
        keys = jax.random.split(key, len(names))
        spread = jnp.linspace(-GATE_SPREAD, GATE_SPREAD, self.hidden)
        return {
            "norm": jnp.full((self.hidden,), 2**UNIT_BITS, jnp.int8),
            **{name: _normal(own, shape) for name, own in zip(names, keys, strict=True)},
            "gate_bias": jnp.round(spread).astype(jnp.int8),
            "candidate_bias": jnp.zeros((self.hidden,), jnp.int8),
        }

    def apply(self, params: Params, inputs: Sequence, *, spec: TaskSpec) -> jax.Array:
        """Outputs (B, T, F of the outputs), float32, of inputs (B, T, F of the inputs)."""
        x = _embed(params["embed"], inputs.values, spec)
        for place in range(self.layers):
            x = saturate(x.astype(jnp.int32) + _recur(params[f"layer_{place}"], x))
        sums = product(_normalise(x, params["norm"]), params["head"])
        # A bin of a bias is 1/16 of an output, however wide the layer.
        bits = _bits(self.hidden)
        sums += jnp.left_shift(vector(params["head_bias"]), bits)
        return sums.astype(jnp.float32) * 2.0 ** -(bits + UNIT_BITS)


def _normal(key: Key, shape: tuple[int, ...], spread: int = 2**UNIT_BITS) -> jax.Array:
    return saturate(jnp.round(spread * jax.random.normal(key, shape)).astype(jnp.int32))


def _bits(rows: int) -> int:
    """The power of two nearest to 16 sqrt(rows): it keeps the variance of a sum of products."""
    return UNIT_BITS + round(math.log2(rows) / 2)


def _embed(weights: Weights, values: jax.Array, spec: TaskSpec) -> jax.Array:
    """Inputs (B, T, F) as int8 features (B, T, H): rows of a class, or sums of those rows."""
    if len(spec.inputs) == 1 and spec.inputs[0].kind == "categorical":
        # One-hot, so this is the class, and much cheaper than the place of the largest.
        return lookup(
            (values @ jnp.arange(values.shape[-1], dtype=jnp.float32)).astype(jnp.int32), weights
        )
    counted = saturate(jnp.round(values * 2**UNIT_BITS).astype(jnp.int32))
    return saturate(halve(product(counted, weights), UNIT_BITS))


def _normalise(x: jax.Array, weights: Weights) -> jax.Array:
    """x (..., H) int8 times weights (H,), over the mean absolute value of x; int8.

    One division a row: it gives 2**16 / mean, and the rest is a product and a shift.
    """
    wide = x.astype(jnp.int32)
    mean = jnp.abs(wide).sum(axis=-1, keepdims=True, dtype=jnp.int32) // x.shape[-1]
    inverse = jnp.int32(2**16) // jnp.maximum(mean, 1)
    return saturate(halve(wide * vector(weights) * inverse, 16))


def _recur(params: Params, x: jax.Array) -> jax.Array:
    """States (B, T, H) of one layer, int8, of inputs (B, T, H)."""
    bits = _bits(x.shape[-1])
    x = jnp.swapaxes(_normalise(x, params["norm"]), 0, 1)
    gate_bias, candidate_bias = vector(params["gate_bias"]), vector(params["candidate_bias"])

    def step(state: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        for_gate, for_candidate = sums
        wide = state.astype(jnp.int32)
        gate = halve(for_gate + product(state, params["gate_state"]), bits) + gate_bias
        gate = saturate(gate).astype(jnp.int32) + 127
        reset = saturate(halve(gate * wide, 8))
        candidate = halve(for_candidate + product(reset, params["candidate_state"]), bits)
        candidate = saturate(candidate + candidate_bias).astype(jnp.int32)
        state = saturate(wide + halve(gate * (candidate - wide), 8))
        return state, state

    # What the inputs give is one product for all steps.
    sums = (product(x, params["gate_input"]), product(x, params["candidate_input"]))
    _, states = jax.lax.scan(step, jnp.zeros_like(x[0]), sums)
    return jnp.swapaxes(states, 0, 1)
