"""Long unrolls: segments add up to the whole, estimates are what papers say, runs resume."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from test_resume import what_a_run_left

import evojax_nar as nar
from evojax_nar import config, models, strategies
from evojax_nar.evaluator import Evaluator, sample_mixture
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.overrides import assign
from evojax_nar.population import GaussianPairs
from evojax_nar.tally import Tally
from evojax_nar.trainer import Group, Settings
from evojax_nar.types import Recurrent, Sequence
from evojax_nar.unroll import Episodes, FirstCarry, SegmentLoss, cut, whole

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(2026)
TASK = nar.tasks.Copy(train_sizes=range(1, 4), test_sizes=(3,), width=2)  # T = 7
RNN = nar.models.RNN(hidden=5)
CUT_MODELS = [cls for cls in models.ALL if hasattr(cls, "apply_segment")]
CUT_STRATEGIES = [cls for cls in strategies.ALL if hasattr(cls, "segment")]


# Models.


@pytest.mark.parametrize("cls", CUT_MODELS, ids=lambda cls: cls.name)
def test_segments_of_a_model_are_the_whole(cls: Any) -> None:
    model: Any = cls.example()
    spec, steps = TASK.spec, 3
    assert issubclass(cls, Recurrent)
    params = model.init(KEY, spec)
    inputs = sample_mixture(TASK, KEY, 4).inputs
    time = inputs.values.shape[1]
    expected = jax.jit(functools.partial(model.apply, spec=spec))(params, inputs)
    apply = jax.jit(functools.partial(model.apply_segment, spec=spec, time=time))
    first = carry = model.initial_carry(inputs, spec=spec)
    found = []
    for start in range(0, 2 * steps, steps):
        part = Sequence(*(leaf[:, start : start + steps] for leaf in inputs))
        carry, outputs = apply(params, carry, part)
        chex.assert_trees_all_equal_shapes_and_dtypes(carry, first)
        found.append(outputs)
    found.append(apply(params, carry, Sequence(*(leaf[:, 2 * steps :] for leaf in inputs)))[1])
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, rtol=1e-5, atol=1e-6)
    # A carry says something: without it the second segment is another.
    afresh = apply(params, first, Sequence(*(leaf[:, steps : 2 * steps] for leaf in inputs)))[1]
    assert not np.allclose(afresh, found[1], atol=1e-4)


def test_models_that_are_known_to_have_a_cell_can_be_cut() -> None:
    expected = {"rnn", "gru", "lstm", "ntm", "ntm_lstm", "dnc", "stack_rnn", "tape_rnn", "step_rnn"}
    assert {cls.name for cls in CUT_MODELS} >= expected
    assert {cls.name for cls in CUT_STRATEGIES} >= {"gradient", "es", "nres", "pes"}


# The loss of a segment.


TASKS = {
    "bits, sizes from 1 to 3": TASK,
    "one judged step": nar.tasks.Parity(train_sizes=range(1, 6), test_sizes=(5,)),
    "ranks": nar.tasks.Sort(train_sizes=range(2, 5), test_sizes=(4,)),
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_losses_of_segments_add_up_to_that_of_the_whole(task: Any, steps: int) -> None:
    params = RNN.init(KEY, task.spec)
    batch = sample_mixture(task, KEY, 16)
    loss = TaskLoss(task, RNN, task.spec)
    time = task.spec.max_length
    steps = min(steps, time)
    segment_loss = jax.jit(SegmentLoss(loss, time))
    carry = FirstCarry(loss)(KEY, whole(batch))
    total = np.zeros(2)
    for index in range(-(-time // steps)):
        found, carry = segment_loss(params, cut(batch, jnp.int32(index), steps), carry)
        assert np.isfinite(found.loss)
        total += [float(found.loss), float(found.score)]
    expected = loss(params, batch)
    np.testing.assert_allclose(total, [expected.loss, expected.score], rtol=1e-5)


def test_a_segment_of_all_steps_has_the_gradient_of_the_whole_and_none_is_nan() -> None:
    params = RNN.init(KEY, TASK.spec)
    batch = sample_mixture(TASK, KEY, 8)
    loss = TaskLoss(TASK, RNN, TASK.spec)
    segment_loss = SegmentLoss(loss, TASK.spec.max_length)
    carry = FirstCarry(loss)(KEY, whole(batch))
    slope = jax.jit(jax.grad(lambda own, data: segment_loss(own, data, carry)[0].loss))
    expected = jax.grad(lambda own: loss(own, batch).loss)(params)
    chex.assert_trees_all_close(slope(params, whole(batch)), expected, rtol=1e-4, atol=1e-7)
    nothing = slope(params, cut(batch, jnp.int32(0), 1))
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(nothing)), "not judged yet"


# Estimates. h_s = h_(s-1) + A_s theta and L_s = |h_s - y_s|^2 / 2: all is known in closed form.

SEGMENTS, ROWS, SIZE = 4, 3, 5


def known() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (S, rows, D), y (S, rows) and theta (D,), float64."""
    rng = np.random.default_rng(5)
    shapes = ((SEGMENTS, ROWS, SIZE), (SEGMENTS, ROWS), (SIZE,))
    a, y, theta = (rng.normal(size=shape) for shape in shapes)
    return a, y, theta


