"""Every sequence task against an oracle in plain Python, and what all of them promise."""

from __future__ import annotations

import functools
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax_nar import tasks
from evojax_nar.errors import InputError
from evojax_nar.tasks import Copy, Parity, Reverse, Sort, SortLetters, SortWords
from evojax_nar.tasks.sequence import NO_ANSWER, SequenceTask, judge, per_list
from evojax_nar.types import Batch, Evaluation, Field, Sequence, Task

TASKS = [Parity(), Copy(width=3), Reverse(width=3), Sort(), SortLetters(), SortWords(word_length=2)]
BATCH = 6
every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def key(seed: int) -> jax.Array:
    """A key whose draws compile faster than those of the default kind."""
    return jax.random.key(seed, impl="rbg")


def sample(task: SequenceTask, seed: int, size: Any, max_size: int = 9) -> Batch:
    return sample_sizes(task, key(seed), np.full(BATCH, size, np.int32), max_size)


@functools.partial(jax.jit, static_argnames=("task", "max_size"))
def sample_sizes(task: SequenceTask, key: jax.Array, sizes: np.ndarray, max_size: int) -> Batch:
    """Compiled once for all the tests that use it."""
    return task.sample(key, sizes, max_size=max_size, batch=BATCH)


@functools.partial(jax.jit, static_argnames="task")
def build(task: SequenceTask, content: jax.Array, size: jax.Array) -> Batch:
    return task.build(content, size)


@functools.partial(jax.jit, static_argnames="task")
def evaluate(task: SequenceTask, outputs: jax.Array, batch: Batch) -> Evaluation:
    return task.evaluate(outputs, batch)


# What the inputs of one example say, read back from them in plain Python.


def read_bits(row: np.ndarray) -> list[int]:
    return [row_step.tolist().index(1.0) for row_step in row]


def read_vectors(row: np.ndarray) -> list[list[float]]:
    count = (len(row) - 1) // 2
    assert row[:, -1].tolist() == [float(step == count) for step in range(len(row))]
    assert not row[count:, :-1].any(), "nothing is shown from the delimiter on"
    return row[:count, :-1].tolist()


def read_keys(task: SequenceTask, row: np.ndarray) -> list[Any]:
    count = len(row) // 2
    assert row[:, -2:].tolist() == [[1.0, 0.0]] * count + [[0.0, 1.0]] * count
    np.testing.assert_array_equal(row[:count, :-2], row[count:, :-2])
    features = row[:count, :-2]
    if isinstance(task, Sort):
        return [float(value) for value in features[:, 0]]
    if isinstance(task, SortLetters):
        return ["abcdefghijklmnopqrstuvwxyz"[bit] for bit in read_bits(features)]
    places = features.reshape(count, -1, 27)
    words = ["".join("_abcdefghijklmnopqrstuvwxyz"[bit] for bit in read_bits(w)) for w in places]
    assert all(word.rstrip("_") and "_" not in word.rstrip("_") for word in words)
    return [word.rstrip("_") for word in words]


def expected(task: SequenceTask, row: np.ndarray) -> tuple[list[Any], int]:
    """Targets of the judged steps of one example, and how many steps come before them."""
    if isinstance(task, Parity):
        return [sum(read_bits(row)) % 2], len(row) - 1
    if isinstance(task, (Copy, Reverse)):
        vectors = read_vectors(row)
        wanted = vectors if isinstance(task, Copy) else vectors[::-1]
        return wanted, len(vectors) + 1
    keys = read_keys(task, row)
    order = sorted(range(len(keys)), key=lambda place: (keys[place], place))
    last = max(len(keys) - 1, 1)
    fractions = [[np.float32(order.index(place)) / np.float32(last)] for place in range(len(keys))]
    return fractions, len(keys)


def check(task: SequenceTask, batch: Batch) -> None:
    batch = jax.tree.map(np.asarray, batch)
    for row in range(len(batch.size)):
        time = task.length(int(batch.size[row]))
        values, exists = (np.asarray(leaf[row]) for leaf in batch.inputs)
        assert exists.tolist() == [step < time for step in range(len(exists))]
        assert not values[time:].any()
        wanted, before = expected(task, values[:time])
        assert before + len(wanted) == time
        mask = np.asarray(batch.mask[row])
        assert mask.tolist() == [before <= step < time for step in range(len(mask))]
        targets = np.asarray(batch.targets[row])
        np.testing.assert_allclose(targets[mask], np.asarray(wanted), rtol=1e-6)
        assert not targets[~mask].any()


