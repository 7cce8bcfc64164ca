"""Arithmetic with brackets: the value of an expression, and the unknown of an equation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.chomsky import expressions
from evojax_nar.tasks.chomsky.base import Strings, StringTask
from evojax_nar.tasks.chomsky.draws import below
from evojax_nar.tasks.chomsky.regular import MODULUS
from evojax_nar.tasks.sequence import gather


@dataclass(frozen=True)
class _Brackets(StringTask):
    symbols: ClassVar[int] = MODULUS + 6
    classes: ClassVar[int] = MODULUS
    words: ClassVar[int] = 2

    def output_length(self, size: Any) -> Any:
        """One."""
        return 1


@final
@dataclass(frozen=True)
class ModularArithmeticBrackets(_Brackets):
    """Give the value modulo 5 of an expression in brackets, with plus, minus and times.

    The string is a random expression of length n, as `expressions` defines it: digits are the
    tokens 0 to 4, then come 5 +, 6 -, 7 *, 8 ( and 9 ). T = n + 1, inputs (B, T, 12): the released
    code reserves the token 10 and never uses it. Multiplication is a setting there, which its table
    of tasks switches on.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/modular_arithmetic_brackets"

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=range(1, 5), test_sizes=(4, 8))

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """The expression, and its value."""
        made = expressions.generate(words, size, operators=3)
        return Strings(made.tokens, expressions.values(made)[:, None])


@final
@dataclass(frozen=True)
class SolveEquation(_Brackets):
    """Give the unknown digit of an equation modulo 5, in brackets, with plus and minus.

    The string is an expression of length n - 2, as in `ModularArithmeticBrackets` but without
    times, in which x stands for a digit; then = and the value. A place is drawn, each as likely as
    the others, and x stands for the next digit from there on, around the end. Digits are the tokens
    0 to 4, then come 5 +, 6 -, 7 (, 8 ), 9 x and 10 =. T = n + 1, inputs (B, T, 12). As in the
    released code the string is zeros and the answer 0 below n = 3.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/solve_equation"

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=range(3, 6), test_sizes=(5, 9))

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """The equation, and the digit that x stands for."""
        place, length = jnp.arange(words.shape[1]), (size - 2)[:, None]
        made = expressions.generate(words, size - 2, operators=2)
        # The two last places are no part of the expression, so what is drawn there is free.
        drawn = below(words[:, -1:, 0], length)
        digit = (made.tokens < MODULUS) & (place < length)
        later = _first(digit & (place >= drawn))
        unknown = jnp.where(later < len(place), later, _first(digit))
        # Without times, the brackets and what follows are a token earlier.
        tokens = jnp.where(made.tokens >= expressions.OPEN, made.tokens - 1, made.tokens)
        tokens = jnp.where(place == unknown, expressions.CLOSE, tokens)
        tokens = jnp.where(place == length, expressions.CLOSE + 1, tokens)
        tokens = jnp.where(place == length + 1, expressions.values(made)[:, None], tokens)
        short = length < 1
        answers = jnp.where(short, 0, gather(made.tokens, unknown))
        return Strings(jnp.where(short, 0, tokens), answers)


def _first(flags: jax.Array) -> jax.Array:
    """The first place (B, 1) that is flagged in (B, S); S where none is."""
    places = flags.shape[1]
    return jnp.where(flags, jnp.arange(places), places).min(axis=1, keepdims=True)
