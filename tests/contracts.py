"""What every component promises, as functions that know none of them by name.

A component is handed in, and an `AssertionError` says which promise it breaks. What strategies
promise beyond this is in `strategy_contracts`.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from evojax_nar import strategies, tasks
from evojax_nar.errors import InputError
from evojax_nar.evaluator import sample_mixture
from evojax_nar.models import LinenModel
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.tasks import SequenceTask
from evojax_nar.types import Batch, Info, Params

KEY = jax.random.key(2026)

# Folders: what is in a file of one is known to it.


def unreachable_files(package: ModuleType) -> set[str]:
    """Module files of a package that its `__init__` does not import, itself or through others."""
    folder = Path(package.__path__[0])
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    seen: set[str] = set()
    queue = ["__init__"]
    while queue:
        tree = ast.parse((folder / f"{queue.pop()}.py").read_text(encoding="utf-8"))
        new = (set(_imported(tree, package.__name__)) & files) - seen
        seen |= new
        queue += new
    return files - seen


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = f"{package}." if node.level else ""
            module = f"{start}{node.module or ''}".rstrip(".")
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.startswith(f"{package}."):
                yield name.removeprefix(f"{package}.").partition(".")[0]


def unlisted_components(
    package: ModuleType, known: Iterable[type], base: type, methods: Iterable[str]
) -> set[str]:
    """Concrete public components, of any module file of a package, that are not in `known`.

    A component derives from `base`, or has all of `methods` and can be made without arguments.
    """
    found = set()
    for path in Path(package.__path__[0]).glob("*.py"):
        module = importlib.import_module(f"{package.__name__}.{path.stem}".removesuffix(".__init__"))
        for cls in vars(module).values():
            if not inspect.isclass(cls) or cls.__module__ != module.__name__:
                continue
            if cls.__name__.startswith("_") or inspect.isabstract(cls):
                continue
            alike = all(callable(getattr(cls, method, None)) for method in methods)
            if issubclass(cls, base) or (alike and _needs_nothing(cls)):
                found.add(cls)
    return {cls.__name__ for cls in found - set(known)}


def _needs_nothing(cls: type) -> bool:
    parameters = inspect.signature(cls).parameters.values()
    return all(p.default is not p.empty for p in parameters)


# Settings, of every component.


def settings_build_an_equal_one(component: Any, get: Callable[..., Any]) -> None:
    """Plain settings survive YAML and JSON, and build an equal component with an equal hash."""
    said = component.settings()
    for read in (
        said,
        yaml.safe_load(yaml.safe_dump(said)),
        json.loads(json.dumps(said, allow_nan=False)),
    ):
        if "opaque" in json.dumps(said):
            with pytest.raises(InputError, match="was made in a script; run that script again"):
                get(component.name, **read)
            continue
        twin = get(component.name, **read)
        assert twin == component
        assert hash(twin) == hash(component)
        assert twin.settings() == said


# Tasks and models: both are trained by the same few lines.


@functools.partial(jax.jit, static_argnames=("task", "model", "steps"))
def train(task: SequenceTask, model: LinenModel, key: jax.Array, steps: int) -> jax.Array:
    """Score on 256 fresh examples of the training sizes, after `steps` steps of Adam."""
    adam = strategies.Gradient(strategies.optimizer("adam", learning_rate=0.01))
    loss = TaskLoss(task, model, task.spec)
    init_key, train_key, held_out_key = jax.random.split(key, 3)

    def body(state: Any, key: jax.Array) -> tuple[Any, Info]:
        return adam.step(key, state, Objective(loss, sample_mixture(task, key, 64)))

    state = adam.init(train_key, model.init(init_key, task.spec))
    state, _ = jax.lax.scan(body, state, jax.random.split(train_key, steps))
    return loss(adam.params(state), sample_mixture(task, held_out_key, 256)).score


def perfect(task: SequenceTask, batch: Batch) -> jax.Array:
    """Outputs (B, T, F) that are right wherever they are judged."""
    if batch.targets.ndim == 2:
        return 40 * jax.nn.one_hot(batch.targets, task.spec.output_features)
    bits = task.spec.outputs[0].kind == "bits"
    return 40 * (2 * batch.targets - 1) if bits else batch.targets


def best_constant_score(task: SequenceTask) -> float:
    """The best score of an output that is the same at every step: what knows nothing gets."""
    batch = sample_mixture(task, KEY, 256)
    shape = (*batch.mask.shape, task.spec.output_features)
    constants = [
        jnp.zeros(shape).at[..., feature].set(value)
        for feature in range(shape[-1])
        for value in (-1.0, 0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    return float(jax.vmap(lambda given: task.evaluate(given, batch).score)(jnp.stack(constants)).max())


def task_is_learned(task: SequenceTask, model: LinenModel) -> None:
    """A small recurrent network gets far beyond what knows nothing."""
    assert best_constant_score(task) < 0.6
    assert float(train(task, model, KEY, steps=500)) >= 0.9


def batches_are_well_formed(task: SequenceTask) -> None:
    """Shapes and types as the spec says; nothing exists or is judged beyond an example's size."""
    largest, batch = task.spec.max_size, 8
    assert task.spec.max_length == task.length(largest)
    assert largest == max(task.train_sizes)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def sample(key: jax.Array, size: jax.Array) -> Batch:
        return task.sample(key, size, max_size=largest, batch=batch)

    sizes = jnp.asarray(task.train_sizes, jnp.int32)[jnp.arange(batch) % len(task.train_sizes)]
    mixed, again = sample(KEY, sizes), sample(KEY, sizes)
    chex.assert_trees_all_equal(mixed, again)
    others = sample(jax.random.key(1), sizes)
    assert (np.asarray(others.inputs.values) != np.asarray(mixed.inputs.values)).any()
    smallest = sample(KEY, jnp.full_like(sizes, min(task.train_sizes)))
    for given in (mixed, others, smallest):
        _check_batch(task, jax.device_get(given), batch)
    assert np.asarray(mixed.size).tolist() == np.asarray(sizes).tolist()
    eager = task.sample(KEY, largest, max_size=largest, batch=batch)
    chex.assert_trees_all_close(eager, sample(KEY, jnp.full_like(sizes, largest)), rtol=1e-6)