def perfect(task: SequenceTask, batch: Batch) -> np.ndarray:
    targets = np.asarray(batch.targets)
    if task.output.kind == "categorical":
        return 40 * np.eye(task.output.features, dtype=np.float32)[targets]
    return 40 * (2 * targets - 1) if task.output.kind == "bits" else targets


@pytest.mark.parametrize(("size", "max_size"), [(1, 1), (1, 9), (2, 9), (9, 9), (40, 40)])
@every_task
def test_batch_matches_oracle(task: SequenceTask, size: int, max_size: int) -> None:
    batch = sample(task, size, size, max_size)
    time, field = task.length(max_size), task.output
    chex.assert_shape(batch.inputs.values, (BATCH, time, task.spec.input_features))
    chex.assert_type(batch.inputs.values, jnp.float32)
    chex.assert_shape([batch.inputs.mask, batch.mask], (BATCH, time))
    if field.kind == "categorical":
        chex.assert_shape(batch.targets, (BATCH, time))
        chex.assert_type(batch.targets, jnp.int32)
    else:
        chex.assert_shape(batch.targets, (BATCH, time, field.features))
        chex.assert_type(batch.targets, jnp.float32)
    assert batch.size.tolist() == [size] * BATCH
    check(task, batch)


@every_task
def test_sizes_of_their_own_change_nothing_else(task: SequenceTask) -> None:
    sizes = [4, 1, 6, 4, 9, 2]
    mixed = sample(task, 1, sizes)
    check(task, mixed)
    for row, size in enumerate(sizes):
        alone = sample(task, 1, size)
        for ours, theirs in zip(jax.tree.leaves(mixed), jax.tree.leaves(alone), strict=True):
            np.testing.assert_array_equal(ours[row], theirs[row])


@every_task
def test_padding_changes_nothing(task: SequenceTask) -> None:
    size = np.asarray([5, 1, 2, 3, 4, 5], np.int32)
    content = np.asarray(task.draw(key(2), max_size=9, batch=BATCH))
    short = build(task, content[:, :5], size)
    long = build(task, content, size)
    check(task, long)
    time = short.mask.shape[1]
    assert not np.asarray(long.mask)[:, time:].any()
    shape = (*long.mask.shape, task.output.features)
    given = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    padded = jnp.asarray(np.where(np.asarray(long.mask)[..., None], given, np.nan))
    result, plain = evaluate(task, padded, long), evaluate(task, given[:, :time], short)
    chex.assert_trees_all_close(result, plain, rtol=1e-6)
    gradient = np.asarray(jax.grad(lambda out: evaluate(task, out, long).loss)(padded))
    assert np.isfinite(gradient).all()
    assert not gradient[~np.asarray(long.mask)].any()


@every_task
def test_vmap_and_new_sizes_without_recompiling(task: SequenceTask) -> None:
    chex.clear_trace_counter()

    @jax.jit
    @jax.vmap
    @chex.assert_max_traces(1)
    def run(size: jax.Array) -> Any:
        batch = task.sample(key(5), size, max_size=9, batch=BATCH)
        return batch, task.evaluate(batch.inputs.values[..., : task.output.features], batch)

    for sizes in ([2, 9], [1, 4]):
        together = jax.device_get(run(jnp.asarray(sizes)))
        for row, size in enumerate(sizes):
            batch = sample(task, 5, size)
            outputs = batch.inputs.values[..., : task.output.features]
            alone = jax.tree.leaves((batch, evaluate(task, outputs, batch)))
            for ours, theirs in zip(jax.tree.leaves(together), alone, strict=True):
                np.testing.assert_allclose(ours[row], theirs, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 40])
@every_task
def test_perfect_outputs(task: SequenceTask, size: int) -> None:
    batch = sample(task, 6, size, 40)
    result = evaluate(task, perfect(task, batch), batch)
    assert float(result.loss) < 1e-6
    assert (float(result.score), float(result.metrics["exact"])) == (1.0, 1.0)
    answers, truths = task.answers(perfect(task, batch), batch), task.truths(batch)
    np.testing.assert_array_equal(answers, truths)
    assert answers.dtype == np.int32
    mask = np.asarray(batch.mask)
    assert (answers[~mask] == NO_ANSWER).all()
    assert (answers[mask] >= 0).all()
    if task.output.kind == "scalar":
        for ranks in per_list(answers, batch):
            assert sorted(ranks) == list(range(size)), "ranks are a permutation"


