"""Flows and tours against scipy, brute force and plain Python."""

from __future__ import annotations

import itertools
import math
from collections import deque
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow

from evojax_nar.errors import InputError
from evojax_nar.tasks import optimisation
from evojax_nar.tasks.optimisation import MaxFlow, TravellingSalesman, held_karp, tours, two_opt
from evojax_nar.tasks.optimisation.augmenting import edmonds_karp
from evojax_nar.tasks.optimisation.networks import TwoHalves
from evojax_nar.types import Batch, GraphOutputs

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(11)
FLOW_SIZES = (2, 3, 4, 5, 6, 7, 8, 11, 12, 12, 12, 12)
ROOM = 12
LEVELS = 4


@pytest.mark.parametrize("cls", optimisation.ALL, ids=[cls.name for cls in optimisation.ALL])
def test_plain_settings_make_the_same_task(cls: Any) -> None:
    assert cls(**cls().settings()) == cls()
    assert cls.example().spec.name == cls.name


# Flows.


@pytest.fixture(scope="module")
def networks() -> Batch:
    """Networks of several sizes, padded to 12, with all hints."""
    task = MaxFlow()
    sample = jax.jit(lambda key, size: task.sample(key, size, max_size=ROOM, batch=len(FLOW_SIZES)))
    return jax.device_get(sample(KEY, jnp.asarray(FLOW_SIZES)))


def network(batch: Batch, row: int) -> tuple[np.ndarray, int, int]:
    """Capacities in whole steps (n, n), the source and the sink."""
    values, n = batch.inputs.values, int(batch.size[row])
    capacity = np.asarray(values["A"][row] * LEVELS)
    np.testing.assert_array_equal(capacity, capacity.round())
    return (
        capacity[:n, :n].astype(int),
        int(values["s"][row].argmax()),
        int(values["t"][row].argmax()),
    )


def reachable(spare: np.ndarray, source: int) -> set[int]:
    """Plain breadth-first search along positive entries."""
    seen, queue = {source}, deque([source])
    while queue:
        at = queue.popleft()
        for to in np.flatnonzero(spare[at] > 0).tolist():
            if to not in seen:
                seen.add(to)
                queue.append(to)
    return seen


def check_flow(flow: np.ndarray, capacity: np.ndarray, source: int, sink: int) -> int:
    """The value of a flow in whole steps, after all that makes it one."""
    assert ((flow >= 0) & (flow <= capacity)).all()
    assert not ((flow > 0) & (flow.T > 0)).any(), "nothing goes both ways"
    balance = flow.sum(axis=1) - flow.sum(axis=0)
    inner = [at for at in range(len(flow)) if at not in (source, sink)]
    assert not balance[inner].any()
    assert balance[source] == -balance[sink]
    return int(balance[source])


def steps_of(flow: Any, n: int) -> np.ndarray:
    """A flow in whole steps; everything past the size is 0."""
    whole = np.asarray(flow) * LEVELS
    np.testing.assert_array_equal(whole, whole.round())
    assert not whole[n:].any()
    assert not whole[:, n:].any()
    return whole[:n, :n].astype(int)


@pytest.mark.parametrize("row", range(len(FLOW_SIZES)))
def test_flow_is_maximal_and_cut_is_the_smallest_minimum(networks: Batch, row: int) -> None:
    capacity, source, sink = network(networks, row)
    n = len(capacity)
    value = check_flow(steps_of(networks.targets["flow"][row], n), capacity, source, sink)
    theirs = maximum_flow(csr_matrix(capacity), source, sink)
    assert value == theirs.flow_value > 0
    cut = np.asarray(networks.targets["cut"][row])
    assert not cut[n:].any()
    assert set(np.flatnonzero(cut).tolist()) == reachable(
        capacity - np.asarray(theirs.flow.todense()), source
    )
    inside = cut[:n] > 0
    assert capacity[inside][:, ~inside].sum() == value, "each proves that the other is optimal"


