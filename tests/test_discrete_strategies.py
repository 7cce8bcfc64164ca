"""Strategies on parameters that are choices, against plain Python and NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
import strategy_contracts as shared
from test_resume import what_a_run_left

import evojax_nar as nar
from evojax_nar import memory
from evojax_nar.discrete import Choices, Mixture, one_hot, select, uniform
from evojax_nar.errors import InputError
from evojax_nar.files import load_params, save_params
from evojax_nar.objective import Objective
from evojax_nar.placement import Placement
from evojax_nar.strategies import ES, Gradient, IntegerES
from evojax_nar.strategies.choices import PBIL, UMDA, BitFlip, CartesianGP, Relaxation
from evojax_nar.strategies.choices.members import Mutants, Sampled
from evojax_nar.strategies.choices.relaxation import Logits
from evojax_nar.strategies.choices.tables import within
from evojax_nar.types import Params, Sequence, TaskSpec

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = shared.KEY
COUNTS = (2, 2, 2, 5, 5, 5, 5)
"""Of the genes of the tree below, in the order of its leaves."""


def tree(row: Any) -> Params:
    """Seven genes, of two and of five values."""
    values = jnp.asarray(row, jnp.int32)
    return {
        "a": Choices(values[..., :3], 2),
        "b": Choices(values[..., 3:].reshape(*values.shape[:-1], 2, 2), 5),
    }


def row(params: Params) -> list[int]:
    return [int(gene) for leaf in jax.tree.leaves(params) for gene in np.ravel(leaf)]


# Functions to be minimised, of mixtures too.


def wrong(params: Params, data: Any) -> jax.Array:
    """One-max of 24 genes: the share of those that are not 2."""
    return 1 - select(params["x"], jnp.asarray([0.0, 0.0, 1.0])).mean()


def trap(params: Params, data: Any) -> jax.Array:
    """Four blocks of three bits: all ones are best, and the way there leads through the worst."""
    ones = select(params["x"], jnp.asarray([0.0, 1.0])).reshape(4, 3).sum(axis=1)
    return jnp.where(ones == 3, 0, 1 + ones).sum() / 4


NODES = 30


def circuit(params: Params, data: Any) -> jax.Array:
    """How often a circuit of NAND gates is wrong about the parity of three bits."""
    bits = (jnp.arange(8)[:, None] >> jnp.arange(3)) & 1

    def gate(signals: jax.Array, node: jax.Array) -> tuple[jax.Array, None]:
        first, second = params["wires"].value[node] % (3 + node)
        out = 1 - signals[:, first] * signals[:, second]
        return signals.at[:, 3 + node].set(out), None

    signals = jnp.concatenate([bits, jnp.zeros((8, NODES), bits.dtype)], axis=1)
    signals, _ = jax.lax.scan(gate, signals, jnp.arange(NODES))
    return (signals[:, -1] != bits.sum(axis=1) % 2).mean()


@pytest.mark.parametrize(
    ("strategy", "function", "start", "steps"),
    [
        (PBIL(population=64, learning_rate=0.2), wrong, ("x", 24, 3), 80),
        (UMDA(population=128, best=32), wrong, ("x", 24, 3), 30),
        (Relaxation(optax.sgd(20.0)), wrong, ("x", 24, 3), 60),
        (BitFlip(population=64, elites=8), trap, ("x", 12, 2), 120),
        (CartesianGP(), circuit, ("wires", (NODES, 2), 3 + NODES), 4000),
    ],
    ids=lambda value: getattr(value, "name", getattr(value, "__name__", None)),
)
def test_solves(strategy: Any, function: Any, start: tuple[str, Any, int], steps: int) -> None:
    name, shape, count = start
    given = {name: Choices(jnp.zeros(shape, jnp.int32), count)}
    state = strategy.init(KEY, given)
    assert float(function(strategy.params(state), ())) > 0.2
    state, _ = shared.run(strategy, KEY, state, Objective(function), steps)
    assert float(function(strategy.params(state), ())) == 0


# Populations.


def child_in_python(key: Any, first: list[int], second: list[int], rate: float) -> list[int]:
    """A child made gene by gene from two words of 32 bits each."""
    whether, how = np.asarray(jax.random.bits(key, (2, len(COUNTS)), jnp.uint32))
    genes = []
    for place, count in enumerate(COUNTS):
        gene = (first, second)[int(how[place]) % 2][place]
        if int(whether[place]) // 256 / 2**24 < np.float32(rate):
            others = [value % count for value in range(gene + 1, gene + count)]
            gene = others[int(how[place]) // 2 % len(others)]
        genes.append(gene)
    return genes


def test_mutants_are_redrawn_as_often_as_told_and_among_the_other_values() -> None:
    children, rate = 3000, 0.3
    parents = tree(np.array([[0, 1, 0, 4, 0, 1, 2], [1, 1, 0, 2, 0, 3, 2]]))
    only = jnp.zeros(children, jnp.int32)
    draw = jax.jit(lambda members: jax.vmap(members.draw)(jnp.arange(children)))
    members = Mutants(parents, only, only, jnp.full(children, rate), KEY, children)
    drawn = draw(members)
    for values, parent, count in (
        (drawn["a"].value, [0, 1, 0], 2),
        (drawn["b"].value, [4, 0, 1, 2], 5),
    ):
        values = np.asarray(values).reshape(children, -1)
        redrawn = values != np.array(parent)
        for place, gene in enumerate(parent):
            assert scipy.stats.binomtest(int(redrawn[:, place].sum()), children, rate).pvalue > 1e-3
            others = np.bincount((values[redrawn[:, place], place] - gene) % count, minlength=count)
            assert others[0] == 0
            assert count == 2 or scipy.stats.chisquare(others[1:]).pvalue > 1e-3
        # Genes are redrawn each by itself.
        pairs = np.corrcoef(redrawn.T)[np.triu_indices(len(parent), 1)]
        assert np.abs(pairs).max() < 4 / np.sqrt(children)
    crossed = draw(Mutants(parents, only, only + 1, jnp.zeros(children), KEY, children))
    assert set(np.ravel(crossed["b"].value[:, 1, 0])) == {1, 3}, "nothing is redrawn at rate 0"
    from_second = np.asarray(crossed["b"].value)[:, 0, 0] == 2
    assert scipy.stats.binomtest(int(from_second.sum()), children, 0.5).pvalue > 1e-3


def test_samples_and_their_counts() -> None:
    """Members occur as their tables say; sums of weights are those of NumPy, however placed."""
    tables = {
        "a": Mixture(jnp.asarray([[0.9, 0.1], [0.5, 0.5]])),
        "b": Mixture(jnp.asarray([[0.1, 0.2, 0.3, 0.4]])),
    }
    units = 4000
    members = Sampled(tables, KEY, units)
    drawn = jax.jit(jax.vmap(members.draw))(jnp.arange(units))
    weights = np.random.default_rng(3).integers(0, 3, units).astype(np.float32)
    sums = Objective(wrong, placement=Placement(chunk=900)).combine(members, jnp.asarray(weights))
    for name, table in tables.items():
        chances = np.asarray(table.weights)
        assert drawn[name].count == chances.shape[1]
        values = np.asarray(drawn[name].value)
        for place, own in enumerate(chances):
            found = np.bincount(values[:, place], minlength=len(own))
            assert scipy.stats.chisquare(found, own * units).pvalue > 1e-3
            weighed = np.bincount(values[:, place], weights, minlength=len(own))
            np.testing.assert_array_equal(sums[name].weights[place], weighed)


@pytest.mark.parametrize("kind", [BitFlip, CartesianGP, PBIL, UMDA], ids=lambda kind: kind.name)
def test_more_members_need_no_more_memory(kind: Any) -> None:
    """A member of 500 genes has 2,000 bytes; each one more adds a few numbers of its own."""
    given = {"x": Choices(jnp.zeros(500, jnp.int32), 3)}
    objective = Objective(wrong, placement=Placement(chunk=4))

    def needed(size: int) -> int:
        strategy = kind(**{"children" if kind is CartesianGP else "population": size})
        state = strategy.init(KEY, given)
        program = jax.make_jaxpr(lambda key, state: strategy.step(key, state, objective))
        return memory.peak(program(KEY, state).jaxpr, ()).shared

    assert needed(1000) - needed(200) < 800 * 100


# Single strategies, one generation against plain Python.


class Landscape(NamedTuple):
    """What each value of each gene costs, and the first gene of what is broken."""

    costs: jax.Array
    broken: jax.Array


def cost(params: Params, data: Landscape) -> jax.Array:
    genes = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(params)])
    total = jnp.take_along_axis(data.costs, genes[:, None], axis=1).sum()
    return jnp.where((genes[0] == data.broken) & (genes[3] > 2), jnp.nan, total)


def cost_in_python(genes: list[int], data: Landscape) -> float:
    if genes[0] == int(data.broken) and genes[3] > 2:
        return np.inf
    return sum(float(data.costs[place, gene]) for place, gene in enumerate(genes))


# Whole numbers below 6, so that sums are exact and ties are many.
COSTS = jnp.asarray(np.random.default_rng(5).integers(0, 6, (7, 5)), jnp.float32)
LANDSCAPE = Landscape(COSTS, jnp.asarray(1))


def test_bit_flip_keeps_the_best_and_deploys_what_was_judged_twice() -> None:
    strategy = BitFlip(population=24, elites=4, rate=0.4, crossover=0.6)
    state = strategy.init(KEY, tree([0] * 7))
    elites, champion = [[0] * 7] * 4, [0] * 7
    for key in jax.random.split(KEY, 4):
        draw_key, mutation_key = jax.random.split(key)
        words = np.asarray(jax.random.bits(draw_key, (3, 24), jnp.uint32))
        first, second, crossed = words[0] % 4, words[1] % 4, words[2] / 2**32 < 0.6
        members = list(elites)
        for child in range(4, 24):
            mother = elites[first[child]]
            father = elites[second[child]] if crossed[child] else mother
            own = jax.random.fold_in(mutation_key, child)
            members.append(child_in_python(own, mother, father, 0.4))
        losses = [cost_in_python(genes, LANDSCAPE) for genes in members]
        state, info = shared.step(strategy, key, state, Objective(cost, LANDSCAPE))
        champion = members[int(np.argmin(losses[:4]))]
        ordered = sorted(range(24), key=lambda member: (losses[member], -member))
        elites = [members[member] for member in ordered[:4]]
        assert row(strategy.params(state)) == champion
        found = [row(jax.tree.map(lambda leaf, e=e: leaf[e], state.elites)) for e in range(4)]
        assert found == elites
        finite = [loss for loss in losses if np.isfinite(loss)]
        assert float(info.loss) == pytest.approx(np.mean(finite), rel=1e-6)
        assert float(info.diagnostics["finite"]) == pytest.approx(len(finite) / 24)
    assert cost_in_python(champion, LANDSCAPE) < cost_in_python([0] * 7, LANDSCAPE)


def test_cartesian_gp_drifts_where_nothing_is_lost_and_never_to_what_is_worse() -> None:
    strategy = CartesianGP(children=3, rate=0.3)
    state = strategy.init(KEY, tree([0] * 7))
    parent, neutral, kept = [0] * 7, 0, 0
    for key in jax.random.split(KEY, 40):
        members = [parent]
        for child in (1, 2, 3):
            members.append(child_in_python(jax.random.fold_in(key, child), parent, parent, 0.3))
        losses = [cost_in_python(genes, LANDSCAPE) for genes in members]
        state, info = shared.step(strategy, key, state, Objective(cost, LANDSCAPE))
        best = 1 + int(np.argmin(losses[1:]))
        if losses[best] <= losses[0]:
            neutral += losses[best] == losses[0] and members[best] != parent
            parent = members[best]
        else:
            kept += 1
        assert row(strategy.params(state)) == parent
        assert bool(info.diagnostics["accepted"]) == (losses[best] <= losses[0])
        assert bool(info.diagnostics["neutral"]) == (losses[best] == losses[0])
    assert neutral >= 2
    assert kept >= 2
    # Where all is the same, the first child always takes over.
    flat = Objective(cost, LANDSCAPE._replace(costs=jnp.zeros_like(COSTS), broken=jnp.asarray(9)))
    before = state.parent
    state, _ = shared.step(strategy, KEY, state, flat)
    first = child_in_python(jax.random.fold_in(KEY, 1), row(before), row(before), 0.3)
    assert row(state.parent) == first != row(before)


def table_rows(tables: Params) -> list[np.ndarray]:
    """The table of each gene."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tables)]
    return [own for leaf in leaves for own in leaf.reshape(-1, leaf.shape[-1])]


