"""Each strategy against its written formula, in numpy or in plain optax."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
import strategy_contracts as shared
from strategy_contracts import OPEN, TARGET, WALLED, quadratic, start

from evojax_nar import strategies
from evojax_nar.errors import InputError
from evojax_nar.objective import Objective
from evojax_nar.strategies import (
    ES,
    GeneticAlgorithm,
    Gradient,
    RandomSearch,
    optimizer,
    shaping,
)
from evojax_nar.strategies.optimizer import NAMES as OPTIMIZERS
from evojax_nar.types import Evaluation, Params

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = shared.KEY


def flatten(params: Params) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)]).astype(np.float64)


def flatten_rows(stacked: Params) -> np.ndarray:
    """The same of each of E parameter sets, (E, D)."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(stacked)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


# Evolution strategy.


def pairs(key: jax.Array, units: int) -> np.ndarray:
    """Noise of every member (N, D): the draw of its pair, with its sign."""
    keys = [jax.random.fold_in(key, unit) for unit in range(units)]
    half = np.stack([np.asarray(jax.random.normal(key, (6,)), np.float64) for key in keys])
    return np.stack([half, -half], axis=1).reshape(-1, 6)


def weights_in_numpy(rule: str, losses: np.ndarray) -> np.ndarray:
    """The shaping rules as they are written, with what is not finite as bad as can be."""
    if rule == "centered_rank":
        worst_last = np.where(np.isfinite(losses), losses, np.inf)
        return (scipy.stats.rankdata(worst_last) - 1) / (len(losses) - 1) - 0.5
    if rule == "z_score":
        filled = np.where(np.isfinite(losses), losses, losses[np.isfinite(losses)].max())
        return (filled - filled.mean()) / (filled.std() or 1)
    weights = []
    for first, second in np.where(np.isfinite(losses), losses, np.inf).reshape(-1, 2):
        worse = float(first > second) - float(first < second)
        weights += [worse / 2, -worse / 2]
    return np.array(weights)


