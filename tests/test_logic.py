"""Truth tables, the multiplexer in time, addition and densities, against plain Python."""

from __future__ import annotations

import itertools
import json
from typing import Any

import contracts
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from evojax_nar import models
from evojax_nar.errors import InputError
from evojax_nar.tasks import logic
from evojax_nar.tasks.logic.decoding import decode
from evojax_nar.tasks.logic.density import UNBIASED, UNIFORM, draw_rows
from evojax_nar.tasks.sequence import SequenceTask, judge, predictions
from evojax_nar.types import Batch

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(3)


def sample(task: SequenceTask, sizes: Any, max_size: int, batch: int) -> Batch:
    draw = jax.jit(lambda key, size: task.sample(key, size, max_size=max_size, batch=batch))
    return jax.device_get(draw(KEY, jnp.asarray(sizes, jnp.int32)))


def uniform(counts: np.ndarray) -> bool:
    """Whether counts could be of a uniform distribution: a chi-squared test at one in a million."""
    return bool(scipy.stats.chisquare(counts).pvalue > 1e-6)


# Truth tables.


def parity(row: tuple[int, ...]) -> list[int]:
    return [row.count(1) % 2]


def multiplexer(row: tuple[int, ...]) -> list[int]:
    address_bits = {3: 1, 6: 2, 11: 3, 20: 4, 37: 5}[len(row)]
    return [row[address_bits + int("".join(map(str, row[:address_bits])), 2)]]


def adder(row: tuple[int, ...]) -> list[int]:
    bits = len(row) // 2
    first, second = ("".join(map(str, part)) for part in (row[:bits], row[bits:-1]))
    return [int(bit) for bit in f"{int(first, 2) + int(second, 2) + row[-1]:0{bits + 1}b}"]


@pytest.mark.parametrize(
    ("task", "function"),
    [
        (logic.ParityTable(bits=1), parity),
        (logic.ParityTable(bits=6), parity),
        (logic.MultiplexerTable(), multiplexer),
        (logic.MultiplexerTable(address_bits=3), multiplexer),
        (logic.AdderTable(bits=1), adder),
        (logic.AdderTable(bits=4), adder),
    ],
    ids=lambda own: getattr(own, "__name__", str(own)),
)
def test_whole_tables(task: logic.TruthTable, function: Any) -> None:
    table, rows = task.whole_table(), list(itertools.product((0, 1), repeat=task.columns))
    assert task.rows == len(rows)
    np.testing.assert_array_equal(table.inputs.values[:, 0], rows)
    np.testing.assert_array_equal(table.targets[:, 0], [function(row) for row in rows])
    assert np.asarray(table.mask).all()
    assert np.asarray(table.inputs.mask).all()
    assert (np.asarray(table.size) == 1).all()


def test_the_largest_multiplexer_table() -> None:
    table = logic.MultiplexerTable(address_bits=4).whole_table()
    number = np.arange(2**20)
    np.testing.assert_array_equal(
        table.inputs.values[:, 0] @ 2.0 ** np.arange(19, -1, -1, dtype=np.float32), number
    )
    answers = number >> (15 - (number >> 16)) & 1
    np.testing.assert_array_equal(table.targets[:, 0, 0], answers)


@pytest.mark.parametrize(
    ("task", "inputs"), [(logic.ParityTable(bits=21), 21), (logic.AdderTable(bits=30), 61)]
)
def test_larger_tables_are_not_listed(task: logic.TruthTable, inputs: int) -> None:
    with pytest.raises(InputError) as error:
        task.whole_table()
    assert str(error.value) == (
        f"the table of {task.name} with {inputs} inputs has {2**inputs} rows; "
        "give it at most 20 inputs, or sample rows."
    )
    assert sample(task, 1, 1, 4).targets.shape == (4, 1, task.output.features)


def test_the_widest_adder_does_not_overflow() -> None:
    rows = np.ones((1, 61), np.int32)
    np.testing.assert_array_equal(logic.AdderTable(bits=30).values(jnp.asarray(rows)), [[1] * 31])