@pytest.mark.parametrize("row", [row for row, n in enumerate(FLOW_SIZES) if n <= 8])
def test_cut_is_the_intersection_of_all_minimum_cuts(networks: Batch, row: int) -> None:
    capacity, source, sink = network(networks, row)
    others = [at for at in range(len(capacity)) if at not in (source, sink)]
    cuts: dict[int, list[set[int]]] = {}
    for chosen in itertools.product((False, True), repeat=len(others)):
        side = {source, *(at for at, taken in zip(others, chosen, strict=True) if taken)}
        away = [at for at in range(len(capacity)) if at not in side]
        cuts.setdefault(int(capacity[np.ix_(sorted(side), away)].sum()), []).append(side)
    smallest = set.intersection(*cuts[min(cuts)])
    assert set(np.flatnonzero(networks.targets["cut"][row]).tolist()) == smallest


@pytest.mark.parametrize("row", range(0, len(FLOW_SIZES), 3))
def test_frames_are_one_shortest_path_apart(networks: Batch, row: int) -> None:
    capacity, source, sink = network(networks, row)
    n, hints = len(capacity), networks.inputs.hints
    last = int(networks.inputs.running[:, row].sum())
    assert len(networks.inputs.running) == LEVELS * (ROOM - 1)
    flows = [steps_of(hints["flow_h"][t, row], n) for t in range(last + 1)]
    assert not flows[0].any()
    np.testing.assert_array_equal(flows[last] / LEVELS, networks.targets["flow"][row][:n, :n])
    for t in range(last):
        net = flows[t] - flows[t].T
        spare = capacity - net
        assert (
            set(np.flatnonzero(hints["reach_h"][t, row]).tolist())
            == reachable(spare, source)
            >= {sink}
        )
        parent, path, at = hints["pi_h"][t, row], [], sink
        while at != source:
            path.append((int(parent[at]), at))
            at = int(parent[at])
        assert len(path) == distance_to(spare, source, sink)
        amount = min(spare[edge] for edge in path)
        expected = net.copy()
        for u, v in path:
            expected[u, v] += amount
            expected[v, u] -= amount
        np.testing.assert_array_equal(np.maximum(expected, 0), flows[t + 1])
    assert sink not in np.flatnonzero(hints["reach_h"][last, row])
    assert not np.asarray(hints["flow_h"][last + 1 :, row]).any()


def distance_to(spare: np.ndarray, source: int, sink: int) -> int:
    """Edges on a shortest path, by powers of the adjacency matrix."""
    here, reach = np.eye(len(spare), dtype=bool)[source], 0
    while not here[sink]:
        here, reach = here | (here @ (spare > 0)), reach + 1
    return reach


def test_room_for_more_nodes_changes_nothing() -> None:
    draw = jax.jit(jax.vmap(lambda key: TwoHalves().draw(key, jnp.int32(6), 6)))
    small = draw(jax.random.split(KEY, 3))
    wide = {
        name: jnp.pad(value, [(0, 0)] + [(0, 3)] * (value.ndim - 1))
        for name, value in small.items()
    }
    task, sizes = MaxFlow(hints=False), jnp.full(3, 6)
    build = jax.jit(task.build)
    ours, theirs = build(small, sizes), build(wide, sizes)
    np.testing.assert_array_equal(theirs.targets["flow"][:, :6, :6], ours.targets["flow"])
    np.testing.assert_array_equal(theirs.targets["cut"][:, :6], ours.targets["cut"])
    assert all(len(frames) == 1 for frames in theirs.inputs.hints.values())


def test_as_many_paths_as_there_may_be() -> None:
    # Every other node is on a path of its own, and the bound is reached.
    n, machine = 7, edmonds_karp(1)
    capacity = np.zeros((n, n), np.float32)
    capacity[0, 1:] = capacity[1:, n - 1] = 1.0
    capacity[n - 1] = 0.0
    ends = np.eye(n, dtype=np.float32)
    inputs = {"pos": np.arange(n) / n, "A": capacity, "s": ends[0], "t": ends[n - 1]}
    inputs = {name: jnp.asarray(value, jnp.float32)[None] for name, value in inputs.items()}
    batch = jax.jit(MaxFlow(levels=1).build)(inputs, jnp.asarray([n]))
    assert int(batch.inputs.running.sum()) == n - 1 == machine.frames(n) - 1
    assert float(batch.targets["flow"][0, 0].sum()) == n - 1


