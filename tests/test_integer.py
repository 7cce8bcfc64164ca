"""The integer path: int8 noise, votes and networks against numpy, and the text they learn."""

from __future__ import annotations

import collections
import math
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_contracts import mesh

import evojax_nar as nar
from evojax_nar import models, strategies, tasks
from evojax_nar.checkpoint import Checkpoints
from evojax_nar.errors import InputError
from evojax_nar.evaluator import Evaluator, sample_mixture
from evojax_nar.files import load_params, save_params
from evojax_nar.integer import LONGEST, IntegerPairs, Perturbed, halve, lookup, product
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.placement import LOCAL, Placement
from evojax_nar.tasks import sequence
from evojax_nar.tasks.text import references
from evojax_nar.types import Params

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(5)
PLACEMENTS = (LOCAL, Placement(chunk=2), Placement(mesh=mesh(2), chunk=3))
SHIFT = jnp.int32(7)


def int8(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)


# Arithmetic, against numpy in int64.


def wide(array: Any) -> np.ndarray:
    return np.asarray(array).astype(np.int64)


def rounded(values: Any, shift: int) -> np.ndarray:
    """values / 2**shift to the nearest, half up, by way of exact fractions."""
    return np.floor(wide(values) / 2.0**shift + 0.5).astype(np.int64)


def clipped(values: Any) -> np.ndarray:
    return np.clip(wide(values), -127, 127)


def test_operations_on_a_perturbed_weight_are_those_of_the_formula() -> None:
    x, base, a, b = int8(0, 5, 12), int8(1, 12, 8), int8(2, 12), int8(3, 8)
    weights = Perturbed(jnp.asarray(base), jnp.asarray(a), jnp.asarray(b), SHIFT)
    correction = rounded((wide(x) @ wide(a))[:, None] * wide(b), 7)
    expected = wide(x) @ wide(base) + correction
    np.testing.assert_array_equal(product(jnp.asarray(x), weights), expected)
    formed = clipped(wide(base) + rounded(np.outer(wide(a), wide(b)), 7))
    np.testing.assert_array_equal(jnp.asarray(weights), formed)
    rows = np.array([[0, 11], [3, 3]])
    np.testing.assert_array_equal(lookup(jnp.asarray(rows), weights), formed[rows])
    small = Perturbed(jnp.asarray(b), jnp.asarray(a[:8]), jnp.asarray(int8(4, 8)), SHIFT)
    expected = clipped(wide(b) + rounded(wide(a[:8]) * wide(int8(4, 8)), 7))
    np.testing.assert_array_equal(jnp.asarray(small), expected)
    # Plain weights, and turning the sign of the noise, which leaves the middle where it was.
    np.testing.assert_array_equal(product(jnp.asarray(x), jnp.asarray(base)), wide(x) @ wide(base))
    values = np.arange(-1000, 1000)
    np.testing.assert_array_equal(halve(jnp.asarray(values, jnp.int32), 4), rounded(values, 4))


def test_the_largest_sums_stay_in_int32() -> None:
    for sign in (1, -1):
        x = np.full((1, LONGEST), 127, np.int8)
        full = jnp.full((LONGEST, 1), sign * 127, jnp.int8)
        weights = Perturbed(full, full[:, 0], jnp.full((1,), 127, jnp.int8), jnp.int32(8))
        expected = sign * 127**2 * LONGEST + rounded(sign * 127**3 * LONGEST, 8)
        assert int(product(jnp.asarray(x), weights)[0, 0]) == expected
    with pytest.raises(InputError, match=f"has {LONGEST + 1} rows.*give at most {LONGEST}"):
        product(jnp.zeros((1, LONGEST + 1), jnp.int8), jnp.zeros((LONGEST + 1, 2), jnp.int8))


# The network and its members.

TASK = tasks.ByteText.example()
MODEL = models.IntegerGRU(hidden=8, layers=2)
PARAMS: Params = MODEL.init(KEY, TASK.spec)
BATCH = TASK.sample(jax.random.key(1), 24, max_size=32, batch=3)


