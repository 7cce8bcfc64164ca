"""Addition, multiplication and square roots of binary numbers."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.chomsky import digits
from evojax_nar.tasks.chomsky.base import Strings, StringTask, fair_bits
from evojax_nar.tasks.chomsky.draws import above_zero, below, to_bits
from evojax_nar.tasks.sequence import gather

SIGN, END = 2, 2


@dataclass(frozen=True)
class _TwoNumbers(StringTask):
    """What addition and multiplication share: how two numbers make a string, and a number ends."""

    symbols: ClassVar[int] = 3
    classes: ClassVar[int] = 3
    words: ClassVar[int] = 4

    @abc.abstractmethod
    def result(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """The result of two numbers as bits (B, S), the least significant first."""

    def fewest_bits(self, size: jax.Array) -> jax.Array:
        """How many bits a result has that is 0, for each of the sizes (B,)."""
        return jnp.ones_like(size)

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """Two numbers with a sign between them, and the result with an end token."""
        length, place = size[:, None], jnp.arange(words.shape[1])
        alone = length <= 2
        bits = fair_bits(words[..., 0])
        # A string too short for a sign is one number, below the largest that it could hold.
        first_length = jnp.where(alone, length, 1 + below(words[:, :1, 1], length - 2))
        second_length = jnp.where(alone, 0, length - 1 - first_length)
        number = below(words[:, 0, 1], (1 << jnp.clip(size, 0, 2)) - 1)
        first = jnp.where(
            alone,
            to_bits(number, words.shape[1]),
            above_zero(bits, first_length[:, 0], words[:, 0, 2]),
        )
        rest = gather(bits, first_length + 1 + place)
        second = above_zero(rest, second_length[:, 0], words[:, 0, 3])
        tokens = jnp.where(
            place < first_length,
            first,
            jnp.where(place == first_length, SIGN, gather(second, place - first_length - 1)),
        )
        result = self.result(first, second)
        count = jnp.where(result == 1, place + 1, 0).max(axis=1)
        count = jnp.maximum(count, self.fewest_bits(size))
        output = jnp.arange(self.output_length(words.shape[1]))
        result = jnp.pad(result, ((0, 0), (0, len(output) - words.shape[1])))
        return Strings(tokens, jnp.where(output == count[:, None], END, result), count + 1)


@final
@dataclass(frozen=True)
class BinaryAddition(_TwoNumbers):
    """Add two binary numbers, least significant bit first.

    The string is a number, the token 2 and another number, n tokens in all; the first has 1 to
    n - 2 bits, each number of bits as likely as the others, and both are uniform from 1 on. The
    answer is the sum without zeros at its end, then the end token 2, then zeros up to n + 1 steps
    (as in the released code; n in the paper); T = 2n + 1, inputs (B, T, 4). Below n = 3 the string
    is one number below 2**n - 1, to be given back. Steps after the end token are not judged, see
    `StackManipulation`.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/binary_addition"

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=(3, 4), test_sizes=(4, 6))

    def output_length(self, size: Any) -> Any:
        """n + 1."""
        return size + 1

    def result(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """The sum, which has n - 1 bits at most."""
        return digits.add(first, second)


@final
@dataclass(frozen=True)
class BinaryMultiplication(_TwoNumbers):
    """Multiply two binary numbers, least significant bit first.

    Strings are those of `BinaryAddition`. The answer is the product without zeros at its end, then
    the end token 2, then zeros up to n steps; T = 2n, inputs (B, T, 4). As in the released code the
    answer is always 2 for n = 1, and always 0 2 for n = 2. Steps after the end token are not
    judged, see `StackManipulation`.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/binary_multiplication"

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=(3, 4), test_sizes=(4, 6))

    def output_length(self, size: Any) -> Any:
        """n."""
        return size

    def result(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """The product, which has n - 1 bits at most."""
        return digits.multiply(first, second)

    def fewest_bits(self, size: jax.Array) -> jax.Array:
        """None where n = 1, which leaves no place for it."""
        return jnp.minimum(size - 1, 1)


@final
@dataclass(frozen=True)
class ComputeSqrt(StringTask):
    """Give the whole part of the square root of a binary number, most significant bit first.

    The string is n bits, a number uniform from 1 to 2**n - 1; the answer is ceil(n / 2) bits. Both
    begin with the most significant bit, as in the released code (the paper has the least).
    T = n + ceil(n / 2), inputs (B, T, 3).

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/compute_sqrt"
    symbols: ClassVar[int] = 2
    classes: ClassVar[int] = 2
    words: ClassVar[int] = 2

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=(3, 5), test_sizes=(5, 7))

    def output_length(self, size: Any) -> Any:
        """ceil(n / 2)."""
        return (size + 1) // 2

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """The number, and its root."""
        bits = above_zero(fair_bits(words[..., 0]), size, words[:, 0, 1])
        steps = self.output_length(words.shape[1])
        # The root comes a bit a pair of bits; the first pair of an odd length begins with a 0.
        place = jnp.arange(2 * steps) - (size % 2)[:, None]
        pairs = jnp.where(place >= 0, gather(bits, place), 0)
        return Strings(bits, digits.square_root(pairs.reshape(len(pairs), steps, 2)))
