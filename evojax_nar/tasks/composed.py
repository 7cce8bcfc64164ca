"""Solved modules plugged together: is a chain of them as good as its parts?

Each stage answers what the stage before it has said, mistakes included. Beside the end of the chain
stand its parts, each on the inputs that a chain without mistakes would give it, and the product of
those: what the end would be if mistakes were independent and none were forgiven. A later stage
that does not look at what is wrong forgives it, so that the end can be better than the product.

    stages = [
        Solved(sorting, model, params),
        Solved(searching, other_model, other_params, enter=search_sorted),
    ]
    evaluate(stages, key, size=64, batch=256)
"""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import InputError, positive_int
from evojax_nar.tasks import scoring, sequence
from evojax_nar.tasks.perturbations import draw
from evojax_nar.tasks.sequence import SequenceTask, gather
from evojax_nar.types import Batch, Key, Model, Params

Answers: TypeAlias = Mapping[str, jax.Array]
"""What a stage says, by name: whole numbers such as classes, nodes or ranks, (B, ...)."""
Adapter: TypeAlias = Callable[[Key, Any, Answers, jax.Array], Any]
"""Key, the content and the answers of the stage before, and sizes (B,), to a stage's own content.

A pure function under jit, which must do with any answers, right or wrong. The key is for what the
chain has not drawn yet, such as a target; it is the same for right and for given answers.
"""


class Stage(abc.ABC):
    """One module of a chain. A frozen dataclass that is registered as a pytree."""

    enter: Adapter | None
    """How it gets its content; None for the first of a chain, which draws it."""

    @abc.abstractmethod
    def draw(self, key: Key, size: jax.Array, *, max_size: int) -> Any:
        """Random content of examples of these sizes (B,)."""

    @abc.abstractmethod
    def solve(self, content: Any, size: jax.Array) -> Answers:
        """What it says of content (B, ...) of sizes (B,)."""

    @abc.abstractmethod
    def truth(self, content: Any, size: jax.Array) -> tuple[Answers, Answers]:
        """What is right, and which entries of it count, bool."""


class Composition(NamedTuple):
    """Shares of examples, at one size."""

    end_to_end: float
    """Those whose last answer is all right, at the end of the chain."""
    parts: tuple[float, ...]
    """For each stage, those that it answers all right where its inputs are."""
    product: float
    """Of the parts."""


def evaluate(stages: Sequence[Stage], key: Key, size: int, batch: int) -> Composition:
    """Run `batch` examples of `size` through a chain.

    Args:
      stages: in their order; all but the first with `enter`.
      key: of the examples.
      size: of the problem that the first stage draws.
      batch: examples, all run at once.

    Raises:
      InputError: for no stages, one without `enter` behind another, or a size or batch below 1.
    """
    if not stages:
        raise InputError("stages is empty; give at least one")
    for place, stage in enumerate(stages):
        if (stage.enter is None) != (place == 0):
            raise InputError(
                f"stages[{place}] has {'no' if place else 'an'} adapter; give `enter` to all "
                "stages but the first"
            )
    positive_int("size", size)
    positive_int("batch", batch)
    end, parts = _run(tuple(stages), key, size=size, batch=batch)
    shares = tuple(float(np.mean(part)) for part in parts)
    return Composition(float(np.mean(end)), shares, math.prod(shares))


def curve(
    stages: Sequence[Stage], key: Key, sizes: Iterable[int], batch: int
) -> dict[int, Composition]:
    """`evaluate` at each size, on examples of its own."""
    return {size: evaluate(stages, jax.random.fold_in(key, size), size, batch) for size in sizes}


