"""What every strategy promises, as functions that know none of them by name: see `contracts`."""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from evojax_nar.discrete import Choices, Mixture, select
from evojax_nar.errors import InputError
from evojax_nar.objective import Objective
from evojax_nar.placement import LOCAL, Placement
from evojax_nar.strategies import Base
from evojax_nar.types import Evaluation, Info, Params

KEY = jax.random.key(2026)
SEEDS = 3
NO_TIES = jax.random.key(9)
"""A key by which no two members come so close that rounding decides which of them is better."""


class Data(NamedTuple):
    """A regression, and from which value of its gauge on a parameter set is broken."""

    inputs: jax.Array
    targets: jax.Array
    breaks: jax.Array


NONE_BREAK, THIRD_BREAKS, ALL_BREAK = 2.0, 0.5, -2.0
traces: collections.Counter[str] = collections.Counter()


def is_integer(strategy: Base) -> bool:
    """Whether a strategy moves int8 parameters, in bins of 1/16; otherwise they are float32."""
    return getattr(strategy, "integer", False)


def moves_choices(strategy: Base) -> bool:
    """Whether a strategy moves `Choices`: numbers of a few digits, each one of a few values."""
    return getattr(strategy, "choices", False)


DIGITS = np.array([0.3, 0.2, 0.1], np.float32)
"""Each is taken once, left out or taken off: a grid of 0.1 from -0.6 to 0.6."""
TAKEN = np.array([-1, 0, 1], np.float32)


def number(strategy: Base, *shape: int) -> Any:
    """Parameters (shape) that stand for 0, as the strategy moves them."""
    if moves_choices(strategy):
        return Choices(jnp.ones((*shape, len(DIGITS)), jnp.int32), len(TAKEN))
    return jnp.zeros(shape, jnp.int8 if is_integer(strategy) else jnp.float32)


def initial(strategy: Base) -> Params:
    return {"w": number(strategy, 2, 2), "b": number(strategy, 2)}


def real(node: Any) -> jax.Array:
    """What a parameter stands for."""
    if isinstance(node, (Choices, Mixture)):
        return select(node, jnp.asarray(TAKEN)) @ DIGITS
    array = jnp.asarray(node)
    return array / 16 if array.dtype == jnp.int8 else array


def spacing(node: Any) -> float:
    """Of the stripes in which members break: such that about a third of the start's neighbours do,
    in whatever steps they differ from it."""
    if isinstance(node, (Choices, Mixture)):
        return 25
    return 24 if jnp.asarray(node).dtype == jnp.int8 else 1000


def data(breaks: float = NONE_BREAK, examples: int = 32) -> Data:
    """Points of a linear map with parameters of about 0.5, without noise."""
    inputs = np.random.default_rng(1).normal(size=(examples, 2)).astype(np.float32)
    targets = inputs @ np.array([[0.5, -0.4], [-0.3, 0.6]], np.float32)
    targets += np.array([0.4, -0.3], np.float32)
    return Data(jnp.asarray(inputs), jnp.asarray(targets), jnp.asarray(breaks, jnp.float32))


def regression(params: Params, data: Data) -> Evaluation:
    """Mean squared error; NaN or infinitely good in narrow stripes of the space of parameters."""
    traces["regression"] += 1
    w, b = real(params["w"]), real(params["b"])
    error = data.inputs @ w + b[None] - data.targets
    gauge = spacing(params["w"]) * (w[0, 0] + b[1])
    broken = jnp.sin(gauge) > data.breaks
    loss = jnp.where(broken, jnp.where(jnp.cos(gauge) > 0, jnp.nan, -jnp.inf), jnp.mean(error**2))
    return Evaluation(loss, -loss, {"largest": jnp.abs(error).max()})


def rounded(params: Params, data: Data) -> Evaluation:
    """A score in steps, with no gradient anywhere; the loss says nothing."""
    error = data.inputs @ real(params["w"]) + real(params["b"])[None] - data.targets
    return Evaluation(jnp.zeros(()), -jnp.mean(jnp.ceil(8 * jnp.abs(error))) / 8)