def frequencies_in_python(key: Any, tables: list[np.ndarray], units: int, best: int) -> list[Any]:
    """Members by the inverse of their cumulative chances; then shares among the best that last."""
    members = []
    for unit in range(units):
        numbers = np.asarray(jax.random.uniform(jax.random.fold_in(key, unit), (len(tables),)))
        members.append(
            [
                int(np.searchsorted(np.cumsum(table)[:-1], number, side="right"))
                for table, number in zip(tables, numbers, strict=True)
            ]
        )
    losses = [cost_in_python(genes, LANDSCAPE) for genes in members]
    order = [member for member in np.argsort(losses, kind="stable") if np.isfinite(losses[member])]
    chosen = [members[member] for member in order[:best]]
    return [
        np.bincount([genes[place] for genes in chosen], minlength=len(table)) / len(chosen)
        for place, table in enumerate(tables)
    ]


def bounded_in_python(table: np.ndarray, margin: float) -> np.ndarray:
    """Two values: cut off. More: what lies above the least is made to fit, value by value."""
    count = len(table)
    if count == 2:
        return np.clip(table, min(margin, 0.5), max(1 - margin, 0.5))
    least = min(margin / (count - 1), 1 / count)
    above = [max(0.0, value - least) for value in table]
    return np.array([least + (1 - count * least) * value / sum(above) for value in above])


