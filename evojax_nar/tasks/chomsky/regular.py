"""The four regular tasks: a finite memory is enough for any length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.chomsky.base import Strings, StringTask, fair_bits
from evojax_nar.tasks.chomsky.draws import below
from evojax_nar.tasks.sequence import gather

MODULUS = 5
"""Arithmetic is modulo 5 in all tasks, and the circle has as many places."""


@dataclass(frozen=True)
class _OneAnswer(StringTask):
    """The answer is one class for the whole string."""

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=range(2, 5), test_sizes=(4, 8))

    def output_length(self, size: Any) -> Any:
        """One."""
        return 1


@final
@dataclass(frozen=True)
class EvenPairs(_OneAnswer):
    """Say whether a string of bits has an odd number of places where it changes.

    The string is n fair bits; class 1 for an odd number of neighbours 01 and 10 together, which is
    to say that the first bit is not the last. T = n + 1, inputs (B, T, 3).

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/even_pairs"
    symbols: ClassVar[int] = 2
    classes: ClassVar[int] = 2

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """The bits, and whether the first is not the last."""
        bits = fair_bits(words[..., 0])
        return Strings(bits, (bits[:, :1] + gather(bits, size[:, None] - 1)) % 2)


@final
@dataclass(frozen=True)
class ParityCheck(_OneAnswer):
    """Say whether a string of bits has an odd number of ones.

    The string is n fair bits. T = n + 1, inputs (B, T, 3). It differs from the task `parity` in the
    empty step in which it is answered.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/parity_check"
    symbols: ClassVar[int] = 2
    classes: ClassVar[int] = 2

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """The bits, and their sum modulo 2."""
        bits = fair_bits(words[..., 0])
        shown = jnp.arange(bits.shape[1]) < size[:, None]
        return Strings(bits, jnp.where(shown, bits, 0).sum(axis=1, keepdims=True) % 2)


@final
@dataclass(frozen=True)
class CycleNavigation(_OneAnswer):
    """Say where a walk on a circle of five places ends.

    The string is n moves, each as likely as the others: token 0 is a place back, 1 stays, 2 is a
    place on. The walk begins at place 0. T = n + 1, inputs (B, T, 4).

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/cycle_navigation"
    symbols: ClassVar[int] = 3
    classes: ClassVar[int] = MODULUS

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """The moves, and the place where they end."""
        moves = below(words[..., 0], self.symbols)
        shown = jnp.arange(moves.shape[1]) < size[:, None]
        return Strings(moves, jnp.where(shown, moves - 1, 0).sum(axis=1, keepdims=True) % MODULUS)


@final
@dataclass(frozen=True)
class ModularArithmetic(_OneAnswer):
    """Give the value modulo 5 of digits with plus, minus and times between them.

    Digits 0 to 4 stand at the even places, counted from 0, and the tokens 5 +, 6 - and 7 * between
    them, each as likely as the others; products come before sums. A string has an odd length, so
    that of an even n is n - 1, as in the released code (the paper rounds up). T is that length + 1,
    inputs (B, T, 10): the code reserves the token 8 and never uses it. The code multiplies in
    32 bits, which a long product overflows; here every step is taken modulo 5.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/modular_arithmetic"
    symbols: ClassVar[int] = MODULUS + 4
    classes: ClassVar[int] = MODULUS

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=range(1, 4), test_sizes=(3, 5))

    def input_length(self, size: Any) -> Any:
        """The size where it is odd, else one less."""
        return size - 1 + size % 2

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """The expression, and its value."""
        place = jnp.arange(words.shape[1])
        digit, operator = below(words[..., 0], MODULUS), MODULUS + below(words[..., 0], 3)
        tokens = jnp.where(place % 2 == 0, digit, operator)
        return Strings(tokens, _value(tokens, self.input_length(size))[:, None])


def _value(tokens: jax.Array, length: jax.Array) -> jax.Array:
    """The values (B,) of the first `length` (B,) of tokens (B, S), from left to right."""
    pairs = (tokens.shape[1] - 1) // 2
    operators, digits = tokens[:, 1 : 2 * pairs : 2], tokens[:, 2 : 2 * pairs + 1 : 2]
    # What comes after the string is + 0.
    shown = jnp.arange(pairs) < (length[:, None] - 1) // 2
    operators, digits = jnp.where(shown, operators, MODULUS), jnp.where(shown, digits, 0)

    def step(
        state: tuple[jax.Array, jax.Array], pair: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        total, term = state
        operator, digit = pair
        times, signed = operator == MODULUS + 2, jnp.where(operator == MODULUS, digit, -digit)
        total = jnp.where(times, total, total + term) % MODULUS
        return (total, jnp.where(times, term * digit, signed) % MODULUS), None

    start = (jnp.zeros_like(tokens[:, 0]), tokens[:, 0])
    (total, term), _ = jax.lax.scan(step, start, (operators.T, digits.T))
    return (total + term) % MODULUS
