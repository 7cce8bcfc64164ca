"""Priority sort: give vectors back in the order of a number that came with each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import positive_int
from evojax_nar.tasks.memory.base import MemoryTask
from evojax_nar.tasks.sequence import assemble, gather
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Field, Key


@final
@dataclass(frozen=True)
class PrioritySort(MemoryTask):
    """Give back the bit vectors of the highest priority, the highest first.

    The size is the number of vectors n. Each is shown in a step together with its priority, a
    number uniform from -1 to 1; then comes a delimiter in a channel of its own, since sizes vary;
    then blank steps for the k = max(1, 4 n // 5) of the highest priority, which is 16 of 20 as
    published. Of equal priorities the earlier comes first. T = n + 1 + k, inputs (B, T, width + 2).

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
      width: bits in a vector.
    """

    name: ClassVar[str] = "memory/priority_sort"
    source: ClassVar[str] = "Graves et al. 2014, arXiv:1410.5401, section 4.5"
    train_sizes: Sizes = 20
    test_sizes: Sizes = (10, 20, 40, 80)
    width: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_int("width", self.width)

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=2, test_sizes=(2, 4), width=2)

    @property
    def inputs(self) -> tuple[Field, ...]:
        """A vector of bits, its priority, and the channel of the delimiter."""
        return (
            Field("bits", "bits", self.width),
            Field("priority", "scalar", 1),
            Field("delimiter", "bits", 1),
        )

    @property
    def output(self) -> Field:
        """A vector of bits."""
        return Field("bits", "bits", self.width)

    def length(self, size: int) -> int:
        """T = size + 1 + how many are given back."""
        return size + 1 + max(1, 4 * size // 5)

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Fair bits and, as the last column, priorities: (B, max_size, width + 1) float32."""
        bit_key, priority_key = jax.random.split(key)
        bits = jax.random.bernoulli(bit_key, shape=(batch, max_size, self.width))
        shape = (batch, max_size, 1)
        priority = jax.random.uniform(priority_key, shape, minval=-1.0, maxval=1.0)
        return jnp.concatenate([bits.astype(jnp.float32), priority], axis=-1)

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of the first `size` (B,) of the vectors and priorities."""
        max_size = content.shape[1]
        step, column = jnp.arange(self.length(max_size))[None], size[:, None]
        missing = jnp.arange(max_size) >= column
        # Stable, and what is missing goes last whatever its priority.
        order = jnp.lexsort((-content[..., -1], missing), axis=-1)
        shown = jnp.pad(content, ((0, 0), (0, step.shape[1] - max_size), (0, 0)))
        values = jnp.where((step < column)[..., None], shown, 0.0)
        delimiter = (step == column)[..., None].astype(values.dtype)
        since = step - column - 1
        best = gather(gather(content[..., :-1], order), since)
        return assemble(
            values=jnp.concatenate([values, delimiter], axis=-1),
            exists=since < jnp.maximum(1, 4 * column // 5),
            targets=best,
            mask=since >= 0,
            size=size,
            max_size=max_size,
        )
