"""Looped models against their equations in plain NumPy, how far they run, and what they show."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import chex
import contracts
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import evojax_nar as nar
from evojax_nar import plots, steps_plot
from evojax_nar.errors import InputError
from evojax_nar.models import GRU, IntegerGRU, LinenModel, parameter_count
from evojax_nar.models.looped import halting
from evojax_nar.models.looped.looped_transformer import LoopedTransformer
from evojax_nar.models.looped.neural_gpu import NeuralGPU
from evojax_nar.models.looped.universal_transformer import SteppedTransformer, UniversalTransformer
from evojax_nar.noise import LowRank, materialise, perturbed
from evojax_nar.objective import TaskLoss
from evojax_nar.tasks import Copy
from evojax_nar.types import Penalised, Sequence

pytestmark = pytest.mark.usefixtures("quick_compile")

TASK = Copy(train_sizes=(1, 3), test_sizes=(3,), width=2)
SPEC = TASK.spec
BATCH, TIME = 4, SPEC.max_length
LENGTHS = np.array([3, TIME, 1, 5])
EXISTS = np.arange(TIME) < LENGTHS[:, None]

ADAPTIVE = UniversalTransformer(width=8, heads=2, mlp_ratio=2, max_steps=4)
MODELS: list[Any] = [
    ADAPTIVE,
    SteppedTransformer(width=8, heads=2, mlp_ratio=2, max_steps=4, causal=True),
    LoopedTransformer(width=8, heads=2, mlp_ratio=2, layers=2),
    LoopedTransformer(width=8, heads=2, mlp_ratio=2, loops=3, causal=False, sinusoidal=True),
    NeuralGPU(maps=4, width=3, layers=2),
]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
CLASSES = [UniversalTransformer, SteppedTransformer, LoopedTransformer, NeuralGPU]
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)


@functools.partial(jax.jit, static_argnums=0)
def look(model: LinenModel, params: Any, values: Any, mask: Any) -> Any:
    return model.inspect(params, Sequence(values, mask), spec=SPEC)


@functools.lru_cache
def some_params(model: LinenModel) -> Any:
    """Parameters of which none is zero, and which make halting units of different minds."""
    random = np.random.default_rng(0)
    fresh = jax.jit(lambda: model.init(jax.random.key(0, impl="rbg"), SPEC))()
    moved = jax.tree.map(lambda x: x + 0.3 * random.normal(size=x.shape).astype(np.float32), fresh)
    if "halt" in moved:
        moved["halt"] = {"kernel": 4 * moved["halt"]["kernel"], "bias": moved["halt"]["bias"] - 3}
    return moved


def values(time: int = TIME, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(BATCH, time, SPEC.input_features)).astype(np.float32)


# Oracles, of one example without padding, in float64.


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def wide(x: Any) -> np.ndarray:
    return np.asarray(x, np.float64)


def dense(p: Any, x: np.ndarray) -> np.ndarray:
    return x @ wide(p["kernel"]) + wide(p["bias"])


def normalise(p: Any, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return centred / deviation * wide(p["scale"]) + wide(p["bias"])


def attend(p: Any, x: np.ndarray, causal: bool) -> np.ndarray:
    query, key, value = (
        np.einsum("tf,fhd->htd", x, wide(p[name]["kernel"])) + wide(p[name]["bias"])[:, None]
        for name in ("query", "key", "value")
    )
    result = np.zeros(x.shape) + wide(p["out"]["bias"])
    for head in range(len(query)):
        for step in range(len(x)):
            seen = step + 1 if causal else len(x)
            logits = key[head, :seen] @ query[head, step] / np.sqrt(query.shape[-1])
            share = np.exp(logits - logits.max())
            mixed = share / share.sum() @ value[head, :seen]
            result[step] += mixed @ wide(p["out"]["kernel"][head])
    return result


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def block(p: Any, x: np.ndarray, causal: bool) -> np.ndarray:
    attention = p["MultiHeadDotProductAttention_0"]
    x = x + attend(attention, normalise(p["LayerNorm_0"], x), causal)
    return x + dense(p["Dense_1"], gelu(dense(p["Dense_0"], normalise(p["LayerNorm_1"], x))))


def place(index: int, width: int) -> np.ndarray:
    angles = [index / 10_000 ** (2 * pair / width) for pair in range(width // 2)]
    return np.array([*np.sin(angles), *np.cos(angles)])


def places(first: int, count: int, width: int) -> np.ndarray:
    return np.stack([place(index, width) for index in range(first, first + count)])


def read(p: Any, state: np.ndarray) -> np.ndarray:
    return dense(p["read"], normalise(p["normalise"], state))


def universal(model: Any, p: Any, x: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Outputs, and the steps of each position."""
    count, adaptive = len(x), isinstance(model, UniversalTransformer)
    state = dense(p["embed"], x)
    mean, total, steps = np.zeros(state.shape), [0.0] * count, [0] * count
    halted = [False] * count
    for step in range(1, model.max_steps + 1):
        told = state + places(0, count, model.width) + place(step, model.width)
        new = block(p["block"], told, model.causal)
        for i in range(count):
            if halted[i]:
                continue
            state[i], steps[i] = new[i], step
            if not adaptive:
                mean[i] = state[i]
                continue
            probability = float(sigmoid(dense(p["halt"], state[i])[0]))
            if total[i] + probability > 1 - model.epsilon or step == model.max_steps:
                halted[i], probability = True, 1 - total[i]
            total[i] += probability
            mean[i] += probability * state[i]
    return read(p, mean), steps


