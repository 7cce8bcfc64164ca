"""Graphs of a user's own and of networkx: read as they stand, refused in one sentence, answered."""

import heapq
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax_nar.errors import InputError
from evojax_nar.tasks import clrs, graph_files, graph_problems, real_graphs, salsa
from evojax_nar.tasks.graph_files import Edge, named_graph, read_graph
from evojax_nar.types import GraphOutputs

pytestmark = pytest.mark.usefixtures("quick_compile")

TASKS = {task.name: task for task in (*clrs.ALL, *salsa.ALL)}
GRAPH_TASKS = [TASKS[name] for name in graph_problems.NEEDS]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def graph(text, directed=None):
    """A graph from edges such as "a-b 2, b-c"."""
    edges = []
    for part in text.split(", "):
        ends, _, weight = part.partition(" ")
        start, end = ends.split("-")
        edges.append(Edge(start, end, float(weight) if weight else None))
    return named_graph("graph='g'", edges, directed=directed)


def as_dict(found):
    weights = [None] * len(found.edges) if found.weights is None else found.weights.tolist()
    return {
        (found.names[start], found.names[end]): weight
        for (start, end), weight in zip(found.edges.tolist(), weights, strict=True)
    }


# Readers.

GRAPHML = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key id="c" for="node" attr.name="weight" attr.type="double"><default>9</default></key>
  <key id="w" for="edge" attr.name="weight" attr.type="double">{default}</key>
  <graph id="G" edgedefault="{direction}">
    <node id="b"><data key="c">7</data></node><node id="a"/><node id="alone"/>
    <edge source="a" target="b"><data key="w">2.5</data></edge>
    <edge source="b" target="alone">{second}</edge>
  </graph>