class Oracle:
    """The network in numpy, one step and one matrix at a time, in int64."""

    def __init__(self, params: Params, factors: Params, sign: int) -> None:
        self.params, self.factors, self.sign = params, factors, sign

    def noise(self, path: tuple[str, ...]) -> tuple[Any, np.ndarray, np.ndarray]:
        leaf, own = self.params, self.factors
        for name in path:
            leaf, own = leaf[name], own[name]
        return wide(leaf), self.sign * wide(own[0]), wide(own[1])

    def times(self, x: np.ndarray, *path: str) -> np.ndarray:
        leaf, a, b = self.noise(path)
        return x @ leaf + rounded((x @ a)[..., None] * b, 7)

    def vector(self, *path: str) -> np.ndarray:
        leaf, a, b = self.noise(path)
        return clipped(leaf + rounded(a * b, 7))

    def norm(self, x: np.ndarray, *path: str) -> np.ndarray:
        inverse = 2**16 // np.maximum(np.abs(x).sum(axis=-1, keepdims=True) // x.shape[-1], 1)
        return clipped(rounded(x * self.vector(*path) * inverse, 16))

    def __call__(self, index: np.ndarray) -> np.ndarray:
        leaf, a, b = self.noise(("embed",))
        x = clipped(leaf[index] + rounded(a[index][..., None] * b, 7))
        bits = 6  # 4 of a bin, and the square root of 8 to the nearest power of two, half to even
        for layer in ("layer_0", "layer_1"):
            state, outputs = np.zeros((len(x), 8), np.int64), []
            for step in range(x.shape[1]):
                now = self.norm(x[:, step], layer, "norm")
                gate = self.times(now, layer, "gate_input") + self.times(state, layer, "gate_state")
                gate = clipped(rounded(gate, bits) + self.vector(layer, "gate_bias")) + 127
                reset = rounded(gate * state, 8)
                new = self.times(now, layer, "candidate_input")
                new = rounded(new + self.times(reset, layer, "candidate_state"), bits)
                new = clipped(new + self.vector(layer, "candidate_bias"))
                state = state + rounded(gate * (new - state), 8)
                outputs.append(state)
            x = clipped(x + np.stack(outputs, axis=1))
        sums = self.times(self.norm(x, "norm"), "head") + self.vector("head_bias") * 2**bits
        return sums / 2.0 ** (bits + 4)


def test_members_are_the_networks_of_numpy() -> None:
    members = IntegerPairs(PARAMS, jax.random.key(3), SHIFT, units=4)
    objective = Objective(TaskLoss(TASK, MODEL, TASK.spec), BATCH, placement=Placement(chunk=2))

    def outputs(unit: jax.Array, sign: int) -> jax.Array:
        own = members.member(members.draw(unit)[0], sign)
        return MODEL.apply(own, BATCH.inputs, spec=TASK.spec)

    evaluation, _ = jax.device_get(jax.jit(lambda: objective.population(members))())
    index = np.asarray(BATCH.inputs.values).argmax(axis=-1)
    mask = np.asarray(BATCH.mask)
    for row, sign in enumerate((1, -1)):
        given = jax.jit(jax.vmap(lambda unit, sign=sign: outputs(unit, sign)))(jnp.arange(4))
        for unit in range(4):
            ours = Oracle(PARAMS, members.draw(jnp.int32(unit))[0], sign)(index)
            np.testing.assert_array_equal(np.asarray(given)[unit][mask], ours[mask])
            odds = ours - np.log(np.exp(ours).sum(axis=-1, keepdims=True))
            own = np.take_along_axis(odds, np.asarray(BATCH.targets)[..., None], axis=-1)[..., 0]
            loss = -own[mask].reshape(3, 24).mean()
            np.testing.assert_allclose(evaluation.loss[2 * unit + row], loss, rtol=1e-5)
    assert len(set(evaluation.loss.tolist())) == 8


def test_the_noise_is_int8_of_16_bins() -> None:
    draws, _ = jax.vmap(IntegerPairs(PARAMS, KEY, SHIFT, 64).draw)(jnp.arange(64))
    chex.assert_type(jax.tree.leaves(draws), jnp.int8)
    flat = np.concatenate([wide(leaf).ravel() for leaf in jax.tree.leaves(draws)])
    assert abs(flat.mean()) < 0.3
    assert abs(flat.std() - 16) < 0.3
    pairs = [leaf for leaf in jax.tree.leaves(draws) if leaf.shape[1:] == (8,)]
    assert abs(np.mean(wide(pairs[0]) * wide(pairs[1]))) < 4 * 256 / math.sqrt(64 * 8)


