"""Votes against counting in plain Python, and their way from a state to results, table and page."""

from __future__ import annotations

import copy
import functools
import json
import math
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sample_results
from rich.console import Console

import evojax_nar as nar
from evojax_nar import config, page, readings, report, schema, votes
from evojax_nar.discrete import Choices
from evojax_nar.errors import InputError
from evojax_nar.evaluator import TEST, Evaluator
from evojax_nar.models.looped import LoopedTransformer
from evojax_nar.readings import Ensemble, Steps
from evojax_nar.strategies import ES, PGPE, SNES, Evosax, GeneticAlgorithm, Gradient, IntegerES
from evojax_nar.strategies.adaptive import Separable
from evojax_nar.strategies.choices import PBIL, UMDA, BitFlip, CartesianGP
from evojax_nar.trainer import Group, Settings
from evojax_nar.types import Field, GraphOutputs, Sequence, TaskSpec

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(11)
NAN = float("nan")

# Votes, by a model that says what its parameters are.


class Echo:
    """Outputs are the parameters, so that each member says what a test wants it to say."""

    def apply(self, params: Any, inputs: Any, *, spec: TaskSpec) -> Any:
        return GraphOutputs(params, {}) if spec.is_graph else params


def spec_of(*outputs: Field, graph: bool = False) -> TaskSpec:
    inputs = (Field("x", "scalar", 1, "node" if graph else "sequence"),)
    return TaskSpec("said", inputs, outputs, 4, 4)


def elect(said: Any, spec: TaskSpec, mask: np.ndarray) -> Any:
    """What members vote for that say `said`, stacked (C, ...)."""
    inputs = Sequence(jnp.zeros((*mask.shape, 1)), jnp.asarray(mask))
    model: Any = Echo()
    return jax.jit(lambda said: Ensemble().outputs(model, said, inputs, spec=spec))(said)


def majority(chosen: list[int]) -> int:
    """The choice with most votes, of those that tie the lowest; -1 is no vote."""
    counts = Counter(one for one in chosen if one >= 0)
    return min(counts, key=lambda one: (-counts[one], one)) if counts else -1


@pytest.mark.parametrize("members", [1, 4, 7])
def test_votes_of_a_sequence(members: int) -> None:
    spec = spec_of(Field("c", "categorical", 3), Field("b", "bits", 2), Field("s", "scalar", 1))
    rng = np.random.default_rng(members)
    said = rng.normal(size=(members, 5, 6, 6)).astype(np.float32)
    said[rng.random(said.shape) < 0.05] = NAN
    said[:, 0, 0] = NAN  # here nobody has a vote
    outputs = np.asarray(elect(said, spec, np.ones((5, 6), bool)))
    ties = 0
    for row in range(5):
        for step in range(6):
            mine, entry = outputs[row, step], said[:, row, step]
            chosen = [
                -1 if np.isnan(x[:3]).any() else max(range(3), key=x.__getitem__) for x in entry
            ]
            want = majority(chosen)
            assert np.isnan(mine[:3]).all() if want < 0 else mine[:3].argmax() == want
            assert want < 0 or (np.sort(mine[:3])[1] < mine[:3].max()), "one winner alone"
            for place in (3, 4):
                heard = [float(x[place]) for x in entry if not np.isnan(x[place])]
                lead = sum(1 if x > 0 else -1 for x in heard)
                ties += bool(heard) and lead == 0
                want_bit = lead > 0 or (lead == 0 and sum(heard) > 0)
                assert np.isnan(mine[place]) if not heard else (mine[place] > 0) == want_bit
            heard = [float(x[5]) for x in entry if not np.isnan(x[5])]
            want_mean = sum(heard) / len(heard) if heard else NAN
            np.testing.assert_allclose(mine[5], want_mean, rtol=1e-5, atol=1e-6)
    assert ties or members % 2


