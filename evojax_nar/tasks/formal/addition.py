"""Serial addition: two numbers a bit at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.chomsky.digits import add
from evojax_nar.tasks.sequence import SequenceTask, assemble
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Field, Key


@final
@dataclass(frozen=True)
class SerialAddition(SequenceTask):
    """Add two binary numbers that come a bit of each a step, the least significant first.

    The size is the number of bits n of either number, all fair. Each step asks for the bit of the
    sum that its two bits decide, and one more step, with two zeros, for the last carry: T = n + 1,
    inputs (B, T, 2), outputs (B, T, 1), all judged. In the source all pairs of numbers below 10 or
    20 are trained on, and pairs a little larger tested; here sizes say how far.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "formal/serial_addition"
    source: ClassVar[str] = "Lan et al. 2022, arXiv:2111.00600"
    train_sizes: Sizes = range(1, 21)
    test_sizes: Sizes = (20, 50, 100, 200, 500, 1000, 2000)

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=range(2, 6), test_sizes=(5, 10))

    @property
    def inputs(self) -> tuple[Field, ...]:
        """A bit of each number."""
        return (Field("bits", "bits", 2),)

    @property
    def output(self) -> Field:
        """A bit of the sum."""
        return Field("sum", "bits", 1)

    def length(self, size: int) -> int:
        """T = size + 1."""
        return size + 1

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Fair bits (B, max_size, 2), int32."""
        return jax.random.bernoulli(key, shape=(batch, max_size, 2)).astype(jnp.int32)

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of numbers of the first `size` (B,) of the bits (B, max_size, 2)."""
        max_size, column = content.shape[1], size[:, None]
        step = jnp.arange(max_size + 1)[None]
        padded = jnp.pad(content, ((0, 0), (0, 1), (0, 0)))
        bits = jnp.where((step < column)[..., None], padded, 0)
        exists = step <= column
        return assemble(
            values=bits,
            exists=exists,
            targets=add(bits[..., 0], bits[..., 1])[..., None],
            mask=exists,
            size=size,
            max_size=max_size,
        )
