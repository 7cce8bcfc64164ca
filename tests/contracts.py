"""What every component promises, as functions that know none of them by name.

A component is handed in, and an `AssertionError` says which promise it breaks. What strategies
promise beyond this is in `strategy_contracts`.
"""

from __future__ import annotations

import ast
import collections
import copy
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
from evojax_nar.strategies.choices import CartesianGP
from evojax_nar.tasks import SequenceTask
from evojax_nar.types import Batch, Evaluation, Info, Params, Sequence, TaskSpec

KEY = jax.random.key(2026)
BATCH = 4

# Folders: what is in a file of one is known to it.


def unreachable_files(package: ModuleType) -> set[str]:
    """Module files of a package that its `__init__` does not import, itself or through others.

    Of its packages too, each by its own `__init__`.
    """
    folder = Path(package.__path__[0])
    inner = {
        f"{path.parent.name}.{name}"
        for path in folder.glob("*/__init__.py")
        for name in unreachable_files(
            importlib.import_module(f"{package.__name__}.{path.parent.name}")
        )
    }
    return inner | _unreachable(package, folder)


def _unreachable(package: ModuleType, folder: Path) -> set[str]:
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
    folder = Path(package.__path__[0])
    for path in folder.rglob("*.py"):
        dotted = ".".join((package.__name__, *path.relative_to(folder).with_suffix("").parts))
        module = importlib.import_module(dotted.removesuffix(".__init__"))
        for cls in vars(module).values():
            if not inspect.isclass(cls) or cls.__module__ != module.__name__:
                continue
            if cls.__name__.startswith("_") or inspect.isabstract(cls):
                continue
            alike = all(callable(getattr(cls, method, None)) for method in methods)
            if issubclass(cls, base) or (alike and _needs_nothing(cls)):
                found.add(cls)
    # What listed components derive from is their base, whether or not it is marked abstract.
    bases = {base for cls in known for base in cls.__mro__[1:]}
    return {cls.__name__ for cls in found - set(known) - bases}


def home(cls: type, folder: Any) -> Any:
    """The folder of a component, or the package in it that its file is in."""
    package = cls.__module__.rpartition(".")[0]
    return folder if package == folder.__name__ else importlib.import_module(package)


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

traces: collections.Counter[str] = collections.Counter()


def is_integer(component: Any) -> bool:
    """Whether a model has int8 parameters, or a strategy moves them."""
    return getattr(component, "integer", False)


def is_discrete(model: Any) -> bool:
    """Whether parameters are choices, int32; where they are not int8 either they are float32."""
    return getattr(model, "discrete", False)


@functools.partial(jax.jit, static_argnames="task")
def held_out(task: SequenceTask, key: jax.Array) -> Batch:
    """Fresh examples of the training sizes."""
    return sample_mixture(task, key, 256)


@functools.partial(jax.jit, static_argnames="task")
def evaluate(task: SequenceTask, outputs: Any, batch: Batch) -> Evaluation:
    """Compiled once for all the checks that use it."""
    return task.evaluate(outputs, batch)


@functools.partial(jax.jit, static_argnames=("model", "spec"))
def apply(model: LinenModel, params: Params, inputs: Sequence, spec: TaskSpec) -> jax.Array:
    """Likewise."""
    traces["apply"] += 1
    return model.apply(params, inputs, spec=spec)


@functools.partial(jax.jit, static_argnames=("task", "model", "steps"))
def train(task: SequenceTask, model: LinenModel, key: jax.Array, steps: int) -> Params:
    """The parameters after `steps` steps on training sizes, of Adam.

    Int8 ones are moved by votes, and choices by mutation.
    """
    strategy: strategies.Base = strategies.Gradient(
        strategies.optimizer("adam", learning_rate=0.01)
    )
    batch = 64
    if is_integer(model):
        strategy, batch = strategies.IntegerES(population=64, sigma_shift=3, decay=0.02), 8
    elif is_discrete(model):
        strategy, batch = CartesianGP(children=31), 32
    loss = TaskLoss(task, model, task.spec)

    def body(state: Any, key: jax.Array) -> tuple[Any, Info]:
        return strategy.step(key, state, Objective(loss, sample_mixture(task, key, batch)))

    state = strategy.init(key, model.init(key, task.spec))
    return strategy.params(jax.lax.scan(body, state, jax.random.split(key, steps))[0])