def looped(model: LoopedTransformer, p: Any, x: np.ndarray) -> tuple[np.ndarray, list[int]]:
    loops = model.loops or len(x)
    embedded = dense(p["embed"], x)
    if model.sinusoidal:
        embedded = embedded + places(0, len(x), model.width)
    state = np.zeros(embedded.shape)
    for _ in range(loops):
        state = state + embedded
        for layer in range(model.layers):
            state = block(p[f"blocks_{layer}"], state, model.causal)
    return read(p, state), [loops] * len(x)


def convolve(p: Any, image: np.ndarray) -> np.ndarray:
    """A convolution of an image (T, width, maps), beyond which is zero."""
    kernel, (height, width, _) = wide(p["kernel"]), image.shape
    middle = len(kernel) // 2
    result = np.zeros(image.shape) + wide(p["bias"])
    for row, column in np.ndindex(height, width):
        for i, j in np.ndindex(*kernel.shape[:2]):
            y, x = row + i - middle, column + j - middle
            if 0 <= y < height and 0 <= x < width:
                result[row, column] += image[y, x] @ kernel[i, j]
    return result


def gated(p: Any, image: np.ndarray) -> np.ndarray:
    update = sigmoid(convolve(p["update"], image))
    reset = sigmoid(convolve(p["reset"], image))
    return update * image + (1 - update) * np.tanh(convolve(p["candidate"], reset * image))


def neural_gpu(model: NeuralGPU, p: Any, x: np.ndarray) -> tuple[np.ndarray, list[int]]:
    image = np.zeros((len(x), model.width, model.maps))
    image[:, 0] = dense(p["embed"], x)
    for _ in range(len(x)):
        for layer in range(model.layers):
            image = gated(p[f"gates_{layer}"], image)
    return dense(p["read"], image[:, 0]), [len(x)] * len(x)


ORACLES: dict[type, Any] = {
    UniversalTransformer: universal,
    SteppedTransformer: universal,
    LoopedTransformer: looped,
    NeuralGPU: neural_gpu,
}


