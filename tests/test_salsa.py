"""Sparse graphs and the algorithms on them, against scipy and plain Python."""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree, shortest_path
from scipy.spatial import Delaunay as Triangulation

from evojax_nar.errors import InputError
from evojax_nar.tasks import salsa
from evojax_nar.tasks.salsa import Delaunay, ErdosRenyi, WattsStrogatz
from evojax_nar.tasks.salsa.delaunay import edges_of
from evojax_nar.tasks.salsa.families import until_connected
from evojax_nar.types import Batch, GraphOutputs

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(17)
SIZES = (1, 2, 3, 4, 5, 7, 9, 11, 12, 12, 12, 12)
ROOM = 12
TASKS = {cls.name.removeprefix("salsa/"): cls for cls in salsa.ALL}


@pytest.mark.parametrize("name", TASKS)
def test_plain_settings_make_the_same_task(name: str) -> None:
    task = TASKS[name](graphs=WattsStrogatz(neighbours=[2, 4]))
    assert TASKS[name](**task.settings()) == task
    assert TASKS[name](graphs={"name": "delaunay"}).graphs == Delaunay()
    assert not task.test.hints
    assert task.test.graphs == task.graphs


def test_families_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'delaunay'"):
        TASKS["bfs"](graphs={"name": "delauney"})
    with pytest.raises(InputError, match=r"graphs=.*is no family of graphs"):
        TASKS["bfs"](graphs="delaunay")
    with pytest.raises(InputError, match=r"neighbours=.*is not a list of even numbers"):
        WattsStrogatz(neighbours=(4, 5))
    with pytest.raises(InputError, match=r"and most=0\.1 are no range in 0 to 1"):
        WattsStrogatz(fewest=0.2, most=0.1)
    with pytest.raises(InputError, match=r"fewest=0\.0 is not allowed"):
        ErdosRenyi(fewest=0.0)
    with pytest.raises(InputError, match=r"fewest=4\.0 is above most=3\.0"):
        ErdosRenyi(fewest=4.0)


# Families.


def drawn(family: salsa.Family, sizes: Any, room: int, key: Any = KEY) -> np.ndarray:
    """Graphs (B, V, V) of these sizes."""
    draw = jax.jit(jax.vmap(lambda own, n: family.draw(own, n, room)))
    return np.asarray(draw(jax.random.split(key, len(sizes)), jnp.asarray(sizes)))


def distances(edges: np.ndarray) -> np.ndarray:
    return shortest_path(csr_matrix(edges.astype(float)), unweighted=True)


@pytest.mark.parametrize("family", [cls() for cls in salsa.FAMILIES], ids=lambda own: own.name)
def test_graphs_are_connected_and_plain(family: salsa.Family) -> None:
    sizes = list(range(1, 17)) * 2
    for edges, n in zip(drawn(family, sizes, 16), sizes, strict=True):
        np.testing.assert_array_equal(edges, edges.T)
        assert not edges.diagonal().any()
        assert not edges[n:].any()
        assert np.isfinite(distances(edges[:n, :n])).all()


def test_random_edges_are_as_many_as_in_plain_python() -> None:
    count, n = 2048, 7
    ours = drawn(ErdosRenyi(), [n] * count, n).sum(axis=(1, 2)) / 2
    random = np.random.default_rng(3)
    theirs = []
    unit = math.log(16) / 16
    while len(theirs) < count:
        probability = random.uniform(unit, 3 * unit)
        while True:
            edges = np.triu(random.random((n, n)) < probability, 1)
            if np.isfinite(distances(edges | edges.T)).all():
                break
        theirs.append(edges.sum())
    # Of two means of so many numbers, five standard errors of their difference.
    error = math.hypot(np.std(ours), np.std(theirs)) / math.sqrt(count)
    assert abs(ours.mean() - np.mean(theirs)) < 5 * error < 0.5