def test_pbil_moves_its_tables_to_the_best() -> None:
    """With 23 of 24 asked for, some of them are broken, and the others count."""
    strategy = PBIL(population=24, best=23, learning_rate=0.3, mutation=0.4, shift=0.25)
    state = strategy.init(KEY, tree([0, 1, 0, 4, 0, 1, 2]))
    tables = [np.full(count, 0.9 / count) for count in COUNTS]
    for table, gene in zip(tables, [0, 1, 0, 4, 0, 1, 2], strict=True):
        table[gene] += 0.1
    for key in jax.random.split(KEY, 4):
        sample_key, mutation_key = jax.random.split(key)
        found = frequencies_in_python(sample_key, tables, 24, 23)
        whether, where = np.asarray(jax.random.bits(mutation_key, (2, 7), jnp.uint32))
        for place, share in enumerate(found):
            table = 0.7 * tables[place] + 0.3 * share
            if int(whether[place]) // 256 / 2**24 < 0.4:
                table = 0.75 * table
                table[int(where[place]) % len(table)] += 0.25
            tables[place] = bounded_in_python(table, 1 / 7)
        state, info = shared.step(strategy, key, state, Objective(cost, LANDSCAPE))
        for own, table in zip(table_rows(state.tables), tables, strict=True):
            np.testing.assert_allclose(own, table, rtol=1e-5)
        # Rounding must not decide between members of the next generation.
        tables = table_rows(state.tables)
        assert float(info.diagnostics["certainty"]) == pytest.approx(
            np.mean([table.max() for table in tables]), rel=1e-5
        )
    assert row(strategy.params(state)) == [int(table.argmax()) for table in tables]