def _check_batch(task: SequenceTask, given: Batch, batch: int) -> None:
    time, field = task.spec.max_length, task.spec.outputs[0]
    chex.assert_shape(given.inputs.values, (batch, time, task.spec.input_features))
    chex.assert_shape([given.inputs.mask, given.mask], (batch, time))
    chex.assert_type(given.inputs.values, jnp.float32)
    chex.assert_type([given.inputs.mask, given.mask], bool)
    chex.assert_type(given.size, jnp.int32)
    classes = field.kind == "categorical"
    chex.assert_shape(given.targets, (batch, time) if classes else (batch, time, field.features))
    chex.assert_type(given.targets, jnp.int32 if classes else jnp.float32)
    exists = np.arange(time)[None] < np.array([task.length(int(s)) for s in given.size])[:, None]
    np.testing.assert_array_equal(given.inputs.mask, exists)
    assert not np.asarray(given.inputs.values)[~exists].any()
    assert not np.asarray(given.targets)[~given.mask].any()
    assert not (given.mask & ~exists).any()
    assert given.mask.any(axis=1).all(), "an example is judged at one step at least"


def outputs_are_judged(task: SequenceTask) -> None:
    """Right outputs get a score of 1 and no loss; NaN is never right; padding does not matter."""
    batch = sample_mixture(task, KEY, 16)
    right = perfect(task, batch)
    result = task.evaluate(right, batch)
    assert (float(result.score), float(result.metrics["exact"])) == (1.0, 1.0)
    assert float(result.loss) < 1e-6
    chex.assert_shape(jax.tree.leaves(result), ())
    chex.assert_type(jax.tree.leaves(result), jnp.float32)
    padded = jnp.where(batch.mask[..., None], right, jnp.nan)
    chex.assert_trees_all_equal(task.evaluate(padded, batch), result)
    broken = task.evaluate(jnp.full_like(right, jnp.nan), batch)
    assert math.isnan(broken.loss)
    assert float(broken.score) == 0
    gradient = jax.grad(lambda outputs: task.evaluate(outputs, batch).loss)(0.1 + 0 * right)
    assert np.isfinite(gradient).all()
    assert np.asarray(gradient).any()


