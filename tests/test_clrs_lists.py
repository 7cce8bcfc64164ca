"""The algorithms of CLRS-30 that are not on graphs: answers, padding, room, and inputs.

Answers are held against plain Python. That every frame is that of dm-clrs is checked by
`clrs_oracle`, where that package is installed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import list_oracles as oracles
import numpy as np
import pytest

from evojax_nar.tasks import clrs
from evojax_nar.tasks.clrs import strings

pytestmark = pytest.mark.usefixtures("quick_compile")

Problem: TypeAlias = dict[str, np.ndarray]
TASKS = {
    cls.name.removeprefix("clrs/"): cls
    for cls in clrs.ALL
    if all(field.name != "adj" for field in cls.specification.inputs)
}
every_algorithm = pytest.mark.parametrize("name", TASKS)
NODES = 9
"""V, padding included."""
BATCH = 40
SORTS = ("bubble_sort", "heapsort", "insertion_sort", "quicksort")
MATCHERS = ("kmp_matcher", "naive_string_matcher")
SUBARRAYS = ("find_maximum_subarray", "find_maximum_subarray_kadane")
HULLS = ("graham_scan", "jarvis_march")


@functools.cache
def program(name: str, nodes: int) -> Callable[..., Any]:
    """The algorithm on any batch, compiled once: outputs, hints (B, T, ...), lengths."""
    run = jax.jit(jax.vmap(lambda inputs, size: clrs.run(name, inputs, size)))

    def padded(problems: list[Problem]) -> Any:
        found = []
        for start in range(0, len(problems), BATCH):
            some = list(itertools.islice(itertools.cycle(problems[start : start + BATCH]), BATCH))
            sizes = np.array([len(own["pos"]) for own in some], np.int32)
            inputs = {
                key: np.stack([pad(own[key], nodes) for own in some]).astype(np.float32)
                for key in some[0]
            }
            found.append(jax.device_get(run(inputs, sizes)))
        joined = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
        return jax.tree.map(lambda leaf: leaf[: len(problems)], joined)

    return padded


def pad(array: np.ndarray, nodes: int) -> np.ndarray:
    """Nodes are the first axis, if there is one."""
    return np.pad(array, [(0, nodes - len(array)), (0, 0)][: array.ndim]) if array.ndim else array


def nodes_of(name: str) -> int:
    return TASKS[name].nodes(NODES - 1) if name == "segments_intersect" else NODES


def drawn(name: str, counts: Any, seed: int = 0) -> list[Problem]:
    """Random problems with these numbers of nodes."""
    task, random = TASKS[name], np.random.RandomState(seed)
    more = task.nodes(1) - 1 if name == "optimal_bst" else 0
    return [task.replay(random, int(count) - more) for count in counts]


def solved(name: str, problems: list[Problem]) -> Iterator[tuple[Problem, Problem]]:
    """Each problem as float64 of what is exactly a float32, and its outputs without padding."""
    outputs, _, lengths = program(name, nodes_of(name))(problems)
    assert (lengths <= TASKS[name].machine.frames(nodes_of(name))).all()
    for i, own in enumerate(problems):
        count = len(own["pos"])
        answer = {
            key: value[i][(slice(count),) * min(value.ndim - 1, 2)]
            for key, value in outputs.items()
        }
        yield {key: value.astype(np.float32).astype(float) for key, value in own.items()}, answer


def mixed(name: str) -> list[Problem]:
    """Random problems of all sizes."""
    least = 2 if name in (*MATCHERS, "optimal_bst") else 1
    return drawn(name, [least + i % (NODES + 1 - least) for i in range(BATCH)])


def listed(name: str, keys: Any) -> Problem:
    """A problem of one's own on keys."""
    keys = np.asarray(keys, float)
    own = {"pos": np.arange(len(keys)) / len(keys), "key": keys}
    return {field.name: own[field.name] for field in TASKS[name].specification.inputs}


# Answers.