def test_umda_takes_the_frequencies_of_the_best() -> None:
    strategy = UMDA(population=24, best=6, start=0.0, margin=0.08)
    state = strategy.init(KEY, tree([0, 1, 0, 4, 0, 1, 2]))
    tables = [np.full(count, 1 / count) for count in COUNTS]
    for key in jax.random.split(KEY, 4):
        found = frequencies_in_python(key, tables, 24, 6)
        state, _ = shared.step(strategy, key, state, Objective(cost, LANDSCAPE))
        for own, share in zip(table_rows(state.tables), found, strict=True):
            np.testing.assert_allclose(own, bounded_in_python(share, 0.08), rtol=1e-5)
        tables = table_rows(state.tables)
    assert row(strategy.params(state)) == [int(table.argmax()) for table in tables]
    alone = strategy.params(UMDA(start=0.2).init(KEY, tree([0, 1, 0, 4, 0, 1, 2])))
    assert row(alone) == [0, 1, 0, 4, 0, 1, 2], "a share of the start makes it the first mode"


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_no_value_of_a_table_dies_out(count: int, margin: float) -> None:
    given = np.random.default_rng(count).dirichlet(np.full(count, 0.2), 200).astype(np.float32)
    bounded = np.asarray(within(Mixture(jnp.asarray(given)), jnp.float32(margin)).weights)
    np.testing.assert_allclose(bounded.sum(axis=1), 1, rtol=1e-5)
    least = min(margin / max(1, count - 1), 1 / count)
    assert bounded.min() >= least * (1 - 1e-5)
    if count > 1:
        assert bounded.max() <= max(1 - margin, 1 / count) + 1e-5
    inside = given.min(axis=1) >= least
    np.testing.assert_allclose(bounded[inside], given[inside], rtol=1e-4, atol=1e-6)
    assert (np.diff(np.sort(given, axis=1)) >= 0).all()
    same_order = np.take_along_axis(bounded, np.argsort(given, axis=1), axis=1)
    assert (np.diff(same_order, axis=1) >= -1e-6).all()


