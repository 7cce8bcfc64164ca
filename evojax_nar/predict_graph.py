"""What a trained model answers on a user's own graph, node by node, beside the algorithm itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evojax_nar.errors import InputError, positive_int, reject
from evojax_nar.predict import check_memory
from evojax_nar.tasks import graph_problems, scoring
from evojax_nar.tasks.graph_files import NamedGraph, read_graph
from evojax_nar.tasks.graph_problems import GraphAlgorithm
from evojax_nar.types import Batch, Field, Graph, Model, Params

_MISSING = "?"
_SHOWN = 60


@dataclass(frozen=True)
class NodeAnswer:
    """What was said of one node, or of the whole graph where `node` is None.

    A node that is pointed at or chosen stands by its name, a mark as "yes" or "no", and what is
    said of pairs of nodes as a list with one entry a pair: the names of the other nodes where there
    is a mark, or the node pointed at for every other one. "?" is an output that is no number.
    """

    node: str | None
    output: str
    predicted: str | list[str]
    true: str | list[str]
    right: bool


@dataclass(frozen=True)
class GraphAnswers:
    """The answers to a graph.

    Args:
      shown: the first nodes, and what concerns the whole graph.
      task: the algorithm.
      nodes: V.
      edges: as many as the file has.
      source: the node that was started from; None where the algorithm starts nowhere.
      right: nodes with everything right, or pairs of nodes where the answer is of pairs.
      judged: how many there are.
      exact: whether everything is right.
      beyond_training: whether the model was trained on smaller graphs alone.
      max_trained: nodes of the largest that it was trained on.
      notes: what was not used, or not said, in sentences.
    """

    shown: tuple[NodeAnswer, ...]
    task: str
    nodes: int
    edges: int
    source: str | None
    right: int
    judged: int
    exact: bool
    beyond_training: bool
    max_trained: int
    notes: tuple[str, ...]


def reads(task: Any) -> bool:
    """Whether a run of `task` is asked with a graph."""
    return graph_problems.needs(task) is not None


def predict(
    task: GraphAlgorithm,
    model: Model,
    params: Params,
    path: str | os.PathLike[str],
    *,
    source: str | None = None,
    limit: int | None = None,
) -> GraphAnswers:
    """Run the model, and the algorithm itself, on the graph in a file.

    Args:
      task: an algorithm on graphs.
      model: what was trained on it.
      params: what was deployed.
      path: the file; see `graph_files.read_graph`.
      source: name of the node to start from; None for the first of the file.
      limit: how many nodes to keep for showing; None for all.

    Raises:
      InputError: for a file or a graph that is refused, see `graph_files.read_graph` and
        `graph_problems.check`; a source that the graph does not have, or for an algorithm that
        starts nowhere; a graph that the memory cannot hold.
    """
    if limit is not None:
        positive_int("limit", limit, least=0)
    if source is not None and not graph_problems.has_source(task):
        raise reject("source", source, f"has no meaning for task={task.name!r}", "leave it out")
    graph = read_graph(path)
    need = graph_problems.check(task, graph)
    start = graph_problems.find_source(graph, source)
    outputs, batch = _run(task, model, params, graph, source, str(path))
    shown: list[NodeAnswer] = []
    right = judged = 0
    exact = True
    for field in task.specification.outputs:
        truth = batch.targets[field.name]
        counts = np.asarray(scoring.where_judged(field, truth, batch.mask))[0]
        said = np.asarray(scoring.decide(field, outputs[field.name], batch.mask))[0]
        true = np.asarray(scoring.decide_truth(field, truth))[0]
        hits = (said == true) | ~counts
        exact &= bool(hits.all())
        if field.kind == "mask":  # there is nothing to be said where an entry does not count
            said, true = (np.where(counts, value, 0) for value in (said, true))
        if counts.ndim:
            right += int((hits & counts).sum())
            judged += int(counts.sum())
        shown += _answers(field, graph.names, said, true, hits, limit)
    notes = []
    if graph.weights is not None and not need.weighted:
        notes.append(f"Weights are not used: {task.name} has none.")
    if graph.weights is None and need.weighted:
        notes.append("The file has no weights: every edge weighs 1.")
    trained = task.spec.max_length
    return GraphAnswers(
        shown=tuple(shown),
        task=task.name,
        nodes=len(graph.names),
        edges=len(graph.edges),
        source=graph.names[start] if graph_problems.has_source(task) else None,
        right=right,
        judged=judged,
        exact=exact,
        beyond_training=len(graph.names) > trained,
        max_trained=trained,
        notes=tuple(notes),
    )


def print_answers(answers: GraphAnswers, console: Console) -> None:
    """Print a row a node and output, then the totals over all of them."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("node", "output", "predicted", "true"):
        table.add_column(heading, overflow="fold")
    table.add_column("right?")
    for row in answers.shown:
        # As Text, since names are the user's and must not be read as markup.
        cells = [
            "" if row.node is None else row.node,
            row.output,
            _joined(row.predicted),
            _joined(row.true),
        ]
        table.add_row(*map(Text, cells), "yes" if row.right else "no")
    if answers.shown:
        console.print(table)
        console.print()
    nodes = len({row.node for row in answers.shown if row.node is not None})
    if nodes < answers.nodes:
        console.print(f"The first {nodes} of {answers.nodes} nodes are shown.", highlight=False)
    if answers.beyond_training:
        trained = f"{answers.max_trained} nodes"
        console.print(
            f"Beyond training: the model was trained on up to {trained}.", highlight=False
        )
    for note in answers.notes:
        console.print(note, markup=False, highlight=False)
    start = "" if answers.source is None else f", from {answers.source}"
    graph = f"{answers.nodes} nodes, {answers.edges} edges{start}"
    share = f" ({100 * answers.right / answers.judged:.1f} %)" if answers.judged else ""
    counted = f"answers right: {answers.right} of {answers.judged}{share}"
    console.print(f"{graph}: {counted}", markup=False, highlight=False)


