"""Addressing of a memory of N slots: by content, by place, and by what is free.

Weights say how much each slot is read or written: N numbers of at least 0 with a sum of at most 1.
Letters besides the usual ones: W the width of a slot, R heads of one kind. Every function works on
one example as on any leading axes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

EPSILON = 1e-6
"""Added under the root of a squared norm, so that a slot of zeros has a slope: it is like none."""


def content_weights(memory: jax.Array, keys: jax.Array, strengths: jax.Array) -> jax.Array:
    """softmax(strength * cosine(key, slot)): the slots that are like a key.

    Args:
      memory: (..., N, W).
      keys: (..., R, W).
      strengths: (..., R), at least 0; the larger, the fewer slots share the weight.

    Returns:
      (..., R, N), each of sum 1. Source: Graves et al. 2014, equations 5 and 6.
    """
    products = jnp.einsum("...rw,...nw->...rn", keys, memory)
    likeness = products / (_norms(keys)[..., :, None] * _norms(memory)[..., None, :])
    return jax.nn.softmax(strengths[..., None] * likeness)


def _norms(vectors: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(vectors).sum(axis=-1) + EPSILON)


def shift(weights: jax.Array, moves: jax.Array) -> jax.Array:
    """The weights (..., N) moved around the ring of slots by -1, 0 and 1, as `moves` (..., 3) says.

    Those of slot i go to slot i + 1, modulo N, by the last of the moves. Source: Graves et al.
    2014, equation 8.
    """
    moved = [jnp.roll(weights, by, axis=-1) for by in (-1, 0, 1)]
    return (jnp.stack(moved, axis=-1) * moves[..., None, :]).sum(axis=-1)


def sharpen(weights: jax.Array, gamma: jax.Array) -> jax.Array:
    """w**gamma over its sum, for weights (..., N) and gamma (...) of at least 1.

    Worked out as softmax(gamma * log w), which no small weight makes 0 / 0. Source: Graves et al.
    2014, equation 9.
    """
    least = jnp.finfo(weights.dtype).tiny
    return jax.nn.softmax(gamma[..., None] * jnp.log(jnp.maximum(weights, least)))


def rewrite(memory: jax.Array, weights: jax.Array, erase: jax.Array, add: jax.Array) -> jax.Array:
    """The memory (..., N, W) after all heads have erased, and then all have added.

    Args:
      memory: (..., N, W).
      weights: (..., R, N).
      erase: (..., R, W), in 0 to 1.
      add: (..., R, W).

    Source: Graves et al. 2014, equations 3 and 4.
    """
    kept = jnp.prod(1.0 - weights[..., :, None] * erase[..., None, :], axis=-3)
    return memory * kept + jnp.einsum("...rn,...rw->...nw", weights, add)


def next_usage(
    usage: jax.Array, write_weights: jax.Array, read_weights: jax.Array, free: jax.Array
) -> jax.Array:
    """How much each slot is in use, (..., N) in 0 to 1: what was written counts until it is freed.

    Args:
      usage: (..., N), of the step before.
      write_weights: (..., N), of the step before. No gradient goes through them.
      read_weights: (..., R, N), of the step before.
      free: (..., R) in 0 to 1, whether what a head has read is needed no more.

    Source: Graves et al. 2016, doi:10.1038/nature20101, methods, "dynamic memory allocation".
    """
    written = usage + (1.0 - usage) * jax.lax.stop_gradient(write_weights)
    return written * jnp.prod(1.0 - free[..., None] * read_weights, axis=-2)


def allocation(usage: jax.Array) -> jax.Array:
    """The free slots, the least used one first, (..., N) of sum at most 1, for usage (..., N).

    In the order of usage, a slot gets 1 less its usage, times the usages before it. The order has
    no slope; the numbers in it do. Source: as of `next_usage`.
    """
    order = jnp.argsort(usage, axis=-1)
    ranked = jnp.take_along_axis(usage, order, axis=-1)
    before = jnp.cumprod(ranked, axis=-1)[..., :-1]
    given = (1.0 - ranked) * jnp.concatenate([jnp.ones_like(ranked[..., :1]), before], axis=-1)
    return jnp.take_along_axis(given, jnp.argsort(order, axis=-1), axis=-1)


def next_links(links: jax.Array, precedence: jax.Array, weights: jax.Array) -> jax.Array:
    """The links (..., N, N) after a write: in row i, column j, how far i was written next after j.

    Args:
      links: (..., N, N), of the step before.
      precedence: (..., N), how far each slot was the last one written before this step.
      weights: (..., N), of this write.

    Source: Graves et al. 2016, methods, "temporal memory linkage".
    """
    row, column = weights[..., :, None], weights[..., None, :]
    new = (1.0 - row - column) * links + row * precedence[..., None, :]
    return new * (1.0 - jnp.eye(weights.shape[-1], dtype=weights.dtype))


def next_precedence(precedence: jax.Array, weights: jax.Array) -> jax.Array:
    """How far each slot (..., N) was the last one written, after a write with `weights` (..., N).

    Source: as of `next_links`.
    """
    return (1.0 - weights.sum(axis=-1, keepdims=True)) * precedence + weights