def test_networks_are_not_cut_beside_source_or_sink() -> None:
    batch = jax.jit(lambda key: MaxFlow().test.sample(key, 16, max_size=16, batch=256))(KEY)
    side = np.asarray(batch.targets["cut"]).sum(axis=1)
    alone = np.isin(side, (1, 15)).mean()
    assert alone < 0.5  # 0.35 to 0.45 by seed; some 0.9 in networks of one density
    used = np.unique(np.asarray(batch.inputs.values["A"]))
    np.testing.assert_array_equal(used, np.arange(LEVELS + 1) / LEVELS)


def judged(batch: Batch, flow: Any, cut: Any) -> dict[str, float]:
    """The metrics of a flow (B, V, V) and of a side (B, V), 0 or 1, and the score."""
    outputs = {"flow": jnp.asarray(flow, jnp.float32), "cut": 50.0 * (2.0 * jnp.asarray(cut) - 1.0)}
    result = jax.jit(MaxFlow().evaluate)(GraphOutputs(outputs, {}), batch)
    return {name: float(value) for name, value in result.metrics.items()} | {
        "score": float(result.score)
    }


def test_any_maximum_flow_is_right(networks: Batch) -> None:
    flow, cut = np.array(networks.targets["flow"]), np.asarray(networks.targets["cut"])
    ours = judged(networks, flow, cut)
    assert (ours["score"], ours["exact"], ours["flow_share"]) == (1.0, 1.0, 1.0)
    assert (ours["flow_error"], ours["cut_gap"], ours["violation"]) == (0.0, 0.0, 0.0)
    other = np.zeros_like(flow)
    for row, n in enumerate(FLOW_SIZES):
        # With the nodes in reverse other paths come first.
        capacity, source, sink = network(networks, row)
        turned = csr_matrix(capacity[::-1, ::-1])
        theirs = maximum_flow(turned, n - 1 - source, n - 1 - sink).flow.todense()
        other[row, :n, :n] = np.maximum(np.asarray(theirs)[::-1, ::-1], 0) / LEVELS
    assert (other != flow).any(axis=(1, 2)).sum() >= 3, "another one is found"
    theirs = judged(networks, other, cut)
    assert (theirs["score"], theirs["exact"], theirs["violation"]) == (1.0, 1.0, 0.0)
    assert theirs["score_flow"] < 0, "which the loss is not indifferent to"


def test_what_is_wrong_with_a_flow_is_measured(networks: Batch) -> None:
    flow, cut = np.asarray(networks.targets["flow"]), np.asarray(networks.targets["cut"])
    values = [float((f.sum(1) - f.sum(0)).max()) for f in flow]
    nothing = judged(networks, 0 * flow, cut)
    assert (nothing["flow_share"], nothing["exact"], nothing["violation"]) == (0.0, 0.0, 0.0)
    assert nothing["score"] == 0.5
    assert nothing["flow_error"] == pytest.approx(np.mean(values))
    half = judged(networks, 0.5 * flow, cut)
    assert half["flow_share"] == pytest.approx(0.5)
    # Everything that there is room for leaves the source, and most of it stays with the neighbours.
    flooded = judged(networks, networks.inputs.values["A"], cut)
    assert flooded["flow_share"] < 0.5
    assert flooded["violation"] > 0.5
    # Beyond capacity nothing gets through, so a flow that is too large is worth no more.
    assert judged(networks, 2 * flow, cut)["violation"] == pytest.approx(
        np.mean(
            [
                np.maximum(2 * f - c, 0).sum() / v
                for f, c, v in zip(flow, networks.inputs.values["A"], values, strict=True)
            ]
        ),
        rel=1e-5,
    )
    broken = judged(networks, np.full_like(flow, np.nan), np.full_like(cut, np.nan))
    assert (broken["score"], broken["exact"]) == (0.0, 0.0)
    assert math.isnan(broken["cut_gap"])
    half_broken = judged(networks, np.full_like(flow, np.nan), cut)
    assert (half_broken["score"], half_broken["exact"]) == (0.5, 0.0)


