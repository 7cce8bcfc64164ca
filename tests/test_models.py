"""Every model: shapes, lengths, padding, oracles where there are some; modules of the user's."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from evojax_nar import models
from evojax_nar.errors import InputError
from evojax_nar.models import GRU, LSTM, MLP, RNN, Transformer, Wrapped, parameter_count, wrap
from evojax_nar.models.recurrent import RecurrentModule
from evojax_nar.objective import TaskLoss
from evojax_nar.tasks import Copy, Parity
from evojax_nar.types import Model, Sequence

SPEC = Copy(train_sizes=(1, 3), width=2).spec
BATCH, TIME = 4, SPEC.max_length
MODELS: list[Any] = [
    MLP(hidden=(8, 6)),
    RNN(hidden=6),
    GRU(hidden=6),
    LSTM(hidden=6, layers=2),
    Transformer(width=8, layers=2, heads=2, mlp_ratio=2),
    Transformer(width=8, layers=1, heads=2, mlp_ratio=2, causal=True),
]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: repr(model).lower())
any_length = pytest.mark.parametrize("model", MODELS[1:], ids=lambda model: repr(model).lower())
causal = pytest.mark.parametrize("model", [*MODELS[1:4], MODELS[5]], ids=repr)


@functools.partial(jax.jit, static_argnames="model")
def apply(model: Model, params: Any, values: Any, mask: Any) -> jax.Array:
    return model.apply(params, Sequence(values, mask), spec=SPEC)


@functools.partial(jax.jit, static_argnames="model")
def fresh(model: Model, seed: int = 0) -> Any:
    return model.init(jax.random.key(seed, impl="rbg"), SPEC)  # which compiles faster


def values(time: int = TIME, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(BATCH, time, SPEC.input_features)).astype(np.float32)


def everywhere(time: int = TIME) -> np.ndarray:
    return np.ones((BATCH, time), bool)


@every_model
def test_shapes_and_types(model: Any) -> None:
    params = fresh(model)
    chex.assert_type(jax.tree.leaves(params), jnp.float32)
    outputs = apply(model, params, values(), everywhere())
    chex.assert_shape(outputs, (BATCH, TIME, SPEC.output_features))
    chex.assert_type(outputs, jnp.float32)
    assert parameter_count(params) == sum(np.size(leaf) for leaf in jax.tree.leaves(params)) > 0
    assert float(outputs.std()) > 0.01
    other = apply(model, fresh(model, 1), values(), everywhere())
    assert not np.allclose(outputs, other)


@any_length
def test_runs_beyond_the_training_length(model: Any) -> None:
    assert model.max_size(SPEC) is None
    outputs = apply(model, fresh(model), values(5 * TIME), everywhere(5 * TIME))
    chex.assert_shape(outputs, (BATCH, 5 * TIME, SPEC.output_features))
    assert bool(jnp.isfinite(outputs).all())


@any_length
def test_padding_is_not_seen(model: Any) -> None:
    lengths = np.asarray([3, TIME, 1, 5])
    mask = np.arange(TIME) < lengths[:, None]
    garbage = np.where(mask[..., None], values(), 1e3 * values(seed=1))
    outputs = apply(model, fresh(model), garbage, mask)
    clean = apply(model, fresh(model), np.where(mask[..., None], values(), 0), mask)
    np.testing.assert_allclose(outputs[mask], clean[mask], rtol=1e-5, atol=1e-6)
    assert bool(jnp.isfinite(outputs).all())
    for row, length in [(0, 3), (3, 5)]:
        alone = apply(model, fresh(model), values()[:, :length], everywhere(length))
        np.testing.assert_allclose(outputs[row, :length], alone[row], rtol=1e-4, atol=1e-5)


@causal
def test_later_steps_do_not_change_earlier_outputs(model: Any) -> None:
    changed = np.where(np.arange(TIME)[:, None] < 4, values(), values(seed=1))
    before = apply(model, fresh(model), values(), everywhere())
    after = apply(model, fresh(model), changed, everywhere())
    np.testing.assert_allclose(before[:, :4], after[:, :4], rtol=1e-5, atol=1e-6)
    assert not np.allclose(before[:, 4:], after[:, 4:])


def test_whole_transformer_sees_later_steps_and_order() -> None:
    model = MODELS[4]
    changed = np.where(np.arange(TIME)[:, None] < 4, values(), values(seed=1))
    before = apply(model, fresh(model), values(), everywhere())
    assert not np.allclose(before[:, :4], apply(model, fresh(model), changed, everywhere())[:, :4])
    turned = apply(model, fresh(model), values()[:, ::-1], everywhere())[:, ::-1]
    assert not np.allclose(before, turned, atol=1e-3)


def test_transformer_runs_in_bfloat16() -> None:
    model, task = Transformer(width=8, heads=2, layers=1), Parity()
    batch = task.sample(jax.random.key(0), 3, max_size=3, batch=2)
    half = jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16), model.init(jax.random.key(1), task.spec)
    )
    narrow = batch.inputs._replace(values=batch.inputs.values.astype(jnp.bfloat16))
    inside = jax.eval_shape(lambda: model.module(task.spec).apply({"params": half}, *narrow))
    assert inside.dtype == jnp.bfloat16, "positions in float32 would widen all that follows"


def test_transformer_without_a_step_has_no_nan() -> None:
    def total(params: Any) -> jax.Array:
        return apply(MODELS[4], params, values(), ~everywhere()).sum()

    result = jax.value_and_grad(total)(fresh(MODELS[4]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))


# Oracles in NumPy, from the equations.


def dense(params: Any, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(params["kernel"]) + np.asarray(params.get("bias", 0))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_mlp_is_its_equation() -> None:
    params = fresh(MODELS[0])
    hidden = values().reshape(BATCH, -1)
    for layer in ("Dense_0", "Dense_1"):
        hidden = np.maximum(dense(params[layer], hidden), 0)
    wanted = dense(params["Dense_2"], hidden).reshape(BATCH, TIME, SPEC.output_features)
    given = apply(MODELS[0], params, values(), everywhere())
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-5)


def test_rnn_is_its_equation() -> None:
    params = fresh(MODELS[1])
    cell = params["SimpleCell_0"]
    h, wanted = np.zeros((BATCH, 6)), []
    for step in range(TIME):
        h = np.tanh(dense(cell["i"], values()[:, step]) + dense(cell["h"], h))
        wanted.append(dense(params["Dense_0"], h))
    given = apply(MODELS[1], params, values(), everywhere())
    np.testing.assert_allclose(given, np.stack(wanted, axis=1), rtol=1e-4, atol=1e-5)


def test_lstm_is_its_equation() -> None:
    params = fresh(MODELS[3])
    x = values()
    for layer in range(2):
        gates = params[f"OptimizedLSTMCell_{layer}"]
        h, c, outputs = np.zeros((BATCH, 6)), np.zeros((BATCH, 6)), []
        for step in range(TIME):
            i, f, g, o = (
                dense(gates["i" + gate], x[:, step]) + dense(gates["h" + gate], h)
                for gate in "ifgo"
            )
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        x = np.stack(outputs, axis=1)
    given = apply(MODELS[3], params, values(), everywhere())
    np.testing.assert_allclose(given, dense(params["Dense_0"], x), rtol=1e-4, atol=1e-5)


# Limits and settings.


def test_mlp_knows_its_limit() -> None:
    model, params = MLP(hidden=(4,)), fresh(MLP(hidden=(4,)))
    assert model.max_size(SPEC) == 3
    for time in (TIME - 1, TIME + 1):
        inputs = Sequence(jnp.asarray(values(time)), jnp.asarray(everywhere(time)))
        with pytest.raises(InputError, match=rf"^inputs has T={time} .*built for T=7; pad the"):
            model.apply(params, inputs, spec=SPEC)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mlp", {"hidden": [0]}),
        ("mlp", {"hidden": 0}),
        ("mlp", {"hidden": 1.5}),
        ("mlp", {"hidden": "8"}),
        ("rnn", {"hidden": 0}),
        ("gru", {"hidden": -1}),
        ("lstm", {"hidden": True}),
        ("lstm", {"layers": 0}),
        ("transformer", {"width": 6, "heads": 4}),
        ("transformer", {"width": 5, "heads": 5}),
        ("transformer", {"heads": 0}),
        ("transformer", {"layers": 0}),
        ("transformer", {"mlp_ratio": 0.5}),
        ("transformer", {"causal": 1}),
    ],
)
def test_settings_are_refused(name: str, settings: Any) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(settings))}=.*; give "):
        models.get(name, **settings)


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="did you mean 'lstm'"):
        models.get("lstn")
    with pytest.raises(InputError, match="did you mean 'hidden'"):
        models.get("gru", hiden=3)
    with pytest.raises(InputError, match="did you mean 'transformer'"):
        models.describe("transformers")


@every_model
def test_settings_build_an_equal_model(model: Any) -> None:
    twin = models.get(model.name, **model.settings())
    assert twin == model
    assert hash(twin) == hash(model)
    assert models.describe(model.name).endswith(".")
    assert type(model).example().name == model.name
    assert isinstance(model, Model)


def test_equal_models_share_one_program() -> None:
    chex.clear_trace_counter()

    @functools.partial(jax.jit, static_argnames="model")
    @chex.assert_max_traces(1)
    def run(params: Any, model: Model) -> jax.Array:
        return model.apply(params, Sequence(values(), everywhere()), spec=SPEC)  # type: ignore[arg-type]

    def listed(hidden: int) -> Wrapped:
        return wrap(nn.Sequential([nn.Dense(hidden), nn.Dense(SPEC.output_features)]))

    for make in (RNN, lambda hidden: wrap(PerStep(hidden)), listed):
        chex.clear_trace_counter()
        for _ in range(2):
            run(fresh(make(hidden=6)), model=make(hidden=6))


# Modules of the user's own.


class PerStep(nn.Module):
    """Sees each step by itself."""

    hidden: int = 5
    outputs: int = SPEC.output_features

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.outputs)(nn.relu(nn.Dense(self.hidden)(x)))


class Mean(nn.Module):
    """Takes the mean of the steps that exist."""

    scale: Any = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        total = jnp.where(mask[..., None], x, 0).sum(axis=1, keepdims=True)
        mean = total / mask.sum(axis=1)[:, None, None]
        return nn.Dense(SPEC.output_features)(jnp.broadcast_to(mean, x.shape))


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(SPEC.output_features)(nn.BatchNorm(use_running_average=True)(x))


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dropout(0.5, deterministic=False)(nn.Dense(SPEC.output_features)(x))


class Pair(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = nn.Dense(SPEC.output_features)(x)
        return y, y


class Uncallable(nn.Module):
    pass


def test_wrapped_module_is_the_module() -> None:
    model = wrap(PerStep())
    assert isinstance(model, Model)
    params = fresh(model)
    wanted: Any = PerStep().apply({"params": params}, values())
    np.testing.assert_allclose(apply(model, params, values(), everywhere()), wanted, rtol=1e-5)
    assert (model.max_size(SPEC), wrap(PerStep(), max_size=5).max_size(SPEC)) == (None, 5)


def test_wrapped_module_gets_the_mask() -> None:
    model = wrap(Mean())
    mask = np.arange(TIME) < np.asarray([[1], [3], [7], [2]])
    params = fresh(model)
    wanted = [dense(params["Dense_0"], row[own].mean(axis=0)) for row, own in zip(values(), mask)]  # noqa: B905
    outputs = apply(model, params, values(), mask)
    np.testing.assert_allclose(outputs[:, 0], np.stack(wanted), rtol=1e-4, atol=1e-5)


def test_wrapped_built_in_module_is_the_built_in_model() -> None:
    model, wrapped = RNN(hidden=6), wrap(RNN(hidden=6).module(SPEC))
    assert isinstance(wrapped.module, RecurrentModule)
    chex.assert_trees_all_equal(fresh(wrapped), fresh(model))
    outputs = apply(wrapped, fresh(model), values(), everywhere())
    np.testing.assert_allclose(outputs, apply(model, fresh(model), values(), everywhere()))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (PerStep, r"^module=<class .*PerStep'> is not a linen module; give an instance"),
        (jnp.tanh, r"^module=.* is not a linen module; give an instance"),
        (Uncallable(), r"^module=Uncallable has no method __call__; give"),
        (
            Mean(scale=jnp.ones(2)),
            r"^module=Mean.scale=Array\(\[1., 1.\].* cannot be compared; give",
        ),
        (nn.Sequential([Mean({"a": np.ones(2)})]), r"^module=Sequential.layers\[0\].scale\['a'\]="),
    ],
)
def test_wrap_refuses(module: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrap(module)


def test_wrap_refuses_a_size() -> None:
    with pytest.raises(InputError, match=r"^max_size=0"):
        wrap(PerStep(), max_size=0)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (PerStep(outputs=9), r"outputs of the shape \(2, 7, 9\) .* \(B, T, F\) = \(2, 7, 2\)"),
        (Normalised(), r"^module=Normalised has variables in 'batch_stats'"),
        (Noisy(), r"^module=Noisy draws random numbers"),
        (Pair(), r"^module=Pair gives outputs a tuple"),
    ],
)
def test_wrapped_module_is_checked_at_init(module: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrap(module).init(jax.random.key(0), SPEC)


def test_fingerprint_is_the_same_in_another_process() -> None:
    code = (
        "from flax import linen as nn; from evojax_nar.models import wrap\n"
        "print(wrap(nn.Sequential([nn.Dense(3), nn.relu, nn.Dense(2)])).settings())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "JAX_PLATFORMS": "cpu"}
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    ours = wrap(nn.Sequential([nn.Dense(3), nn.relu, nn.Dense(2)])).settings()
    assert told.stdout.strip() == str(ours)
    assert ours != wrap(nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)])).settings()
    assert Wrapped.name == "wrapped"


# Learning.


def test_lstm_learns_parity() -> None:
    task = Parity(train_sizes=range(1, 5))
    model, optimizer = LSTM(hidden=8), optax.adam(0.02)
    loss = TaskLoss(task, model, task.spec)
    params = model.init(jax.random.key(1), task.spec)

    def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
        params, state = carry
        size_key, batch_key = jax.random.split(key)
        size = jax.random.randint(size_key, (64,), 1, 5)
        batch = task.sample(batch_key, size, max_size=4, batch=64)
        gradient = jax.grad(lambda own: loss(own, batch).loss)(params)
        update, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, update), state), None

    @jax.jit
    def train(params: Any) -> Any:
        carry = (params, optimizer.init(params))
        return jax.lax.scan(step, carry, jax.random.split(jax.random.key(2), 600))[0][0]

    @jax.jit
    def judge(params: Any, size: jax.Array) -> Any:
        return loss(params, task.sample(jax.random.key(3), size, max_size=16, batch=256))

    trained = train(params)
    for size in (1, 2, 3, 4, 8):
        assert float(judge(trained, jnp.asarray(size)).metrics["exact"]) == 1.0
    assert float(judge(params, jnp.asarray(8)).score) < 0.7