def model_is_a_pure_function(model: LinenModel, task: SequenceTask) -> None:
    """Same key, same float32 parameters; outputs of the right shape, example by example."""
    spec = task.spec
    params, twin = (model.init(KEY, spec) for _ in range(2))
    chex.assert_trees_all_equal(params, twin)
    other = jax.tree.leaves(model.init(jax.random.key(1), spec))
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(params), other, strict=True))
    chex.assert_type(jax.tree.leaves(params), jnp.float32)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def apply(params: Params, inputs: Any) -> jax.Array:
        return model.apply(params, inputs, spec=spec)

    batches = [sample_mixture(task, key, 4) for key in jax.random.split(KEY)]
    outputs = [apply(params, batch.inputs) for batch in batches]
    chex.assert_shape(outputs, (4, spec.max_length, spec.output_features))
    chex.assert_type(outputs, jnp.float32)
    # Each example by itself, and each of a stack of parameters by itself.
    inputs = batches[0].inputs
    for row in range(2):
        alone = jax.tree.map(lambda leaf, row=row: jnp.stack([leaf[row]] * 4), inputs)
        np.testing.assert_allclose(apply(params, alone)[0], outputs[0][row], rtol=1e-5, atol=1e-6)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), params)
    both = jax.vmap(lambda own: model.apply(own, inputs, spec=spec))(stack)
    halved = apply(jax.tree.map(lambda leaf: 0.5 * leaf, params), inputs)
    np.testing.assert_allclose(both[0], outputs[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(both[1], halved, rtol=1e-5, atol=1e-6)


def model_knows_its_limit(model: LinenModel, task: SequenceTask) -> None:
    """Three times the training size runs, and padding changes no output; or a limit is named."""
    spec, far = task.spec, 3 * task.spec.max_size
    params = model.init(KEY, spec)
    limit = model.max_size(spec)
    long = task.sample(KEY, far, max_size=far, batch=2).inputs
    if limit is not None:
        assert isinstance(limit, int)
        assert limit >= spec.max_size
        with pytest.raises(InputError, match=r"inputs has T="):
            model.apply(params, long, spec=spec)
        return
    outputs = model.apply(params, long, spec=spec)
    chex.assert_shape(outputs, (2, task.length(far), spec.output_features))
    assert np.isfinite(outputs).all()
    short = task.sample(KEY, 2, max_size=spec.max_size, batch=2).inputs
    added = [(0, 0), (0, 5)]
    padded = short._replace(
        values=jnp.pad(short.values, [*added, (0, 0)]), mask=jnp.pad(short.mask, added)
    )
    exists = np.asarray(short.mask)
    ours, theirs = (model.apply(params, given, spec=spec) for given in (padded, short))
    same = np.asarray(ours)[:, : exists.shape[1]][exists], np.asarray(theirs)[exists]
    np.testing.assert_allclose(*same, rtol=1e-5, atol=1e-6)


def model_learns(model: LinenModel) -> None:
    """Three bits are given back in reverse, which takes memory or the sight of all of them."""
    task = tasks.Reverse(train_sizes=(1, 2, 3), test_sizes=(3,), width=1)
    assert best_constant_score(task) < 0.6
    assert float(train(task, model, KEY, steps=300)) >= 0.95