@functools.partial(jax.jit, static_argnames="strategy")
def step(strategy: Base, key: jax.Array, state: Any, objective: Objective) -> tuple[Any, Info]:
    """Compiled once for all the checks that use it."""
    return strategy.step(key, state, objective)


@functools.partial(jax.jit, static_argnames=("strategy", "steps"))
def run(
    strategy: Base, key: jax.Array, state: Any, objective: Objective, steps: int
) -> tuple[Any, Info]:
    """`steps` steps as one scan."""
    keys = jax.random.split(key, steps)
    return jax.lax.scan(lambda state, key: strategy.step(key, state, objective), state, keys)


def learns(strategy: Base, steps: int) -> None:
    """The loss of what is deployed falls to a tenth, and the state stays as it is typed."""
    start = strategy.init(KEY, initial(strategy))
    state, info = run(strategy, KEY, start, Objective(regression, data()), steps)
    before, after = (regression(strategy.params(s), data()).loss for s in (start, state))
    assert float(before) > 0.3
    assert float(after) <= 0.1 * float(before)
    assert bool(info.healthy.all())
    assert np.isfinite(info.loss).all()


def keeps_its_types(strategy: Base) -> None:
    """Structure, shapes, types and weak types of a state outlast a step; `Info` has its own."""
    with jax.checking_leaks():
        state = jax.eval_shape(strategy.init, KEY, initial(strategy))
        after, info = jax.eval_shape(strategy.step, KEY, state, Objective(regression, data()))
        deployed = jax.eval_shape(strategy.params, after)
    assert jax.tree.structure(state) == jax.tree.structure(after)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype, old.weak_type) == (new.shape, new.dtype, new.weak_type)
        assert not old.weak_type
    chex.assert_trees_all_equal_shapes_and_dtypes(deployed, initial(strategy))
    # What `init` really makes, as opposed to what its trace does.
    made = strategy.init(KEY, initial(strategy))
    chex.assert_trees_all_equal_shapes_and_dtypes(made, state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(made))
    expected = {"loss": "float32", "score": "float32", "healthy": "bool"}
    expected |= {"forwards": "int32", "backwards": "int32"}
    for name, dtype in expected.items():
        leaf = getattr(info, name)
        assert (leaf.shape, str(leaf.dtype)) == ((), dtype), name
    for name, leaf in info.diagnostics.items():
        assert leaf.shape == (), name


def counts_its_cost(strategy: Base) -> None:
    """What a step reports is what the strategy says beforehand, and what it really evaluates."""
    objective = Objective(regression, data())
    _, info = step(strategy, KEY, strategy.init(KEY, initial(strategy)), objective)
    cost = strategy.cost
    assert (int(info.forwards), int(info.backwards)) == (cost.forwards, cost.backwards)
    assert cost.forwards >= 1
    assert cost.forward_equivalents(10) == 10 * (cost.forwards + 2 * cost.backwards)
    assert (cost.backwards == 0) == strategy.gradient_free


def _changed(value: jax.Array) -> jax.Array:
    """Another value, which any hyperparameter can have: half-way to 1."""
    return jnp.where(value == 1, 0.5, (1 + value) / 2).astype(value.dtype)


def never_recompiles(strategy: Base) -> None:
    """New keys, data and hyperparameters are new arguments of the same program."""
    objective = Objective(regression, data())
    state, _ = step(strategy, KEY, strategy.init(KEY, initial(strategy)), objective)
    plain = step(strategy, KEY, state, objective)
    before = traces["regression"]
    chex.assert_trees_all_equal(step(strategy, KEY, state, objective), plain)
    other = data()._replace(targets=data().targets + 1)
    step(strategy, jax.random.key(1), plain[0], Objective(regression, other))
    for name, value in strategy.hyperparameters(state).items():
        moved = strategy.with_hyperparameters(state, {name: _changed(value)})
        assert float(strategy.hyperparameters(moved)[name]) == float(_changed(value))
        after, _ = step(strategy, KEY, moved, objective)
        assert float(strategy.hyperparameters(after)[name]) == float(_changed(value))
        # With the old value put back, whatever differs is the work of the new one.
        back = strategy.with_hyperparameters(after, {name: value})
        with pytest.raises(AssertionError):
            chex.assert_trees_all_equal(back, plain[0])
    assert traces["regression"] == before
    with pytest.raises(InputError, match="hyperparameter='no such one' is not known"):
        strategy.with_hyperparameters(state, {"no such one": 1.0})
    # The counter does count: other shapes are another program.
    smaller = Objective(regression, data(examples=16))
    step.eval_shape(strategy, KEY, state, smaller)
    assert traces["regression"] > before


