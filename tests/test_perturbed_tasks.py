"""Any task on changed inputs: the change is the one that is meant, and answers are right."""

import collections
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from evojax_nar import tasks
from evojax_nar.errors import InputError
from evojax_nar.evaluator import Evaluator
from evojax_nar.floors import floor
from evojax_nar.models import MLP
from evojax_nar.tasks import clrs, salsa
from evojax_nar.tasks.chomsky import BinaryAddition, BinaryMultiplication
from evojax_nar.tasks.formal import SerialAddition
from evojax_nar.tasks.graph_families import FAMILIES, Communities, Grid, OtherGraphs, Tree
from evojax_nar.tasks.graph_problems import NEEDS
from evojax_nar.tasks.logic import AutoregressiveAddition, DecimalAddition
from evojax_nar.tasks.perturbations import EqualOperands, KeyNoise, KeyRange, KeyTies
from evojax_nar.tasks.perturbed import PERTURBATIONS, Perturbed, Shifted, perturbation, plain_task
from evojax_nar.types import GraphOutputs

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(11)
SORT = tasks.Sort(train_sizes=(2, 8), test_sizes=(8, 16))


def sample(task, size, *, max_size=None, batch=16, key=KEY):
    """A batch, on the host."""
    largest = int(np.max(size)) if max_size is None else max_size
    draw = jax.jit(lambda key, size: task.sample(key, size, max_size=largest, batch=batch))
    return jax.device_get(draw(key, jnp.asarray(size, jnp.int32)))


def sorted_lists(batch):
    """Keys and ranks of each example of `Sort`, as lists."""
    for values, targets, size in zip(batch.inputs.values, batch.targets, batch.size, strict=True):
        keys = values[:size, 0].tolist()
        assert values[size : 2 * size, 0].tolist() == keys
        yield keys, np.rint(targets[size : 2 * size, 0] * max(size - 1, 1)).astype(int).tolist()


def ranks(keys):
    order = sorted(range(len(keys)), key=lambda place: (keys[place], place))
    return [order.index(place) for place in range(len(keys))]


# Keys.


@pytest.mark.parametrize("change", [KeyNoise(0.3), KeyRange(10.0), KeyTies(0.7)])
def test_changed_lists_have_the_ranks_of_their_changed_keys(change):
    plain, changed = SORT, Perturbed(SORT, change)
    sizes = np.arange(16) % 8 + 1
    found = list(sorted_lists(sample(changed, sizes, max_size=8)))
    assert all(ranks(keys) == right for keys, right in found)
    before = [keys for keys, _ in sorted_lists(sample(plain, sizes, max_size=8))]
    assert before != [keys for keys, _ in found]


def test_noise_has_the_size_that_is_asked_for():
    keys = jnp.zeros(4000)
    noise = np.asarray(KeyNoise(0.25).keys(KEY, keys, jnp.int32(4000)))
    # The standard deviation of 4000 numbers is off by 1 / sqrt(8000) of itself; four times that.
    assert abs(noise.std() / 0.25 - 1) < 4 / math.sqrt(8000)
    assert abs(noise.mean()) < 4 * 0.25 / math.sqrt(4000)


def test_keys_of_a_wider_range():
    key = jax.random.key(3)
    wide = np.concatenate(
        [keys for keys, _ in sorted_lists(sample(Perturbed(SORT, KeyRange()), 8, key=key))]
    )
    assert wide.min() >= 0
    assert 8 < wide.max() < 10
    kadane = clrs.FindMaximumSubarrayKadane()
    signed = sample(Perturbed(kadane, KeyRange(10.0)), 16).inputs.values["key"]
    assert -10 <= signed.min() < -8
    assert 8 < signed.max() <= 10


