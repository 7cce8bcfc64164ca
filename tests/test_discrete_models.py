"""Machines of choices and steps: against loops in NumPy, wired by hand, soft against hard."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import apply, fresh

import evojax_nar as nar
from evojax_nar import tasks
from evojax_nar.discrete import Choices, Mixture, is_choices, soften
from evojax_nar.errors import InputError
from evojax_nar.models.discrete import (
    DiscreteModel,
    LookupAutomaton,
    NandNetwork,
    NeuralAutomaton,
    StepRNN,
    TernaryStepRNN,
)
from evojax_nar.models.discrete.base import output_bits, read_out
from evojax_nar.models.discrete.step import step, straight_through_step
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.types import Batch, Field, Params, Sequence, TaskSpec

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(11)
ADDITION = tasks.get("formal/serial_addition", train_sizes=(4,), test_sizes=(4,))
ROW = TaskSpec("row", (Field("cell", "bits", 1),), (Field("cell", "bits", 1),), 9, 9)
SYMBOLS = TaskSpec(
    "symbols",
    (Field("class", "categorical", 3), Field("bits", "bits", 2)),
    (Field("bits", "bits", 2), Field("class", "categorical", 3)),
    6,
    6,
)
DISCRETE: list[DiscreteModel] = [
    NandNetwork(gates=2, layers=4, state=2),
    NandNetwork(gates=1, layers=6, state=2, truth_tables=True),
    LookupAutomaton(states=3),
    LookupAutomaton(states=2, radius=2, steps=3, ring=True),
    TernaryStepRNN(hidden=4),
    TernaryStepRNN(hidden=3, levels=2),
]
FLOAT = [
    NeuralAutomaton(channels=3, hidden=5),
    NeuralAutomaton(channels=3, hidden=5, steps=4, ring=True),
    StepRNN(hidden=6),
    StepRNN(hidden=6, straight_through=True),
]
every_discrete = pytest.mark.parametrize("model", DISCRETE, ids=str)
every_float = pytest.mark.parametrize("model", FLOAT, ids=str)


def chosen(values: Any, count: int) -> Choices:
    return Choices(jnp.asarray(values, jnp.int32), count)


def symbols(lengths: tuple[int, ...] = (6, 4, 1), seed: int = 0) -> Sequence:
    """Random inputs of `SYMBOLS`, padded to the longest, with numbers other than 0 and 1."""
    draw = np.random.default_rng(seed)
    shape, time = (len(lengths), max(lengths)), max(lengths)
    one_hot = np.eye(3)[draw.integers(0, 3, shape)]
    bits = draw.choice([0.1, 0.9], (*shape, 2))
    mask = np.arange(time) < np.array(lengths)[:, None]
    values = np.where(mask[..., None], np.concatenate([one_hot, bits], axis=-1), 0)
    return Sequence(jnp.asarray(values, jnp.float32), jnp.asarray(mask))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def sample(task: tasks.SequenceTask, size: int, batch: int) -> Batch:
    return task.sample(KEY, size, max_size=size, batch=batch)


def hardened(params: Params) -> Params:
    """Mixtures with all their weight on the choices made."""
    return jax.tree.map(
        lambda node: Mixture(jnp.asarray(np.eye(node.count, dtype=np.float32)[node.value])),
        params,
        is_leaf=is_choices,
    )


def softened(params: Params, seed: int = 0) -> Params:
    """Mixtures of the same shapes, all choices with some weight."""
    draw = np.random.default_rng(seed)
    logits = jax.tree.map(
        lambda node: jnp.asarray(draw.normal(size=(*node.value.shape, node.count)), jnp.float32),
        params,
        is_leaf=is_choices,
    )
    return soften(logits)


def logit(p: float) -> float:
    """What a bit that is 1 with probability p is as an output: at most 8 on either side."""
    return 8.0 if p == 1 else -8.0 if p == 0 else min(8.0, max(-8.0, math.log(p / (1 - p))))


def logs(p: float) -> tuple[float, float]:
    """Logarithms of the probabilities of 0 and 1, held to what logits of 8 allow."""
    least = 1 / (1 + math.exp(8))
    p, q = (min(max(x, least), 1 - least) for x in (p, 1 - p))
    return math.log(q), math.log(p)


# What all models of choices promise.


@every_discrete
def test_fresh_choices_are_in_range_and_sure_mixtures_say_the_same(model: DiscreteModel) -> None:
    params = fresh(model, KEY, SYMBOLS)
    for leaf in jax.tree.leaves(params, is_leaf=is_choices):
        assert is_choices(leaf)
        assert leaf.value.dtype == jnp.int32
        assert ((leaf.value >= 0) & (leaf.value < leaf.count)).all()
    outputs = [apply(model, own, symbols(), SYMBOLS) for own in (params, hardened(params))]
    np.testing.assert_array_equal(*outputs)


@every_discrete
def test_soft_gradients_are_finite(model: DiscreteModel) -> None:
    draw = np.random.default_rng(5)
    targets = jnp.asarray(draw.normal(size=(3, 6, 5)), jnp.float32)
    inputs = symbols()

    def loss(params: Params) -> jax.Array:
        outputs = model.apply(params, inputs, spec=SYMBOLS)
        return (jnp.where(inputs.mask[..., None], outputs, 0) * targets).sum()

    params = softened(fresh(model, KEY, SYMBOLS))
    slopes = jax.jit(jax.grad(loss))(params)
    moved = {
        jax.tree_util.keystr(path): bool(np.asarray(leaf).any())
        for path, leaf in jax.tree_util.tree_leaves_with_path(slopes)
    }
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    assert all(moved.values()), moved


def test_outputs_are_read_from_bits() -> None:
    bits = np.array([1.0, 0.0, 1.0, 0.0, 0.3, 0.5, 0.2, 0.9], np.float32).reshape(2, 4)
    found = np.asarray(read_out(SYMBOLS, jnp.asarray(bits)))
    assert output_bits(SYMBOLS) == 4
    for given, outputs in zip(bits.tolist(), found, strict=True):
        (high_0, high_1), (low_0, low_1) = logs(given[2]), logs(given[3])
        classes = [high_0 + low_0, high_0 + low_1, high_1 + low_0]
        expected = [logit(given[0]), logit(given[1]), *classes]
        np.testing.assert_allclose(outputs, expected, rtol=1e-4)
    assert found[0, 2:].argmax() == 2  # the class whose number is written 10
    ten = replace(SYMBOLS, outputs=(Field("digit", "categorical", 10),))
    two = replace(SYMBOLS, outputs=(Field("class", "categorical", 2),))
    assert (output_bits(ten), output_bits(two)) == (4, 1)


@every_discrete
def test_what_is_neither_bits_nor_classes_is_refused(model: DiscreteModel) -> None:
    spec = tasks.get("sort").spec
    with pytest.raises(InputError, match=rf"{model.name}.*'sort' asks for 'rank', which is scalar"):
        model.init(KEY, spec)
    with pytest.raises(InputError, match="reads sequences, and task='clrs/bfs' gives graphs"):
        model.init(KEY, tasks.get("clrs/bfs").spec)


# Circuits.

# The nine NAND gates of a full adder: signals are the constant 0, the bits a and b, and the carry;
# then gates 4, 5, ..., 12, of which 7 is a xor b, 11 the sum and 12 the next carry.
FULL_ADDER = [(1, 2), (1, 4), (2, 4), (5, 6), (7, 3), (7, 8), (3, 8), (9, 10), (8, 4)]
ADDER = NandNetwork(gates=1, layers=9, state=1)


def adder(wires: Any = FULL_ADDER) -> Params:
    return {
        "wires": chosen(np.array(wires)[:, None], 12),
        "state": chosen([12], 13),
        "outputs": chosen([11], 13),
    }


def added(pairs: list[tuple[int, int]], size: int, outputs: Any) -> None:
    """Outputs (B, size + 1, 1) say the sums of pairs of numbers of `size` bits."""
    for (first, second), row in zip(pairs, np.asarray(outputs)[..., 0] > 0, strict=True):
        assert sum(int(bit) << place for place, bit in enumerate(row)) == first + second


def numbers(pairs: list[tuple[int, int]], size: int) -> Sequence:
    bits = [[[n >> place & 1 for n in pair] for place in range(size + 1)] for pair in pairs]
    return Sequence(jnp.asarray(bits, jnp.float32), jnp.ones((len(bits), size + 1), bool))


def large(count: int, bits: int) -> list[tuple[int, int]]:
    """Pairs of random numbers, and one whose carry runs through all bits."""
    draw = np.random.default_rng(bits)
    drawn = ["".join(map(str, draw.integers(0, 2, bits))) for _ in range(2 * count)]
    pairs = [(int(a, 2), int(b, 2)) for a, b in zip(drawn[::2], drawn[1::2], strict=True)]
    return [*pairs, (2**bits - 1, 1)]


def test_nine_gates_add_numbers_of_any_length() -> None:
    pairs = [(a, b) for a in range(16) for b in range(16)]
    added(pairs, 4, apply(ADDER, adder(), numbers(pairs, 4), ADDITION.spec))
    added(large(6, 64), 64, apply(ADDER, adder(), numbers(large(6, 64), 64), ADDITION.spec))
    batch = sample(ADDITION, 64, 8)
    result = ADDITION.evaluate(apply(ADDER, adder(), batch.inputs, ADDITION.spec), batch)
    assert float(result.metrics["exact"]) == 1
    assert float(result.loss) < 1e-3


def test_choices_beyond_a_layer_are_taken_modulo() -> None:
    before = 4 + np.arange(9)[:, None]
    wires = np.array(FULL_ADDER)
    assert (wires < before).all()
    further = np.where(wires + before < 12, wires + before, wires)
    assert (further != wires).any()
    pairs = [(a, b) for a in range(16) for b in range(16)]
    added(pairs, 4, apply(ADDER, adder(further), numbers(pairs, 4), ADDITION.spec))


def test_gates_with_truth_tables_add_with_five_of_them() -> None:
    """Xor, xor, and, and, or, in layers of two whose spare gate is wired to the constant."""
    model = NandNetwork(gates=2, layers=3, state=1, truth_tables=True)
    xor, conjunction, disjunction, never = [0, 1, 1, 0], [0, 0, 0, 1], [0, 1, 1, 1], [0] * 4
    params = {
        "wires": chosen([[(1, 2), (1, 2)], [(4, 3), (4, 3)], [(5, 7), (0, 0)]], 8),
        "tables": chosen([[xor, conjunction], [xor, conjunction], [disjunction, never]], 2),
        "state": chosen([8], 10),
        "outputs": chosen([6], 10),
    }
    pairs = [(a, b) for a in range(16) for b in range(16)]
    added(pairs, 4, apply(model, params, numbers(pairs, 4), ADDITION.spec))


def circuit_oracle(model: NandNetwork, params: Params, values: np.ndarray) -> np.ndarray:
    """Bits of the outputs (T, K) of one example (T, F), by lists of numbers, hard or soft."""
    weights = {
        name: np.asarray(node.weights, np.float64)
        if isinstance(node, Mixture)
        else np.eye(node.count)[node.value]
        for name, node in params.items()
    }
    state, said = [0.0] * model.state, []
    for row in values:
        signals = [0.0, *(float(x > 0.5) for x in row), *state]
        for layer in range(model.layers):
            before, new = list(signals), []
            for gate in range(model.gates):
                a, b = (
                    sum(w * before[place % len(before)] for place, w in enumerate(wire))
                    for wire in weights["wires"][layer, gate]
                )
                if model.truth_tables:
                    table = weights["tables"][layer, gate][:, 1]
                    corners = [(1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b]
                    new.append(float(np.dot(table, corners)))
                else:
                    new.append(1 - a * b)
            signals += new
        state = [float(np.dot(wire, signals)) for wire in weights["state"]]
        said.append([float(np.dot(wire, signals)) for wire in weights["outputs"]])
    return np.array(said)


@pytest.mark.parametrize("model", DISCRETE[:2], ids=str)
def test_circuits_are_those_of_the_loops(model: NandNetwork) -> None:
    inputs = symbols()
    for seed in range(6):
        hard = fresh(model, jax.random.key(seed), SYMBOLS)
        for params in (hard, softened(hard, seed)):
            outputs = np.asarray(apply(model, params, inputs, SYMBOLS))
            for row, values in enumerate(np.asarray(inputs.values)):
                bits = circuit_oracle(model, params, values)
                for found, (*two, high, low) in zip(outputs[row], bits, strict=True):
                    of_high, of_low = logs(high), logs(low)
                    classes = [of_high[n >> 1] + of_low[n & 1] for n in range(3)]
                    expected = [*map(logit, two), *classes]
                    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


# Automata.


def bits_row(rows: list[np.ndarray]) -> Sequence:
    time = max(map(len, rows))
    values = np.zeros((len(rows), time, 1), np.float32)
    for place, row in enumerate(rows):
        values[place, : len(row), 0] = row
    mask = np.arange(time) < np.array([len(row) for row in rows])[:, None]
    return Sequence(jnp.asarray(values), jnp.asarray(mask))


def elementary(rule: int) -> Params:
    return {
        "start": chosen([0, 1], 2),
        "rule": chosen([rule >> number & 1 for number in range(8)], 2),
        "outputs": {"cell": chosen([[0], [1]], 2)},
    }


def followed(rule: int, row: np.ndarray, steps: int, *, ring: bool) -> np.ndarray:
    """A row after `steps` steps of an elementary automaton, cell by cell, in Python."""
    cells = [int(cell) for cell in row]
    for _ in range(steps):
        last = len(cells) - 1
        ends = (cells[-1], cells[0]) if ring else (0, 0)
        cells = [
            rule
            >> (
                4 * (cells[place - 1] if place else ends[0])
                + 2 * cells[place]
                + (cells[place + 1] if place < last else ends[1])
            )
            & 1
            for place in range(len(cells))
        ]
    return np.array(cells)


@pytest.mark.parametrize("ring", [True, False])
@pytest.mark.parametrize("steps", [40, None])
def test_elementary_automata_are_those_of_the_loops(ring: bool, steps: int | None) -> None:
    model = LookupAutomaton(states=2, radius=1, steps=steps, ring=ring)
    draw = np.random.default_rng(3)
    rows = [draw.integers(0, 2, length) for length in (40, 33, 7, 2, 1)]
    for rule in (110, 90, 30):
        outputs = np.asarray(apply(model, elementary(rule), bits_row(rows), ROW))[..., 0]
        for row, found in zip(rows, outputs, strict=True):
            expected = followed(rule, row, steps or len(row), ring=ring)
            sure = np.where(expected, 8, -8)
            np.testing.assert_allclose(found[: len(row)], sure, atol=1e-3)


def test_rule_90_draws_the_triangle_of_pascal() -> None:
    """From a single 1, cell x after t steps is the binomial coefficient of t and (t + x) / 2."""
    steps, middle = 31, 40
    model = LookupAutomaton(states=2, steps=steps)
    row = np.zeros(81)
    row[middle] = 1
    found = apply(model, elementary(90), bits_row([row]), ROW)[0, :, 0] > 0
    places = np.arange(81) - middle + steps
    chances = [math.comb(steps, n // 2) % 2 if n % 2 == 0 and n >= 0 else 0 for n in places]
    np.testing.assert_array_equal(found, np.array(chances, bool))


def test_a_rule_of_radius_three_is_that_of_density_classification() -> None:
    task = tasks.logic.DensityClassification(train_sizes=(21,), test_sizes=(21,))
    model = LookupAutomaton(states=2, radius=3, steps=42, ring=True)
    table = tasks.logic.gkl_table()
    params = {
        "start": chosen([0, 1], 2),
        "rule": chosen(table, 2),
        "outputs": {"majority": chosen([0, 1], 2)},
    }
    batch = sample(task.test, 21, 64)
    outputs = np.asarray(apply(model, params, batch.inputs, task.spec))
    rows = np.asarray(batch.inputs.values)[..., 1].astype(int)
    classified = tasks.logic.classify(table, jnp.asarray(rows))
    uniform = outputs.argmax(axis=-1) == (2 * rows.sum(axis=1, keepdims=True) > 21)
    np.testing.assert_array_equal(uniform.all(axis=1), classified.right)
    assert 0.8 < classified.right.mean() < 1


@pytest.mark.parametrize("model", DISCRETE[2:4], ids=str)
def test_automata_are_those_of_the_loops_hard_and_soft(model: LookupAutomaton) -> None:
    inputs = symbols()
    hard = fresh(model, KEY, SYMBOLS)
    for params in (hardened(hard), softened(hard)):
        start, rule = (np.asarray(params[name].weights, np.float64) for name in ("start", "rule"))
        bits, classes = (
            np.asarray(params["outputs"][name].weights, np.float64) for name in ("bits", "class")
        )
        outputs = np.asarray(apply(model, params, inputs, SYMBOLS))
        for row, (values, mask) in enumerate(
            zip(np.asarray(inputs.values), np.asarray(inputs.mask), strict=True)
        ):
            length = int(mask.sum())
            symbol = [
                4 * int(x[:3].argmax()) + 2 * int(x[3] > 0.5) + int(x[4] > 0.5)
                for x in values[:length]
            ]
            cells = [start[number] for number in symbol]
            for _ in range(model.steps or length):
                cells = [automaton_cell(model, rule, cells, place) for place in range(length)]
            for cell, found in zip(cells, outputs[row], strict=False):
                ones = [float(cell @ bits[:, feature, 1]) for feature in range(2)]
                of_class = [logs(float(p))[1] for p in cell @ classes]
                expected = [*map(logit, ones), *of_class]
                np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def automaton_cell(
    model: LookupAutomaton, rule: np.ndarray, cells: list[np.ndarray], place: int
) -> np.ndarray:
    """Weights (k,) of the next states of a cell: the mean over all neighbourhoods it may have."""
    around, quiet = [], np.eye(model.states)[0]
    for distance in range(-model.radius, model.radius + 1):
        other = place + distance
        if model.ring:
            around.append(cells[other % len(cells)])
        else:
            around.append(cells[other] if 0 <= other < len(cells) else quiet)
    after = np.zeros(model.states)
    for entry, row in enumerate(rule):
        chance, rest = 1.0, entry
        for cell in reversed(around):
            rest, digit = divmod(rest, model.states)
            chance *= cell[digit]
        after += chance * row
    return after


@pytest.mark.parametrize("model", FLOAT[:2], ids=str)
def test_neural_automata_are_those_of_the_loops(model: NeuralAutomaton) -> None:
    inputs = symbols()
    params = noisy(model)
    outputs = np.asarray(apply(model, params, inputs, SYMBOLS))
    own = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for row, (values, mask) in enumerate(
        zip(np.asarray(inputs.values, np.float64), np.asarray(inputs.mask), strict=True)
    ):
        length = int(mask.sum())
        cells = [x @ own["start"]["kernel"] + own["start"]["bias"] for x in values[:length]]
        for _ in range(model.steps or length):
            new = []
            for place in range(length):
                total = own["inputs"]["bias"].copy()
                for index, other in enumerate((place - 1, place, place + 1)):
                    if not model.ring and not 0 <= other < length:
                        continue
                    other %= length
                    total += cells[other] @ own["perceive"][3 * index : 3 * index + 3]
                    total += values[other] @ own["inputs"]["kernel"][5 * index : 5 * index + 5]
                moved = np.maximum(total, 0) @ own["update"] + own["offset"]
                new.append(np.clip(cells[place] + moved, -10, 10))
            cells = new
        expected = np.array(cells) @ own["read_out"]["kernel"] + own["read_out"]["bias"]
        np.testing.assert_allclose(outputs[row, :length], expected, rtol=1e-5, atol=1e-5)


def test_states_of_neural_automata_stay_finite_and_are_shown() -> None:
    model = NeuralAutomaton(channels=3, hidden=5, steps=300)
    outputs, shown = jax.jit(lambda own: model.inspect(own, symbols(), spec=SYMBOLS))(
        noisy(model, scale=2.0)
    )
    assert np.isfinite(outputs).all()
    assert shown["cells"].shape == (300, 3, 6, 3)
    assert float(jnp.abs(shown["cells"]).max()) == 10


def test_a_fresh_neural_automaton_does_nothing() -> None:
    model = NeuralAutomaton(channels=3, hidden=5)
    params = fresh(model, KEY, SYMBOLS)
    ours, theirs = (
        apply(own, params, symbols(), SYMBOLS) for own in (model, replace(model, steps=1))
    )
    np.testing.assert_array_equal(ours, theirs)


# Units that step.


def noisy(model: Any, *, scale: float = 0.7) -> Params:
    """Parameters none of which is zero."""
    draw = np.random.default_rng(8)
    return jax.tree.map(
        lambda leaf: jnp.asarray(draw.normal(scale=scale, size=leaf.shape), jnp.float32),
        fresh(model, KEY, SYMBOLS),
    )


@pytest.mark.parametrize("straight_through", [False, True])
def test_step_networks_are_those_of_the_loops(straight_through: bool) -> None:
    model = StepRNN(hidden=6, straight_through=straight_through)
    inputs, params = symbols(), noisy(model)
    outputs, shown = jax.jit(lambda own: model.inspect(own, inputs, spec=SYMBOLS))(params)
    np.testing.assert_array_equal(outputs, apply(model, params, inputs, SYMBOLS))
    own = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["StepCell_0"])
    for row, values in enumerate(np.asarray(inputs.values, np.float64)):
        state = np.zeros(6)
        for time, x in enumerate(values):
            total = x @ own["inputs"]["kernel"] + own["inputs"]["bias"]
            total = total + state @ own["state"]["kernel"]
            state = np.array([1.0 if z > 0 else 0.0 for z in total])
            expected = state @ own["read_out"]["kernel"] + own["read_out"]["bias"]
            np.testing.assert_array_equal(shown["hidden"][time, row], state)
            np.testing.assert_allclose(outputs[row, time], expected, rtol=1e-5, atol=1e-5)


# Unit k of the adders is on where a + b + carry is at least k, so unit 2 is the next carry.
INPUTS, STATE = np.ones((2, 3)), np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]])
BIAS, READ_OUT = np.array([-0.5, -1.5, -2.5]), np.array([[1], [-1], [1]])


@pytest.mark.parametrize("straight_through", [False, True])
def test_three_steps_add_a_thousand_bits(straight_through: bool) -> None:
    model = StepRNN(hidden=3, straight_through=straight_through)
    params = {
        "StepCell_0": {
            "inputs": {"kernel": INPUTS, "bias": BIAS},
            "state": {"kernel": STATE.astype(float)},
            "read_out": {"kernel": READ_OUT.astype(float), "bias": np.array([-0.5])},
        }
    }
    pairs = large(3, 1000)
    added(pairs, 1000, apply(model, params, numbers(pairs, 1000), ADDITION.spec))


@pytest.mark.parametrize("levels", [1, 2])
def test_three_steps_of_whole_weights_add_a_thousand_bits(levels: int) -> None:
    model, weights, biases = TernaryStepRNN(3, levels), 2 * levels + 1, 2 * levels + 4
    lowest = levels + 1.5
    params = {
        "inputs": chosen(INPUTS + levels, weights),
        "state": chosen(STATE + levels, weights),
        "bias": chosen(BIAS + lowest, biases),
        "read_out": chosen(READ_OUT + levels, weights),
        "read_out_bias": chosen([-0.5 + lowest], biases),
    }
    drawn = fresh(model, KEY, ADDITION.spec)
    kinds = [
        [(leaf.value.shape, leaf.count) for leaf in jax.tree.leaves(tree, is_leaf=is_choices)]
        for tree in (drawn, params)
    ]
    assert kinds[0] == kinds[1]
    pairs = large(3, 1000)
    outputs = apply(model, params, numbers(pairs, 1000), ADDITION.spec)
    added(pairs, 1000, outputs)
    assert set(np.unique(outputs)) <= {-2.0, 2.0}  # four times a half


def test_steps_have_no_gradient_and_say_so() -> None:
    loss = TaskLoss(ADDITION, StepRNN(hidden=3), ADDITION.spec)
    objective = Objective(loss, sample(ADDITION, 4, 4))
    strategy = nar.strategies.Gradient()
    state = strategy.init(KEY, fresh(loss.model, KEY, ADDITION.spec))
    with pytest.raises(InputError) as refused:
        jax.jit(strategy.step)(KEY, state, objective)
    assert str(refused.value) == (
        "straight_through=False leaves the step activation without a gradient; "
        "set straight_through=true, or use a gradient-free strategy"
    )
    values = jnp.array([-2.0, -0.49, 0.0, 0.49, 2.0])
    np.testing.assert_array_equal(step(values), [0, 0, 0, 1, 1])
    slopes = jax.vmap(jax.grad(straight_through_step))(values)
    np.testing.assert_array_equal(slopes, [0, 1, 1, 1, 0])


@pytest.mark.parametrize(
    "strategy",
    [
        nar.strategies.ES(population=8),
        nar.strategies.GeneticAlgorithm(population=8, elites=2, capacity=2),
    ],
    ids=lambda strategy: strategy.name,
)
def test_steps_are_evolved_without_one(strategy: Any) -> None:
    loss = TaskLoss(ADDITION, StepRNN(hidden=3), ADDITION.spec)
    objective = Objective(loss, sample(ADDITION, 4, 4))
    state = strategy.init(KEY, fresh(loss.model, KEY, ADDITION.spec))
    _, info = jax.jit(strategy.step)(KEY, state, objective)
    assert bool(info.healthy)


@every_float
def test_float_models_fall_back_nowhere(model: Any) -> None:
    params = jax.eval_shape(lambda: model.init(KEY, SYMBOLS))
    audit = nar.audit(model, params, spec=SYMBOLS, strict=True)
    assert audit.fallback_bytes == 0
    assert {row.kind for row in audit.rows} == {"shared + rank 1", "dense"}


@pytest.mark.parametrize("model", [*FLOAT[:2], FLOAT[3]], ids=str)
def test_float_gradients_are_finite(model: Any) -> None:
    def loss(params: Params) -> jax.Array:
        return jnp.square(model.apply(params, symbols(), spec=SYMBOLS)).sum()

    slopes = jax.tree.leaves(jax.jit(jax.grad(loss))(noisy(model)))
    assert all(np.isfinite(leaf).all() and np.asarray(leaf).any() for leaf in slopes)


# Settings and contracts.


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (NandNetwork, {"gates": 0}, r"gates=0 is not allowed; give a whole number of at least 1"),
        (NandNetwork, {"layers": 1.5}, r"layers=1.5 is not allowed"),
        (NandNetwork, {"state": -1}, r"state=-1 is not allowed"),
        (LookupAutomaton, {"states": 1}, r"states=1 is not allowed; give .* at least 2"),
        (LookupAutomaton, {"states": 10, "radius": 3}, r"states=10 makes a rule of 10000000 entr"),
        (LookupAutomaton, {"steps": 0}, r"steps=0 is not allowed"),
        (NeuralAutomaton, {"channels": 0}, r"channels=0 is not allowed"),
        (NeuralAutomaton, {"steps": True}, r"steps=True is not allowed"),
        (StepRNN, {"hidden": 0}, r"hidden=0 is not allowed"),
        (TernaryStepRNN, {"levels": 0}, r"levels=0 is not allowed"),
    ],
)
def test_bad_settings_are_refused(cls: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cls(**settings)


def test_an_automaton_refuses_what_has_too_many_symbols() -> None:
    wide = replace(SYMBOLS, inputs=(Field("bits", "bits", 17),))
    with pytest.raises(InputError, match=r"the inputs of task='symbols' have 131072; choose"):
        LookupAutomaton().init(KEY, wide)
