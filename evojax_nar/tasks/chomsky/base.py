"""What the fifteen tasks share: a string is shown, then empty steps ask for the answer."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from evojax_nar.tasks.sequence import SequenceTask, assemble, gather
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Field, Key


class Strings(NamedTuple):
    """Strings and what is to be answered, padded to a largest size S, int32."""

    tokens: jax.Array
    """(B, S): the string, whose first `input_length(size)` tokens are shown."""
    answers: jax.Array
    """(B, `output_length(S)`): the classes to be given, one an empty step."""
    judged: jax.Array | None = None
    """(B,): how many of the answers count; None for all `output_length(size)` of them."""


@dataclass(frozen=True)
class StringTask(SequenceTask):
    """A task of the suite of Deletang et al. 2023. The size is the length n of the string.

    The string is shown one token a step, one-hot. Then come as many empty steps as the answer has
    tokens, each marked in one further channel of the inputs, and there the answer is read: nothing
    is fed back. The published score is the accuracy averaged over every length from 41 to 500, of
    which `test_sizes` are a sample.
    """

    train_sizes: Sizes = range(1, 41)
    test_sizes: Sizes = (41, 64, 100, 141, 200, 316, 500)

    source: ClassVar[str] = "Deletang et al. 2023, arXiv:2207.02098"
    symbols: ClassVar[int]
    """How many tokens a string may have at a place."""
    classes: ClassVar[int]
    """How many an answer may have."""
    words: ClassVar[int] = 1
    """Random words a token."""

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The token and, as the last channel, the mark of an empty step."""
        return (Field("token", "categorical", self.symbols + 1),)

    @property
    def output(self) -> Field:
        """A token of the answer."""
        return Field("answer", "categorical", self.classes)

    def input_length(self, size: Any) -> Any:
        """Tokens of a string of `size`, a number or an array: the size itself."""
        return size

    @abc.abstractmethod
    def output_length(self, size: Any) -> Any:
        """Empty steps that follow a string of `size`, a number or an array."""

    @abc.abstractmethod
    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """Strings and answers out of random words (B, S, `words`) uint32, for sizes (B,)."""

    def length(self, size: int) -> int:
        """T = the tokens of the string and of the answer."""
        return self.input_length(size) + self.output_length(size)

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Random words (B, max_size, `words`), uint32; it is the size that gives them meaning."""
        return jax.random.bits(key, (batch, max_size, self.words), jnp.uint32)

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of strings of these sizes (B,) that the words (B, max_size, ...) make."""
        max_size = content.shape[1]
        tokens, answers, judged = self.strings(content, size)
        shown = self.input_length(size)[:, None]
        empty = jnp.broadcast_to(self.output_length(size), size.shape)[:, None]
        step = jnp.arange(self.length(max_size))[None]
        padded = jnp.pad(tokens, ((0, 0), (0, step.shape[1] - max_size)))
        token = jnp.where(step < shown, padded, self.symbols)
        counted = empty if judged is None else judged[:, None]
        return assemble(
            values=jax.nn.one_hot(token, self.symbols + 1),
            exists=step < shown + empty,
            targets=gather(answers, step - shown),
            mask=(step >= shown) & (step < shown + counted),
            size=size,
            max_size=max_size,
        )


def fair_bits(words: jax.Array) -> jax.Array:
    """Fair bits, int32, out of uniform uint32 words: the first one of each."""
    return (words >> 31).astype(jnp.int32)
