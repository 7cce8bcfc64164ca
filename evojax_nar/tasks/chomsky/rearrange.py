"""Five tasks whose answer is the string itself in another order, or a token missing from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.chomsky.base import Strings, StringTask, fair_bits
from evojax_nar.tasks.chomsky.draws import below
from evojax_nar.tasks.sequence import gather
from evojax_nar.tasks.sizes import Sizes


@dataclass(frozen=True)
class _Rearrange(StringTask):
    """The answer is as long as the string, unless a task says otherwise."""

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=range(1, 4), test_sizes=(3, 6))

    def output_length(self, size: Any) -> Any:
        """n."""
        return size


@final
@dataclass(frozen=True)
class ReverseString(_Rearrange):
    """Give back a string of bits in the reverse of its order.

    The string is n fair bits. T = 2n, inputs (B, T, 3).

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/reverse_string"
    symbols: ClassVar[int] = 2
    classes: ClassVar[int] = 2

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """The bits, and the last of them first."""
        bits = fair_bits(words[..., 0])
        return Strings(bits, gather(bits, size[:, None] - 1 - jnp.arange(bits.shape[1])))


@final
@dataclass(frozen=True)
class DuplicateString(_Rearrange):
    """Give back a string of bits twice.

    The string is n fair bits, and the answer 2n. T = 3n, inputs (B, T, 3).

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/duplicate_string"
    symbols: ClassVar[int] = 2
    classes: ClassVar[int] = 2

    def output_length(self, size: Any) -> Any:
        """2n."""
        return 2 * size

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """The bits, and the bits twice."""
        bits = fair_bits(words[..., 0])
        place = jnp.arange(2 * bits.shape[1])
        return Strings(bits, gather(bits, place % jnp.maximum(size, 1)[:, None]))


@final
@dataclass(frozen=True)
class OddsFirst(_Rearrange):
    """Give back first every second token of a string of bits, then the others.

    The string is n fair bits. The answer begins with those at the places 1, 3, 5, ... counted from
    0, as the released code has it; then come those at 0, 2, 4, ... T = 2n, inputs (B, T, 3).

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/odds_first"
    symbols: ClassVar[int] = 2
    classes: ClassVar[int] = 2

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """The bits, and those at odd places before those at even ones."""
        bits = fair_bits(words[..., 0])
        place, odd = jnp.arange(bits.shape[1]), (size // 2)[:, None]
        return Strings(bits, gather(bits, jnp.where(place < odd, 2 * place + 1, 2 * (place - odd))))


@final
@dataclass(frozen=True)
class BucketSort(_Rearrange):
    """Sort a string over an alphabet of five.

    The string is n tokens from 0 to 4, each as likely as the others. T = 2n, inputs (B, T, 6).

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/bucket_sort"
    symbols: ClassVar[int] = 5
    classes: ClassVar[int] = 5

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """The tokens, and the tokens from the smallest to the largest."""
        tokens = below(words[..., 0], self.symbols)
        shown = jnp.arange(tokens.shape[1]) < size[:, None]
        return Strings(tokens, jnp.sort(jnp.where(shown, tokens, self.symbols), axis=1))


@final
@dataclass(frozen=True)
class MissingDuplicateString(_Rearrange):
    """Say which bit is missing from a string of bits that is shown twice.

    n // 2 fair bits are shown twice, with the token 2 in place of one of all these, at any place as
    likely as the others. Where n is odd the token 3 follows. As in the released code, n = 1 is the
    string 1 with the answer 1. T = n + 1, inputs (B, T, 5).

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/missing_duplicate_string"
    test_sizes: Sizes = (42, 64, 100, 142, 200, 316, 500)
    symbols: ClassVar[int] = 4
    classes: ClassVar[int] = 2
    words: ClassVar[int] = 2

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=(2, 4), test_sizes=(4, 6))

    def output_length(self, size: Any) -> Any:
        """One."""
        return 1

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """The bits twice with one of them hidden, and what it is."""
        place, half = jnp.arange(words.shape[1]), (size // 2)[:, None]
        twice = gather(fair_bits(words[..., 0]), place % jnp.maximum(half, 1))
        hidden = below(words[:, :1, 1], 2 * half)
        tokens = jnp.where(place == hidden, 2, jnp.where(place < 2 * half, twice, 3))
        alone = size[:, None] == 1
        return Strings(jnp.where(alone, 1, tokens), jnp.where(alone, 1, gather(twice, hidden)))
