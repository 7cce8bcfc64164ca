"""Graphs and lists of a user's own, asked of runs on the algorithms of CLRS-30."""

import dataclasses
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from sample_results import sample_results

from evojax_nar import cli, predict_graph, predict_list
from evojax_nar import predict as prediction
from evojax_nar.budget import Budget
from evojax_nar.config import describe, dump_yaml
from evojax_nar.errors import InputError
from evojax_nar.files import save_params, write_json
from evojax_nar.models import MPNN
from evojax_nar.strategies import ES
from evojax_nar.tasks import clrs
from evojax_nar.types import GraphOutputs

pytestmark = pytest.mark.usefixtures("quick_compile")


class Told:
    """A model of graphs that is told a rule: what it points at or marks, from its inputs."""

    def __init__(self, **rules) -> None:
        self.rules = rules

    def max_size(self, spec):
        return None

    def init(self, key, spec):
        return {}

    def apply(self, params, inputs, *, spec):
        said = {
            name: rule(inputs.values, inputs.mask.shape[1]) for name, rule in self.rules.items()
        }
        return GraphOutputs(said, {})


def to_first(values, nodes):
    """Every node points at the first."""
    return jnp.broadcast_to(jax.nn.one_hot(0, nodes), (1, nodes, nodes))


def everything(values, nodes):
    return jnp.ones_like(values["A"])


def write(path, content):
    path.write_text(content)
    return path


def shown(answers):
    stream = io.StringIO()
    predict_graph.print_answers(answers, Console(file=stream, width=100))
    return stream.getvalue()


ROADS = "source,target,weight\nOslo,Bergen,7\nBergen,Voss,1.5\nOslo,Voss,5\nVoss,Flåm,1\n"


def test_each_node_is_answered_by_name(tmp_path):
    path = write(tmp_path / "roads.csv", ROADS)
    answers = predict_graph.predict(clrs.Dijkstra(), Told(pi=to_first), {}, path)
    assert (answers.nodes, answers.edges, answers.source) == (4, 4, "Oslo")
    rows = {row.node: row for row in answers.shown}
    assert list(rows) == ["Oslo", "Bergen", "Voss", "Flåm"]
    # Over Voss it is 6.5 to Bergen, and 7 on the direct road.
    assert [row.true for row in rows.values()] == ["Oslo", "Voss", "Oslo", "Voss"]
    assert [row.predicted for row in rows.values()] == ["Oslo"] * 4
    assert [row.right for row in rows.values()] == [True, False, True, False]
    assert (answers.right, answers.judged, answers.exact) == (2, 4, False)
    assert not answers.beyond_training
    text = shown(answers)
    assert "4 nodes, 4 edges, from Oslo: answers right: 2 of 4 (50.0 %)" in text
    json.dumps(dataclasses.asdict(answers))


def test_another_source_has_other_answers(tmp_path):
    path = write(tmp_path / "roads.csv", ROADS)
    answers = predict_graph.predict(
        clrs.Dijkstra(train_sizes=(3,)), Told(pi=to_first), {}, path, source="Flåm", limit=2
    )
    assert [row.true for row in answers.shown] == ["Voss", "Voss"]
    assert answers.beyond_training
    text = shown(answers)
    assert "The first 2 of 4 nodes are shown." in text
    assert "Beyond training: the model was trained on up to 3 nodes." in text


def test_answers_of_pairs_name_the_other_nodes(tmp_path):
    path = write(tmp_path / "roads.csv", ROADS)
    answers = predict_graph.predict(clrs.Bridges(), Told(is_bridge=everything), {}, path)
    rows = {row.node: row for row in answers.shown}
    # Only what is adjacent is asked for, and a node is adjacent to itself.
    assert rows["Voss"].predicted == ["Oslo", "Bergen", "Voss", "Flåm"]
    assert rows["Oslo"].predicted == ["Oslo", "Bergen", "Voss"]
    assert rows["Voss"].true == ["Flåm"]
    assert rows["Oslo"].true == []
    assert not any(row.right for row in rows.values())
    assert (answers.right, answers.judged) == (2, 4 * 2 + 4)
    assert "Weights are not used" in shown(answers)
    trees = predict_graph.predict(clrs.Kruskal(), Told(in_mst=everything), {}, path)
    tree = {row.node: row.true for row in trees.shown}
    chosen = {frozenset((node, other)) for node, others in tree.items() for other in others}
    assert chosen == {
        frozenset(pair) for pair in (("Bergen", "Voss"), ("Oslo", "Voss"), ("Voss", "Flåm"))
    }


