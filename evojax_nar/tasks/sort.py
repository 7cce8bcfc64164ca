"""Sorting numbers, letters and words: each key is to be given its rank."""

from __future__ import annotations

import abc
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import InputError, positive_int
from evojax_nar.tasks.sequence import SequenceTask, assemble, build_from_data, gather
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Field, Key

LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PLACES_A_COLUMN = 6
"""27 to the power of 6 is the last below 2 to the power of 31."""
_PASSES = Field("pass", "categorical", 2)


@dataclass(frozen=True)
class _Sorting(SequenceTask):
    """What the three share: the list is shown twice, and ranked the second time.

    Only then has a model that reads from left to right seen all keys before it must rank one.
    """

    train_sizes: Sizes = range(2, 11)
    test_sizes: Sizes = (10, 20, 50, 100)
    source: ClassVar[str] = "keys as in Velickovic et al. 2022, arXiv:2205.15659"

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=(2, 3), test_sizes=(3, 6))

    @property
    def output(self) -> Field:
        """The rank, from 0, as a fraction of size - 1."""
        return Field("rank", "scalar", 1)

    def length(self, size: int) -> int:
        """T = 2 * size."""
        return 2 * size

    @abc.abstractmethod
    def columns(self, content: jax.Array) -> tuple[jax.Array, ...]:
        """What the keys are ordered by, (B, max_size) each, the most important first."""

    @abc.abstractmethod
    def features(self, content: jax.Array) -> jax.Array:
        """The keys as the model sees them, (B, max_size, F)."""

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of the first `size` (B,) of the keys (B, max_size, ...)."""
        return show_twice(self.features(content), ranks(self.columns(content), size), size)


def ranks(columns: tuple[jax.Array, ...], size: jax.Array) -> jax.Array:
    """The rank from 0 of each of the first `size` (B,) keys, (B, max_size) int32.

    Keys are compared column by column, exactly; equal keys rank in the order in which they stand.
    What stands after the first `size` ranks after them, whatever it is.
    """
    padding = jnp.arange(columns[0].shape[1])[None] >= size[:, None]
    # lexsort takes the most important column last, and is stable.
    order = jnp.lexsort((*columns[::-1], padding), axis=-1)
    return jnp.argsort(order, axis=-1).astype(jnp.int32)


def show_twice(features: jax.Array, rank: jax.Array, size: jax.Array) -> Batch:
    """The batch of keys (B, max_size, F) with these ranks (B, max_size) and sizes (B,).

    Two flags follow the features: one for the steps of each pass.
    """
    max_size = features.shape[1]
    step = jnp.arange(2 * max_size)[None]
    size_column = size[:, None]
    second = step >= size_column
    at = jnp.where(second, step - size_column, step)
    flags = jnp.stack([~second, second], axis=-1).astype(features.dtype)
    fraction = rank.astype(jnp.float32) / jnp.maximum(size_column - 1, 1).astype(jnp.float32)
    return assemble(
        values=jnp.concatenate([gather(features, at), flags], axis=-1),
        exists=step < 2 * size_column,
        targets=gather(fraction, at)[..., None],
        mask=second,
        size=size,
        max_size=max_size,
    )


@final
@dataclass(frozen=True)
class Sort(_Sorting):
    """Rank numbers from 0 to 1, the smallest first.

    The size is the number of keys n. The list is shown once, then a second time with another flag
    (T = 2n, inputs (B, T, 3)); in this second pass the output is the rank of the key of the step,
    from 0, divided by n - 1 (0 where n is 1). Equal keys rank in the order in which they stand.
    Keys are uniform, as in the sorting algorithms of Velickovic et al. 2022, "The CLRS Algorithmic
    Reasoning Benchmark", arXiv:2205.15659.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "sort"

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The number, and which pass it is."""
        return (Field("key", "scalar", 1), _PASSES)

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Numbers (B, max_size) uniform in [0, 1), float32."""
        return jax.random.uniform(key, (batch, max_size), jnp.float32)

    def columns(self, content: jax.Array) -> tuple[jax.Array, ...]:
        """The numbers themselves."""
        return (content,)

    def features(self, content: jax.Array) -> jax.Array:
        """The numbers themselves, (B, max_size, 1)."""
        return content[..., None]

    def encode_keys(self, lists: Iterable[Any]) -> Batch:
        """The batch of given lists of numbers, or of an array of them (B, n).

        The numbers of each list are scaled so that its smallest is 0 and its largest 1 (all 0
        where they are equal), since the model was trained on such numbers. The true ranks are
        those of the numbers as given, in their own precision.

        Raises:
          InputError: for an empty list, or anything but finite numbers.
        """
        rows = [_numbers(row) for row in lists]
        size = _list_sizes(rows)
        content = np.zeros((len(rows), max(size)), np.float32)
        rank = np.zeros(content.shape, np.int32)
        for place, row in enumerate(rows):
            content[place, : len(row)] = _scaled(row)
            rank[place, np.argsort(row, kind="stable")] = np.arange(len(row))
        return jax.jit(show_twice)(content[..., None], rank, size)


