"""The algorithms of CLRS-30 on graphs: answers against plain Python, padding, room, and inputs.

That every frame is that of dm-clrs is checked by `clrs_oracle`, where that package is installed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

import graph_oracles as oracles
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax_nar.tasks import clrs

pytestmark = pytest.mark.usefixtures("quick_compile")

Problem: TypeAlias = dict[str, np.ndarray]
TASKS = {
    cls.name.removeprefix("clrs/"): cls
    for cls in clrs.ALL
    if any(field.name == "adj" for field in cls.specification.inputs)
}
every_algorithm = pytest.mark.parametrize("name", TASKS)
NODES = 9
"""V, padding included."""
BATCH = 40
LEAST = {"strongly_connected_components": 4, "bipartite_matching": 4}
"""Nodes: four communities, and one node on each side between source and sink."""


@functools.cache
def program(name: str, nodes: int) -> Callable[..., Any]:
    """The algorithm on a batch, compiled once: outputs, hints (B, T, ...), lengths, on the host."""
    run = jax.jit(jax.vmap(lambda inputs, size: clrs.run(name, inputs, size)))

    def padded(problems: list[Problem]) -> Any:
        problems = list(itertools.islice(itertools.cycle(problems), BATCH))
        sizes = np.array([len(own["pos"]) for own in problems], np.int32)
        inputs = {
            key: np.stack([pad(own[key], nodes) for own in problems]).astype(np.float32)
            for key in problems[0]
        }
        return jax.device_get(run(inputs, sizes))

    return padded


def pad(array: np.ndarray, nodes: int) -> np.ndarray:
    return np.pad(array, [(0, nodes - side) for side in array.shape])


def drawn(name: str, counts: Any, seed: int = 0) -> list[Problem]:
    """Random problems with these numbers of nodes."""
    task, random = TASKS[name], np.random.RandomState(seed)
    return [task.replay(random, int(count) - task.nodes(0)) for count in counts]


def mixed(name: str) -> list[Problem]:
    """Random problems of all sizes."""
    least = LEAST.get(name, 1)
    return drawn(name, [least + i % (NODES + 1 - least) for i in range(BATCH)])


def sparse(name: str) -> list[Problem]:
    """Undirected graphs with about as many edges as nodes, some from a node to itself."""
    random, found = np.random.RandomState(4), []
    for i in range(BATCH):
        count = 1 + i % NODES
        matrix = random.uniform(size=(count, count)) < 0.8 / count
        found.append(problem(name, np.maximum(matrix, matrix.T)))
    return found


def problem(name: str, matrix: Any, source: int = 0) -> Problem:
    """A problem on a graph of one's own."""
    matrix = np.asarray(matrix, np.float32)
    count = len(matrix)
    own = {
        "pos": np.arange(count) / count,
        "A": matrix,
        "adj": ((matrix != 0) | np.eye(count, dtype=bool)).astype(np.float32),
        "s": np.eye(count)[source],
        "t": np.eye(count)[count - 1],
    }
    return {field.name: own[field.name] for field in TASKS[name].specification.inputs}


def solved(name: str, problems: list[Problem]) -> list[tuple[np.ndarray, int, Problem]]:
    """Graph, source and outputs of each problem, without padding."""
    outputs, hints, lengths = program(name, NODES)(problems)
    assert (lengths <= TASKS[name].machine.frames(NODES)).all()
    found = []
    for i, own in enumerate(problems):
        matrix, answer = own["A"].astype(np.float32).astype(float), {}
        for key, value in outputs.items():
            answer[key] = value[i][tuple([slice(len(matrix))] * (value.ndim - 1))]
            if f"{key}_h" in hints and name != "floyd_warshall":  # it shows what came before
                np.testing.assert_array_equal(hints[f"{key}_h"][i, lengths[i] - 1], value[i])
        found.append((matrix, int(own["s"].argmax()) if "s" in own else 0, answer))
    return found


# Answers.


def test_breadth_first_search_takes_the_nearest_and_first_parent() -> None:
    for matrix, source, answer in solved("bfs", mixed("bfs")):
        far = oracles.hops(matrix, source)
        for node, parent in enumerate(answer["pi"]):
            before = [i for i in np.flatnonzero(matrix[:, node]) if far[i] == far[node] - 1]
            assert parent == (before[0] if far[node] not in (0, oracles.INFINITY) else node)


def test_depth_first_search_is_the_recursive_one() -> None:
    for matrix, _, answer in solved("dfs", mixed("dfs")):
        assert answer["pi"].tolist() == oracles.depth_first(matrix)