@every_task
def test_judging_matches_oracle(task: SequenceTask) -> None:
    batch = sample(task, 7, [1, 3, 5, 8, 2, 2])
    batch = jax.tree.map(np.asarray, batch)
    shape = (*batch.mask.shape, task.output.features)
    outputs = np.random.default_rng(8).normal(size=shape).astype(np.float32)
    outputs[:2] = perfect(task, batch)[:2]
    losses, scores, exact = [], [], []
    for row in range(6):
        step_losses, step_scores = [], []
        for step in np.flatnonzero(batch.mask[row]):
            given = np.asarray(outputs[row, step], np.float64)
            wanted = np.asarray(batch.targets[row, step])
            if task.output.kind == "categorical":
                step_losses.append(math.log(np.exp(given).sum()) - given[wanted])
                step_scores.append(float(given[wanted] == given.max()))
            elif task.output.kind == "bits":
                chance = 1 / (1 + np.exp(-given))
                step_losses.append(-np.log(np.where(wanted == 1, chance, 1 - chance)).mean())
                step_scores.append(((chance > 0.5) == wanted).mean())
            else:
                step_losses.append(float((given - wanted)[0] ** 2))
                last = int(batch.size[row]) - 1
                step_scores.append(float(round(given[0] * last) == round(float(wanted[0]) * last)))
        losses.append(np.mean(step_losses))
        scores.append(np.mean(step_scores))
        exact.append(min(step_scores) == 1)
    result = evaluate(task, outputs, batch)
    np.testing.assert_allclose(result.loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(result.score, np.mean(scores), rtol=1e-6)
    np.testing.assert_allclose(result.metrics["position"], np.mean(scores), rtol=1e-6)
    np.testing.assert_allclose(result.metrics["exact"], np.mean(exact), rtol=1e-6)
    assert 0 < np.mean(exact) < 1
    chex.assert_type(jax.tree.leaves(result), jnp.float32)


@every_task
def test_nan_is_never_right(task: SequenceTask) -> None:
    batch = sample(task, 9, 1)
    right = perfect(task, batch)
    bits = task.output.features if task.output.kind == "bits" else 1
    broken = right.copy()
    broken[0, task.length(1) - 1, 0] = np.nan
    one = evaluate(task, broken, batch)
    assert math.isnan(one.loss)
    assert float(one.metrics["exact"]) == pytest.approx(1 - 1 / BATCH)
    assert float(one.score) == pytest.approx(1 - 1 / (BATCH * bits))
    everything = evaluate(task, np.full_like(right, np.nan), batch)
    assert math.isnan(everything.loss)
    assert (float(everything.score), float(everything.metrics["exact"])) == (0.0, 0.0)


def test_infinite_logits_cost_what_they_should() -> None:
    ones = jnp.ones((1, 1), bool)
    batch = Batch(Sequence(jnp.zeros((1, 1, 1)), ones), jnp.ones((1, 1, 1)), ones, jnp.ones(1, int))
    field = Field("bits", "bits", 1)
    assert float(judge(field, jnp.full((1, 1, 1), jnp.inf), batch).loss) == 0
    assert float(judge(field, jnp.full((1, 1, 1), -jnp.inf), batch).loss) == math.inf


@every_task
def test_size_out_of_range_on_the_device_is_not_silent(task: SequenceTask) -> None:
    for size in (0, 10):
        batch = sample(task, 0, [size, 9, 9, 9, 9, 9])
        result = evaluate(task, perfect(task, batch), batch)
        assert math.isnan(result.loss)
        assert float(result.score) == pytest.approx(5 / 6)
        assert float(result.metrics["exact"]) == pytest.approx(5 / 6)


@every_task
def test_outputs_of_another_shape(task: SequenceTask) -> None:
    batch = sample(task, 0, 2)
    with pytest.raises(InputError, match=r"outputs has the shape \(3, 4\).*give \(B, T, F\)"):
        task.evaluate(jnp.zeros((3, 4)), batch)


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ("1-4", (1, 2, 3, 4)),
        ("20,50,100", (20, 50, 100)),
        (" 2 - 3, 9", (2, 3, 9)),
        (7, (7,)),
        (np.int64(7), (7,)),
        (range(2, 4), (2, 3)),
        ([5, np.int32(3)], (5, 3)),
        (np.arange(1, 3), (1, 2)),
        ((size for size in (1, 2)), (1, 2)),
    ],
)
def test_sizes_are_read(given: Any, sizes: tuple[int, ...]) -> None:
    task = Parity(train_sizes=given)
    assert task.train_sizes == sizes
    assert all(type(size) is int for size in task.train_sizes)
    assert hash(task) == hash(Parity(train_sizes=sizes))


