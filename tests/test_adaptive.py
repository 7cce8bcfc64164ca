"""SNES and PGPE against their formulas, on noise that is formed in numpy; and what widths learn."""

from __future__ import annotations

import dataclasses
import functools
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
from strategy_contracts import start

import evojax_nar as nar
from evojax_nar.noise import Dense, LowRank, Noise, Rule, Thin, normal
from evojax_nar.objective import Objective
from evojax_nar.placement import Placement
from evojax_nar.population import GaussianPairs
from evojax_nar.strategies import PGPE, SNES, optimizer
from evojax_nar.strategies.adaptive import AdaptivePairs, Separable, start_widths, unscaled
from evojax_nar.strategies.optimizer import as_optimizer
from evojax_nar.strategies.snes import utilities
from evojax_nar.types import Params

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = shared.KEY
NOISES = {"dense": Dense(), "rank 1": LowRank(), "rank 2": LowRank(rank=2)}
every_noise = pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())


def matrices() -> Params:
    """Centre with a matrix whose noise can have rank 2, and a vector."""
    rng = np.random.default_rng(3)
    shapes = {"bias": (4,), "kernel": (7, 6)}
    return {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}


def bowl(params: Params, data: Any) -> jax.Array:
    """A quadratic that is steep along some rows and columns, and skewed, so that ranks differ."""
    rows = jnp.linspace(1, 3, params["kernel"].shape[0])[:, None]
    columns = jnp.linspace(1, 2, params["kernel"].shape[1])
    loss = (rows * columns * (params["kernel"] - data) ** 2).mean()
    return loss + ((params["bias"] - data) ** 2).mean() + 0.3 * params["kernel"][0, 0]


BOWL = Objective(bowl, jnp.float32(0.2))


# The oracle: every latent number and every member formed, gradients by the density's derivative.


def utilities_in_numpy(losses: np.ndarray) -> np.ndarray:
    size = len(losses)
    raw = [max(0.0, math.log(size / 2 + 1) - math.log(k)) for k in range(1, size + 1)]
    shares = np.array(raw) / sum(raw) - 1 / size
    out = np.empty(size)
    out[np.argsort(losses)] = shares
    return out


def latent(log: Any) -> dict[str, np.ndarray]:
    """Log-deviations of the latent numbers of one leaf, by name; one line for each draw of rank."""
    if isinstance(log, Separable):
        return {"a": np.asarray(log.rows, np.float64), "b": np.asarray(log.columns, np.float64)}
    return {"s": np.asarray(log, np.float64)}


def unit(draw: Any) -> dict[str, np.ndarray]:
    """Standard normal numbers of one leaf, the axis of rank last."""
    if isinstance(draw, Thin):
        a, b = (np.asarray(factor, np.float64) for factor in (draw.a, draw.b))
        return {"a": a * math.sqrt(a.shape[1]), "b": b}
    return {"s": np.asarray(draw, np.float64)[..., None]}


def formed(values: dict[str, np.ndarray]) -> np.ndarray:
    if "s" in values:
        return values["s"][..., 0]
    return values["a"] @ values["b"].T / math.sqrt(values["a"].shape[1])


def log_density(log: np.ndarray, values: np.ndarray) -> Any:
    """Of Gaussian numbers (..., r) with deviations exp(log) (...)."""
    deviation = jnp.exp(log)[..., None]
    return (-0.5 * (values / deviation) ** 2 - jnp.log(deviation)).sum()


slope_of = jax.jit(jax.grad(log_density))


def oracle(noise: Noise, state: Any, objective: Objective, units: int) -> Any:
    """Losses (N,), each member's noise by leaf, and its natural gradient of log-deviations."""
    sigma = float(state.hyperparameters["sigma"])
    losses, noises, gradients = [], [], []
    for pair in range(units):
        draw = noise.draw(jax.random.fold_in(KEY, pair), state.centre, factors=normal)
        for sign in (1.0, -1.0):
            own, slopes = {}, {}
            for name, leaf in draw.items():
                logs = latent(state.log_widths[name])
                wide = {k: v * np.exp(logs[k])[..., None] for k, v in unit(leaf).items()}
                own[name] = sign * sigma * formed(wide)
                slopes[name] = {
                    # Fisher information of a log-deviation: 2 for every number that it scales.
                    key: np.asarray(slope_of(logs[key], value)) / (2 * value.shape[-1])
                    for key, value in wide.items()
                }
            member = {name: np.asarray(state.centre[name]) + own[name] for name in own}
            losses.append(float(objective.fn(member, objective.data)))
            noises.append(own)
            gradients.append(slopes)
    return np.array(losses), noises, gradients


def weighted(weights: np.ndarray, trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.tensordot(weights, np.stack(leaves), axes=1), *trees)