# The gradient.

VALUES = np.array([-1.0, 0.5, 2.0], np.float32)


def uneven(params: Params, data: jax.Array) -> jax.Array:
    """Neither linear nor quadratic in the mixtures, and with a number beside them."""
    picked = select(params["x"], jnp.asarray(VALUES))
    return jnp.sum(jnp.tanh(picked) * data) + jnp.prod(picked[:2]) * jnp.sin(params["scale"])


TEMPERATURE = 0.7


def softened(logits: np.ndarray) -> np.ndarray:
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / TEMPERATURE)
    return powers / powers.sum(axis=1, keepdims=True)


def uneven_in_numpy(weights: np.ndarray, scale: float, data: np.ndarray) -> float:
    picked = weights @ VALUES.astype(np.float64)
    return float((np.tanh(picked) * data).sum() + picked[0] * picked[1] * np.sin(scale))


def slopes(function: Any, at: np.ndarray) -> np.ndarray:
    """Central differences, in float64."""
    found = np.zeros_like(at)
    for place in np.ndindex(*at.shape):
        ends = []
        for side in (1e-5, -1e-5):
            moved = at.copy()
            moved[place] += side
            ends.append(function(moved))
        found[place] = (ends[0] - ends[1]) / 2e-5
    return found


DATA = np.array([0.7, -1.1, 0.4], np.float64)
GIVEN = {"x": Choices(jnp.asarray([0, 2, 1], jnp.int32), 3), "scale": jnp.asarray(0.8)}


def relaxed_step(straight_through: bool) -> tuple[Any, np.ndarray, Any, Any]:
    """One step of plain descent at rate 1: what it moves by is the gradient."""
    strategy = Relaxation(optax.sgd(1.0), TEMPERATURE, straight_through, noise=0.5)
    state = strategy.init(KEY, GIVEN)
    objective = Objective(uneven, jnp.asarray(DATA, jnp.float32))
    after, info = shared.step(strategy, KEY, state, objective)
    return strategy, np.asarray(state.relaxed["x"].values, np.float64), (state, after), info


def test_relaxation_follows_the_gradient_of_the_mixture() -> None:
    _, logits, (before, after), info = relaxed_step(straight_through=False)
    soft = uneven_in_numpy(softened(logits), 0.8, DATA)
    assert float(info.loss) == pytest.approx(soft, rel=1e-5)
    expected = slopes(lambda at: uneven_in_numpy(softened(at), 0.8, DATA), logits)
    moved = np.asarray(before.relaxed["x"].values) - np.asarray(after.relaxed["x"].values)
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-5)
    beside = slopes(lambda at: uneven_in_numpy(softened(logits), at[0], DATA), np.array([0.8]))
    assert float(0.8 - after.relaxed["scale"]) == pytest.approx(beside[0], rel=1e-4)
    norm = np.sqrt((expected**2).sum() + beside[0] ** 2)
    assert float(info.diagnostics["gradient_norm"]) == pytest.approx(norm, rel=1e-4)


def test_straight_through_sees_the_hard_choice_and_follows_the_soft_one() -> None:
    strategy, logits, (before, after), info = relaxed_step(straight_through=True)
    deployed = strategy.params(before)
    assert isinstance(deployed["x"], Choices)
    hard = uneven(deployed, jnp.asarray(DATA, jnp.float32))
    assert float(info.loss) == pytest.approx(float(hard), rel=1e-6)
    seen = strategy.seen(before.relaxed, before.hyperparameters["temperature"])
    chex.assert_trees_all_equal(seen["x"], one_hot(deployed["x"]))
    # The gradient of the weights where they are hard, times the slope of the softmax.
    corner = np.eye(3)[np.asarray(deployed["x"].value)]
    of_weights = slopes(lambda at: uneven_in_numpy(at, 0.8, DATA), corner)
    expected = slopes(lambda at: float((softened(at) * of_weights).sum()), logits)
    moved = np.asarray(before.relaxed["x"].values) - np.asarray(after.relaxed["x"].values)
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-5)