@pytest.mark.parametrize(
    "given",
    [
        *((), "", "a", "1-", "3-1", "1:3", "0-2", "-3", "1.5", "1,,2", 0, -1, True, 2.0, None),
        *([1, 2.5], [0], ["1"], [True], [None]),
        *(100_001, "1-100001", "1-99999999999", range(10**12)),
    ],
)
@pytest.mark.parametrize("argument", ["train_sizes", "test_sizes"])
def test_sizes_are_refused(argument: str, given: Any) -> None:
    with pytest.raises(InputError, match=f"^{argument}=.*; give whole numbers such as"):
        Copy(**{argument: given})


@pytest.mark.parametrize("size", [0, -1, 4, 2.0, True, [1, 4], np.array([0, 1])])
def test_sample_refuses_a_size(size: Any) -> None:
    with pytest.raises(InputError, match=r"^size="):
        Parity().sample(key(0), size, max_size=3, batch=2)


def test_sample_refuses_other_arguments() -> None:
    for arguments in ({"max_size": 0, "batch": 1}, {"max_size": 1, "batch": 0}):
        with pytest.raises(InputError):
            Parity().sample(key(0), 1, **arguments)
    with pytest.raises(InputError, match="shape"):
        Parity().sample(key(0), jnp.ones(3, int), max_size=3, batch=2)
    with pytest.raises(InputError, match="type"):
        Parity().sample(key(0), jnp.ones(2), max_size=3, batch=2)
    with pytest.raises(InputError, match=r"^width=0"):
        Reverse(width=0)
    with pytest.raises(InputError, match=r"^word_length=0"):
        SortWords(word_length=0)


def test_draws_are_what_they_are_said_to_be() -> None:
    draw = functools.partial(dict, max_size=8, batch=4000)
    bits = Parity().draw(key(0), **draw())
    assert abs(float(bits.mean()) - 0.5) < 0.02
    letters = np.bincount(np.ravel(SortLetters().draw(key(1), **draw())), minlength=26)
    assert letters.size == 26
    assert abs(letters / letters.mean() - 1).max() < 0.15
    numbers = np.sort(np.ravel(Sort().draw(key(2), **draw())))
    assert abs(numbers - np.linspace(0, 1, numbers.size)).max() < 0.02
    words = SortWords().draw(key(3), **draw())
    lengths = np.bincount(np.ravel((words > 0).sum(axis=-1)), minlength=5)
    assert lengths[0] == 0
    assert abs(lengths[1:] / lengths[1:].mean() - 1).max() < 0.05


# The user's own data.


def test_windows_make_the_batch_that_sample_makes() -> None:
    for task in (Parity(), Copy(width=3), Reverse(width=3)):
        bits = task.draw(key(4), max_size=9, batch=BATCH)
        full = jnp.full(BATCH, 9, jnp.int32)
        given = task.encode_windows(np.asarray(bits, np.uint8))
        chex.assert_trees_all_equal(given, sample(task, 4, 9))
        chex.assert_trees_all_equal(given, build(task, bits, full))


def test_keys_make_the_batch_that_sample_makes() -> None:
    numbers = jnp.asarray([[0.0, 1.0, 0.25, 0.25], [1.0, 0.125, 0.0, 0.75]])
    full = jnp.full(2, 4, jnp.int32)
    chex.assert_trees_all_equal(
        Sort().encode_keys(np.asarray(numbers)), Sort().build(numbers, full)
    )
    for task in (SortLetters(), SortWords(word_length=2)):
        sampled = sample(task, 5, [40, 3, 1, 7, 40, 2], 40)
        values, sizes = np.asarray(sampled.inputs.values), sampled.size.tolist()
        read = [read_keys(task, row[: 2 * size]) for row, size in zip(values, sizes, strict=True)]
        chex.assert_trees_all_close(task.encode_keys(read), sampled, rtol=1e-6)