def test_topological_order_goes_forward() -> None:
    for matrix, _, answer in solved("topological_sort", mixed("topological_sort")):
        assert answer["topo_head"].sum() == 1
        order = [int(answer["topo_head"].argmax())]
        while (after := int(answer["topo"][order[-1]])) != order[-1]:
            order.append(after)
        assert sorted(order) == list(range(len(matrix)))
        assert all(order.index(i) < order.index(j) for i, j in zip(*matrix.nonzero(), strict=True))


def test_articulation_points_are_nodes_whose_removal_splits() -> None:
    several = 0
    for matrix, _, answer in solved("articulation_points", sparse("articulation_points")):
        assert np.flatnonzero(answer["is_cut"]).tolist() == oracles.cut_nodes(matrix)
        several += answer["is_cut"].sum() > 1
    assert several > 5


def test_bridges_are_edges_whose_removal_splits() -> None:
    several = 0
    for matrix, _, answer in solved("bridges", sparse("bridges")):
        true = oracles.bridges(matrix)
        found = answer["is_bridge"]
        assert set(map(tuple, np.argwhere(found == 1).tolist())) == true
        edges = (matrix != 0) | np.eye(len(matrix), dtype=bool)
        np.testing.assert_array_equal(found >= 0, edges)
        several += len(true) > 2
    assert several > 5


def test_strong_components_are_nodes_that_reach_each_other() -> None:
    name, merged = "strongly_connected_components", 0
    random = np.random.RandomState(5)
    problems = [
        problem(name, random.uniform(size=(count, count)) < 0.25)
        for count in (1 + i % NODES for i in range(BATCH))
    ]
    for matrix, _, answer in solved(name, problems):
        far = np.array(oracles.distances(matrix))
        together = np.isfinite(far) & np.isfinite(far.T)
        own = answer["scc_id"]
        np.testing.assert_array_equal(own[:, None] == own, together)
        assert together[np.arange(len(own)), own].all(), "the node that stands for it is in it"
        merged += 1 < len(set(own.tolist())) < len(own)
    assert merged > 10


def test_spanning_trees_have_the_least_weight() -> None:
    for matrix, _, answer in solved("mst_kruskal", sparse_weights("mst_kruskal")):
        tree = answer["in_mst"]
        np.testing.assert_array_equal(tree, tree.T)
        count = oracles.components(matrix)
        assert oracles.components(tree) == count
        assert tree.sum() == 2 * (len(matrix) - count)
        weight = oracles.spanning_weight(matrix)
        np.testing.assert_allclose((tree * matrix).sum() / 2, weight, rtol=1e-9)
    for matrix, source, answer in solved("mst_prim", mixed("mst_prim")):
        reached = np.flatnonzero(np.isfinite(oracles.hops(matrix, source)))
        parent = answer["pi"]
        assert {i for i, up in enumerate(parent) if up != i} == set(reached.tolist()) - {source}
        weight = oracles.spanning_weight(matrix[np.ix_(reached, reached)])
        others = [i for i in reached if i != source]
        np.testing.assert_allclose(sum(matrix[parent[i], i] for i in others), weight, rtol=1e-9)


def sparse_weights(name: str) -> list[Problem]:
    random = np.random.RandomState(6)
    found = []
    for own in sparse(name):
        weights = np.triu(random.uniform(0.1, 1, own["A"].shape)).astype(np.float32)
        found.append(problem(name, own["A"] * (weights + np.triu(weights, 1).T)))
    return found


@pytest.mark.parametrize("name", ["bellman_ford", "dijkstra", "dag_shortest_paths"])
def test_paths_from_a_source_are_shortest(name: str) -> None:
    for matrix, source, answer in solved(name, mixed(name)):
        far = oracles.distances(matrix)[source]
        for node in range(len(matrix)):
            length, at = 0.0, node
            while (up := int(answer["pi"][at])) != at:
                assert matrix[up, at] != 0
                length, at = length + matrix[up, at], up
            assert (at == source) == (far[node] < oracles.INFINITY)
            # Sums of at most eight float32 below 1.
            assert length == pytest.approx(far[node] if at == source else 0.0, abs=1e-5)


def test_paths_between_all_pairs_are_shortest() -> None:
    for matrix, _, answer in solved("floyd_warshall", mixed("floyd_warshall")):
        far = oracles.distances(matrix)
        for one, two in itertools.product(range(len(matrix)), repeat=2):
            length, at = 0.0, two
            while at != one and far[one][two] < oracles.INFINITY:
                up = int(answer["Pi"][one, at])
                length, at = length + matrix[up, at], up
            if far[one][two] < oracles.INFINITY:
                assert length == pytest.approx(far[one][two], abs=1e-5)
            else:
                assert answer["Pi"][one, two] == one