@pytest.mark.parametrize("objective", [OPEN, WALLED], ids=["all finite", "some broken"])
@pytest.mark.parametrize("rule", list(shaping.RULES))
def test_es_moves_by_the_written_estimate(rule: str, objective: Objective) -> None:
    population, sigma, decay = 10, 0.2, 0.3
    strategy = ES(population, sigma, optax.sgd(1.0), shaping.RULES[rule], weight_decay=decay)
    state, info = shared.step(strategy, KEY, strategy.init(KEY, start()), objective)
    centre, noise = flatten(start()), pairs(KEY, population // 2)
    members = centre + sigma * noise
    losses = ((members - TARGET) ** 2).mean(axis=1)
    losses[members[:, 0] > float(objective.data)] = np.nan
    assert np.isnan(losses).any() == (objective is WALLED)
    weights = weights_in_numpy(rule, losses)
    estimate = (weights[:, None] * noise).sum(axis=0) / (population * sigma) + decay * centre
    moved = flatten(strategy.params(state))
    np.testing.assert_allclose(moved, centre - estimate, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(info.loss, np.nanmean(losses), rtol=1e-5)
    np.testing.assert_allclose(info.diagnostics["best"], np.nanmin(losses), rtol=1e-5)
    np.testing.assert_allclose(info.diagnostics["finite"], np.isfinite(losses).mean(), rtol=1e-6)
    norm = info.diagnostics["estimate_norm"]
    np.testing.assert_allclose(norm, np.linalg.norm(estimate), rtol=1e-5)
    assert int(state.generation) == 1


@pytest.mark.parametrize("rule", list(shaping.RULES))
@pytest.mark.parametrize(
    "losses",
    [
        [3, 1, 2, 2, 2, 5, -7, 1],
        [3, math.nan, 2, math.inf, -math.inf, math.nan, 0, 1],
        [math.inf, 4, math.nan, math.nan, 4, 4, 4, math.nan],
        [1e-6, 1.1e-6, 1e-6, 0.9e-6],
    ],
    ids=["ties", "some broken", "ties and many broken", "small"],
)
def test_shaping_rules(rule: str, losses: list[float]) -> None:
    given = np.array(losses, np.float32)
    weights = np.asarray(shaping.RULES[rule](jnp.asarray(given)))
    assert weights.dtype == np.float32
    expected = weights_in_numpy(rule, given.astype(np.float64))
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=2e-6)
    assert abs(weights.sum()) < 1e-5
    broken = ~np.isfinite(given)
    if broken.any() and rule != "sign":
        assert (weights[broken] == weights.max()).all()


@pytest.mark.parametrize("rule", list(shaping.RULES))
def test_shaping_of_losses_that_overflow_or_say_nothing(rule: str) -> None:
    for losses in ([3e38, 2e38, 1e38, -3e38], [math.nan] * 4, [0.1] * 4, [0.0] * 4):
        weights = np.asarray(shaping.RULES[rule](jnp.asarray(losses, jnp.float32)))
        assert np.isfinite(weights).all()
        assert abs(weights.sum()) < 1e-5
        if losses[0] == 3e38:
            assert weights[3] == weights.min() < weights[0] == weights.max()
        else:
            assert not weights.any()


def test_sigma_follows_its_schedule() -> None:
    schedule = optax.linear_schedule(0.5, 0.1, 2)
    strategy = ES(4, schedule, optax.sgd(0.1))
    state = strategy.init(KEY, start())
    assert list(strategy.hyperparameters(state)) == ["weight_decay"]
    for sigma in (0.5, 0.3, 0.1, 0.1):
        state, info = shared.step(strategy, KEY, state, OPEN)
        assert float(info.diagnostics["sigma"]) == pytest.approx(sigma)
    with pytest.raises(InputError, match=r"sigma='.*', which was made in a script"):
        strategies.get("es", **strategy.settings())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ES(population=7), "population=7 cannot be divided into antithetic pairs; give an"),
        (lambda: ES(population=0), "population=0 cannot be divided"),
        (lambda: ES(population=8.0), "population=8.0 cannot be divided"),  # type: ignore[arg-type]
        (lambda: ES(sigma=0.0), "sigma=0.0 is not allowed; give a finite number above 0."),
        (lambda: ES(weight_decay=-1.0), "weight_decay=-1.0 is below 0; give 0 or more."),
        (lambda: strategies.get("es", shaping="rank"), "shaping='rank' is not known; did you mean"),
        (lambda: strategies.get("es", fitness="los"), "fitness='los' is not known; did you mean"),
        (lambda: strategies.get("es", optimizer=3), "optimizer=3 is not an optimiser; give an op"),
        (lambda: strategies.get("es", optimizer={"lr": 1}), "optimizer={'lr': 1} has no name; ad"),
        (lambda: strategies.get("ess"), "strategy='ess' is not known; did you mean 'es'?"),
        (lambda: strategies.get("es", sigme=1), "strategy='es' has no setting 'sigme'; did you"),
        (lambda: GeneticAlgorithm(8, elites=8), "elites=8 leaves no room for offspring; give few"),
        (lambda: GeneticAlgorithm(8, elites=0), "elites=0 is not allowed"),
        (lambda: GeneticAlgorithm(capacity=0), "capacity=0 is not allowed"),
        (lambda: GeneticAlgorithm(sigma=math.inf), "sigma=inf is not allowed"),
        (lambda: RandomSearch(population=1), "population=1 is not allowed; give a whole number o"),
        (lambda: RandomSearch(sigma=-1), "sigma=-1 is not allowed; give a finite number above 0"),
    ],
)
def test_settings_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}"):
        make()


# Genetic algorithm.