def score(task: SequenceTask, model: LinenModel, params: Params) -> float:
    """Score on examples that training has not seen."""
    batch = held_out(task, jax.random.key(7))
    return float(evaluate(task, apply(model, params, batch.inputs, task.spec), batch).score)


def best_constant_score(task: SequenceTask) -> float:
    """The best score of an output that is the same at every step: what knows nothing gets."""
    batch = held_out(task, KEY)
    scores = []
    features: Any = range(task.spec.output_features)
    values = (-1.0, 0.0, 0.25, 0.5, 0.75, 1.0)
    if task.spec.outputs[0].kind == "categorical":  # a class that never occurs gets nothing
        features, values = np.unique(np.asarray(batch.targets)[np.asarray(batch.mask)]), (1.0,)
    for feature in features:
        for value in values:
            outputs = np.zeros((*batch.mask.shape, task.spec.output_features), np.float32)
            outputs[..., feature] = value
            scores.append(float(evaluate(task, outputs, batch).score))
    return max(scores)


def perfect(task: SequenceTask, batch: Batch) -> np.ndarray:
    """Outputs (B, T, F) that are right wherever they are judged."""
    targets = np.asarray(batch.targets)
    if targets.ndim == 2:
        return 40 * np.eye(task.spec.output_features, dtype=np.float32)[targets]
    return 40 * (2 * targets - 1) if task.spec.outputs[0].kind == "bits" else targets


def task_is_learned(task: SequenceTask, model: LinenModel) -> None:
    """A small recurrent network gets far beyond what knows nothing."""
    assert best_constant_score(task) < 0.6
    assert score(task, model, train(task, model, KEY, steps=500)) >= 0.9


def batches_are_well_formed(task: SequenceTask) -> None:
    """Shapes and types as the spec says; nothing exists or is judged beyond an example's size."""
    largest, batch = task.spec.max_size, 8
    assert task.spec.max_length == task.length(largest)
    assert largest == max(task.train_sizes)
    chex.clear_trace_counter()

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
    batch = held_out(task, KEY)
    right = perfect(task, batch)
    result = evaluate(task, right, batch)
    assert (float(result.score), float(result.metrics["exact"])) == (1.0, 1.0)
    assert float(result.loss) < 1e-6
    chex.assert_shape(jax.tree.leaves(result), ())
    chex.assert_type(jax.tree.leaves(result), jnp.float32)
    padded = np.where(np.asarray(batch.mask)[..., None], right, np.float32(np.nan))
    chex.assert_trees_all_equal(evaluate(task, padded, batch), result)
    broken = evaluate(task, np.full_like(right, np.nan), batch)
    assert math.isnan(broken.loss)
    assert float(broken.score) == 0
    slope = jax.jit(jax.grad(lambda outputs: task.evaluate(outputs, batch).loss))
    gradient = np.asarray(slope(np.full_like(right, 0.1)))
    assert np.isfinite(gradient).all()
    assert gradient.any()


@functools.partial(jax.jit, static_argnames=("model", "spec"))
def fresh(model: LinenModel, key: jax.Array, spec: TaskSpec) -> Params:
    return model.init(key, spec)


