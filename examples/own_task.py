"""A task of your own: a class with five members, and nothing to inherit from.

The task is a running majority: after each bit, say whether more than half of the bits so far were
ones. A memory that adds the ones and takes off the zeros is enough at any length, so what is
learned on short strings can be right on long ones. Run with `python examples/own_task.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

import evojax_nar as nar
from evojax_nar import types


# Frozen, so that equal tasks are one program under jit. B examples, T time steps, F features.
@dataclass(frozen=True)
class Majority:
    train_sizes: tuple[int, ...] = tuple(range(1, 11))
    test_sizes: tuple[int, ...] = (10, 40)

    @property
    def spec(self) -> types.TaskSpec:
        """What a model must know to be built: one bit in, one logit out, at each step."""
        largest = max(self.train_sizes)
        return types.TaskSpec(
            name="majority",
            inputs=(types.Field("bit", "bits", 1),),
            outputs=(types.Field("majority", "bits", 1),),
            max_size=largest,
            max_length=self.length(largest),
        )

    def length(self, size: int) -> int:
        """Time steps T of a batch padded to `size`: here one a bit."""
        return size

    def sample(self, key: jax.Array, size: Any, *, max_size: int, batch: int) -> types.Batch:
        """A batch made on the device. The shapes follow from `max_size` and `batch` alone.

        In training `size` is (B,), a mixture of the training sizes; at a test size it is one
        number. It may be traced, so it must not decide a shape: shorter examples are masked.
        """
        sizes = jnp.broadcast_to(jnp.asarray(size, jnp.int32), (batch,))
        exists = jnp.arange(max_size) < sizes[:, None]  # (B, T)
        bits = jax.random.bernoulli(key, shape=(batch, max_size)) & exists
        lead = jnp.cumsum(jnp.where(bits, 1, -1), axis=1)  # ones less zeros so far
        return types.Batch(
            inputs=types.Sequence(values=bits[..., None].astype(jnp.float32), mask=exists),
            targets=(lead > 0)[..., None].astype(jnp.float32),
            mask=exists,  # the steps at which an answer is judged: all that exist
            size=sizes,
        )

    def evaluate(self, outputs: jax.Array, batch: types.Batch) -> nar.Evaluation:
        """Judge logits (B, T, 1): a LOSS to go down, a score to go up, and further metrics."""
        logits, targets = outputs[..., 0], batch.targets[..., 0]
        right = (logits > 0) == (targets > 0.5)
        cross_entropy = optax.sigmoid_binary_cross_entropy(logits, targets)
        return nar.Evaluation(
            loss=jnp.mean(cross_entropy, where=batch.mask),
            score=jnp.mean(right, where=batch.mask, dtype=jnp.float32),
            # The fraction of examples that are right at every step, shown where there is one.
            metrics={"exact": jnp.mean((right | ~batch.mask).all(axis=1), dtype=jnp.float32)},
        )


def main(arguments: Sequence[str] | None = None) -> nar.Results:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller budget")
    parser.add_argument("--out", help="results folder; without it a fresh one under results/")
    options = parser.parse_args(arguments)

    results = nar.compare(
        Majority(),
        nar.models.RNN(hidden=8),
        {
            "snes": nar.Arm(nar.strategies.Evosax("SNES", population=64, std=0.3), batch=32),
            "adam": nar.Arm(nar.strategies.Gradient(optax.adam(0.02)), batch=32),
        },
        seeds=3,
        budget=nar.Budget(forwards=1.5e5 if options.quick else 4e6),
        out=options.out,
        progress=False,
    )
    results.table()
    return results


if __name__ == "__main__":
    main()