def test_votes_of_a_graph() -> None:
    """A mask, a pointer of each node, and one of the nodes; the last node does not exist."""
    fields = (
        Field("m", "mask", 1, "node"),
        Field("p", "pointer", 1, "node"),
        Field("o", "mask_one", 1, "node"),
        Field("s", "scalar", 1, "graph"),
    )
    rng = np.random.default_rng(0)
    shapes = {"m": (3, 4), "p": (3, 4, 4), "o": (3, 4), "s": (3,)}
    said = {name: rng.normal(size=(5, *shape)).astype(np.float32) for name, shape in shapes.items()}
    said["p"][..., 3] = 9.0
    mask = np.tile([True, True, True, False], (3, 1))
    found = elect(said, spec_of(*fields, graph=True), mask)
    assert found.hints == {}
    given = {name: np.asarray(array) for name, array in found.outputs.items()}
    np.testing.assert_array_equal(given["m"] > 0, (said["m"] > 0).sum(axis=0) > 2)
    for graph in range(3):
        for node in range(4):
            chosen = [int(x[:3].argmax()) for x in said["p"][:, graph, node]]
            assert given["p"][graph, node].argmax() == majority(chosen)
        assert given["o"][graph].argmax() == majority(
            [int(x[:3].argmax()) for x in said["o"][:, graph]]
        )
    np.testing.assert_allclose(given["s"], said["s"].mean(axis=0), rtol=1e-5)


def test_infinite_logits_vote_and_tie() -> None:
    said = np.array([[[[np.inf]]], [[[-np.inf]]], [[[0.5]]], [[[-0.4]]]], np.float32)
    outputs = elect(said, spec_of(Field("b", "bits", 1)), np.ones((1, 1), bool))
    assert np.isfinite(np.asarray(outputs)).all()


# Ensembles of strategies.


PARAMS = {"w": jnp.arange(12.0).reshape(3, 4), "bias": jnp.ones(4)}


def drawn(strategy: Any, params: Any, count: int) -> tuple[Any, Any]:
    state = strategy.init(jax.random.key(1), params)
    return state, jax.jit(lambda key: strategy.ensemble(key, state, count))(KEY)


def doubled(log_widths: Any) -> Any:
    """Of a matrix with thin noise half of it for the rows, and half for the columns."""

    def more(log: Any) -> Any:
        if isinstance(log, Separable):
            return Separable(log.rows + math.log(2) / 2, log.columns + math.log(2) / 2)
        return log + math.log(2)

    return jax.tree.map(more, log_widths, is_leaf=lambda node: isinstance(node, Separable))


@pytest.mark.parametrize(
    "strategy",
    [ES(population=8, sigma=0.2), SNES(sigma=0.2), PGPE(sigma=0.2, noise="low_rank")],  # pyright: ignore[reportArgumentType]
    ids=["es", "snes", "pgpe"],
)
def test_gaussian_ensembles_are_drawn_from_the_search_distribution(strategy: Any) -> None:
    state, width = strategy.init(jax.random.key(1), PARAMS), 0.2
    if hasattr(state, "log_widths"):  # twice as wide as it began
        state, width = state._replace(log_widths=doubled(state.log_widths)), 0.4
    members = jax.jit(lambda key: strategy.ensemble(key, state, 2001))(KEY)
    for name, leaf in members.items():
        noise = (np.asarray(leaf, np.float64) - np.asarray(PARAMS[name])) / width
        assert noise.shape == (2001, *PARAMS[name].shape)
        np.testing.assert_allclose(noise[0:2000:2], -noise[1:2000:2], atol=1e-4)
        # 1001 draws of variance 1: the mean of squares within five standard errors, of which an
        # entry of thin normal noise, a product of two, has the largest: sqrt(8 / 1001).
        np.testing.assert_allclose((noise**2).mean(axis=0), 1.0, atol=5 * (8 / 1001) ** 0.5)
    again = strategy.ensemble(KEY, state, 3)
    np.testing.assert_allclose(again["w"], np.asarray(members["w"])[:3], rtol=1e-6)