def test_no_member_has_matrices_of_its_own() -> None:
    members = IntegerPairs(PARAMS, KEY, SHIFT, units=6)
    objective = Objective(TaskLoss(TASK, MODEL, TASK.spec), BATCH)
    program = jax.make_jaxpr(lambda: objective.population(members))()
    shapes: set[tuple[int, ...]] = set()

    def walk(jaxpr: Any) -> None:
        for equation in jaxpr.eqns:
            shapes.update(variable.aval.shape for variable in equation.outvars)
            for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
                if _is_program(value):
                    walk(getattr(value, "jaxpr", value))

    walk(program.jaxpr)
    assert (6, 256) in shapes  # a factor of each pair
    assert not shapes & {(6, 256, 8), (6, 8, 256), (6, 8, 8)}


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


@pytest.mark.parametrize("placement", PLACEMENTS, ids=["local", "chunks", "devices"])
def test_votes_are_summed_in_int32(placement: Placement) -> None:
    members = IntegerPairs(PARAMS, KEY, SHIFT, units=7)
    votes = np.array([1, -1, 0, 1, 1, -1, 1])
    weights = jnp.asarray(np.stack([votes, 0 * votes], axis=1).reshape(-1), jnp.int32)
    objective = Objective(TaskLoss(TASK, MODEL, TASK.spec), BATCH, placement=placement)
    total = jax.device_get(jax.jit(lambda: objective.combine(members, weights))())
    a, b = (
        np.stack([wide(members.draw(jnp.int32(unit))[0]["head"][place]) for unit in range(7)])
        for place in (0, 1)
    )
    np.testing.assert_array_equal(total["head"], np.einsum("c,ci,cj->ij", votes, a, b))
    c, d = (
        np.stack([wide(members.draw(jnp.int32(unit))[0]["norm"][place]) for unit in range(7)])
        for place in (0, 1)
    )
    np.testing.assert_array_equal(total["norm"], np.einsum("c,ci,ci->i", votes, c, d))
    chex.assert_type(jax.tree.leaves(total), jnp.int32)


# The strategy.


def distance(params: Params, data: Any) -> jax.Array:
    """How far every weight is from a target,."""
    w = jnp.asarray(params["w"]).astype(jnp.float32)
    return jnp.abs(w - data).mean()


def test_a_step_moves_by_one_bin_what_the_votes_are_sure_of() -> None:
    strategy = strategies.IntegerES(population=128, sigma_shift=2, alpha=0.3, decay=0.1)
    w = int8(8, 20, 9)
    w[0, 0], w[0, 1] = 127, -127
    target = jnp.asarray(np.where(w > 0, 1000, -1000), jnp.float32)
    state = strategy.init(KEY, {"w": w})._replace(generation=jnp.int32(10))
    key = jax.random.key(2)
    new, info = jax.jit(strategy.step)(key, state, Objective(distance, target))
    total, voters = np.zeros((20, 9), np.int64), 0
    members = IntegerPairs(state.centre, key, jnp.int32(6), 64)
    for unit in range(64):
        draw, _ = members.draw(jnp.int32(unit))
        plus, minus = (distance(members.member(draw, sign), target) for sign in (1, -1))
        vote = int(np.sign(float(minus) - float(plus)))
        total += vote * np.outer(wide(draw["w"][0]), wide(draw["w"][1]))
        voters += abs(vote)
    quantile = 1.4395314709  # of the standard normal distribution, at 1 - 0.15 / 2
    moves = np.sign(total) * (np.abs(total) > 256 * math.sqrt(voters) * quantile)
    np.testing.assert_array_equal(new.centre["w"], clipped(wide(w) + moves))
    assert new.centre["w"].dtype == jnp.int8
    assert float(info.diagnostics["moved"]) == pytest.approx(np.abs(moves).mean())
    assert float(info.diagnostics["alpha"]) == pytest.approx(0.15)
    assert float(info.diagnostics["voted"]) == voters / 64


def projection(params: Params, data: jax.Array) -> jax.Array:
    return (jnp.asarray(params["w"]).astype(jnp.float32) * data.mean(axis=0)).sum()