def moved_widths(state: Any) -> Any:
    """The state with widths that all differ, so that each must be read where it belongs."""
    rng = np.random.default_rng(5)
    widths = jax.tree.map(
        lambda log: log + jnp.asarray(0.3 * rng.normal(size=log.shape), jnp.float32),
        state.log_widths,
    )
    return state._replace(log_widths=widths)


def check_widths(found: Any, expected: Any) -> None:
    for name, log in found.items():
        for key, value in latent(log).items():
            np.testing.assert_allclose(value, expected[name][key], rtol=1e-4, atol=1e-5)


@every_noise
def test_snes_moves_as_written(noise: Noise) -> None:
    strategy = SNES(population=16, sigma=0.3, centre_learning_rate=0.7, noise=noise)
    state = moved_widths(strategy.init(KEY, matrices()))
    after, info = shared.step(strategy, KEY, state, BOWL)
    with jax.enable_x64(True):
        losses, noises, gradients = oracle(noise, state, BOWL, 8)
    weights = utilities_in_numpy(losses)
    step, slopes = weighted(weights, noises), weighted(weights, gradients)
    for name, leaf in after.centre.items():
        expected = state.centre[name] + 0.7 * step[name]
        np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-5)
    thin = not isinstance(noise, Dense)
    count = 4 + (7 + 6 if thin else 7 * 6)
    rate = (3 + math.log(count)) / (5 * math.sqrt(count))
    assert float(state.hyperparameters["sigma_learning_rate"]) == pytest.approx(rate)
    logs = {name: latent(log) for name, log in state.log_widths.items()}
    check_widths(after.log_widths, jax.tree.map(lambda x, slope: x + rate * slope, logs, slopes))
    np.testing.assert_allclose(info.loss, losses.mean(), rtol=1e-5)
    entries = np.concatenate(
        [
            np.ravel(v["s"] if "s" in v else v["a"][:, None] + v["b"])
            for v in map(latent, after.log_widths.values())
        ]
    )
    assert float(info.diagnostics["sigma"]) == pytest.approx(0.3 * np.exp(entries.mean()), rel=1e-4)


@every_noise
def test_pgpe_moves_as_written(noise: Noise) -> None:
    strategy = PGPE(16, 0.3, optax.sgd(0.5), sigma_learning_rate=10.0, max_change=0.15, noise=noise)
    state = moved_widths(strategy.init(KEY, matrices()))
    after, _ = shared.step(strategy, KEY, state, BOWL)
    with jax.enable_x64(True):
        losses, noises, gradients = oracle(noise, state, BOWL, 8)
    weights = (scipy.stats.rankdata(losses) - 1) / 15 - 0.5
    step = weighted(weights / 16, noises)
    for name, leaf in after.centre.items():
        expected = state.centre[name] - 0.5 * step[name]
        np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-5)
    # Their update of a deviation has sigma (s^2 - 1), which is twice the natural gradient.
    changes = jax.tree.map(lambda x: -10.0 * 2 * x, weighted(weights / 16, gradients))
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(changes))
    assert largest > 0.15, "the limit is reached"
    expected = {
        name: {
            key: log + np.log(1 + np.clip(changes[name][key], -0.15, 0.15))
            for key, log in latent(state.log_widths[name]).items()
        }
        for name in changes
    }
    check_widths(after.log_widths, expected)


def test_row_and_column_widths_tend_to_a_fit_of_elementwise_ones() -> None:
    rng = np.random.default_rng(0)

    def distance(rows: int, columns: int, rank: int = 2) -> float:
        """Between ours and the least-squares fit of the elementwise gradient, one draw."""
        a, b = rng.normal(size=(rows, rank)), rng.normal(size=(columns, rank))
        ours = ((a**2).mean(axis=1) - 1)[:, None] + ((b**2).mean(axis=1) - 1)
        entries = (a @ b.T) ** 2 / rank - 1
        fit = entries.mean(axis=1)[:, None] + entries.mean(axis=0) - entries.mean()
        return float(np.linalg.norm(ours - fit) / np.linalg.norm(fit))

    small, large = (np.mean([distance(8 * k, 6 * k) for _ in range(20)]) for k in (4, 64))
    assert large < 0.15
    assert large < 0.4 * small


# Members.