def sweeps_and_seeds_are_rows(strategy: Base) -> None:
    """A vmap over seeds, each with hyperparameters of its own, is the runs one by one."""
    objective, steps = Objective(regression, data()), 3
    keys = jax.random.split(NO_TIES, SEEDS)
    states = [strategy.init(key, initial(strategy)) for key in keys]
    for row, state in enumerate(states):
        numbers = strategy.hyperparameters(state)
        scaled = {name: value * (1 - 0.1 * row) for name, value in numbers.items()}
        states[row] = strategy.with_hyperparameters(state, scaled)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    together = jax.jit(
        jax.vmap(lambda key, state: run(strategy, key, state, objective, steps)),
    )(keys, stacked)
    for row, state in enumerate(states):
        infos = []
        for key in jax.random.split(keys[row], steps):
            state, info = step(strategy, key, state, objective)
            infos.append(info)
        alone = (state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *infos))
        own = jax.tree.map(lambda leaf, row=row: leaf[row], together)
        chex.assert_trees_all_close(own, alone, rtol=1e-5, atol=1e-6)


def survives_broken_members(strategy: Base, steps: int) -> None:
    """Members that are NaN or infinite cost their own evaluation, and nothing else."""
    start = strategy.init(KEY, initial(strategy))
    state, info = run(strategy, KEY, start, Objective(regression, data(THIRD_BREAKS)), steps)
    # Broken archives may be infinite before anything is found: what was finite stays so.
    for old, new in zip(jax.tree.leaves(start), jax.tree.leaves(state), strict=True):
        assert not np.isnan(new).any()
        assert np.isfinite(new).all() or not np.isfinite(old).all()
    if strategy.gradient_free:
        assert 0.5 < float(jnp.mean(info.diagnostics["finite"])) < 0.9
        assert bool(info.healthy.all())
        assert np.isfinite(info.loss).all()
        before, after = (regression(strategy.params(s), data()).loss for s in (start, state))
        assert float(after) <= 0.2 * float(before)


def stands_still_where_all_is_broken(strategy: Base) -> None:
    """Nothing finite to learn from: the state is what it was, to the last bit."""
    start = strategy.init(KEY, initial(strategy))
    objective = Objective(regression, data(ALL_BREAK))
    moved, info = step(strategy, KEY, start, Objective(regression, data()))
    assert bool(info.healthy)
    for state in (start, moved):
        after, info = step(strategy, KEY, state, objective)
        assert not bool(info.healthy)
        chex.assert_trees_all_equal(after, state)
        assert int(info.forwards) == strategy.cost.forwards


def mesh(devices: int = 4) -> jax.sharding.Mesh:
    chosen = jax.devices()[:devices]
    return jax.make_mesh((devices,), ("members",), axis_types=(AxisType.Auto,), devices=chosen)


def agrees_wherever_it_is_placed(strategy: Base) -> None:
    """Devices, and chunks that do not divide the population, change a step by rounding alone."""
    state = strategy.init(KEY, initial(strategy))
    results = []
    for placement in (LOCAL, Placement(chunk=5), Placement(mesh=mesh(), chunk=3)):
        objective = Objective(regression, data(), placement=placement)
        # Programs of one device and of several, in flight together, can wait for each other.
        results.append(jax.device_get(step(strategy, KEY, state, objective)))
    for other in results[1:]:
        chex.assert_trees_all_close(other, results[0], rtol=1e-5, atol=1e-6)