def halfway(params: Params, data: Any) -> jax.Array:
    """Best where the mixtures of 0 and 1 are at one half."""
    return jnp.mean((select(params["x"], jnp.asarray([0.0, 1.0])) - 0.5) ** 2)


def test_what_a_relaxation_deploys_is_discrete() -> None:
    """A mixture may be good where no choice is: what is deployed, and so judged, is a choice."""
    strategy = Relaxation(optax.sgd(1.0))
    given = {"x": Choices(jnp.asarray([0, 1, 1, 0], jnp.int32), 2)}
    state = strategy.init(KEY, given)
    chex.assert_trees_all_equal(strategy.params(state), given)
    state, info = shared.run(strategy, KEY, state, Objective(halfway), 200)
    assert float(info.loss[-1]) < 1e-4
    deployed = strategy.params(state)
    assert (deployed["x"].value.dtype, deployed["x"].count) == (jnp.int32, 2)
    assert float(halfway(deployed, ())) == 0.25
    tied = state._replace(relaxed={"x": Logits(jnp.zeros((4, 2)))})
    assert row(strategy.params(tied)) == [0, 0, 0, 0]


# Bad input.


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: BitFlip(population=8, elites=8),
            "elites=8 leaves no room.*fewer than population=8",
        ),
        (lambda: BitFlip(rate=0.0), "rate=0.0 is not allowed; give a finite number above 0"),
        (lambda: BitFlip(crossover=1.5), "crossover=1.5 is more than all; give at most 1"),
        (lambda: CartesianGP(children=0), "children=0 is not allowed"),
        (lambda: PBIL(population=8, best=8), "best=8 chooses nobody.*fewer than population=8"),
        (lambda: PBIL(mutation=-0.1), "mutation=-0.1 is below 0"),
        (lambda: UMDA(start=1.0), "start=1.0 leaves nothing to the other values; give less than 1"),
        (lambda: UMDA(margin=2.0), "margin=2.0 is more than all"),
        (lambda: Relaxation(fitness="score"), "fitness='score' has no gradient"),
        (lambda: Relaxation(temperature=0.0), "temperature=0.0 is not allowed"),
        (lambda: Relaxation(straight_through=1), "straight_through=1 .*give true or false"),  # type: ignore[arg-type]
        (lambda: Relaxation(bonus=-1.0), "bonus=-1.0 is below 0"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(make: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("strategy", "params", "sentence"),
    [
        (Gradient(), GIVEN, r"params\['x'\] holds choices.*take strategies.Relaxation, or"),
        (ES(), GIVEN, r"params\['x'\] holds choices.*take strategies.BitFlip, or"),
        (IntegerES(), GIVEN, r"params\['\w+'\] .*give int8 parameters"),
        (IntegerES(), {"x": GIVEN["x"]}, r"params\['x'\] holds choices.*strategies.BitFlip"),
        (PBIL(), GIVEN, r"params\['scale'\] has type float32.*take strategies.Relaxation"),
        (UMDA(), {"x": Choices(jnp.ones(2), 2)}, r"params\['x'\] holds choices of type float32"),
        (BitFlip(), {"x": Choices(jnp.ones(2, int), 0)}, r"params\['x'\].count=0 is not allowed"),
        (Relaxation(), {"n": jnp.arange(2)}, r"params\['n'\] has type int32"),
    ],
)
def test_who_moves_what_is_said_in_one_sentence(strategy: Any, params: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        strategy.init(KEY, params)


# A model of choices in a comparison.


@dataclass(frozen=True)
class Automaton:
    """A finite automaton whose table of moves, and of answers, is made of choices."""

    states: int = 2

    def max_size(self, spec: TaskSpec) -> int | None:
        return None

    def init(self, key: jax.Array, spec: TaskSpec) -> Params:
        moves, answers = jax.random.split(key)
        shape = (self.states, spec.input_features)
        return {
            "moves": uniform(moves, shape, self.states),
            "answers": uniform(answers, (self.states,), spec.output_features),
        }

    def apply(self, params: Params, inputs: Sequence, *, spec: TaskSpec) -> jax.Array:
        moves = select(params["moves"], jnp.eye(self.states))
        answers = select(params["answers"], jnp.eye(spec.output_features))

        def follow(state: jax.Array, symbol: jax.Array) -> tuple[jax.Array, jax.Array]:
            state = jnp.einsum("bs,bk,tsk->bt", state, symbol, moves)
            return state, jnp.einsum("bs,os->bo", state, answers)

        first = jnp.zeros((inputs.values.shape[0], self.states)).at[:, 0].set(1.0)
        _, chances = jax.lax.scan(follow, first, jnp.swapaxes(inputs.values, 0, 1))
        return 10 * jnp.swapaxes(chances, 0, 1)


TASK = nar.tasks.Parity(train_sizes=range(1, 5), test_sizes=(4, 40))


def test_an_automaton_is_found_and_its_results_are_kept(tmp_path: Path) -> None:
    arms = {
        "ga": nar.Arm(BitFlip(population=32, elites=4), batch=16),
        "relaxation": nar.Arm(Relaxation(optax.adam(0.3)), batch=16),
    }
    results = nar.compare(
        TASK,
        Automaton(),
        arms,
        seeds=2,
        budget=nar.Budget(generations=40),
        evaluation_examples=64,
        out=tmp_path / "run",
        progress=False,
    )
    assert results.data["model"]["parameters"] == 6
    page = (tmp_path / "run" / "report.html").read_text()
    for name in arms:
        assert name in page
        for seed in (0, 1):
            deployed = results.parameters(name, seed)
            template = Automaton().init(KEY, TASK.spec)
            chex.assert_trees_all_equal_shapes_and_dtypes(deployed, template)
            assert (deployed["moves"].count, deployed["answers"].count) == (2, 2)
            data = TASK.sample(KEY, 40, max_size=40, batch=64)
            outputs = Automaton().apply(deployed, data.inputs, spec=TASK.spec)
            saved = results.arm(name)["seeds"][seed]["scores"]["40"]["score"]
            exact = float(TASK.evaluate(outputs, data).score)
            assert (exact == 1) == (saved == 1)
            if name == "ga":
                assert exact == 1, "an automaton of parity is right at any length"


class Broken(Exception):
    """Power is cut."""


class Cut:
    """A logger at which a run ends after so many records."""

    def __init__(self, records: int) -> None:
        self.left = records

    def log(self, arm: str, record: Mapping[str, Any]) -> None:
        self.left -= 1
        if self.left == 0:
            raise Broken

    def close(self) -> None:
        pass


def test_a_run_on_choices_resumes_bit_for_bit(tmp_path: Path) -> None:
    def run(folder: str, **options: Any) -> nar.Run:
        return nar.train(
            nar.tasks.Parity(train_sizes=range(1, 5), test_sizes=(6,)),
            Automaton(states=3),
            nar.Arm(CartesianGP(), batch=8),
            budget=nar.Budget(generations=8),
            evaluation_examples=16,
            out=tmp_path / folder,
            checkpoint_seconds=0.0,
            progress=False,
            **options,
        )

    whole = run("whole")
    assert isinstance(whole.params["moves"], Choices)
    assert whole.params["moves"].count == 3
    assert 0 <= whole.scores["6"]["score"] <= 1
    with pytest.raises(Broken):
        run("cut", loggers=[Cut(5)])
    resumed = run("cut", resume=True)
    chex.assert_trees_all_equal(resumed.params, whole.params)
    left = what_a_run_left(tmp_path / "whole")
    assert what_a_run_left(tmp_path / "cut") == left
    assert any(name.endswith("deployed.npz:moves/value") for name in left)


def test_choices_are_saved_and_loaded(tmp_path: Path) -> None:
    params = {"x": uniform(KEY, (3, 2), 7), "scale": jnp.asarray(0.5)}
    save_params(tmp_path / "deployed.npz", params)
    template = jax.eval_shape(lambda: params)
    found = load_params(tmp_path / "deployed.npz", template)
    chex.assert_trees_all_equal(found, params)
    assert (found["x"].count, found["x"].value.dtype) == (7, np.int32)
    other = {**template, "x": Choices(jax.ShapeDtypeStruct((4, 2), jnp.int32), 7)}  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'x/value' should have shape"):
        load_params(tmp_path / "deployed.npz", other)
