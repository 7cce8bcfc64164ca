"""The digits, and the two networks without a memory that complete them, against plain NumPy."""

from __future__ import annotations

import functools
import importlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import chex
import contracts
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import evojax_nar as nar
from evojax_nar.errors import InputError
from evojax_nar.floors import floor
from evojax_nar.models.autoencoder import Autoencoder
from evojax_nar.models.som import SelfOrganisingMap
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.tasks import Copy, digits
from evojax_nar.tasks.digits import Digits
from evojax_nar.types import Field, Penalised, Sequence, TaskSpec

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(5)
TASK = Digits.example()
MODELS = [Autoencoder.example(), Autoencoder(code=5, hidden=(9,), tied=True)]
MODELS += [SelfOrganisingMap.example()]
every_model = pytest.mark.parametrize("model", MODELS, ids=["autoencoder", "tied", "map"])


@functools.partial(jax.jit, static_argnames=("task", "max_size"))
def sample(task: Digits, seed: int, sizes: np.ndarray, max_size: int) -> Any:
    return task.sample(jax.random.key(seed), sizes, max_size=max_size, batch=len(sizes))


# The task.


def test_it_is_learned() -> None:
    contracts.task_is_learned(TASK, nar.models.LSTM(hidden=24))


def test_pictures_are_those_of_scikit_learn_each_in_one_part() -> None:
    from sklearn.datasets import load_digits

    given, classes = load_digits(return_X_y=True)
    class_of = {tuple(row): label for row, label in zip(given.astype(int), classes, strict=True)}
    parts = [Digits(part=part).pictures for part in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [1440, 180, 177]
    rows = [tuple(row) for part in parts for row in part.astype(int).tolist()]
    assert len(set(rows)) == len(rows) == len(given), "no two pictures are alike"
    assert set(rows) == set(class_of)
    for part in parts:  # each digit about as often as the others
        counts = Counter(class_of[tuple(row)] for row in part.astype(int).tolist())
        assert len(counts) == 10
        assert max(counts.values()) < 1.4 * min(counts.values())
    assert (Digits(limit=3).pictures == parts[0][:3]).all()


def test_inputs_lack_as_many_pixels_as_the_size_says() -> None:
    sizes = np.array([1, 7, 40, 64] * 64, np.int32)
    batch = jax.device_get(sample(Digits(), 3, sizes, 64))
    known = {tuple(row) for row in Digits().pictures.tolist()}
    dropped = np.zeros(64)
    for values, target, size in zip(batch.inputs.values, batch.targets, sizes, strict=True):
        pixels, missing = values[0, :64], values[0, 64:]
        assert tuple((target[0] * 16).astype(int).tolist()) in known
        assert set(missing.tolist()) <= {0.0, 1.0}
        assert missing.sum() == size
        assert (pixels == np.where(missing == 1, 0, target[0])).all()
        dropped += missing if size == 7 else 0
    # Each pixel as likely as the others: in 64 examples 7 times, with a standard deviation of 2.5.
    assert dropped.max() <= 19
    assert abs(dropped[:32].sum() - dropped[32:].sum()) < 4 * np.sqrt(64 * 7)


def test_an_example_of_a_size_beyond_the_padding_is_judged_nowhere() -> None:
    batch = sample(Digits(), 0, jnp.asarray([3, 9]), 8)
    assert batch.mask[:, 0].tolist() == [True, False]
    found = Digits().evaluate(batch.targets, batch)
    assert np.isnan(found.loss)
    assert (float(found.score), float(found.metrics["exact"])) == (0.5, 0.5)


def test_score_is_the_share_of_the_variance_explained() -> None:
    task = Digits()
    batch = jax.device_get(sample(task, 1, np.full(16, 4, np.int32), 4))
    outputs = np.random.default_rng(0).normal(0.3, 0.2, batch.targets.shape).astype(np.float32)
    outputs = (outputs + 3 * batch.targets) / 4
    train = task.pictures / 16
    mean = train.mean(axis=0)
    reference = np.mean([np.mean((row - mean) ** 2) for row in train])
    errors = np.mean((outputs - batch.targets) ** 2)
    found = jax.device_get(task.evaluate(jnp.asarray(outputs), batch))
    np.testing.assert_allclose(found.loss, errors, rtol=1e-5)
    np.testing.assert_allclose(found.score, 1 - errors / reference, rtol=1e-5)
    levels = np.rint(outputs * 16) == np.rint(batch.targets * 16)
    np.testing.assert_allclose(found.metrics["pixels"], levels.mean(), rtol=1e-6)
    answers = task.answers(outputs, batch)
    np.testing.assert_array_equal(answers == task.truths(batch), levels)
    always = np.broadcast_to(mean.astype(np.float32), batch.targets.shape)
    assert float(task.evaluate(jnp.asarray(always), batch).score) < 0.1
    assert float(task.evaluate(jnp.asarray(outputs + 5), batch).score) == 0.0
    outputs[3] = np.nan
    assert task.answers(outputs, batch)[3].tolist() == [[-1] * 64]


def test_floor_is_the_mean_picture() -> None:
    found = floor(Digits(), 16)
    assert found is not None
    assert 0 <= found.score < 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_sizes": "60-65"}, "train_sizes=65 is beyond a picture"),
        ({"part": "tset"}, "part='tset' is not known; did you mean 'test'"),
        ({"limit": 0}, "limit=0 is not allowed"),
    ],
)
def test_bad_settings_of_the_task(settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Digits(**settings)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits._pictures.cache_clear()
    assert Digits().spec.input_features == 128, "the task itself needs no pictures"
    with pytest.raises(InputError, match=r"pip install 'evojax-nar\[digits\]'"):
        Digits().sample(KEY, 3, max_size=4, batch=2)


# Both models.


@every_model
def test_a_step_is_all_that_it_sees(model: Any) -> None:
    assert model.memoryless, "so it is no model for Reverse"
    assert contracts.score(TASK, model, contracts.train(TASK, model, KEY, steps=300)) >= 0.95


@every_model
@pytest.mark.parametrize("spec", [TASK.spec, Copy.example().spec], ids=["digits", "copy"])
def test_thin_noise_and_gradients(model: Any, spec: TaskSpec) -> None:
    params = model.init(KEY, spec)
    audit = nar.audit(model, params, spec=spec, strict=True)
    assert audit.fallback_bytes == 0
    assert "shared + rank 1" in {row.kind for row in audit.rows}
    values = jax.random.normal(KEY, (3, 4, spec.input_features))
    inputs = Sequence(values, jnp.ones((3, 4), bool))

    def loss(params: Any) -> jax.Array:
        if isinstance(model, Penalised):
            return model.apply_with_penalty(params, inputs, spec=spec)[1]
        return jnp.square(model.apply(params, inputs, spec=spec)).sum()

    gradient = jax.jit(jax.grad(loss))(params)
    chex.assert_tree_all_finite(gradient)
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient))