@every_model
def test_each_example_is_its_equations_at_its_own_length(model: Any) -> None:
    """What stands in the padding is large and not zero, so nothing of it may be read."""
    params = jax.device_get(some_params(model))
    garbage = np.where(EXISTS[..., None], values(), 100 * values(seed=1))
    outputs, shown = look(model, params, garbage, EXISTS)
    assert np.isfinite(outputs).all()
    found = set()
    for row, length in enumerate(LENGTHS):
        wanted, steps = ORACLES[type(model)](model, params, wide(values()[row, :length]))
        np.testing.assert_allclose(outputs[row, :length], wanted, rtol=1e-5, atol=1e-5)
        assert shown["steps"][row].tolist() == steps + [0] * (TIME - length)
        found |= set(steps)
    if model is ADAPTIVE:
        assert len(found) >= 3, "the test is of no use where all halt at the same step"


@every_model
def test_what_is_shown_after_each_step(model: Any) -> None:
    params = some_params(model)
    outputs, shown = look(model, params, values(), EXISTS)
    answers = shown["step_outputs"]
    turns = getattr(model, "max_steps", getattr(model, "loops", None)) or TIME
    chex.assert_shape(answers, (turns, BATCH, TIME, SPEC.output_features))
    chex.assert_shape(shown["steps"], (BATCH, TIME))
    chex.assert_type(shown["steps"], jnp.int32)
    assert not np.allclose(answers[0][EXISTS], answers[1][EXISTS], atol=1e-3)
    if model is not ADAPTIVE:
        np.testing.assert_allclose(answers[-1], outputs, rtol=1e-6, atol=1e-6)
        return
    chances = np.asarray(shown["halting_probability"])
    taken = np.asarray(shown["steps"])
    ran = np.arange(turns)[:, None, None] < taken
    assert ((chances > 0) == ran).all()
    after = ~ran[1:] & EXISTS
    assert after.any()
    np.testing.assert_array_equal(answers[1:][after], answers[:-1][after])
    # What halts at its first step is read out of that state alone, once it has the whole weight.
    sure = {**params, "halt": {"kernel": 0 * params["halt"]["kernel"], "bias": jnp.array([9.0])}}
    outputs, shown = look(model, sure, values(), EXISTS)
    assert (np.asarray(shown["steps"]) == EXISTS).all()
    first = shown["step_outputs"][0]
    np.testing.assert_allclose(outputs[EXISTS], first[EXISTS], rtol=1e-5, atol=1e-5)


def test_loops_stop_at_the_length_of_each_example() -> None:
    for model in (MODELS[2], MODELS[4]):
        answers = np.asarray(look(model, some_params(model), values(), EXISTS)[1]["step_outputs"])
        for row, length in enumerate(LENGTHS):
            moved = [not (a == b).all() for a, b in itertools.pairwise(answers[:, row])]
            assert moved == [turn < length - 1 for turn in range(TIME - 1)]


# Adaptive computation time.


def act(chances: np.ndarray, epsilon: float) -> tuple[list[float], int, float]:
    """Weights, steps and remainder of one position with these probabilities."""
    weights: list[float] = []
    for step, chance in enumerate(chances, start=1):
        if sum(weights) + chance > 1 - epsilon or step == len(chances):
            remainder = 1 - sum(weights)
            return [*weights, remainder] + [0.0] * (len(chances) - step), step, remainder
        weights.append(chance)
    raise AssertionError


def halted(chances: Any, mask: Any, epsilon: float) -> tuple[np.ndarray, halting.Halting]:
    """Weights (S, B, T) of probabilities (S, B, T), and how it ended."""
    state, weights = halting.begin(jnp.asarray(mask)), []
    for step, chance in enumerate(chances, start=1):
        is_last = jnp.asarray(step == len(chances))
        state, weight = halting.advance(state, jnp.asarray(chance), is_last, epsilon)
        weights.append(np.asarray(weight))
    return np.stack(weights), state


def test_a_position_halts_by_hand() -> None:
    weights, state = halted(np.array([0.3, 0.4, 0.5, 0.9]).reshape(4, 1, 1), [[True]], 0.01)
    np.testing.assert_allclose(weights[:, 0, 0], [0.3, 0.4, 0.3, 0.0], atol=1e-6)
    assert int(state.steps[0, 0]) == 3
    np.testing.assert_allclose(halting.ponder_cost(state, jnp.array([[True]])), 3.3, rtol=1e-6)


