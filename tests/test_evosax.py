"""The strategies of evosax inside ours: what they learn, and what is refused beforehand."""

from __future__ import annotations

import math
import re
import resource
import time
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import strategy_contracts as shared
from strategy_contracts import OPEN, WALLED, quadratic, start

from evojax_nar import strategies
from evojax_nar.errors import InputError
from evojax_nar.objective import Objective
from evojax_nar.strategies import Evosax, evosax_adapter
from evojax_nar.types import Params

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = shared.KEY

NAMES = ("CMA_ES", "Sep_CMA_ES", "PGPE", "Open_ES", "LES", "SimpleGA", "PSO")
NAMES = (*NAMES, "DifferentialEvolution", "GradientlessDescent")


@pytest.mark.parametrize("name", NAMES)
def test_evosax_learns_and_survives_broken_members(name: str) -> None:
    strategy, steps = Evosax(name, population=32), 60
    begun = strategy.init(KEY, start())
    before = float(quadratic(start(), 9))
    for objective in (OPEN, WALLED):
        state, info = shared.run(strategy, KEY, begun, objective, steps)
        deployed = strategy.params(state)
        assert float(quadratic(deployed, 9)) < 0.25 * before
        assert bool(info.healthy.all())
        assert int(info.forwards.sum()) == steps * strategy.cost.forwards
        chex.assert_tree_all_finite(state.inner)


def hit(params: Params, data: Params) -> jax.Array:
    """Loss 0 at the parameters in the data, and 1 everywhere else."""
    same = jax.tree.map(lambda own, wanted: (own == wanted).all(), params, data)
    return 1.0 - jnp.stack(jax.tree.leaves(same)).all()


@pytest.mark.parametrize("name", ["SimpleGA", "DifferentialEvolution"])
def test_the_first_step_evaluates_the_first_population(name: str) -> None:
    strategy = Evosax(name, population=16)
    begun = strategy.init(KEY, start())
    chex.assert_trees_all_equal(strategy.params(begun), start())
    state, info = shared.step(strategy, KEY, begun, Objective(hit, start()))
    assert float(info.diagnostics["best"]) == 0, "the start is one of its members"
    chex.assert_trees_all_equal(strategy.params(state), start())
    chex.assert_trees_all_equal(state.inner.population, begun.inner.population)


@pytest.mark.parametrize("name", sorted(evosax_adapter.EXCLUDED))
def test_evosax_names_that_are_excluded(name: str) -> None:
    reason = evosax_adapter.EXCLUDED[name]
    with pytest.raises(InputError, match=re.escape(f"algorithm={name!r} is excluded: {reason}")):
        Evosax(name)
    assert name in evosax_adapter.algorithms
    assert name not in evosax_adapter.names()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"algorithm": "CMAES"}, "algorithm='CMAES' is not known; did you mean 'CMA_ES'?"),
        ({"algorithm": "Open_ES", "population": 7}, "population=7 does not suit Open_ES: "),
        ({"numbers": {"lr_std": 1.0}}, "numbers of SNES='lr_std' is not known; did you mean 'lr_"),
        ({"numbers": {"lr_std_init": math.nan}}, "numbers.lr_std_init=nan is not allowed"),
        ({"algorithm": "CMA_ES", "optimizer": optax.sgd(1.0)}, "optimizer=Gradient"),
        ({"std": 0}, "std=0 is not allowed; give a finite number above 0."),
        ({"population": 3}, "population=3 is not allowed; give a whole number of at least 4."),
    ],
)
def test_evosax_settings_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}"):
        Evosax(**arguments)


def test_evosax_numbers_reach_the_strategy() -> None:
    slow = Evosax("SNES", population=8, std=0.25, numbers={"lr_std_init": 1e-3})
    state = slow.init(KEY, start())
    np.testing.assert_allclose(state.inner.std, 0.25)
    after, _ = shared.step(slow, KEY, state, OPEN)
    fast, _ = shared.step(Evosax("SNES", population=8, std=0.25), KEY, state, OPEN)
    chex.assert_trees_all_equal(after.inner.mean, fast.inner.mean)
    np.testing.assert_allclose(after.inner.std, 0.25, rtol=0.01)
    twin = strategies.get("evosax", **slow.settings())
    assert twin == slow
    # A number that evosax reads for its first state alone is not offered to a sweep of states.
    assert slow.hyperparameters(state) == {}


def test_members_that_are_too_many_for_a_rate() -> None:
    with pytest.raises(
        InputError, match="population=12 is too large for LM_MA_ES and a model of 6"
    ):
        Evosax("LM_MA_ES", population=12).init(KEY, start())
    strategy = Evosax("LM_MA_ES", population=10)
    state, info = shared.step(strategy, KEY, strategy.init(KEY, start()), OPEN)
    assert bool(info.healthy)
    chex.assert_tree_all_finite(state.inner.M)


def test_a_covariance_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = (
        r"algorithm='CMA_ES' needs about (?P<needed>.*) for a model of (?P<count>\d+) parameters "
        r"and .* are free; use a strategy whose memory is linear in the parameters"
    )
    strategy = Evosax("CMA_ES", population=8)
    monkeypatch.setattr(evosax_adapter, "available_bytes", lambda: 1000)
    with pytest.raises(InputError, match=refusal) as caught:
        strategy.init(KEY, start())
    assert "for a model of 6 parameters and 1000 B are free" in str(caught.value)
    # Three matrices of D squared would be 436 GiB: the state is predicted, and not made.
    monkeypatch.setattr(evosax_adapter, "available_bytes", lambda: 64 * 2**30)
    count, began = 200_000, time.monotonic()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=refusal) as caught:
        strategy.init(KEY, {"w": jnp.zeros(count)})
    needed = re.search(refusal, str(caught.value))
    assert needed is not None
    number, unit = needed["needed"].split()
    assert unit == "GiB"
    assert 3 * 4 * count**2 <= float(number) * 2**30 <= 12 * 4 * count**2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 2**20, "in KiB"
    assert time.monotonic() - began < 30
    # What is linear in the parameters fits.
    Evosax("SNES", population=8).init(KEY, {"w": jnp.zeros(count)})
