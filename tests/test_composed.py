"""Chains of modules: exact ones stay exact, and mistakes arrive at the end as they should."""

import bisect
import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax_nar.errors import InputError
from evojax_nar.models import LSTM, MPNN
from evojax_nar.tasks import Parity, Sort, clrs, composed
from evojax_nar.tasks.composed import Exact, Function, Solved, Stage, evaluate

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(5)
SORTING, SEARCHING, WALKING = clrs.InsertionSort(), clrs.BinarySearch(), clrs.BreadthFirstSearch()


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["chance"], meta_fields=["inner", "spoil"]
)
@dataclass(frozen=True)
class Broken(Stage):
    """Spoils the answers of an exact stage in the examples that a number of theirs decides."""

    inner: Stage
    spoil: Any
    chance: float

    @property
    def enter(self):
        return self.inner.enter

    def draw(self, key, size, *, max_size):
        return self.inner.draw(key, size, max_size=max_size)

    def solve(self, content, size):
        right = self.inner.solve(content, size)
        return self.spoil(content, right, self.chance)

    def truth(self, content, size):
        return self.inner.truth(content, size)


def test_exact_stages_are_exact_together():
    for stages in (
        [Exact(SORTING), Exact(SEARCHING, composed.search_sorted)],
        [Exact(Sort()), Exact(SEARCHING, composed.search_ranked)],
        [Exact(WALKING), Function(composed.path, composed.walk_back)],
    ):
        assert evaluate(stages, KEY, 9, batch=8) == (1.0, (1.0, 1.0), 1.0)
    found = composed.curve(stages, KEY, (1, 2), batch=8)
    assert found == dict.fromkeys((1, 2), (1.0, (1.0, 1.0), 1.0))


def test_a_sorted_list_is_searched():
    """What the chain says is what Python's own sort and bisection say."""
    size = jnp.array([1, 4, 7, 7])

    @jax.jit
    def run(key):
        content = Exact(SORTING).draw(key, size, max_size=7)
        answers = Exact(SORTING).solve(content, size)
        given = composed.search_sorted(key, content, answers, size)
        return content, given, Exact(SEARCHING).solve(given, size)["return"]

    content, given, found = run(KEY)
    for row, count in enumerate(size.tolist()):
        keys = sorted(content["key"][row, :count].tolist())
        assert given["key"][row, :count].tolist() == keys
        assert not np.asarray(given["key"][row, count:]).any()
        np.testing.assert_allclose(given["pos"][row, :count], np.arange(count) / count, rtol=1e-6)
        place = bisect.bisect_left(keys, float(given["target"][row]))
        assert int(found[row]) == min(place, count - 1)


def test_ranks_that_are_said_put_keys_in_their_order():
    keys, ranks = jnp.array([[0.5, 0.1, 0.9, 0.7]]), jnp.array([[-1, -1, -1, 2, 0, 0, 0, 0]])
    given = composed.search_ranked(KEY, keys, {"rank": ranks}, jnp.array([3]))
    np.testing.assert_allclose(given["key"], [[0.1, 0.9, 0.5, 0.0]])


def test_a_path_is_walked_back_to_its_root():
    parents = jnp.array([[0, 0, 1, 3, 2], [1, 2, 0, 0, -1], [0, 1, 2, 3, 4]])
    content = {"pi": parents, "goal": jnp.array([4, 4, 3])}
    # The second has no root: it is cut after V nodes. A missing answer counts as node 0.
    expected = [[4, 2, 1, 0, -1], [4, 0, 1, 2, 0], [3, -1, -1, -1, -1]]
    found = composed.path(content, jnp.array([5, 5, 5]))["path"]
    np.testing.assert_array_equal(found, expected)


def test_wrong_predecessors_still_give_an_order():
    depths = composed._depths(jnp.array([1, 1, 0, 4, 3, -1]))
    assert depths[:3].tolist() == [1, 0, 2]
    assert int(depths[5]) == 2, "a missing answer counts as node 0, which is one from the first"
    assert min(depths[3:5].tolist()) >= 6, "a circle never arrives"


def reverse(content, answers, chance):
    """The order back to front, where the first key is below the chance."""
    del answers
    size = content["key"].shape[1]
    order = jnp.argsort(-content["key"], axis=1)
    before = jnp.concatenate([order[:, :1], order[:, :-1]], axis=1)
    spoiled = jnp.zeros((len(order), size), jnp.int32)
    spoiled = spoiled.at[jnp.arange(len(order))[:, None], order].set(before.astype(jnp.int32))
    right = jnp.argsort(content["key"], axis=1)
    before = jnp.concatenate([right[:, :1], right[:, :-1]], axis=1)
    correct = jnp.zeros_like(spoiled)
    correct = correct.at[jnp.arange(len(order))[:, None], right].set(before.astype(jnp.int32))
    return {"pred": jnp.where((content["key"][:, :1] < chance), spoiled, correct)}


def ends(content, size):
    """The place of the smallest and the largest key in a list that ought to be sorted."""
    del size
    return {"ends": jnp.stack([content["key"][:, 0], content["key"][:, -1]], axis=1)}


def shifted(content, answers, chance):
    """Ends too large by 1, where the target is below the chance."""
    return {"ends": answers["ends"] + (content["target"][:, None] < chance)}


