"""Formal languages and serial addition against plain Python, which reads what models see."""

from __future__ import annotations

import collections
import functools
import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from evojax_nar.errors import InputError
from evojax_nar.evaluator import sample_mixture
from evojax_nar.tasks.formal import AnBmCnm, AnBn, AnBnCn, Dyck1, SerialAddition
from evojax_nar.tasks.sequence import SequenceTask
from evojax_nar.types import Batch, Evaluation

pytestmark = pytest.mark.usefixtures("quick_compile")

LANGUAGES: list[Any] = [AnBn, AnBnCn, AnBmCnm, Dyck1]
COUNTING = LANGUAGES[:3]


@functools.partial(jax.jit, static_argnames=("task", "max_size"))
def sample(task: SequenceTask, seed: int, sizes: np.ndarray, max_size: int) -> Batch:
    return task.sample(jax.random.key(seed), sizes, max_size=max_size, batch=len(sizes))


@functools.partial(jax.jit, static_argnames="task")
def evaluate(task: SequenceTask, outputs: Any, batch: Batch) -> Evaluation:
    return task.evaluate(outputs, batch)


def texts(task: Any, batch: Batch) -> Iterator[tuple[int, str, np.ndarray]]:
    """Of each example: its size, the symbols that are shown, and the targets of their steps."""
    values, exists, targets, judged, sizes = jax.device_get(
        (batch.inputs.values, batch.inputs.mask, batch.targets, batch.mask, batch.size)
    )
    for row, size in enumerate(sizes.tolist()):
        assert exists[row].sum() == task.length(size)
        shown = int(values[row].sum())
        assert (values[row, :shown].sum(axis=1) == 1).all(), "one-hot, then blank"
        np.testing.assert_array_equal(judged[row], np.arange(len(judged[row])) < shown)
        symbols = [task.symbols[place] for place in values[row, :shown].argmax(axis=1)]
        yield size, "".join(symbols), targets[row, :shown]


def numbers(cls: Any, text: str) -> tuple[int, ...]:
    """What the string counts; an `AssertionError` where it is not of the language."""
    found = re.fullmatch(r"#(a+)(b*)(c*)", text)
    assert found, text
    a, b, c = map(len, found.groups())
    assert (a, b, c) in {AnBn: {(a, a, 0)}, AnBnCn: {(a, a, a)}, AnBmCnm: {(a, b, a + b)}}[cls]
    return (a, b) if cls is AnBmCnm else (a,)


def may_follow(text: str) -> str:
    """Which symbols may come after the beginning of a bracketed string, in plain Python."""
    while "()" in text:
        text = text.replace("()", "")
    assert re.fullmatch(r"#\(*", text), "no bracket is closed that was not opened"
    return "#(" if text == "#" else "()"


def assert_drawn(counts: collections.Counter[Any], expected: dict[Any, float]) -> None:
    assert set(counts) <= set(expected)
    whole = sum(expected.values())
    chances = [chance / whole * sum(counts.values()) for chance in expected.values()]
    assert min(chances) >= 5
    assert stats.chisquare([counts[one] for one in expected], chances).pvalue > 1e-3


# Strings.


@pytest.mark.parametrize("cls", COUNTING)
@pytest.mark.parametrize("exact", [False, True])
def test_strings_are_of_the_language_and_each_symbol_asks_for_the_next(
    cls: Any, exact: bool
) -> None:
    task = cls().test if exact else cls()
    sizes = np.repeat(np.arange(1, 9, dtype=np.int32), 6)
    for size, text, targets in texts(task, sample(task, 0, sizes, 8)):
        counted = numbers(cls, text)
        assert sum(counted) <= size
        assert min(counted) >= 1 or (size == 1 and text == "#ac")
        if exact:
            assert sum(counted) == size
            assert len(text) == task.length(size)
        assert "".join(task.symbols[target] for target in targets) == text[1:] + "#"


@pytest.mark.parametrize("exact", [False, True])
def test_brackets_match_and_each_asks_for_what_may_come_next(exact: bool) -> None:
    task = Dyck1().test if exact else Dyck1(prior=0.45)
    sizes = np.repeat(np.arange(1, 9, dtype=np.int32), 6)
    for size, text, targets in texts(task, sample(task, 1, sizes, 8)):
        assert may_follow(text) == "#(", "all is closed at the end"
        pairs = len(text) // 2
        assert 1 <= pairs <= size
        assert pairs == size or not exact
        for step, target in enumerate(targets):
            wanted = may_follow(text[: step + 1])
            assert target.tolist() == [float(symbol in wanted) for symbol in "#()"]


