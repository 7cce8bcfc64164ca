"""Noise rules: how a member differs from the centre. An axis of its own of Gaussian strategies."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp

from evojax_nar.types import Key, Params


class Noise(abc.ABC):
    """Draws unit noise for a parameter tree and runs functions at perturbed parameters."""

    @abc.abstractmethod
    def draw(self, key: Key, params: Params) -> Any:
        """Noise of zero mean and unit variance for every parameter, in this rule's own form."""

    @abc.abstractmethod
    def perturbed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function(params, *args)` as `g(params, noise, scale, *args)`, run at the perturbed."""

    @abc.abstractmethod
    def weigh(self, noise: Any, weights: jax.Array) -> Params:
        """Sum over C draws (leading axis) of weights (C,) times noise."""


def standard_normal(key: Key, params: Params) -> Params:
    """A tree like `params` of standard normal numbers, each leaf in its own type.

    One draw of D numbers is cut into the leaves: a generator for each leaf would multiply the time
    that XLA takes to compile a generation.
    """
    leaves, structure = jax.tree.flatten(params)
    ends = list(itertools.accumulate(leaf.size for leaf in leaves))
    flat = jax.random.normal(key, (ends[-1] if ends else 0,), jnp.float32)
    pieces = jnp.split(flat, ends[:-1])
    shaped = [
        piece.reshape(leaf.shape).astype(leaf.dtype)
        for piece, leaf in zip(pieces, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, shaped)


@final
@dataclass(frozen=True)
class Dense(Noise):
    """Independent standard normal noise for every parameter: D numbers a draw."""

    def draw(self, key: Key, params: Params) -> Params:
        """A tree like `params` of standard normal numbers: see `standard_normal`."""
        return standard_normal(key, params)

    def perturbed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Forms params + scale * noise and calls `function` on it."""

        def run(params: Params, noise: Params, scale: jax.Array, *args: Any) -> Any:
            moved = jax.tree.map(
                lambda leaf, eps: leaf + jnp.asarray(scale, leaf.dtype) * eps, params, noise
            )
            return function(moved, *args)

        return run

    def weigh(self, noise: Params, weights: jax.Array) -> Params:
        """One contraction over the draws for every leaf."""
        return jax.tree.map(
            lambda leaf: jnp.tensordot(weights.astype(leaf.dtype), leaf, axes=1), noise
        )
