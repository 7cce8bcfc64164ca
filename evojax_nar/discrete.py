"""Parameters that are choices: whole numbers below a count, and their soft relaxation.

A wire of a circuit, an entry of a truth table or of a rule table is one of a few choices. `Choices`
holds such integers in a tree of parameters, so that a strategy knows what a mutation may put there.
`Mixture` stands in their place where a gradient is wanted: a weight for each choice. A model that
reads its parameters by `select` alone runs with either.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import positive_int
from evojax_nar.types import Key, Params


@final
@functools.partial(jax.tree_util.register_dataclass, data_fields=["value"], meta_fields=["count"])
@dataclass(frozen=True)
class Choices:
    """An array of choices; a node of a tree of parameters with one leaf.

    Args:
      value: (...) int32, each from 0 to count - 1.
      count: how many there are to choose from, static.
    """

    value: jax.Array
    count: int


@final
@functools.partial(jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=[])
@dataclass(frozen=True)
class Mixture:
    """Choices made softly.

    Args:
      weights: (..., count) float32, which sum to 1 along the last axis.
    """

    weights: jax.Array


def is_choices(node: Any) -> bool:
    """Whether `node` is a `Choices`; for `is_leaf` of tree functions."""
    return isinstance(node, Choices)


def is_mixture(node: Any) -> bool:
    """Whether `node` is a `Mixture`; for `is_leaf` of tree functions."""
    return isinstance(node, Mixture)


def uniform(key: Key, shape: tuple[int, ...], count: int) -> Choices:
    """Choices (shape) of `count`, all equally likely.

    Raises:
      InputError: for a count below 1.
    """
    positive_int("count", count)
    return Choices(jax.random.randint(key, shape, 0, count, jnp.int32), count)


def select(choices: Choices | Mixture, options: jax.Array) -> jax.Array:
    """What each choice (...) names among options (*batch, count): (*batch, ...).

    A mixture gives the mean of the options under its weights, which is linear in both.
    """
    options = jnp.asarray(options)
    if isinstance(choices, Choices):
        return jnp.take(options, choices.value, axis=-1, mode="clip")
    weights = choices.weights.astype(options.dtype)
    return jnp.tensordot(options, weights, axes=[[-1], [-1]])


def one_hot(choices: Choices) -> Mixture:
    """The mixture that puts all its weight on the choice made; `select` gives the same of both."""
    return Mixture(jax.nn.one_hot(choices.value, choices.count, dtype=jnp.float32))


def soften(logits: Params) -> Params:
    """A tree with a `Mixture`, by softmax, for every leaf of logits (..., count)."""
    return jax.tree.map(lambda leaf: Mixture(jax.nn.softmax(leaf)), logits)


def harden(mixtures: Params) -> Params:
    """A tree with the likeliest `Choices` for every `Mixture`; the first where several tie."""

    def convert(mixture: Mixture) -> Choices:
        weights = mixture.weights
        return Choices(jnp.argmax(weights, axis=-1).astype(jnp.int32), weights.shape[-1])

    return jax.tree.map(convert, mixtures, is_leaf=is_mixture)