def test_members_start_as_those_of_a_fixed_width() -> None:
    params = {**matrices(), "still": jnp.ones((3, 3)), "twice": jnp.ones((5, 4))}
    rules = (Rule("still", frozen=True), Rule("twice", scale=2.0), Rule("bias", scale=0.5))

    def loss(params: Params, data: Any) -> jax.Array:
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(params)) + data  # type: ignore

    for noise in (Dense(rules=rules), LowRank(rank=2, factors=normal, rules=rules)):
        widths = start_widths(noise, params)
        assert widths["still"] is None
        objective = Objective(loss, jnp.float32(0), placement=Placement(chunk=3))
        ours = AdaptivePairs(params, widths, jnp.float32(0.3), KEY, 5, unscaled(noise))
        fixed = GaussianPairs(params, KEY, jnp.float32(0.3), 5, noise)
        weights = jnp.asarray(np.random.default_rng(1).normal(size=(10, 2)), jnp.float32)
        population, combine = jax.jit(Objective.population), jax.jit(Objective.combine)
        found, _ = population(objective, ours)
        expected, _ = population(objective, fixed)
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)
        first, second = combine(objective, ours, weights)
        summed = jax.tree.map(lambda leaf: 0.3 * leaf, combine(objective, fixed, weights[:, 0]))
        chex.assert_trees_all_close(first, summed, rtol=1e-4, atol=1e-5)
        assert jax.tree.structure(second) == jax.tree.structure(widths)
        assert not first["still"].any()


def test_both_moments_are_one_sum_wherever_they_are_made() -> None:
    noise, params = LowRank(rank=2), matrices()
    members = AdaptivePairs(params, start_widths(noise, params), jnp.float32(0.3), KEY, 10, noise)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(20, 2)), jnp.float32)
    combine = jax.jit(lambda objective, members: objective.combine(members, weights))
    results = []
    placements = (Placement(), Placement(chunk=3), Placement(mesh=shared.mesh(4), chunk=2))
    for placement in placements:
        objective = dataclasses.replace(BOWL, placement=placement)
        results.append(jax.device_get(combine(objective, members)))
        chex.assert_trees_all_close(results[-1], results[0], rtol=1e-4, atol=1e-5)
    program = combine.lower(objective, members).compile().as_text() or ""
    assert len(re.findall(r" all-reduce(?:-start)?\(", program)) == 1


SIZES = (24, 19, 2)


def network(params: Params, data: Any) -> jax.Array:
    x, y = data
    hidden = jnp.tanh(x @ params["one"] + params["bias"])
    return ((hidden @ params["two"] - y) ** 2).mean()


def shapes(jaxpr: Any) -> Any:
    """Shapes of everything that a program makes, also inside of what it calls."""
    for equation in jaxpr.eqns:
        yield from (tuple(out.aval.shape) for out in equation.outvars)
        for value in equation.params.values():
            for item in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(item, "jaxpr", item)
                if hasattr(inner, "eqns"):
                    yield from shapes(inner)


@pytest.mark.parametrize("cls", [SNES, PGPE])
def test_no_member_forms_a_matrix(cls: Any) -> None:
    inputs, hidden, outputs = SIZES
    params = {
        "one": jnp.ones((inputs, hidden)),
        "two": jnp.ones((hidden, outputs)),
        "bias": jnp.zeros(hidden),
    }
    objective = Objective(network, (jnp.ones((5, inputs)), jnp.ones((5, outputs))))
    pairs = 16

    def largest(noise: Noise) -> int:
        strategy = cls(population=2 * pairs, noise=noise)
        state = strategy.init(KEY, params)
        program = jax.make_jaxpr(strategy.step)(KEY, state, objective)
        return max(math.prod(shape) for shape in shapes(program.jaxpr))

    # The random numbers of all pairs are the largest thing there is.
    drawn = 2 * pairs * (inputs + hidden + hidden * outputs + hidden)
    assert largest(LowRank()) <= drawn < pairs * inputs * hidden <= largest(Dense())


# What is learned.


@functools.cache
def rules_at_an_optimum(cls: Any) -> Any:
    if cls is SNES:
        return SNES(population=64, sigma=0.1)
    return PGPE(64, 0.1, optimizer("clipup", learning_rate=0.003), sigma_learning_rate=0.3)


@pytest.mark.parametrize("noise", [Dense(), LowRank()], ids=["dense", "rank 1"])
@pytest.mark.parametrize("cls", [SNES, PGPE])
def test_widths_shrink_at_an_optimum(cls: Any, noise: Noise) -> None:
    strategy = dataclasses.replace(rules_at_an_optimum(cls), noise=noise)
    optimum = {"bias": jnp.full(4, 0.2), "kernel": jnp.full((7, 6), 0.2)}
    objective = Objective(level, jnp.float32(0.2))
    _, info = shared.run(strategy, KEY, strategy.init(KEY, optimum), objective, 150)
    sigma = info.diagnostics["sigma"]
    assert float(sigma[-1]) < 0.5 * float(sigma[0])


def level(params: Params, data: Any) -> jax.Array:
    return sum(((leaf - data) ** 2).sum() for leaf in jax.tree.leaves(params))  # type: ignore