@pytest.mark.parametrize("name", SORTS)
def test_lists_are_sorted(name: str) -> None:
    random = np.random.RandomState(1)
    ties = [listed(name, random.randint(3, size=1 + i % NODES)) for i in range(BATCH)]
    for given, answer in solved(name, mixed(name) + ties):
        keys, pred = given["key"], answer["pred"]
        first = [i for i, before in enumerate(pred) if before == i]
        assert len(first) == 1
        order, following = first, {int(before): i for i, before in enumerate(pred) if before != i}
        while order[-1] in following:
            order = [*order, following[order[-1]]]
        assert sorted(order) == list(range(len(keys)))
        assert (np.diff(keys[order]) >= 0).all()
        if name in ("bubble_sort", "insertion_sort"):
            assert order == np.argsort(keys, kind="stable").tolist(), "equal keys stay in order"


def test_the_smallest_key_is_found() -> None:
    for given, answer in solved("minimum", mixed("minimum")):
        assert np.flatnonzero(answer["min"]).tolist() == [given["key"].argmin()]


def test_the_first_key_not_below_the_target_is_found() -> None:
    for given, answer in solved("binary_search", mixed("binary_search")):
        place = min(np.searchsorted(given["key"], given["target"]), len(given["key"]) - 1)
        assert np.flatnonzero(answer["return"]).tolist() == [place]