def unrolled(params: Any, data: Any, carry: Any) -> Any:
    a, y = data
    state = carry + a @ params
    return 0.5 * ((state - y) ** 2).sum(), state


def nothing_yet(key: jax.Array, data: Any) -> jax.Array:
    del key, data
    return jnp.zeros(ROWS)


def estimates(strategy: Any, seed: int = 0) -> tuple[np.ndarray, list[jax.Array], jax.Array]:
    """Of each segment of an episode with a centre that does not move, by what SGD would do of it;
    the keys of the segments, and that of the episode.
    """
    a, y, theta = known()
    state = strategy.init(KEY, jnp.asarray(theta, jnp.float32))
    centre = strategy.params(state)
    begin, *keys = jax.random.split(jax.random.key(seed), 1 + SEGMENTS)
    data = jnp.asarray(a, jnp.float32), jnp.asarray(y, jnp.float32)
    carry = strategy.begin(begin, state, Objective(unrolled, data, nothing_yet))
    found = []
    segment = jax.jit(strategy.segment)
    for index, key in enumerate(keys):
        part = jax.tree.map(lambda leaf, index=index: leaf[index], data)
        objective = Objective(unrolled, part, nothing_yet)
        after, carry, info = segment(key, state, carry, objective)
        assert bool(info.healthy)
        found.append(np.asarray(centre - strategy.params(after), np.float64))
    return np.stack(found), keys, begin


def residuals() -> tuple[np.ndarray, np.ndarray]:
    """h_s - y_s at theta, and the gradient of the whole."""
    a, y, theta = known()
    states = np.cumsum(a @ theta, axis=0)
    gradient = sum(a[: s + 1].sum(0).T @ (states[s] - y[s]) for s in range(SEGMENTS))
    return states - y, np.asarray(gradient)


def drawn(key: jax.Array, pairs: int) -> np.ndarray:
    """Unit noise (P, D) of a population whose centre is theta."""
    centre = jnp.asarray(known()[2], jnp.float32)
    noise = nar.noise.Dense()
    members = GaussianPairs(centre, key, jnp.float32(1), pairs, noise)
    return np.asarray(jax.vmap(members.draw)(jnp.arange(pairs)), np.float64)


SGD = optax.sgd(1.0)
PAIRS = 6


def test_truncated_gradients_are_those_of_their_segments() -> None:
    a, _, _ = known()
    errors, gradient = residuals()
    found, _, _ = estimates(strategies.Gradient(SGD))
    expected = np.einsum("srd,sr->sd", a, errors)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.linalg.norm(found.sum(0) - gradient) > 0.3 * np.linalg.norm(gradient)


def test_nres_credits_the_noise_of_the_episode() -> None:
    a, _, _ = known()
    errors, gradient = residuals()
    strategy = strategies.NRES(2 * PAIRS, 0.1, SGD, nar.noise.Dense())
    found, _, begin = estimates(strategy)
    noise = drawn(begin, PAIRS)
    slopes = np.einsum("srd,sr->sd", np.cumsum(a, axis=0), errors)
    expected = np.einsum("pd,pe,se->sd", noise, noise, slopes) / PAIRS
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    # Over the episode it is antithetic ES on the whole.
    np.testing.assert_allclose(found.sum(0), noise.T @ (noise @ gradient) / PAIRS, rtol=2e-3)


