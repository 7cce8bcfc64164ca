"""Random words shaped by the size of each example: numbers below a bound, and numbers above 0."""

from __future__ import annotations

import jax
import jax.numpy as jnp

_HALF = 16
_LOW = (1 << _HALF) - 1
_SHORT = 30
"""A number of so many bits fits an int32."""


def below(words: jax.Array, bound: jax.Array | int) -> jax.Array:
    """Uniform whole numbers from 0 to `bound` - 1, int32, out of uniform uint32 `words`.

    It is the upper half of the 64 bits of words * bound, so one number is more likely than another
    by bound / 2**32 at most. A bound below 1 gives 0.
    """
    bound = jnp.maximum(jnp.asarray(bound, jnp.int32), 1).astype(jnp.uint32)
    high, low = words >> _HALF, words & _LOW
    bound_high, bound_low = bound >> _HALF, bound & _LOW
    cross, other = high * bound_low, low * bound_high
    carry = ((low * bound_low) >> _HALF) + (cross & _LOW) + (other & _LOW)
    top = high * bound_high + (cross >> _HALF) + (other >> _HALF) + (carry >> _HALF)
    return top.astype(jnp.int32)


def to_bits(number: jax.Array, length: int) -> jax.Array:
    """Numbers (B,), not negative, as bits (B, length), the least significant first, int32."""
    place = jnp.arange(length)
    bits = (number[:, None] >> jnp.minimum(place, 31)) & 1
    return jnp.where(place < 31, bits, 0)


def above_zero(bits: jax.Array, length: jax.Array, word: jax.Array) -> jax.Array:
    """Uniform numbers from 1 to 2**length - 1 as bits, out of fair bits.

    Fair bits that are not all 0 are such a number. Where they are, once in 2**length, a number is
    drawn again; its bits beyond the thirtieth stay 0, in which nobody could tell the difference.

    Args:
      bits: (B, L) fair bits, int32.
      length: (B,) how many of them are the number; the others are set to 0.
      word: (B,) uint32, what is drawn from then.
    """
    bits = jnp.where(jnp.arange(bits.shape[1]) < length[:, None], bits, 0)
    number = 1 + below(word, (1 << jnp.clip(length, 0, _SHORT)) - 1)
    again = jnp.where((length > 0)[:, None], to_bits(number, bits.shape[1]), 0)
    return jnp.where(bits.any(axis=1, keepdims=True), bits, again)