def test_gap_of_a_cut_is_its_capacity_beyond_the_flow(networks: Batch) -> None:
    flow = networks.targets["flow"]
    gaps = []
    for row in range(len(FLOW_SIZES)):
        capacity, source, sink = network(networks, row)
        best = maximum_flow(csr_matrix(capacity), source, sink).flow_value
        gaps.append(capacity[source].sum() / best - 1)
    sides = np.zeros_like(networks.targets["cut"])  # the source is on its own side all the same
    assert judged(networks, flow, sides)["cut_gap"] == pytest.approx(np.mean(gaps), rel=1e-5)


def test_constants_are_guessed_from_targets_alone(networks: Batch) -> None:
    guess = MaxFlow().guess(networks._replace(inputs=None))
    ones = np.asarray(networks.targets["cut"]).sum(axis=0) / networks.mask.sum(axis=0)
    np.testing.assert_array_equal(guess.outputs["cut"] > 0, ones > 0.5)
    np.testing.assert_allclose(guess.outputs["flow"], networks.targets["flow"].mean(axis=0))


def test_networks_that_cannot_be_are_refused(networks: Batch) -> None:
    with pytest.raises(InputError, match="levels=3 gives inexact sums"):
        MaxFlow(levels=3)
    with pytest.raises(InputError, match="train_sizes holds 1; give sizes of at least 2"):
        MaxFlow(train_sizes=(1, 4))
    with pytest.raises(InputError, match="size holds 1; give sizes of at least 2"):
        MaxFlow().sample(KEY, 1, max_size=4, batch=2)
    with pytest.raises(InputError, match="outputs has no 'flow'"):
        MaxFlow().evaluate(GraphOutputs({"cut": jnp.zeros((1, 2))}, {}), networks)


# Tours.

TOUR_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 8, 8)


@pytest.fixture(scope="module")
def cities() -> Batch:
    """Points of several sizes, padded to 8."""
    task = TravellingSalesman()
    sample = jax.jit(lambda key, size: task.sample(key, size, max_size=8, batch=len(TOUR_SIZES)))
    return jax.device_get(sample(KEY, jnp.asarray(TOUR_SIZES)))


def points(batch: Batch, row: int) -> np.ndarray:
    """(n, 2) float64."""
    values, n = batch.inputs.values, int(batch.size[row])
    return np.stack([values["x"][row][:n], values["y"][row][:n]], axis=1).astype(float)


def walk(successor: Any) -> list[int]:
    """The nodes in turn from the first one on, until one comes again."""
    order = [0]
    while (after := int(successor[order[-1]])) not in order:
        order.append(after)
    assert after == 0
    return order


def measure(places: np.ndarray, order: Any) -> float:
    """The length of a closed tour."""
    ordered = places[list(order)]
    return float(np.linalg.norm(ordered - np.roll(ordered, -1, axis=0), axis=1).sum())


def area(places: np.ndarray, order: list[int]) -> float:
    x, y = places[order].T
    return 0.5 * float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


@pytest.mark.parametrize("row", range(len(TOUR_SIZES)))
def test_tour_is_the_shortest_of_all(cities: Batch, row: int) -> None:
    places, tour = points(cities, row), cities.targets["tour"][row]
    n = len(places)
    order = walk(tour)
    assert sorted(order) == list(range(n))
    assert not tour[n:].any()
    best = min(measure(places, (0, *rest)) for rest in itertools.permutations(range(1, n)))
    assert measure(places, order) == pytest.approx(best, rel=1e-6)
    assert n < 3 or area(places, order) > 0, "counterclockwise"
    np.testing.assert_allclose(
        cities.inputs.values["distance"][row][:n, :n],
        np.linalg.norm(places[:, None] - places, axis=-1),
        atol=1e-6,
    )
    assert cities.inputs.running[:, row].sum() == n