def test_a_pair_sees_its_own_slice_of_the_batch() -> None:
    strategy = strategies.IntegerES(population=16, slices=4, alpha=0.5)
    data = jax.random.normal(KEY, (12, 6))
    state = strategy.init(KEY, {"w": int8(9, 6)})
    new, info = jax.jit(strategy.step)(KEY, state, Objective(projection, data))
    assert int(info.forwards) == strategy.cost.forwards == 4
    members = IntegerPairs(state.centre, KEY, jnp.int32(8), 8, slices=4)
    total, losses = np.zeros(6, np.int64), []
    for unit in range(8):
        draw, place = members.draw(jnp.int32(unit))
        rows = data[3 * (unit % 4) : 3 * (unit % 4) + 3]
        assert int(place) == unit % 4
        both = [float(projection(members.member(draw, sign), rows)) for sign in (1, -1)]
        total += int(np.sign(both[1] - both[0])) * wide(draw["w"][0]) * wide(draw["w"][1])
        losses += both
    assert float(info.loss) == pytest.approx(np.mean(losses), rel=1e-4)
    sure = np.abs(total) > 256 * math.sqrt(8 * float(info.diagnostics["voted"])) * 0.6744897502
    np.testing.assert_array_equal(
        new.centre["w"], clipped(wide(state.centre["w"]) + np.sign(total) * sure)
    )
    with pytest.raises(InputError, match="slices=4 does not divide a batch of 6; give a batch"):
        strategy.step(KEY, state, Objective(projection, data[:6]))


def nonsense(params: Params, data: Any) -> jax.Array:
    return jnp.sin(1e3 * (jnp.asarray(params["w"]).astype(jnp.float32) * data).sum())


def flat(params: Params, data: Any) -> jax.Array:
    return 0.0 * data.sum()


def test_where_votes_mean_nothing_a_share_alpha_moves() -> None:
    strategy = strategies.IntegerES(population=512, decay=0.0)
    state = strategy.init(KEY, {"w": np.zeros((64, 64), np.int8)})
    data = jax.random.normal(KEY, (64, 64))
    step = jax.jit(strategy.step)
    for alpha in (0.05, 0.4, 1.0):
        own = strategy.with_hyperparameters(state, {"alpha": alpha})
        _, info = step(KEY, own, Objective(nonsense, data))
        assert float(info.diagnostics["moved"]) == pytest.approx(alpha, abs=0.02)
    after, info = step(KEY, state, Objective(flat, data))
    assert float(info.diagnostics["voted"]) == 0
    np.testing.assert_array_equal(after.centre["w"], 0)


def test_types_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"params\['w'\] has type float32.*; give int8 parameters"):
        strategies.IntegerES().init(KEY, {"w": np.zeros(2, np.float32)})
    for strategy in (strategies.ES(), strategies.Gradient()):
        with pytest.raises(InputError, match=r"has type int8.*give floating-point parameters"):
            strategy.init(KEY, PARAMS)
    lowest = strategies.IntegerES().init(KEY, {"w": np.array([-128, 3], np.int8)})
    assert lowest.centre["w"].tolist() == [-127, 3]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"population": 3}, "population=3 cannot be divided"),
        ({"population": 2**24}, "population=16777216 could overflow"),
        ({"sigma_shift": -1}, "sigma_shift=-1 is not allowed"),
        ({"sigma_shift": 17}, "sigma_shift=17 leaves no noise"),
        ({"alpha": 1.5}, "alpha=1.5 is more than all"),
        ({"alpha": 0.0}, "alpha=0.0 is not allowed"),
        ({"decay": -0.1}, "decay=-0.1 is below 0"),
        ({"population": 8, "slices": 3}, "slices=3 cannot be shared by population=8"),
        ({"population": 8, "slices": 8}, "slices=8 cannot be shared by population=8"),
    ],
)
def test_settings_are_refused(settings: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        strategies.IntegerES(**settings)


# The text.


def test_windows_are_of_their_part_and_no_paragraph_is_in_two() -> None:
    whole = tasks.ByteText(train_sizes=(40,))
    texts = {part: tasks.ByteText(part=part).text for part in ("train", "validation", "test")}
    assert (whole.text, whole.validation.text, whole.test.text) == tuple(texts.values())
    paragraphs = [{" ".join(p.split()) for p in t.decode().split("\n\n")} for t in texts.values()]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not paragraphs[first] & paragraphs[second]
    assert len(texts["train"]) > 6 * len(texts["test"]) > 100_000
    for task in (whole, whole.validation, whole.test):
        batch = task.sample(KEY, 40, max_size=40, batch=8)
        for row in range(8):
            window = bytes(np.asarray(batch.inputs.values[row]).argmax(axis=-1).tolist())
            following = bytes(np.asarray(batch.targets[row]).tolist())
            assert following[:-1] == window[1:]
            assert window + following[-1:] in task.text
    with pytest.raises(InputError, match="part='tests' is not known; did you mean 'test'"):
        tasks.ByteText(part="tests")
    with pytest.raises(InputError, match="size=64 does not fit into 64 bytes; give a smaller one"):
        tasks.ByteText(limit=64).sample(KEY, 64, max_size=64, batch=1)


def test_text_is_judged_as_any_other_classes() -> None:
    outputs = jax.random.normal(KEY, (3, 32, 256)) * 3
    ours, theirs = TASK.evaluate(outputs, BATCH), sequence.judge(TASK.output, outputs, BATCH)
    bits = ours.metrics["bits_per_byte"]
    assert float(bits) == pytest.approx(float(theirs.loss) / math.log(2), rel=1e-6)
    ours = ours._replace(metrics={k: ours.metrics[k] for k in theirs.metrics})
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6)
    undecided = TASK.evaluate(jnp.zeros_like(outputs), BATCH)
    assert float(undecided.score) == 0
    assert float(undecided.metrics["bits_per_byte"]) == pytest.approx(8)
    with pytest.raises(InputError, match=r"give \(B, T, F\) = \(3, 32, 256\)"):
        TASK.evaluate(outputs[..., :3], BATCH)