def model_is_a_pure_function(model: LinenModel, task: SequenceTask) -> None:
    """Same key, same parameters, of the type of their kind; outputs of the right shape, by row."""
    spec = task.spec
    params, twin = fresh(model, KEY, spec), fresh(model, KEY, spec)
    chex.assert_trees_all_equal(params, twin)
    other = jax.tree.leaves(fresh(model, jax.random.key(1), spec))
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(params), other, strict=True))
    kind = jnp.int8 if is_integer(model) else jnp.int32 if is_discrete(model) else jnp.float32
    chex.assert_type(jax.tree.leaves(params), kind)

    batch = jax.jit(lambda key: sample_mixture(task, key, BATCH))
    inputs = batch(KEY).inputs
    outputs = apply(model, params, inputs, spec)
    chex.assert_shape(outputs, (BATCH, spec.max_length, spec.output_features))
    chex.assert_type(outputs, jnp.float32)
    before = traces["apply"]
    apply(model, params, batch(jax.random.key(1)).inputs, spec)
    # Each example by itself, and each of a stack of parameters by itself.
    for row in range(BATCH):
        alone = jax.tree.map(lambda leaf, row=row: np.stack([leaf[row]] * BATCH), inputs)
        given = apply(model, params, alone, spec)[0]
        np.testing.assert_allclose(given, outputs[row], rtol=1e-5, atol=1e-6)
    halves = jax.tree.map(lambda leaf: (0.5 * np.asarray(leaf)).astype(leaf.dtype), params)
    halved = apply(copy.copy(model), halves, inputs, spec)
    assert traces["apply"] == before, "nothing new, and an equal model is the same program"
    stack = jax.tree.map(lambda *leaves: np.stack(leaves), params, halves)
    both = jax.jit(jax.vmap(lambda own: model.apply(own, inputs, spec=spec)))(stack)
    np.testing.assert_allclose(both[0], outputs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(both[1], halved, rtol=1e-5, atol=1e-6)
    assert not np.allclose(outputs, halved, atol=1e-3)


def model_knows_its_limit(model: LinenModel, task: SequenceTask) -> None:
    """Three times the training size runs, and padding changes no output; or a limit is named."""
    spec, far = task.spec, 3 * task.spec.max_size
    params = fresh(model, KEY, spec)
    limit = model.max_size(spec)
    long = task.sample(KEY, far, max_size=far, batch=BATCH).inputs
    if limit is not None:
        assert isinstance(limit, int)
        assert limit >= spec.max_size
        with pytest.raises(InputError, match=r"inputs has T="):
            apply(model, params, long, spec)
        return
    outputs = apply(model, params, long, spec)
    chex.assert_shape(outputs, (BATCH, task.length(far), spec.output_features))
    assert np.isfinite(outputs).all()
    short = task.sample(KEY, 2, max_size=spec.max_size, batch=BATCH).inputs
    time, added = spec.max_length, task.length(far) - spec.max_length
    padded = Sequence(
        jnp.pad(short.values, [(0, 0), (0, added), (0, 0)]),
        jnp.pad(short.mask, [(0, 0), (0, added)]),
    )
    exists = np.asarray(short.mask)
    ours = np.asarray(apply(model, params, padded, spec))[:, :time]
    theirs = np.asarray(apply(model, params, short, spec))
    np.testing.assert_allclose(ours[exists], theirs[exists], rtol=1e-5, atol=1e-6)


def model_learns(model: LinenModel) -> None:
    """Three bits are given back in reverse, which takes memory or the sight of all of them.

    A search among choices finds no stack so soon: there it is the parity of four bits. A model that
    sees one step alone completes a few pictures.
    """
    task, steps = tasks.Reverse(train_sizes=(1, 2, 3), test_sizes=(3,), width=1), 300
    if is_discrete(model):
        task, steps = tasks.Parity(train_sizes=(1, 2, 3, 4), test_sizes=(4,)), 1500
    if getattr(model, "memoryless", False):
        task = tasks.Digits.example()
    assert best_constant_score(task) < 0.6
    assert score(task, model, train(task, model, KEY, steps=steps)) >= 0.95