def test_some_keys_become_those_of_other_places():
    batch = sample(Perturbed(SORT, KeyTies(0.5)), 40, batch=100)
    lists = [keys for keys, _ in sorted_lists(batch)]
    # A key is gone where it was replaced and nobody has copied it: with chance q = 1/2 each, the
    # others point at it with q / 39 each, so 40 (q) (1 - q / 39) ** 39 of 40 are gone.
    expected = 40 - 40 * 0.5 * (1 - 0.5 / 39) ** 39
    distinct = np.array([len(set(keys)) for keys in lists])
    assert abs(distinct.mean() - expected) < 4 * distinct.std() / 10
    everything = sample(Perturbed(SORT, KeyTies(1.0)), 2, batch=50)
    for (first, second), right in sorted_lists(everything):
        assert first != second, "each of two takes the key of the other"
        assert right == ranks([first, second])
    alone = sample(Perturbed(SORT, KeyTies(1.0)), 1, max_size=4)
    plain = [keys for keys, _ in sorted_lists(alone)]
    assert all(0 < keys[0] < 1 for keys in plain), "a key without others stays"


def follow(pointers):
    """The places of a list in the order that predecessors give, the first pointing at itself."""
    after = {int(before): place for place, before in enumerate(pointers) if before != place}
    (first,) = (place for place, before in enumerate(pointers) if before == place)
    order = [first]
    while order[-1] in after:
        order.append(after[order[-1]])
    return order


@pytest.mark.parametrize("change", [KeyNoise(), KeyRange(), KeyTies()])
def test_lists_of_clrs_are_answered_for_their_changed_keys(change):
    sizes = np.array([1, 3, 6, 6])
    batch = sample(Perturbed(clrs.InsertionSort(), change).test, sizes, max_size=6, batch=4)
    for row, size in enumerate(sizes):
        keys = batch.inputs.values["key"][row]
        order = follow(batch.targets["pred"][row][:size])
        assert order == sorted(range(size), key=lambda place, keys=keys: (keys[place], place))
        assert not keys[size:].any()
    batch = sample(Perturbed(clrs.Minimum(), change).test, sizes, max_size=6, batch=4)
    for row, size in enumerate(sizes):
        keys = batch.inputs.values["key"][row][:size].tolist()
        assert batch.targets["min"][row].argmax() == keys.index(min(keys))


@pytest.mark.parametrize("change", [KeyNoise(), KeyRange(), KeyTies()])
def test_what_is_searched_stays_sorted(change):
    sizes = np.array([2, 5, 9, 9])
    batch = sample(Perturbed(clrs.BinarySearch(), change).test, sizes, max_size=9, batch=4)
    for row, size in enumerate(sizes):
        keys = batch.inputs.values["key"][row][:size].tolist()
        target = float(batch.inputs.values["target"][row])
        assert keys == sorted(keys)
        place = next((p for p, key in enumerate(keys) if key >= target), size - 1)
        assert batch.targets["return"][row].argmax() == place


# Operands.


def serial(batch):
    for values, targets, size in zip(batch.inputs.values, batch.targets, batch.size, strict=True):
        yield *values[:size].astype(int).T, targets[: size + 1, 0].astype(int), 2


def decimal(batch):
    for values, targets, mask, size in zip(
        batch.inputs.values, batch.targets, batch.mask, batch.size, strict=True
    ):
        tokens = values.argmax(axis=1)
        yield tokens[:size], tokens[size + 1 : 2 * size + 1], targets[mask], 10


def value(digits, base):
    return sum(int(digit) * base**place for place, digit in enumerate(digits))


OPERANDS = [
    (SerialAddition(), serial),
    (DecimalAddition(), decimal),
    (AutoregressiveAddition(), decimal),
]


@pytest.mark.parametrize(("task", "read"), OPERANDS, ids=[task.name for task, _ in OPERANDS])
def test_a_number_is_added_to_itself(task, read):
    batch = sample(Perturbed(task, EqualOperands()), np.arange(16) % 7 + 1, max_size=7)
    numbers = set()
    for first, second, total, base in read(batch):
        assert first.tolist() == second.tolist()
        assert value(total, base) == 2 * value(first, base)
        numbers.add(value(first, base))
    assert len(numbers) > 4