def test_genomes_rebuild_the_elites() -> None:
    strategy = GeneticAlgorithm(population=24, elites=6, sigma=0.1, capacity=3)
    state = strategy.init(KEY, start())
    rebuild = jax.jit(strategy.rebuild)
    lengths: list[list[int]] = []
    proven = 0
    for generation in range(12):
        before = state
        state, info = shared.step(strategy, jax.random.key(generation), state, OPEN)
        chex.assert_trees_all_close(rebuild(state.genomes), state.elites, rtol=1e-5, atol=1e-6)
        elites = flatten_rows(state.elites)
        losses = ((elites - TARGET) ** 2).mean(axis=1)
        assert (np.diff(losses) >= -1e-7).all(), "from best to worst"
        assert losses[0] == pytest.approx(float(info.diagnostics["best"]), rel=1e-5)
        lengths.append(state.genomes.length.tolist())
        # What is deployed was an elite before, unless all of them are new.
        old = flatten_rows(before.elites)
        deployed = flatten(strategy.params(state))
        is_old = [(row == old).all(axis=1).any() for row in elites]
        assert np.mean(is_old) == pytest.approx(1 - float(info.diagnostics["new_elites"]))
        first = is_old.index(True) if any(is_old) else 0
        np.testing.assert_array_equal(deployed, elites[first])
        proven += any(is_old) and not is_old[0]
    assert proven, "the best elite was new and the deployed one was not"
    # Chains grew to their capacity, and were folded into their bases.
    assert max(map(max, lengths)) == 3
    assert any(min(later) < min(sooner) for sooner, later in itertools.pairwise(lengths))
    bases = flatten_rows(state.genomes.base)
    assert not (bases == flatten(start())).all(axis=1).any()


def only_far_ones_are_finite(params: Params, data: Any) -> jax.Array:
    """Loss of the first number, finite only where it has moved from its start."""
    moved = params["b"][0] - 0.5
    return jnp.where(moved > data, moved, jnp.nan)


def test_a_broken_elite_is_not_deployed() -> None:
    strategy = GeneticAlgorithm(population=12, elites=8, sigma=0.1, capacity=4)
    objective = Objective(only_far_ones_are_finite, jnp.float32(0.05))
    state, info = shared.step(strategy, KEY, strategy.init(KEY, start()), objective)
    assert 0 < float(info.diagnostics["finite"]) < 4 / 12 + 1e-6
    assert bool(jnp.isfinite(objective(strategy.params(state))[0].loss))


# Random search.


def test_the_incumbent_never_gets_worse() -> None:
    strategy = RandomSearch(population=6, sigma=0.4)
    state = strategy.init(KEY, start())
    losses, replaced = [float(quadratic(start(), 9))], []
    for generation in range(20):
        before = flatten(state.incumbent)
        state, info = shared.step(strategy, jax.random.key(generation), state, OPEN)
        losses.append(float(quadratic(strategy.params(state), 9)))
        assert losses[-1] == pytest.approx(float(info.diagnostics["best"]), rel=1e-5)
        same = np.array_equal(before, flatten(state.incumbent))
        assert bool(info.diagnostics["replaced"]) != same
        replaced.append(not same)
        chex.assert_trees_all_equal(state.start, start())
    assert (np.diff(losses) <= 0).all()
    assert 0 < sum(replaced) < 20


# Gradient.


