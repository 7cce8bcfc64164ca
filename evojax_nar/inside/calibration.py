"""Whether a model is right as often as it is sure: reliability and the expected calibration error.

Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599, sections 2 and 3:
predictions go by their confidence into bins of equal width, and the error is the mean over
predictions of how far a bin's accuracy lies from its mean confidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from evojax_nar.errors import InputError, positive_int
from evojax_nar.evaluator import CHUNK, TEST, sample_mixture
from evojax_nar.tasks.scoring import decide_truth, where_judged
from evojax_nar.types import Batch, Field, Key, Model, Params, Task, TaskSpec

BINS = 15
"""Of equal width from 0 to 1: what the paper takes."""


class Reliability(NamedTuple):
    """Predictions by confidence, summed bin by bin: bin b of n holds (b / n, (b + 1) / n]."""

    count: jax.Array
    """(bins,) predictions."""
    confidence: jax.Array
    """(bins,) the sum of the probabilities of what was predicted."""
    correct: jax.Array
    """(bins,) how many of them were right."""

    @property
    def error(self) -> jax.Array:
        """The expected calibration error, from 0 to 1; NaN where nothing was predicted."""
        return jnp.abs(self.confidence - self.correct).sum() / self.count.sum()

    @property
    def accuracy(self) -> jax.Array:
        """The share of predictions that were right."""
        return self.correct.sum() / self.count.sum()

    @property
    def sureness(self) -> jax.Array:
        """The mean confidence; above the accuracy where a model is too sure of itself."""
        return self.confidence.sum() / self.count.sum()

    def plain(self) -> dict[str, Any]:
        """The error, accuracy and mean confidence, and the diagram, for JSON."""
        count = np.maximum(np.asarray(self.count, np.float64), 1)
        return {
            "error": float(self.error),
            "accuracy": float(self.accuracy),
            "confidence": float(self.sureness),
            "bins": {
                "count": np.asarray(self.count).tolist(),
                "confidence": (np.asarray(self.confidence, np.float64) / count).tolist(),
                "accuracy": (np.asarray(self.correct, np.float64) / count).tolist(),
            },
        }


def reliability(
    confidence: ArrayLike, correct: ArrayLike, judged: ArrayLike, *, bins: int = BINS
) -> Reliability:
    """Predictions of any shape, by confidence.

    Args:
      confidence: the probability of what was predicted, from 0 to 1.
      correct: bool of that shape.
      judged: bool of that shape: what counts. A NaN is a prediction of no confidence, and wrong.
      bins: how many.

    Raises:
      InputError: for no bins.
    """
    positive_int("bins", bins)
    correct, judged = jnp.asarray(correct), jnp.asarray(judged)
    missing = jnp.isnan(confidence)
    confidence = jnp.where(missing, 0.0, confidence)
    place = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    members = jax.nn.one_hot(place, bins) * judged[..., None]
    axes = tuple(range(place.ndim))
    right = correct & ~missing
    return Reliability(
        members.sum(axes),
        (members * confidence[..., None]).sum(axes),
        (members * right[..., None]).sum(axes),
    )


def probabilities(spec: TaskSpec, outputs: Any) -> dict[str, jax.Array]:
    """What outputs of a model say, as probabilities, by field.

    Of a class or a node (..., choices), of a bit that of 1. Their mean over members is what an
    ensemble says (Lakshminarayanan et al. 2017, arXiv:1612.01474, section 2.4).

    Args:
      spec: of the task.
      outputs: (B, T, F), or `GraphOutputs`, which give nodes that do not exist no probability.

    Raises:
      InputError: where the task has no output with probabilities.
    """
    found = {}
    for field in _fields(spec):
        logits = outputs.outputs[field.name] if spec.is_graph else outputs
        if _is_bit(field):
            found[field.name] = jax.nn.sigmoid(logits)
        else:
            found[field.name] = jax.nn.softmax(logits)
    return found


def judge(
    spec: TaskSpec, said: dict[str, jax.Array], batch: Batch, *, bins: int = BINS
) -> Reliability:
    """Reliability of probabilities at the positions that are judged, all fields together."""
    parts = []
    for field in _fields(spec):
        own = said[field.name]
        truth = batch.targets[field.name] if spec.is_graph else batch.targets
        if spec.is_graph:
            judged, right = where_judged(field, truth, batch.mask), decide_truth(field, truth)
        else:
            shape = truth.shape if _is_bit(field) else batch.mask.shape
            wide = batch.mask[..., None] if _is_bit(field) else batch.mask
            judged, right = jnp.broadcast_to(wide, shape), truth.astype(jnp.int32)
        if _is_bit(field):
            confidence, chosen = jnp.maximum(own, 1 - own), (own > 0.5).astype(jnp.int32)
        else:
            confidence, chosen = own.max(axis=-1), own.argmax(axis=-1).astype(jnp.int32)
        parts.append(reliability(confidence, chosen == right, judged, bins=bins))
    return jax.tree.map(lambda *rows: sum(rows), *parts)


def calibrate(
    task: Task,
    model: Model,
    members: Params,
    *,
    size: int | None = None,
    examples: int = 1024,
    key: Key | None = None,
    bins: int = BINS,
) -> Reliability:
    """Reliability of a parameter set, or of an ensemble of them, on fresh examples.

    At a test size they are those on which a comparison judges in the end, where as many are asked
    for.

    Args:
      task: with categorical or bit outputs.
      model: what is run.
      members: parameters with a leading axis of C, which speak together; of one set, C is 1.
      size: of the examples; None for a mixture of the training sizes.
      examples: how many, rounded up to whole chunks.
      key: of the examples; None for that of the final judgement.
      bins: of the diagram.

    Raises:
      InputError: for a task whose outputs are real numbers, or a size that the model cannot run.
    """
    positive_int("examples", examples)
    limit = model.max_size(task.spec)
    if size is not None and limit is not None and size > limit:
        raise InputError(f"size={size} is more than this model can run; give at most {limit}")
    key = jax.random.key(TEST) if key is None else key
    if size is not None:
        key = jax.random.fold_in(key, size)
    chunks = -(-examples // CHUNK)
    static = {"size": size, "batch": -(-examples // chunks), "bins": bins}
    total = None
    for chunk in range(chunks):
        part = _chunk(task, model, members, jax.random.fold_in(key, chunk), **static)
        total = part if total is None else jax.tree.map(jnp.add, total, part)
    assert total is not None
    return total


@partial(jax.jit, static_argnames=("task", "model", "size", "batch", "bins"))
def _chunk(
    task: Task,
    model: Model,
    members: Params,
    key: Key,
    *,
    size: int | None,
    batch: int,
    bins: int,
) -> Reliability:
    spec = task.spec
    if size is None:
        data = sample_mixture(getattr(task, "validation", task), key, batch)
    else:
        fixed = model.max_size(spec) is not None
        source: Task = getattr(task, "test", task)
        data = source.sample(
            key, size, max_size=max(size, spec.max_size) if fixed else size, batch=batch
        )

    def say(params: Params) -> dict[str, jax.Array]:
        return probabilities(spec, model.apply(params, data.inputs, spec=spec))

    # One after another, since a member may need all the memory that there is.
    first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), members)
    zeros = jax.tree.map(lambda own: jnp.zeros(own.shape, own.dtype), jax.eval_shape(say, first))
    count = jax.tree.leaves(members)[0].shape[0]
    total, _ = jax.lax.scan(
        lambda sums, own: (jax.tree.map(jnp.add, sums, say(own)), None), zeros, members
    )
    return judge(spec, jax.tree.map(lambda own: own / count, total), data, bins=bins)


def _fields(spec: TaskSpec) -> Iterator[Field]:
    """The outputs that have probabilities."""
    found = [field for field in spec.outputs if field.kind != "scalar"]
    if not found or (not spec.is_graph and len(spec.outputs) > 1):
        raise InputError(
            f"task={spec.name!r} has no one output with probabilities; "
            "give a task of classes, bits, masks or pointers"
        )
    return iter(found)


def _is_bit(field: Field) -> bool:
    return field.kind in ("bits", "mask")