@functools.partial(jax.jit, static_argnames=("size", "batch"))
def _run(
    stages: tuple[Stage, ...], key: Key, *, size: int, batch: int
) -> tuple[jax.Array, list[jax.Array]]:
    """Which examples (B,) are right at the end, and of each stage by itself."""
    first, *keys = jax.random.split(key, len(stages))
    sizes = jnp.full(batch, size, jnp.int32)
    given = meant = stages[0].draw(first, sizes, max_size=size)
    said = right = {}
    end, parts = jnp.ones(batch, bool), []
    for place, stage in enumerate(stages):
        if stage.enter is not None:
            own = keys[place - 1]
            given, meant = (
                stage.enter(own, given, said, sizes),
                stage.enter(own, meant, right, sizes),
            )
        right, judged = stage.truth(meant, sizes)
        alone = stage.solve(meant, sizes)
        said = alone if place == 0 else stage.solve(given, sizes)
        parts.append(_exact(alone, right, judged))
        end = _exact(said, right, judged)
    return end, parts


def _exact(said: Answers, right: Answers, judged: Answers) -> jax.Array:
    """Which examples (B,) have every answer right."""
    wrong = [
        ((said[name] != truth) & judged[name]).reshape(len(truth), -1).any(axis=1)
        for name, truth in right.items()
    ]
    return ~jnp.stack(wrong).any(axis=0)


# Stages.


@dataclass(frozen=True)
class _TaskStage(Stage):
    """What stages that are tasks have in common."""

    task: Any
    """A task of sequences or of CLRS-30, in the form in which it is tested."""

    def draw(self, key: Key, size: jax.Array, *, max_size: int) -> Any:
        """As the task draws."""
        return draw(self._judged, key, size, max_size=max_size)

    def truth(self, content: Any, size: jax.Array) -> tuple[Answers, Answers]:
        """As the task computes it."""
        batch = self._judged.build(content, size)
        right, judged = {}, {}
        if isinstance(self.task, SequenceTask):
            name = self.task.output.name
            right[name] = sequence.truth(self.task.output, batch)
            judged[name] = right[name] != sequence.NO_ANSWER
            return right, judged
        for field in self.task.spec.outputs:
            truth = batch.targets[field.name]
            right[field.name] = scoring.decide_truth(field, truth)
            judged[field.name] = scoring.where_judged(field, truth, batch.mask)
        return right, judged

    @property
    def _judged(self) -> Any:
        return getattr(self.task, "test", self.task)


@final
@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["params"],
    meta_fields=["task", "model", "enter"],
)
@dataclass(frozen=True)
class Solved(_TaskStage):
    """A model with the parameters that it was left with, which stay as they are.

    Args:
      task: what it was trained on.
      model: the model.
      params: its parameters.
      enter: see `Stage`.
    """

    model: Model
    params: Params
    enter: Adapter | None = None

    def solve(self, content: Any, size: jax.Array) -> Answers:
        """What the model says, decided."""
        batch: Batch = self._judged.build(content, size)
        outputs = self.model.apply(self.params, batch.inputs, spec=self.task.spec)
        if isinstance(self.task, SequenceTask):
            field = self.task.output
            return {field.name: sequence.predictions(field, outputs, batch)}
        return {
            field.name: scoring.decide(field, outputs.outputs[field.name], batch.mask)
            for field in self.task.spec.outputs
        }


@final
@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["task", "enter"])
@dataclass(frozen=True)
class Exact(_TaskStage):
    """The algorithm itself in the place of a model.

    Args:
      task: the task.
      enter: see `Stage`.
    """

    enter: Adapter | None = None

    def solve(self, content: Any, size: jax.Array) -> Answers:
        """What is right."""
        return self.truth(content, size)[0]