def test_twelve_points_against_plain_dynamic_programming() -> None:
    n = held_karp.LARGEST
    places = np.random.default_rng(5).random((3, n, 2)).astype(np.float32)
    batch = jax.jit(TravellingSalesman().build)(jnp.asarray(places), jnp.full(3, n))
    for row in range(3):
        order = walk(batch.targets["tour"][row])
        assert sorted(order) == list(range(n))
        own = places[row].astype(float)
        assert measure(own, order) == pytest.approx(held_karp_in_plain_python(own), rel=1e-6)


def held_karp_in_plain_python(places: np.ndarray) -> float:
    apart = np.linalg.norm(places[:, None] - places, axis=-1).tolist()
    best = {(frozenset([at]), at): apart[0][at] for at in range(1, len(places))}
    for count in range(2, len(places)):
        for chosen in itertools.combinations(range(1, len(places)), count):
            whole = frozenset(chosen)
            for last in chosen:
                rest = whole - {last}
                best[whole, last] = min(best[rest, at] + apart[at][last] for at in rest)
    everything = frozenset(range(1, len(places)))
    return min(best[everything, last] + apart[last][0] for last in everything)


def test_room_for_more_points_changes_no_tour() -> None:
    places = jax.random.uniform(KEY, (4, 14, 2))
    build = jax.jit(TravellingSalesman().build)
    sizes = jnp.asarray([9, 12, 13, 14])
    wide = build(jnp.pad(places, [(0, 0), (0, 3), (0, 0)]), sizes).targets["tour"]
    np.testing.assert_array_equal(wide[:, :14], build(places, sizes).targets["tour"])
    few = build(places[:2, :12], sizes[:2]).targets["tour"]
    np.testing.assert_array_equal(wide[:2, :12], few)
    assert not np.asarray(wide[:, 14:]).any()


def two_opt_in_plain_python(places: np.ndarray) -> list[int]:
    """Nearest neighbours, then the best exchange of two edges again and again."""
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    n, order = len(places), [0]
    while len(order) < n:
        order.append(min(set(range(n)) - set(order), key=lambda at: apart[order[-1], at]))
    while True:
        gains = {}
        for i, j in itertools.combinations(range(n), 2):
            a, b, c, d = order[i], order[i + 1], order[j], order[(j + 1) % n]
            gains[i, j] = apart[a, b] + apart[c, d] - apart[a, c] - apart[b, d]
        i, j = max(gains, key=gains.__getitem__)
        if gains[i, j] <= two_opt.LEAST_GAIN:
            return order
        order[i + 1 : j + 1] = order[i + 1 : j + 1][::-1]


def test_many_points_against_plain_two_opt() -> None:
    sizes = (13, 17, 20, 20)
    places = np.random.default_rng(7).random((4, 20, 2)).astype(np.float32)
    batch = jax.jit(TravellingSalesman().build)(jnp.asarray(places), jnp.asarray(sizes))
    for row, n in enumerate(sizes):
        own = places[row, :n].astype(float)
        order, theirs = walk(batch.targets["tour"][row]), two_opt_in_plain_python(own)
        assert sorted(order) == list(range(n))
        assert measure(own, order) == pytest.approx(measure(own, theirs), rel=1e-5)
        assert area(own, order) > 0


def test_two_opt_is_close_to_the_shortest_and_never_below() -> None:
    places = jax.random.uniform(KEY, (64, 12, 2))
    apart = jnp.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
    exists = jnp.ones((64, 12), bool)

    def lengths(find: Any) -> np.ndarray:
        tour = jax.vmap(lambda own: find(own, jnp.int32(12)))(apart)
        return np.asarray(jax.vmap(tours.length)(tour, apart, exists))

    shortest, improved = lengths(held_karp.shortest_tour), lengths(two_opt.improved_tour)
    walked = lengths(lambda own, n: tours.from_order(two_opt.nearest_neighbours(own, n), n))
    assert (improved >= shortest * (1 - 1e-6)).all()
    assert 0 < (improved / shortest - 1).mean() < 0.05 < (walked / shortest - 1).mean()


