"""Dynamic n-grams: learn the table that a sequence is drawn from while it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import finite, positive_int, reject
from evojax_nar.tasks.memory.base import MemoryTask
from evojax_nar.tasks.sequence import assemble
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Field, Key

LARGEST_ORDER = 16
"""A table has half as many entries as two to the power of the order."""


@final
@dataclass(frozen=True)
class DynamicNGrams(MemoryTask):
    """Say which bit comes next in a sequence from a random table of n-grams.

    The size is the number of bits L. For each context of order - 1 bits a table has the chance of a
    1 after it, drawn anew for every sequence from Beta(concentration, concentration); the first
    order - 1 bits are fair. T = L; step t shows bit t - 1, one-hot (nothing at t = 0), and bit t is
    to be given, so inputs are (B, T, 2) and outputs (B, T, 1). All L bits are judged: `optimum`
    says what the best predictor pays for them, about 132 bits a sequence with the defaults.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
      order: bits in an n-gram, the one to be given included.
      concentration: of the Beta distribution; the smaller, the surer the table.
    """

    name: ClassVar[str] = "memory/dynamic_ngrams"
    source: ClassVar[str] = "Graves et al. 2014, arXiv:1410.5401, section 4.4"
    train_sizes: Sizes = 200
    test_sizes: Sizes = (200, 500, 1000)
    order: int = 6
    concentration: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if positive_int("order", self.order) > LARGEST_ORDER:
            raise reject("order", self.order, "is too large", f"give {LARGEST_ORDER} at most")
        finite("concentration", self.concentration, above=0.0)

    @classmethod
    def example(cls) -> Self:
        """Tables that hardly leave anything to chance, of one bit of context."""
        return cls(train_sizes=24, test_sizes=(24, 48), order=2, concentration=0.02)

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The bit before, one-hot."""
        return (Field("bit", "categorical", 2),)

    @property
    def output(self) -> Field:
        """The bit."""
        return Field("bit", "bits", 1)

    @property
    def contexts(self) -> int:
        """Entries of a table."""
        return 2 ** (self.order - 1)

    def length(self, size: int) -> int:
        """T = size."""
        return size

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """The bits (B, max_size), int32, of a table each."""
        table_key, bit_key = jax.random.split(key)
        shape = (batch, self.contexts)
        table = jax.random.beta(table_key, self.concentration, self.concentration, shape)
        uniform = jax.random.uniform(bit_key, (max_size, batch))

        def step(
            context: jax.Array, inputs: tuple[jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array]:
            place, uniform = inputs
            chance = jnp.take_along_axis(table, context[:, None], axis=1)[:, 0]
            bit = (uniform < jnp.where(place < self.order - 1, 0.5, chance)).astype(jnp.int32)
            return (2 * context + bit) % self.contexts, bit

        start = jnp.zeros(batch, jnp.int32)
        _, bits = jax.lax.scan(step, start, (jnp.arange(max_size), uniform))
        return bits.T

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of the first `size` (B,) of the bits (B, max_size)."""
        max_size = content.shape[1]
        exists = jnp.arange(max_size)[None] < size[:, None]
        before = jax.nn.one_hot(content[:, :-1], 2)
        return assemble(
            values=jnp.pad(before, ((0, 0), (1, 0), (0, 0))),
            exists=exists,
            targets=content[..., None],
            mask=exists,
            size=size,
            max_size=max_size,
        )


def optimum(task: DynamicNGrams, batch: Batch) -> jax.Array:
    """What the best possible predictor pays for a batch, in `bits_per_sequence`; float32.

    After a context that was followed by N1 ones and N0 zeros so far, the chance of a 1 is
    (N1 + c) / (N1 + N0 + 2 c) with c the concentration: the mean of the posterior, which nobody who
    does not know the table betters on average (Graves et al. 2014, section 4.4, has c = 1/2). The
    first order - 1 bits cost one each.
    """
    bits = batch.targets[..., 0].astype(jnp.int32)
    rows = jnp.arange(len(bits))

    def step(
        state: tuple[jax.Array, jax.Array], inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        counts, context = state
        place, bit = inputs
        known = place >= task.order - 1
        seen = counts[rows, context] + task.concentration
        chance = jnp.where(known, seen[rows, bit] / seen.sum(axis=1), 0.5)
        counts = counts.at[rows, context, bit].add(known.astype(jnp.float32))
        return (counts, (2 * context + bit) % task.contexts), -jnp.log2(chance)

    start = (jnp.zeros((len(bits), task.contexts, 2)), jnp.zeros(len(bits), jnp.int32))
    _, costs = jax.lax.scan(step, start, (jnp.arange(bits.shape[1]), bits.T))
    return jnp.where(batch.mask, costs.T, 0.0).sum(axis=1).mean()
