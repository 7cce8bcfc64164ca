"""Trivial floors: what the best answers score that never look at the input.

A score means little beside 0 where a constant gets most of it, so every score is reported with its
floor, and as a share of the way from there to 1. The floor is measured: for each entry of the
output the most frequent answer among some examples is given to fresh ones.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.types import Batch, Evaluation, Sequence, Task

_BATCHES = 16
_AT_ONCE = 64
"""Examples of a batch: 1,024 are counted in all, and as many fresh ones judged."""
_ENTRIES = 2**22
"""Most numbers of one field in a batch, so that large graphs are counted in smaller ones."""
_SEED = 0x5EED_0003


class Floor(NamedTuple):
    """What answers score that never look at the input, at one size."""

    score: float
    exact: float

    def normalised(self, score: float | None) -> float | None:
        """A score as a share of the way from the floor to 1; negative below the floor.

        None where the floor is 1, or there is no score.
        """
        if score is None or self.score >= 1.0:
            return None
        return (score - self.score) / (1.0 - self.score)


@runtime_checkable
class Guessable(Protocol):
    """A task that can count answers."""

    def guess(self, batch: Batch) -> Any:
        """Outputs of one example, without its axis of B, that fit the targets of `batch` best."""
        ...


def floor(task: Task, size: int) -> Floor | None:
    """The floor of `task` at `size`; None for a task of the user's own that has no `guess`.

    It is measured on the task's test data where it has such, always with the same keys.
    """
    judged: Any = getattr(task, "test", task)
    return _measure(judged, size) if isinstance(judged, Guessable) else None


@functools.lru_cache(maxsize=256)
def _measure(task: Any, size: int) -> Floor:
    fit_key, *keys = jax.random.split(jax.random.key(_SEED), 1 + _BATCHES)
    entries = task.length(size) ** (2 if task.spec.is_graph else 1)
    batch = max(1, min(_AT_ONCE, _ENTRIES // entries))
    fit = [_sample(task, size, batch, key) for key in jax.random.split(fit_key, _BATCHES)]
    # Batches have their examples first, but for the hints of graphs, which no guess looks at.
    if not isinstance(fit[0].inputs, Sequence):
        fit = [one._replace(inputs=None) for one in fit]
    guess = task.guess(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *fit))
    rows = [_judge(task, size, batch, guess, key) for key in keys]
    return Floor(*(float(np.mean(column)) for column in zip(*rows, strict=True)))


@functools.partial(jax.jit, static_argnames=("task", "size", "batch"))
def _sample(task: Any, size: int, batch: int, key: jax.Array) -> Batch:
    return task.sample(key, size, max_size=size, batch=batch)


@functools.partial(jax.jit, static_argnames=("task", "size", "batch"))
def _judge(
    task: Any, size: int, batch: int, guess: Any, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    outputs = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape)), guess)
    found: Evaluation = task.evaluate(outputs, _sample(task, size, batch, key))
    return found.score, found.metrics.get("exact", found.score)