@pytest.mark.parametrize("epsilon", [0.01, 0.3])
def test_weights_steps_and_remainders_are_those_of_plain_loops(epsilon: float) -> None:
    random = np.random.default_rng(3)
    scale = random.uniform(0, 3, size=(1, BATCH, TIME))
    chances = (random.uniform(size=(5, BATCH, TIME)) * scale).clip(0, 1).astype(np.float32)
    weights, state = halted(chances, EXISTS, epsilon)
    costs: list[list[float]] = [[] for _ in range(BATCH)]
    taken = set()
    for row, column in np.ndindex(BATCH, TIME):
        if not EXISTS[row, column]:
            assert not weights[:, row, column].any()
            assert int(state.steps[row, column]) == 0
            continue
        wanted, steps, remainder = act(wide(chances[:, row, column]), epsilon)
        np.testing.assert_allclose(weights[:, row, column], wanted, atol=1e-6)
        np.testing.assert_allclose(weights[:, row, column].sum(), 1, atol=1e-6)
        assert int(state.steps[row, column]) == steps
        np.testing.assert_allclose(state.remainder[row, column], remainder, atol=1e-6)
        costs[row].append(steps + remainder)
        taken.add(steps)
    assert len(taken) >= 4
    wanted = np.mean([np.mean(cost) for cost in costs])
    np.testing.assert_allclose(halting.ponder_cost(state, jnp.asarray(EXISTS)), wanted, rtol=1e-6)


@pytest.mark.parametrize(("bias", "steps"), [(-60.0, 4), (60.0, 1)])
def test_halting_never_or_at_once_is_a_plain_block(bias: float, steps: int) -> None:
    params = some_params(ADAPTIVE)
    forced = {"kernel": jnp.zeros((8, 1)), "bias": jnp.full(1, bias)}
    outputs, shown = look(ADAPTIVE, {**params, "halt": forced}, values(), EXISTS)
    assert (np.asarray(shown["steps"]) == np.where(EXISTS, steps, 0)).all()
    plain = SteppedTransformer(width=8, heads=2, mlp_ratio=2, max_steps=steps)
    rest = {name: own for name, own in params.items() if name != "halt"}
    wanted, _ = look(plain, rest, values(), EXISTS)
    np.testing.assert_allclose(outputs[EXISTS], wanted[EXISTS], rtol=1e-5, atol=1e-5)


def test_the_cost_of_pondering_is_part_of_the_loss() -> None:
    batch = TASK.sample(jax.random.key(0), jnp.array([1, 3, 2, 3]), max_size=3, batch=BATCH)
    params = some_params(ADAPTIVE)

    def judged(ponder: float) -> Any:
        model = dataclasses.replace(ADAPTIVE, ponder=ponder)
        assert isinstance(model, Penalised)
        return TaskLoss(TASK, model, SPEC)

    free, dear = (jax.jit(judged(ponder))(params, batch) for ponder in (0.0, 0.5))
    taken, chances = (
        np.asarray(look(ADAPTIVE, params, batch.inputs.values, batch.inputs.mask)[1][name])
        for name in ("steps", "halting_probability")
    )
    costs = []
    for row, exists in enumerate(np.asarray(batch.inputs.mask)):
        own = [act(wide(chances[:, row, i]), 0.01)[1:] for i in np.flatnonzero(exists)]
        assert [steps for steps, _ in own] == taken[row, exists].tolist()
        costs.append(np.mean([steps + remainder for steps, remainder in own]))
    np.testing.assert_allclose(dear.metrics["penalty"], 0.5 * np.mean(costs), rtol=1e-5)
    np.testing.assert_allclose(dear.loss - free.loss, 0.5 * np.mean(costs), rtol=1e-4)
    assert (float(free.metrics["penalty"]), float(dear.score)) == (0.0, float(free.score))
    # The cost alone pulls the halting unit towards fewer steps.
    slope = jax.jit(jax.grad(lambda p: judged(9.0)(p, batch).metrics["penalty"]))(params)
    assert float(slope["halt"]["bias"][0]) < 0