@pytest.mark.parametrize(("cls", "result"), [(BinaryAddition, 2), (BinaryMultiplication, None)])
def test_a_string_has_the_same_operand_twice(cls, result):
    task = Perturbed(cls(), EqualOperands())
    sizes = np.tile(np.arange(3, 19), 4)
    batch = sample(task, sizes, batch=64)
    numbers = collections.defaultdict(set)
    for row, size in enumerate(sizes.tolist()):
        tokens = batch.inputs.values[row].argmax(axis=1)[:size].tolist()
        sign = tokens.index(2)
        first, second = value(tokens[:sign], 2), value(tokens[sign + 1 :], 2)
        assert first == second > 0
        assert sign == (size - 1) // 2
        answer = batch.targets[row][batch.mask[row]].tolist()
        assert answer[-1] == 2
        assert value(answer[:-1], 2) == (2 * first if result else first * first)
        numbers[sign].add(first)
    assert numbers[1] == {1}
    assert len(numbers[8]) > 2


def test_strings_of_one_operand_stay_as_they_are():
    task, sizes = BinaryAddition(), np.array([1, 2, 1, 2, 3])
    words = np.random.default_rng(0).integers(0, 2**32, (5, 4, 4), np.uint32)
    change = jax.jit(lambda words: EqualOperands().change(KEY, task, words, jnp.array(sizes)))
    changed = np.asarray(change(words))
    np.testing.assert_array_equal(changed[:4], words[:4])
    assert (changed[4] != words[4]).any()


# Graphs.


def matrices(family, task, sizes, *, max_size=None, key=KEY):
    """A of each example, without its padding."""
    nodes = max(sizes) if max_size is None else max_size
    blank = {name: jnp.full((len(sizes), nodes, nodes), jnp.nan) for name in ("A", "adj")}
    change = OtherGraphs(family).change
    given = jax.jit(lambda key, size: change(key, task, blank, size))(key, jnp.array(sizes))
    for size, *pair in zip(sizes, given["A"], given["adj"], strict=True):
        matrix, adjacency = map(np.asarray, pair)
        assert not matrix[size:].any()
        assert not matrix[:, size:].any()
        exists = np.arange(nodes) < size
        expected = (matrix != 0) | (np.eye(nodes, dtype=bool) & exists)
        np.testing.assert_array_equal(adjacency, expected)
        yield matrix[:size, :size]


def pieces(matrix):
    """Connected components, by spreading from node to node."""
    left, count = set(range(len(matrix))), 0
    while left:
        front = [left.pop()]
        count += 1
        while front:
            node = front.pop()
            near = {other for other in left if matrix[node, other] or matrix[other, node]}
            left -= near
            front += near
    return count


FORMS = [
    *((family(), clrs.Prim) for family in FAMILIES.values()),
    (Tree(), clrs.BreadthFirstSearch),
    (Communities(), clrs.DepthFirstSearch),
    (Grid(), clrs.DagShortestPaths),
]


@pytest.mark.parametrize(("family", "cls"), FORMS, ids=lambda one: one.name)
def test_a_family_has_the_form_that_the_algorithm_needs(family, cls):
    task, need = cls(), NEEDS[cls.name]
    for matrix in matrices(family, task, [1, 2, 3, 9, 12], max_size=12):
        assert not matrix.diagonal().any()
        edges = matrix > 0
        if need.directed:
            assert not (edges & edges.T).any()
        else:
            np.testing.assert_array_equal(matrix, matrix.T)
        if need.acyclic:
            assert not np.linalg.matrix_power(edges.astype(int), len(edges)).any()
        weights = matrix[edges]
        if need.weighted:
            assert ((weights > 0) & (weights < 1.001)).all()
            assert len(np.unique(weights)) == len(weights) // (1 if need.directed else 2)
        else:
            assert (weights == 1).all()


def undirected(family, size, count=24, key=KEY):
    return list(matrices(family, clrs.BreadthFirstSearch(), [size] * count, key=key))


def test_trees_are_trees():
    for matrix in undirected(Tree(), 13):
        assert matrix.sum() == 2 * 12
        assert pieces(matrix) == 1
    # The first is tied to a uniform one before it: of three nodes, two trees in two.
    assert {tuple(matrix.sum(axis=0)) for matrix in undirected(Tree(), 3)} == {
        (1, 1, 2), (1, 2, 1), (2, 1, 1),
    }  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 4, 7, 12, 20])