def test_pes_credits_the_sum_of_the_noise_so_far() -> None:
    a, _, _ = known()
    errors, _ = residuals()
    found, keys, _ = estimates(strategies.PES(2 * PAIRS, 0.1, SGD))
    noise = np.stack([drawn(key, PAIRS) for key in keys])  # (S, P, D)
    moved = np.cumsum(np.einsum("srd,spd->spr", a, noise), axis=0)
    change = np.einsum("spr,sr->sp", moved, errors)
    expected = np.einsum("sp,spd->sd", change, np.cumsum(noise, axis=0)) / PAIRS
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def raw(losses: jax.Array) -> jax.Array:
    return losses


@pytest.mark.parametrize("kind", ["nres", "pes", "truncated es"])
def test_nres_and_pes_are_unbiased_and_truncated_es_is_not(kind: str) -> None:
    """Means of 64 estimates, against six standard errors of each number."""
    a, _, _ = known()
    errors, gradient = residuals()
    strategy: Any = {
        "nres": strategies.NRES(200, 0.1, SGD, nar.noise.Dense()),
        "pes": strategies.PES(200, 0.1, SGD),
        "truncated es": strategies.ES(200, 0.1, SGD, raw, noise=nar.noise.Dense()),
    }[kind]
    state = strategy.init(KEY, jnp.asarray(known()[2], jnp.float32))
    data = tuple(jnp.asarray(part, jnp.float32) for part in (a, known()[1]))

    def episode(key: jax.Array) -> jax.Array:
        begin, *keys = jax.random.split(key, 1 + SEGMENTS)
        carry = strategy.begin(begin, state, Objective(unrolled, data, nothing_yet))
        total = jnp.zeros(SIZE)
        for index, own in enumerate(keys):
            part = jax.tree.map(lambda leaf, index=index: leaf[index], data)
            objective = Objective(unrolled, part, nothing_yet)
            after, carry, _ = strategy.segment(own, state, carry, objective)
            total += strategy.params(state) - strategy.params(after)
        return total

    found = np.asarray(jax.jit(jax.vmap(episode))(jax.random.split(KEY, 64)), np.float64)
    spread = 6 * found.std(axis=0, ddof=1) / 8
    truncated = np.einsum("srd,sr->d", a, errors)
    unbiased, biased = np.abs(found.mean(0) - gradient), np.abs(found.mean(0) - truncated)
    if kind == "truncated es":
        unbiased, biased = biased, unbiased
    assert (unbiased < spread).all()
    assert (biased > spread).any()


@pytest.mark.parametrize("cls", [strategies.NRES, strategies.PES])
def test_a_pair_of_which_one_is_broken_counts_nothing(cls: Any) -> None:
    strategy = cls(population=2 * PAIRS, sigma=0.1, optimizer=SGD, noise=nar.noise.Dense())
    state = strategy.init(KEY, jnp.zeros(3))

    def half_broken(params: Any, data: Any) -> jax.Array:
        del data
        return jnp.where(params[0] > 0.05, jnp.nan, params.sum())

    after, info = jax.jit(lambda key: strategy.step(key, state, Objective(half_broken)))(KEY)
    members = strategy._members(KEY, state)
    noise = np.asarray(jax.vmap(members.draw)(jnp.arange(PAIRS)))
    sound = np.abs(noise[:, 0]) * 0.1 <= 0.05
    assert 0 < sound.sum() < PAIRS
    expected = (noise[sound].sum(1)[:, None] * noise[sound]).mean(0)
    np.testing.assert_allclose(-strategy.params(after), expected, rtol=1e-3, atol=1e-4)
    assert float(info.diagnostics["finite"]) == 1 - (PAIRS - sound.sum()) / (2 * PAIRS)