def test_a_member_of_es_is_one_that_it_would_evaluate() -> None:
    strategy = ES(population=4, sigma=0.5)
    _, members = drawn(strategy, PARAMS, 4)
    noise = [strategy.noise.draw(jax.random.fold_in(KEY, pair), PARAMS) for pair in (0, 1)]
    for place, (pair, sign) in enumerate([(0, 0.5), (0, -0.5), (1, 0.5), (1, -0.5)]):
        want = nar.materialise(PARAMS, nar.noise.scale(noise[pair], sign))
        np.testing.assert_allclose(members["w"][place], want["w"], rtol=1e-5)


def test_integer_ensemble_stays_integer() -> None:
    params = {"w": jnp.full((40, 30), 120, jnp.int8), "b": jnp.zeros(30, jnp.int8)}
    _, members = drawn(IntegerES(population=4, sigma_shift=0), params, 6)
    assert all(leaf.dtype == jnp.int8 for leaf in members.values())
    wide = np.asarray(members["b"], np.int64)
    # Rounded halves may differ by a bin between the two of a pair; saturation lies beyond it.
    assert (np.abs(wide[0::2] + wide[1::2]) <= 1).all()
    assert wide.any()
    assert np.asarray(members["w"]).max() == 127


def test_ensembles_of_populations_are_their_best() -> None:
    strategy = GeneticAlgorithm(population=8, elites=3)
    state = strategy.init(KEY, PARAMS)
    elites = jax.tree.map(
        lambda leaf: leaf * jnp.arange(1.0, 4).reshape(3, *[1] * (leaf.ndim - 1)), state.elites
    )
    state = state._replace(elites=elites)
    for count in (2, 5):
        members: Any = strategy.ensemble(KEY, state, count)
        np.testing.assert_array_equal(members["w"], elites["w"][: min(count, 3)])
    evolved = Evosax("SimpleGA", population=6)
    state = evolved.init(KEY, PARAMS)
    state = state._replace(inner=state.inner.replace(fitness=jnp.asarray([3.0, 1, 2, 0, 9, 5])))
    best: Any = evolved.ensemble(KEY, state, 2)
    np.testing.assert_array_equal(best["w"][0], evolved.params(state)["w"])
    whole: Any = evolved.ensemble(KEY, state, 99)
    assert whole["w"].shape == (6, 3, 4)
    _, members = drawn(Evosax("SNES", population=16, std=0.1), PARAMS, 5)
    assert members["w"].shape == (5, 3, 4)
    assert 0 < np.abs(np.asarray(members["w"]) - PARAMS["w"]).max() < 1


def test_ensembles_of_choices_are_members_of_the_next_generation() -> None:
    wiring = {"gates": Choices(jnp.arange(400) % 5, 5)}
    want = np.arange(400) % 5
    for strategy in (PBIL(population=8, best=2, start=0.6), UMDA(population=8, best=2, start=0.6)):
        _, members = drawn(strategy, wiring, 50)
        same = np.asarray(members["gates"].value) == want
        assert same.shape == (50, 400)
        # 0.6 and a fifth of the rest, of 20,000 genes, within five standard errors.
        assert abs(same.mean() - 0.68) < 5 * (0.68 * 0.32 / 20_000) ** 0.5
    for count, own in ((4, 4), (99, 21)):
        _, members = drawn(CartesianGP(children=20, rate=0.25), wiring, count)
        different = np.asarray(members["gates"].value) != want
        assert different.shape == (own, 400)
        assert not different[0].any(), "the parent"
    assert abs(different[1:].mean() - 0.25) < 5 * (0.25 * 0.75 / 8000) ** 0.5
    strategy = BitFlip(population=8, elites=3)
    state = strategy.init(KEY, wiring)
    state = state._replace(elites=jax.tree.map(lambda leaf: leaf.at[1].set(4), state.elites))
    best: Any = strategy.ensemble(KEY, state, 2)
    np.testing.assert_array_equal(best["gates"].value, [want, np.full(400, 4)])


