"""Parity, the smallest task that no memoryless model can do at every length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.sequence import SequenceTask, assemble, build_from_data, windows
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Field, Key


@final
@dataclass(frozen=True)
class Parity(SequenceTask):
    """Say at the last of a string of bits whether the number of ones is odd.

    The size is the number of bits L, and T = L. Inputs (B, T, 2): the bit, one-hot. Output: two
    classes, judged at the step size - 1 alone. Source: the parity check of Deletang et al. 2023,
    "Neural Networks and the Chomsky Hierarchy", answered at the last symbol.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "parity"
    source: ClassVar[str] = "Deletang et al. 2023, arXiv:2207.02098"
    train_sizes: Sizes = range(1, 21)
    test_sizes: Sizes = (20, 50, 100, 200, 500)

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=range(1, 5), test_sizes=(4, 8, 16))

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The bit, one-hot."""
        return (Field("bit", "categorical", 2),)

    @property
    def output(self) -> Field:
        """Even (0) or odd (1)."""
        return Field("parity", "categorical", 2)

    def length(self, size: int) -> int:
        """T = size."""
        return size

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Fair bits (B, max_size), int32."""
        return jax.random.bernoulli(key, shape=(batch, max_size)).astype(jnp.int32)

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of the first `size` (B,) of the bits (B, max_size)."""
        step = jnp.arange(content.shape[1])[None]
        exists = step < size[:, None]
        odd = jnp.where(exists, content, 0).sum(axis=1) % 2
        return assemble(
            values=jax.nn.one_hot(content, 2),
            exists=exists,
            targets=jnp.broadcast_to(odd[:, None], exists.shape),
            mask=step == size[:, None] - 1,
            size=size,
            max_size=content.shape[1],
        )

    def encode_windows(self, bits: Any) -> Batch:
        """The batch of given bits (B, L), all of size L.

        Raises:
          InputError: for anything but bits of that shape.
        """
        content = windows("bits", bits, axes=2)
        return build_from_data(self, content, np.full(len(content), content.shape[1], np.int32))
