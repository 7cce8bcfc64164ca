"""Languages that count: after the last choice every symbol follows from those before."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.chomsky.draws import below
from evojax_nar.tasks.formal.base import LanguageTask
from evojax_nar.tasks.sequence import assemble, judge
from evojax_nar.types import Batch, Evaluation, Field


@dataclass(frozen=True)
class _Counting(LanguageTask):
    """A string is blocks of one symbol each. At every symbol the next one is to be predicted."""

    determined: ClassVar[int]
    """The first symbol after which no other but one may follow."""

    @property
    def output(self) -> Field:
        """The next symbol."""
        return Field("next_symbol", "categorical", len(self.symbols))

    @abc.abstractmethod
    def ends(self, own: jax.Array, word: jax.Array) -> tuple[jax.Array, ...]:
        """Where each block ends (B,), counted in symbols, for strings of sizes `own` (B,)."""

    def chances(self, sizes: np.ndarray, prior: float) -> np.ndarray:
        """Geometric: a string goes on with the chance 1 - prior."""
        return (1 - prior) ** (sizes - 1)

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of strings of these sizes (B,) that the words (B, max_size, ...) make."""
        max_size = content.shape[1]
        own = self.own_sizes(content[:, 0, 0], size, max_size=max_size)
        *inner, last = self.ends(own, content[:, 0, -1])
        step = jnp.arange(self.length(max_size) + 1)[None]
        token = jnp.where(step == 0, 0, 1 + sum(step > end[:, None] for end in inner))
        token = jnp.where(step > last[:, None], 0, token)
        shown = step[:, :-1] <= last[:, None]
        values = jax.nn.one_hot(token[:, :-1], len(self.symbols))
        return assemble(
            values=jnp.where(shown[..., None], values, 0.0),
            exists=step[:, :-1] <= self.unit * size[:, None],
            targets=token[:, 1:],
            mask=shown,
            size=size,
            max_size=max_size,
        )

    def evaluate(self, outputs: jax.Array, batch: Batch) -> Evaluation:
        """Loss over all symbols, score over the determined ones, of outputs (B, T, F).

        The loss is the cross-entropy in nats to the next symbol, which cannot fall to 0 where there
        is a choice. Score and `position` are the accuracy over the determined steps, averaged over
        each string and then over the batch; `exact` is the fraction of strings with all of these
        right. `next_symbol` is the accuracy over all symbols.
        """
        loss, score, _ = judge(self.output, outputs, batch)
        determined = (batch.inputs.values[..., self.determined :] > 0).any(axis=-1)
        at_determined = batch._replace(mask=batch.mask & determined)
        _, position, metrics = judge(self.output, outputs, at_determined)
        return Evaluation(loss, position, {**metrics, "next_symbol": score})


@final
@dataclass(frozen=True)
class AnBn(_Counting):
    """Predict the next symbol of n times a, then n times b.

    The size is n, at least 1, or the largest n where `prior` is a chance. Steps show the symbols of
    # a..a b..b, one-hot, and ask for the one after each, at last #: T = 2n + 1, inputs and outputs
    (B, T, 3). From the first b on the next symbol is determined, and only that is scored. Trained
    on are n with the chance prior * (1 - prior)**(n - 1), as in the published corpora.

    Args:
      train_sizes: sizes to train on; one, where `prior` is a chance, to have all n up to it.
      test_sizes: sizes to be judged at, n alone.
      prior: the chance to stop after each n; None for strings of exactly the size.
    """

    name: ClassVar[str] = "formal/an_bn"
    symbols: ClassVar[str] = "#ab"
    unit: ClassVar[int] = 2
    determined: ClassVar[int] = 2

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=6, test_sizes=(6, 10))

    def ends(self, own: jax.Array, word: jax.Array) -> tuple[jax.Array, ...]:
        """After n and 2n symbols."""
        return own, 2 * own


@final
@dataclass(frozen=True)
class AnBnCn(_Counting):
    """Predict the next symbol of n times a, n times b, then n times c.

    T = 3n + 1, inputs and outputs (B, T, 4); from the first b on the next symbol is determined. All
    else is as in `AnBn`.

    Args:
      train_sizes: sizes to train on; one, where `prior` is a chance, to have all n up to it.
      test_sizes: sizes to be judged at, n alone.
      prior: the chance to stop after each n; None for strings of exactly the size.
    """

    name: ClassVar[str] = "formal/an_bn_cn"
    symbols: ClassVar[str] = "#abc"
    unit: ClassVar[int] = 3
    determined: ClassVar[int] = 2

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=4, test_sizes=(4, 8))

    def ends(self, own: jax.Array, word: jax.Array) -> tuple[jax.Array, ...]:
        """After n, 2n and 3n symbols."""
        return own, 2 * own, 3 * own


@final
@dataclass(frozen=True)
class AnBmCnm(_Counting):
    """Predict the next symbol of n times a, m times b, then n + m times c.

    The size is n + m, or the largest n + m where `prior` is a chance; n and m are at least 1, and
    of one sum each n is as likely as the others. T = 2(n + m) + 1, inputs and outputs (B, T, 4);
    from the first c on the next symbol is determined, and only that is scored. Trained on are n and
    m with the chance prior * (1 - prior)**(n - 1) each. A size of 1 has n = 1 and m = 0.

    Args:
      train_sizes: sizes to train on; one, where `prior` is a chance, to have all up to it.
      test_sizes: sizes to be judged at, n + m alone.
      prior: the chance to stop after each a, and each b; None for strings of exactly the size.
    """

    name: ClassVar[str] = "formal/an_bm_cnm"
    symbols: ClassVar[str] = "#abc"
    unit: ClassVar[int] = 2
    determined: ClassVar[int] = 3
    words: ClassVar[int] = 2

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=3, test_sizes=(3, 6), prior=0.6)

    def chances(self, sizes: np.ndarray, prior: float) -> np.ndarray:
        """Two geometric numbers: of one sum there are sizes - 1 pairs, as likely as each other."""
        return (sizes - 1) * (1 - prior) ** (sizes - 1)

    def ends(self, own: jax.Array, word: jax.Array) -> tuple[jax.Array, ...]:
        """After n, n + m and 2(n + m) symbols."""
        return 1 + below(word, own - 1), own, 2 * own
