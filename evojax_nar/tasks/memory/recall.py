"""Associative recall: shown one item of a list again, give the one that followed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import positive_int
from evojax_nar.tasks.chomsky.draws import below
from evojax_nar.tasks.memory.base import MemoryTask
from evojax_nar.tasks.sequence import assemble, gather
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Field, Key


@final
@dataclass(frozen=True)
class AssociativeRecall(MemoryTask):
    """Give the item that came after the one asked for.

    The size is the number of items n; an item is `vectors` V vectors of `width` fair bits, one a
    step, after a step with a delimiter in a channel of its own. Then one item but the last is shown
    again, each as likely as the others, between two steps with a delimiter in another channel; then
    come V blank steps for the item that followed it. T = n * (V + 1) + 2 * V + 2, inputs
    (B, T, width + 2). A single item has nothing after it and is to be given back itself.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
      width: bits in a vector.
      vectors: vectors in an item.
    """

    name: ClassVar[str] = "memory/associative_recall"
    source: ClassVar[str] = "Graves et al. 2014, arXiv:1410.5401, section 4.3"
    train_sizes: Sizes = range(2, 7)
    test_sizes: Sizes = (6, 10, 15, 20)
    width: int = 6
    vectors: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_int("width", self.width)
        positive_int("vectors", self.vectors)

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=(2, 3), test_sizes=(3, 6), width=4, vectors=1)

    @property
    def inputs(self) -> tuple[Field, ...]:
        """A vector of bits, and the channels of the two delimiters."""
        return (
            Field("bits", "bits", self.width),
            Field("item_delimiter", "bits", 1),
            Field("query_delimiter", "bits", 1),
        )

    @property
    def output(self) -> Field:
        """A vector of bits."""
        return Field("bits", "bits", self.width)

    def length(self, size: int) -> int:
        """T = size * (vectors + 1) + 2 * vectors + 2."""
        return size * (self.vectors + 1) + 2 * self.vectors + 2

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Random words (B, max_size, vectors * width + 1), uint32.

        The first bit of a word is one of the item's; the last word of the first row says which item
        is asked for.
        """
        return jax.random.bits(key, (batch, max_size, self.vectors * self.width + 1), jnp.uint32)

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of the first `size` (B,) of the items that the words make."""
        batch, max_size = content.shape[:2]
        bits = (content[..., :-1] >> 31).astype(jnp.int32).reshape(batch, -1, self.width)
        asked = below(content[:, :1, -1], size[:, None] - 1)
        step, column = jnp.arange(self.length(max_size))[None], size[:, None]
        stride, asking = self.vectors + 1, column * (self.vectors + 1)
        place = step % stride
        in_item = (step < asking) & (place > 0)
        since = step - asking
        in_query = (since > 0) & (since < stride)
        item = (step // stride) * self.vectors + place - 1
        query = asked * self.vectors + since - 1
        shown = gather(bits, jnp.where(in_item, item, query))
        values = jnp.where((in_item | in_query)[..., None], shown, 0)
        delimiters = ((step < asking) & (place == 0), (since == 0) | (since == stride))
        answering = since - stride - 1
        after = jnp.minimum(asked + 1, column - 1) * self.vectors
        return assemble(
            values=jnp.concatenate([values, jnp.stack(delimiters, axis=-1)], axis=-1),
            exists=answering < self.vectors,
            targets=gather(bits, after + answering),
            mask=answering >= 0,
            size=size,
            max_size=max_size,
        )
