"""Exact arithmetic on binary numbers of any length, a bit an int32.

No step waits for the carry of the one before: the last place where two bits agree decides it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def add(first: jax.Array, second: jax.Array) -> jax.Array:
    """The sum of bits (B, L) and (B, L), least significant first, without the last carry."""
    # A place with equal bits sends on that bit as its carry, any other place what it was handed.
    return first ^ second ^ _before(_latest(first == second, first))


def subtract(first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The difference of bits (B, L), and whether it is negative, (B,) bool; then it is no use."""
    borrow = _latest(first != second, second)
    return first ^ second ^ _before(borrow), borrow[:, -1] == 1


def multiply(first: jax.Array, second: jax.Array) -> jax.Array:
    """The product of bits (B, L) and (B, L), least significant first, its first L bits."""
    length = first.shape[1]
    # The window that begins at place L - 1 - k holds the bits k, k - 1, ..., 0 of the second
    # number, then zeros.
    backwards = jnp.pad(second[:, ::-1], ((0, 0), (0, length)))

    def step(carry: jax.Array, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        window = jax.lax.dynamic_slice_in_dim(backwards, length - 1 - place, length, axis=1)
        total = carry + (first & window).sum(axis=1)
        return total >> 1, total & 1

    _, bits = jax.lax.scan(step, jnp.zeros_like(first[:, 0]), jnp.arange(length))
    return bits.T


def square_root(pairs: jax.Array) -> jax.Array:
    """Integer square roots, a bit a pair of bits of the number, as in the school method.

    Args:
      pairs: (B, K, 2) the number to the base 4, the most significant pair first, the higher bit
        first.

    Returns:
      (B, K) bits of the root, the most significant first. The first k of them are the root of the
      first k pairs.
    """
    width = pairs.shape[1] + 2

    def step(
        state: tuple[jax.Array, jax.Array], pair: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        root, rest = state
        rest = jnp.concatenate([pair[:, ::-1], rest[:, :-2]], axis=1)
        trial = jnp.concatenate([jnp.ones_like(pair).at[:, 1].set(0), root[:, :-2]], axis=1)
        less, negative = subtract(rest, trial)
        bit = 1 - negative.astype(rest.dtype)
        root = jnp.concatenate([bit[:, None], root[:, :-1]], axis=1)
        return (root, jnp.where(negative[:, None], rest, less)), bit

    start = jnp.zeros((len(pairs), width), pairs.dtype)
    _, bits = jax.lax.scan(step, (start, start), jnp.moveaxis(pairs, 1, 0))
    return bits.T


def _latest(known: jax.Array, bit: jax.Array) -> jax.Array:
    """At each place (B, L) the bit at the last place, up to it, that is known; 0 where none is."""
    place = jnp.arange(1, known.shape[1] + 1)
    return jax.lax.cummax(jnp.where(known, 2 * place + bit, 0), axis=1) & 1


def _before(values: jax.Array) -> jax.Array:
    """What stands a place earlier, with 0 at the first."""
    return jnp.pad(values[:, :-1], ((0, 0), (1, 0)))
