"""The published splits of CLRS-30, number for number, to score a model as published.

Inputs are replayed from NumPy's generator, and answers computed from them in float64, as they were
when the splits were made; a model is then given both in float32. Source: Velickovic et al. 2022,
arXiv:2205.15659. The size of the string matchers counts haystack and needle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import reject, unknown
from evojax_nar.tasks import clrs
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.types import Batch, GraphOutputs

BEYOND_THE_THIRTY = ("bipartite_matching", "find_maximum_subarray")
MATCHERS = ("kmp_matcher", "naive_string_matcher")
MULTIPLES = {
    "binary_search": 64,
    "find_maximum_subarray_kadane": 32,
    "kmp_matcher": 64,
    "minimum": 64,
    "naive_string_matcher": 64,
    "quickselect": 64,
    "segments_intersect": 64,
}
"""How many times the samples there are to judge the algorithms that say little in one."""


@final
@dataclass(frozen=True)
class Split:
    """A published split: where its generator begins, the size of its problems, and their number."""

    seed: int
    size: int
    samples: int


SPLITS = {"train": Split(1, 16, 1000), "val": Split(2, 16, 32), "test": Split(3, 64, 32)}


def find(name: str, split: str) -> tuple[type[ClrsTask], Split]:
    """The task of an algorithm, and its own form of a split.

    Raises:
      InputError: for an unknown name or split, or an algorithm that has no published splits.
    """
    known = {task.name.removeprefix("clrs/"): task for task in clrs.ALL}
    if name in BEYOND_THE_THIRTY:
        remedy = "give one of the thirty of the paper"
        raise reject("name", name, "has no published splits", remedy)
    if name not in known:
        raise unknown("name", name, known)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    found = SPLITS[split]
    if name in MATCHERS:  # the needle, of a quarter of the size, was counted besides it
        found = replace(found, size=found.size * 5 // 4)
    if split != "train":
        found = replace(found, samples=found.samples * MULTIPLES.get(name, 1))
    return known[name], found


def official(name: str, split: str, *, hints: bool = False) -> Batch:
    """A published split as one batch, in float32: of "bfs" and "test", say.

    Takes a few seconds, most of them to compile.

    Args:
      name: of the algorithm.
      split: "train", "val" or "test".
      hints: whether to give all frames, or the first one alone as `ClrsTask.test` does.

    Raises:
      InputError: for an unknown name or split, or an algorithm that has no published splits.
    """
    task, found = find(name, split)
    return solve(task(hints=hints, varied=False), replay(task, found), found.size)


def replay(task: type[ClrsTask], split: Split) -> dict[str, np.ndarray]:
    """The inputs of a split, leaves (B, ...) float64."""
    random = np.random.RandomState(split.seed)
    drawn = [task.replay(random, split.size) for _ in range(split.samples)]
    return {
        field.name: np.stack([probes[field.name] for probes in drawn]).astype(np.float64)
        for field in task.specification.inputs
    }


def solve(task: ClrsTask, inputs: Mapping[str, np.ndarray], size: int) -> Batch:
    """The batch of an algorithm on inputs (B, ...) of one size, run in float64, in float32."""
    build = jax.jit(task.build)
    with _float64():
        sizes = np.full(len(inputs["pos"]), size, np.int32)
        batch = jax.device_get(build(dict(inputs), sizes))
    return jax.tree.map(_single, batch)


def score(name: str, outputs: GraphOutputs, batch: Batch) -> float:
    """The published score of a model's outputs on a whole split, from 0 to 1.

    F1 is not the mean of that of parts, so give the outputs for all examples at once.
    """
    task, _ = find(name, "test")
    return float(task().evaluate(outputs, batch).score)


@contextlib.contextmanager
def _float64() -> Iterator[None]:
    """Arrays of float64 stay so; on the CPU, unless JAX has been told to leave it alone."""
    try:
        device = jax.devices("cpu")[0]
    except RuntimeError:
        device = None  # the one that is used by default
    with jax.enable_x64(True), jax.default_device(device):
        yield


def _single(leaf: Any) -> jax.Array:
    kinds = {"f": np.float32, "i": np.int32}
    return jnp.asarray(leaf, kinds.get(leaf.dtype.kind, leaf.dtype))
