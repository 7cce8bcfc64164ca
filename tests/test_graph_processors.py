"""Processors of graphs against their equations, written again in NumPy one node at a time."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import graph_contracts
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax_nar as nar
from evojax_nar import strategies
from evojax_nar.errors import InputError
from evojax_nar.models import graph
from evojax_nar.models.graph.base import Processing
from evojax_nar.models.graph.discrete import blunt, straight
from evojax_nar.models.graph.encoding import Features, links, read_back
from evojax_nar.models.graph.forcing import forced
from evojax_nar.models.graph.memory import NodeMemory
from evojax_nar.models.graph.permutations import fuse, log_sinkhorn
from evojax_nar.models.graph.triplets import best_sum
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.tasks import clrs
from evojax_nar.types import Batch, Field, Graph

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(3)
HIDDEN, NODES, REAL = 4, 5, (4, 5)
"""Two examples, of which the first has a node that does not exist."""
Oracle = Callable[..., Any]

MODELS: tuple[Processing, ...] = (
    graph.MPNN(hidden=8, gated=True, lstm=True),
    graph.PGN(hidden=8, hard_hints=True),
    graph.DeepSets(hidden=8),
    graph.GAT(hidden=8, heads=2, full=True),
    graph.GATv2(hidden=8, heads=2),
    graph.Memnet(hidden=8, hops=2),
    graph.TripletMPNN(hidden=8, triplet_features=4, teacher_forcing=0.5),
    graph.DiscreteMPNN(hidden=8, digits=3, states=3),
)
every_model = pytest.mark.parametrize("model", MODELS, ids=[model.name for model in MODELS])


# Processors one by one.


def dense(own: Any, values: np.ndarray) -> np.ndarray:
    return values @ own["kernel"] + own.get("bias", 0.0)


def relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0.0)


def norm(own: Any, values: np.ndarray) -> np.ndarray:
    spread = np.sqrt(((values - values.mean()) ** 2).mean() + 1e-5)
    return (values - values.mean()) / spread * own["scale"] + own["bias"]


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-values))


def softmax(values: list[float]) -> np.ndarray:
    powers = np.exp(np.array(values) - max(values))
    return powers / powers.sum()


def by_messages(
    own: Any, z: np.ndarray, edge: Any, whole: Any, old: Any, hears: list[list[int]]
) -> list[np.ndarray]:
    found = []
    for v, senders in enumerate(hears):
        messages = []
        for u in senders:
            total = dense(own["sender"], z[u]) + dense(own["receiver"], z[v])
            total = total + dense(own["edge"], edge[u, v]) + dense(own["graph"], whole)
            hidden = dense(own["message_0"], relu(total))
            messages.append(dense(own["message_1"], relu(hidden)))
        most = np.max(messages, axis=0)
        new = norm(own["norm"], relu(dense(own["node"], z[v]) + dense(own["heard"], most)))
        if "gate" in own:
            known = relu(dense(own["gate_node"], z[v]) + dense(own["gate_heard"], most))
            gate = sigmoid(dense(own["gate"], known))
            new = gate * new + (1 - gate) * old[v]
        found.append(new)
    return found


def by_triplets(own: Any, z: np.ndarray, edge: Any, whole: Any, real: int) -> np.ndarray:
    found = np.zeros((real, real, HIDDEN))
    for j in range(real):
        for k in range(real):
            totals = []
            for i in range(real):
                total = dense(own["first"], z[i]) + dense(own["second"], z[j])
                total += dense(own["third"], z[k]) + dense(own["first_second"], edge[i, j])
                total += dense(own["first_third"], edge[i, k]) + dense(own["graph"], whole)
                totals.append(total + dense(own["second_third"], edge[j, k]))
            found[j, k] = relu(dense(own["edge"], np.max(totals, axis=0)))
    return found


def by_attention(
    own: Any, z: np.ndarray, edge: Any, whole: Any, hears: list[list[int]], heads: int
) -> list[np.ndarray]:
    found, dynamic, width = [], "score_0" in own, HIDDEN // heads
    for i, others in enumerate(hears):
        parts = []
        for head in range(heads):
            scores, cut = [], slice(head * width, (head + 1) * width)
            for j in others:
                total = dense(own["query"], z[i]) + dense(own["key"], z[j])
                total += dense(own["edge"], edge[i, j]) + dense(own["graph"], whole)
                total = np.where(total > 0, total, 0.01 * total)
                own_score = own.get(f"score_{head}")
                scores.append(float(dense(own_score, total[cut])[0] if dynamic else total[head]))
            shares = softmax(scores)
            values = [dense(own["value"], z[j])[cut] for j in others]
            parts.append(sum(s * value for s, value in zip(shares, values, strict=True)))
        found.append(norm(own["norm"], relu(np.concatenate(parts) + dense(own["skip"], z[i]))))
    return found


def by_memory(
    own: Any, z: np.ndarray, edge: Any, whole: Any, hears: list[list[int]], hops: int
) -> list[np.ndarray]:
    found = []
    for i, others in enumerate(hears):
        u = dense(own["query_node"], z[i]) + dense(own["query_graph"], whole)
        m = [
            dense(own["memory_node"], z[j]) + dense(own["memory_edge"], edge[i, j]) for j in others
        ]
        c = [
            dense(own["content_node"], z[j]) + dense(own["content_edge"], edge[i, j])
            for j in others
        ]
        for hop in range(hops):
            p = softmax([float(u @ one) for one in m])
            o = sum(share * one for share, one in zip(p, c, strict=True))
            u = (u if hop == hops - 1 else dense(own["between"], u)) + o
        found.append(norm(own["norm"], relu(dense(own["answer"], u))))
    return found


def digits_of(own: Any, features: list[np.ndarray], digits: int) -> list[np.ndarray]:
    found = []
    for one in features:
        rows = dense(own["digits"], one).reshape(digits, -1)
        found.append(np.concatenate([np.eye(rows.shape[1])[row.argmax()] for row in rows]))
    return found


@pytest.mark.parametrize(
    "model",
    [
        graph.MPNN(hidden=HIDDEN),
        graph.PGN(hidden=HIDDEN, gated=True),
        graph.DeepSets(hidden=HIDDEN, gated=True),
        graph.GAT(hidden=HIDDEN, heads=2),
        graph.GATv2(hidden=HIDDEN, heads=2, full=True),
        graph.Memnet(hidden=HIDDEN, hops=2),
        graph.TripletMPNN(hidden=HIDDEN, triplet_features=3),
        graph.DiscreteMPNN(hidden=HIDDEN, digits=2, states=3),
    ],
    ids=lambda model: model.name,
)
def test_a_step_follows_its_equations(model: Processing) -> None:
    random = np.random.default_rng(0)
    nodes = np.arange(NODES) < np.array(REAL)[:, None]
    shapes = ((2, NODES, HIDDEN), (2, NODES, NODES, HIDDEN), (2, HIDDEN))
    node, pairs, overall = (random.normal(size=shape) for shape in shapes)
    linked = random.random((2, NODES, NODES)) < 0.3
    linked = linked | linked.swapaxes(1, 2)
    linked = linked & nodes[:, :, None] & nodes[:, None] | np.eye(NODES, dtype=bool)
    state = np.asarray(model.start(jnp.asarray(nodes)))
    if not isinstance(model, graph.DiscreteMPNN):
        state = random.normal(size=state.shape)
    features = Features(*map(jnp.asarray, (node, pairs, overall)))
    given = (features, *map(jnp.asarray, (state, linked, nodes)))
    module = model.processor("processor")
    params = jax.jit(module.init)(KEY, *given)["params"]
    params = jax.tree.map(lambda leaf: leaf + random.normal(size=leaf.shape) / 2, params)
    moved, edges = jax.jit(module.apply)({"params": params}, *given)
    own = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for row, real in enumerate(REAL):
        z = np.concatenate([node[row], state[row]], axis=-1)
        edge, whole, old = pairs[row], overall[row], state[row]
        near = [[u for u in range(real) if linked[row, u, v]] for v in range(real)]
        everyone = [list(range(real))] * real
        if isinstance(model, graph.Memnet):
            expected = by_memory(own, z, edge, whole, near, model.hops)
        elif isinstance(model, (graph.GAT, graph.GATv2)):
            heard = everyone if model.full else near
            expected = by_attention(own, z, edge, whole, heard, model.heads)
        else:
            alone = [[v] for v in range(real)]
            hears = {"pgn": near, "deepsets": alone}.get(model.name, everyone)
            expected = by_messages(own.get("messages", own), z, edge, whole, old, hears)
        if isinstance(model, graph.DiscreteMPNN):
            expected = digits_of(own, expected, model.digits)
        np.testing.assert_allclose(moved[row, :real], expected, rtol=1e-5, atol=1e-5)
        if isinstance(model, graph.TripletMPNN):
            assert edges is not None
            expected_edges = by_triplets(own["triplets"], z, edge, whole, real)
            np.testing.assert_allclose(
                edges[row, :real, :real], expected_edges, rtol=1e-5, atol=1e-5
            )
        else:
            assert edges is None


def test_a_memory_follows_its_equations() -> None:
    random = np.random.default_rng(1)
    moved, state, cell = random.normal(size=(3, 2, NODES, HIDDEN))
    module = NodeMemory(HIDDEN)
    params = module.init(KEY, moved, state, cell)["params"]
    own = {"kernel": random.normal(size=(2 * HIDDEN, 4 * HIDDEN)), "bias": random.normal(size=16)}
    assert jax.tree.map(jnp.shape, params["gates"]) == jax.tree.map(np.shape, own)
    found: Any = module.apply({"params": {"gates": own}}, moved, state, cell)
    gates = dense(own, np.concatenate([moved, state], axis=-1))
    i, g, f, o = (gates[..., k * HIDDEN : (k + 1) * HIDDEN] for k in range(4))
    new = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(found[1], new, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[0], sigmoid(o) * np.tanh(new), rtol=1e-5, atol=1e-5)


def test_the_best_sum_has_the_gradient_of_the_one_that_is_formed_whole() -> None:
    left, right = jax.random.normal(KEY, (2, 2, NODES, NODES, 3))

    def whole(left: jax.Array, right: jax.Array) -> jax.Array:
        return (left[:, :, :, None] + right[:, :, None]).max(axis=1)

    np.testing.assert_array_equal(best_sum(left, right), whole(left, right))
    ours, theirs = (
        jax.grad(lambda *own, f=f: jnp.sin(f(*own)).sum(), (0, 1))(left, right)
        for f in (best_sum, whole)
    )
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5, atol=1e-6)


# What is around them.


def test_links_are_pointers_and_edges_both_ways() -> None:
    fields = (Field("p", "pointer", 1, "node"), Field("e", "mask", 1, "edge"))
    random = np.random.default_rng(2)
    soft = random.dirichlet(np.full(NODES, 0.2), size=(1, NODES))
    mask = (random.random((1, NODES, NODES)) < 0.1).astype(np.float32)
    nodes = np.arange(NODES)[None] < 4
    probes = {"p": jnp.asarray(soft, jnp.float32), "e": jnp.asarray(mask)}
    found = np.asarray(links(fields, probes, jnp.asarray(nodes)))[0]
    for i in range(NODES):
        for j in range(NODES):
            near = soft[0, i, j] + soft[0, j, i] > 0.5 or mask[0, i, j] + mask[0, j, i] > 0
            assert found[i, j] == (i == j or (near and i < 4 and j < 4))
    assert found.sum() > NODES, "there are links to speak of"


def test_hints_are_read_back_as_decisions() -> None:
    nodes = jnp.asarray([[True, True, False]])
    logits = jnp.asarray([[1.0, 2.0, 3.0]])
    said = {
        kind: read_back(Field("x", kind, 3, "node"), logits, nodes, hard=True)
        for kind in ("scalar", "mask", "mask_one", "categorical")
    }
    assert said["scalar"].tolist() == [[1, 2, 3]]
    assert said["mask"].tolist() == [[1, 1, 1]]
    assert said["mask_one"].tolist() == [[0, 1, 0]], "no node that does not exist"
    assert said["categorical"].tolist() == [[0, 0, 1]]
    for kind in said:
        field = Field("x", kind, 3, "node")
        slope = jax.grad(lambda x, f=field: read_back(f, x, nodes, hard=True)[0, 1])(logits)
        assert not slope.any()


def random_logits(count: int) -> tuple[jax.Array, jax.Array]:
    one, other = jax.random.split(KEY)
    return jax.random.normal(one, (2, count, count)), jax.random.normal(other, (2, count))


def test_sinkhorn_brings_logits_near_a_permutation() -> None:
    logits, _ = random_logits(NODES)
    nodes = jnp.arange(NODES) < jnp.asarray(REAL)[:, None]
    found = np.asarray(log_sinkhorn(logits, nodes))
    for row, real in enumerate(REAL):
        matrix = np.asarray(logits, np.float64)[row, :real, :real] / 0.1
        weights = np.exp(matrix - matrix.max()) * (1 - np.eye(real))
        for _ in range(10):
            weights = weights / weights.sum(axis=1, keepdims=True)
            weights = weights / weights.sum(axis=0, keepdims=True)
        ours = np.exp(found[row, :real, :real])
        np.testing.assert_allclose(ours, weights, rtol=1e-4, atol=1e-5)
        assert sorted(ours.argmax(axis=1)) == list(range(real))
        np.testing.assert_allclose(ours.sum(axis=0), 1.0, atol=1e-5)
    near = np.exp(np.asarray(log_sinkhorn(logits, nodes, iterations=500)))
    np.testing.assert_allclose(near.sum(axis=2)[np.asarray(nodes)], 1.0, atol=1e-2)
    assert (np.exp(found[0, 4]) == 0).all()
    assert (np.exp(found[0, :, 4]) == 0).all()


def test_a_permutation_and_its_first_node_are_pointers() -> None:
    logits, first = random_logits(NODES)
    nodes = jnp.arange(NODES) < jnp.asarray(REAL)[:, None]
    order = log_sinkhorn(logits, nodes)
    found = np.exp(np.asarray(fuse(order, 3 * first, nodes), np.float64))
    for row, real in enumerate(REAL):
        chances = softmax([float(3 * x) for x in first[row, :real]])
        for i in range(real):
            for j in range(real):
                other = (1 - chances[i]) * np.exp(float(order[row, i, j]))
                expected = chances[i] if i == j else other
                assert found[row, i, j] == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("real", [1, 2, 3])
def test_permutations_of_few_nodes_and_of_sure_ones_have_a_gradient(real: int) -> None:
    logits, first = random_logits(3)
    nodes = jnp.broadcast_to(jnp.arange(3) < real, (2, 3))

    def loss(logits: jax.Array, first: jax.Array) -> jax.Array:
        said = fuse(log_sinkhorn(logits, nodes), first, nodes)
        return jnp.where(nodes, jax.nn.log_softmax(said)[:, :, 0], 0.0).sum()

    # A first node that is certain: log(1 - f) would be infinite if it were taken of a difference.
    for scale in (1.0, 200.0):
        value, slopes = jax.value_and_grad(loss, (0, 1))(logits, scale * first)
        assert np.isfinite(value)
        assert all(np.isfinite(slope).all() for slope in slopes)


# Teacher forcing.


@functools.cache
def examples() -> Graph:
    task = clrs.BreadthFirstSearch.example()
    return jax.jit(lambda: task.sample(KEY, 5, max_size=5, batch=500))().inputs


def rows(inputs: Graph, which: list[int]) -> Graph:
    index = jnp.asarray(which)
    return Graph(
        values={name: value[index] for name, value in inputs.values.items()},
        mask=inputs.mask[index],
        running=inputs.running[:, index],
        hints={name: frames[:, index] for name, frames in inputs.hints.items()},
    )


def test_a_share_of_steps_and_examples_is_forced() -> None:
    inputs = examples()
    for share in (0.0, 0.25, 1.0):
        told = np.asarray(forced(inputs, share))
        assert told.shape == inputs.running.shape
        # 4 x 500 coins: five standard deviations are 0.05.
        assert abs(told.mean() - share) < 0.05
        if 0 < share < 1:
            assert (told[1:] != told[:-1]).any(), "each step has a coin of its own"


def test_coins_are_an_examples_own() -> None:
    inputs = rows(examples(), list(range(20)))
    told = np.asarray(forced(inputs, 0.5))
    np.testing.assert_array_equal(forced(rows(inputs, [7, 3, 3]), 0.5), told[:, [7, 3, 3]])
    roomy = inputs._replace(
        values={
            name: jnp.pad(value, [(0, 0), *[(0, 3)] * (value.ndim - 1)])
            for name, value in inputs.values.items()
        },
        mask=jnp.pad(inputs.mask, [(0, 0), (0, 3)]),
    )
    np.testing.assert_array_equal(forced(roomy, 0.5), told)


def test_true_hints_are_read_where_they_are_given_alone() -> None:
    spec = clrs.BreadthFirstSearch.example().spec
    inputs = rows(examples(), list(range(6)))
    told, free = (graph.MPNN(hidden=8, teacher_forcing=share) for share in (1.0, 0.0))
    params = graph_contracts.fresh(free, KEY, spec)
    false = inputs._replace(
        hints={
            name: frames.at[1:].set(1 - frames[1:] if name == "reach_h" else 0)
            for name, frames in inputs.hints.items()
        }
    )
    alone = inputs._replace(hints={name: f[:1] for name, f in inputs.hints.items()})

    def outputs(model: Processing, given: Graph) -> np.ndarray:
        return np.asarray(graph_contracts.apply(model, params, given, spec).outputs["pi"])

    own = outputs(free, inputs)
    np.testing.assert_array_equal(own, outputs(free, false))
    assert np.abs(outputs(told, inputs) - outputs(told, false)).max() > 1e-3
    np.testing.assert_allclose(outputs(told, alone), own, rtol=1e-5, atol=1e-5)


# Discrete states.


def test_a_choice_is_exact_and_has_the_slope_of_a_softmax() -> None:
    logits = jax.random.normal(KEY, (50, 3, 4))
    chosen = np.asarray(straight(logits))
    assert set(np.unique(chosen)) == {0.0, 1.0}
    np.testing.assert_array_equal(chosen.argmax(axis=-1), logits.argmax(axis=-1))
    np.testing.assert_array_equal(blunt(logits), chosen)
    weights = jnp.arange(4.0)
    ours, theirs = (
        jax.grad(lambda x, f=f: (f(x) * weights).sum())(logits) for f in (straight, jax.nn.softmax)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_only_evolution_trains_what_has_no_gradient() -> None:
    task = clrs.Minimum.example()
    model = graph.DiscreteMPNN(hidden=4, digits=2, states=2, straight_through=False)
    loss = TaskLoss(task, model, task.spec)
    batch = jax.jit(lambda: task.sample(KEY, 4, max_size=5, batch=4))()
    params = graph_contracts.fresh(model, KEY, task.spec)
    with pytest.raises(InputError, match=r"straight_through=False has no gradient; set it to true"):
        jax.eval_shape(jax.grad(lambda own: loss(own, batch).loss), params)
    strategy = strategies.get("es", population=4)
    state = strategy.init(KEY, params)
    moved, info = jax.jit(strategy.step)(KEY, state, Objective(loss, batch))
    assert bool(info.healthy)
    pairs = zip(jax.tree.leaves(strategy.params(moved)), jax.tree.leaves(params), strict=True)
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in pairs)


# All of them.


@every_model
def test_no_member_forms_a_matrix_of_its_own(model: Processing) -> None:
    spec = clrs.InsertionSort.example().spec
    params = jax.eval_shape(lambda: model.init(KEY, spec))
    assert nar.audit(model, params, spec=spec, strict=True).fallback_bytes == 0


@functools.cache
def lists() -> Batch:
    task = clrs.InsertionSort.example()
    return jax.jit(lambda: task.sample(KEY, jnp.asarray([4, 5]), max_size=5, batch=2))()


@every_model
def test_gradients_are_finite(model: Processing) -> None:
    """On examples of two sizes, one of which is padded, with parameters far from the first ones."""
    task, batch = clrs.InsertionSort.example(), lists()
    loss = TaskLoss(task, model, task.spec)

    @jax.jit
    def slope() -> Any:
        params = jax.tree.map(lambda leaf: 3 * leaf + 0.1, model.init(KEY, task.spec))
        return jax.value_and_grad(lambda own: loss(own, batch).loss)(params)

    value, gradient = slope()
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient["step"]["processor"]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: graph.MPNN(hidden=0), "hidden=0 is not allowed; give a whole number"),
        (lambda: graph.PGN(teacher_forcing=1.5), "teacher_forcing=1.5 is no share; give a number"),
        (lambda: graph.PGN(teacher_forcing=True), "teacher_forcing=True is no share"),
        (lambda: graph.DeepSets(gated=1), "gated=1 is not allowed; give true or false"),  # type: ignore[arg-type]
        (lambda: graph.MPNN(lstm="no"), "lstm='no' is not allowed; give true or false"),  # type: ignore[arg-type]
        (lambda: graph.GAT(heads=0), "heads=0 is not allowed; give a whole number"),
        (lambda: graph.GATv2(hidden=30), "hidden=30 does not fit; give a multiple of heads=4"),
        (lambda: graph.Memnet(hops=0), "hops=0 is not allowed"),
        (lambda: graph.TripletMPNN(triplet_features=0), "triplet_features=0 is not allowed"),
        (lambda: graph.DiscreteMPNN(states=1), "states=1 is not allowed; .* at least 2"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.skipif(importlib.util.find_spec("clrs") is None, reason="dm-clrs is not installed")
def test_outputs_are_those_of_the_reference_implementation() -> None:
    script = Path(__file__).with_name("clrs_models_oracle.py")
    command = [sys.executable, str(script), "insertion_sort:triplet_gmpnn:lstm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    # Sums of a few dozen numbers in float32, over five steps, and a temperature of 0.1.
    assert row["outputs"] < 1e-5
    assert row["hints"] < 1e-5
