"""Lists of a user's own numbers for the tasks of CLRS-30 on keys, and their answers in places."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks import scoring
from evojax_nar.tasks.clrs.lists import Keys
from evojax_nar.types import Batch, GraphOutputs


def reads(task: Any) -> bool:
    """Whether a run of `task` is asked with lists of numbers."""
    return isinstance(task, Keys)


def encode(task: Keys, lists: np.ndarray) -> Batch:
    """The batch of lists (B, n) of finite numbers, scaled to the range of the task's own keys.

    Where the task has keys from 0 to 1, the smallest of each list becomes 0 and its largest 1 (all
    0 where they are equal), and the answers are those for the numbers as given, in their own
    precision, since such an algorithm asks only which of two is smaller. Where keys have signs,
    each list is divided by the smallest power of two that none of its numbers exceeds, so that sums
    keep theirs, and the answers are computed in float32.
    """
    numbers = np.asarray(lists, np.float64)
    if task.low < 0:
        largest = np.abs(numbers).max(axis=1, keepdims=True)
        fraction, exponent = np.frexp(largest)
        scaled = np.ldexp(numbers, -(exponent - (fraction == 0.5)))
        return _build(task, jnp.asarray(scaled, jnp.float32))
    # Halved first, so that the span of the largest and the smallest float64 stays finite.
    halves = numbers / 2
    least = halves.min(axis=1, keepdims=True)
    span = halves.max(axis=1, keepdims=True) - least
    scaled = np.where(span > 0, (halves - least) / np.where(span > 0, span, 1.0), 0.0)
    ranks = np.stack([np.unique(row, return_inverse=True)[1] for row in numbers])
    given = _build(task, jnp.asarray(scaled, jnp.float32))
    return given._replace(targets=_build(task, jnp.asarray(ranks, jnp.float32)).targets)


def judge(task: Keys, outputs: GraphOutputs, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Answers and what they should be: places in the list, (B, K) int32, output by output.

    An output has one place, or one a key. -1 is an output that is no number.
    """
    said, true = [], []
    for field in task.specification.outputs:
        for found, value in (
            (said, scoring.decide(field, outputs.outputs[field.name], batch.mask)),
            (true, scoring.decide_truth(field, batch.targets[field.name])),
        ):
            found.append(np.asarray(value).reshape(len(batch.size), -1))
    return np.concatenate(said, axis=1), np.concatenate(true, axis=1)


@partial(jax.jit, static_argnames="task")
def _build(task: Keys, keys: jax.Array) -> Batch:
    """The batch of keys (B, n) as a model is judged by: without hints, places i / n."""
    batch, size = keys.shape
    places = jnp.broadcast_to(jnp.arange(size) / size, keys.shape).astype(jnp.float32)
    return task.test.build({"pos": places, "key": keys}, jnp.full(batch, size, jnp.int32))
