"""The memory tasks against NumPy and plain Python, which read the sequences that models see."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from evojax_nar.errors import InputError
from evojax_nar.tasks.memory import (
    AssociativeRecall,
    DynamicNGrams,
    PrioritySort,
    RepeatCopy,
    RepeatCopyDNC,
    optimum,
)
from evojax_nar.tasks.memory.base import MemoryTask, bit_metrics
from evojax_nar.types import Batch, Evaluation

pytestmark = pytest.mark.usefixtures("quick_compile")

Rows = list[list[float]]


@functools.partial(jax.jit, static_argnames=("task", "max_size"))
def sample(task: MemoryTask, seed: int, sizes: np.ndarray, max_size: int) -> Batch:
    return task.sample(jax.random.key(seed), sizes, max_size=max_size, batch=len(sizes))


@functools.partial(jax.jit, static_argnames="task")
def evaluate(task: MemoryTask, outputs: Any, batch: Batch) -> Evaluation:
    return task.evaluate(outputs, batch)


best_cost = jax.jit(optimum, static_argnums=0)
costs_of = jax.jit(bit_metrics)


def read(batch: Batch) -> Iterator[tuple[int, np.ndarray, int, Rows]]:
    """Of each example: its size, what is shown, the first judged step, and what is wanted."""
    values, exists, targets, judged, sizes = jax.device_get(
        (batch.inputs.values, batch.inputs.mask, batch.targets, batch.mask, batch.size)
    )
    for row in range(len(sizes)):
        asked = judged[row].nonzero()[0]
        assert (np.diff(asked) == 1).all()
        length = int(exists[row].sum())
        assert exists[row, :length].all()
        yield int(sizes[row]), values[row, :length], int(asked[0]), targets[row][asked].tolist()


def assert_drawn(counts: collections.Counter[Any], expected: dict[Any, float]) -> None:
    assert set(counts) <= set(expected)
    assert sum(expected.values()) == pytest.approx(1.0, abs=1e-9)
    chances = [chance * sum(counts.values()) for chance in expected.values()]
    assert min(chances) >= 5
    if len(expected) > 1:
        assert stats.chisquare([counts[one] for one in expected], chances).pvalue > 1e-3


# Repeat copy.


def check_repeats(task: Any, batch: Batch) -> list[int]:
    """The numbers of repeats that were asked for; answers are worked out from what is shown."""
    found = []
    for size, shown, first, wanted in read(batch):
        bits, marker, count = np.split(shown, [task.width, task.width + 1], axis=1)
        [marked] = marker.nonzero()[0]
        if isinstance(task, RepeatCopyDNC):
            assert marked == 0
            said = size + 1
            vectors = bits[1:said].tolist()
            repeats = count[said, 0] * task.unit
        else:
            said = int(marked)
            vectors = bits[:said].tolist()
            scale = task.scaled_by or task.repeats
            repeats = count[said, 0] * np.std(scale) + np.mean(scale)
        assert repeats == pytest.approx(round(repeats), abs=1e-4)
        repeats = round(repeats)
        assert len(vectors) == size
        assert np.flatnonzero(shown.any(axis=1)).max() <= said, "nothing is shown afterwards"
        assert np.flatnonzero(count).tolist() in ([said], [])
        assert first == said + 1
        copies = [[*vector, 0.0] for _ in range(repeats) for vector in vectors]
        assert wanted == [*copies, [0.0] * task.width + [1.0]]
        assert len(shown) == first + size * max(task.repeats) + 1 == task.length(size)
        found.append(repeats)
    return found


@pytest.mark.parametrize("cls", [RepeatCopy, RepeatCopyDNC])
def test_vectors_are_wanted_as_often_as_the_inputs_say(cls: Any) -> None:
    task = cls(width=3, repeats=(1, 2, 5), test_repeats=(4, 9))
    sizes = np.repeat(np.arange(1, 6, dtype=np.int32), 8)
    assert set(check_repeats(task, sample(task, 0, sizes, 5))) == {1, 2, 5}
    assert set(check_repeats(task.test, sample(task.test, 1, sizes, 5))) == {4, 9}


def test_repeats_are_scaled_by_those_of_training_in_tests_too() -> None:
    task = RepeatCopy(test_sizes=10, test_repeats=20)
    assert (task.length(10), task.test.length(10)) == (10 + 2 + 100, 10 + 2 + 200)
    batch = sample(task.test, 2, np.full(2, 10, np.int32), 10)
    # Mean and variance of 1 to 10 are 11 / 2 and 99 / 12.
    expected = (20 - 5.5) / math.sqrt(99 / 12)
    np.testing.assert_allclose(batch.inputs.values[:, 10, -1], expected, rtol=1e-6)
    assert check_repeats(task.test, batch) == [20, 20]
    shifted = dataclasses.replace(task, scaled_by=(20,))
    assert not sample(shifted.test, 3, np.full(1, 1, np.int32), 1).inputs.values[..., -1].any()
    assert RepeatCopy(test_sizes=20).test.length(20) == 20 + 2 + 200


@pytest.mark.parametrize("task", [RepeatCopy(), RepeatCopyDNC()], ids=lambda task: task.name)
def test_bits_are_fair_and_repeats_are_alike(task: Any) -> None:
    draw = jax.jit(functools.partial(task.draw, max_size=4, batch=2000))
    content = np.asarray(draw(jax.random.key(4)))
    assert set(np.unique(content[..., :-1])) == {0, 1}
    # The standard deviation of the mean of so many fair bits is below 0.002.
    assert abs(content[..., :-1].mean() - 0.5) < 0.008
    assert (content[..., -1] == content[:, :1, -1]).all()
    counts = collections.Counter(content[:, 0, -1].tolist())
    assert_drawn(counts, dict.fromkeys(task.repeats, 1 / len(task.repeats)))


# Associative recall.


def test_the_item_after_the_one_asked_for_is_wanted() -> None:
    task = AssociativeRecall()
    queries: dict[int, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    sizes = np.tile(np.asarray([1, 2, 4, 7], np.int32), 300)
    for size, shown, first, wanted in read(sample(task, 0, sizes, 7)):
        bits, item_mark, query_mark = np.split(shown, [6, 7], axis=1)
        starts = item_mark[:, 0].nonzero()[0].tolist()
        assert starts == [4 * item for item in range(size)]
        opening, closing = query_mark[:, 0].nonzero()[0].tolist()
        assert (opening, closing, first) == (4 * size, 4 * size + 4, closing + 1)
        assert not bits[[*starts, opening, closing]].any()
        assert not bits[first:].any()
        assert len(shown) == first + 3 == task.length(size)
        items = [bits[start + 1 : start + 4].tolist() for start in starts]
        query = items.index(bits[opening + 1 : closing].tolist())
        assert wanted == (items[query + 1] if size > 1 else items[0])
        queries[size][query] += 1
    for size, counts in queries.items():
        assert_drawn(counts, dict.fromkeys(range(max(size - 1, 1)), 1 / max(size - 1, 1)))
    assert_fair(task)


def assert_fair(task: MemoryTask) -> None:
    batch = sample(task, 1, np.full(400, 5, np.int32), 5)
    # Of at least 400 * 3 * 6 fair bits; the standard deviation of their mean is below 0.006.
    assert abs(float(batch.targets[np.asarray(batch.mask)].mean()) - 0.5) < 0.024


def test_items_have_the_shape_that_is_asked_for() -> None:
    task = AssociativeRecall(width=2, vectors=1)
    batch = sample(task, 2, np.asarray([3], np.int32), 3)
    [(_, shown, first, wanted)] = read(batch)
    assert shown.shape == (3 * 2 + 4, 4)
    assert (first, len(wanted), len(wanted[0])) == (9, 1, 2)


# Dynamic n-grams.


def chance_of(bits: tuple[int, ...], order: int, concentration: float) -> list[float]:
    """The chance of each bit for who has seen those before it and does not know the table."""
    chances, context = [], order - 1
    for place, bit in enumerate(bits):
        if place < context:
            chances.append(0.5)
            continue
        now = bits[place - context : place]
        after = [
            bits[at] for at in range(context, place) if bits[at - context : at] == now
        ]  # what followed the same context so far
        chances.append((after.count(bit) + concentration) / (len(after) + 2 * concentration))
    return chances


@pytest.mark.parametrize(("order", "concentration"), [(1, 0.5), (3, 0.5), (2, 0.2)])
def test_sequences_are_drawn_from_tables_that_are_beta_distributed(
    order: int, concentration: float
) -> None:
    # With the table integrated out, a sequence is as likely as its bits one after another.
    task = DynamicNGrams(order=order, concentration=concentration)
    expected = {
        bits: math.prod(chance_of(bits, order, concentration))
        for bits in itertools.product((0, 1), repeat=6)
    }
    batch = sample(task, 0, np.full(8000, 6, np.int32), 8)
    drawn = np.asarray(batch.targets)[:, :6, 0].astype(int)
    assert_drawn(collections.Counter(map(tuple, drawn.tolist())), expected)


def test_a_step_shows_the_bit_before_and_asks_for_its_own() -> None:
    task = DynamicNGrams()
    sizes = np.asarray([1, 4, 9], np.int32)
    for size, shown, first, wanted in read(sample(task, 1, sizes, 9)):
        bits = [int(bit) for [bit] in wanted]
        assert (first, len(shown), len(bits)) == (0, size, size)
        assert shown.tolist() == [[0, 0], *([1 - bit, bit] for bit in bits[:-1])]


@pytest.mark.parametrize(("order", "concentration"), [(1, 0.5), (3, 0.2), (6, 0.5)])
def test_the_optimum_is_what_counting_pays(order: int, concentration: float) -> None:
    task = DynamicNGrams(order=order, concentration=concentration)
    batch = sample(task, 2, np.asarray([3, 20, 40, 40], np.int32), 40)
    costs = []
    for _, _, _, wanted in read(batch):
        bits = tuple(int(bit) for [bit] in wanted)
        costs.append(-sum(map(math.log2, chance_of(bits, order, concentration))))
    assert float(best_cost(task, batch)) == pytest.approx(np.mean(costs), rel=1e-5)


def test_the_optimum_of_the_published_setting() -> None:
    task = DynamicNGrams()
    batch = sample(task, 3, np.full(256, 200, np.int32), 200)
    # Published as 131 to 132 bits, read off a figure. Sequences deviate by about 14 bits, so that
    # the mean of 256 of them deviates by less than 1.
    best = float(best_cost(task, batch))
    assert abs(best - 132.0) < 3.0
    # Who knows nothing pays a bit for each, and no logit does better than the optimum by counting.
    assert float(costs_of(np.zeros((256, 200, 1)), batch)["bits_per_sequence"]) == 200.0
    logits = np.zeros((256, 200, 1), np.float32)
    for row, (_, _, _, wanted) in enumerate(read(batch)):
        if row == 8:
            break
        bits = tuple(int(bit) for [bit] in wanted)
        own = np.asarray(chance_of(bits, 6, 0.5))
        one = np.where(np.asarray(bits) == 1, own, 1 - own)
        logits[row, :, 0] = np.log(one / (1 - one))
    first = jax.tree.map(lambda leaf: leaf[:8], batch)
    counted = float(evaluate(task, logits[:8], first).metrics["bits_per_sequence"])
    assert counted == pytest.approx(float(best_cost(task, first)), rel=1e-5)


# Priority sort.


def test_vectors_of_the_highest_priority_are_wanted_in_order() -> None:
    task = PrioritySort(width=5)
    sizes = np.repeat(np.asarray([1, 2, 3, 5, 10, 20], np.int32), 6)
    priorities = []
    for size, shown, first, wanted in read(sample(task, 0, sizes, 20)):
        bits, priority, delimiter = np.split(shown, [5, 6], axis=1)
        assert delimiter[:, 0].nonzero()[0].tolist() == [size]
        assert first == size + 1
        assert not shown[first:].any()
        pairs = zip(priority[:size, 0].tolist(), bits[:size].tolist(), strict=True)
        ranked = [vector for _, vector in sorted(pairs, key=lambda pair: -pair[0])]
        kept = {1: 1, 2: 1, 3: 2, 5: 4, 10: 8, 20: 16}[size]
        assert wanted == ranked[:kept]
        assert len(shown) == first + kept == task.length(size)
        priorities += priority[:size, 0].tolist()
    assert stats.kstest(priorities, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert_fair(task)


def test_of_equal_priorities_the_earlier_comes_first() -> None:
    task = PrioritySort(width=2)
    content = jnp.asarray([[[0, 0, 0.5], [0, 1, -0.5], [1, 0, 0.5], [1, 1, -0.5], [1, 1, 0.5]]])
    batch = jax.jit(task.build)(content, jnp.asarray([5]))
    [(_, _, _, wanted)] = read(batch)
    assert wanted == [[0, 0], [1, 0], [1, 1], [0, 1]]


# Metrics.


def test_bits_and_wrong_bits_are_counted_as_by_hand() -> None:
    task = RepeatCopy(train_sizes=3, width=2, repeats=(1, 3))
    batch = sample(task, 5, np.asarray([1, 3, 2], np.int32), 3)
    generator = np.random.default_rng(6)
    outputs = generator.normal(scale=3.0, size=(*batch.mask.shape, 3)).astype(np.float32)
    bits, mistakes, count = [], 0, 0
    for row in range(3):
        total = 0.0
        for step, feature in np.ndindex(*outputs.shape[1:]):
            if batch.mask[row, step]:
                chance = 1 / (1 + math.exp(-float(outputs[row, step, feature])))
                target = int(batch.targets[row, step, feature])
                total -= math.log2(chance if target else 1 - chance)
                mistakes += (chance > 0.5) != target
                count += 1
        bits.append(total)
    result = evaluate(task, outputs, batch)
    assert set(result.metrics) == {"position", "exact", "bits_per_sequence", "bit_error"}
    assert float(result.metrics["bits_per_sequence"]) == pytest.approx(np.mean(bits), rel=1e-5)
    assert float(result.metrics["bit_error"]) == pytest.approx(mistakes / count, rel=1e-6)
    empty = np.where(np.asarray(batch.mask)[..., None], outputs, np.nan)
    assert evaluate(task, empty, batch) == result
    broken = evaluate(task, np.full_like(outputs, np.nan), batch).metrics
    assert math.isnan(broken["bits_per_sequence"])
    assert float(broken["bit_error"]) == 1.0


def test_who_knows_nothing_pays_what_is_published_as_chance() -> None:
    for task, size, chance in [(AssociativeRecall(), 6, 18.0), (PrioritySort(), 20, 128.0)]:
        batch = sample(task, 6, np.full(4, size, np.int32), size)
        shape = (*batch.mask.shape, task.output.features)
        assert float(costs_of(np.zeros(shape), batch)["bits_per_sequence"]) == chance


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RepeatCopy(width=0), "width=0 is not allowed"),
        (lambda: RepeatCopy(repeats=0), "repeats=0 holds 0, not a whole number from 1"),
        (lambda: RepeatCopy(test_repeats="3-1"), "test_repeats='3-1' counts down"),
        (lambda: RepeatCopy(scaled_by=[]), r"scaled_by=\[\] has no sizes"),
        (lambda: RepeatCopyDNC(unit=0.0), "unit=0.0 is not allowed; give a finite number above 0"),
        (lambda: AssociativeRecall(vectors=0), "vectors=0 is not allowed"),
        (lambda: PrioritySort(width=-1), "width=-1 is not allowed"),
        (lambda: DynamicNGrams(order=17), "order=17 is too large; give 16 at most"),
        (lambda: DynamicNGrams(concentration=0.0), "concentration=0.0 is not allowed"),
    ],
)
def test_bad_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