def test_a_fresh_halting_unit_is_as_said() -> None:
    """It starts near p = sigmoid(halting_bias), and so with 1 / p steps, rounded up."""
    model = dataclasses.replace(ADAPTIVE, halting_bias=-0.6)
    params = jax.jit(lambda: model.init(jax.random.key(0, impl="rbg"), SPEC))()
    assert params["halt"]["bias"].tolist() == pytest.approx([-0.6])
    level = {**params, "halt": {**params["halt"], "kernel": jnp.zeros((8, 1))}}
    steps = np.asarray(look(ADAPTIVE, level, values(), EXISTS)[1]["steps"])
    assert (steps == np.where(EXISTS, np.ceil(0.99 / sigmoid(-0.6)), 0)).all()


@pytest.mark.parametrize("model", MODELS[:2], ids=lambda model: model.name)
def test_more_steps_than_in_training(model: Any) -> None:
    further = dataclasses.replace(model, max_steps=9)
    shapes = [jax.eval_shape(lambda m=m: m.init(contracts.KEY, SPEC)) for m in (model, further)]
    chex.assert_trees_all_equal_shapes(*shapes)
    params = some_params(model)
    if model is ADAPTIVE:
        params = {**params, "halt": {"kernel": jnp.zeros((8, 1)), "bias": jnp.array([-2.3])}}
    near, far = (look(m, params, values(), EXISTS) for m in (model, further))
    assert (np.asarray(far[1]["steps"]) == np.where(EXISTS, 9, 0)).all()
    steps = model.max_steps
    for a, b in zip(near[1]["step_outputs"], far[1]["step_outputs"][:steps], strict=True):
        np.testing.assert_allclose(a[EXISTS], b[EXISTS], rtol=1e-5, atol=1e-5)
    assert np.isfinite(far[0]).all()
    assert not np.allclose(near[0][EXISTS], far[0][EXISTS], atol=1e-3)


@pytest.mark.parametrize("model", MODELS[1:3], ids=lambda model: model.name)
def test_later_steps_do_not_change_earlier_ones_where_causal(model: Any) -> None:
    whole = np.ones((BATCH, TIME), bool)
    changed = np.where(np.arange(TIME)[:, None] < 4, values(), values(seed=1))
    before, after = (look(model, some_params(model), x, whole)[0] for x in (values(), changed))
    np.testing.assert_allclose(before[:, :4], after[:, :4], rtol=1e-5, atol=1e-5)
    assert not np.allclose(before[:, 4:], after[:, 4:], atol=1e-3)


# What every model must.


@every_model
def test_gradients_are_finite(model: Any) -> None:
    """Also where an example has no step at all."""
    mask = np.where(np.arange(BATCH)[:, None] == 2, False, EXISTS)

    def total(params: Any) -> jax.Array:
        inputs = Sequence(jnp.asarray(values()), jnp.asarray(mask))
        if not isinstance(model, Penalised):
            return model.apply(params, inputs, spec=SPEC).sum()
        outputs, penalty = model.apply_with_penalty(params, inputs, spec=SPEC)
        return outputs.sum() + penalty

    leaves = jax.tree.leaves(jax.jit(jax.grad(total))(some_params(model)))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert sum(float(jnp.abs(leaf).sum()) > 0 for leaf in leaves) >= 0.7 * len(leaves)