def test_the_median_is_found() -> None:
    for given, answer in solved("quickselect", mixed("quickselect")):
        median = np.argsort(given["key"])[len(given["key"]) // 2]
        assert np.flatnonzero(answer["median"]).tolist() == [median]


@pytest.mark.parametrize("name", SUBARRAYS)
def test_subarrays_have_the_largest_sum(name: str) -> None:
    for given, answer in solved(name, mixed(name)):
        assert answer["start"].sum() == answer["end"].sum() == 1
        start, end = int(answer["start"].argmax()), int(answer["end"].argmax())
        # Sums of nine float32 below 1.
        found = given["key"][start : end + 1].sum()
        assert found == pytest.approx(oracles.best_sum(given["key"].tolist()), abs=1e-5)


def test_as_many_activities_as_possible_are_selected() -> None:
    for given, answer in solved("activity_selector", mixed("activity_selector")):
        starts, finishes = given["s"].tolist(), given["f"].tolist()
        chosen = np.flatnonzero(answer["selected"]).tolist()
        assert oracles.disjoint(starts, finishes, chosen)
        assert len(chosen) == oracles.most_activities(starts, finishes)


def test_tasks_are_selected_by_weight() -> None:
    for given, answer in solved("task_scheduling", mixed("task_scheduling")):
        chosen = np.flatnonzero(answer["selected"]).tolist()
        assert chosen == oracles.tasks_by_weight(given["d"].tolist(), given["w"].tolist())
        for slot, deadline in enumerate(sorted(given["d"][chosen]), start=1):
            assert slot <= deadline


def test_chains_are_split_at_the_least_cost() -> None:
    for given, answer in solved("matrix_chain_order", mixed("matrix_chain_order")):
        sides = given["p"].tolist()
        least = oracles.chain_costs(sides)
        for (i, j), cost in least.items():
            k = int(answer["s"][i, j])
            if i == j:
                assert k == 0
                continue
            assert i <= k < j
            split = least[i, k] + least[k + 1, j] + sides[i - 1] * sides[k] * sides[j]
            # Two ways may differ by less than sums of float32 below 1 can tell.
            assert split == pytest.approx(cost, abs=1e-5)


def test_search_trees_have_the_least_cost() -> None:
    for given, answer in solved("optimal_bst", mixed("optimal_bst")):
        p, q, root = given["p"].tolist(), given["q"].tolist(), answer["root"]
        least = oracles.tree_costs(p, q)
        for (i, j), cost in least.items():
            r = int(root[i, j])
            if i == j:
                assert r == 0
                continue
            assert i <= r < j
            found = least[i, r] + least[r + 1, j] + sum(p[i:j]) + sum(q[i : j + 1])
            assert found == pytest.approx(cost, abs=1e-5)


def test_common_subsequences_are_longest() -> None:
    for given, answer in solved("lcs_length", mixed("lcs_length")):
        letters, length = given["key"].argmax(1).tolist(), int((given["string"] == 0).sum())
        one, two, whence = letters[:length], letters[length:], answer["b"][:length, length:]
        assert (answer["b"][..., 3].sum(), (answer["b"] == 1).sum()) == (
            -(len(letters) ** 2 - len(one) * len(two)),
            len(one) * len(two),
        )
        i, j, found = len(one) - 1, len(two) - 1, 0
        while i >= 0 and j >= 0:
            way = int(whence[i, j].argmax())
            assert way != 0 or one[i] == two[j]
            found += way == 0
            i, j = i - (way != 2), j - (way != 1)
        assert found == oracles.common_length(one, two)


def two_strings(one: Any, two: Any) -> Problem:
    return strings.replay_strings(np.asarray(one, int), np.asarray(two, int))


@pytest.mark.parametrize("name", MATCHERS)
def test_needles_are_found_or_not(name: str) -> None:
    """Of two letters, so that much nearly matches: all needles and haystacks of seven nodes."""
    problems = [
        two_strings(both[:-length], both[-length:])
        for both in itertools.product((0, 1), repeat=7)
        for length in (1, 2, 3)
    ]
    for given, answer in solved(name, problems):
        text, length = "".join(map(str, given["key"].argmax(1))), int((given["string"] == 0).sum())
        place = text[:length].find(text[length:])
        assert np.flatnonzero(answer["match"]).tolist() == [length if place < 0 else place]


def test_segments_intersect_where_their_lines_meet_in_both() -> None:
    name, seen = "segments_intersect", set()
    for given, answer in solved(name, drawn(name, [4] * BATCH)):
        meet = oracles.segments_meet(given["x"], given["y"])
        assert answer["intersect"] == meet
        seen.add(meet)
    assert seen == {False, True}


def placed(points: Any) -> Problem:
    x, y = np.asarray(points, float).T
    return {"pos": np.arange(len(x)) / len(x), "x": x, "y": y}


def test_segments_that_touch_intersect() -> None:
    name = "segments_intersect"
    touching = [
        [(0, 0), (2, 0), (1, 0), (1, 1)],
        [(0, 0), (1, 1), (1, 1), (2, 0)],
        [(0, 0), (2, 2), (1, 1), (3, 3)],
    ]
    apart = [[(0, 0), (1, 1), (2, 2), (3, 3)], [(0, 0), (2, 0), (3, -1), (3, 1)]]
    found = [
        int(answer["intersect"]) for _, answer in solved(name, list(map(placed, touching + apart)))
    ]
    assert found == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("name", HULLS)
def test_hulls_are_the_points_in_no_triangle_of_others(name: str) -> None:
    for given, answer in solved(name, drawn(name, [3 + i % 7 for i in range(BATCH)])):
        points = np.stack([given["x"], given["y"]], axis=1)
        assert np.flatnonzero(answer["in_hull"]).tolist() == oracles.corners(points)


# Padding and room.


@every_algorithm
def test_padding_changes_nothing_and_is_zero(name: str) -> None:
    if name == "segments_intersect":
        pytest.skip("there are always four nodes")
    count = NODES - 3
    problems = drawn(name, [count] * 8, seed=2)
    alone, padded = program(name, count)(problems), program(name, NODES)(problems)
    np.testing.assert_array_equal(alone[2], padded[2])
    frames = alone[2].max()
    for ours, theirs, lead in ((alone[0], padded[0], 1), (alone[1], padded[1], 2)):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            value, room = value[:, :frames] if lead == 2 else value, np.asarray(theirs[key])
            inner = room[tuple(slice(side) for side in value.shape)]
            np.testing.assert_array_equal(inner, value, err_msg=key)
            assert np.count_nonzero(room) == np.count_nonzero(value), f"{key} past the size"


@pytest.mark.parametrize("name", ["kmp_matcher", "heapsort", "segments_intersect"])
def test_batches_show_the_frames_of_a_single_run(name: str) -> None:
    task = TASKS[name]()
    nodes = nodes_of(name)
    sizes = jnp.asarray([5, 9, 6, 8], jnp.int32)
    draw = jax.jit(lambda key: task.sample(key, sizes, max_size=NODES, batch=4))
    batch = jax.device_get(draw(jax.random.key(3)))
    values = {field.name: batch.inputs.values[field.name] for field in task.specification.inputs}
    run = jax.jit(jax.vmap(lambda inputs, size: clrs.run(name, inputs, size)))
    outputs, hints, lengths = jax.device_get(run(values, jax.vmap(task.count)(sizes)))
    for key, value in outputs.items():
        np.testing.assert_array_equal(batch.targets[key], value)
    for key, value in hints.items():
        if key in task.constants:
            np.testing.assert_array_equal(batch.inputs.values[key], value[:, 0])
        else:
            np.testing.assert_array_equal(batch.inputs.hints[key].swapaxes(0, 1), value)
    assert lengths.max() <= task.machine.frames(nodes)
    np.testing.assert_array_equal(batch.inputs.running.sum(axis=0), lengths - 1)


def orders(name: str) -> list[Problem]:
    """All orders of six keys, and of six where some are equal."""
    ties = set(itertools.permutations([0, 0, 0, 1, 1, 2]))
    return [listed(name, keys) for keys in (*itertools.permutations(range(6)), *sorted(ties))]


def texts() -> list[Problem]:
    """All pairs of strings of two letters on nine nodes."""
    return [
        two_strings(both[:one], both[one:])
        for both in itertools.product((0, 1), repeat=NODES)
        for one in range(1, NODES)
    ]


def shapes() -> list[Problem]:
    """Points on a circle, in a line, on a grid, on a parabola, and all at one place."""
    angles = 2 * np.pi * (np.arange(NODES) + 0.1) / NODES
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    spread = np.arange(NODES)
    line = np.stack([spread, 2 * spread], axis=1)
    grid = np.stack(np.divmod(spread, 3), axis=1)
    arc = np.stack([spread, spread**2], axis=1)
    return [placed(points) for points in (circle, line, line[::-1], grid, arc, 0 * grid)]


def room_of(name: str) -> tuple[list[Problem], int]:
    """The worst inputs, and the number of their nodes."""
    if name in (*SORTS, "quickselect"):
        return orders(name), 6
    if name in MATCHERS:
        return texts(), NODES
    if name == "lcs_length":
        # One letter in common, from which a length of 1 spreads cell by cell.
        return [two_strings([0, 1, 0, 0, 0], [2, 1, 2, 2]), *texts()], NODES
    if name in HULLS:
        return shapes() + drawn(name, [NODES] * BATCH), NODES
    return drawn(name, [nodes_of(name)] * BATCH), nodes_of(name)


@every_algorithm
def test_room_is_enough_and_no_more(name: str) -> None:
    problems, nodes = room_of(name)
    lengths = program(name, nodes)(problems)[2]
    room = TASKS[name].machine.frames(nodes)
    assert lengths.max() == room


@every_algorithm
def test_room_grows_with_the_nodes(name: str) -> None:
    frames = TASKS[name].machine.frames
    rooms = [frames(nodes) for nodes in range(1, 80)]
    assert rooms == sorted(rooms)
    assert rooms[0] >= 1


# Inputs.

MANY = 2000
COUNT = 8
"""Nodes that exist, of `NODES`."""


@functools.cache
def sampled(name: str, varied: bool) -> Problem:
    """Inputs of many examples of eight nodes, padded to nine; of segments of four."""
    task, nodes = TASKS[name](varied=varied), nodes_of(name)
    size = jnp.int32(COUNT - 1 if name == "optimal_bst" else COUNT)
    draw = jax.jit(jax.vmap(lambda key: task.draw(key, size, nodes)))
    return jax.device_get(draw(jax.random.split(jax.random.key(4), MANY)))


@every_algorithm
def test_inputs_are_distributed_as_the_published_ones(name: str) -> None:
    ours, nodes = sampled(name, False), nodes_of(name)
    theirs = drawn(name, [COUNT] * MANY, seed=5)
    assert ours.keys() == theirs[0].keys()
    for key, mine in ours.items():
        true = np.stack([pad(own[key], nodes) for own in theirs])
        assert mine.shape == true.shape
        assert mine.dtype == np.float32
        if mine.ndim > 1 and nodes > COUNT:
            assert not mine[:, COUNT:].any()
        for power in (1, 2, 3):
            one, two = (x.reshape(MANY, -1).astype(float) ** power for x in (mine, true))
            close(one, two, key)
            close(one.sum(axis=1), two.sum(axis=1), key)
            close(one[:, 1:] * one[:, :-1], two[:, 1:] * two[:, :-1], key)


def close(one: np.ndarray, two: np.ndarray, key: str) -> None:
    """Whether means over the first axis differ by less than six deviations of their difference."""
    error = np.sqrt((one.var(axis=0) + two.var(axis=0)) / len(one))
    assert (np.abs(one.mean(axis=0) - two.mean(axis=0)) <= 6 * error + 1e-6).all(), key


@every_algorithm
def test_varied_inputs_have_random_places_in_order(name: str) -> None:
    given = sampled(name, True)
    places = given["pos"][:, :COUNT]
    # In each string, where there are two.
    starts = (
        given["string"][:, 1:COUNT] > given["string"][:, : COUNT - 1] if "string" in given else 0
    )
    assert ((np.diff(places) >= 0) | (starts == 1)).all()
    assert not given["pos"][:, COUNT:].any()
    assert ((places >= 0) & (places < 1)).all()
    # A uniform number has a deviation of 0.29, and the mean of several less.
    assert abs(places.mean() - 0.5) < 6 * 0.29 / np.sqrt(MANY)
    assert len(np.unique(places)) > 0.99 * places.size


def test_keys_to_search_in_are_sorted() -> None:
    for varied in (False, True):
        given = sampled("binary_search", varied)
        assert (np.diff(given["key"][:, :COUNT]) >= 0).all()


def test_half_of_the_segments_intersect() -> None:
    given = sampled("segments_intersect", False)
    meet = [oracles.segments_meet(x, y) for x, y in zip(given["x"], given["y"], strict=True)]
    assert abs(np.mean(meet) - 0.5) < 6 * 0.5 / np.sqrt(MANY)


@pytest.mark.parametrize("name", MATCHERS)
def test_needles_are_in_their_haystacks_and_vary_in_length(name: str) -> None:
    task, lengths = TASKS[name](), []
    draw = jax.jit(jax.vmap(lambda key: task.draw(key, jnp.int32(20), 20)))
    given = jax.device_get(draw(jax.random.split(jax.random.key(6), MANY)))
    for string, key in zip(given["string"], given["key"], strict=True):
        text, length = "".join(map(str, key.argmax(1))), int((string == 0).sum())
        assert text[length:] in text[:length]
        lengths.append(20 - length)
    counts = np.bincount(lengths, minlength=10)
    assert counts[0] == counts[9] == 0
    assert (np.abs(counts[1:9] - MANY / 8) < 6 * np.sqrt(MANY / 8)).all()


def test_points_are_uniform_in_a_disc() -> None:
    given = sampled("graham_scan", False)
    radius = np.hypot(given["x"], given["y"])[:, :COUNT]
    assert radius.max() <= 2 + 1e-6
    # A quarter of the area is within half the radius.
    assert abs((radius < 1).mean() - 0.25) < 6 * 0.44 / np.sqrt(MANY * COUNT)