@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance"),
    [
        (optax.adam(1e-2), optax.adam(1e-2), 1e-6),
        # Its numbers are kept in float32, where optax has them in Python's own precision.
        (optimizer("adam", learning_rate=1e-2, b1=0.8), optax.adam(1e-2, b1=0.8), 1e-5),
        (
            optimizer("sgd", learning_rate=0.1, momentum=0.9, nesterov=True, clip=0.5),
            optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1, 0.9, nesterov=True)),
            1e-6,
        ),
    ],
    ids=["optax", "named", "clipped"],
)
def test_gradient_is_the_loop_one_would_write(ours: Any, theirs: Any, tolerance: float) -> None:
    strategy, steps = Gradient(ours), 20

    @jax.jit
    def loop(params: Params) -> tuple[Params, jax.Array]:
        def body(carry: Any, _: None) -> Any:
            params, inner = carry
            loss, gradient = jax.value_and_grad(quadratic)(params, OPEN.data)
            updates, inner = theirs.update(gradient, inner, params)
            return (optax.apply_updates(params, updates), inner), loss

        (params, _), losses = jax.lax.scan(body, (params, theirs.init(params)), length=steps)
        return params, losses

    state, info = shared.run(strategy, KEY, strategy.init(KEY, start()), OPEN, steps)
    params, losses = loop(start())
    chex.assert_trees_all_close(strategy.params(state), params, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(info.loss, losses, rtol=tolerance)
    gradient = 2 * (flatten(start()) - TARGET) / 6
    norm = info.diagnostics["gradient_norm"][0]
    assert float(norm) == pytest.approx(np.linalg.norm(gradient), rel=1e-5)


def cliff(params: Params, data: Any) -> Evaluation:
    """A finite loss whose gradient at 0 is not."""
    return Evaluation(jnp.sqrt(jnp.abs(params["x"])).sum() + data, jnp.ones(()))


def test_a_gradient_that_is_not_finite_is_not_followed() -> None:
    strategy = Gradient(optimizer("adam", learning_rate=0.1))
    state = strategy.init(KEY, {"x": jnp.asarray([1.0, 0.0])})
    after, info = shared.step(strategy, KEY, state, Objective(cliff, jnp.float32(0)))
    assert math.isfinite(info.loss)
    assert not bool(info.healthy)
    chex.assert_trees_all_equal(after, state)


# Optimisers by name.


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_named_optimisers_are_those_of_optax(name: str) -> None:
    ours, theirs = optimizer(name, learning_rate=0.05), getattr(optax, name)(0.05)
    params = start()

    @jax.jit
    def both(states: Any, gradient: Params) -> Any:
        pairs = [
            rule.update(gradient, state, params)
            for rule, state in zip((ours, theirs), states, strict=True)
        ]
        return tuple(zip(*pairs, strict=True))

    states = (ours.init(params), theirs.init(params))
    for scale in (1.0, -0.3, 2.0):
        updates, states = both(states, jax.tree.map(lambda leaf, scale=scale: scale * leaf, params))
        chex.assert_trees_all_close(updates[0], updates[1], rtol=1e-5)
    assert ours == optimizer(**ours.settings())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "adan"}, "optimizer='adan' is not known; did you mean 'adam'?"),
        ({"name": "adam"}, "optimizer='adam' needs the setting 'learning_rate'; give it a value"),
        (
            {"name": "adam", "lerning_rate": 1},
            "optimizer='adam' has no setting 'lerning_rate'; did you mean 'learning_rate'?",
        ),
        (
            {"name": "sgd", "learning_rate": math.nan},
            "optimizer.learning_rate=nan is not allowed; give a finite number.",
        ),
        (
            {"name": "sgd", "learning_rate": "fast"},
            "optimizer.learning_rate='fast' is not a number; give a finite number.",
        ),
        (
            {"name": "sgd", "learning_rate": True},
            "optimizer.learning_rate=True is not a number; give a finite number.",
        ),
        (
            {"name": "sgd", "learning_rate": 0.1, "nesterov": 1},
            "optimizer.nesterov=1 is not allowed; give true or false.",
        ),
        (
            {"name": "adamw", "learning_rate": 0.1, "mask": 1.0},
            "optimizer.mask=1.0 is not a number in optax; leave it out.",
        ),
        (
            {"name": "lion", "learning_rate": 0.1, "mu_dtype": 2.0},
            "optimizer.mu_dtype=2.0 is not a number in optax; leave it out.",
        ),
        (
            {"name": "sgd", "learning_rate": 0.1, "clip": 0},
            "optimizer.clip=0 is not allowed; give a finite number above 0.",
        ),
    ],
)
def test_optimisers_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        optimizer(**arguments)