def _run(
    task: GraphAlgorithm,
    model: Model,
    params: Params,
    graph: NamedGraph,
    source: str | None,
    path: str,
) -> tuple[dict[str, jax.Array], Batch]:
    """Outputs by name, and the batch of the one example, once it is known that both fit."""
    spec, judged, count = task.spec, task.test, len(graph.names)
    able = model.max_size(spec)
    if able is not None and count > able:
        problem = f"has {count} nodes, more than the model can run"
        raise reject("input", path, problem, f"give a graph of at most {able}")

    @jax.jit
    def build(inputs: dict[str, jax.Array]) -> Batch:
        return judged.build(inputs, jnp.full(1, count, jnp.int32))

    @jax.jit
    def apply(params: Params, inputs: Graph) -> dict[str, jax.Array]:
        return dict(model.apply(params, inputs, spec=spec).outputs)

    # From shapes alone, before there is any array of V x V.
    shapes = {
        field.name: jax.ShapeDtypeStruct(
            (1, *[count] * {"node": 1, "edge": 2, "graph": 0}[field.location]), jnp.float32
        )
        for field in task.specification.inputs
    }
    check_memory("input", path, build, shapes)
    check_memory("input", path, apply, params, jax.eval_shape(build, shapes).inputs)
    probes = graph_problems.probes(task, graph, source)
    batch = build({name: jnp.asarray(value[None]) for name, value in probes.items()})
    outputs = apply(params, batch.inputs)
    missing = [field.name for field in task.specification.outputs if field.name not in outputs]
    if missing:
        raise InputError(f"the model gives no {missing[0]!r}, which {task.name} asks for.")
    return outputs, batch


def _answers(
    field: Field,
    names: tuple[str, ...],
    said: np.ndarray,
    true: np.ndarray,
    hits: np.ndarray,
    limit: int | None,
) -> list[NodeAnswer]:
    """One output in words; `said` and `true` as `scoring.decide` has them, (), (V,) or (V, V)."""
    if said.ndim == 0:
        both = _word(field, names, said), _word(field, names, true)
        return [NodeAnswer(None, field.name, *both, bool(hits))]
    found = []
    for place, node in enumerate(names[:limit]):
        both = _words(field, names, said[place]), _words(field, names, true[place])
        found.append(NodeAnswer(node, field.name, *both, bool(hits[place].all())))
    return found


def _words(field: Field, names: tuple[str, ...], values: np.ndarray) -> str | list[str]:
    if values.ndim == 0:
        return _word(field, names, values)
    if field.kind == "mask":
        marks = zip(names, values.tolist(), strict=True)
        return [name if mark == 1 else _MISSING for name, mark in marks if mark == 1 or mark < 0]
    return [_word(field, names, value) for value in values]


def _word(field: Field, names: tuple[str, ...], value: np.ndarray) -> str:
    if int(value) < 0:
        return _MISSING
    if field.kind == "mask":
        return ("no", "yes")[int(value)]
    return names[int(value)]


def _joined(answer: str | list[str]) -> str:
    """An answer in one cell; a long list loses its middle."""
    if isinstance(answer, str):
        return answer
    text, half = ", ".join(answer), len(answer) // 2
    while len(text) > _SHOWN and half > 1:
        half //= 2
        text = ", ".join([*answer[:half], "...", *answer[-half:]])
    return text