def greedy_in_plain_python(logits: np.ndarray) -> list[int]:
    at, order = 0, [0]
    while left := [to for to in range(len(logits)) if to not in order]:
        at = max(
            left, key=lambda to, at=at: -math.inf if math.isnan(logits[at, to]) else logits[at, to]
        )
        order.append(at)
    return order


@pytest.mark.parametrize("n", [1, 2, 3, 7, 9])
def test_logits_are_read_as_a_tour_that_never_closes_early(n: int) -> None:
    logits = np.random.default_rng(n).normal(size=(9, 9)).astype(np.float32)
    logits[0, 3], logits[2] = np.nan, -np.inf
    logits[:, n:] = 99.0  # of nodes that do not exist
    tour = tours.greedy(jnp.asarray(logits), jnp.arange(9) < n)
    assert walk(tour) == greedy_in_plain_python(logits[:n, :n])
    assert not np.asarray(tour)[n:].any()


@pytest.mark.parametrize(
    ("successor", "n", "right"),
    [
        ([0, 0, 0, 0], 1, True),
        ([1, 0, 0, 0], 2, True),
        ([2, 0, 3, 1], 4, True),
        ([1, 0, 3, 2], 4, False),
        ([1, 2, 1, 0], 4, False),
        ([1, 2, 0, 3], 4, False),
        ([1, 2, -1, 0], 3, False),
        ([-1, 0, 0, 0], 1, False),
    ],
)
def test_one_cycle_of_all_nodes_is_told_from_others(
    successor: list[int], n: int, right: bool
) -> None:
    assert bool(tours.is_tour(jnp.asarray(successor), jnp.arange(4) < n)) is right


def logits_of(tour: Any) -> jax.Array:
    return 50.0 * jax.nn.one_hot(tour, tour.shape[1])


def test_tours_are_judged_by_their_length(cities: Batch) -> None:
    task, tour = TravellingSalesman(), jnp.asarray(cities.targets["tour"])
    evaluate = jax.jit(task.evaluate)
    right = evaluate(GraphOutputs({"tour": logits_of(tour)}, {}), cities)
    assert (float(right.score), float(right.metrics["valid"])) == (1.0, 1.0)
    assert abs(float(right.metrics["gap"])) < 1e-6
    # The other way round it is as long, and yet none of its successors is right but of 1 or 2.
    order = jnp.argsort(jnp.where(cities.mask, tour, 99), axis=1)
    back = jnp.where(cities.mask, order, 0)
    turned = evaluate(GraphOutputs({"tour": logits_of(back)}, {}), cities)
    assert abs(float(turned.metrics["gap"])) < 1e-6
    assert float(turned.metrics["valid"]) == 1.0
    assert float(turned.score) == pytest.approx(3 / sum(TOUR_SIZES))
    # All in the order of the input: valid, and longer by what plain Python finds.
    ahead = jnp.where(jnp.arange(8) + 1 < jnp.asarray(TOUR_SIZES)[:, None], jnp.arange(8) + 1, 0)
    result = evaluate(GraphOutputs({"tour": logits_of(ahead)}, {}), cities)
    gaps = [0.0]
    for row in range(1, len(TOUR_SIZES)):
        own = points(cities, row)
        gaps.append(measure(own, range(len(own))) / measure(own, walk(tour[row])) - 1)
    assert float(result.metrics["gap"]) == pytest.approx(np.mean(gaps), rel=1e-4)
    # All pointing at the first node: no tour but that of 1 point, and yet it reads as one.
    stuck = evaluate(GraphOutputs({"tour": logits_of(0 * tour)}, {}), cities)
    assert float(stuck.metrics["valid"]) == pytest.approx(1 / len(TOUR_SIZES))
    assert float(stuck.metrics["gap"]) == pytest.approx(np.mean(gaps), rel=1e-4)
    broken = evaluate(GraphOutputs({"tour": jnp.full((len(tour), 8, 8), jnp.nan)}, {}), cities)
    assert (float(broken.score), float(broken.metrics["valid"])) == (0.0, 0.0)
    assert math.isnan(broken.metrics["gap"])