@final
@functools.partial(
    jax.tree_util.register_dataclass, data_fields=[], meta_fields=["function", "enter"]
)
@dataclass(frozen=True)
class Function(Stage):
    """A plain function that is never wrong about what it is given, such as `path`.

    Args:
      function: content and sizes to answers.
      enter: see `Stage`; it cannot be the first.
    """

    function: Callable[[Any, jax.Array], Answers]
    enter: Adapter | None

    def draw(self, key: Key, size: jax.Array, *, max_size: int) -> Any:
        """It has nothing to draw from.

        Raises:
          InputError: always.
        """
        raise InputError("stages[0] is a function, which draws nothing; begin with a task")

    def solve(self, content: Any, size: jax.Array) -> Answers:
        """What the function says."""
        return self.function(content, size)

    def truth(self, content: Any, size: jax.Array) -> tuple[Answers, Answers]:
        """Likewise, all of which counts."""
        answers = self.function(content, size)
        return answers, {name: jnp.ones(value.shape, bool) for name, value in answers.items()}


# Adapters.


def search_sorted(
    key: Key, content: Any, answers: Answers, size: jax.Array
) -> dict[str, jax.Array]:
    """From a sorting algorithm of CLRS-30 to `BinarySearch`: the list in the order that was said.

    Keys stand in the order of how many predecessors they have. Where answers are wrong and some
    have as many, they stay in the order in which they stood. The target is uniform in [0, 1).
    """
    exists = jnp.arange(content["key"].shape[1]) < size[:, None]
    return _searched(key, content["key"], jax.vmap(_depths)(answers["pred"]), exists)


def search_ranked(
    key: Key, content: Any, answers: Answers, size: jax.Array
) -> dict[str, jax.Array]:
    """From `Sort`, whose content is keys (B, L), to `BinarySearch`, likewise."""
    index = jnp.arange(content.shape[1])
    ranks = gather(answers["rank"], size[:, None] + index)
    return _searched(key, content, ranks, index < size[:, None])


def walk_back(key: Key, content: Any, answers: Answers, size: jax.Array) -> dict[str, jax.Array]:
    """From an algorithm that gives each node a parent to `path`: a uniform node to walk from."""
    goal = jax.random.randint(key, size.shape, 0, size)
    return {"pi": answers["pi"], "goal": goal}


def path(content: Any, size: jax.Array) -> Answers:
    """The nodes on the way from `goal` (B,) to the root, by the parents `pi` (B, V).

    `path` is (B, V) int32: the goal, its parent and so on; -1 behind a node that is its own parent.
    """
    parents = jnp.clip(content["pi"], 0, content["pi"].shape[1] - 1)
    rows = jnp.arange(len(size))

    def step(carry: tuple[jax.Array, jax.Array], _: None) -> Any:
        node, over = carry
        parent = parents[rows, node]
        return (parent, over | (parent == node)), jnp.where(over, -1, node)

    start = (content["goal"], jnp.zeros(size.shape, bool))
    _, nodes = jax.lax.scan(step, start, length=parents.shape[1])
    return {"path": nodes.T.astype(jnp.int32)}


def _depths(parents: jax.Array) -> jax.Array:
    """How many steps lead from each node to one that points at itself, (V,) int32.

    By doubling the length of steps. Where none does, at least V.
    """
    nodes = parents.shape[0]
    jump = jnp.clip(parents, 0, nodes - 1)
    steps = (jump != jnp.arange(nodes)).astype(jnp.int32)
    for _ in range(max(nodes - 1, 1).bit_length()):
        steps, jump = steps + steps[jump], jump[jump]
    return steps


def _searched(
    key: Key, keys: jax.Array, ranks: jax.Array, exists: jax.Array
) -> dict[str, jax.Array]:
    """Inputs of `BinarySearch` with keys (B, V) in the order of their ranks."""
    index, count = jnp.arange(keys.shape[1]), exists.sum(axis=1, keepdims=True)
    order = jnp.argsort(jnp.where(exists, ranks, jnp.iinfo(jnp.int32).max), axis=1, stable=True)
    return {
        "pos": jnp.where(exists, index / jnp.maximum(count, 1), 0.0).astype(keys.dtype),
        "key": jnp.where(exists, jnp.take_along_axis(keys, order, axis=1), 0.0),
        "target": jax.random.uniform(key, (len(keys),), keys.dtype),
    }