</graphml>
"""


def graphml(default="", direction="directed", second='<data key="w">1</data>'):
    return GRAPHML.format(default=default, direction=direction, second=second)


FILES = {
    "edges": ("x.txt", "b a\na c\n", "bac", {("b", "a"): None, ("a", "c"): None}, None),
    "weights": ("x", "b a 2\na c 1e-1\n", "bac", {("b", "a"): 2, ("a", "c"): 0.1}, None),
    "comments": ("x.edges", "# a b\n\nu#1 v # w\n", ["u#1", "v"], {("u#1", "v"): None}, None),
    "tabs and \\r\\n": ("x", "a\tb\t3\r\n", "ab", {("a", "b"): 3}, None),
    "itself": ("x", "a a\n", "a", {("a", "a"): None}, None),
    "both ways": ("x", "a b\nb a\n", "ab", {("a", "b"): None, ("b", "a"): None}, None),
    "csv": ("x.csv", "source,target\na,b\n", "ab", {("a", "b"): None}, None),
    "columns by name": (
        "x.csv",
        "year,weight,target,source\n2020,3,a b,c\n",
        ["c", "a b"],
        {("c", "a b"): 3},
        None,
    ),
    "semicolons": ("x.CSV", "source;target;weight\na;b;.5\n", "ab", {("a", "b"): 0.5}, None),
    "graphml": (
        "x.graphml",
        graphml(),
        ["b", "a", "alone"],
        {("a", "b"): 2.5, ("b", "alone"): 1},
        True,
    ),
    "default weight": (
        "x.xml",
        graphml("<default>4</default>", second="", direction="undirected"),
        ["b", "a", "alone"],
        {("b", "a"): 2.5, ("b", "alone"): 4},
        False,
    ),
    "prefixes": (
        "x.graphml",
        '<g:graphml xmlns:g="u"><g:graph edgedefault="directed"><g:node id="a&amp;b"/>'
        '<g:node id="c"/><g:edge source="c" target="a&amp;b" directed="true"/></g:graph>'
        "</g:graphml>",
        ["a&b", "c"],
        {("c", "a&b"): None},
        True,
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_graphs_are_read_in_the_order_of_the_file(name, tmp_path):
    file, content, names, edges, directed = FILES[name]
    found = read_graph(write(tmp_path / file, content))
    assert found.names == tuple(names)
    assert found.directed is directed
    assert list(as_dict(found).items()) == list(edges.items())


def test_what_networkx_writes_is_read_as_networkx_has_it(tmp_path):
    networkx = pytest.importorskip("networkx")
    generator = np.random.default_rng(0)
    for directed in (False, True):
        given = networkx.gnp_random_graph(12, 0.3, seed=1, directed=directed)
        for _, _, data in given.edges(data=True):
            data["weight"] = float(generator.uniform(-5, 5))
        networkx.write_graphml(given, tmp_path / "x.graphml")
        networkx.write_edgelist(given, tmp_path / "x.txt", data=["weight"])
        expected = {(str(u), str(v)): data["weight"] for u, v, data in given.edges(data=True)}
        found = read_graph(tmp_path / "x.graphml")
        assert found.directed is directed
        assert found.names == tuple(map(str, given.nodes))
        assert as_dict(found) == expected
        assert as_dict(read_graph(tmp_path / "x.txt")) == expected


BOMB = """<?xml version="1.0"?><!DOCTYPE graphml [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>
<graphml><graph edgedefault="directed"><node id="&b;"/></graph></graphml>"""
OUTSIDE = """<!DOCTYPE graphml [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<graphml><graph edgedefault="directed"><node id="a"/></graph></graphml>"""
NODES = '<node id="a"/><node id="b"/>'


def small(inside, direction="undirected"):
    return f'<graphml><graph edgedefault="{direction}">{NODES}{inside}</graph></graphml>'


BAD_FILES = {
    "empty": ("x.txt", "", ["is empty"]),
    "comments alone": ("x.txt", "# a b\n", ["no edges"]),
    "one item": ("x.txt", "a b\nc\n", ["1 items on line 2"]),
    "four items": ("x.txt", "a b 1 2\n", ["4 items on line 1"]),
    "word": ("x.txt", "a b heavy\n", ["line 1", "'heavy'"]),
    "not a number": ("x.txt", "a b 1\nb c nan\n", ["line 2", "'nan'"]),
    "infinite": ("x.txt", "a b inf\n", ["line 1", "'inf'"]),
    "overflow": ("x.txt", "a b 1e999\n", ["too large"]),
    "underscore": ("x.txt", "a b 1_0\n", ["'1_0'"]),
    "twice": ("x.txt", "a b 1\na c 1\na b 2\n", ["edge 'a' 'b' twice"]),
    "some weights": ("x.txt", "a b 1\na c\n", ["1 of 2 edges"]),
    "not text": ("x.txt", b"a \xff\n", ["not UTF-8"]),
    "blank csv": ("x.csv", "\n", ["no rows"]),
    "header alone": ("x.csv", "source,target\n", ["no edges"]),
    "no header": ("x.csv", "a,b,1\nb,c,2\n", ["no column 'source'"]),
    "no target": ("x.csv", "source,to\na,b\n", ["no column 'target'"]),
    "two columns": ("x.csv", "source,target,source\na,b,c\n", ["two columns 'source'"]),
    "ragged": ("x.csv", "source,target\na\n", ["1 cells on line 2"]),
    "no node": ("x.csv", "source,target\na,\n", ["no node on line 2"]),
    "no weight": ("x.csv", "source,target,weight\na,b,\n", ["line 2", "empty cell"]),
    "open quote": ("x.csv", 'source,target\n"a,b\n', ["not CSV"]),
    "bomb": ("x.graphml", BOMB, ["DOCTYPE"]),
    "bomb in another encoding": ("x.graphml", BOMB.encode("utf-16"), ["not UTF-8"]),
    "file outside": ("x.graphml", OUTSIDE, ["DOCTYPE"]),
    "unknown entity": ("x.graphml", small("&x;"), ["not XML", "undefined entity"]),
    "not xml": ("x.graphml", "a b\n", ["not XML"]),
    "cut": ("x.graphml", small("")[:-3], ["not XML"]),
    "no graph": ("x.graphml", "<graphml/>", ["no graph"]),
    "two graphs": (
        "x.graphml",
        small('<node id="c"><graph edgedefault="directed"/></node>'),
        ["another graph"],
    ),
    "no direction": ("x.graphml", "<graphml><graph/></graphml>", ["edgedefault"]),
    "odd direction": ("x.graphml", small("", "direkted"), ["'direkted'", "'directed'"]),
    "mixed": (
        "x.graphml",
        small('<edge source="a" target="b" directed="true"/>'),
        ["unlike the others"],
    ),
    "hyperedge": ("x.graphml", small("<hyperedge/>"), ["hyperedge"]),
    "no id": ("x.graphml", small("<node/>"), ["node without 'id'"]),
    "no end": ("x.graphml", small('<edge source="a"/>'), ["edge without 'target'"]),
    "node twice": ("x.graphml", small('<node id="a"/>'), ["node 'a' twice"]),
    "unknown node": ("x.graphml", small('<edge source="a" target="z"/>'), ["'z'"]),
    "back again": (
        "x.graphml",
        small('<edge source="a" target="b"/><edge source="b" target="a"/>'),
        ["edge 'b' 'a' twice"],
    ),
    "no edges": ("x.graphml", small(""), ["no edges"]),
    "bad weight": (
        "x.graphml",
        graphml(second='<data key="w">NaN</data>'),
        ["'NaN'", "line 8"],
    ),
    "weight missing": ("x.graphml", graphml(second=""), ["1 of 2 edges"]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_are_refused(name, tmp_path):
    file, content, said = BAD_FILES[name]
    path = write(tmp_path / file, content)
    with pytest.raises(InputError) as caught:
        read_graph(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"input={str(path)!r}")
    assert sentence.isprintable()
    assert len(sentence) < 400
    for part in said:
        assert part in sentence


# What algorithms ask of a graph.


@pytest.mark.parametrize("name", TASKS)
def test_what_algorithms_need_is_what_their_samplers_draw(name):
    task = TASKS[name]()
    if name not in graph_problems.NEEDS:
        inputs = {field.name for field in task.specification.inputs}
        known = {"clrs/bipartite_matching", "salsa/eccentricity", "salsa/fast_mis"}
        assert "adj" not in inputs or name in known, "other algorithms on graphs are listed"
        return
    need = graph_problems.NEEDS[name]
    keys = jax.random.split(jax.random.key(0), 16)
    drawn = jax.jit(jax.vmap(lambda key: task.test.draw(key, jnp.int32(9), 9)))(keys)
    matrix = np.asarray(drawn["A"])
    assert (matrix == matrix.swapaxes(1, 2)).all() == (not need.directed)
    reached = np.stack([np.linalg.matrix_power(one > 0, 9) for one in matrix])
    assert bool(reached.any()) == (not need.acyclic)
    assert bool(np.isin(matrix, (0, 1)).all()) == (not need.weighted)
    assert matrix.min() == 0
    assert matrix.max() <= 1
    assert graph_problems.has_source(task) == ("s" in drawn)


REFUSED = {
    "directed": ("bfs", graph("a-b", directed=True), ["is directed", "needs undirected"]),
    "undirected": ("dfs", graph("a-b", directed=False), ["is undirected", "needs directed"]),
    "both ways": ("dijkstra", graph("a-b 1, b-a 1"), ["both ways", "'b'", "'a'"]),
    "negative": ("dijkstra", graph("a-b 1, b-c -2"), ["weight -2", "'b' 'c'", "clrs/dijkstra"]),
    "zero": ("mst_prim", graph("a-b 0"), ["weight 0"]),
    "vanishing": ("dijkstra", graph("a-b 1, b-c 1e-39"), ["1e-39", "vanishes"]),
    "in pieces": ("mst_kruskal", graph("a-b, c-d, d-e, e-c"), ["2 pieces"]),
    "itself": ("topological_sort", graph("a-b, b-b"), ["'b' to itself"]),
    "cycle": ("dag_shortest_paths", graph("a-b, b-c, c-d, d-b"), ["cycle"]),
    "no graphs": ("minimum", graph("a-b"), ["'clrs/minimum'"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_graphs_that_an_algorithm_refuses(name):
    task, given, said = REFUSED[name]
    with pytest.raises(InputError) as caught:
        graph_problems.probes(TASKS[f"clrs/{task}"](), given)
    for part in said:
        assert part in str(caught.value)


def test_a_graph_with_too_many_nodes_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(graph_problems, "LARGEST", 2)
    with pytest.raises(InputError, match="3 nodes, and a task at most 2"):
        graph_problems.probes(clrs.BreadthFirstSearch(), graph("a-b, b-c"))


def test_an_unknown_source_is_refused():
    with pytest.raises(InputError, match="source='anna' is not known; did you mean 'hanna'"):
        graph_problems.probes(clrs.BreadthFirstSearch(), graph("hanna-otto"), "anna")


def test_probes_are_those_of_the_sampler():
    """The same fields, shapes and places; weights at most 1 and in the proportions given."""
    given = graph("a-b 3, c-a 6, c-c 12")
    for cls in GRAPH_TASKS:
        task = cls()
        if graph_problems.NEEDS[cls.name].acyclic:
            given = graph("a-b 3, c-a 6")
        drawn = jax.eval_shape(lambda task=task: task.draw(jax.random.key(0), jnp.int32(3), 3))
        made = graph_problems.probes(task, given)
        assert {k: (v.shape, v.dtype) for k, v in made.items()} == {
            k: (v.shape, v.dtype) for k, v in drawn.items()
        }
    made = graph_problems.probes(clrs.Dijkstra(), graph("a-b 3, c-a 6, c-c 12"), "c")
    # The largest weight is 12, and the smallest power of two that it does not exceed 16.
    expected = np.array([[0, 3, 6], [3, 0, 0], [6, 0, 12]]) / 16
    np.testing.assert_array_equal(made["A"], expected)
    np.testing.assert_array_equal(made["adj"], (expected > 0) | np.eye(3, dtype=bool))
    np.testing.assert_array_equal(made["s"], [0, 0, 1])
    np.testing.assert_array_equal(made["pos"], np.array([0, 1, 2], np.float32) / np.float32(3))
    assert graph_problems.probes(clrs.Dijkstra(), graph("a-b 8, b-c 4"))["A"].max() == 1
    np.testing.assert_array_equal(
        graph_problems.probes(clrs.BreadthFirstSearch(), given)["A"].max(), 1
    )


def neighbours(given):
    found = {name: {} for name in given.names}
    for (start, end), weight in as_dict(given).items():
        found[start][end] = found[end][start] = 1.0 if weight is None else weight
    return found


def distances(given, source):
    """Dijkstra's algorithm with a heap, on the weights as given."""
    beside, found, heap = neighbours(given), {}, [(0.0, source)]
    while heap:
        far, node = heapq.heappop(heap)
        if node not in found:
            found[node] = far
            for other, weight in beside[node].items():
                heapq.heappush(heap, (far + weight, other))
    return found


def test_the_answer_of_dijkstra_is_a_tree_of_shortest_paths():
    generator = np.random.default_rng(3)
    pairs = [pair for pair in itertools.combinations("abcdefgh", 2) if generator.random() < 0.4]
    given = named_graph("g", [Edge(*pair, float(generator.integers(1, 20))) for pair in pairs])
    batch = real_graphs.batch(clrs.Dijkstra(), given)
    beside = neighbours(given)
    for row, source in enumerate(given.names):
        far = distances(given, source)
        for node, parent in zip(given.names, batch.targets["pi"][row].tolist(), strict=True):
            before = given.names[parent]
            if node in far and node != source:
                assert far[before] + beside[before][node] == far[node]
            else:
                assert before == node


# Graphs from life.

SIZES = {
    "karate_club": (34, 78),
    "les_miserables": (77, 254),
    "florentine_families": (15, 20),
    "davis_southern_women": (32, 89),
}


@pytest.mark.parametrize("name", real_graphs.NAMES)
def test_graphs_that_come_with_networkx(name):
    networkx = pytest.importorskip("networkx")
    found = real_graphs.load(name)
    given = getattr(networkx, f"{name}_graph")()
    assert (len(found.names), len(found.edges)) == SIZES[name]
    assert found.names == tuple(map(str, given.nodes))
    assert {frozenset(edge) for edge in as_dict(found)} == {
        frozenset(map(str, edge)) for edge in given.edges
    }
    for (start, end), weight in as_dict(found).items():
        data = {(str(u), str(v)): d for u, v, d in given.edges(data=True)}
        own = data[start, end] if (start, end) in data else data[end, start]
        assert weight == own.get("weight")


def truths_as_outputs(task, batch):
    """Outputs that say the targets."""
    outputs = {}
    for field in task.specification.outputs:
        truth = batch.targets[field.name]
        if field.kind == "pointer":
            truth = jax.nn.one_hot(truth, batch.mask.shape[1])
        outputs[field.name] = 40.0 * truth - 20.0
    return GraphOutputs(outputs, {})


def test_every_algorithm_is_judged_on_a_real_graph():
    pytest.importorskip("networkx")
    given = real_graphs.load("florentine_families")
    count = len(given.names)
    for cls in GRAPH_TASKS:
        task = cls()
        sources = ["Medici", "Albizzi"] if graph_problems.has_source(task) else None
        batch = real_graphs.batch(task, given, sources)
        assert batch.mask.shape == (2 if sources else 1, count)
        assert batch.size.tolist() == [count] * len(batch.mask)
        need = graph_problems.NEEDS[cls.name]
        matrix = np.asarray(batch.inputs.values["A"][0])
        assert (matrix > 0).sum() == (20 if need.acyclic else 40)
        if need.acyclic:
            assert not np.tril(matrix).any()
        judged = jax.jit(lambda b, t=task: t.evaluate(truths_as_outputs(t, b), b))(batch)
        assert float(judged.score) == float(judged.metrics["exact"]) == 1.0
        assert all(len(frames) == 1 for frames in batch.inputs.hints.values())


def test_known_answers_of_the_marriages_of_florence():
    networkx = pytest.importorskip("networkx")
    given = real_graphs.load("florentine_families")
    graph = networkx.florentine_families_graph()
    cuts = real_graphs.batch(clrs.ArticulationPoints(), given).targets["is_cut"][0]
    found = {name for name, cut in zip(given.names, cuts.tolist(), strict=True) if cut == 1}
    assert found == set(networkx.articulation_points(graph))
    bridges = np.argwhere(
        np.asarray(real_graphs.batch(clrs.Bridges(), given).targets["is_bridge"][0]) == 1
    )
    assert {frozenset(given.names[end] for end in pair) for pair in bridges.tolist()} == {
        frozenset(pair) for pair in networkx.bridges(graph)
    }
    batch = real_graphs.batch(clrs.BreadthFirstSearch(), given, ["Medici"])
    steps = networkx.single_source_shortest_path_length(graph, "Medici")
    for node, parent in zip(given.names, batch.targets["pi"][0].tolist(), strict=True):
        before = given.names[parent]
        assert node == before == "Medici" or steps[before] == steps[node] - 1


def test_directions_of_an_undirected_graph():
    given = graph("a-b 1, c-b 2, c-c 3", directed=False)
    both = real_graphs.fit(clrs.DepthFirstSearch(), given)
    assert as_dict(both) == {
        ("a", "b"): 1, ("b", "c"): 2, ("c", "b"): 2, ("b", "a"): 1, ("c", "c"): 3,
    }  # fmt: skip
    forward = real_graphs.fit(clrs.TopologicalSort(), given)
    assert as_dict(forward) == {("a", "b"): 1, ("b", "c"): 2}
    assert real_graphs.fit(clrs.BreadthFirstSearch(), given) is given


MISUSED = {
    "no such graph": (lambda: real_graphs.load("karate"), "did you mean 'karate_club'"),
    "starts nowhere": (
        lambda: real_graphs.batch(clrs.Bridges(), graph("a-b"), ["a"]),
        "clrs/bridges starts nowhere",
    ),
    "no sources": (
        lambda: real_graphs.batch(clrs.BreadthFirstSearch(), graph("a-b"), []),
        "sources is empty",
    ),
    "unknown source": (
        lambda: real_graphs.batch(clrs.BreadthFirstSearch(), graph("a-b"), ["z"]),
        "source='z'",
    ),
}


@pytest.mark.parametrize("name", MISUSED)
def test_misuse_is_one_sentence(name):
    call, said = MISUSED[name]
    with pytest.raises(InputError, match=said):
        call()


def test_without_networkx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "networkx", None)
    with pytest.raises(InputError, match=r'install "evojax-nar\[graphs\]"'):
        real_graphs.load("karate_club")


def test_a_large_edge_list_is_read_within_seconds(tmp_path):
    """A hundred thousand edges of a long path, in time and in memory that grow with the edges."""
    lines = "\n".join(f"{node} {node + 1} 1" for node in range(99_999))
    found = graph_files.read_graph(write(tmp_path / "path.txt", lines))
    assert len(found.names) == 100_000
    graph_problems.check(clrs.Prim(), found)
    assert found.weights is not None
    assert found.weights.sum() == 99_999