def test_numbers_keep_the_order_that_float32_would_lose() -> None:
    lists = [
        [1e16, 0.0, 1e16 + 2, -1.0],
        [-1.7e308, 1.7e308, 5e-324, 0.0, -5e-324],
        [3, 3, 3],
        [2**62 + 1, 2**62],
        [7.5],
    ]
    batch = Sort().encode_keys(lists)
    assert bool(jnp.isfinite(batch.inputs.values).all())
    assert batch.size.tolist() == [4, 5, 3, 2, 1]
    for row, ranks in enumerate(per_list(Sort().truths(batch), batch)):
        order = sorted(range(len(lists[row])), key=lambda place: lists[row][place])
        assert ranks.tolist() == [order.index(place) for place in range(len(order))]
    shown = np.asarray(batch.inputs.values[0, :4, 0])
    np.testing.assert_allclose(shown, [1, 0, 1, 0], atol=1e-6)
    assert not batch.inputs.values[2:3, :, 0].any()


def test_words_are_in_the_order_of_a_dictionary() -> None:
    words = ["b", "ab", "a", "abc", "ba", "a", "zzz", "aa"]
    batch = SortWords(word_length=3).encode_keys([words, ["c", "b"]])
    first, second = per_list(SortWords(word_length=3).truths(batch), batch)
    assert [words[place] for place in np.argsort(first)] == sorted(words)
    assert first[2] < first[5], "equal words rank as they stand"
    assert second.tolist() == [1, 0]
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("az"), random.integers(1, 10))) for _ in range(200)]
    batch = SortWords(word_length=9).encode_keys([words])
    order = np.argsort(per_list(SortWords(word_length=9).truths(batch), batch)[0])
    assert order.tolist() == sorted(range(200), key=lambda place: words[place])


@pytest.mark.parametrize(
    ("task", "method", "value"),
    [
        (Parity(), "encode_windows", [0, 1]),
        (Parity(), "encode_windows", [[0, 2]]),
        (Parity(), "encode_windows", [[]]),
        (Parity(), "encode_windows", [["0", "1"]]),
        (Copy(width=2), "encode_windows", [[0, 1]]),
        (Copy(width=2), "encode_windows", [[[0, 1, 1]]]),
        (Sort(), "encode_keys", []),
        (Sort(), "encode_keys", [[1.0], []]),
        (Sort(), "encode_keys", [1.0, 2.0]),
        (Sort(), "encode_keys", [[1.0, math.nan]]),
        (Sort(), "encode_keys", [["1"]]),
        (SortLetters(), "encode_keys", ["aB"]),
        (SortLetters(), "encode_keys", [["ab"]]),
        (SortLetters(), "encode_keys", [""]),
        (SortWords(), "encode_keys", [["abcde"]]),
        (SortWords(), "encode_keys", [["a", ""]]),
        (SortWords(), "encode_keys", [[1]]),
    ],
)
def test_data_are_refused(task: SequenceTask, method: str, value: Any) -> None:
    with pytest.raises(InputError, match="; give"):
        getattr(task, method)(value)


def test_ranks_out_of_range_and_rounding() -> None:
    batch = Sort().encode_keys([[1, 2, 3]])
    outputs = jnp.zeros((1, 6, 1)).at[0, 3:, 0].set(jnp.asarray([-7e20, 0.74, 7e20]))
    assert per_list(Sort().answers(outputs, batch), batch)[0].tolist() == [-1, 1, 3]
    assert per_list(Sort().answers(outputs * jnp.nan, batch), batch)[0].tolist() == [NO_ANSWER] * 3


# Names and settings.


@pytest.mark.parametrize("name", tasks.names())
def test_settings_build_an_equal_task(name: str) -> None:
    # The sizes of its example, since not every task has all; as text, as on the command line.
    sizes = tasks.get(name).example().train_sizes
    task = tasks.get(name, train_sizes=",".join(map(str, sizes)), test_sizes=[sizes[-1]])
    assert task.spec.name == name
    assert task.train_sizes == sizes
    assert (task.spec.max_size, task.spec.max_length) == (max(sizes), task.length(max(sizes)))
    twin = tasks.get(name, **task.settings())
    assert twin == task
    assert hash(twin) == hash(task)
    assert task.example().name == name
    assert isinstance(task, Task)
    assert tasks.describe(name).endswith(".")


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="did you mean 'parity'"):
        tasks.get("partiy")
    with pytest.raises(InputError, match="did you mean 'width'"):
        tasks.get("copy", widht=3)
    with pytest.raises(InputError, match="did you mean 'sort_words'"):
        tasks.describe("sort_word")