def test_rows_are_uniform() -> None:
    task, total = logic.ParityTable(bits=3), 8192
    batch = sample(task, 1, 1, total)
    rows = batch.inputs.values[:, 0].astype(int)
    assert uniform(np.bincount(rows @ [4, 2, 1], minlength=8))
    np.testing.assert_array_equal(batch.targets[:, 0, 0], rows.sum(axis=1) % 2)


def test_a_row_of_another_size_is_judged_nowhere() -> None:
    batch = sample(logic.ParityTable(bits=2), [1, 2], 2, 2)
    assert batch.mask.tolist() == [[True], [False]]


# The multiplexer in time.


def test_the_multiplexer_bit_by_bit() -> None:
    task = logic.Multiplexer(train_sizes=(3, 6), test_sizes=37)
    sizes = np.array([3, 6, 11, 20, 37] * 12)
    batch = sample(task, sizes, 40, len(sizes))
    answers = task.truths(batch)
    for row, size in enumerate(sizes):
        values = batch.inputs.values[row]
        bits, part = values[:size, :2].argmax(axis=1), values[:size, 2:].argmax(axis=1)
        address_bits = {3: 1, 6: 2, 11: 3, 20: 4, 37: 5}[size]
        assert part.tolist() == [0] * address_bits + [1] * (size - address_bits)
        assert (values[:size].reshape(-1, 2).sum(axis=1) == 1).all()
        assert not values[size:].any()
        assert np.flatnonzero(batch.mask[row]).tolist() == [size - 1]
        assert [answers[row, size - 1]] == multiplexer(tuple(bits.tolist()))


def test_sizes_of_no_multiplexer_are_judged_nowhere() -> None:
    task = logic.Multiplexer()
    batch = sample(task, [6, 7, 12, 36, 37, 0], 40, 6)
    assert batch.mask.sum(axis=1).tolist() == [1, 0, 0, 0, 1, 0]
    outputs = jnp.zeros((6, 40, 2))
    assert np.isnan(judge(task.output, outputs, batch).loss)


# Addition.

ADDITIONS = [logic.DecimalAddition(), logic.AutoregressiveAddition()]


def number(digits: Any) -> int:
    return int("".join(str(int(digit)) for digit in reversed(digits)))


@pytest.mark.parametrize("task", ADDITIONS, ids=lambda task: task.name)
def test_sums_of_sampled_numbers(task: SequenceTask) -> None:
    sizes = np.array([1, 2, 3, 10, 20, 23] * 8)
    batch = sample(task, sizes, 23, len(sizes))
    for row, size in enumerate(sizes.tolist()):
        steps = 3 * size + 2
        tokens = batch.inputs.values[row].argmax(axis=1)
        assert batch.inputs.mask[row].tolist() == [True] * steps + [False] * (71 - steps)
        assert (batch.inputs.values[row].sum(axis=1) == batch.inputs.mask[row]).all()
        assert (tokens[size], tokens[2 * size + 1]) == (10, 11)
        judged = np.flatnonzero(batch.mask[row])
        assert judged.tolist() == list(range(2 * size + 1, steps))
        digits = batch.targets[row, judged]
        total = number(tokens[:size]) + number(tokens[size + 1 : 2 * size + 1])
        assert number(digits) == total
        shown = tokens[2 * size + 2 : steps].tolist()
        fed_back = isinstance(task, logic.AutoregressiveAddition)
        assert shown == (digits[:-1].tolist() if fed_back else [12] * size)


def test_numbers_are_uniform() -> None:
    digits = np.asarray(logic.DecimalAddition().draw(KEY, max_size=3, batch=4000))
    for place, which in itertools.product(range(3), range(2)):
        assert uniform(np.bincount(digits[:, place, which], minlength=10))
    # Both numbers together, by their last digits: a pair of draws that were not independent fails.
    pairs = 10 * digits[:, 0, 0] + digits[:, 0, 1]
    assert uniform(np.bincount(pairs, minlength=100))