def test_choices_vote() -> None:
    task = nar.tasks.Parity(train_sizes=(1, 2), test_sizes=(2,))
    arms = {
        "gp": nar.Arm(CartesianGP(children=7), batch=16),
        "tables": nar.Arm(PBIL(population=8, best=2), batch=16),
    }
    results = nar.compare(
        task,
        nar.models.NandNetwork(gates=1, layers=4, state=1),
        arms,
        seeds=1,
        budget=nar.Budget(generations=4),
        readings=[Ensemble(members=5), readings.Best(members=5)],
        evaluation_examples=64,
        progress=False,
    )
    for name in arms:
        [seed] = results.arm(name)["seeds"]
        assert all(0 <= own["score"] <= 1 for own in seed["readings"]["2"].values())


def test_a_gradient_has_no_ensemble() -> None:
    strategy = Gradient(optax.sgd(0.1))
    state = strategy.init(KEY, PARAMS)
    assert Ensemble().voters(KEY, strategy, state, PARAMS) is None
    own: Any = object()
    assert Ensemble().voters(KEY, own, state, PARAMS) is None, "a strategy of the user's own"


@functools.lru_cache
def evaluator(name: str) -> Evaluator:
    if name == "looped":
        task = nar.tasks.Copy(train_sizes=(1, 2), test_sizes=(2, 4), width=2)
        return Evaluator(task, LoopedTransformer(width=8, heads=2, mlp_ratio=1))
    task = nar.tasks.Parity(train_sizes=range(1, 4), test_sizes=(3, 6))
    return Evaluator(task, nar.models.GRU(hidden=3))


def test_an_ensemble_of_copies_scores_what_the_one_does() -> None:
    judge, key = evaluator("parity"), jax.random.key(TEST)
    params = judge.initial(jax.vmap(jax.random.key)(jnp.arange(1)))
    copies = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 7), params)

    strategy: Any = type("Copies", (), {"ensemble": staticmethod(lambda *_: copies)})()
    deployed = jax.tree.map(lambda leaf: leaf[0], params)
    found = judge.votes([Ensemble(7)], strategy, (), deployed, seed=0, examples=100, key=key)
    alone = judge.grid(params, examples=100, key=key)
    for size, judged in alone.items():
        assert judged is not None
        want = judged.of(0).plain()
        del want["loss"]
        assert found[str(size)] == {"ensemble": want}


# Steps.


def test_steps_are_the_last_loops_of_each_example() -> None:
    judge = evaluator("looped")
    model: Any = judge.model
    params = model.init(KEY, judge.spec)
    params = jax.tree.map(
        lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params
    )
    sizes = np.array([1, 4, 2, 4] * 8)
    inputs = judge.task.sample(KEY, sizes, max_size=4, batch=32).inputs
    _, shown = model.inspect(params, inputs, spec=judge.spec)
    answers, steps = np.asarray(shown["step_outputs"]), np.asarray(shown["steps"])
    for last in (1, 3):
        found = np.asarray(Steps(last).outputs(model, params, inputs, spec=judge.spec))
        for row, step in zip(*np.nonzero(np.asarray(inputs.mask)), strict=True):
            taken = int(steps[row, step])
            counted = answers[max(0, taken - last) : taken, row, step]
            lead = np.where(counted > 0, 1, -1).sum(axis=0)
            np.testing.assert_array_equal(found[row, step] > 0, lead > 0)
        if last == 1:
            plain = np.asarray(model.apply(params, inputs, spec=judge.spec))
            mask = np.asarray(inputs.mask)
            np.testing.assert_array_equal(found[mask] > 0, plain[mask] > 0)


def test_only_models_with_loops_have_steps() -> None:
    assert Steps().suits(evaluator("looped").model, evaluator("looped").spec)
    assert not Steps().suits(evaluator("parity").model, evaluator("parity").spec)
    graph = nar.tasks.get("clrs/bfs").spec
    assert not Steps().suits(nar.models.MPNN(), graph)
    assert Ensemble().suits(nar.models.MPNN(), graph)


