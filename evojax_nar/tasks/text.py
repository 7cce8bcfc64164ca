"""Text, byte by byte: the documentation and the licence that Python brings with it."""

from __future__ import annotations

import functools
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import InputError, positive_int, reject, unknown
from evojax_nar.tasks.sequence import SequenceTask, assemble
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Evaluation, Field, Key

BYTES = 256
PARTS = ("train", "validation", "test")
_BLOCK = 16
"""Paragraphs in a block; of ten blocks one is for validation and one for tests."""
_PRIOR = 4.0
"""Weight of the unigram distribution in the bigram one, in bytes seen."""


@final
@dataclass(frozen=True)
class ByteText(SequenceTask):
    """Say which byte comes next, at every byte of a window of Python's own documentation.

    The size is the number of bytes L, and T = L. Inputs (B, T, 256): the byte, one-hot. Output: the
    byte after it, judged at every step. The text is that of `pydoc_data.topics` and the licence,
    each paragraph once, however often it stands there; of ten blocks of 16 paragraphs eight are for
    training, one for validation and one for tests, so no paragraph is in two parts. It differs a
    little from one version of Python to the next; `references` says how far counting gets on it.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
      part: "train", "validation" or "test", the text that windows are cut from. One trains on the
        first; the evaluator takes the other two by itself.
      limit: only the first so many bytes of each part; None for all of them.
    """

    name: ClassVar[str] = "byte_text"
    source: ClassVar[str] = "pydoc_data.topics and the licence, both part of Python"
    reproducible: ClassVar[bool] = False
    train_sizes: Sizes = (64,)
    test_sizes: Sizes = (64, 256)
    part: str = "train"
    limit: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.part not in PARTS:
            raise unknown("part", self.part, PARTS)
        if self.limit is not None:
            positive_int("limit", self.limit, least=2)

    @classmethod
    def example(cls) -> Self:
        """So little text that a small model learns it by heart."""
        return cls(train_sizes=(12, 16), test_sizes=(16, 32), limit=96)

    @property
    def validation(self) -> Self:
        """The same task on text that is not trained on, by which parameters are chosen."""
        return replace(self, part="validation")

    @property
    def test(self) -> Self:
        """The same task on text by which nothing is chosen."""
        return replace(self, part="test")

    @property
    def text(self) -> bytes:
        """All of the part."""
        return _corpus()[PARTS.index(self.part)][: self.limit]

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The byte, one-hot."""
        return (Field("byte", "categorical", BYTES),)

    @property
    def output(self) -> Field:
        """The byte after it."""
        return Field("next_byte", "categorical", BYTES)

    def length(self, size: int) -> int:
        """T = size."""
        return size

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Windows of the text (B, max_size + 1), int32, each as likely as the others.

        Raises:
          InputError: where the text is shorter than that.
        """
        text = np.frombuffer(self.text, np.uint8)
        if len(text) <= max_size:
            raise reject(
                "size", max_size, f"does not fit into {len(text)} bytes", "give a smaller one"
            )
        first = jax.random.randint(key, (batch, 1), 0, len(text) - max_size)
        return jnp.asarray(text)[first + jnp.arange(max_size + 1)].astype(jnp.int32)

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of the first `size` (B,) of the bytes (B, max_size + 1) and what follows."""
        max_size = content.shape[1] - 1
        exists = jnp.arange(max_size)[None] < size[:, None]
        return assemble(
            values=jax.nn.one_hot(content[:, :-1], BYTES),
            exists=exists,
            targets=content[:, 1:],
            mask=exists,
            size=size,
            max_size=max_size,
        )

    def evaluate(self, outputs: jax.Array, batch: Batch) -> Evaluation:
        """Loss in nats a byte, score, and the metrics `bits_per_byte`, `position` and `exact`.

        As `sequence.judge` has it, in fewer passes over the 256 outputs of a step, which cost more
        than a small network: a byte is right where no other is as likely, and not the first of
        those that are.

        Raises:
          InputError: for outputs of another shape.
        """
        expected = (*batch.mask.shape, BYTES)
        if outputs.shape != expected:
            raise InputError(
                f"outputs has the shape {outputs.shape}, which does not fit the batch; "
                f"give (B, T, F) = {expected}"
            )
        outputs = jnp.where(batch.mask[..., None], outputs.astype(jnp.float32), 0.0)
        own = jnp.take_along_axis(outputs, batch.targets[..., None], axis=-1)
        others = jnp.where(jnp.arange(BYTES) == batch.targets[..., None], -jnp.inf, outputs)
        right = (own[..., 0] > others.max(axis=-1)) & batch.mask
        losses = jax.nn.logsumexp(outputs, axis=-1) - own[..., 0]
        steps = batch.mask.sum(axis=1, dtype=jnp.float32)
        loss = (jnp.where(batch.mask, losses, 0.0).sum(axis=1) / steps).mean()
        position = (right.sum(axis=1, dtype=jnp.float32) / jnp.maximum(steps, 1)).mean()
        exact = ((right | ~batch.mask).all(axis=1) & (steps > 0)).mean(dtype=jnp.float32)
        metrics = {"bits_per_byte": loss / jnp.log(2.0), "position": position, "exact": exact}
        return Evaluation(loss, position, metrics)


def references(task: ByteText) -> dict[str, float]:
    """Bits per byte of the text of `task` by counting on the training text, and by zlib.

    `unigram` and `bigram` are distributions counted on the training text, with a byte added to each
    count and with the unigram one as the prior of the bigram one; `zlib` is the text compressed on
    its own at level 9.
    """
    train = np.frombuffer(replace(task, part="train").text, np.uint8)
    text = np.frombuffer(task.text, np.uint8)
    unigram = (np.bincount(train, minlength=BYTES) + 1.0) / (len(train) + BYTES)
    pairs = np.zeros((BYTES, BYTES))
    np.add.at(pairs, (train[:-1], train[1:]), 1.0)
    bigram = (pairs + _PRIOR * unigram) / (pairs.sum(axis=1, keepdims=True) + _PRIOR)
    return {
        "unigram": float(-np.log2(unigram[text]).mean()),
        "bigram": float(-np.log2(bigram[text[:-1], text[1:]]).mean()),
        "zlib": 8 * len(zlib.compress(task.text, 9)) / len(text),
    }


@functools.cache
def _corpus() -> tuple[bytes, ...]:
    """The text of each part, in the order of `PARTS`."""
    seen: dict[str, str] = {}
    for source in _sources():
        for paragraph in source.split("\n\n"):
            words = " ".join(paragraph.split())
            if words:
                seen.setdefault(words, paragraph.strip("\n"))
    paragraphs = list(seen.values())
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for place in range(0, len(paragraphs), _BLOCK):
        part = {4: "validation", 9: "test"}.get(place // _BLOCK % 10, "train")
        parts[part] += paragraphs[place : place + _BLOCK]
    return tuple("\n\n".join(parts[part]).encode() for part in PARTS)


def _sources() -> list[str]:
    """The texts that come with this Python, in a fixed order."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise InputError(
            "task='byte_text' needs pydoc_data.topics, which this Python lacks; "
            "install the whole standard library"
        ) from None
    library = Path(os.__file__).parent
    places = [folder / "LICENSE.txt" for folder in (library, library.parent)]
    licence = [place.read_text("utf-8", "replace") for place in places if place.is_file()][:1]
    return [*licence, *(topics[name] for name in sorted(topics))]