def test_pes_refuses_noise_whose_sum_is_not_thin() -> None:
    with pytest.raises(nar.InputError, match=r"noise=LowRank.*take strategies.NRES"):
        strategies.PES(noise=nar.noise.LowRank())


# The harness.


@functools.lru_cache
def episodes(strategy: Any, steps: int = 3) -> Episodes:
    return Episodes(nar.Arm(strategy, 4, truncation=steps), TaskLoss(TASK, RNN, TASK.spec))


def test_an_episode_is_begun_anew_and_keeps_its_data_and_noise() -> None:
    strategy = strategies.NRES(population=4, optimizer=optax.sgd(0.0))
    cutting = episodes(strategy)
    assert (cutting.time, cutting.steps, cutting.segments) == (7, 3, 3)
    state = strategy.init(KEY, RNN.init(KEY, TASK.spec))
    step = jax.jit(functools.partial(cutting.step, nar.Placement()))
    carry = cutting.begin(KEY, state, jnp.int32(0))
    broken = carry._replace(cells=jax.tree.map(lambda leaf: leaf * jnp.nan, carry.cells))
    losses, keys = [], []
    carry = broken
    for number in range(6):
        state, carry, info = step(KEY, state, carry, jnp.int32(number))
        losses.append(float(info.loss))
        keys.append(jax.random.key_data(carry.key).tolist())
    assert np.isfinite(losses).all(), "what was carried before the first segment is not seen"
    assert keys[0] == keys[1] == keys[2] != keys[3] == keys[4] == keys[5]
    # The mean over an episode is the loss of the whole unrolls, on the data of whole steps.
    batch = sample_mixture(TASK, jax.random.split(jax.random.fold_in(KEY, 1))[0], 4)
    members = GaussianPairs(
        state.centre, jax.random.wrap_key_data(jnp.asarray(keys[3], jnp.uint32)),
        state.hyperparameters["sigma"], 2, strategy.noise,
    )  # fmt: skip
    expected, _ = Objective(cutting.loss, batch).population(members)
    assert np.mean(losses[3:]) == pytest.approx(float(expected.loss.mean()), rel=1e-5)


def test_what_cannot_be_cut_is_refused() -> None:
    loss = TaskLoss(TASK, RNN, TASK.spec)
    with pytest.raises(nar.InputError, match=r"truncation=2 .*'snes'.*take one of es, nres, pes"):
        Episodes(nar.Arm(strategies.SNES(), truncation=2), loss)
    blind = TaskLoss(TASK, nar.models.MLP(), TASK.spec)
    with pytest.raises(nar.InputError, match=r"truncation=2 .*'mlp'.*no cell.*take one of rnn"):
        Episodes(nar.Arm(strategies.ES(), truncation=2), blind)
    with pytest.raises(nar.InputError, match="batches=2 cannot go with a truncation"):
        nar.Arm(strategies.ES(), batches=2, truncation=1)
    with pytest.raises(nar.InputError, match="truncation=0 is not allowed"):
        nar.Arm(strategies.ES(), truncation=0)


def test_a_config_says_truncations() -> None:
    plain = {"task": "copy", "model": "gru", "arms": {"es": {"strategy": "es"}}}
    said = config.check({**plain, "budget": {"forwards": 1000}})
    arm = config.build(assign(said, ["arms.es.truncation=1"])).arms["es"]
    assert arm == nar.Arm(strategies.ES(), truncation=1)
    assert config.describe_arm(arm)["truncation"] == 1
    again = config.build(assign(said, ["arms.es.truncation=null"])).arms["es"]
    assert again.truncation is None
    assert "truncation" not in config.describe_arm(again)
    with pytest.raises(nar.InputError, match=r"arms.es.truncation=0"):
        config.check(assign(said, ["arms.es.truncation=0"]))


# Budgets: an episode costs what a whole unroll does.