def test_grids_are_grids(size):
    columns = math.isqrt(size - 1) + 1
    cells = [(node // columns, node % columns) for node in range(size)]
    degrees = sorted(sum(abs(r - a) + abs(c - b) == 1 for a, b in cells) for r, c in cells)
    for matrix in undirected(Grid(), size, count=3):
        assert sorted(matrix.sum(axis=0)) == degrees
        assert pieces(matrix) == 1


def test_communities_have_edges_inside():
    """A connected graph, of cliques and as few edges between them as tie them together."""
    for matrix in undirected(Communities(3, inside=1.0, between=0.0), 11, count=4):
        assert pieces(matrix) == 1
        assert matrix.sum() / 2 == 6 + 6 + 3 + 2
    found = undirected(Communities(2, inside=0.5, between=0.1), 20)
    share = np.mean([matrix.sum() for matrix in found]) / 2
    # 2 x 45 pairs inside and 100 between: 45 + 10 edges expected, with a variance of 31.5 a graph,
    # of graphs that are hardly ever drawn again for not being connected.
    assert abs(share - 55) < 4 * math.sqrt(31.5 / 24)


def test_nodes_of_a_family_stand_in_any_order():
    first = np.stack([matrix[0] for matrix in undirected(Grid(), 9)])
    assert len(np.unique(first, axis=0)) > 10


def test_answers_are_those_of_the_changed_graph():
    sizes = [5, 8, 8, 8]
    batch = sample(Perturbed(clrs.BreadthFirstSearch(), OtherGraphs(Grid())).test, sizes, batch=4)
    for row, size in enumerate(sizes):
        matrix = batch.inputs.values["A"][row]
        source = int(batch.inputs.values["s"][row].argmax())
        assert batch.inputs.values["s"][row].sum() == 1
        far = {source: 0}
        queue = collections.deque([source])
        while queue:
            node = queue.popleft()
            for other in np.flatnonzero(matrix[node]).tolist():
                if other not in far:
                    far[other] = far[node] + 1
                    queue.append(other)
        assert len(far) == size
        for node, parent in enumerate(batch.targets["pi"][row][:size].tolist()):
            assert far[parent] == max(far[node] - 1, 0)
            assert node == parent == source or matrix[parent, node]


# As tasks.

EVERY = [
    Perturbed(SORT, KeyTies()),
    Shifted(SORT, KeyRange(3.0)),
    Perturbed(DecimalAddition(), EqualOperands()),
    Shifted(clrs.Heapsort(), KeyNoise(0.5)),
    Perturbed(salsa.SparseDijkstra(graphs=salsa.Delaunay()), OtherGraphs(Tree())),
    *(Perturbed(clrs.Dijkstra(test_sizes=(9,)), OtherGraphs(cls())) for cls in FAMILIES.values()),
]


@pytest.mark.parametrize("task", EVERY, ids=str)
def test_settings_build_an_equal_task(task):
    said = task.settings()
    for read in (said, yaml.safe_load(yaml.safe_dump(said)), json.loads(json.dumps(said))):
        twin = type(task)(**read)
        assert twin == task
        assert hash(twin) == hash(task)
    assert plain_task(task) is task.task


def test_every_perturbation_has_settings_that_build_it():
    for name, cls in PERTURBATIONS.items():
        assert perturbation(name) == cls()
        assert perturbation(name, **cls().settings()) == cls()


def test_a_wrapper_is_the_task_in_all_but_inputs():
    changed = Perturbed(SORT, KeyNoise())
    assert (changed.train_sizes, changed.test_sizes) == ((2, 8), (8, 16))
    assert changed.spec == SORT.spec
    assert changed.length(5) == SORT.length(5)
    batch = sample(changed, 8)
    outputs = jnp.asarray(batch.targets)
    assert float(jax.jit(changed.evaluate)(outputs, batch).metrics["exact"]) == 1.0
    assert 0 < floor(changed, 8).score < 1  # type: ignore[union-attr]


def test_one_program_serves_all_sizes():
    changed = Perturbed(clrs.BreadthFirstSearch(), OtherGraphs())
    traced = []

    @jax.jit
    def draw(key, size):
        traced.append(size)
        return changed.test.sample(key, size, max_size=9, batch=3)

    for size in (3, 9):
        assert draw(KEY, jnp.int32(size)).size.tolist() == [size] * 3
    assert len(traced) == 1


def test_only_the_tests_of_a_shifted_task_are_changed():
    shifted = Shifted(SORT, KeyRange(100.0))
    evaluator = Evaluator(shifted, MLP(hidden=(4,)))
    largest = {
        "train": sample(shifted, 8).inputs.values[..., 0].max(),
        "validation": sample(evaluator._validation, 8).inputs.values[..., 0].max(),
        "test": sample(evaluator._test, 8).inputs.values[..., 0].max(),
    }
    assert largest["train"] < 1
    assert largest["validation"] < 1
    assert largest["test"] > 50
    np.testing.assert_array_equal(sample(shifted, 8).targets, sample(SORT, 8).targets)


def test_a_constant_model_scores_alike_on_a_wider_range():
    """Judged by the evaluator: a model that sees nothing cannot be hurt by a change of keys."""
    model = MLP(hidden=(4,))
    params = jax.tree.map(lambda leaf: 0.0 * leaf[None], model.init(KEY, SORT.spec))
    plain = Evaluator(SORT, model).at(8, params, examples=64, key=KEY)
    changed = Evaluator(Perturbed(SORT, KeyRange()), model).at(8, params, examples=64, key=KEY)
    assert plain is not None
    assert changed is not None
    # One rank of eight is always 0; nothing else is.
    np.testing.assert_allclose([plain.score, changed.score], 1 / 8)


def test_graph_outputs_are_judged_as_ever():
    changed = Perturbed(clrs.Bridges(), OtherGraphs(Tree())).test
    batch = sample(changed, 7, batch=4)
    # In a tree every edge is a bridge.
    np.testing.assert_array_equal(batch.targets["is_bridge"] == 1, batch.inputs.values["A"] > 0)
    everything = GraphOutputs({"is_bridge": 2.0 * batch.inputs.values["A"] - 1}, {})
    assert float(jax.jit(changed.evaluate)(everything, batch).score) == 1.0


REFUSED = {
    "no keys": (lambda: Perturbed(tasks.Parity(), KeyNoise()), "does not apply to task='parity'"),
    "letters": (lambda: Perturbed(tasks.SortLetters(), KeyTies()), "sort_letters"),
    "no graphs": (lambda: Shifted(clrs.Minimum(), OtherGraphs()), "not apply to task='clrs/min"),
    "a network": (lambda: Perturbed(clrs.BipartiteMatching(), OtherGraphs()), "on graphs: clrs/"),
    "no operands": (lambda: Perturbed(tasks.Copy(width=2), EqualOperands()), "serial_addition"),
    "twice": (lambda: Perturbed(Perturbed(SORT, KeyTies()), KeyNoise()), "task='perturbed'"),
    "no perturbation": (lambda: Perturbed(SORT, "noise"), "perturbation='noise' is none"),
    "unknown": (lambda: Perturbed(SORT, {"name": "key_nois"}), "did you mean 'key_noise'"),
    "setting": (lambda: Perturbed(SORT, {"name": "key_noise", "rows": 3}), "no setting 'rows'"),
    "family": (lambda: OtherGraphs({"name": "gridd"}), "did you mean 'grid'"),
    "setting of a family": (lambda: OtherGraphs({"name": "grid", "n": 3}), "no setting 'n'"),
    "no family": (lambda: OtherGraphs("grid"), "graphs='grid' is no family"),
    "no name": (lambda: Perturbed({"width": 3}, KeyNoise()), "has no name"),
    "unknown task": (lambda: Perturbed({"name": "sorts"}, KeyNoise()), "did you mean 'sort'"),
    "scale": (lambda: KeyNoise(0.0), "scale=0.0"),
    "factor": (lambda: KeyRange(-1.0), "factor=-1.0"),
    "fraction": (lambda: KeyTies(1.5), "fraction=1.5"),
    "chance": (lambda: Communities(inside=1.5), "inside=1.5"),
    "groups": (lambda: Communities(0), "count=0"),
    "size": (lambda: Perturbed(SORT, KeyTies()).sample(KEY, 9, max_size=8, batch=1), "size=9"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_together_is_said(name):
    call, said = REFUSED[name]
    with pytest.raises(InputError, match=said):
        call()
