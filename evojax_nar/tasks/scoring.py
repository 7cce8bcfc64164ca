"""How predictions of probes are trained and judged, from their kind alone.

Losses are those of the reference trainer (Ibarz et al. 2022, arXiv:2209.11142, appendix): squared
error for scalars, cross-entropy for the rest, the mean over what is judged; outputs and hints are
summed without weights. The score is the benchmark's: F1 for masks, pooled over the batch, and
accuracy otherwise, the mean over outputs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evojax_nar.types import Batch, Evaluation, Field, GraphOutputs, TaskSpec

_FAR = -1e9
"""Stands for a logit of a node that does not exist; finite, so that a gradient is."""


def judge(spec: TaskSpec, given: GraphOutputs, batch: Batch) -> Evaluation:
    """Loss, score and metrics of what a model says of a batch.

    Metrics: `exact`, the fraction of examples with every output right, and one score an output.
    """
    nodes, loss = batch.mask, jnp.float32(0.0)
    scores: dict[str, jax.Array] = {}
    exact = jnp.ones(nodes.shape[0], bool)
    for field in spec.outputs:
        logits, truth = given.outputs[field.name], batch.targets[field.name]
        judged = where_judged(field, truth, nodes)
        loss += _mean(entry_losses(field, logits, truth, nodes), judged)
        predicted, true = decide(field, logits, nodes), decide_truth(field, truth)
        scores[field.name] = score(field, predicted, true, judged)
        axes = tuple(range(1, judged.ndim))
        exact &= ((predicted == true) | ~judged).all(axis=axes)
    for field in spec.hints:
        if field.name in batch.inputs.hints and field.name in given.hints:
            loss += _hint_loss(field, given.hints[field.name], batch)
    mean = jnp.stack(list(scores.values())).mean()
    metrics = {"exact": exact.mean(dtype=jnp.float32)}
    return Evaluation(loss, mean, metrics | {f"score_{k}": v for k, v in scores.items()})


def frequent(spec: TaskSpec, batch: Batch) -> dict[str, jax.Array]:
    """For each output what is most frequent in a batch, as logits of one example, without B.

    Entry by entry; or all of a mask, where that scores higher, as it often does: F1 forgives what
    is said too often.
    """
    found = {}
    for field in spec.outputs:
        truth = batch.targets[field.name]
        judged = where_judged(field, truth, batch.mask)
        right = decide_truth(field, truth)
        if field.kind == "scalar":
            found[field.name] = truth.mean(axis=0)
        elif field.kind == "mask":
            common = jnp.where(jnp.where(judged, right, 0).mean(axis=0) > 0.5, 1.0, -1.0)
            options = jnp.stack([common, jnp.ones_like(common)])
            said = jnp.broadcast_to((options > 0)[:, None], (2, *right.shape)).astype(jnp.int32)
            scores = jax.vmap(lambda one, f=field, r=right, j=judged: score(f, one, r, j))(said)
            found[field.name] = options[scores.argmax()]
        else:
            choices = field.features if field.kind == "categorical" else batch.mask.shape[1]
            options = jnp.arange(choices)
            counts = [((right == option) & judged).sum(axis=0) for option in options]
            found[field.name] = jnp.stack(counts, axis=-1).astype(jnp.float32)
    return found


def where_judged(field: Field, truth: jax.Array, nodes: jax.Array) -> jax.Array:
    """Which entries count, bool: one a prediction, so without the axis of classes or choices.

    Args:
      field: of the probe.
      truth: what is right, (B, ...).
      nodes: (B, V), the nodes that exist.
    """
    if field.location == "graph":
        exists = jnp.ones(nodes.shape[:1], bool)
    elif field.location == "edge":
        exists = nodes[:, :, None] & nodes[:, None, :]
    elif field.kind == "mask_one":  # one choice among the nodes
        exists = jnp.ones(nodes.shape[:1], bool)
    else:
        exists = nodes
    if field.kind == "mask":
        return exists & (truth >= 0)
    if field.kind in ("mask_one", "categorical"):
        return exists & (truth.max(axis=-1) > 0)
    return exists


def entry_losses(field: Field, logits: jax.Array, truth: jax.Array, nodes: jax.Array) -> jax.Array:
    """The loss of each entry, whether it is judged or not."""
    if field.kind == "scalar":
        return jnp.square(logits - truth)
    if field.kind == "mask":
        return jax.nn.softplus((1.0 - 2.0 * jnp.maximum(truth, 0.0)) * logits)
    logarithms = jax.nn.log_softmax(_choices(field, logits, nodes))
    return -jnp.take_along_axis(logarithms, decide_truth(field, truth)[..., None], -1)[..., 0]


def decide(field: Field, logits: jax.Array, nodes: jax.Array) -> jax.Array:
    """What logits say: a real number, 0 or 1, a class, or the index of a node; -1 for a NaN."""
    if field.kind == "scalar":
        return logits
    if field.kind == "mask":
        return jnp.where(jnp.isnan(logits), -1, logits > 0).astype(jnp.int32)
    choices = _choices(field, logits, nodes)
    missing = jnp.isnan(choices).any(axis=-1)
    return jnp.where(missing, -1, choices.argmax(axis=-1)).astype(jnp.int32)


def decide_truth(field: Field, truth: jax.Array) -> jax.Array:
    """A true probe in the form of `decide`."""
    if field.kind in ("mask_one", "categorical"):
        return truth.argmax(axis=-1).astype(jnp.int32)
    return truth if field.kind == "scalar" else truth.astype(jnp.int32)


def score(field: Field, predicted: jax.Array, true: jax.Array, judged: jax.Array) -> jax.Array:
    """F1 of a mask over all entries together, where none is as good as all; else accuracy.

    Squared error, negated, for a scalar.
    """
    if field.kind == "scalar":
        return -_mean(jnp.square(predicted - true), judged)
    if field.kind == "mask":
        hits = ((predicted == 1) & (true == 1) & judged).sum()
        # What is no number counts as said and wrong, or a mask of nothing would be right.
        said, there = ((predicted != 0) & judged).sum(), ((true == 1) & judged).sum()
        precision = jnp.where(said > 0, hits / jnp.maximum(said, 1), 1.0)
        recall = jnp.where(there > 0, hits / jnp.maximum(there, 1), 1.0)
        both = precision + recall
        return jnp.where(both > 0, 2 * precision * recall / jnp.maximum(both, 1e-12), 0.0)
    return _mean((predicted == true).astype(jnp.float32), judged)


def _hint_loss(field: Field, given: jax.Array, batch: Batch) -> jax.Array:
    """Step t against frame t + 1: the mean over all entries of the frames that there are."""
    truths, running = batch.inputs.hints[field.name][1:], batch.inputs.running

    def frame(logits: jax.Array, truth: jax.Array, going: jax.Array) -> tuple[jax.Array, jax.Array]:
        losses = entry_losses(field, logits, truth, batch.mask)
        judged = where_judged(field, truth, batch.mask)
        judged &= going.reshape(-1, *[1] * (judged.ndim - 1))
        return jnp.where(judged, losses, 0.0).sum(), judged.sum()

    sums, counts = jax.vmap(frame)(given[: len(truths)], truths, running[: len(truths)])
    return sums.sum() / jnp.maximum(counts.sum(), 1)


def _choices(field: Field, logits: jax.Array, nodes: jax.Array) -> jax.Array:
    """Logits whose last axis is what is chosen from; nodes that do not exist are never chosen."""
    if field.kind == "categorical":
        return logits
    real = nodes.reshape(nodes.shape[0], *[1] * (logits.ndim - 2), nodes.shape[1])
    return jnp.where(real, logits, _FAR)


def _mean(values: jax.Array, judged: jax.Array) -> jax.Array:
    return jnp.where(judged, values, 0.0).sum() / jnp.maximum(judged.sum(), 1)