def test_an_ensemble_of_graph_models_is_judged() -> None:
    task: Any = nar.tasks.get("clrs/bfs").example()
    model = nar.models.MPNN.example()
    params = model.init(KEY, task.spec)
    batch = task.sample(KEY, max(task.train_sizes), max_size=max(task.train_sizes), batch=4)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), params)
    vote = jax.jit(lambda own: Ensemble().outputs(model, own, batch.inputs, spec=task.spec))
    judged = task.evaluate(vote(stack), batch)
    alone = task.evaluate(model.apply(params, batch.inputs, spec=task.spec), batch)
    assert float(judged.score) == float(alone.score)


# From a run to its results.


ARMS = {
    "es": nar.Arm(ES(population=8, sigma=0.3), batch=4),
    "adam": nar.Arm(Gradient(nar.strategies.optimizer("adam", learning_rate=0.01)), batch=4),
}
READINGS = (Ensemble(members=5), Steps(last=2))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> nar.Results:
    return run(tmp_path_factory.mktemp("readings") / "run")


def run(folder: Path, **options: Any) -> nar.Results:
    judge = evaluator("looped")
    budget = nar.Budget(generations=4)
    options = {"readings": READINGS, "out": folder, "progress": False, **options}
    return nar.compare(
        judge.task, judge.model, ARMS, seeds=2, budget=budget, evaluation_examples=64, **options
    )


def test_results_have_every_vote(results: nar.Results) -> None:
    said = json.loads((results.folder / "results.json").read_text())
    schema.check_results(said, "here")
    assert said["readings"] == {"ensemble": {"members": 5}, "steps": {"last": 2}}
    for arm in said["arms"]:
        for seed in arm["seeds"]:
            assert set(seed["readings"]) == {"2", "4"}
            for entry in seed["readings"].values():
                assert set(entry) == {"ensemble", "steps"}
                assert set(entry["steps"]) == {"score", "exact"}
                assert (entry["ensemble"] is None) == (arm["name"] == "adam")


def test_the_ensemble_is_that_of_the_last_state(results: nar.Results) -> None:
    """Trained again by hand, with the trainer's keys, and counted in NumPy."""
    judge, size, seed = evaluator("looped"), 4, 1
    task = judge.task
    strategy: Any = ARMS["es"].strategy
    group = Group("es", ARMS["es"], judge, Settings(budget=nar.Budget(generations=4)))
    state = jax.tree.map(lambda leaf: leaf[0], group.start([seed])).strategy
    step = jax.jit(functools.partial(group._step, group.placement(1)))
    for index in range(4):
        state, _, _ = step(jax.random.key(seed), state, (), jnp.int32(index))
    members: Any = strategy.ensemble(
        jax.random.fold_in(jax.random.key(0x5EED_0004), seed), state, 5
    )
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(TEST), size), 0)
    batch = task.sample(key, size, max_size=size, batch=64)
    said = jax.vmap(lambda own: judge.model.apply(own, batch.inputs, spec=judge.spec))(members)
    bits = np.where(np.asarray(said) > 0, 1, -1).sum(axis=0) > 0
    mask = np.asarray(batch.mask)
    right = bits[mask] == (np.asarray(batch.targets)[mask] > 0.5)
    entry = results.arm("es")["seeds"][seed]["readings"]["4"]["ensemble"]
    np.testing.assert_allclose(entry["score"], right.mean(), rtol=1e-6)


def test_a_resumed_run_has_the_same_votes(tmp_path: Path, results: nar.Results) -> None:
    """Killed between the last checkpoint and its results: the state is that of the checkpoint."""
    folder = tmp_path / "run"
    shutil.copytree(results.folder, folder)
    for path in [folder / "results.json", *folder.glob("arms/es/seed-*/result.json")]:
        path.unlink()
    again = run(folder, resume=True)
    for arm in again.names:
        for one, other in zip(again.arm(arm)["seeds"], results.arm(arm)["seeds"], strict=True):
            assert one["readings"] == other["readings"]
            assert one["scores"] == other["scores"]
    with pytest.raises(InputError, match="resume=True under a changed config: readings was"):
        run(folder, resume=True, readings=(Ensemble(members=6),))