def test_large_random_graphs_have_the_range_of_their_own_size() -> None:
    n = 64
    share = drawn(ErdosRenyi(), [n] * 48, n).mean(axis=(1, 2)) / (math.log(n) / n)
    # Two standard deviations of the share of n * (n - 1) / 2 pairs at the ends are below 0.25.
    assert ((share > 0.7) & (share < 3.3)).all()
    assert share.min() < 1.4
    assert share.max() > 2.6


def test_what_never_connects_is_joined_to_the_first_node() -> None:
    empty = jax.jit(lambda n: until_connected(KEY, n, 6, lambda own: jnp.zeros((6, 6), bool)))
    for n in (1, 4, 6):
        edges = np.asarray(empty(jnp.int32(n)))
        assert edges.sum() == 2 * (n - 1)
        assert np.isfinite(distances(edges[:n, :n])).all()
        assert not edges[n:].any()


def ring(n: int, near: int) -> np.ndarray:
    apart = np.abs(np.arange(n)[:, None] - np.arange(n))
    apart = np.minimum(apart, n - apart)
    return (apart >= 1) & (apart <= near)


def test_rings_without_chance_are_rings() -> None:
    still = WattsStrogatz(neighbours=(4,), fewest=0.0, most=0.0)
    for edges, n in zip(drawn(still, [2, 3, 4, 5, 9, 10], 10), [2, 3, 4, 5, 9, 10], strict=True):
        np.testing.assert_array_equal(edges[:n, :n], ring(n, max(1, min(2, (n - 1) // 2))))


def rewired_in_plain_python(random: Any, n: int, k: int, probability: float) -> np.ndarray:
    """A ring whose edges are led elsewhere one by one."""
    links = [set(np.flatnonzero(row).tolist()) for row in ring(n, k // 2)]
    for apart in range(1, k // 2 + 1):
        for at in range(n):
            if random.random() < probability and len(links[at]) < n - 1:
                old = (at + apart) % n
                new = random.choice(sorted(set(range(n)) - links[at] - {at}))
                links[at].remove(old)
                links[old].remove(at)
                links[at].add(new)
                links[new].add(at)
    return np.array([[to in links[at] for to in range(n)] for at in range(n)])


def test_rings_are_rewired_as_in_plain_python() -> None:
    n, count, random = 16, 256, np.random.default_rng(4)
    family = WattsStrogatz(neighbours=(4,), fewest=0.3, most=0.3)
    ours = drawn(family, [n] * count, n)
    theirs = np.array([rewired_in_plain_python(random, n, 4, 0.3) for _ in range(count)])
    assert (ours.sum(axis=(1, 2)) == 4 * n).all(), "no edge is lost or added"
    for near in (1, 2):
        kept = [(own & ring(n, near)).sum(axis=(1, 2)) for own in (ours, theirs)]
        error = math.hypot(*(row.std() for row in kept)) / math.sqrt(count)
        assert abs(kept[0].mean() - kept[1].mean()) < 5 * error
        assert 0.6 < kept[0].mean() / (2 * near * n) < 0.9
    sums = [own.sum(axis=2).astype(float).var(axis=1) for own in (ours, theirs)]
    error = math.hypot(*(row.std() for row in sums)) / math.sqrt(count)
    assert abs(sums[0].mean() - sums[1].mean()) < 5 * error, "degrees are as uneven"
    lattice = drawn(WattsStrogatz(), [16] * 64, 16).sum(axis=(1, 2)) // 16
    assert set(lattice.tolist()) == {4, 6, 8}


def triangulated(points: np.ndarray) -> np.ndarray:
    edges = np.zeros((len(points), len(points)), bool)
    for corners in Triangulation(points.astype(float)).simplices:
        for one, two in itertools.permutations(corners, 2):
            edges[one, two] = True
    return edges


def test_delaunay_graphs_are_those_of_a_triangulation() -> None:
    sizes = (3, 4, 6, 10, 30, 60, 60)
    points = jax.random.uniform(KEY, (len(sizes), 60, 2))
    found = jax.jit(jax.vmap(edges_of))(points, jnp.asarray(sizes))
    for edges, own, n in zip(np.asarray(found), np.asarray(points), sizes, strict=True):
        np.testing.assert_array_equal(edges[:n, :n], triangulated(own[:n]))
        assert not edges[n:].any()


@pytest.mark.parametrize(
    ("points", "edges"),
    [
        # The corners of a square are on one circle: no circle has two of them inside out.
        ([(0, 0), (1, 0), (1, 1), (0, 1)], {(0, 1), (1, 2), (2, 3), (0, 3)}),
        ([(0, 0), (2, 2), (1, 1)], {(0, 2), (1, 2)}),
        ([(0, 0), (2, 0)], {(0, 1)}),
        ([(0, 0)], set()),
    ],
)
def test_points_on_a_circle_or_a_line(points: list, edges: set) -> None:
    padded = np.zeros((4, 2), np.float32)
    padded[: len(points)] = points
    found = np.asarray(jax.jit(edges_of)(padded, jnp.int32(len(points))))
    assert {(i, j) for i, j in np.argwhere(found).tolist() if i < j} == edges


# Algorithms.


@pytest.fixture(scope="module")
def batches() -> dict[str, Batch]:
    """Graphs of several sizes for each task, padded to 12, with all hints."""

    def sample(task: salsa.SalsaTask) -> Batch:
        draw = jax.jit(lambda key, n: task.sample(key, n, max_size=ROOM, batch=len(SIZES)))
        return jax.device_get(draw(KEY, jnp.asarray(SIZES)))

    return {name: sample(cls()) for name, cls in TASKS.items()}


def inputs_of(batch: Batch, row: int) -> dict[str, np.ndarray]:
    """Inputs of one graph without padding, after what holds of all of them."""
    n = SIZES[row]
    found = {name: np.asarray(value[row])[:n] for name, value in batch.inputs.values.items()}
    for name in {"A", "adj"} & set(found):
        found[name] = found[name][:, :n]
        np.testing.assert_array_equal(found[name], found[name].T)
    np.testing.assert_allclose(found["pos"], np.arange(n) / n, rtol=1e-6)
    np.testing.assert_array_equal(
        found["adj"] > 0, (found.get("A", found["adj"]) != 0) | np.eye(n, dtype=bool)
    )
    if "s" in found:
        assert sorted(found["s"].tolist()) == [0.0] * (n - 1) + [1.0]
    return found


every_row = pytest.mark.parametrize("row", range(len(SIZES)))


@every_row
def test_breadth_first_parents_are_the_first_of_those_nearer(
    batches: dict[str, Batch], row: int
) -> None:
    inputs = inputs_of(batches["bfs"], row)
    source = int(inputs["s"].argmax())
    depth = distances(inputs["A"])[source]
    for at, parent in enumerate(batches["bfs"].targets["pi"][row][: SIZES[row]]):
        nearer = [v for v in np.flatnonzero(inputs["A"][at]) if depth[v] == depth[at] - 1]
        assert parent == (at if at == source else nearer[0])


@every_row
def test_depth_first_parents_are_those_of_the_recursive_search(
    batches: dict[str, Batch], row: int
) -> None:
    inputs, parents = inputs_of(batches["dfs"], row), {0: 0}

    def visit(at: int) -> None:
        for to in np.flatnonzero(inputs["A"][at]).tolist():
            if to not in parents:
                parents[to] = at
                visit(to)

    visit(0)
    expected = [parents[at] for at in range(SIZES[row])]
    assert batches["dfs"].targets["pi"][row][: SIZES[row]].tolist() == expected


@every_row
def test_dijkstra_finds_the_paths_of_scipy(batches: dict[str, Batch], row: int) -> None:
    inputs = inputs_of(batches["dijkstra"], row)
    source = int(inputs["s"].argmax())
    weights = csr_matrix(inputs["A"].astype(float))
    _, before = dijkstra(weights, indices=source, return_predecessors=True)
    before[source] = source
    found = batches["dijkstra"].targets["pi"][row][: SIZES[row]]
    np.testing.assert_array_equal(found, before)
    drawn_weights = inputs["A"][inputs["A"] != 0]
    assert ((drawn_weights > 0.03) & (drawn_weights < 1.001)).all()


@every_row
def test_prim_finds_the_tree_of_scipy(batches: dict[str, Batch], row: int) -> None:
    inputs = inputs_of(batches["mst_prim"], row)
    found = batches["mst_prim"].targets["pi"][row][: SIZES[row]].tolist()
    tree = minimum_spanning_tree(csr_matrix(inputs["A"].astype(float))).toarray() > 0
    ours = {frozenset((at, to)) for at, to in enumerate(found) if at != to}
    assert ours == {frozenset(pair) for pair in np.argwhere(tree).tolist()}
    for at in range(SIZES[row]):
        for _ in range(SIZES[row]):
            at = found[at]
        assert at == inputs["s"].argmax(), "every parent is nearer to the source"


def greedy_set(edges: np.ndarray, numbers: np.ndarray) -> list[int]:
    """Nodes one by one, the smallest number first and the later one of two equal ones."""
    chosen: list[int] = []
    for at in sorted(range(len(numbers)), key=lambda at: (numbers[at], -at)):
        if not edges[at, chosen].any():
            chosen.append(at)
    return sorted(chosen)


@every_row
def test_independent_set_is_the_greedy_one(batches: dict[str, Batch], row: int) -> None:
    batch, n = batches["fast_mis"], SIZES[row]
    inputs = inputs_of(batch, row)
    edges = (inputs["adj"] > 0) & ~np.eye(n, dtype=bool)
    found = np.flatnonzero(batch.targets["inmis"][row]).tolist()
    assert found == greedy_set(edges, inputs["randomness"])
    assert not edges[np.ix_(found, found)].any()
    assert all(at in found or edges[at, found].any() for at in range(n)), "maximal"


def test_independent_sets_take_turns(batches: dict[str, Batch]) -> None:
    batch = batches["fast_mis"]
    hints = {name: np.asarray(value) for name, value in batch.inputs.hints.items()}
    for row, n in enumerate(SIZES):
        edges = (inputs_of(batch, row)["adj"] > 0) & ~np.eye(n, dtype=bool)
        numbers = inputs_of(batch, row)["randomness"]
        alive, chosen = set(range(n)), set()
        for t in range(int(batch.inputs.running[:, row].sum()) + 1):
            assert set(np.flatnonzero(hints["alive_h"][t, row]).tolist()) == alive
            assert set(np.flatnonzero(hints["inmis_h"][t, row]).tolist()) == chosen
            assert hints["phase_h"][t, row] == t % 2
            if t % 2 == 0:
                chosen |= {
                    at
                    for at in alive
                    if all(numbers[at] < numbers[to] for to in alive if edges[at, to])
                }
            else:
                alive = {at for at in alive - chosen if not edges[at, sorted(chosen)].any()}
        assert not alive


def path(n: int) -> np.ndarray:
    return (np.abs(np.arange(n)[:, None] - np.arange(n)) == 1).astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_longest_runs_fill_the_room_that_there_is(n: int) -> None:
    one = {"pos": np.arange(n) / n, "adj": path(n) + np.eye(n), "randomness": np.arange(n) / n}
    many = {name: jnp.asarray(value, jnp.float32)[None] for name, value in one.items()}
    batch = jax.jit(TASKS["fast_mis"]().build)(many, jnp.asarray([n]))
    assert int(batch.inputs.running.sum()) + 1 == TASKS["fast_mis"].machine.frames(n)
    np.testing.assert_array_equal(batch.targets["inmis"][0], (np.arange(n) + 1) % 2)
    del one["randomness"]
    one |= {"A": path(n), "s": np.eye(n)[0]}
    many = {name: jnp.asarray(value, jnp.float32)[None] for name, value in one.items()}
    batch = jax.jit(TASKS["eccentricity"]().build)(many, jnp.asarray([n]))
    assert int(batch.inputs.running.sum()) + 1 == TASKS["eccentricity"].machine.frames(n) == 2 * n
    assert float(batch.targets["eccentricity"][0]) == n - 1


def test_equal_numbers_are_decided_by_place() -> None:
    n = 5
    one = {"pos": np.arange(n) / n, "adj": np.ones((n, n)), "randomness": np.full(n, 0.5)}
    many = {name: jnp.asarray(value, jnp.float32)[None] for name, value in one.items()}
    batch = jax.jit(TASKS["fast_mis"](hints=False).build)(many, jnp.asarray([n]))
    assert np.flatnonzero(batch.targets["inmis"][0]).tolist() == [n - 1]


@every_row
def test_eccentricity_is_the_largest_distance(batches: dict[str, Batch], row: int) -> None:
    batch, n = batches["eccentricity"], SIZES[row]
    inputs = inputs_of(batch, row)
    source = int(inputs["s"].argmax())
    depth = distances(inputs["A"])[source]
    largest = int(depth.max())
    assert float(batch.targets["eccentricity"][row]) == largest
    last = int(batch.inputs.running[:, row].sum())
    assert last == 2 * largest + 1
    hints = {name: np.asarray(value) for name, value in batch.inputs.hints.items()}
    for t in range(last + 1):
        np.testing.assert_array_equal(hints["visited_h"][t, row][:n], depth <= t)
        np.testing.assert_array_equal(
            hints["floodstate_h"][t, row][:n], np.where(depth <= t, depth, 0)
        )
    # Plain recursion: the largest depth to which ways that lead ever further out can go.
    deepest = depth.copy()
    for at in np.argsort(-depth):
        further = np.flatnonzero((inputs["A"][at] > 0) & (depth > depth[at]))
        deepest[at] = max([depth[at], *deepest[further]])
    answered = hints["leaf_h"][last, row][:n] > 0
    assert answered.all(), "all answer before the source does"
    np.testing.assert_array_equal(hints["echostate_h"][last, row][:n], deepest)
    assert hints["eccentricity_h"][last, row] == largest
    assert not hints["eccentricity_h"][:last, row].any()


@pytest.mark.parametrize("name", TASKS)
def test_room_and_hints_change_no_answer(batches: dict[str, Batch], name: str) -> None:
    batch, task = batches[name], TASKS[name](hints=False)
    wide = {
        key: jnp.pad(value, [(0, 0)] + [(0, 3)] * (value.ndim - 1))
        for key, value in batch.inputs.values.items()
    }
    found = jax.jit(task.build)(wide, jnp.asarray(SIZES))
    for key, value in found.targets.items():
        ours, theirs = np.asarray(value), np.asarray(batch.targets[key])
        np.testing.assert_array_equal(ours[..., :ROOM] if ours.ndim > 1 else ours, theirs)
        assert ours.ndim == 1 or not ours[:, ROOM:].any()
    for key, frames in found.inputs.hints.items():
        assert frames.shape[0] == 1
        first = np.asarray(batch.inputs.hints[key][0])
        np.testing.assert_array_equal(frames[0][tuple(slice(0, n) for n in first.shape)], first)
    ours, theirs = (np.asarray(own.inputs.running.sum(axis=0)) for own in (found, batch))
    np.testing.assert_array_equal(ours, theirs)


# Judging.


def judged(name: str, outputs: Any, batch: Batch) -> dict[str, float]:
    field = TASKS[name].specification.outputs[0].name
    result = jax.jit(TASKS[name]().evaluate)(GraphOutputs({field: jnp.asarray(outputs)}, {}), batch)
    named = {name: float(value) for name, value in result.metrics.items()}
    return named | {"score": float(result.score), "loss": float(result.loss)}


def pointing(truth: np.ndarray) -> np.ndarray:
    return 50.0 * np.eye(truth.shape[1], dtype=np.float32)[truth]


def test_node_accuracy_is_averaged_over_graphs(batches: dict[str, Batch]) -> None:
    batch = batches["bfs"]
    right = pointing(np.asarray(batch.targets["pi"]))
    result = judged("bfs", right, batch)
    assert (result["score"], result["exact"]) == (1.0, 1.0)
    wrong = right.copy()
    wrong[1, 0] = -right[1, 0]  # one of two nodes
    wrong[11, :3] = np.nan  # three of twelve
    result = judged("bfs", wrong, batch)
    graphs = len(SIZES)
    assert result["score"] == pytest.approx((graphs - 2 + 1 / 2 + 9 / 12) / graphs)
    assert result["exact"] == pytest.approx((graphs - 2) / graphs)
    assert result["score_pi"] == pytest.approx(1 - 4 / sum(SIZES)), "all nodes alike"


def test_sides_are_judged_by_accuracy_and_f1(batches: dict[str, Batch]) -> None:
    batch = batches["fast_mis"]
    truth = np.asarray(batch.targets["inmis"])
    right = 50.0 * (2 * truth - 1)
    assert judged("fast_mis", right, batch)["score"] == 1.0
    result = judged("fast_mis", np.full_like(truth, 50.0), batch)
    members = truth.sum(axis=1)
    assert result["score"] == pytest.approx((members / SIZES).mean())
    precision = members.sum() / sum(SIZES)
    assert result["score_inmis"] == pytest.approx(2 * precision / (precision + 1), rel=1e-5)
    assert result["exact"] == pytest.approx((members == SIZES).mean())
    broken = judged("fast_mis", np.full_like(truth, np.nan), batch)
    assert (broken["score"], broken["exact"]) == (0.0, 0.0)
    assert math.isnan(broken["loss"])


def test_a_number_is_right_when_it_rounds_to_the_truth(batches: dict[str, Batch]) -> None:
    batch = batches["eccentricity"]
    truth = np.asarray(batch.targets["eccentricity"])
    near = judged("eccentricity", truth + 0.4, batch)
    assert (near["score"], near["exact"]) == (1.0, 1.0)
    assert near["loss"] == pytest.approx(0.16, rel=1e-4)
    mixed = truth + np.where(np.arange(len(SIZES)) < 3, 0.6, 0.0).astype(np.float32)
    assert judged("eccentricity", mixed, batch)["score"] == pytest.approx(1 - 3 / len(SIZES))
    broken = judged("eccentricity", np.full_like(truth, np.nan), batch)
    assert (broken["score"], broken["exact"]) == (0.0, 0.0)


def test_guesses_are_what_is_most_frequent(batches: dict[str, Batch]) -> None:
    guess = {
        name: next(iter(cls().guess(batches[name]._replace(inputs=None)).outputs.values()))
        for name, cls in TASKS.items()
    }
    exists = batches["bfs"].mask
    for name in ("bfs", "dfs", "dijkstra", "mst_prim"):
        truth = batches[name].targets["pi"]
        for at in range(ROOM):
            counts = np.bincount(truth[exists[:, at], at], minlength=ROOM)
            assert counts[guess[name][at].argmax()] == counts.max()
    truth = batches["eccentricity"].targets["eccentricity"].astype(int)
    assert np.bincount(truth)[int(guess["eccentricity"])] == np.bincount(truth).max()
    ones = batches["fast_mis"].targets["inmis"].sum(axis=0)
    np.testing.assert_array_equal(guess["fast_mis"] > 0, 2 * ones > exists.sum(axis=0))