def test_matchings_are_largest() -> None:
    name = "bipartite_matching"
    for matrix, _, answer in solved(name, mixed(name)):
        count = len(matrix) - 2
        first = slice(1, 1 + count - count // 2)
        second = slice(first.stop, count + 1)
        chosen = answer["in_matching"][first, second]
        assert (matrix[first, second][chosen == 1] == 1).all()
        assert (chosen == 1).sum(axis=0).max() <= 1
        assert (chosen == 1).sum(axis=1).max() <= 1
        assert (chosen == 1).sum() == oracles.matching_size(matrix[first, second])


# Padding and room.


@every_algorithm
def test_padding_changes_nothing_and_is_zero(name: str) -> None:
    count = 6
    problems = drawn(name, [count] * 5, seed=1)
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


def path(count: int) -> np.ndarray:
    return np.eye(count, k=1) + np.eye(count, k=-1)


def star(count: int, middle: int) -> np.ndarray:
    matrix = np.zeros((count, count))
    matrix[middle] = matrix[:, middle] = 1
    matrix[middle, middle] = 0
    return matrix


def chain_of_choices(side: int) -> np.ndarray:
    """A network in which ways to the sink grow longer: each node of a side has two, the last one.

    The node i of the first side may go to i and i + 1 of the second, in an order that makes the
    first searches choose badly.
    """
    matrix = np.zeros((2 * side + 2, 2 * side + 2))
    matrix[0, 1 : side + 1] = matrix[side + 1 : -1, -1] = 1
    for i in range(side):
        matrix[1 + i, side + 1 + i] = 1
        matrix[1 + i, side + 1 + max(i - 1, 0)] = 1
    return matrix


def weights_by_the_last_end(count: int) -> np.ndarray:
    """All edges, those that end at the smallest nodes lightest: trees are united one by one."""
    matrix = np.zeros((count, count))
    ends = sorted(itertools.combinations(range(count), 2), key=lambda pair: (pair[1], -pair[0]))
    for weight, (one, two) in enumerate(ends, start=1):
        matrix[one, two] = matrix[two, one] = weight
    return matrix


SHAPES = {
    "none": np.zeros((NODES, NODES)),
    "loops": np.eye(NODES),
    "path": path(NODES),
    "star": star(NODES, 0),
    "star, middle last": star(NODES, NODES - 1),
    "all": np.ones((NODES, NODES)),
    "ring": path(NODES) + np.eye(NODES, k=NODES - 1) + np.eye(NODES, k=1 - NODES),
    "weights": weights_by_the_last_end(NODES),
    "weights backwards": weights_by_the_last_end(NODES)[::-1, ::-1],
}
FORWARD = ("dag_shortest_paths", "topological_sort")
FULL = {
    "articulation_points": "all",
    "bellman_ford": "path",
    "bfs": "path",
    "bridges": "all",
    "dag_shortest_paths": "all",
    "dfs": "none",
    "dijkstra": "all",
    "floyd_warshall": "none",
    "mst_prim": "path",
    "strongly_connected_components": "none",
    "topological_sort": "none",
}
"""Graphs that take all the frames there may be."""


@every_algorithm
def test_no_graph_takes_more_frames_than_there_is_room_for(name: str) -> None:
    room = TASKS[name].machine.frames(NODES)
    shapes = {key: np.triu(one, 1) if name in FORWARD else one for key, one in SHAPES.items()}
    problems = {key: problem(name, one) for key, one in shapes.items()}
    if name == "bipartite_matching":
        random = np.random.RandomState(7)
        problems = {"choices": problem(name, chain_of_choices((NODES - 2) // 2))}
        for density in np.linspace(0, 1, 30):
            own = TASKS[name].replay(random, NODES - 2)
            own["A"][1:5, 5:-1] = random.uniform(size=(4, 3)) < density
            problems[f"{density}"] = problem(name, own["A"])
    lengths = dict(zip(problems, program(name, NODES)(list(problems.values()))[2], strict=False))
    assert max(lengths.values()) <= room
    if name in FULL:
        assert lengths[FULL[name]] == room
    else:
        assert max(lengths.values()) > 0.6 * room


def test_room_is_enough_for_all_small_graphs() -> None:
    """Every undirected graph of four nodes, with edges from nodes to themselves too."""
    pairs = list(itertools.combinations_with_replacement(range(4), 2))
    problems = []
    for chosen in itertools.product((0, 1), repeat=len(pairs)):
        matrix = np.zeros((4, 4))
        for (one, two), there in zip(pairs, chosen, strict=True):
            matrix[one, two] = matrix[two, one] = there
        problems.append(problem("articulation_points", matrix))
    run = program("articulation_points", 4)
    parts = [problems[i : i + BATCH] for i in range(0, len(problems), BATCH)]
    lengths = np.concatenate([run(part)[2] for part in parts])
    assert lengths.max() == TASKS["articulation_points"].machine.frames(4)


def test_room_is_enough_for_all_orders_of_edges() -> None:
    """Every order in which Kruskal can meet the edges of four nodes."""
    ends = list(itertools.combinations(range(4), 2))
    problems = []
    for order in itertools.permutations(range(1, 7)):
        matrix = np.zeros((4, 4))
        for (one, two), weight in zip(ends, order, strict=True):
            matrix[one, two] = matrix[two, one] = weight
        problems.append(problem("mst_kruskal", matrix))
    run = program("mst_kruskal", 4)
    parts = [problems[i : i + BATCH] for i in range(0, len(problems), BATCH)]
    lengths = np.concatenate([run(part)[2] for part in parts])
    assert lengths.max() == 21
    assert TASKS["mst_kruskal"].machine.frames(4) == 22


# Inputs.

MANY = 1500


@functools.cache
def sampled(name: str, varied: bool) -> Problem:
    """Inputs of many examples of 8 nodes, padded to 9."""
    task = TASKS[name](varied=varied)
    size, nodes = jnp.int32(8 - task.nodes(0)), 9
    draw = jax.jit(jax.vmap(lambda key: task.draw(key, size, nodes)))
    return jax.device_get(draw(jax.random.split(jax.random.key(8), MANY)))


@every_algorithm
def test_inputs_are_distributed_as_the_published_ones(name: str) -> None:
    ours, random = sampled(name, False), np.random.RandomState(9)
    task = TASKS[name]
    theirs = [task.replay(random, 8 - task.nodes(0)) for _ in range(MANY)]
    assert ours.keys() == theirs[0].keys()
    for key in ours:
        assert not ours[key][..., 8:].any()
        mine, true = ours[key], np.stack([pad(own[key], 9) for own in theirs])
        for power in (0, 1, 2):
            one, two = ((x != 0) * x.astype(float) ** power for x in (mine, true))
            close(one, two, key)
            close(one.reshape(MANY, -1).sum(axis=1), two.reshape(MANY, -1).sum(axis=1), key)


def close(one: np.ndarray, two: np.ndarray, key: str) -> None:
    """Whether means over the first axis differ by less than six deviations of their difference."""
    error = np.sqrt((one.var(axis=0) + two.var(axis=0)) / len(one))
    assert (np.abs(one.mean(axis=0) - two.mean(axis=0)) <= 6 * error + 1e-6).all(), key


@every_algorithm
def test_varied_inputs_have_densities_from_low_to_high(name: str) -> None:
    given = sampled(name, True)
    edges, scale = given["A"][:, :8, :8] != 0, 0.5 if name in HALVED else 1.0
    densities = scale * np.arange(1, 10) / 10
    off = ~np.eye(8, dtype=bool)
    if name == "bipartite_matching":
        share, expected = edges[:, 1:4, 4:7].mean(), densities.mean()
    elif name in FORWARD:
        share, expected = edges[:, off].mean(), densities.mean() / 2
    elif name == "strongly_connected_components":
        share, expected = edges[:, ~off].mean(), (0.98 * densities + 0.01).mean()
    elif name == "dfs":
        share, expected = edges[:, off].mean(), densities.mean()
    else:
        share, expected = edges[:, off].mean(), (densities**2).mean()
    # A graph's share of edges has a deviation below 0.35.
    assert abs(share - expected) < 6 * 0.35 / np.sqrt(MANY)
    places = given["pos"][:, :8]
    assert (np.diff(places) >= 0).all()
    assert abs(places.mean() - 0.5) < 6 * 0.11 / np.sqrt(MANY)


HALVED = ("articulation_points", "bridges", "mst_kruskal")


@pytest.mark.parametrize("varied", [False, True])
@every_algorithm
def test_graphs_are_of_their_kind(name: str, varied: bool) -> None:
    given = sampled(name, varied)
    weights, adjacent = given["A"], given["adj"]
    own = np.eye(9, dtype=bool)
    own[8, 8] = False
    np.testing.assert_array_equal(adjacent, (weights != 0) | own)
    if name in FORWARD:
        steps = np.linalg.matrix_power((weights != 0).astype(float), 9)
        assert not steps.any(), "no walk of nine edges, so no cycle"
    elif name == "strongly_connected_components":
        for matrix in weights[:200, :8, :8]:
            far = np.isfinite(oracles.distances(matrix))
            together = (far & far.T).sum(axis=1)
            assert together.max() <= 2, "communities of two are never united"
    elif name not in ("dfs", "bipartite_matching"):
        np.testing.assert_array_equal(weights, weights.transpose(0, 2, 1))
    if name in ("dfs", "bfs", *HALVED[:2], "topological_sort", "strongly_connected_components"):
        assert set(np.unique(weights)) == {0.0, 1.0}
    for key in {"s", "t"} & set(given):
        np.testing.assert_array_equal(given[key].sum(axis=1), 1)
