"""Addition of two numbers written as digits: the sum is read out, or predicted digit by digit."""

from __future__ import annotations

import abc
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import InputError, positive_int, reject
from evojax_nar.tasks.sequence import SequenceTask, assemble, build_from_data, gather
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Field, Key

DIGITS = 10


@dataclass(frozen=True)
class _Addition(SequenceTask):
    """What the two share; they differ in what is shown while the sum is judged.

    Tokens are the ten digits, then plus, equals and, in one of the two, a blank.
    """

    train_sizes: Sizes = (10,)
    test_sizes: Sizes = (10, 11, 12, 15, 20)
    tokens: ClassVar[int]

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The token, one-hot."""
        return (Field("token", "categorical", self.tokens),)

    @property
    def output(self) -> Field:
        """A digit of the sum."""
        return Field("digit", "categorical", DIGITS)

    def length(self, size: int) -> int:
        """T = 3 * size + 2."""
        return 3 * size + 2

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Digits of both numbers (B, max_size, 2), uniform, int32, the least significant first."""
        return jax.random.randint(key, (batch, max_size, 2), 0, DIGITS, jnp.int32)

    @abc.abstractmethod
    def shown(self, total: jax.Array, index: jax.Array) -> jax.Array:
        """Tokens shown after equals: `index` (B, T) counts from 0, `total` (B, L) is the sum."""

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of the first `size` (B,) of the digits (B, max_size, 2)."""
        max_size, size_column = content.shape[1], size[:, None]
        first, second = content[..., 0], content[..., 1]
        shape = (len(size), self.length(max_size))
        step = jnp.broadcast_to(jnp.arange(shape[1]), shape)
        answer = step - 2 * size_column - 1  # which digit of the sum a step is judged by
        total = add_digits(content, size)
        token = gather(first, step)
        token = jnp.where(step == size_column, DIGITS, token)
        token = jnp.where(step > size_column, gather(second, step - size_column - 1), token)
        token = jnp.where(answer == 0, DIGITS + 1, token)
        token = jnp.where(answer > 0, self.shown(total, answer - 1), token)
        return assemble(
            values=jax.nn.one_hot(token, self.tokens),
            exists=answer <= size_column,
            targets=gather(total, answer),
            mask=answer >= 0,
            size=size,
            max_size=max_size,
        )

    def encode_pairs(self, pairs: Iterable[tuple[int, int]], digits: int = 10) -> Batch:
        """The batch of given pairs of whole numbers, all written with `digits` digits.

        Raises:
          InputError: for no pairs, or a number that is not whole or does not fit.
        """
        positive_int("digits", digits)
        written = [[_write(number, digits) for number in pair] for pair in pairs]
        if not written or any(len(pair) != 2 for pair in written):
            raise InputError("pairs has none, or not two numbers in each; give pairs of numbers.")
        content = np.asarray(written, np.int32).swapaxes(1, 2)
        return build_from_data(self, content, np.full(len(content), digits, np.int32))


@final
@dataclass(frozen=True)
class DecimalAddition(_Addition):
    """Read two decimal numbers digit by digit, then give the digits of their sum.

    The size is the number of digits L of each number. Every number is written with its least
    significant digit first and with zeros up to L digits: first the one, plus, the other, equals,
    and then L blanks, so T = 3L + 2 and inputs are (B, T, 13), one-hot. Output: ten classes, the
    L + 1 digits of the sum, judged at equals and at the blanks. No answer is ever shown, so a model
    of any kind can do it. This is not how AdderBoard judges (github.com/anadim/AdderBoard): there
    each answer is fed back to an autoregressive transformer, see `AutoregressiveAddition`. What
    counts in both is `exact`.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "logic/decimal_addition"
    source: ClassVar[str] = "after AdderBoard, github.com/anadim/AdderBoard, without feedback"
    tokens: ClassVar[int] = DIGITS + 3

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=(1,), test_sizes=(1, 2))

    def shown(self, total: jax.Array, index: jax.Array) -> jax.Array:
        """Blanks."""
        return jnp.full_like(index, DIGITS + 2)


@final
@dataclass(frozen=True)
class AutoregressiveAddition(_Addition):
    """Predict each digit of a sum from the two numbers and the digits of the sum before it.

    As `DecimalAddition`, but after equals come the right digits of the sum, all but the last, in
    place of blanks: inputs (B, T, 12). **Only for models that never look ahead**, such as a causal
    transformer or a recurrent network: any other reads the answer from the next step.

    For these `exact` is what AdderBoard (github.com/anadim/AdderBoard) measures with L = 10: all
    digits are right with the right ones before them if and only if they are right with the model's
    own fed back (`decode` does that). `score` has no such meaning: its digits follow right ones. An
    entry to the board must further be a transformer with self-attention, decoded by code that knows
    nothing of addition, and right for at least 99 % of `board_pairs`. The format of the tokens is
    free there.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "logic/autoregressive_addition"
    source: ClassVar[str] = "AdderBoard, github.com/anadim/AdderBoard, March 2026"
    tokens: ClassVar[int] = DIGITS + 2

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=(1,), test_sizes=(1, 2))

    def shown(self, total: jax.Array, index: jax.Array) -> jax.Array:
        """The digits of the sum."""
        return gather(total, index)


def add_digits(content: jax.Array, size: jax.Array) -> jax.Array:
    """The digits of sums (B, L + 1), int32, of the first `size` (B,) digits (B, L, 2) of numbers.

    All are written with the least significant digit first.
    """
    exists = jnp.arange(content.shape[1])[None] < size[:, None]
    columns = jnp.where(exists, content.sum(axis=-1), 0)

    def add(carry: jax.Array, column: jax.Array) -> tuple[jax.Array, jax.Array]:
        return (column + carry) // DIGITS, (column + carry) % DIGITS

    last, digits = jax.lax.scan(add, jnp.zeros_like(size), columns.T)
    return jnp.concatenate([digits.T, last[:, None]], axis=1).astype(jnp.int32)


def board_pairs(count: int = 10_000, seed: int = 2025) -> list[tuple[int, int]]:
    """The ten fixed pairs of AdderBoard and `count` random ones, by Python's own generator.

    With 10,000 pairs and the seed 2025 they are the very pairs by which entries are verified.
    """
    most = 10**10 - 1
    fixed = [
        *[(0, 0), (0, 1), (most, 0), (most, 1), (most, most)],
        *[(5_000_000_000, 5_000_000_000), (1_111_111_111, 8_888_888_889)],
        *[(1_234_567_890, 9_876_543_210), (most, most), (1, most)],
    ]
    generator = random.Random(seed)
    drawn = [(generator.randint(0, most), generator.randint(0, most)) for _ in range(count)]
    return fixed + drawn


def _write(number: int, digits: int) -> list[int]:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 10**digits:
        remedy = f"give whole numbers of at most digits={digits} digits"
        raise reject("pairs", number, "does not fit", remedy)
    return [number // 10**place % 10 for place in range(digits)]