# The autoencoder.


@pytest.mark.parametrize("tied", [False, True])
def test_autoencoder_is_its_equations(tied: bool) -> None:
    model, spec = Autoencoder(code=3, hidden=(7, 5), tied=tied), Copy.example().spec
    params = model.init(KEY, spec)
    keys = iter(jax.random.split(KEY, 20))
    params = jax.tree.map(lambda leaf: jax.random.normal(next(keys), leaf.shape), params)
    values = jax.random.normal(jax.random.key(1), (2, 3, spec.input_features))
    p = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
    assert ("decoder_0_kernel" in p) != tied
    outputs, shown = model.inspect(params, Sequence(values, jnp.ones((2, 3), bool)), spec=spec)
    for row in range(2):
        for step in range(3):
            x = np.asarray(values[row, step], np.float64)
            for layer in range(3):
                x = x @ p[f"encoder_{layer}_kernel"] + p[f"encoder_{layer}_bias"]
                x = np.maximum(x, 0) if layer < 2 else x
            np.testing.assert_allclose(shown["code"][step, row], x, rtol=1e-4, atol=1e-5)
            for layer in range(3):
                back = p[f"encoder_{2 - layer}_kernel"].T if tied else p[f"decoder_{layer}_kernel"]
                x = x @ back + p[f"decoder_{layer}_bias"]
                x = np.maximum(x, 0) if layer < 2 else x
            want = x[: spec.output_features]
            np.testing.assert_allclose(outputs[row, step], want, rtol=1e-4, atol=1e-4)


def test_the_best_without_hidden_layers_are_the_principal_components() -> None:
    """No trained one explains more than they do, and gradient descent gets near to them."""
    x = Digits().pictures[:200].astype(np.float32) / 16
    centred = x - x.mean(axis=0)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2
    best = variances[:4].sum() / variances.sum()
    field = Field("pixels", "scalar", 64)
    spec = TaskSpec("pictures", (field,), (field,), 1, 1)
    model, optimizer = Autoencoder(code=4, hidden=(), tied=True), optax.adam(0.01)
    inputs = Sequence(jnp.asarray(x)[:, None], jnp.ones((200, 1), bool))

    def loss(params: Any) -> jax.Array:
        return jnp.square(model.apply(params, inputs, spec=spec) - inputs.values).sum()

    def step(carry: Any, _: None) -> tuple[Any, None]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    params = model.init(KEY, spec)
    run = jax.jit(lambda carry: jax.lax.scan(step, carry, length=600)[0])
    explained = 1 - float(loss(run((params, optimizer.init(params)))[0])) / np.square(centred).sum()
    assert best - 0.02 < explained < best + 1e-4


# The map.


def kohonen(w: np.ndarray, batch: np.ndarray, h: Any, rate: float) -> np.ndarray:
    """The classic update, example by example, averaged; `w` is (U, F)."""
    moves = np.zeros_like(w)
    for x in batch:
        winner = min(range(len(w)), key=lambda unit: float(((x - w[unit]) ** 2).sum()))
        for unit in range(len(w)):
            moves[unit] += h(winner, unit) * (x - w[unit])
    return w + rate * moves / len(batch)