def test_a_parent_for_every_pair(tmp_path):
    path = write(tmp_path / "path.txt", "a b\nb c\n")

    def to_itself(values, nodes):
        return jnp.broadcast_to(jnp.eye(nodes)[:, None], (1, nodes, nodes, nodes))

    answers = predict_graph.predict(clrs.FloydWarshall(), Told(Pi=to_itself), {}, path)
    assert [row.true for row in answers.shown] == [
        ["a", "a", "b"],
        ["b", "b", "b"],
        ["b", "c", "c"],
    ]
    assert [row.predicted for row in answers.shown] == [["a"] * 3, ["b"] * 3, ["c"] * 3]
    assert (answers.right, answers.judged) == (7, 9)
    assert "every edge weighs 1" in shown(answers)


def test_what_concerns_the_whole_graph_stands_apart(tmp_path):
    path = write(tmp_path / "order.txt", "shirt tie\ntrousers shoes\nshirt trousers\n")

    def last(values, nodes):
        return jax.nn.one_hot(jnp.array([nodes - 1]), nodes)

    model = Told(topo=to_first, topo_head=last)
    answers = predict_graph.predict(clrs.TopologicalSort(), model, {}, path, limit=1)
    assert answers.source is None
    head = next(row for row in answers.shown if row.output == "topo_head")
    assert (head.node, head.predicted, head.true, head.right) == (None, "shoes", "shirt", False)
    assert [row.node for row in answers.shown] == ["shirt", None]


def test_what_is_no_number_is_wrong(tmp_path):
    path = write(tmp_path / "x.txt", "a b\n")

    def nothing(values, nodes):
        return jnp.full((1, nodes, nodes), jnp.nan)

    answers = predict_graph.predict(clrs.BreadthFirstSearch(), Told(pi=nothing), {}, path)
    assert [row.predicted for row in answers.shown] == ["?", "?"]
    assert answers.right == 0


def test_names_are_not_markup(tmp_path):
    path = write(tmp_path / "x.txt", "[bold] [/red]\n")
    answers = predict_graph.predict(clrs.BreadthFirstSearch(), Told(pi=to_first), {}, path)
    text = shown(answers)
    assert "[bold]" in text
    assert "from [bold]" in text