@pytest.mark.parametrize(
    ("budget", "steps", "examples"),
    [
        # A step is a third of 6 members on 4 examples: 8 forward-equivalents.
        (nar.Budget(forwards=100), 12, 16),
        (nar.Budget(forwards=104), 13, 20),
        # The fourth episode's examples are drawn whole or not at all.
        (nar.Budget(examples=15), 9, 12),
        (nar.Budget(generations=5), 5, 8),
    ],
    ids=lambda value: str(getattr(value, "settings", lambda: value)()),
)
def test_budget_and_tally_agree(budget: nar.Budget, steps: int, examples: int) -> None:
    arm = nar.Arm(strategies.ES(population=6), 4, truncation=3)
    group = Group("es", arm, Evaluator(TASK, RNN), Settings(budget))
    assert (group.segments, group.step_limit) == (3, steps)
    tally = Tally(0, segments=3)
    done = 0
    while group.allowed(tally, None):
        done += 1
        assert group.allowed(tally, None) == steps - tally.steps
        tally.steps += 1
        tally.forwards += 6 * 4
        tally.examples = -(-tally.steps // 3) * arm.examples
    assert (done, tally.examples) == (steps, examples)
    assert tally.forward_equivalents == steps * 8
    assert tally.spent(budget.kind) <= budget.amount


def test_costs_that_are_no_whole_numbers_are_exact() -> None:
    arm = nar.Arm(strategies.Gradient(SGD), 1, truncation=1)
    group = Group("gradient", arm, Evaluator(TASK, RNN), Settings(nar.Budget(forwards=300)))
    assert group.step_limit == 700  # 3 / 7 each
    tally = Tally(0, steps=699, forwards=699, backwards=699, segments=7)
    assert tally.spent("forwards") == Fraction(3 * 699, 7)
    assert group.allowed(tally, None) == 1


# Whole runs.


def compare(folder: Path, arms: Any, **options: Any) -> nar.Results:
    model = options.pop("model", RNN)
    settings = {"seeds": 2, "evaluation_examples": 8, "progress": False, **options}
    return nar.compare(TASK, model, arms, out=folder, **settings)


class Interrupted(Exception):
    pass


class Interrupter:
    """A logger that ends a run in the middle of an episode."""

    def __init__(self, record: int) -> None:
        self.left = record

    def log(self, arm: str, record: Any) -> None:
        del arm, record
        self.left -= 1
        if not self.left:
            raise Interrupted

    def close(self) -> None:
        pass


@pytest.fixture
def compiled_once(tmp_path: Path) -> Iterator[None]:
    """Equal programs are compiled once in a test, and read from a folder after that."""
    said = {
        "jax_compilation_cache_dir": str(tmp_path / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in said}
    for name, value in said.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.mark.usefixtures("compiled_once")
def test_a_run_of_segments_that_is_interrupted_ends_as_one_that_is_not(tmp_path: Path) -> None:
    """NTM under NRES with noise of rank 1: epochs of one step, and episodes of three."""
    adam = strategies.optimizer("adam", learning_rate=0.01)
    strategy = strategies.NRES(population=4, optimizer=adam)
    options: Any = {
        "arms": {"nres": nar.Arm(strategy, batch=2, truncation=3)},
        "model": nar.models.NTM(hidden=4, slots=4, width=3),
        "budget": nar.Budget(generations=8),
        "checkpoint_seconds": 0.0,
    }
    compare(tmp_path / "whole", **options)
    with pytest.raises(Interrupted):
        compare(tmp_path / "cut", loggers=[Interrupter(2 * 5)], **options)
    compare(tmp_path / "cut", resume=True, **options)
    assert what_a_run_left(tmp_path / "cut") == what_a_run_left(tmp_path / "whole")


def test_devices_change_segments_by_rounding_alone() -> None:
    for strategy in (strategies.NRES(population=12), strategies.PES(population=12)):
        cutting = episodes(strategy)
        state = strategy.init(KEY, RNN.init(KEY, TASK.spec))
        found = []
        for placement in (nar.Placement(), nar.devices.placement(2, count=2)):
            own, carry = state, cutting.begin(KEY, state, jnp.int32(0))
            step = jax.jit(functools.partial(cutting.step, placement))
            for number in range(4):
                own, carry, _ = jax.block_until_ready(step(KEY, own, carry, jnp.int32(number)))
            found.append(jax.device_get((strategy.params(own), carry.cells)))
        chex.assert_trees_all_close(found[1], found[0], rtol=1e-4, atol=1e-5)
