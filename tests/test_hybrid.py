"""Strategies made of others: against their parts run by hand, and what is really computed."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import strategy_contracts as shared
import yaml

import evojax_nar as nar
from evojax_nar import listing, strategies
from evojax_nar.errors import InputError
from evojax_nar.objective import Objective
from evojax_nar.placement import recording
from evojax_nar.strategies import (
    ES,
    SNES,
    BitFlip,
    ConditionalGradient,
    Gradient,
    HandOver,
    evosax_adapter,
)
from evojax_nar.strategies.hybrid.branching import either
from evojax_nar.strategies.hybrid.parts import as_strategy

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = shared.KEY
calls: collections.Counter[str] = collections.Counter()


def say(name: str, value: jax.Array) -> jax.Array:
    """`value`, and a note on the host that it was computed."""
    jax.debug.callback(lambda _: calls.update([name]), value)
    return value


def listen() -> None:
    """Forget what was computed so far, once all of it has been heard of."""
    jax.effects_barrier()
    calls.clear()


@pytest.mark.parametrize(
    ("rows", "runs"),
    [
        ([True], {"true"}),
        ([True, True, True], {"true"}),
        ([False, False, False], {"false"}),
        ([True, False, True], {"true", "false"}),
        ([[True, True], [True, True]], {"true"}),
        ([[False, False], [False, False]], {"false"}),
        ([[True, True], [False, False]], {"true", "false"}),
    ],
)
def test_one_side_alone_is_computed_where_rows_agree(rows: Any, runs: set[str]) -> None:
    chosen = np.asarray(rows)

    def one(predicate: jax.Array, x: jax.Array) -> jax.Array:
        return either(
            predicate,
            lambda x, y: say("true", 3 * x + y),
            lambda x, y: say("false", -x + y),
            x,
            jnp.float32(1),
        )

    function = one
    for _ in range(chosen.ndim):
        function = jax.vmap(function)
    x = np.arange(chosen.size, dtype=np.float32).reshape(chosen.shape)
    listen()
    found = jax.block_until_ready(jax.jit(function)(chosen, x))
    jax.effects_barrier()
    np.testing.assert_array_equal(found, np.where(chosen, 3 * x, -x) + 1)
    assert set(calls) == runs


def test_a_predicate_that_rows_share() -> None:
    """Operands have rows and the predicate has none, at either depth of vmap."""

    def one(predicate: jax.Array, x: jax.Array) -> jax.Array:
        return either(predicate, lambda x: say("true", x + 1), lambda x: say("false", x - 1), x)

    inner = jax.vmap(one, in_axes=(None, 0))
    x = jnp.arange(6.0).reshape(2, 3)
    for function, predicate, want in (
        (jax.vmap(inner, in_axes=(None, 0)), jnp.asarray(True), x + 1),
        (jax.vmap(inner), jnp.asarray([False, False]), x - 1),
    ):
        listen()
        found = jax.block_until_ready(jax.jit(function)(predicate, x))
        jax.effects_barrier()
        np.testing.assert_array_equal(found, want)
        assert len(calls) == 1


def counted(params: Any, data: Any) -> jax.Array:
    """A quadratic; each evaluation is noted on the host."""
    w, b = params["w"], params["b"]
    return say("evaluation", ((w - 0.5) ** 2).sum() + ((b + 0.3) ** 2).sum() + 0 * data)


def start() -> dict[str, jax.Array]:
    return {"w": jnp.zeros((2, 2)), "b": jnp.zeros(2)}


WIDE, DESCENT = ES(population=16, optimizer=optax.sgd(0.1)), Gradient(optax.adam(0.1))


def alone(strategy: Any, state: Any, keys: Any, objective: Objective) -> Any:
    for key in keys:
        state, _ = shared.step(strategy, key, state, objective)
    return state


@pytest.mark.parametrize(("first", "second"), [(WIDE, DESCENT), (DESCENT, WIDE)])
def test_a_hand_over_is_its_parts_one_after_another(first: Any, second: Any) -> None:
    strategy, objective = HandOver(first, second, after=3), Objective(counted, jnp.float32(0))
    state = strategy.init(KEY, start())
    keys = list(jax.random.split(jax.random.key(1), 6))
    own = alone(first, first.init(KEY, start()), keys[:3], objective)
    state = alone(strategy, state, keys[:3], objective)
    chex.assert_trees_all_close(state.first, own, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_equal(strategy.params(state), first.params(state.first))

    begin = jax.random.split(keys[3])[0]
    other = second.init(begin, first.params(own))
    other = alone(second, other, [jax.random.split(key)[1] for key in keys[3:]], objective)
    after = alone(strategy, state, keys[3:], objective)
    chex.assert_trees_all_close(after.second, other, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_equal(strategy.params(after), second.params(after.second))
    chex.assert_trees_all_equal(after.first, state.first)
    assert int(after.step) == 6
    with recording() as chunks:
        jax.eval_shape(strategy.step, KEY, state, objective)
    assert [chunk.units for chunk in chunks] == [8], "the one population of both, heard of once"


def test_seeds_in_the_same_part_compute_that_part_alone() -> None:
    """Evaluations on the host are those that `Info` counts: 16 a generation, 1 a gradient step."""
    strategy, steps, seeds = HandOver(WIDE, DESCENT, after=2), 5, 3
    objective = Objective(counted, jnp.float32(0))
    run = jax.jit(jax.vmap(lambda k, s: shared.run(strategy, k, s, objective, steps)))
    keys = jax.random.split(KEY, seeds)
    states = jax.vmap(lambda key: strategy.init(key, start()))(keys)
    listen()
    _, info = jax.block_until_ready(run(keys, states))
    jax.effects_barrier()
    assert info.forwards.tolist() == [[16, 16, 1, 1, 1]] * seeds
    assert info.backwards.tolist() == [[0, 0, 1, 1, 1]] * seeds
    assert calls["evaluation"] == int(info.forwards.sum())
    assert strategy.cost == nar.types.Cost(16, 1)
    assert bool((info.forwards <= 16).all())

    # Seeds that are not together: both parts are computed, and what is counted stays right.
    apart = states._replace(step=jnp.asarray([0, 2, 2], jnp.int32))
    listen()
    _, info = jax.block_until_ready(run(keys, apart))
    jax.effects_barrier()
    assert info.forwards[:, 0].tolist() == [16, 1, 1]
    assert calls["evaluation"] > int(info.forwards.sum())
    np.testing.assert_array_equal(np.isnan(info.diagnostics["sigma"][0]), [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(np.isnan(info.diagnostics["gradient_norm"][0]), [1, 1, 0, 0, 0])


def test_a_sweep_reaches_both_parts() -> None:
    second = Gradient(strategies.optimizer("sgd", learning_rate=0.1))
    strategy, objective = HandOver(WIDE, second, after=5), Objective(counted, jnp.float32(0))
    state = strategy.init(KEY, start())
    known = strategy.hyperparameters(state)
    names = {"after", "first.weight_decay", "first.sigma", "second.optimizer.learning_rate"}
    assert set(known) == names
    moved = strategy.with_hyperparameters(
        state, {"after": 1, "first.sigma": 0.2, "second.optimizer.learning_rate": 0.25}
    )
    keys = list(jax.random.split(KEY, 2))
    _, info = shared.step(strategy, keys[0], moved, objective)
    assert float(info.diagnostics["sigma"]) == pytest.approx(0.2)
    first = alone(strategy, moved, keys[:1], objective)
    after = alone(strategy, first, keys[1:], objective)
    # A plain gradient step of the swept size: d/dw (w - a)^2 = 2 (w - a).
    at = strategy.params(first)
    np.testing.assert_allclose(
        strategy.params(after)["w"], at["w"] - 0.25 * 2 * (at["w"] - 0.5), rtol=1e-5
    )


def test_the_ensemble_is_that_of_the_second() -> None:
    objective = Objective(counted, jnp.float32(0))
    assert HandOver(WIDE, DESCENT).ensemble(KEY, HandOver().init(KEY, start()), 4) is None
    strategy = HandOver(DESCENT, WIDE, after=1)
    state = strategy.init(KEY, start())
    deployed = strategy.params(state)
    members: Any = strategy.ensemble(KEY, state, 4)
    chex.assert_trees_all_equal(members, jax.tree.map(lambda x: jnp.stack([x] * 4), deployed))
    after = alone(strategy, state, jax.random.split(KEY, 2), objective)
    members = strategy.ensemble(KEY, after, 4)
    chex.assert_trees_all_equal(members, WIDE.ensemble(KEY, after.second, 4))
    assert float(jnp.std(members["b"], axis=0).min()) > 0


def cliff(params: Any, data: Any) -> jax.Array:
    """A bowl beyond a plateau: nearer than 0.45 to its middle it slopes, elsewhere it is flat."""
    distance = jnp.sqrt(sum(((leaf - 0.5) ** 2).sum() for leaf in jax.tree.leaves(params)) + 1e-12)
    return say("evaluation", jnp.minimum(distance, data))


def test_a_gradient_step_is_taken_where_it_helps() -> None:
    objective = Objective(cliff, jnp.float32(9.0))  # a slope everywhere
    strategy = ConditionalGradient(Gradient(optax.sgd(0.1)), WIDE)
    state = strategy.init(KEY, start())
    listen()
    after, info = jax.block_until_ready(shared.step(strategy, KEY, state, objective))
    jax.effects_barrier()
    assert calls["evaluation"] == 2
    plain, _ = shared.step(Gradient(optax.sgd(0.1)), KEY, state.gradient, objective)
    chex.assert_trees_all_close(strategy.params(after), plain.params, rtol=1e-6)
    assert (int(info.forwards), int(info.backwards)) == (2, 1)
    chex.assert_trees_all_equal(after.evolution.centre, strategy.params(after))


def test_evolution_steps_in_on_a_plateau() -> None:
    objective = Objective(cliff, jnp.float32(1.22))  # the start is at sqrt(6 / 4), and sees nothing
    wide = dataclasses.replace(WIDE, sigma=0.3)
    strategy = ConditionalGradient(Gradient(optax.sgd(0.1)), wide)
    state = strategy.init(KEY, start())
    listen()
    after, info = jax.block_until_ready(shared.step(strategy, KEY, state, objective))
    jax.effects_barrier()
    assert calls["evaluation"] == 18
    assert float(info.diagnostics["gradient_norm"]) == 0
    own, _ = shared.step(wide, KEY, state.evolution, objective)
    chex.assert_trees_all_close(strategy.params(after), own.centre, rtol=1e-6)
    assert (int(info.forwards), int(info.backwards)) == (18, 1)
    assert strategy.cost == nar.types.Cost(18, 1)
    state, info = shared.run(strategy, KEY, state, objective, 40)
    helped = np.asarray(info.diagnostics["helps"]).astype(bool)
    assert helped.any()
    assert not helped.all()
    np.testing.assert_array_equal(info.forwards, np.where(helped, 2, 18))
    assert float(cliff(strategy.params(state), 9.0)) < 0.5

    # A gradient alone stays where it is, and without evolution so does this.
    lone = ConditionalGradient(Gradient(optax.sgd(0.1)), None)
    begun = lone.init(KEY, start())
    state, info = shared.run(lone, KEY, begun, objective, 3)
    chex.assert_trees_all_equal(lone.params(state), start())
    assert info.forwards.tolist() == [2, 2, 2]
    assert bool(info.healthy.all())


def test_a_step_that_hurts_is_not_taken_and_a_nan_is_survived() -> None:
    objective = Objective(counted, jnp.float32(0))
    strategy = ConditionalGradient(Gradient(optax.sgd(1.5, momentum=0.9)), None)
    state = strategy.init(KEY, start())
    after, info = shared.step(strategy, KEY, state, objective)  # overshoots by a factor of two
    chex.assert_trees_all_equal(strategy.params(after), start())
    trace = jax.tree.leaves(after.gradient.optimizer)
    assert all(np.abs(leaf).min() > 0 for leaf in trace), "the moments have seen the gradient"
    assert float(info.diagnostics["helps"]) == 0

    def holed(params: Any, data: Any) -> jax.Array:
        return jnp.where(jnp.abs(params["b"][0]) < 1e-3, jnp.nan, counted(params, data))

    hole = Objective(holed, jnp.float32(0))
    rescued = ConditionalGradient(Gradient(optax.sgd(0.1)), WIDE)
    state = rescued.init(KEY, start())
    after, info = shared.step(rescued, KEY, state, hole)
    assert bool(info.healthy)
    assert np.isfinite(float(counted(rescued.params(after), 0)))
    chex.assert_trees_all_equal(after.gradient.optimizer, state.gradient.optimizer)
    assert float(jnp.abs(rescued.params(after)["b"][0])) > 0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: HandOver(after=0), "after=0 is not allowed; give a whole number of at least 1"),
        (lambda: HandOver(first=3), "first=3 is no strategy; give one such as"),  # type: ignore
        (lambda: HandOver(first={"sigma": 1}), "first={'sigma': 1} is no strategy"),  # type: ignore
        (lambda: HandOver(first="esx"), "strategy='esx' is not known; did you mean 'es'"),  # type: ignore
        (lambda: HandOver(fitness="score"), "fitness='score' has no gradient"),
        (lambda: ConditionalGradient(gradient=ES()), "gradient='es' cannot take that part; give a"),  # type: ignore
        (lambda: ConditionalGradient(evolution=SNES()), "evolution='snes' cannot take that part"),  # type: ignore
    ],
)
def test_parts_that_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(sentence)


def test_settings_of_parts_survive_yaml() -> None:
    made = HandOver(ES(population=32, fitness="score"), Gradient(), after=7)
    assert made.first.fitness == "score", "each follows what it says itself"
    twin = strategies.get("hand_over", **yaml.safe_load(yaml.safe_dump(made.settings())))
    assert twin == made
    assert hash(twin) == hash(made)
    assert as_strategy("x", "gradient") == Gradient()
    both = HandOver(WIDE, SNES(population=8), fitness="score")
    assert (both.first.fitness, both.second.fitness) == ("score", "score")
    assert both.gradient_free
    assert not made.gradient_free
    assert HandOver(BitFlip(population=32), BitFlip(population=64)).cost == nar.types.Cost(64, 0)


def test_the_trainer_counts_what_each_part_spends(tmp_path: Path) -> None:
    """The budget is spent to the last step that it buys, and the table says what was spent."""
    task = nar.tasks.Parity(train_sizes=range(1, 4), test_sizes=(3,))
    arm = nar.Arm(HandOver(ES(population=8), Gradient(), after=3), batch=4)
    budget = 3 * 8 * 4 + 5 * 3 * 4
    results = nar.compare(
        task,
        nar.models.MLP(hidden=(4,)),
        {"hybrid": arm},
        seeds=2,
        budget=nar.Budget(forwards=budget),
        evaluation_examples=16,
        out=tmp_path / "run",
        progress=False,
    )
    entry = results.data["arms"][0]
    assert entry["gradient_free"] is False
    for seed in entry["seeds"]:
        steps, spent = seed["steps"], seed["cost"]["forward_equivalents"]
        assert spent == 3 * 8 * 4 + (steps - 3) * 3 * 4
        # The bound on a step, 8 forward passes and a backward one, is all that can be left over.
        assert budget - (8 + 2) * 4 < spent <= budget


def test_a_list_says_what_evosax_has_and_has_not() -> None:
    caption = str(listing.components("strategies").caption)
    runs, refused = caption.splitlines()
    assert runs == f"evosax, algorithm: {', '.join(evosax_adapter.names())}"
    assert refused.startswith("evosax, excluded: RandomSearch: use strategies.RandomSearch, which")
    for name, reason in evosax_adapter.EXCLUDED.items():
        assert name in refused
        assert refused.count(reason) == 1, "a reason that several share is given once"
    assert listing.components("models").caption is None
