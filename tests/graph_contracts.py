"""What tasks and models of graphs promise, as functions that know none of them by name."""

from __future__ import annotations

import functools
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar import strategies
from evojax_nar.evaluator import sample_mixture
from evojax_nar.models import GraphModel
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.tasks import GraphTask
from evojax_nar.types import Batch, Evaluation, Field, Graph, GraphOutputs, Info, Params, TaskSpec

KEY = jax.random.key(2026)
BATCH = 4
POINTERS = ("pointer", "permutation")
SURE = 50.0
"""A logit so far from the others that its loss is 0 in float32."""


# Tasks.


def batches_are_well_formed(task: GraphTask) -> None:
    """Shapes and types as the spec says; nothing exists or is judged beyond an example's size."""
    largest = task.spec.max_size
    assert task.spec.max_length == task.length(largest)
    assert largest == max(task.train_sizes)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def sample(key: jax.Array, size: jax.Array) -> Batch:
        return task.sample(key, size, max_size=largest, batch=BATCH)

    sizes = jnp.asarray(task.train_sizes, jnp.int32)[jnp.arange(BATCH) % len(task.train_sizes)]
    mixed = jax.device_get(sample(KEY, sizes))
    chex.assert_trees_all_equal(mixed, jax.device_get(sample(KEY, sizes)))
    _check_batch(task, mixed)
    _check_batch(task, jax.device_get(sample(KEY, jnp.full_like(sizes, min(task.train_sizes)))))
    others = sample(jax.random.key(1), sizes)
    leaves = zip(jax.tree.leaves(mixed.inputs.values), jax.tree.leaves(others.inputs), strict=False)
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in leaves)
    assert mixed.size.tolist() == np.asarray(sizes).tolist()
    judged: Any = getattr(task, "test", task)
    alone = judged.sample(KEY, largest, max_size=largest, batch=2)
    assert all(len(frames) == 1 for frames in alone.inputs.hints.values()), "hints are not given"


def _check_batch(task: GraphTask, given: Batch) -> None:
    spec, nodes = task.spec, task.spec.max_length
    chex.assert_shape([given.inputs.mask, given.mask], (BATCH, nodes))
    exists = np.arange(nodes) < np.array([task.length(int(s)) for s in given.size])[:, None]
    np.testing.assert_array_equal(given.inputs.mask, exists)
    running = given.inputs.running
    chex.assert_type(running, bool)
    assert running[0].all(), "every example takes a step"
    assert not (running[1:] & ~running[:-1]).any(), "and none begins again"
    room = len(running) + 1
    for fields, values, lead in (
        (spec.inputs, given.inputs.values, ()),
        (spec.outputs, given.targets, ()),
        (spec.hints, given.inputs.hints, (room,)),
    ):
        assert set(values) == {field.name for field in fields}
        for field in fields:
            value = np.asarray(values[field.name])
            # One frame or one step is the least there is, whatever has no hints at all.
            axes = lead if not lead or len(value) > 1 else (1,)
            _check_probe(field, value, exists, axes)


def _check_probe(
    field: Field, value: np.ndarray, exists: np.ndarray, lead: tuple[int, ...]
) -> None:
    batch, nodes = exists.shape
    places = {"node": 1, "edge": 2, "graph": 0}[field.location]
    classes = (field.features,) if field.kind == "categorical" else ()
    chex.assert_shape(value, (*lead, batch, *[nodes] * places, *classes))
    if field.kind in POINTERS:
        chex.assert_type(value, jnp.int32)
        assert ((value >= 0) & (value < nodes)).all()
    else:
        chex.assert_type(value, jnp.float32)
        assert np.isfinite(value).all()
    if places:
        real = exists if places == 1 else exists[:, :, None] & exists[:, None, :]
        real = np.broadcast_to(real.reshape(*real.shape, *[1] * len(classes)), value.shape)
        assert not value[~real].any(), f"{field.name} is zero past the size"


def perfect(task: GraphTask, batch: Batch) -> GraphOutputs:
    """Outputs that are right wherever they are judged."""
    outputs = {}
    for field in task.spec.outputs:
        truth = np.asarray(batch.targets[field.name], np.float32)
        if field.kind == "scalar":
            outputs[field.name] = truth
        elif field.kind in POINTERS:
            nodes = batch.mask.shape[1]
            outputs[field.name] = SURE * (truth[..., None] == np.arange(nodes)).astype(np.float32)
        else:
            outputs[field.name] = SURE * (2 * (truth > 0) - 1).astype(np.float32)
    return GraphOutputs(outputs, {})


@functools.partial(jax.jit, static_argnames="task")
def evaluate(task: GraphTask, outputs: GraphOutputs, batch: Batch) -> Evaluation:
    return task.evaluate(outputs, batch)


