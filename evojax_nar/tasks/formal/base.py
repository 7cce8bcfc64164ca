"""What the formal languages share: how long a string is that a grammar of chances writes."""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import finite, reject
from evojax_nar.tasks.sequence import SequenceTask, frequent
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Field, Key


@dataclass(frozen=True)
class LanguageTask(SequenceTask):
    """Strings of a language between two # symbols, of which the second is only to be predicted.

    Trained on are strings as a grammar with the chance `prior` writes them, among those no larger
    than the size: that many steps exist, and what follows a shorter string is blank and not judged.
    Tests, which the evaluator takes by itself from `test`, are of exactly the size.

    Where `prior` is None all strings are of exactly the size, in training too, so their sizes are
    as `train_sizes` has them: uniform, or with a size as often as a corpus has strings of it.
    """

    train_sizes: Sizes = 20
    test_sizes: Sizes = (20, 50, 100, 200, 500, 1000)
    prior: float | None = 0.3

    source: ClassVar[str] = "Lan et al. 2022, arXiv:2111.00600; Lan et al. 2023, arXiv:2308.08253"
    symbols: ClassVar[str]
    """The symbols of inputs and outputs, in the order of their channels; the first is #."""
    unit: ClassVar[int]
    """Symbols of a string, less the two #, for a size of 1."""
    words: ClassVar[int] = 1
    """Random words that are drawn for a size of 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior is not None and finite("prior", self.prior, above=0.0) >= 1:
            raise reject("prior", self.prior, "is no chance below 1", "give one, or None")

    @property
    def test(self) -> Self:
        """The same task with strings of exactly the size."""
        return replace(self, prior=None)

    def guess(self, batch: Batch) -> jax.Array:
        """The answer that scores best where it is given at every step: outputs (T, F).

        Not place by place, as elsewhere: a guess that counts places would know the size of the
        string, which is all that there is to know of it in a counting language.
        """
        counts = frequent(self.output, batch).sum(axis=0)
        one_of_each = jnp.eye(len(counts))
        answers = jnp.concatenate([counts[None], one_of_each, -one_of_each])
        shape = (*batch.mask.shape, len(counts))
        score = jax.vmap(lambda one: self.evaluate(jnp.broadcast_to(one, shape), batch).score)
        best = answers[score(answers).argmax()]
        return jnp.broadcast_to(best, shape[1:])

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The symbol, one-hot; nothing where a step is blank."""
        return (Field("symbol", "categorical", len(self.symbols)),)

    def length(self, size: int) -> int:
        """T = the first # and the symbols of a string of `size`."""
        return self.unit * size + 1

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Random words (B, max_size, `words`), uint32; it is the size that gives them meaning."""
        return jax.random.bits(key, (batch, max_size, self.words), jnp.uint32)

    @abc.abstractmethod
    def chances(self, sizes: np.ndarray, prior: float) -> np.ndarray:
        """How likely the grammar writes a string of each of these sizes, up to a factor."""

    def own_sizes(self, word: jax.Array, size: jax.Array, *, max_size: int) -> jax.Array:
        """How large the strings are that sizes (B,) allow, (B,) int32, out of words (B,)."""
        if self.prior is None:
            return size
        chances = self.chances(np.arange(1, max_size + 1, dtype=np.float64), self.prior)
        # Where no size has a chance all of these are 0, and the string is as large as it may be.
        total = jnp.asarray(np.cumsum(chances) / (chances.sum() or 1.0), jnp.float32)
        drawn = total[jnp.clip(size, 1, max_size) - 1] * (word >> 8).astype(jnp.float32) / 2**24
        return jnp.minimum(1 + jnp.searchsorted(total, drawn, side="right"), size)
