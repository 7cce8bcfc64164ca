"""Brackets of one kind: which symbols may come next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import gammaln

from evojax_nar.tasks.formal.base import LanguageTask
from evojax_nar.tasks.sequence import assemble, gather, judge, predictions, truth
from evojax_nar.types import Batch, Evaluation, Field


@final
@dataclass(frozen=True)
class Dyck1(LanguageTask):
    """Say at every symbol of a string of matching brackets which symbols may come next.

    The size is the number of pairs n, at least 1, or the largest n where `prior` is a chance; of
    one n each string is as likely as the others. Steps show # and the brackets, one-hot, and ask
    for each of # ( and ) whether it may follow: # and ( where all brackets are closed, else both
    brackets. T = 2n + 1, inputs and outputs (B, T, 3).

    A bracket can always be opened, so no symbol is ever determined, and the accuracy of one
    predicted symbol is won by opening brackets for ever. As in the source a step is right where
    exactly the symbols that may come are held possible. There a symbol is held possible when its
    softmax output is above a threshold; here each has a logit of its own.

    Trained on are strings of the grammar S -> ( S ) S with the chance `prior`, else nothing; empty
    strings, which ask for no count, are left out.

    Args:
      train_sizes: sizes to train on; one, where `prior` is a chance, to have all n up to it.
      test_sizes: sizes to be judged at, n alone.
      prior: the chance to open a bracket; None for strings of exactly the size.
    """

    name: ClassVar[str] = "formal/dyck_1"
    symbols: ClassVar[str] = "#()"
    unit: ClassVar[int] = 2
    words: ClassVar[int] = 4

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=4, test_sizes=(4, 8))

    @property
    def output(self) -> Field:
        """Whether each symbol may come next."""
        return Field("may_follow", "bits", len(self.symbols))

    def chances(self, sizes: np.ndarray, prior: float) -> np.ndarray:
        """The Catalan number of strings with n pairs, each by n openings and n + 1 refusals."""
        catalan = gammaln(2 * sizes + 1) - gammaln(sizes + 1) - gammaln(sizes + 2)
        return np.exp(catalan + sizes * np.log(prior * (1 - prior)))

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of strings of these sizes (B,) that the words (B, max_size, 4) make."""
        batch, max_size = content.shape[:2]
        own = self.own_sizes(content[:, 0, 3], size, max_size=max_size)
        keys = content[..., :3].reshape(batch, 3 * max_size)[:, : 2 * max_size + 1]
        opens = balanced(keys, own)[:, :-1]
        step = jnp.arange(2 * max_size + 1)[None]
        shown = step <= 2 * own[:, None]
        token = jnp.pad(jnp.where(opens, 1, 2), ((0, 0), (1, 0)))
        depth = jnp.pad(jnp.cumsum(jnp.where(opens, 1, -1), axis=1), ((0, 0), (1, 0)))
        may_follow = jnp.stack([depth == 0, depth >= 0, depth > 0], axis=-1)
        values = jax.nn.one_hot(token, len(self.symbols))
        return assemble(
            values=jnp.where(shown[..., None], values, 0.0),
            exists=step <= 2 * size[:, None],
            targets=may_follow,
            mask=shown,
            size=size,
            max_size=max_size,
        )

    def evaluate(self, outputs: jax.Array, batch: Batch) -> Evaluation:
        """Loss, score and metrics of outputs (B, T, 3), means over the batch.

        The loss is the mean cross-entropy in nats of the three answers of a step. Score and
        `position` are the fraction of the steps of a string with all three right, `exact` that of
        strings with everything right.
        """
        loss, _, metrics = judge(self.output, outputs, batch)
        right = predictions(self.output, outputs, batch) == truth(self.output, batch)
        right = right.all(axis=-1) & batch.mask
        steps = jnp.maximum(batch.mask.sum(axis=1, dtype=jnp.float32), 1.0)
        score = (right.sum(axis=1, dtype=jnp.float32) / steps).mean()
        return Evaluation(loss, score, {**metrics, "position": score})


def balanced(keys: jax.Array, pairs: jax.Array) -> jax.Array:
    """Uniform strings of matching brackets: which places open one, (B, 2n + 1) bool.

    By the cycle lemma of Dvoretzky and Motzkin 1947: of the rotations of n openings and n + 1
    closings, in any order, one alone is a string of matching brackets and a last closing. It
    begins after the first place at which the fewest are open.

    Args:
      keys: (B, 2n + 1) uint32 random words, for the largest n there may be.
      pairs: (B,) n of each string; what comes after its 2n places has no meaning.
    """
    place, count = jnp.arange(keys.shape[1])[None], 2 * pairs[:, None] + 1
    # Places in a random order: the first n of them open, those beyond the string come last.
    order = jnp.lexsort((keys, jnp.broadcast_to(place >= count, keys.shape)), axis=-1)
    opens = jnp.argsort(order, axis=-1) < pairs[:, None]
    level = jnp.cumsum(jnp.where(opens, 1, -1), axis=1)
    lowest = jnp.where(place < count, level, keys.shape[1]).argmin(axis=1)[:, None]
    return gather(opens, (lowest + 1 + place) % count)
