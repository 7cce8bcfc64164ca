"""Populations against members made one by one in numpy, on any devices and in any chunks."""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from strategy_contracts import mesh

from evojax_nar import strategies
from evojax_nar.errors import InputError
from evojax_nar.noise import Dense
from evojax_nar.objective import Objective
from evojax_nar.placement import LOCAL, Placement
from evojax_nar.population import GaussianPairs, Members, Offspring, Stored
from evojax_nar.types import Evaluation, Params

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(11)
PLACEMENTS = {
    "local": LOCAL,
    "chunk of 1": Placement(chunk=1),
    "chunk of 3": Placement(chunk=3),
    "2 devices": Placement(mesh=mesh(2)),
    "4 devices, chunk of 2": Placement(mesh=mesh(4), chunk=2),
    "4 devices, more than there are units": Placement(mesh=mesh(4), chunk=100),
}
everywhere = pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS.keys())


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def params(seed: int, *lead: int) -> dict[str, np.ndarray]:
    return {"b": normal(seed, *lead, 2), "w": normal(seed + 1, *lead, 3, 2)}


DATA = (normal(50, 8, 3), normal(51, 8, 2))


def loss(params: Params, data: Any) -> Evaluation:
    inputs, targets = data
    error = jnp.tanh(inputs @ params["w"] + params["b"]) - targets
    return Evaluation((error**2).mean(), -jnp.abs(error).max(), {"bias": params["b"].sum()})


def numpy_loss(params: Params) -> tuple[float, float, float]:
    inputs, targets = (np.asarray(leaf, np.float64) for leaf in DATA)
    error = np.tanh(inputs @ params["w"] + params["b"]) - targets
    return (error**2).mean(), -np.abs(error).max(), params["b"].sum()


# Each population, and what its members and their noise should be.


class Case(NamedTuple):
    members: Members
    parameters: list[Params]
    noise: list[Params]


def draw(key: jax.Array) -> Params:
    """Noise for `params`: D numbers at once, cut into the leaves in the order of their names."""
    flat = np.asarray(jax.random.normal(key, (8,)), np.float64)
    return {"b": flat[:2], "w": flat[2:].reshape(3, 2)}


def add(params: Params, scale: float, noise: Params) -> Params:
    return {name: params[name] + scale * noise[name] for name in params}


def gaussian_pairs() -> Case:
    centre, sigma, units = params(0), 0.3, 7
    members = GaussianPairs(centre, KEY, jnp.float32(sigma), units, Dense())
    parameters, noises = [], []
    for unit in range(units):
        noise = draw(jax.random.fold_in(KEY, unit))
        for sign in (1.0, -1.0):
            parameters.append(add(centre, sign * sigma, noise))
            noises.append(add(noise, sign - 1, noise))
    return Case(members, parameters, noises)


def stored() -> Case:
    given = params(2, 7)
    members = [{name: leaf[i] for name, leaf in given.items()} for i in range(7)]
    return Case(Stored(given, 7), members, members)


def offspring() -> Case:
    parents, parent_of = params(4, 3), np.array([0, 1, 2, 2, 1, 1, 0], np.int32)
    seeds = np.array([0, 5, 5, 2**32 - 1, 7, 8, 9], np.uint32)
    sigma = np.array([0, 0, 0.1, 0.2, 0.3, 0, 2], np.float32)
    members = [
        add(
            {name: leaf[parent_of[i]] for name, leaf in parents.items()},
            sigma[i],
            draw(jax.random.key(seeds[i])),
        )
        for i in range(7)
    ]
    arrays = (jnp.asarray(leaf) for leaf in (parent_of, seeds, sigma))
    return Case(Offspring(parents, *arrays, units=7), members, members)


CASES = {"gaussian pairs": gaussian_pairs, "stored": stored, "offspring": offspring}


