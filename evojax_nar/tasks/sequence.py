"""What all sequence tasks share: how a batch is made from content, and how outputs are judged."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import InputError
from evojax_nar.settings import Configurable
from evojax_nar.tasks.sizes import Sizes, parse, per_example
from evojax_nar.types import Batch, Evaluation, Field, Key, Sequence, TaskSpec

NO_ANSWER = -1
"""Stands among predictions where a step is not judged, or where an output is NaN."""


@dataclass(frozen=True)
class SequenceTask(Configurable, abc.ABC):
    """A task of one output field, with one row of it a judged step.

    A task says how content is drawn, with no regard to size, and how a batch is built from it.
    Data of the user's own go through the same `build`.
    """

    source: ClassVar[str]
    """Where the task comes from, in one line."""
    reproducible: ClassVar[bool] = True
    """Whether a key draws the same examples on every machine and version of Python."""
    train_sizes: Sizes
    test_sizes: Sizes

    def __post_init__(self) -> None:
        for argument in ("train_sizes", "test_sizes"):
            object.__setattr__(self, argument, parse(argument, getattr(self, argument)))

    @classmethod
    @abc.abstractmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""

    @property
    @abc.abstractmethod
    def inputs(self) -> tuple[Field, ...]:
        """Fields of a step of the inputs, side by side."""

    @property
    @abc.abstractmethod
    def output(self) -> Field:
        """The field that a model must give at each step."""

    @abc.abstractmethod
    def length(self, size: int) -> int:
        """Time steps T of a batch padded to `size`."""

    @abc.abstractmethod
    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Random content (B, max_size, ...); an example of a smaller size uses the first of it."""

    @abc.abstractmethod
    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of examples with this content (B, max_size, ...) and these sizes (B,)."""

    @property
    def spec(self) -> TaskSpec:
        """Inputs, outputs and the largest training size."""
        largest = max(self.train_sizes)
        return TaskSpec(self.name, self.inputs, (self.output,), largest, self.length(largest))

    def sample(self, key: Key, size: Any, *, max_size: int, batch: int) -> Batch:
        """`batch` examples of `size` (a number, traced or not, or (B,)), padded to `max_size`.

        Raises:
          InputError: for a size that is known on the host and not from 1 to `max_size`.
        """
        sizes = per_example(size, max_size=max_size, batch=batch)
        return self.build(self.draw(key, max_size=max_size, batch=batch), sizes)

    def evaluate(self, outputs: jax.Array, batch: Batch) -> Evaluation:
        """Loss, score and metrics of `outputs` (B, T, F): see `judge`."""
        return judge(self.output, outputs, batch)

    def guess(self, batch: Batch) -> jax.Array:
        """Outputs (T, F) that fit the targets of a batch best, without its inputs: `frequent`."""
        return frequent(self.output, batch)

    def answers(self, outputs: jax.Array | np.ndarray, batch: Batch) -> np.ndarray:
        """What `outputs` (B, T, F) say, as whole numbers on the host: see `predictions`."""
        return np.asarray(predictions(self.output, jnp.asarray(outputs), batch))

    def truths(self, batch: Batch) -> np.ndarray:
        """What the answers should be, in their shape; `batch.mask` says which of them count."""
        return np.asarray(truth(self.output, batch))


@partial(jax.jit, static_argnames="task")
def build_from_data(task: SequenceTask, content: jax.Array, size: jax.Array) -> Batch:
    """`task.build` as one program, for data from the host."""
    return task.build(content, size)


def judge(field: Field, outputs: jax.Array, batch: Batch) -> Evaluation:
    """Judge `outputs` (B, T, F of the field), at the steps of `batch.mask` alone.

    The loss of a step is the cross-entropy in nats (the mean over the bits, or the softmax one), or
    the squared error of a scalar; its score is the fraction of it that is right. Both are averaged
    over the judged steps of each example, then over the batch. Metrics: `position`, the score, and
    `exact`, the fraction of examples with everything right. A NaN output makes the loss NaN and
    counts as wrong. So does an example without judged steps.

    Raises:
      InputError: for outputs of another shape.
    """
    expected = (*batch.mask.shape, field.features)
    if outputs.shape != expected:
        raise InputError(
            f"outputs has the shape {outputs.shape}, which does not fit the batch; "
            f"give (B, T, F) = {expected}."
        )
    # Whatever stands in the padding is replaced before anything is computed from it, since a NaN
    # that is masked only afterwards still reaches the gradient.
    outputs = jnp.where(batch.mask[..., None], outputs.astype(jnp.float32), 0.0)
    right = predictions(field, outputs, batch) == truth(field, batch)
    bits = right.reshape(*batch.mask.shape, -1)
    steps = batch.mask.sum(axis=1, dtype=jnp.float32)
    loss = jnp.where(batch.mask, _step_loss(field, outputs, batch.targets), 0.0).sum(axis=1) / steps
    score = jnp.where(batch.mask, bits.mean(axis=-1, dtype=jnp.float32), 0.0).sum(axis=1)
    exact = jnp.all(bits.all(axis=-1) | ~batch.mask, axis=1) & (steps > 0)
    position = (score / jnp.maximum(steps, 1)).mean()
    metrics = {"position": position, "exact": exact.mean(dtype=jnp.float32)}
    return Evaluation(loss.mean(), position, metrics)


def predictions(field: Field, outputs: jax.Array, batch: Batch) -> jax.Array:
    """Outputs (B, T, F) as whole numbers, int32: classes (B, T), bits (B, T, F) or ranks (B, T).

    A bit is 1 where its logit is above 0. A scalar is a rank as a fraction of size - 1: it is
    rounded to the nearest rank, and one out of range is given as -1 or the size. `NO_ANSWER`
    stands at steps that are not judged, and for a NaN.
    """
    judged = batch.mask
    if field.kind == "categorical":
        answers = outputs.argmax(axis=-1)
        missing = jnp.isnan(outputs).any(axis=-1)
    elif field.kind == "bits":
        answers = (outputs > 0).astype(jnp.int32)
        missing = jnp.isnan(outputs)
        judged = judged[..., None]
    else:
        ranks = outputs[..., 0] * (batch.size - 1).astype(jnp.float32)[:, None]
        missing = jnp.isnan(ranks)
        # Clipped as floats: a float beyond the range of int32 has no defined whole number.
        answers = jnp.clip(jnp.round(ranks), -1.0, batch.size.astype(jnp.float32)[:, None])
    return jnp.where(judged & ~missing, answers, NO_ANSWER).astype(jnp.int32)


def truth(field: Field, batch: Batch) -> jax.Array:
    """The right `predictions`, int32, with `NO_ANSWER` at steps that are not judged."""
    if field.kind == "scalar":
        return predictions(field, batch.targets, batch)
    judged = batch.mask if field.kind == "categorical" else batch.mask[..., None]
    return jnp.where(judged, batch.targets.astype(jnp.int32), NO_ANSWER)


def frequent(field: Field, batch: Batch) -> jax.Array:
    """The most frequent answer at each step of a batch, as outputs (T, F).

    A scalar is the rank that is most frequent there, as a fraction of the first example's size.
    """
    right = truth(field, batch)
    if field.kind == "bits":
        ones = jnp.where(right == NO_ANSWER, 0.5, right).mean(axis=0)
        return jnp.where(ones > 0.5, 1.0, -1.0)
    classes = field.features if field.kind == "categorical" else batch.mask.shape[1]
    counts = jax.vmap(lambda column: jnp.bincount(column + 1, length=classes + 1)[1:], 1)(right)
    if field.kind == "categorical":
        return counts.astype(jnp.float32)
    return counts.argmax(axis=-1)[:, None] / jnp.maximum(batch.size[0] - 1, 1)


def _step_loss(field: Field, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The loss of each step, (B, T) float32, of outputs (B, T, F)."""
    if field.kind == "categorical":
        logarithms = jax.nn.log_softmax(outputs)
        return -jnp.take_along_axis(logarithms, targets[..., None], axis=-1)[..., 0]
    if field.kind == "bits":
        # -log sigmoid of the logit with the sign of the bit: an infinite logit that is right
        # costs 0, where the usual sum of two terms would be NaN.
        return jax.nn.softplus((1.0 - 2.0 * targets) * outputs).mean(axis=-1)
    return jnp.square(outputs - targets).mean(axis=-1)


