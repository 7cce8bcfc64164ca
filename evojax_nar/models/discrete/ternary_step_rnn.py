"""Recurrent networks of step units, whose weights are choices of small whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.discrete import select, uniform
from evojax_nar.errors import positive_int
from evojax_nar.models.discrete.base import DiscreteModel, require_symbols
from evojax_nar.models.discrete.step import straight_through_step
from evojax_nar.types import Key, Params, Sequence, TaskSpec

SHARPNESS = 4.0
"""A logit is this many times a sum of the read-out, which is a whole number and a half."""


@final
@dataclass(frozen=True)
class TernaryStepRNN(DiscreteModel):
    """A `StepRNN` whose weights are whole numbers, -1, 0 and 1 unless told otherwise.

        h = step(W x + U h + b),   step(z) = 1 where z > 0, else 0
        outputs = 4 (V h + c)

    Weights are from -L to L. Biases are whole numbers and a half, from -(L + 3/2) to L + 3/2, so
    with inputs of bits nothing is ever right on a threshold, and all sums are exact. Parameters:
    "inputs" (F, H), "state" (H, H), "bias" (H,), "read_out" (H, F of the outputs) and
    "read_out_bias" (F of the outputs,). Choice 0 is the lowest number.

    With mixtures each weight is the mean of its choices, and the backward pass takes a step for
    clip(z + 1/2, 0, 1).

    Source: McCulloch and Pitts 1943, "A logical calculus of the ideas immanent in nervous
    activity"; weights of three values as in Li, Zhang and Liu 2016, arXiv:1605.04711.

    Args:
      hidden: units H.
      levels: L, the largest weight.
    """

    name: ClassVar[str] = "ternary_step_rnn"
    hidden: int = 8
    levels: int = 1

    def __post_init__(self) -> None:
        positive_int("hidden", self.hidden)
        positive_int("levels", self.levels)

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(hidden=8)

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Fresh weights, all choices equally likely.

        Raises:
          InputError: for a task of graphs, or of outputs other than bits and classes.
        """
        require_symbols(self.name, spec)
        hidden, outputs = self.hidden, spec.output_features
        weights, biases = 2 * self.levels + 1, 2 * self.levels + 4
        shapes = {
            "inputs": ((spec.input_features, hidden), weights),
            "state": ((hidden, hidden), weights),
            "bias": ((hidden,), biases),
            "read_out": ((hidden, outputs), weights),
            "read_out_bias": ((outputs,), biases),
        }
        keys = jax.random.split(key, len(shapes))
        drawn = zip(keys, shapes.items(), strict=True)
        return {name: uniform(own, shape, count) for own, (name, (shape, count)) in drawn}

    def apply(self, params: Params, inputs: Sequence, *, spec: TaskSpec) -> jax.Array:
        """Outputs (B, T, F of the outputs) of inputs (B, T, F of the inputs), float32.

        Padding comes last, so no step that exists ever sees it.
        """
        values = inputs.values
        whole = jnp.arange(-self.levels, self.levels + 1, dtype=values.dtype)
        half = jnp.arange(-self.levels - 2, self.levels + 2, dtype=values.dtype) + 0.5
        recur = select(params["state"], whole)

        def advance(state: jax.Array, sums: jax.Array) -> tuple[jax.Array, jax.Array]:
            state = straight_through_step(sums + state @ recur)
            return state, state

        sums = values @ select(params["inputs"], whole) + select(params["bias"], half)
        before = jnp.zeros((len(values), self.hidden), values.dtype)
        _, states = jax.lax.scan(advance, before, jnp.swapaxes(sums, 0, 1))
        outputs = states @ select(params["read_out"], whole)
        outputs = outputs + select(params["read_out_bias"], half)
        return SHARPNESS * jnp.asarray(jnp.swapaxes(outputs, 0, 1), jnp.float32)
