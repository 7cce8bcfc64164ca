"""Measures of estimates, solutions and confidence against closed forms and plain loops."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import evojax_nar as nar
from evojax_nar import readings
from evojax_nar.errors import InputError
from evojax_nar.evaluator import TEST, VALIDATION, Evaluator
from evojax_nar.inside import calibration, cosine, sharpness
from evojax_nar.noise import Dense
from evojax_nar.objective import Objective
from evojax_nar.readings import Best
from evojax_nar.strategies import ES, PGPE, SNES, Evosax, GeneticAlgorithm, Gradient
from evojax_nar.strategies.shaping import z_score
from evojax_nar.types import Field, GraphOutputs, TaskSpec

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(5)


# The cosine.


def slope(params: Any, data: Any) -> jax.Array:
    """Linear: its gradient is the data, everywhere."""
    products = jax.tree.map(lambda leaf, own: (leaf * own).sum(), params, data)
    return jnp.stack(jax.tree.leaves(products)).sum()


def tree(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    return {"a": {"w": draw(6, 5), "b": draw(10)}, "z": draw(20)}


LINEAR = Objective(slope, tree(1))
D = 60


@pytest.mark.parametrize("pairs", [8, 240])
def test_the_cosine_follows_its_law(pairs: int) -> None:
    """Over 200 draws: the cosine scatters by at most 0.13, so their mean by 0.01; and it is the
    law but for terms of order 1/D, below 2 %."""
    strategy = ES(population=2 * pairs, noise=Dense(), shaping=z_score, optimizer=optax.adam(1.0))
    state = strategy.init(KEY, tree(2))
    keys = jax.random.split(KEY, 200)
    found = jax.jit(jax.vmap(lambda key: cosine.cosines(key, strategy, state, LINEAR)))(keys)
    assert set(found) == {"a", "z", "total"}
    law = 1 / math.sqrt(1 + (D + 1) / pairs)
    assert float(cosine.expected(D, pairs)) == pytest.approx(law)
    assert float(found["total"].mean()) == pytest.approx(law, abs=0.04)
    assert float(found["total"].std()) < 0.13
    # Of a layer with d of the D numbers and g^2 of the square of the slope, the estimate has the
    # length^2 of that share and noise of d |G|^2 / K: each line of the noise sees the whole slope.
    squares = {name: sum(float((x**2).sum()) for x in jax.tree.leaves(part))
               for name, part in cosine.layers(LINEAR.data).items()}  # fmt: skip
    whole = sum(squares.values())
    for name, numbers in (("a", 40), ("z", 20)):
        g2 = squares[name]
        want = math.sqrt(g2 / (g2 + (g2 + numbers * whole) / pairs))
        assert float(found[name].mean()) == pytest.approx(want, abs=0.04)


def test_an_estimate_is_what_the_optimiser_is_given() -> None:
    """The ES estimate by hand: the sum of shaped losses times the noise, member by member."""
    strategy = ES(population=8, noise=Dense(), weight_decay=0.5)
    state = strategy.init(KEY, tree(2))
    members: Any = strategy.ensemble(KEY, state, 8)
    losses = np.asarray([float(slope(jax.tree.map(lambda x, i=i: x[i], members), LINEAR.data))
                         for i in range(8)])  # fmt: skip
    ranks = losses.argsort().argsort() / 7 - 0.5
    found = jax.jit(lambda: cosine.estimate(KEY, strategy, state, LINEAR))()
    for name, leaf in (("z", found["z"]), ("b", found["a"]["b"])):
        own = members["z"] if name == "z" else members["a"]["b"]
        centre = tree(2)["z"] if name == "z" else tree(2)["a"]["b"]
        noise = (np.asarray(own) - np.asarray(centre)) / 0.1
        np.testing.assert_allclose(leaf, ranks @ noise / (8 * 0.1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "strategy",
    [
        Gradient(),
        PGPE(population=64, noise=Dense()),
        SNES(population=64),
        Evosax("Open_ES", population=64),
        GeneticAlgorithm(population=256),
    ],
    ids=lambda strategy: strategy.name,
)
def test_every_kind_of_strategy_has_an_estimate(strategy: Any) -> None:
    """Uphill more or less, and the gradient itself for the gradient learner."""
    state = strategy.init(KEY, tree(2))
    measure = jax.jit(lambda key, state: cosine.cosines(key, strategy, state, LINEAR))
    if strategy.name == "genetic_algorithm":  # a first step only judges what it begins with
        state, _ = jax.jit(strategy.step)(KEY, state, LINEAR)
    found = measure(jax.random.key(1), state)
    if strategy.name == "gradient":
        np.testing.assert_allclose(list(found.values()), 1.0, rtol=1e-5)
    # Of random directions the cosine is within 3 / sqrt(60) = 0.39 in all but one of 300 cases.
    elif strategy.name != "genetic_algorithm":
        assert float(found["total"]) > 0.39
    else:
        assert float(found["total"]) > 0


def test_layers_are_what_a_tree_first_divides_into() -> None:
    deep = {"params": {"cell": {"w": 1.0, "b": 2.0}, "head": 3.0}}
    assert list(cosine.layers(deep)) == ["params/cell", "params/head"]
    assert cosine.layers({"only": {"one": 3.0}}) == {"only/one": 3.0}
    assert cosine.layers(1.0) == {"parameters": 1.0}
    assert list(cosine.layers([1.0, {"x": 2.0}])) == ["0", "1"]


TASK = nar.tasks.Parity(train_sizes=range(1, 4), test_sizes=(3, 6))
MODEL = nar.models.LSTM(hidden=4)


def test_measurements_along_the_way_are_those_of_the_trainer() -> None:
    """The parameters after 8 steps are those of a comparison: seen through the loss on one batch,
    which a run of 8 steps at once gives too, and one that measures on its way."""
    arm = nar.Arm(Gradient(optax.adam(0.05)), batch=8)
    model = nar.models.MLP(hidden=(8,))
    probe = ES(population=32)
    points = list(
        cosine.along(TASK, model, arm, seeds=(0, 3), steps=8, every=4, batch=16, probe=probe)
    )
    assert [(p.seed, p.step) for p in points] == [(0, 0), (3, 0), (0, 4), (3, 4), (0, 8), (3, 8)]
    names = set(points[0].cosines)
    assert "total" in names
    assert len(names) > 2
    assert all(-1 <= value <= 1 for p in points for value in p.cosines.values())
    assert np.mean([p.cosines["total"] for p in points]) > 0.1
    whole = list(cosine.along(TASK, model, arm, seeds=(3,), steps=8, every=8, batch=16))
    assert whole[-1].loss == pytest.approx(points[-1].loss, rel=1e-4)
    assert whole[-1].loss != pytest.approx(whole[0].loss, rel=1e-3)
    assert whole[-1].cosines["total"] == pytest.approx(1.0, abs=1e-5)


def test_what_has_no_gradient_is_refused() -> None:
    whole = nar.strategies.IntegerES(population=8)
    state = whole.init(KEY, {"w": jnp.zeros(3, jnp.int8)})
    with pytest.raises(InputError, match="params has leaves of type int8, which have no gradient"):
        cosine.cosines(KEY, whole, state, LINEAR)
    with pytest.raises(InputError, match="every=3000 is too many steps; give at most 2000"):
        next(cosine.along(TASK, MODEL, nar.Arm(Gradient()), steps=1, every=3000))


# Sharpness.


def bowl(params: Any, data: Any) -> jax.Array:
    """1/2 x^T H x + g x, with x the parameters in a row."""
    flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])
    return 0.5 * flat @ data[0] @ flat + data[1] @ flat


EIGENVALUES = np.linspace(-2, 7, 24)


@pytest.fixture(scope="module")
def known() -> tuple[Objective, Any, np.ndarray]:
    """A quadratic of known spectrum, and a place away from its middle."""
    rng = np.random.default_rng(3)
    turn, _ = np.linalg.qr(rng.normal(size=(24, 24)))
    hessian = (turn * EIGENVALUES) @ turn.T
    params = {"u": rng.normal(size=(4, 3)), "v": rng.normal(size=12)}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    data = (jnp.asarray(hessian, jnp.float32), jnp.asarray(rng.normal(size=24), jnp.float32))
    return Objective(bowl, data), params, hessian


def test_the_ends_of_a_spectrum(known: Any) -> None:
    objective, params, _ = known
    found = jax.jit(lambda: sharpness.spectrum(KEY, objective, params, steps=99))()
    # In float32, with a norm of 7: rounding of some 1e-6 a step.
    assert float(found.highest) == pytest.approx(7, abs=1e-3)
    assert float(found.lowest) == pytest.approx(-2, abs=1e-3)
    fewer = jax.jit(lambda: sharpness.spectrum(KEY, objective, params, steps=8))()
    assert 6.3 < float(fewer.highest) < 7.001
    assert -2.001 < float(fewer.lowest) < -1.3


def test_a_spectrum_of_few_values_ends_early(known: Any) -> None:
    """Two eigenvalues: after two steps there is nothing new, and 0 is not among what is found."""
    flat = Objective(bowl, (jnp.diag(jnp.asarray([3.0] * 20 + [5.0] * 4)), jnp.zeros(24)))
    found = sharpness.spectrum(KEY, flat, known[1], steps=12)
    np.testing.assert_allclose(found, [3, 5], rtol=1e-4)
    same = Objective(bowl, (4.0 * jnp.eye(24), jnp.zeros(24)))
    np.testing.assert_allclose(sharpness.spectrum(KEY, same, known[1], steps=4), [4, 4], rtol=1e-4)


def test_the_trace(known: Any) -> None:
    objective, params, hessian = known
    found = jax.jit(lambda: sharpness.trace(KEY, objective, params, probes=400))()
    want = np.trace(hessian)
    deviation = math.sqrt(2 * ((hessian**2).sum() - (np.diag(hessian) ** 2).sum()))
    assert float(found.error) == pytest.approx(deviation / 20, rel=0.15)
    assert abs(float(found.value) - want) < 4 * float(found.error)
    diagonal = Objective(bowl, (jnp.diag(jnp.asarray(EIGENVALUES, jnp.float32)), jnp.zeros(24)))
    one = sharpness.trace(KEY, diagonal, params, probes=1)
    assert float(one.value) == pytest.approx(EIGENVALUES.sum(), rel=1e-5)
    assert math.isnan(float(one.error))


def test_the_rise_around_a_solution(known: Any) -> None:
    """Against the closed form of a quadratic, which a slope does not change."""
    objective, params, hessian = known
    radii = (0.05, 0.2, 0.8)
    found = jax.jit(lambda: sharpness.rise(KEY, objective, params, radii, draws=1000))()
    blocks = {"u": np.diag(hessian)[:12], "v": np.diag(hessian)[12:]}
    unit = 0.5 * sum(
        float((params[name] ** 2).sum()) * block.sum() / 12 for name, block in blocks.items()
    )
    for place, radius in enumerate(radii):
        # Differences of losses of about 30 are rounded to 4e-6, of which an error is made.
        slack = 4 * float(found.error[place]) + 1e-5
        assert abs(float(found.value[place]) - radius**2 * unit) < slack
    assert float(found.error[2]) < 0.2 * abs(unit)


def test_noise_is_relative_to_each_leaf() -> None:
    """A leaf of zeros does not move, and a scaling that the next leaf undoes changes nothing."""

    def product(params: Any, data: Any) -> jax.Array:
        return ((params["a"] * params["b"] - 1) ** 2).sum() + 100 * params["none"].sum()

    radii = (0.1, 0.5)
    rises = []
    for scale in (1.0, 16.0):
        params = {"a": jnp.ones(8) * scale, "b": jnp.ones(8) / scale, "none": jnp.zeros(3)}
        rises.append(sharpness.rise(KEY, Objective(product), params, radii, draws=8).value)
    np.testing.assert_allclose(rises[0], rises[1], rtol=1e-4)
    with pytest.raises(InputError, match=r"radii=0 is not allowed; give a finite number above 0"):
        sharpness.rise(KEY, Objective(product), {"a": jnp.ones(2)}, (0,))


# Calibration.


def plain_error(confidence: Any, correct: Any, bins: int) -> float:
    """By loops over bins and predictions, in Python."""
    total = 0.0
    for place in range(bins):
        inside = [
            (c, r)
            for c, r in zip(confidence, correct, strict=True)
            if place / bins < c <= (place + 1) / bins or (place == 0 and c == 0)
        ]
        if inside:
            mean = sum(c for c, _ in inside) / len(inside)
            total += abs(mean - sum(r for _, r in inside) / len(inside)) * len(inside)
    return total / len(confidence)


def test_the_error_is_that_of_loops() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random((40, 10)).astype(np.float32)
    correct, judged = rng.random((40, 10)) < confidence**2, rng.random((40, 10)) < 0.7
    for bins in (1, 7, 15):
        found = jax.jit(lambda *a, n=bins: calibration.reliability(*a, bins=n))(
            confidence, correct, judged
        )
        want = plain_error(confidence[judged], correct[judged], bins)
        assert float(found.error) == pytest.approx(want, rel=1e-4)
        assert float(found.count.sum()) == judged.sum()
        assert float(found.accuracy) == pytest.approx(correct[judged].mean(), rel=1e-5)
        assert float(found.sureness) == pytest.approx(confidence[judged].mean(), rel=1e-5)
    halves = calibration.reliability(*(np.asarray([x]) for x in (0.5, True, True)), bins=2)
    np.testing.assert_array_equal(halves.count, [1, 0])
    broken = calibration.reliability(*(np.asarray([x]) for x in (np.nan, True, True)))
    assert (float(broken.count[0]), float(broken.correct[0])) == (1, 0)
    assert math.isfinite(float(broken.error))


def test_who_is_calibrated_has_no_error() -> None:
    """Right with the very probability that is said: the error of n predictions is the sampling
    error of bins, below the sum over bins of sqrt(p q n_b) / n <= sqrt(15 n / 4) / n."""
    rng = np.random.default_rng(1)
    n = 20_000
    confidence = rng.random(n)
    found = calibration.reliability(confidence, rng.random(n) < confidence, np.ones(n, bool))
    assert float(found.error) < math.sqrt(15 / (4 * n))
    sure = calibration.reliability(np.ones(n), rng.random(n) < 0.75, np.ones(n, bool))
    assert float(sure.error) == pytest.approx(0.25, abs=0.015)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("task", "count"),
    [(TASK, 3), (nar.tasks.Reverse(train_sizes=(1, 2, 3), test_sizes=(3, 5)), 1)],
    ids=["an ensemble", "one"],
)
def test_calibration_of_a_model_and_of_an_ensemble(task: Any, count: int) -> None:
    """Both kinds of output, by loops over examples and steps, on the examples of a comparison."""
    spec, size, examples = task.spec, task.test_sizes[1], 32
    keys = jax.random.split(KEY, count)
    members = jax.jit(jax.vmap(lambda key: MODEL.init(key, spec)))(keys)
    members = jax.tree.map(lambda leaf: 3 * leaf, members)
    found = calibration.calibrate(task, MODEL, members, size=size, examples=examples)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(TEST), size), 0)
    batch = task.sample(key, size, max_size=size, batch=examples)
    apply = jax.jit(jax.vmap(lambda own: MODEL.apply(own, batch.inputs, spec=spec)))
    logits = np.asarray(apply(members), np.float64)
    confidence, correct = [], []
    kind = spec.outputs[0].kind
    assert kind in ("bits", "categorical")
    means = (softmax(logits) if kind == "categorical" else 1 / (1 + np.exp(-logits))).mean(axis=0)
    for row in range(examples):
        for step in range(means.shape[1]):
            if not batch.mask[row, step]:
                continue
            if kind == "categorical":
                best = int(means[row, step].argmax())
                confidence.append(means[row, step, best])
                correct.append(best == int(batch.targets[row, step]))
                continue
            for bit, p in enumerate(means[row, step]):
                confidence.append(max(p, 1 - p))
                correct.append((p > 0.5) == (float(batch.targets[row, step, bit]) == 1))
    assert float(found.count.sum()) == len(correct)
    assert float(found.accuracy) == pytest.approx(np.mean(correct), abs=1e-6)
    assert float(found.error) == pytest.approx(plain_error(confidence, correct, 15), abs=1e-4)
    if count == 1:
        judged = Evaluator(task, MODEL).at(
            size, members, examples=examples, key=jax.random.key(TEST)
        )
        assert judged is not None
        assert float(found.accuracy) == pytest.approx(float(judged.score[0]), abs=1e-5)
    said = found.plain()
    assert sum(said["bins"]["count"]) == len(correct)
    assert said["error"] == pytest.approx(float(found.error))


def test_calibration_of_a_graph() -> None:
    """Pointers and a mask, entry by entry; a node that does not exist is not judged."""
    task = nar.tasks.get("clrs/bfs", train_sizes=(4,), test_sizes=(4,))
    spec = task.spec
    batch = task.sample(KEY, jnp.asarray([4, 3]), max_size=4, batch=2)
    field = spec.outputs[0]
    assert field.kind == "pointer"
    logits = np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float32)
    logits[1, :, 3] = -np.inf
    said = calibration.probabilities(spec, GraphOutputs({field.name: jnp.asarray(logits)}, {}))
    found = calibration.judge(spec, said, batch)
    confidence, correct = [], []
    for row, nodes in enumerate((4, 3)):
        for node in range(nodes):
            p = softmax(logits[row, node, :nodes])
            confidence.append(p.max())
            correct.append(p.argmax() == int(batch.targets[field.name][row, node]))
    assert float(found.count.sum()) == 7
    assert float(found.error) == pytest.approx(plain_error(confidence, correct, 15), abs=1e-5)


def test_calibration_that_is_refused() -> None:
    real = TaskSpec("real", (Field("x", "scalar", 1),), (Field("y", "scalar", 1),), 3, 3)
    with pytest.raises(InputError, match="task='real' has no one output with probabilities; give"):
        calibration.probabilities(real, jnp.zeros((1, 3, 1)))
    fixed = nar.models.MLP()
    with pytest.raises(InputError, match="size=6 is more than this model can run; give at most 3"):
        calibration.calibrate(TASK, fixed, fixed.init(KEY, TASK.spec), size=6)
    with pytest.raises(InputError, match="bins=0 is not allowed"):
        calibration.reliability(jnp.ones(1), jnp.ones(1, bool), jnp.ones(1, bool), bins=0)


# The best member.


def test_the_best_member_is_chosen_on_training_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five members, by hand: the one with the lowest validation loss, judged at test sizes."""
    judge = Evaluator(TASK, MODEL)
    stack = judge.initial(jax.vmap(jax.random.key)(jnp.arange(5)))
    stack = jax.tree.map(lambda leaf: leaf.at[3].set(jnp.nan), stack)
    strategy: Any = type("Five", (), {"ensemble": staticmethod(lambda *_: stack)})()
    validation = judge.in_distribution(stack, examples=64, key=jax.random.key(VALIDATION))
    assert np.isnan(validation.loss[3])
    best = int(np.nanargmin(validation.loss))
    key = jax.random.key(TEST)
    deployed = jax.tree.map(lambda leaf: leaf[0], stack)
    seen = []
    sizes = Evaluator.in_distribution
    monkeypatch.setattr(
        Evaluator, "in_distribution", lambda *a, **k: seen.append(k["key"]) or sizes(*a, **k)
    )
    found = judge.votes([Best(5)], strategy, (), deployed, seed=0, examples=64, key=key)
    assert [jax.random.key_data(own).tolist() for own in seen] == [
        jax.random.key_data(jax.random.key(VALIDATION)).tolist()
    ]
    alone = judge.grid(jax.tree.map(lambda leaf: leaf[best][None], stack), examples=64, key=key)
    for size, judged in alone.items():
        assert judged is not None
        want = judged.of(0).plain()
        assert found[str(size)] == {"best": {"score": want["score"], "exact": want["exact"]}}


def test_what_has_no_ensemble_has_no_best_member() -> None:
    strategy = Gradient()
    params = {"w": jnp.zeros(2)}
    assert Best().voters(KEY, strategy, strategy.init(KEY, params), params) is None
    assert readings.get("best", members=4) == Best(4)
    with pytest.raises(InputError, match="members=0 is not allowed"):
        Best(0)
