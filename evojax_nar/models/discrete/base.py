"""The base of models whose parameters are choices, and how bits of theirs are read as outputs."""

from __future__ import annotations

import abc
import math
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import InputError
from evojax_nar.models.linen import require_sequences
from evojax_nar.settings import Configurable
from evojax_nar.types import Key, Params, Sequence, TaskSpec

SURE = 8.0
"""Logit of a bit that is 1: what is certain and wrong costs 8 nats, and what is right 0.0003."""


class DiscreteModel(Configurable, abc.ABC):
    """A model whose parameters are `Choices`, or `Mixture`s of them where a gradient is wanted.

    Both give the same outputs where all weights of the mixtures are 0 or 1. Gradients cannot move
    choices: strategies that mutate them or count them can, and `soften` makes mixtures of them.
    """

    discrete: ClassVar[bool] = True

    @classmethod
    @abc.abstractmethod
    def example(cls) -> Self:
        """A small one, which learns the small example of a task in seconds."""

    def max_size(self, spec: TaskSpec) -> int | None:
        """None: any size."""
        return None

    @abc.abstractmethod
    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Fresh choices, all equally likely."""

    @abc.abstractmethod
    def apply(self, params: Params, inputs: Sequence, *, spec: TaskSpec) -> jax.Array:
        """Outputs (B, T, F of the outputs) of inputs (B, T, F of the inputs), float32."""


def require_symbols(model: str, spec: TaskSpec) -> None:
    """Raise an `InputError` where a task gives graphs, or asks for something but bits or classes.

    Inputs that are scalar are no such thing: a model reads whether they are above a half.
    """
    require_sequences(model, spec)
    for field in spec.outputs:
        if field.kind not in ("bits", "categorical"):
            raise InputError(
                f"model={model!r} gives bits and classes, and task={spec.name!r} asks for "
                f"{field.name!r}, which is {field.kind}; choose a model with real outputs"
            )


def input_bits(values: jax.Array) -> jax.Array:
    """Inputs (B, T, F) as bits 0 and 1 in their own type: whether they are above a half."""
    return (values > 0.5).astype(values.dtype)


def _code(classes: int) -> np.ndarray:
    """The bits (classes, K) by which each class is written, the most significant first."""
    width = max(1, math.ceil(math.log2(classes)))
    return np.arange(classes)[:, None] >> np.arange(width)[::-1] & 1


def output_bits(spec: TaskSpec) -> int:
    """How many bits say the outputs of a task: a class of F takes the logarithm of F, rounded up.

    So two classes are one bit.
    """
    return sum(
        _code(field.features).shape[1] if field.kind == "categorical" else field.features
        for field in spec.outputs
    )


def read_out(spec: TaskSpec, bits: jax.Array) -> jax.Array:
    """Outputs (..., F of the outputs), float32, of independent bits (..., `output_bits`).

    A bit that is 1 with probability p is the logit of p. A class is the logarithm of the
    probability that the bits write it.

    Args:
      spec: of the task.
      bits: numbers from 0 to 1, which are clipped to what `SURE` allows.
    """
    one, zero = log_probability(bits), log_probability(1.0 - jnp.asarray(bits, jnp.float32))
    parts: list[Any] = []
    start = 0
    for field in spec.outputs:
        if field.kind == "categorical":
            code = _code(field.features).T.astype(np.float32)
            own = slice(start, start := start + len(code))
            parts.append(one[..., own] @ code + zero[..., own] @ (1 - code))
        else:
            own = slice(start, start := start + field.features)
            parts.append(one[..., own] - zero[..., own])
    return jnp.concatenate(parts, axis=-1)


def log_probability(probability: jax.Array) -> jax.Array:
    """The logarithm of probabilities, float32, each clipped to where logits are within `SURE`."""
    least = 1 / (1 + math.exp(SURE))
    return jnp.log(jnp.clip(jnp.asarray(probability, jnp.float32), least, 1 - least))
