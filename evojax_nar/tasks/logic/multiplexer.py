"""The multiplexer read bit by bit, so that one machine can do it at every size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import reject
from evojax_nar.tasks.logic.restricted import RestrictedSizes
from evojax_nar.tasks.sequence import assemble, gather
from evojax_nar.tasks.sizes import LARGEST, Sizes
from evojax_nar.types import Batch, Field, Key

SIZES = tuple(k + 2**k for k in range(1, 20) if k + 2**k <= LARGEST)
"""Inputs of a multiplexer with 1, 2, 3, ... address bits: 3, 6, 11, 20, 37, 70, ..."""


@final
@dataclass(frozen=True)
class Multiplexer(RestrictedSizes):
    """Give the data bit that the address bits choose, where they come one a step.

    The size is the number of inputs L = A + 2**A for A address bits, so 6, 11, 20, 37 and so on
    (and 3), and T = L. First comes the address, the most significant bit first, then the data bits
    in the order of their addresses. Inputs (B, T, 4): the bit, one-hot, and which part it is of,
    one-hot. Output: two classes, judged at the step size - 1 alone. Source: the multiplexer family
    of Wilson 1987, "Classifier systems and the animat problem", here in time.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.

    Raises:
      InputError: for a size that is not that of a multiplexer.
    """

    name: ClassVar[str] = "logic/multiplexer"
    source: ClassVar[str] = "Wilson 1987, Classifier systems and the animat problem, in time"
    train_sizes: Sizes = (6,)
    test_sizes: Sizes = (6, 11, 20, 37)

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=(6,), test_sizes=(6, 11))

    @staticmethod
    def check_size(argument: str, size: int) -> None:
        """A multiplexer has A + 2**A inputs."""
        if size not in SIZES:
            known = ", ".join(map(str, SIZES[:6]))
            raise reject(argument, size, "is not the inputs of a multiplexer", f"give {known}, ...")

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The bit, and whether it is of the address (0) or of the data (1)."""
        return (Field("bit", "categorical", 2), Field("part", "categorical", 2))

    @property
    def output(self) -> Field:
        """The data bit."""
        return Field("data", "categorical", 2)

    def length(self, size: int) -> int:
        """T = size.

        Raises:
          InputError: for a size that is not that of a multiplexer.
        """
        self.check_size("size", size)
        return size

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Fair bits (B, max_size), int32."""
        return jax.random.bernoulli(key, shape=(batch, max_size)).astype(jnp.int32)

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of the first `size` (B,) of the bits (B, max_size)."""
        known, size_column = jnp.asarray(SIZES), size[:, None]
        step = jnp.arange(content.shape[1])[None]
        # The multiplexers that are no larger than the example, and so its address bits.
        address_bits = (known <= size_column).sum(axis=1, keepdims=True)
        place = address_bits - 1 - step
        weights = jnp.where(place >= 0, 1 << jnp.maximum(place, 0), 0)
        address = (content * weights).sum(axis=1, keepdims=True)
        chosen = gather(content, address_bits + address)
        is_multiplexer = (known == size_column).any(axis=1, keepdims=True)
        part = (step >= address_bits).astype(jnp.int32)
        values = [jax.nn.one_hot(content, 2), jax.nn.one_hot(part, 2)]
        return assemble(
            values=jnp.concatenate(values, axis=-1),
            exists=step < size_column,
            targets=jnp.broadcast_to(chosen, content.shape),
            mask=(step == size_column - 1) & is_multiplexer,
            size=size,
            max_size=content.shape[1],
        )