def test_a_config_says_the_readings(results: nar.Results) -> None:
    said = config.load_yaml(results.folder / "config.yaml")
    assert config.build(said).readings == READINGS
    bare = config.check({**said, "readings": {"steps": None}})
    assert config.build(bare).readings == (Steps(),)
    assert config.build({k: v for k, v in said.items() if k != "readings"}).readings == ()
    for value, message in [
        ({"ensembel": {}}, "did you mean 'ensemble'"),
        ({"ensemble": {"member": 3}}, "did you mean 'members'"),
        ({"ensemble": {"members": 0}}, "members=0 is not allowed"),
        (["ensemble"], "is not a mapping"),
        ({"ensemble": 3}, r"readings.ensemble=3 is not a mapping"),
    ]:
        with pytest.raises(InputError, match=message):
            config.build({**said, "readings": value})


def test_what_is_no_reading_is_refused() -> None:
    with pytest.raises(InputError, match="readings holds two called 'ensemble'"):
        readings.check([Ensemble(3), Ensemble(4)])
    with pytest.raises(InputError, match="readings holds 'ensemble', which is none"):
        readings.check(["ensemble"])


# The table and the page.


def with_votes() -> dict[str, Any]:
    """Sample results: es gains 2 points in every seed, the votes of adam are not finite once."""
    found: Any = copy.deepcopy(sample_results.sample_results(3))
    found["readings"] = {"ensemble": {"members": 32}, "steps": {"last": 5}}
    for arm in found["arms"]:
        for place, seed in enumerate(arm["seeds"]):
            seed["readings"] = {}
            for size, entry in seed["scores"].items():
                score = entry["score"]
                said = {"es": score + 0.02, "adam": None if place == 0 else score}.get(arm["name"])
                gradient = arm["name"] in ("adam", "sgd")
                own = {"score": said, "exact": said}
                seed["readings"][size] = {"ensemble": own, "steps": None}
                if gradient and arm["name"] != "adam":
                    seed["readings"][size]["ensemble"] = None
    return found


def test_what_a_vote_adds() -> None:
    found = {(vote.arm, vote.reading): vote.by_size for vote in votes.votes(with_votes())}
    for size in map(str, sample_results.SIZES):
        added = found["es", "ensemble"][size]
        assert added is not None
        np.testing.assert_allclose(added, 0.02, atol=1e-9)
        assert votes.points(added) == ("+2.0", "")
        assert found["sgd", "ensemble"][size] is None
        assert found["es", "steps"][size] is None
        lost = found["adam", "ensemble"][size]
        assert lost is not None
        first = with_votes()["arms"][2]["seeds"][0]["scores"][size]["score"]
        np.testing.assert_allclose(lost.value, -first / 3, rtol=1e-6)
        assert lost.low < lost.value < lost.high == 0
    assert votes.points(None) == ("n/a", "")
    assert votes.points(votes.stats.Estimate(-0.0123, -0.02, 0.0001)) == ("−1.2", "−2.0 to 0.0")


def test_table_and_page_show_votes_where_there_are_any() -> None:
    with open(os.devnull, "w") as nowhere:
        console = Console(width=100, record=True, file=nowhere)
        report.print_table(with_votes(), console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 100
    shown = page.render(with_votes())
    for part in ("What a vote adds", "+2.0", "n/a", "at most 32 members", "the last 5 loops"):
        assert part in " ".join(text.split()), part
        assert part in shown, part
    plain = sample_results.sample_results(3)
    assert "What a vote adds" not in page.render(plain)
    assert report.vote_table(plain) is None