def valley(params: Params, data: Any) -> jax.Array:
    """Steep in the first row and the first column, flat in the last."""
    rows, columns = (10.0 ** jnp.linspace(1, -1, size) for size in params["kernel"].shape)
    return (rows[:, None] * columns * (params["kernel"] - data) ** 2).sum()


@pytest.mark.parametrize("noise", [Dense(), LowRank()], ids=["dense", "rank 1"])
def test_widths_are_narrow_where_it_is_steep(noise: Noise) -> None:
    strategy = SNES(population=128, sigma=0.1, noise=noise)
    state = strategy.init(KEY, {"kernel": jnp.zeros((5, 4))})
    state, info = shared.run(strategy, KEY, state, Objective(valley, jnp.float32(0.2)), 150)
    log = state.log_widths["kernel"]
    if isinstance(log, Separable):
        log = log.rows[:, None] + log.columns
    # The scale that suits a curvature c is c^(-1/2): a tenth from corner to corner.
    assert float(log[0, 0]) < float(log[-1, -1]) - 1
    assert float(log[0].mean()) < float(log[-1].mean()) - 0.5
    assert float(log[:, 0].mean()) < float(log[:, -1].mean()) - 0.5
    assert float(info.loss[-1]) < 1e-3 * float(info.loss[0])


# Utilities and ClipUp.


def test_utilities_share_ties_and_put_the_broken_last() -> None:
    losses = np.array([3, 1, np.nan, 2, 2, np.inf, 5, -np.inf], np.float32)
    found = np.asarray(jax.jit(utilities)(jnp.asarray(losses)))
    # In order: 1; 2 and 2, which share; 3; 5; and three that are not finite.
    sole = utilities_in_numpy(np.arange(8.0))
    order = [[1], [3, 4], [0], [6], [2, 5, 7]]
    expected, rank = np.empty(8), 0
    for group in order:
        expected[group] = sole[rank : rank + len(group)].mean()
        rank += len(group)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert abs(found.sum()) < 1e-6
    assert not np.asarray(utilities(jnp.full(6, jnp.nan))).round(6).any()


@pytest.mark.parametrize("max_speed", [None, 0.4])
def test_clipup_is_a_velocity_of_limited_length(max_speed: float | None) -> None:
    numbers = {} if max_speed is None else {"max_speed": max_speed}
    rule = optimizer("clipup", learning_rate=0.3, momentum=0.8, **numbers)
    params = start()
    state, velocity = rule.init(params), np.zeros(6)
    assert as_optimizer("optimizer", rule.settings()) == rule
    lengths = []
    for factor in (1.0, 5.0, 0.2, 0.0, -1.0):
        gradient = jax.tree.map(lambda leaf, factor=factor: factor * leaf, params)
        updates, state = rule.update(gradient, state, params)
        flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])
        velocity = 0.8 * velocity + 0.3 * flat / max(np.linalg.norm(flat), 1e-30)
        lengths.append(np.linalg.norm(velocity))
        velocity *= min(1.0, (max_speed or 0.6) / lengths[-1])
        found = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(updates)])
        np.testing.assert_allclose(found, -velocity, rtol=1e-5, atol=1e-7)
    assert max(lengths) > (max_speed or 0.6), "the limit is reached"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SNES(population=7), "population=7 cannot be divided into antithetic pairs; give"),
        (lambda: SNES(sigma=0), "sigma=0 is not allowed; give a finite number above 0."),
        (lambda: SNES(centre_learning_rate=0), "centre_learning_rate=0 is not allowed; give a fin"),
        (lambda: SNES(sigma_learning_rate=-1), "sigma_learning_rate=-1 is below 0; give 0 or more"),
        (lambda: SNES(noise=3), "noise=3 is no noise rule; give one such"),  # type: ignore
        (lambda: PGPE(population=7), "population=7 cannot be divided into antithetic pairs; give"),
        (lambda: PGPE(max_change=1.0), "max_change=1.0 lets a width become negative; give a num"),
        (lambda: PGPE(sigma_learning_rate=-1), "sigma_learning_rate=-1 is below 0; give 0 or more"),
        (lambda: nar.strategies.get("pgpe", shaping="sign"), "shaping='sign' sums to zero in eve"),
        (lambda: nar.strategies.get("pgpe", shaping="rank"), "shaping='rank' is not known; did y"),
        (
            lambda: optimizer("clipup", learning_rate=1, max_sped=1),
            "optimizer='clipup' has no setting 'max_sped'; did you mean 'max_speed'?",
        ),
    ],
)
def test_settings_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(nar.InputError, match=f"^{re.escape(sentence)}"):
        make()


def test_noise_is_a_setting_of_both() -> None:
    for cls in (SNES, PGPE):
        strategy = cls(noise=LowRank(rank=2))
        assert nar.strategies.get(cls.name, **strategy.settings()) == strategy