@pytest.mark.parametrize("task", ADDITIONS, ids=lambda task: task.name)
def test_given_pairs(task: Any) -> None:
    pairs = [(9_999_999_999, 1), (0, 0), (1_234_567_890, 9_876_543_210), (5, 70)]
    batch = task.encode_pairs(pairs)
    assert batch.inputs.values.shape == (4, 32, task.tokens)
    for row, (first, second) in enumerate(pairs):
        assert number(np.asarray(batch.targets[row])[np.asarray(batch.mask[row])]) == first + second
    assert task.encode_pairs([(99, 1)], digits=2).targets[0, -3:].tolist() == [0, 0, 1]


def test_the_pairs_of_the_board() -> None:
    # The first and the last random pair as the board's own program draws them.
    pairs = logic.board_pairs()
    assert len(pairs) == 10_010
    assert pairs[10] == (2395527356, 9334186774)
    assert pairs[11] == (4296888873, 8475224721)
    assert pairs[-1] == (4210807827, 8038206893)
    assert pairs[:10].count((9_999_999_999, 9_999_999_999)) == 2
    batch = logic.DecimalAddition().encode_pairs(pairs)
    outputs = jax.nn.one_hot(batch.targets, 10)
    assert float(judge(logic.DecimalAddition().output, outputs, batch).metrics["exact"]) == 1


def test_what_is_right_with_feedback_is_right_with_ones_own() -> None:
    """A half-trained model decodes exactly those sums that it predicts when shown right digits."""
    task = logic.AutoregressiveAddition(train_sizes=(1, 2), test_sizes=(2,))
    model = models.Transformer(width=16, layers=1, heads=2, mlp_ratio=2, causal=True)
    params = contracts.train(task, model, KEY, steps=300)
    numbers = range(0, 100, 3)
    batch = task.encode_pairs([(a, b) for a in numbers for b in numbers], digits=2)
    outputs = contracts.apply(model, params, batch.inputs, task.spec)
    shown = np.asarray(predictions(task.output, outputs, batch))[:, 5:]
    prompt = batch.inputs.values[:, :6].argmax(axis=-1)
    run = jax.jit(lambda prompt: decode(model, params, prompt, spec=task.spec, count=3))
    decoded, right = np.asarray(run(prompt)), np.asarray(batch.targets)[:, 5:]
    with_shown, with_own = (shown == right).all(axis=1), (decoded == right).all(axis=1)
    np.testing.assert_array_equal(with_shown, with_own)
    assert 0 < with_own.mean() < 1
    # Where a sum is wrong, its first wrong digit is the same; what follows need not be.
    rows, wrong = np.flatnonzero(~with_own), (shown != right).argmax(axis=1)[~with_own]
    np.testing.assert_array_equal(decoded[rows, wrong], shown[rows, wrong])
    assert (decoded != shown).any()


# Density classification.


def test_majorities_of_sampled_rows() -> None:
    task, sizes = logic.DensityClassification(), np.array([1, 3, 5, 9, 15] * 10)
    batch = sample(task, sizes, 15, len(sizes))
    answers = task.truths(batch)
    for row, size in enumerate(sizes):
        assert np.flatnonzero(batch.mask[row]).tolist() == [size - 1]
        cells = batch.inputs.values[row, :size].argmax(axis=1).tolist()
        assert answers[row, size - 1] == (cells.count(1) > cells.count(0))
    assert not sample(task, [4, 8, 0], 9, 3).mask.any()


def test_densities_of_rows() -> None:
    total, cells = 4096, 9
    even = np.asarray(draw_rows(KEY, UNIFORM, (total, cells))).sum(axis=1)
    assert uniform(np.bincount(even, minlength=cells + 1))
    fair = np.asarray(draw_rows(KEY, UNBIASED, (total, cells)))
    assert uniform(np.bincount(fair @ 2 ** np.arange(cells), minlength=512))
    # Between 0.2 and 0.4 the mean is 0.3, and the deviation of a row of 999 cells is that of the
    # density, 0.2 / sqrt(12), and that of the cells, sqrt(0.21 / 999), together 0.0595.
    some = np.asarray(draw_rows(KEY, (0.2, 0.4), (total, 999))).mean(axis=1)
    assert abs(some.mean() - 0.3) < 5 * 0.0595 / total**0.5
    assert abs(some.std() - 0.0595) < 0.003