@pytest.mark.parametrize("cls", LANGUAGES)
def test_strings_of_a_thousand_are_whole(cls: Any) -> None:
    task = cls().test
    [(_, text, targets)] = texts(task, sample(task, 2, np.asarray([1000], np.int32), 1000))
    assert len(text) == task.length(1000) == {AnBnCn: 3001}.get(cls, 2001)
    if cls is not Dyck1:
        assert sum(numbers(cls, text)) == 1000
        return
    depth = np.cumsum([{"#": 0, "(": 1, ")": -1}[symbol] for symbol in text])
    assert depth.min() == depth[-1] == 0
    np.testing.assert_array_equal(targets[:, 0], depth == 0)
    np.testing.assert_array_equal(targets[:, 2], depth > 0)


# What is drawn.


def bracketed(pairs: int) -> list[str]:
    return [
        "".join(text)
        for text in itertools.product("()", repeat=2 * pairs)
        if text.count("(") == pairs
        and all(text[:end].count("(") >= text[:end].count(")") for end in range(2 * pairs))
    ]


def chances(cls: Any, prior: float, largest: int) -> dict[Any, float]:
    """How likely the grammar of the source writes each string that is no larger than `largest`."""
    if cls is Dyck1:
        return {
            text: prior**pairs * (1 - prior) ** (pairs + 1)
            for pairs in range(1, largest + 1)
            for text in bracketed(pairs)
        }
    stops = {n: prior * (1 - prior) ** (n - 1) for n in range(1, largest + 1)}
    if cls is not AnBmCnm:
        return {(n,): chance for n, chance in stops.items()}
    return {(n, m): stops[n] * stops[m] for n in stops for m in stops if n + m <= largest}


@pytest.mark.parametrize("cls", LANGUAGES)
def test_training_strings_are_as_likely_as_the_grammar_makes_them(cls: Any) -> None:
    task = cls(prior=0.3)
    # Padded to more than the size, beside strings of another size.
    sizes = np.where(np.arange(6000) % 3 == 0, 7, 4).astype(np.int32)
    counts = {4: collections.Counter(), 7: collections.Counter()}
    for size, text, _ in texts(task, sample(task, 3, sizes, 9)):
        counts[size][text[1:] if cls is Dyck1 else numbers(cls, text)] += 1
    assert_drawn(counts[4], chances(cls, 0.3, 4))
    if cls is not Dyck1:  # of which there are too many to count
        assert_drawn(counts[7], chances(cls, 0.3, 7))


def test_test_strings_of_one_size_are_alike() -> None:
    brackets: collections.Counter[str] = collections.Counter()
    for _, text, _ in texts(Dyck1(), sample(Dyck1().test, 4, np.full(3000, 4, np.int32), 6)):
        brackets[text[1:]] += 1
    assert_drawn(brackets, dict.fromkeys(bracketed(4), 1.0))
    sums: collections.Counter[Any] = collections.Counter()
    batch = sample(AnBmCnm().test, 5, np.full(2000, 6, np.int32), 9)
    for _, text, _ in texts(AnBmCnm(), batch):
        sums[numbers(AnBmCnm, text)] += 1
    assert_drawn(sums, {(n, 6 - n): 1.0 for n in range(1, 6)})


def test_the_default_size_hardly_cuts_the_published_corpora() -> None:
    for cls in COUNTING:
        [largest] = cls().train_sizes
        assert sum(chances(cls, 0.3, largest).values()) > 0.99


def test_a_corpus_is_its_sizes_as_often_as_they_occur() -> None:
    task = AnBn(train_sizes=(1, 1, 1, 4), prior=None)
    batch = jax.jit(lambda key: sample_mixture(task, key, 2000))(jax.random.key(6))
    found = collections.Counter(numbers(AnBn, text)[0] for _, text, _ in texts(task, batch))
    assert_drawn(found, {1: 0.75, 4: 0.25})


# Judging.


def log_softmax(row: np.ndarray) -> np.ndarray:
    return row - math.log(sum(math.exp(value) for value in row))


@pytest.mark.parametrize("cls", COUNTING)
def test_only_determined_symbols_are_scored(cls: Any) -> None:
    task = cls()
    batch = sample(task, 7, np.asarray([1, 3, 5, 6], np.int32), 6)
    width = len(task.symbols)
    outputs = np.random.default_rng(8).normal(size=(*batch.mask.shape, width)).astype(np.float32)
    # Half of the symbols are given rightly, so that something is right.
    for row, step in np.argwhere(np.random.default_rng(9).random(batch.mask.shape) < 0.7):
        outputs[row, step, batch.targets[row, step]] += 5
    last_choice = "c" if cls is AnBmCnm else "b"
    losses, scores, exact, accuracies = [], [], [], []
    for row, (_, text, targets) in enumerate(texts(task, batch)):
        right, determined, loss = [], [], []
        for step, target in enumerate(targets):
            right.append(outputs[row, step].argmax() == target)
            determined.append(last_choice in text[: step + 1])
            loss.append(-log_softmax(outputs[row, step].astype(float))[target])
        sure = [hit for hit, is_sure in zip(right, determined, strict=True) if is_sure]
        losses.append(np.mean(loss))
        scores.append(np.mean(sure))
        exact.append(all(sure))
        accuracies.append(np.mean(right))
    result = evaluate(task, outputs, batch)
    assert float(result.loss) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(result.score) == pytest.approx(np.mean(scores), rel=1e-6)
    found = {name: float(value) for name, value in result.metrics.items()}
    wanted = {
        "position": np.mean(scores),
        "exact": np.mean(exact),
        "next_symbol": np.mean(accuracies),
    }
    assert found == pytest.approx(wanted, rel=1e-6)
    assert 0 < found["position"] < 1