def per_list(values: np.ndarray, batch: Batch) -> list[np.ndarray]:
    """The judged steps of each example, (steps, ...), out of answers or truths (B, T, ...)."""
    mask = np.asarray(batch.mask)
    return [row[judged] for row, judged in zip(np.asarray(values), mask, strict=True)]


def gather(values: jax.Array, index: jax.Array) -> jax.Array:
    """`values` (B, L, ...) at the positions `index` (B, T), clipped to those there are."""
    index = jnp.clip(index, 0, values.shape[1] - 1)
    return jax.vmap(lambda row, at: row[at])(values, index)


def assemble(
    values: jax.Array,
    exists: jax.Array,
    targets: jax.Array,
    mask: jax.Array,
    size: jax.Array,
    *,
    max_size: int,
) -> Batch:
    """A batch with zeros wherever a step does not exist (inputs) or is not judged (targets).

    Args:
      values: (B, T, F), the inputs.
      exists: (B, T) bool, the steps that exist.
      targets: (B, T) integers or (B, T, F).
      mask: (B, T) bool, the steps that are judged.
      size: (B,) int32. An example of a size that is not from 1 to `max_size` is judged nowhere.
      max_size: what the batch is padded to.
    """
    mask = mask & exists & ((size >= 1) & (size <= max_size))[:, None]
    kind = jnp.int32 if targets.ndim == 2 else jnp.float32
    judged = mask.reshape(*mask.shape, *[1] * (targets.ndim - 2))
    inputs = Sequence(jnp.where(exists[..., None], values, 0).astype(jnp.float32), exists)
    return Batch(inputs, jnp.where(judged, targets, 0).astype(kind), mask, size)


def windows(argument: str, value: Any, axes: int) -> np.ndarray:
    """`value` as an int32 array of bits with this many axes, batch first, none of them empty.

    Raises:
      InputError: where it is not such an array.
    """
    shape = "(B, L)" if axes == 2 else "(B, L, width)"
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.ndim != axes or array.size == 0:
        raise InputError(f"{argument} has the shape {array.shape}; give an array of bits {shape}.")
    if not np.isin(array, (0, 1)).all():
        raise InputError(f"{argument} holds numbers other than 0 and 1; give bits.")
    return array.astype(np.int32)