def outputs_are_judged(task: GraphTask) -> None:
    """Right outputs get a score of 1 and no loss; NaN is never right; padding does not matter."""
    batch = jax.jit(lambda key: sample_mixture(task, key, BATCH))(KEY)
    right = perfect(task, batch)
    result = evaluate(task, right, batch)
    assert (float(result.score), float(result.metrics["exact"])) == (1.0, 1.0)
    assert float(result.loss) < 1e-6
    chex.assert_shape(jax.tree.leaves(result), ())
    chex.assert_type(jax.tree.leaves(result), jnp.float32)
    broken = evaluate(task, jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), right), batch)
    assert math.isnan(broken.loss)
    assert not float(broken.score) > 0
    assert float(broken.metrics["exact"]) == 0
    slope = jax.jit(jax.grad(lambda outputs: task.evaluate(outputs, batch).loss))
    blurred = jax.tree.map(lambda leaf: np.full_like(leaf, 0.1), right)
    gradient = jax.tree.leaves(slope(blurred))
    assert all(np.isfinite(leaf).all() for leaf in gradient)
    assert all(np.asarray(leaf).any() for leaf in gradient)


# Models.


@functools.partial(jax.jit, static_argnames=("model", "spec"))
def apply(model: GraphModel, params: Params, inputs: Graph, spec: TaskSpec) -> GraphOutputs:
    return model.apply(params, inputs, spec=spec)


@functools.partial(jax.jit, static_argnames=("model", "spec"))
def fresh(model: GraphModel, key: jax.Array, spec: TaskSpec) -> Params:
    return model.init(key, spec)


def model_is_a_pure_function(model: GraphModel, task: GraphTask) -> None:
    """Same key, same parameters; the outputs of the spec; each example by itself."""
    spec = task.spec
    params, twin = (fresh(model, KEY, spec) for _ in range(2))
    chex.assert_trees_all_equal(params, twin)
    chex.assert_type(jax.tree.leaves(params), jnp.float32)
    batch = jax.jit(lambda key: sample_mixture(task, key, BATCH))(KEY)
    outputs = apply(model, params, batch.inputs, spec)
    chex.assert_trees_all_equal_shapes(outputs.outputs, perfect(task, batch).outputs)
    assert set(outputs.hints) == {field.name for field in spec.hints}
    chex.assert_type(jax.tree.leaves(outputs), jnp.float32)
    again = apply(model, params, _rows(batch.inputs, [2, 2, 0, 1]), spec)
    for ours, theirs in zip(
        jax.tree.leaves(again.outputs), jax.tree.leaves(outputs.outputs), strict=True
    ):
        np.testing.assert_allclose(ours[1:], np.asarray(theirs)[[2, 0, 1]], rtol=1e-5, atol=1e-5)


def model_ignores_padding(model: GraphModel, task: GraphTask) -> None:
    """Room for more nodes changes no output, nor do hints beyond the first frame."""
    spec = task.spec
    params = fresh(model, KEY, spec)
    size, larger = min(task.train_sizes), max(task.train_sizes)
    assert size < larger
    batch = task.sample(KEY, jnp.full(BATCH, size), max_size=larger, batch=BATCH)
    nodes = task.length(size)

    def cut(leaf: jax.Array) -> jax.Array:
        for axis, length in enumerate(leaf.shape):
            if length == task.length(larger) and axis > 0:
                leaf = jax.lax.slice_in_dim(leaf, 0, nodes, axis=axis)
        return leaf

    first = {name: frames[:1] for name, frames in batch.inputs.hints.items()}
    small = batch.inputs._replace(
        values=jax.tree.map(cut, batch.inputs.values),
        mask=cut(batch.inputs.mask),
        hints={name: jnp.stack([cut(frames[0])]) for name, frames in first.items()},
    )
    ours = apply(model, params, small, spec).outputs
    theirs = apply(model, params, batch.inputs, spec).outputs
    for name, own in ours.items():
        np.testing.assert_allclose(own, cut(theirs[name]), rtol=1e-4, atol=1e-4)


def train(task: GraphTask, model: GraphModel, steps: int) -> Params:
    """The parameters after `steps` steps of Adam on training sizes."""
    strategy = strategies.Gradient(strategies.optimizer("adam", learning_rate=0.005))
    loss = TaskLoss(task, model, task.spec)

    def body(state: Any, key: jax.Array) -> tuple[Any, Info]:
        return strategy.step(key, state, Objective(loss, sample_mixture(task, key, 32)))

    state = strategy.init(KEY, fresh(model, KEY, task.spec))
    return strategy.params(jax.lax.scan(body, state, jax.random.split(KEY, steps))[0])


def model_learns(model: GraphModel, task: GraphTask) -> None:
    """It gets far beyond what never looks at the input."""
    judged: Any = getattr(task, "test", task)
    batch = jax.jit(lambda key: sample_mixture(judged, key, 256))(jax.random.key(7))
    guess = jax.tree.map(lambda x: jnp.broadcast_to(x, (256, *x.shape)), judged.guess(batch))
    floor = float(evaluate(judged, guess, batch).score)
    params = jax.jit(lambda: train(task, model, steps=150))()
    score = float(evaluate(judged, apply(model, params, batch.inputs, task.spec), batch).score)
    assert score >= floor + 0.8 * (1 - floor), (floor, score)


def _rows(inputs: Graph, rows: list[int]) -> Graph:
    take = jnp.asarray(rows)
    return Graph(
        values={name: value[take] for name, value in inputs.values.items()},
        mask=inputs.mask[take],
        running=inputs.running[:, take],
        hints={name: value[:, take] for name, value in inputs.hints.items()},
    )