def test_tests_have_densities_of_their_own() -> None:
    task = logic.DensityClassification(test_density=[0.4, 0.6])
    assert (task.density, task.test.density) == ((0.0, 1.0), (0.4, 0.6))
    assert task.test.test_sizes == task.test_sizes
    spread = [
        sample(one, 149, 149, 512).inputs.values[..., 1].mean(axis=1).std()
        for one in (task, task.test)
    ]
    # Of uniform densities in an interval of length 1 and 0.2: length / sqrt(12), and the cells'.
    np.testing.assert_allclose(spread, [0.29, 0.07], atol=0.02)


# Bad input, and settings.


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: logic.ParityTable(bits=0), "bits=0 is not allowed; give a whole number"),
        (lambda: logic.ParityTable(test_sizes=(1, 2)), "test_sizes=2 is not the size of a row"),
        (lambda: logic.MultiplexerTable(address_bits=5), "address_bits=5 is not allowed; give 2,"),
        (lambda: logic.AdderTable(bits=31), "bits=31 is more than 30; give fewer"),
        (lambda: logic.AdderTable().length(3), "size=3 is not the size of a row"),
        (lambda: logic.Multiplexer(train_sizes="6-7"), "train_sizes=7 is not the inputs of a mult"),
        (
            lambda: logic.Multiplexer().length(12),
            "size=12 is not the inputs of a multiplexer; give",
        ),
        (
            lambda: logic.Multiplexer().sample(KEY, 10, max_size=20, batch=2),
            "size=10 is not the inputs of a multiplexer; give 3, 6, 11, 20, 37, 70, ....",
        ),
        (
            lambda: logic.Multiplexer().sample(KEY, [6, 8], max_size=20, batch=2),
            "size=8 is not the inputs of a multiplexer",
        ),
        (lambda: ADDITIONS[0].encode_pairs([]), "pairs has none, or not two numbers in each"),
        (lambda: ADDITIONS[0].encode_pairs([(1, 10)], digits=1), "pairs=10 does not fit; give who"),
        (lambda: ADDITIONS[0].encode_pairs([(1, -1)]), "pairs=-1 does not fit"),
        (lambda: ADDITIONS[0].encode_pairs([(1, 2.5)]), "pairs=2.5 does not fit"),
        (lambda: ADDITIONS[0].encode_pairs([(1, 2)], digits=0), "digits=0 is not allowed"),
        (
            lambda: logic.DensityClassification(train_sizes="1-3"),
            "train_sizes=2 is even, so there may be no majority; give an odd size.",
        ),
        (lambda: logic.DensityClassification().length(150), "size=150 is even"),
        (
            lambda: logic.DensityClassification().sample(KEY, 6, max_size=9, batch=2),
            "size=6 is even",
        ),
        (lambda: logic.DensityClassification(density=0.5), "density=0.5 is not an interval; give"),
        (
            lambda: logic.DensityClassification(test_density=(0.6, 0.5)),
            "test_density=(0.6, 0.5) is not an interval of densities; give two numbers from 0 to 1",
        ),
        (lambda: logic.DensityClassification(density=(0, "a")), "density='a' is not a number"),
        (
            lambda: decode(models.LSTM(), {}, KEY, spec=ADDITIONS[1].spec, count=0),
            "count=0 is not allowed",
        ),
        (
            lambda: decode(models.LSTM(), {}, jnp.zeros(3), spec=ADDITIONS[1].spec, count=1),
            "prompt has the shape (3,); give tokens (B, P)",
        ),
    ],
)
def test_bad_input_is_one_sentence(make: Any, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        make()
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cls", logic.ALL, ids=lambda cls: cls.name)
def test_settings_build_an_equal_task(cls: Any) -> None:
    for task in (cls(), cls.example()):
        twin = cls(**json.loads(json.dumps(task.settings())))
        assert twin == task
        assert hash(twin) == hash(task)
    assert cls.name.startswith("logic/")
    assert cls.source
    assert "\n" not in cls.source
    assert cls.__name__ in logic.__all__