@every_model
def test_low_rank_noise_is_never_added_up(model: Any) -> None:
    """The rule is the one that populations are drawn by; attention has biases of its own kind."""
    params = some_params(model)
    audit = nar.audit(model, params, spec=SPEC, strict=True)
    assert audit.fallback_bytes == 0
    kinds = {row.path: row.kind for row in audit.rows}
    assert set(kinds.values()) == {"shared + rank 1", "dense"}
    thin = [path for path, kind in kinds.items() if kind != "dense"]
    part = "candidate/kernel" if isinstance(model, NeuralGPU) else "query/kernel"
    assert any(path.endswith(part) for path in thin)
    noise = LowRank().draw(contracts.KEY, params, 0.05)
    inputs = Sequence(jnp.asarray(values()), jnp.asarray(EXISTS))
    run = perturbed(lambda p, x: model.apply(p, x, spec=SPEC), strict=True)
    given = jax.jit(run)(params, noise, inputs)
    wanted, _ = look(model, materialise(params, noise), values(), EXISTS)
    np.testing.assert_allclose(given[EXISTS], wanted[EXISTS], rtol=1e-4, atol=1e-4)


@every_model
def test_runs_in_bfloat16(model: Any) -> None:
    loss = TaskLoss(TASK, model, SPEC, "bfloat16")
    batch = TASK.sample(contracts.KEY, 3, max_size=3, batch=BATCH)
    shape = jax.eval_shape(loss, some_params(model), batch)
    assert {leaf.dtype for leaf in jax.tree.leaves(shape)} == {jnp.dtype("float32")}
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), some_params(model))
    narrow = batch.inputs._replace(values=batch.inputs.values.astype(jnp.bfloat16))
    inside = jax.eval_shape(lambda: model.module(SPEC).apply({"params": half}, *narrow))
    assert inside.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: UniversalTransformer(width=10, heads=4), "width=10 .* even multiple of heads=4"),
        (lambda: UniversalTransformer(width=9, heads=3), "width=9 .* even multiple of heads=3"),
        (lambda: UniversalTransformer(max_steps=0), "max_steps=0 .* at least 1"),
        (lambda: UniversalTransformer(ponder=-0.1), "ponder=-0.1 .* 0 or more"),
        (lambda: UniversalTransformer(ponder=float("nan")), "ponder=nan .* finite"),
        (lambda: UniversalTransformer(halting_bias=float("inf")), "halting_bias=inf .* finite"),
        (lambda: UniversalTransformer(epsilon=1.0), "epsilon=1.0 .* between 0 and 1"),
        (lambda: SteppedTransformer(causal=1), "causal=1 .* true or false"),  # type: ignore
        (lambda: LoopedTransformer(loops=0), "loops=0 .* at least 1"),
        (lambda: LoopedTransformer(layers=0), "layers=0 .* at least 1"),
        (lambda: LoopedTransformer(width=9, heads=2), "width=9 .* a multiple of heads=2"),
        (lambda: LoopedTransformer(width=9, heads=3, sinusoidal=True), "an even multiple"),
        (lambda: LoopedTransformer(sinusoidal="yes"), "sinusoidal='yes' "),  # type: ignore
        (lambda: NeuralGPU(kernel=4), "kernel=4 has no middle; give an odd number"),
        (lambda: NeuralGPU(maps=0), "maps=0 .* at least 1"),
    ],
)
def test_bad_settings_are_refused(build: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


def test_a_width_that_is_odd_is_fine_without_positions() -> None:
    assert LoopedTransformer(width=9, heads=3).width == 9


# Steps over size.


@dataclasses.dataclass(frozen=True)
class Counting:
    """Shows the number of each position, from 1, as its steps, and 99 in the padding."""

    name = "counting"

    def inspect(self, params: Any, inputs: Sequence, *, spec: Any) -> Any:
        steps = jnp.where(inputs.mask, jnp.arange(1, inputs.mask.shape[1] + 1), 99)
        return inputs.values, {"steps": steps}


@dataclasses.dataclass(frozen=True)
class Padded:
    """A task whose examples are one smaller than asked for, so that some positions do not exist."""

    task: Copy
    spec = SPEC

    def sample(self, key: Any, size: Any, *, max_size: int, batch: int) -> Any:
        return self.task.sample(key, size - 1, max_size=max_size, batch=batch)


def test_steps_are_measured_over_positions_that_exist() -> None:
    task: Any = Padded(TASK)
    model: Any = Counting()
    found = steps_plot.measure(model, {}, task, "2,5-6", jax.random.key(0), examples=70)
    assert list(found) == [2, 5, 6]
    for size, steps in found.items():
        taken = np.arange(1, 2 * (size - 1) + 2)
        wanted = (taken.mean(), *np.quantile(np.tile(taken, 70), (0.25, 0.75)))
        np.testing.assert_allclose(steps, wanted, rtol=1e-6)


def test_steps_of_our_own_models() -> None:
    key, params = jax.random.key(0), some_params(MODELS[2])
    found = steps_plot.measure(MODELS[2], params, TASK, (2, 4), key, examples=3)
    assert found == {2: (5.0, 5.0, 5.0), 4: (9.0, 9.0, 9.0)}


@pytest.mark.parametrize("model", [GRU(hidden=4), IntegerGRU(hidden=4)], ids=lambda m: m.name)
def test_a_model_without_steps_is_refused(model: Any) -> None:
    params = model.init(contracts.KEY, SPEC)
    with pytest.raises(InputError, match=f"model={model.name!r} shows no steps; choose one"):
        steps_plot.measure(model, params, TASK, 2, contracts.KEY, examples=2)


def test_steps_are_drawn_as_measured() -> None:
    steps = {
        20: steps_plot.Steps(4.0, 3.0, 6.0),
        5: steps_plot.Steps(2.5, 2.0, 3.0),
        10: steps_plot.Steps(3.0, 2.0, 4.0),
    }
    figure = steps_plot.draw(steps, train_sizes=range(1, 11), name="mine")
    (axes,) = figure.axes
    line = next(line for line in axes.get_lines() if len(np.asarray(line.get_xdata())) == 3)
    assert np.asarray(line.get_xydata()).tolist() == [[5, 2.5], [10, 3], [20, 4]]
    band = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    assert {(5, 2), (5, 3), (10, 2), (10, 4), (20, 3), (20, 6)} <= set(map(tuple, band))
    assert [text.get_text() for text in axes.texts] == ["trained on\n1–10"]
    bottom, top = axes.get_ylim()
    assert bottom == 0
    assert top > 6
    title = figure.get_suptitle().replace("\n", " ")
    assert title == "mine: 2.5 steps at size 5, 4.0 steps at size 20"
    assert plots.png(figure).startswith(b"\x89PNG")
    alone = steps_plot.draw({7: steps_plot.Steps(1.0, 1.0, 1.0)}, train_sizes=7)
    assert alone.get_suptitle() == "model: 1.0 steps at size 7"
    with pytest.raises(InputError, match="has no sizes; give what `measure` found"):
        steps_plot.draw({}, train_sizes=3)


def test_sizes_by_hand() -> None:
    """3 products of the image a layer, each 9 places of 4 x 4 and a bias, and the two ends."""
    gates = 2 * 3 * (9 * 4 * 4 + 4)
    assert parameter_count(some_params(MODELS[4])) == gates + (3 * 4 + 4) + (4 * 2 + 2)


def test_steps_without_inputs_do_not_blow_up_gradients() -> None:
    task = nar.tasks.Copy(train_sizes=range(1, 6), test_sizes=(5,), width=4)
    model = nar.models.LoopedTransformer(width=16, heads=2, mlp_ratio=2)
    params = model.init(jax.random.key(0), task.spec)
    batch = task.sample(jax.random.key(1), 5, max_size=5, batch=8)
    assert not np.asarray(batch.inputs.values)[:, 6:].any(), "steps where nothing is shown"
    loss = TaskLoss(task, model, task.spec)
    slope = jax.jit(jax.grad(lambda own: loss(own, batch).loss))(params)
    assert float(optax.tree.norm(slope)) < 1e3
