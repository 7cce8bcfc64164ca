"""Digits: complete a small picture of a handwritten digit of which some pixels are missing."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import InputError, positive_int, reject, unknown
from evojax_nar.tasks.sequence import NO_ANSWER, SequenceTask, assemble
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Evaluation, Field, Key

SIDE = 8
PIXELS = SIDE * SIDE
LEVELS = 16
"""The brightest grey level; the darkest is 0."""
PARTS = ("train", "validation", "test")
_BLOCK = 10
"""Pictures in a block; of ten blocks one is for validation and one for tests."""


@final
@dataclass(frozen=True)
class Digits(SequenceTask):
    """Give back a handwritten digit of 8 x 8 pixels, of which the inputs lack some.

    The size is the number of missing pixels, drawn anew for each example, and T = 1. Inputs (B, 1,
    128): the grey levels from 0 to 1, with 0 where one is missing, then for each pixel a 1 where it
    is missing. Output (B, 1, 64): all grey levels. The loss is the mean squared error. The score is
    the share of the variance explained: 1 less that error over the one of always giving the mean
    picture of the training part, and 0 where that would be below 0. Metrics: `squared_error`,
    `pixels`, the fraction at the right one of the 17 grey levels, and `exact`, that of examples
    with all of them.

    The 1,797 pictures come with scikit-learn. They stand in the order in which they were written,
    digit after digit, so it is blocks of ten that are divided: of ten blocks eight are for
    training, one for validation and one for tests.

    Args:
      train_sizes: sizes to train on, at most 64.
      test_sizes: sizes to be judged at, at most 64.
      part: "train", "validation" or "test", which pictures are shown. One trains on the first; the
        evaluator takes the other two by itself.
      limit: only the first so many pictures of each part; None for all of them.

    Raises:
      InputError: for a size above 64; once examples are drawn, where scikit-learn is missing.
    """

    name: ClassVar[str] = "digits"
    source: ClassVar[str] = "Alpaydin and Kaynak 1998, doi:10.24432/C50P49, as in scikit-learn"
    train_sizes: Sizes = range(1, 17)
    test_sizes: Sizes = (16, 32, 48)
    part: str = "train"
    limit: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument in ("train_sizes", "test_sizes"):
            if max(getattr(self, argument)) > PIXELS:
                most = max(getattr(self, argument))
                raise reject(argument, most, "is beyond a picture", f"give at most {PIXELS} pixels")
        if self.part not in PARTS:
            raise unknown("part", self.part, PARTS)
        if self.limit is not None:
            positive_int("limit", self.limit)

    @classmethod
    def example(cls) -> Self:
        """So few pictures that a small model learns them by heart."""
        return cls(train_sizes=range(1, 5), test_sizes=(4, 16), limit=8)

    @property
    def validation(self) -> Self:
        """The same task on pictures that are not trained on, by which parameters are chosen."""
        return replace(self, part="validation")

    @property
    def test(self) -> Self:
        """The same task on pictures by which nothing is chosen."""
        return replace(self, part="test")

    @property
    def pictures(self) -> np.ndarray:
        """All of the part, (number of pictures, 64) uint8 from 0 to 16, row by row.

        Raises:
          InputError: where scikit-learn is missing.
        """
        return _pictures()[PARTS.index(self.part)][: self.limit]

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The grey levels, and which of them are missing."""
        return (Field("pixels", "scalar", PIXELS), Field("missing", "bits", PIXELS))

    @property
    def output(self) -> Field:
        """The grey levels."""
        return Field("pixels", "scalar", PIXELS)

    def length(self, size: int) -> int:
        """T = 1."""
        return 1

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Places of missing pixels and pictures, side by side (B, max_size + 64), int32.

        Raises:
          InputError: for more missing pixels than there are, or where scikit-learn is missing.
        """
        if max_size > PIXELS:
            raise reject("size", max_size, "is beyond a picture", f"give at most {PIXELS} pixels")
        picture_key, place_key = jax.random.split(key)
        pictures = jnp.asarray(self.pictures, jnp.int32)
        which = jax.random.randint(picture_key, (batch,), 0, len(pictures))
        # The places of the largest of 64 random numbers: in random order, and no place twice.
        _, places = jax.lax.top_k(jax.random.uniform(place_key, (batch, PIXELS)), max_size)
        return jnp.concatenate([places.astype(jnp.int32), pictures[which]], axis=1)

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of pictures that lack the first `size` (B,) of the places: see `draw`."""
        max_size = content.shape[1] - PIXELS
        places, pictures = content[:, :max_size], content[:, max_size:]
        chosen = jnp.arange(max_size) < size[:, None]
        hits = places[..., None] == jnp.arange(PIXELS)  # (B, max_size, 64)
        missing = (hits & chosen[..., None]).any(axis=1)
        pixels = pictures.astype(jnp.float32) / LEVELS
        shown = jnp.concatenate([jnp.where(missing, 0, pixels), missing.astype(jnp.float32)], -1)
        exists = jnp.ones((len(content), 1), bool)
        return assemble(
            values=shown[:, None],
            exists=exists,
            targets=pixels[:, None],
            mask=exists,
            size=size,
            max_size=max_size,
        )

    def evaluate(self, outputs: jax.Array, batch: Batch) -> Evaluation:
        """Loss, score and metrics of `outputs` (B, 1, 64).

        Raises:
          InputError: for outputs of another shape.
        """
        expected = (*batch.mask.shape, PIXELS)
        if outputs.shape != expected:
            raise InputError(
                f"outputs has the shape {outputs.shape}, which does not fit the batch; "
                f"give (B, T, F) = {expected}"
            )
        judged = batch.mask[:, 0]
        given = jnp.where(judged[:, None], outputs[:, 0].astype(jnp.float32), 0.0)
        error = jnp.square(given - batch.targets[:, 0]).mean(axis=-1)
        broken = ~judged | jnp.isnan(error)
        # An example without an output counts as nothing explained.
        explained = jnp.where(broken, 0.0, 1.0 - error / _variance()).mean()
        right = (_levels(given) == _levels(batch.targets[:, 0])) & ~broken[:, None]
        loss = jnp.where(judged, error, jnp.nan).mean()
        metrics = {
            "squared_error": loss,
            "pixels": right.mean(dtype=jnp.float32),
            "exact": right.all(axis=-1).mean(dtype=jnp.float32),
        }
        return Evaluation(loss, jnp.maximum(explained, 0.0), metrics)

    def guess(self, batch: Batch) -> jax.Array:
        """The mean picture of a batch, (1, 64)."""
        return batch.targets.mean(axis=0)

    def answers(self, outputs: jax.Array | np.ndarray, batch: Batch) -> np.ndarray:
        """The nearest grey levels (B, 1, 64), int32, with -1 where there is none to give."""
        given = jnp.asarray(outputs)
        said = batch.mask[..., None] & ~jnp.isnan(given)
        return np.asarray(jnp.where(said, _levels(given), NO_ANSWER))

    def truths(self, batch: Batch) -> np.ndarray:
        """The grey levels that the answers should be."""
        return self.answers(batch.targets, batch)


def _levels(pixels: jax.Array) -> jax.Array:
    """Grey levels from 0 to 16, int32; what is beyond them is -1 or 17, and so never right."""
    # Clipped as floats: a float beyond the range of int32 has no defined whole number.
    return jnp.clip(jnp.round(pixels * LEVELS), -1, LEVELS + 1).astype(jnp.int32)


@functools.cache
def _pictures() -> tuple[np.ndarray, ...]:
    """The pictures of each part, in the order of `PARTS`."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError(
            "task='digits' needs the pictures that come with scikit-learn, which is not "
            "installed; pip install 'evojax-nar[digits]'"
        ) from None
    pictures, _ = load_digits(return_X_y=True)
    turn = np.arange(len(pictures)) // _BLOCK % 10
    part = np.where(turn == 4, 1, np.where(turn == 9, 2, 0))
    return tuple(pictures[part == place].astype(np.uint8) for place in range(len(PARTS)))


@functools.cache
def _variance() -> float:
    """The mean squared error of the mean picture of the training part, on that part."""
    train = _pictures()[0] / LEVELS
    return float(train.var(axis=0).mean())