def test_a_guess_before_the_last_choice_costs_nothing_but_loss() -> None:
    task = AnBn().test
    batch = sample(task, 0, np.asarray([3, 5], np.int32), 5)
    outputs = 40 * np.eye(3, dtype=np.float32)[np.asarray(batch.targets)]
    outputs[:, 1] = [0, 0, 40]  # b after the first a
    result = evaluate(task, outputs, batch)
    assert (float(result.score), float(result.metrics["exact"])) == (1.0, 1.0)
    assert float(result.metrics["next_symbol"]) == pytest.approx(1 - (1 / 7 + 1 / 11) / 2)
    assert float(result.loss) > 1


def test_a_step_between_brackets_is_right_where_all_three_answers_are() -> None:
    task = Dyck1()
    batch = sample(task, 10, np.asarray([1, 4, 6], np.int32), 6)
    outputs = np.random.default_rng(11).normal(size=(*batch.mask.shape, 3)).astype(np.float32)
    outputs += 1.5 * (2 * np.asarray(batch.targets) - 1)
    losses, scores, exact = [], [], []
    for row, (_, text, _) in enumerate(texts(task, batch)):
        right, loss = [], []
        for step in range(len(text)):
            wanted = may_follow(text[: step + 1])
            said = "".join(
                s for s, logit in zip("#()", outputs[row, step], strict=True) if logit > 0
            )
            right.append(said == wanted)
            for symbol, logit in zip("#()", outputs[row, step].astype(float), strict=True):
                chance = 1 / (1 + math.exp(-logit))
                loss.append(-math.log(chance if symbol in wanted else 1 - chance))
        losses.append(np.mean(loss))
        scores.append(np.mean(right))
        exact.append(all(right))
    result = evaluate(task, outputs, batch)
    assert float(result.loss) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(result.score) == pytest.approx(np.mean(scores), rel=1e-6)
    assert result.metrics["position"] == result.score
    assert float(result.metrics["exact"]) == pytest.approx(np.mean(exact))
    assert 0 < float(result.score) < 1
    # To open brackets for ever is no answer.
    always = np.tile(np.asarray([-9, 9, -9], np.float32), (*batch.mask.shape, 1))
    assert float(evaluate(task, always, batch).score) == 0


# Addition.


@pytest.mark.parametrize("largest", [9, 2000])
def test_sums_are_those_of_python(largest: int) -> None:
    task = SerialAddition()
    sizes = np.asarray([1, 2, 3, 5, 8, largest], np.int32)
    batch = sample(task, 12, sizes, largest)
    for row, size in enumerate(sizes.tolist()):
        assert int(batch.inputs.mask[row].sum()) == int(batch.mask[row].sum()) == size + 1
        shown = np.asarray(batch.inputs.values[row, : size + 1]).astype(int)
        assert not shown[size].any(), "a last step for the carry"
        first, second = (int("".join(map(str, column[::-1])), 2) for column in shown.T.tolist())
        wanted = np.asarray(batch.targets[row, : size + 1, 0]).astype(int).tolist()
        assert wanted == [first + second >> place & 1 for place in range(size + 1)]


def test_bits_of_numbers_are_fair() -> None:
    batch = sample(SerialAddition(), 13, np.full(3000, 2, np.int32), 4)
    pairs = np.asarray(batch.inputs.values[:, :2]).reshape(3000, 4).astype(int).tolist()
    expected = dict.fromkeys(itertools.product((0, 1), repeat=4), 1 / 16)
    assert_drawn(collections.Counter(map(tuple, pairs)), expected)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (1.0, "prior=1.0 is no chance below 1; give one, or None"),
        (0.0, "prior=0.0 is not allowed; give a finite number above 0"),
        ("0.3", "prior='0.3' is not a number"),
    ],
)
def test_a_prior_is_a_chance(prior: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AnBn(prior=prior)


def test_a_size_of_one_needs_no_chance() -> None:
    batch = sample(AnBmCnm(), 14, np.full(2, 1, np.int32), 1)
    assert [text for _, text, _ in texts(AnBmCnm(), batch)] == ["#ac", "#ac"]
    assert jnp.isfinite(batch.inputs.values).all()