def follows_a_score(strategy: Any, steps: int) -> None:
    """A score without a gradient is enough for what is gradient-free; the others refuse it."""
    if not strategy.gradient_free:
        with pytest.raises(InputError, match="fitness='score' has no gradient"):
            dataclasses.replace(strategy, fitness="score")
        return
    strategy = dataclasses.replace(strategy, fitness="score")
    state = strategy.init(KEY, initial(strategy))
    before = float(rounded(strategy.params(state), data()).score)
    state, info = run(strategy, KEY, state, Objective(rounded, data()), steps)
    assert not np.asarray(info.loss).any()
    after = float(rounded(strategy.params(state), data()).score)
    assert -after <= 0.5 * -before


class Scale(NamedTuple):
    gain: Any
    shift: Any


def bare_loss(params: Params, data: tuple[jax.Array, jax.Array]) -> jax.Array:
    inputs, targets = data
    first, second = params["blocks"]
    outputs = (inputs * real(first.gain) + real(first.shift)) @ real(second["w"])
    return jnp.mean((outputs + real(params["bias"]) - targets) ** 2)


def trains_any_tree(strategy: Base, steps: int) -> None:
    """A nested tree of numpy arrays and plain numbers, and a function that returns a loss."""
    given: Any = {
        "blocks": [Scale(1.0, np.zeros(2)), {"w": np.zeros((2, 1), np.float16)}],
        "bias": jnp.asarray(0.0),
    }
    kind = jnp.float32
    if is_integer(strategy):
        given, kind = jax.tree.map(lambda leaf: np.int8(16 * leaf), given), jnp.int8
    if moves_choices(strategy):
        given, kind = jax.tree.map(_as_choices, given), jnp.int32
    points = data()
    both = (points.inputs, points.targets[:, :1])
    state = strategy.init(KEY, given)
    start = strategy.params(state)
    state, _ = run(strategy, KEY, state, Objective(bare_loss, both), steps)
    deployed = strategy.params(state)
    assert jax.tree.structure(deployed) == jax.tree.structure(given)
    chex.assert_trees_all_equal_shapes_and_dtypes(deployed, start)
    chex.assert_type(jax.tree.leaves(deployed), kind)
    assert float(bare_loss(deployed, both)) < 0.5 * float(bare_loss(start, both))
    with pytest.raises(InputError, match=r"params\['n'\] has type int32"):
        strategy.init(KEY, {"n": jnp.arange(3)})
    _moves_or_refuses(strategy)


def _as_choices(leaf: Any) -> Choices:
    """The nearest on the grid, in digits of numpy's: 0 is no digit at all, 1 is all of them."""
    digits = np.asarray(leaf)[..., None] >= np.full(len(DIGITS), 0.5)
    return Choices(1 + digits.astype(np.int64), len(TAKEN))  # type: ignore[arg-type]


def _moves_or_refuses(strategy: Base) -> None:
    """Choices, and numbers beside them, keep their kind, or a sentence says who moves them."""
    choices = Choices(jnp.asarray([3, 0, 2]), 4)
    if not moves_choices(strategy):
        with pytest.raises(
            InputError, match=r"^params\['c'\] holds choices.*; take strategies\.\w+"
        ):
            strategy.init(KEY, {"c": choices})
        return
    deployed = strategy.params(strategy.init(KEY, {"c": choices}))
    chex.assert_trees_all_equal(deployed, {"c": choices})
    both = {"c": choices, "w": jnp.ones(2)}
    try:
        deployed = strategy.params(strategy.init(KEY, both))
    except InputError as error:
        assert re.match(r"params\['w'\] has type float32.*strategies\.\w+", str(error))  # noqa: PT017
    else:
        chex.assert_trees_all_equal(deployed, both)


# What the tests of single strategies share: no promise, but the same compiled programs.

TARGET = np.linspace(-1, 1, 6, dtype=np.float32)


def quadratic(params: Params, data: Any) -> jax.Array:
    """Mean squared distance to the targets, plus what is not finite beyond a wall."""
    flat = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(params)])
    loss = ((flat - TARGET) ** 2).mean()
    return jnp.where(flat[0] > data, jnp.where(flat[1] > 0, jnp.nan, jnp.inf), loss)


def start() -> Params:
    return {"b": jnp.asarray([0.5, -0.2]), "w": jnp.asarray([[0.1, 0.9], [-0.6, 0.3]])}


OPEN, WALLED = Objective(quadratic, jnp.float32(9)), Objective(quadratic, jnp.float32(0.55))