REFUSED = {
    "source": (clrs.BreadthFirstSearch(), "a b\n", {"source": "z"}, "source='z' is not known"),
    "no source": (clrs.Bridges(), "a b\n", {"source": "a"}, "has no meaning"),
    "limit": (clrs.BreadthFirstSearch(), "a b\n", {"limit": -1}, "limit=-1"),
    "negative": (clrs.Dijkstra(), "a b -1\n", {}, "weight -1"),
    "empty": (clrs.Dijkstra(), "", {}, "is empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, tmp_path):
    task, content, options, said = REFUSED[name]
    path = write(tmp_path / "x.txt", content)
    with pytest.raises(InputError, match=said):
        predict_graph.predict(task, Told(pi=to_first), {}, path, **options)


def test_a_graph_beyond_the_memory_is_refused_before_it_is_made(tmp_path, monkeypatch):
    path = write(tmp_path / "star.txt", "".join(f"0 {node}\n" for node in range(1, 60_000)))
    monkeypatch.setattr(prediction.cost, "available_bytes", lambda: 2**30)
    monkeypatch.setattr(np, "zeros", None)
    with pytest.raises(
        InputError, match=r"star.txt' needs at least .* GiB of memory where 1.0 GiB"
    ):
        predict_graph.predict(clrs.BreadthFirstSearch(), Told(pi=to_first), {}, path)


# Lists.


def by_keys(rule):
    """A model that orders the keys it is given."""

    class Ordering(Told):
        def apply(self, params, inputs, *, spec):
            return GraphOutputs(rule(inputs.values["key"]), {})

    return Ordering()


def test_the_smallest_of_each_list_is_found(tmp_path):
    path = write(tmp_path / "x.csv", "id,n\n1,5\n2,-3e300\n3,8\n4,8\n5,7\n6,2\n7,1\n")
    model = by_keys(lambda keys: {"min": -keys})
    answers = prediction.predict(clrs.Minimum(), model, {}, path, window=3, column="n")
    assert [one.input for one in answers.shown] == ["5 -3e+300 8", "8 7 2"]
    assert [one.true for one in answers.shown] == ["1", "2"]
    assert (answers.windows, answers.exact, answers.positions) == (2, 2, 2)
    assert answers.left_out == 1


@pytest.mark.parametrize("cls", [clrs.InsertionSort, clrs.Heapsort])
def test_each_number_points_at_the_one_before_it_in_order(cls, tmp_path):
    """Of numbers that differ far behind the precision of a float32, and of equal ones."""
    numbers = [7.0, 1.0 + 2**-40, 1.0, 7.0, -2.5, 1e-300]
    path = write(tmp_path / "x.csv", "\n".join(map(repr, numbers)))
    order = sorted(range(6), key=lambda place: (numbers[place], place))
    before = {place: order[max(at - 1, 0)] for at, place in enumerate(order)}
    model = by_keys(lambda keys: {"pred": jax.nn.one_hot(jnp.zeros(keys.shape, int), 6)})
    answers = prediction.predict(cls(), model, {}, path, window=6)
    true = [int(place) for place in answers.shown[0].true.split()]
    if cls is clrs.InsertionSort:  # the heap puts equal keys in an order of its own
        assert true == [before[place] for place in range(6)]
    after = {at: place for place, at in enumerate(true) if at != place}
    found = [next(place for place, at in enumerate(true) if at == place)]
    while found[-1] in after:
        found.append(after[found[-1]])
    assert [numbers[place] for place in found] == sorted(numbers)
    assert answers.right == true.count(0)
    assert answers.shown[0].predicted == "0 0 0 0 0 0"


def test_sums_keep_their_signs():
    numbers = [3, -5, 40, -1, 20, -60, 8]
    sums = {(i, j): sum(numbers[i : j + 1]) for i in range(7) for j in range(i, 7)}
    start, end = max(sums, key=sums.__getitem__)

    def ends(keys):
        np.testing.assert_array_equal(np.asarray(keys)[0], np.array(numbers) / 64)
        return {"start": jnp.eye(7)[None, start], "end": jnp.eye(7)[None, 0]}

    task = clrs.FindMaximumSubarrayKadane()
    batch = predict_list.encode(task, np.array([numbers]))
    outputs = GraphOutputs(ends(batch.inputs.values["key"]), {})
    said, true = predict_list.judge(task, outputs, batch)
    assert true.tolist() == [[start, end]]
    assert said.tolist() == [[start, 0]]


def test_scaled_keys_are_those_of_training():
    batch = predict_list.encode(clrs.Minimum(), np.array([[4.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
    np.testing.assert_allclose(batch.inputs.values["key"], [[1.0, 0.0, 0.5], [0.0] * 3])
    np.testing.assert_allclose(batch.inputs.values["pos"], [[0, 1 / 3, 2 / 3]] * 2, rtol=1e-6)
    assert batch.targets["min"].argmax(axis=1).tolist() == [1, 0]
    assert not predict_list.reads(clrs.BinarySearch())
    with pytest.raises(InputError, match="task='clrs/binary_search' reads no files"):
        prediction.predict(clrs.BinarySearch(), Told(), {}, "nothing")


# The command.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A results folder of breadth-first search, with random parameters: the plumbing is tested."""
    folder = tmp_path_factory.mktemp("runs") / "bfs"
    task, model = clrs.BreadthFirstSearch(train_sizes=(4,), test_sizes=(4,)), MPNN(hidden=4)
    config = describe(task, model, {"es": ES(population=2)}, seeds=1, budget=Budget(generations=1))
    results = sample_results(seeds=1)
    results["arms"] = results["arms"][:1]
    results["task"]["name"] = task.name
    for path in (
        folder,
        folder / "arms",
        folder / "arms" / "es",
        folder / "arms" / "es" / "seed-0",
    ):
        path.mkdir()
    dump_yaml(config, folder / "config.yaml")
    write_json(folder / "results.json", results)
    params = jax.jit(model.init, static_argnums=1)(jax.random.key(0), task.spec)
    save_params(folder / "arms" / "es" / "seed-0" / "deployed.npz", params)
    return folder


def test_the_command_asks_a_run(run, tmp_path, capsys):
    path, told = write(tmp_path / "x.txt", "a b\nb c\nc d\nd e\n"), tmp_path / "told.json"
    options = ["--source", "b", "--limit", "3", "--json", str(told)]
    assert cli.main(["predict", "--run", str(run), "--input", str(path), *options]) == 0
    answers = json.loads(told.read_text())
    assert (answers["arm"], answers["source"], answers["nodes"]) == ("es", "b", 5)
    assert [row["true"] for row in answers["shown"]] == ["b", "b", "b"]
    assert {row["predicted"] for row in answers["shown"]} <= set("abcde")
    out = capsys.readouterr().out
    assert f"answers right: {answers['right']} of 5" in out
    assert "Beyond training" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--window", "3"], "window='3' has no meaning for task='clrs/bfs'"),
        (["--column", "x"], "column='x' has no meaning"),
        (["--source", "z"], "source='z' is not known"),
    ],
)
def test_the_command_refuses_in_one_sentence(run, options, said, tmp_path, capsys):
    path, told = write(tmp_path / "x.txt", "a b\n"), tmp_path / "told.json"
    json_flag = ["--json", str(told)]
    command = ["predict", "--run", str(run), "--input", str(path), *json_flag, *options]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not told.exists()