def test_one_broken_stage_breaks_the_end_as_often():
    """A list back to front never has its ends right: the end is as good as the broken part."""
    chain = [Broken(Exact(SORTING), reverse, 0.3), Function(ends, composed.search_sorted)]
    found = evaluate(chain, KEY, size=6, batch=400)
    drawn = chain[0].draw(jax.random.split(KEY, 2)[0], jnp.full(400, 6), max_size=6)
    whole = float(np.mean(np.asarray(drawn["key"][:, 0]) >= np.float32(0.3)))
    assert found.parts == (pytest.approx(whole), 1.0)
    assert found.end_to_end == found.product == pytest.approx(whole)
    # As far from 0.7 as 400 draws may be, in four standard deviations.
    assert abs(whole - 0.7) < 4 * np.sqrt(0.7 * 0.3 / 400)


def test_two_independent_mistakes_multiply():
    broken = Broken(Exact(SORTING), reverse, 0.3)
    chain = [broken, Broken(Function(ends, composed.search_sorted), shifted, 0.25)]
    found = evaluate(chain, KEY, size=6, batch=1000)
    for share, expected in (
        (found.parts[0], 0.7),
        (found.parts[1], 0.75),
        (found.end_to_end, 0.525),
    ):
        # As far off as 1000 draws may be, in four standard deviations.
        assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 1000)
    assert found.product == pytest.approx(found.parts[0] * found.parts[1])
    # The covariance of two independent indicators in 1000 draws, likewise.
    assert abs(found.end_to_end - found.product) < 4 * np.sqrt(0.21 * 0.1875 / 1000)


def test_a_new_chance_is_no_new_program():
    chains = [
        [Broken(Exact(SORTING), reverse, chance), Function(ends, composed.search_sorted)]
        for chance in (0.0, 1.0)
    ]
    before = composed._run._cache_size()  # type: ignore[attr-defined]
    ends_right = [evaluate(chain, KEY, size=5, batch=16).end_to_end for chain in chains]
    assert ends_right == [1.0, 0.0]
    assert composed._run._cache_size() == before + 1  # type: ignore[attr-defined]


def test_a_later_stage_forgives_what_it_does_not_look_at():
    """A parent that is wrong off the path does no harm to the path."""

    def off_the_path(content, answers, chance):
        parents = answers["pi"]
        nodes = jnp.arange(parents.shape[1])
        leaf = ~(parents[:, None, :] == nodes[:, None]).any(axis=-1)
        last = jnp.where(leaf, nodes, -1).max(axis=1, keepdims=True)
        wrong = jnp.where(nodes == last, (parents + 1) % parents.shape[1], parents)
        return {"pi": wrong}

    def from_root(key, content, answers, size):
        return {"pi": answers["pi"], "goal": content["s"].argmax(axis=1)}

    chain = [Broken(Exact(WALKING), off_the_path, 1.0), Function(composed.path, from_root)]
    found = evaluate(chain, KEY, size=8, batch=32)
    assert found.parts[0] == 0.0
    assert found.product == 0.0
    assert found.end_to_end == 1.0


def forward(key, content, answers, size):
    """What was said, for a function that gives it back."""
    return answers


def echo(content, size):
    return content


def test_models_are_stages():
    """What an untrained network says of its own inputs is judged as the task judges it."""
    pairs: list[Any] = [
        (clrs.Minimum(train_sizes=(2, 3)), MPNN(hidden=4)),
        (Parity(train_sizes=(2, 3)), LSTM(hidden=4)),
    ]
    for task, model in pairs:
        params = jax.jit(model.init, static_argnums=1)(jax.random.key(2), task.spec)
        stage = Solved(task, model, params)
        found = evaluate([stage, Function(echo, forward)], KEY, size=3, batch=64)
        judged = getattr(task, "test", task)

        @jax.jit
        def evaluation(key, judged=judged, stage=stage, model=model, params=params):
            sizes = jnp.full(64, 3)
            batch = judged.build(stage.draw(key, sizes, max_size=3), sizes)
            outputs = model.apply(params, batch.inputs, spec=judged.spec)
            return judged.evaluate(outputs, batch)

        exact = float(evaluation(jax.random.split(KEY, 2)[0]).metrics["exact"])
        assert found.parts == (pytest.approx(exact), 1.0)
        assert found.end_to_end == found.product == found.parts[0]
        assert 0 < exact < 1


WRONG = {
    "none": ([], "stages is empty"),
    "no adapter": ([Exact(SORTING), Exact(SEARCHING)], r"stages\[1\] has no adapter"),
    "adapter": ([Exact(SEARCHING, composed.search_sorted)], r"stages\[0\] has an adapter"),
    "function": ([Function(composed.path, None)], r"stages\[0\] is a function"),
}


@pytest.mark.parametrize("name", WRONG)
def test_chains_that_are_refused(name):
    stages, said = WRONG[name]
    with pytest.raises(InputError, match=said):
        evaluate(stages, KEY, 3, 2)


@pytest.mark.parametrize(("size", "batch"), [(0, 1), (1, 0)])
def test_nothing_to_run_is_refused(size, batch):
    with pytest.raises(InputError, match="=0 is not allowed"):
        evaluate([Exact(SORTING)], KEY, size, batch)