@final
@dataclass(frozen=True)
class SortLetters(_Sorting):
    """Rank letters from a to z in the order of the alphabet.

    The letter is one-hot, so inputs are (B, T, 28); all else is as in `Sort`.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "sort_letters"

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The letter, and which pass it is."""
        return (Field("key", "categorical", len(LETTERS)), _PASSES)

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Letters (B, max_size), each as likely as the others: 0 for a to 25 for z, int32."""
        return jax.random.randint(key, (batch, max_size), 0, len(LETTERS), jnp.int32)

    def columns(self, content: jax.Array) -> tuple[jax.Array, ...]:
        """The numbers of the letters."""
        return (content,)

    def features(self, content: jax.Array) -> jax.Array:
        """The letters, one-hot (B, max_size, 26)."""
        return jax.nn.one_hot(content, len(LETTERS), dtype=jnp.float32)

    def encode_keys(self, lists: Iterable[Iterable[str]]) -> Batch:
        """The batch of given lists of letters; a string is one too.

        Raises:
          InputError: for an empty list, or anything but single letters from a to z.
        """
        rows = [_codes(row, longest=1)[:, 0] - 1 for row in lists]
        return build_from_data(self, *_padded(rows))


@final
@dataclass(frozen=True)
class SortWords(_Sorting):
    """Rank words in the order of a dictionary, a word before those that it begins.

    A word is `word_length` places, each one-hot over the end of the word and the letters, so
    inputs are (B, T, 27 * word_length + 2); all else is as in `Sort`.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
      word_length: letters in the longest words; the shortest have one.
    """

    name: ClassVar[str] = "sort_words"
    word_length: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_int("word_length", self.word_length)

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=(2, 3), test_sizes=(3, 6), word_length=2)

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The places of the word, and which pass it is."""
        places = range(self.word_length)
        letters = (Field(f"letter_{place}", "categorical", len(LETTERS) + 1) for place in places)
        return (*letters, _PASSES)

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Words (B, max_size, word_length) of uniform length and letters, int32.

        0 is the end of a word, 1 to 26 are a to z.
        """
        length_key, letter_key = jax.random.split(key)
        shape = (batch, max_size, self.word_length)
        lengths = jax.random.randint(length_key, shape[:2], 1, self.word_length + 1, jnp.int32)
        letters = jax.random.randint(letter_key, shape, 1, len(LETTERS) + 1, jnp.int32)
        return jnp.where(jnp.arange(self.word_length) < lengths[..., None], letters, 0)

    def columns(self, content: jax.Array) -> tuple[jax.Array, ...]:
        """Words as numbers to the base 27; the end counts less than a, so a prefix comes first."""
        columns = []
        for first in range(0, self.word_length, _PLACES_A_COLUMN):
            column = jnp.zeros(content.shape[:2], jnp.int32)
            for place in range(first, min(first + _PLACES_A_COLUMN, self.word_length)):
                column = column * (len(LETTERS) + 1) + content[..., place]
            columns.append(column)
        return tuple(columns)

    def features(self, content: jax.Array) -> jax.Array:
        """The places, one-hot, side by side: (B, max_size, 27 * word_length)."""
        one_hot = jax.nn.one_hot(content, len(LETTERS) + 1, dtype=jnp.float32)
        return one_hot.reshape(*content.shape[:2], -1)

    def encode_keys(self, lists: Iterable[Iterable[str]]) -> Batch:
        """The batch of given lists of words.

        Raises:
          InputError: for an empty list, or a word of other than 1 to `word_length` letters a to z.
        """
        return build_from_data(
            self, *_padded([_codes(row, longest=self.word_length) for row in lists])
        )


def _numbers(row: Any) -> np.ndarray:
    numbers = np.asarray(row)
    if numbers.dtype.kind not in "biuf" or numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise InputError("lists holds what is not a list of finite numbers; give lists of numbers.")
    return numbers


def _scaled(numbers: np.ndarray) -> np.ndarray:
    # Halved first, so that the span of the largest and the smallest float64 stays finite.
    halves = numbers.astype(np.float64) / 2
    span = halves.max() - halves.min()
    return (halves - halves.min()) / span if span > 0 else np.zeros(len(numbers))


def _codes(words: Iterable[str], *, longest: int) -> np.ndarray:
    """Words as numbers (n, longest): 1 to 26 for a to z, then 0."""
    words = list(words)
    codes = np.zeros((len(words), longest), np.int32)
    for place, word in enumerate(words):
        if not isinstance(word, str) or not 1 <= len(word) <= longest or set(word) - set(LETTERS):
            letters = "one letter" if longest == 1 else f"1 to {longest} letters"
            raise InputError(f"lists holds {word!r}; give {letters} from a to z.")
        codes[place, : len(word)] = [LETTERS.index(letter) + 1 for letter in word]
    return codes


def _list_sizes(rows: list[np.ndarray]) -> np.ndarray:
    if not rows or not all(len(row) for row in rows):
        raise InputError(
            f"lists has {len(rows)} lists or an empty one; give at least one key each."
        )
    return np.asarray([len(row) for row in rows], np.int32)


def _padded(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of keys (n, ...) as content (B, max_size, ...) and sizes (B,)."""
    size = _list_sizes(rows)
    content = np.zeros((len(rows), max(size), *rows[0].shape[1:]), np.int32)
    for place, row in enumerate(rows):
        content[place, : len(row)] = row
    return content, size