@functools.partial(jax.jit, static_argnames="placement")
def both(members: Members, weights: Any, placement: Placement) -> tuple[Any, Params]:
    objective = Objective(loss, DATA, placement=placement)
    return objective.population(members), objective.combine(members, weights)


@everywhere
@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
def test_population_is_its_members_one_by_one(make: Any, placement: Placement) -> None:
    members, parameters, noise = make()
    assert members.size == len(parameters)
    weights = normal(9, members.size)
    (evaluation, carries), total = jax.device_get(both(members, weights, placement))
    assert carries == ()
    expected = np.array([numpy_loss(own) for own in parameters])
    found = (evaluation.loss, evaluation.score, evaluation.metrics["bias"])
    np.testing.assert_allclose(np.stack(found, axis=1), expected, rtol=1e-5, atol=1e-6)
    chex.assert_type(jax.tree.leaves(evaluation), jnp.float32)
    for name, leaf in total.items():
        wanted = sum(weight * own[name] for weight, own in zip(weights, noise, strict=True))
        np.testing.assert_allclose(leaf, wanted, rtol=1e-5, atol=1e-5)


def test_noise_is_a_standard_normal_number_for_every_parameter() -> None:
    many = jax.vmap(lambda key: Dense().draw(key, params(0)))(jax.random.split(KEY, 20_000))
    flat = np.concatenate([np.asarray(leaf).reshape(20_000, -1) for leaf in many.values()], axis=1)
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(flat.T), np.eye(8), atol=0.04)


def test_offspring_without_mutation_are_their_parents() -> None:
    members: Any = offspring().members
    for index in (0, 1, 5):
        drawn = jax.jit(lambda members, index: members.draw(index))(members, index)
        parent = {name: leaf[members.parent_of[index]] for name, leaf in members.parents.items()}
        chex.assert_trees_all_equal(drawn, parent)


def test_noise_of_a_unit_does_not_depend_on_how_many_there_are() -> None:
    few, _ = both(gaussian_pairs().members, normal(9, 14), LOCAL)
    more = GaussianPairs(params(0), KEY, jnp.float32(0.3), 9, Dense())
    (evaluation, _), _ = both(more, normal(9, 18), Placement(chunk=4))
    np.testing.assert_allclose(evaluation.loss[:14], few[0].loss, rtol=1e-6)


# Carries.

STEPS, SEGMENT = 6, 2
SERIES = normal(60, STEPS, 2)