@pytest.mark.parametrize("radius", [0.0, 0.8])
def test_gradient_descent_on_the_energy_is_kohonens_rule(radius: float) -> None:
    model, rate = SelfOrganisingMap(rows=3, columns=4, radius=radius), 0.7
    task = Copy.example()
    strategy = nar.strategies.Gradient(optax.sgd(rate))
    state = strategy.init(KEY, {"prototypes": jax.random.uniform(KEY, (12, 3))})
    places = [(unit // 4, unit % 4) for unit in range(12)]

    def h(one: int, other: int) -> float:
        if radius == 0:
            return float(one == other)
        (a, b), (c, d) = places[one], places[other]
        return float(np.exp(-((a - c) ** 2 + (b - d) ** 2) / (2 * radius**2)))

    w = np.asarray(strategy.params(state)["prototypes"], np.float64)
    step = jax.jit(
        lambda key, state, batch: strategy.step(
            key, state, Objective(TaskLoss(task, model, task.spec), batch)
        )[0]
    )
    for turn in range(3):
        # Two lengths, so that there is padding, which must teach nothing.
        batch = task.sample(jax.random.key(turn), np.array([1, 3]), max_size=3, batch=2)
        state = step(KEY, state, batch)
        w = kohonen(w, np.asarray(batch.inputs.values)[np.asarray(batch.inputs.mask)], h, rate)
        ours = strategy.params(state)["prototypes"]
        np.testing.assert_allclose(ours, w, rtol=1e-5, atol=1e-6)


def test_map_answers_with_the_nearest_prototype() -> None:
    model, spec = SelfOrganisingMap(rows=2, columns=3), Copy.example().spec
    params = {"prototypes": jax.random.uniform(KEY, (6, 3))}
    values = jax.random.uniform(jax.random.key(1), (5, 2, 3))
    inputs = Sequence(values, jnp.ones((5, 2), bool))
    outputs, shown = model.inspect(params, inputs, spec=spec)
    w = np.asarray(model.prototypes(params))
    assert w.shape == (2, 3, 3)
    for row in range(5):
        for step in range(2):
            distances = ((np.asarray(values)[row, step] - w) ** 2).sum(axis=-1)
            assert int(shown["winner"][step, row]) == distances.argmin()
            row_of, column_of = divmod(int(distances.argmin()), 3)
            np.testing.assert_allclose(outputs[row, step], w[row_of, column_of, :2], rtol=1e-6)
    plain = jax.jit(functools.partial(model.apply, spec=spec))(params, inputs)
    np.testing.assert_array_equal(plain, outputs)


def test_missing_inputs_bias_no_distance() -> None:
    """The mean over all ways of missing is the distance to what is known of the whole."""
    task, model = Digits(), SelfOrganisingMap(rows=2, columns=2)
    params = {"prototypes": jax.random.uniform(KEY, (4, 64))}
    pixels = np.asarray(task.pictures[7], np.float32) / 16
    # Each pixel is missing in 16 of 64 examples.
    missing = np.stack([np.roll(np.arange(64) % 4 == 0, turn) for turn in range(64)])
    values = np.concatenate([np.where(missing, 0, pixels), missing], axis=1)[:, None]
    module = model.module(task.spec)
    mask = jnp.ones((64, 1), bool)
    found: Any = module.apply({"params": params}, jnp.asarray(values, jnp.float32), mask)
    halves = np.asarray(found[1])
    distances = [
        [0.5 * ((pixels - w) ** 2)[~lost].sum() for w in np.asarray(params["prototypes"])]
        for lost in missing
    ]
    assert np.abs(halves[:, 0] - distances).max() > 0.1, "one by one they differ"
    np.testing.assert_allclose(halves.mean(axis=(0, 1)), np.mean(distances, axis=0), rtol=1e-4)


def test_bad_settings_of_the_models() -> None:
    with pytest.raises(InputError, match="code=0 is not allowed"):
        Autoencoder(code=0)
    with pytest.raises(InputError, match="tied=1 is not a truth value"):
        Autoencoder(tied=1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"radius=-1\.0 is below 0"):
        SelfOrganisingMap(radius=-1.0)
    with pytest.raises(InputError, match="rows=0 is not allowed"):
        SelfOrganisingMap(rows=0)
    wide = TaskSpec("wide", (Field("x", "bits", 2),), (Field("y", "bits", 3),), 4, 4)
    for model in (Autoencoder(tied=True), SelfOrganisingMap()):
        with pytest.raises(InputError, match="task='wide' wants 3 outputs"):
            model.init(KEY, wide)
    fields = (Field("missing", "bits", 2), Field("x", "bits", 2))
    with pytest.raises(InputError, match="field 'missing' that is not the last"):
        SelfOrganisingMap().init(KEY, TaskSpec("odd", fields, fields[1:], 4, 4))


# The example.


def test_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "examples"))
    found = importlib.import_module("digits").main(["--quick", "--out", str(tmp_path)])

    def score(model: str, arm: str) -> float:
        return found[model].arm(arm)["seeds"][0]["scores"]["16"]["score"]

    # Both gradients get far above the mean picture, which explains next to nothing.
    assert score("autoencoder", "adam") > 0.2
    assert score("map", "kohonen") > 0.2
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("autoencoder", "kohonen", "48 missing"))
