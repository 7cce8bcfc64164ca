"""What the memory tasks share: they are judged in bits, by two more metrics."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from evojax_nar.tasks.sequence import SequenceTask, judge
from evojax_nar.types import Batch, Evaluation


@dataclass(frozen=True)
class MemoryTask(SequenceTask):
    """A task whose outputs are bits, judged with `bits_per_sequence` and `bit_error` besides."""

    def evaluate(self, outputs: jax.Array, batch: Batch) -> Evaluation:
        """Loss, score and metrics of `outputs` (B, T, F): see `judge` and `bit_metrics`."""
        loss, score, metrics = judge(self.output, outputs, batch)
        return Evaluation(loss, score, {**metrics, **bit_metrics(outputs, batch)})


def bit_metrics(outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    """How far logits (B, T, F) are from the bits of a batch, at the steps that are judged.

    `bits_per_sequence` is the cross-entropy in bits, summed over all bits of a sequence, as Graves
    et al. 2014 report it; the mean over the batch. Who knows nothing pays one for each bit.
    `bit_error` is the fraction of wrong bits, of all those in the batch; NaN is wrong.
    """
    judged = batch.mask[..., None]
    outputs = jnp.where(judged, outputs.astype(jnp.float32), 0.0)
    costs = jax.nn.softplus((1.0 - 2.0 * batch.targets) * outputs) / jnp.log(2.0)
    wrong = ((outputs > 0) != (batch.targets > 0)) | jnp.isnan(outputs)
    count = batch.mask.sum(dtype=jnp.float32) * outputs.shape[-1]
    return {
        "bits_per_sequence": jnp.where(judged, costs, 0.0).sum(axis=(1, 2)).mean(),
        "bit_error": (judged & wrong).sum(dtype=jnp.float32) / jnp.maximum(count, 1.0),
    }