def advance(params: Params, state: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    state = jnp.tanh(state + inputs @ params["w"][:2] + params["b"])
    return state, (state**2).sum()


def whole(params: Params, data: Any) -> jax.Array:
    return jax.lax.scan(functools.partial(advance, params), data[0], data[1])[1].sum()


def segment(params: Params, data: Any, carry: Any) -> tuple[jax.Array, Any]:
    key, state = carry
    state, losses = jax.lax.scan(functools.partial(advance, params), state, data[1])
    return losses.sum(), (jax.random.fold_in(key, 1), state)


def start(key: jax.Array, data: Any) -> Any:
    """A random key and a random state: carries are not only numbers."""
    first, second = jax.random.split(key)
    return first, jax.random.normal(second, (2,))


@pytest.mark.parametrize("placement", [LOCAL, Placement(mesh=mesh(4), chunk=1)], ids=str)
def test_segments_add_up_to_the_whole_unroll(placement: Placement) -> None:
    for make in (gaussian_pairs, stored):
        members, parameters, _ = make()
        objective = Objective(segment, (None, SERIES[:SEGMENT]), start, placement)
        keys = jax.random.split(KEY, members.size)
        begun = jax.jit(jax.vmap(objective.init_carry))(keys)
        evaluate = jax.jit(lambda objective, *rest: objective.population(*rest))
        carries, total = begun, np.zeros(members.size)
        for first in range(0, STEPS, SEGMENT):
            piece = Objective(segment, (None, SERIES[first : first + SEGMENT]), start, placement)
            evaluation, carries = jax.block_until_ready(evaluate(piece, members, carries))
            chex.assert_trees_all_equal_shapes_and_dtypes(carries, begun)
            np.testing.assert_array_equal(evaluation.score, -evaluation.loss)
            total += evaluation.loss
        run = jax.jit(lambda params, state: whole(params, (state, SERIES)))
        for row, own in enumerate(parameters):
            alone = run(jax.tree.map(jnp.float32, own), begun[1][row])
            np.testing.assert_allclose(total[row], alone, rtol=1e-5)
            key = begun[0][row]
            for _ in range(STEPS // SEGMENT):
                key = jax.random.fold_in(key, 1)
            assert carries[0][row] == key, "each member got its own carry back"


def test_an_objective_that_carries_nothing() -> None:
    objective = Objective(lambda params, data: jnp.bfloat16(2.5))
    assert objective.init_carry(KEY) == ()
    evaluation, carry = objective(params(0))
    assert carry == ()
    assert (float(evaluation.loss), float(evaluation.score)) == (2.5, -2.5)
    chex.assert_type([evaluation.loss, evaluation.score], jnp.float32)


# Devices.


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"chunk": 0}, "chunk=0 is not allowed; give a whole number of at least 1."),
        ({"chunk": 2.0}, "chunk=2.0 is not allowed"),
        ({"mesh": mesh(2), "axis": "seeds"}, "axis='seeds' is not an axis of the mesh; it has me"),
        (
            {"mesh": jax.make_mesh((2,), ("members",), axis_types=(AxisType.Explicit,))},
            "mesh.axis_types=('Explicit',) are not all Auto; make it with jax.make_mesh(..., axis_",
        ),
    ],
)
def test_placement_refuses(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}"):
        Placement(**arguments)


def collectives(text: str | None, operation: str) -> list[list[int]]:
    """Sizes of the results of every collective of a kind in the text of a compiled program."""
    assert text is not None
    lines = re.findall(rf"= (.*?) {operation}(?:-start)?\(", text)
    shapes = [re.findall(r"\[([\d,]*)\]", line) for line in lines]
    count = functools.partial(np.prod, dtype=int)
    return [[int(count([int(n) for n in s.split(",") if n])) for s in line] for line in shapes]


def test_collectives_are_found() -> None:
    text = """%a = f32[3,2]{1,0} all-reduce(%x), channel_id=1
    ROOT %b = (f32[], f32[7]{0}) all-gather-start(%y)
    %c = f32[8]{0} fusion(%all-reduce)"""
    assert collectives(text, "all-reduce") == [[6]]
    assert collectives(text, "all-gather") == [[1, 7]]


def large(params: Params, data: Any) -> jax.Array:
    return (jnp.tanh(params["w"]) ** 2).mean() + (params["b"] ** 2).mean()


def test_devices_exchange_one_sum_of_the_size_of_the_parameters() -> None:
    centre = {"w": np.zeros((64, 32), np.float32), "b": np.zeros(40, np.float32)}
    parameters, population = 64 * 32 + 40, 32
    objective = Objective(large, placement=Placement(mesh=mesh(4), chunk=2))
    members = GaussianPairs(centre, KEY, jnp.float32(0.1), population // 2, Dense())
    combine = jax.jit(objective.combine).lower(members, jnp.zeros(population)).compile().as_text()
    sums = [size for sizes in collectives(combine, "all-reduce") for size in sizes]
    assert sums == [parameters]
    others = ("all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    assert not any(collectives(combine, operation) for operation in others)
    # A whole generation adds the losses of the members, and nothing larger.
    strategy = strategies.ES(population=population)
    state = strategy.init(KEY, centre)
    step = jax.jit(strategy.step).lower(KEY, state, objective).compile().as_text()
    exchanged = [
        size
        for operation in ("all-reduce", *others)
        for sizes in collectives(step, operation)
        for size in sizes
        if size > population
    ]
    assert exchanged == [parameters]
