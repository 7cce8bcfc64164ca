"""Copy and reverse: hold a list of bit vectors, then give it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import InputError, positive_int
from evojax_nar.tasks.sequence import SequenceTask, assemble, build_from_data, gather, windows
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Field, Key


@dataclass(frozen=True)
class _Recall(SequenceTask):
    """What the two share; they differ in the order in which the vectors are wanted."""

    train_sizes: Sizes = range(1, 21)
    test_sizes: Sizes = (20, 50, 100)
    width: int = 8
    backwards: ClassVar[bool] = False
    source: ClassVar[str] = "Graves et al. 2014, arXiv:1410.5401"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_int("width", self.width)

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=range(1, 4), test_sizes=(3, 6), width=2)

    @property
    def inputs(self) -> tuple[Field, ...]:
        """A vector of bits, and the channel of the delimiter."""
        return (Field("bits", "bits", self.width), Field("delimiter", "bits", 1))

    @property
    def output(self) -> Field:
        """A vector of bits."""
        return Field("bits", "bits", self.width)

    def length(self, size: int) -> int:
        """T = 2 * size + 1."""
        return 2 * size + 1

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Fair bits (B, max_size, width), int32."""
        return jax.random.bernoulli(key, shape=(batch, max_size, self.width)).astype(jnp.int32)

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of the first `size` (B,) of the vectors (B, max_size, width)."""
        max_size = content.shape[1]
        step = jnp.arange(self.length(max_size))[None]
        size_column = size[:, None]
        longer = jnp.pad(content, ((0, 0), (0, max_size + 1), (0, 0)))
        vectors = jnp.where((step < size_column)[..., None], longer, 0)
        delimiter = (step == size_column)[..., None].astype(vectors.dtype)
        wanted = 2 * size_column - step if self.backwards else step - size_column - 1
        return assemble(
            values=jnp.concatenate([vectors, delimiter], axis=-1),
            exists=step <= 2 * size_column,
            targets=gather(content, wanted),
            mask=step > size_column,
            size=size,
            max_size=max_size,
        )

    def encode_windows(self, bits: Any) -> Batch:
        """The batch of given bits (B, L, width), all of size L.

        Raises:
          InputError: for anything but bits of that shape.
        """
        content = windows("bits", bits, axes=3)
        if content.shape[2] != self.width:
            raise InputError(
                f"bits has vectors of {content.shape[2]} bits where width={self.width}; "
                f"give the task width={content.shape[2]}, or vectors of {self.width} bits."
            )
        return build_from_data(self, content, np.full(len(content), content.shape[1], np.int32))


@final
@dataclass(frozen=True)
class Copy(_Recall):
    """Give back a list of bit vectors in the order in which it was shown.

    The size is the number of vectors L. They are shown one a step; then comes a delimiter in a
    channel of its own; then L blank steps, which are judged. T = 2L + 1, inputs (B, T, width + 1).
    Source: the copy task of Graves et al. 2014, "Neural Turing Machines", arXiv:1410.5401.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
      width: bits in a vector.
    """

    name: ClassVar[str] = "copy"


@final
@dataclass(frozen=True)
class Reverse(_Recall):
    """Give back a list of bit vectors in the reverse of the order in which it was shown.

    All else is as in `Copy`.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
      width: bits in a vector.
    """

    name: ClassVar[str] = "reverse"
    backwards: ClassVar[bool] = True
