"""ClipUp: steps of a fixed length with momentum, made for estimates whose norm says little."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from evojax_nar.types import Params


class ClipUpState(NamedTuple):
    """State of `clipup`."""

    velocity: Params


def clipup(
    learning_rate: float, max_speed: float | None = None, momentum: float = 0.9
) -> optax.GradientTransformation:
    """An optax transformation: normalise the gradient, add it to a velocity, clip its length.

    Toklu, Liskowski and Srivastava 2020, "ClipUp", arXiv:2008.02387; lengths are over all D
    parameters.

    Args:
      learning_rate: length of one step without momentum, in units of the parameters.
      max_speed: the longest step; None for twice the learning rate.
      momentum: what of the velocity is kept.
    """

    def init(params: Params) -> ClipUpState:
        return ClipUpState(jax.tree.map(jnp.zeros_like, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Params, ClipUpState]:
        del params
        length = _length(updates)
        velocity = jax.tree.map(
            lambda old, leaf: momentum * old + learning_rate * (leaf / length),
            state.velocity,
            updates,
        )
        longest = 2 * learning_rate if max_speed is None else max_speed
        factor = jnp.minimum(1.0, longest / _length(velocity))
        velocity = jax.tree.map(lambda leaf: factor * leaf, velocity)
        return jax.tree.map(jnp.negative, velocity), ClipUpState(velocity)

    return optax.GradientTransformation(init, update)


def _length(tree: Params) -> jax.Array:
    """The norm, or the smallest number where that is zero."""
    return jnp.maximum(optax.tree.norm(tree), jnp.finfo(jnp.float32).tiny)