def test_references_are_what_counting_gives() -> None:
    task = tasks.ByteText().test
    train, text = tasks.ByteText().text, task.text
    given = references(task)
    counts = collections.Counter(train)
    bits = [-math.log2((counts[byte] + 1) / (len(train) + 256)) for byte in text]
    assert given["unigram"] == pytest.approx(sum(bits) / len(text))
    assert given["zlib"] == 8 * len(zlib.compress(text, 9)) / len(text)
    assert given["zlib"] < given["bigram"] < given["unigram"] < 5.5


def test_the_evaluator_judges_on_text_that_is_not_trained_on() -> None:
    model = models.RNN(hidden=4)
    evaluator = Evaluator(TASK, model)
    params = model.init(KEY, TASK.spec)
    stacked = jax.tree.map(lambda leaf: leaf[None], params)
    loss = TaskLoss(TASK, model, TASK.spec)
    judge = jax.jit(lambda batch: loss(params, batch).loss)
    judged = evaluator.at(32, stacked, examples=8, key=KEY)
    assert judged is not None
    key = jax.random.fold_in(jax.random.fold_in(KEY, 32), 0)
    expected = judge(TASK.test.sample(key, 32, max_size=32, batch=8))
    assert float(judged.loss[0]) == pytest.approx(float(expected), rel=1e-5)
    inside = evaluator.in_distribution(stacked, examples=8, key=KEY).loss[0]
    ours, trained = (
        float(judge(sample_mixture(part, jax.random.fold_in(KEY, 0), 8)))
        for part in (TASK.validation, TASK)
    )
    assert float(inside) == pytest.approx(ours, rel=1e-5)
    assert ours != pytest.approx(trained, rel=1e-4)


# All of it together.


def test_an_int8_network_is_compared_saved_and_read_like_any_other(tmp_path: Path) -> None:
    arms = {"votes": nar.Arm(strategies.IntegerES(population=64, sigma_shift=3, slices=2), batch=8)}
    results = nar.compare(
        replace(TASK, test_sizes=(16,)),
        models.IntegerGRU(hidden=8),
        arms,
        seeds=[1],
        budget=nar.Budget(generations=20),
        evaluation_examples=32,
        out=tmp_path / "run",
        progress=False,
    )
    curve = results.arm("votes")["seeds"][0]["curve"]
    assert curve[-1]["deployed_loss"] < 0.98 * math.log(256)
    read = nar.load(tmp_path / "run").parameters("votes", 1)
    chex.assert_type(jax.tree.leaves(read), jnp.int8)
    file = tmp_path / "params.npz"
    save_params(file, read)
    chex.assert_trees_all_equal(load_params(file, read), read)
    state = strategies.IntegerES().init(KEY, read)
    with Checkpoints(tmp_path / "checkpoints", state) as checkpoints:
        checkpoints.save(1, state, {})
        found = checkpoints.latest(lambda sentence: None)
    assert found is not None
    chex.assert_trees_all_equal(found[1], state)
    chex.assert_trees_all_equal_dtypes(found[1], state)
