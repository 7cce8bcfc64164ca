"""The trainer: budgets are kept and counted, finished seeds stay as they are, and runs repeat."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import evojax_nar as nar
from evojax_nar import cli, config
from evojax_nar.evaluator import CHUNK, Evaluator, examples_seen
from evojax_nar.files import Lines, load_params, save_params

pytestmark = pytest.mark.usefixtures("quick_compile")

TASK = nar.tasks.Parity(train_sizes=range(1, 4), test_sizes=(3, 6))
MODEL = nar.models.GRU(hidden=3)
ADAM = nar.Arm(nar.strategies.Gradient(optax.adam(1e-2)), batch=8)
ES = nar.Arm(nar.strategies.ES(population=8), batch=4)


def compare(folder: Path, arms: dict[str, Any], budget: nar.Budget, **options: Any) -> nar.Results:
    options = {"seeds": 2, "evaluation_examples": 16, "progress": False, **options}
    return nar.compare(TASK, MODEL, arms, budget=budget, out=folder, **options)


@pytest.mark.parametrize(
    ("budget", "adam_steps", "es_steps"),
    [
        (nar.Budget(forwards=1000), 1000 // (3 * 8), 1000 // (8 * 4)),
        (nar.Budget(examples=100), 100 // 8, 100 // 4),
        (nar.Budget(generations=7), 7, 7),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_counted_budget_is_spent_to_the_last_step_it_buys(
    tmp_path: Path, budget: nar.Budget, adam_steps: int, es_steps: int
) -> None:
    results = compare(tmp_path / "run", {"adam": ADAM, "es": ES}, budget)
    for name, steps, price, batch in (("adam", adam_steps, 24, 8), ("es", es_steps, 32, 4)):
        for seed in results.arm(name)["seeds"]:
            assert seed["stopped"] == "budget"
            assert seed["cost"]["generations"] == steps
            assert seed["cost"]["forward_equivalents"] == steps * price
            assert seed["cost"]["examples"] == steps * batch
            assert seed["curve"][-1]["step"] == steps


def test_a_seed_gives_every_arm_the_same_start_and_trains_alone_as_in_a_group(
    tmp_path: Path,
) -> None:
    together = compare(tmp_path / "a", {"adam": ADAM}, nar.Budget(generations=30), seeds=[3, 5])
    alone = compare(tmp_path / "b", {"adam": ADAM}, nar.Budget(generations=30), seeds=[5])
    for one, other in zip(
        jax.tree.leaves(together.arm("adam")["seeds"][1]["curve"]),
        jax.tree.leaves(alone.arm("adam")["seeds"][0]["curve"]),
        strict=True,
    ):
        if isinstance(one, float) and one > 0:  # times differ, and vmap rounds in another order
            assert other == pytest.approx(one, rel=1e-3) or one < 60
    evaluator = Evaluator(TASK, MODEL)
    keys = jax.vmap(jax.random.key)(jnp.asarray([3, 5], jnp.uint32))
    first, second = (evaluator.initial(keys), evaluator.initial(keys[1:]))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[0]), first, second)


def test_a_finished_seed_is_masked_and_costs_nothing_more(tmp_path: Path) -> None:
    budget = nar.Budget(generations=1200)
    free = compare(tmp_path / "free", {"adam": ADAM}, budget, seeds=3)
    curves = [seed["curve"] for seed in free.arm("adam")["seeds"]]
    lowest = [min(point["deployed_loss"] for point in curve) for curve in curves]
    # A target that the fastest seed reaches on the way and the slowest does not.
    target = float(np.sqrt(min(lowest) * max(lowest)))
    assert min(lowest) < target < max(lowest), "the seeds should differ"
    stopped = compare(tmp_path / "stopped", {"adam": ADAM}, budget, seeds=3, stop_loss=target)
    for seed, curve in zip(stopped.arm("adam")["seeds"], curves, strict=True):
        reached = [point for point in curve if point["deployed_loss"] <= target]
        last = reached[0] if reached else curve[-1]
        assert seed["stopped"] == ("target" if reached else "budget")
        assert seed["cost"]["generations"] == last["step"]
        assert seed["curve"][-1]["deployed_loss"] == last["deployed_loss"]
        assert len(seed["curve"]) == last["epoch"]


def test_the_same_config_repeats_a_run_bit_for_bit(tmp_path: Path) -> None:
    named = nar.strategies.optimizer("adam", learning_rate=0.01)
    arm = nar.Arm(nar.strategies.Gradient(named), batch=8)
    first = compare(tmp_path / "a", {"adam": arm}, nar.Budget(forwards=2000), seeds=1)
    path = tmp_path / "a" / "config.yaml"
    assert (
        cli.main(["compare", "--config", str(path), "--out", str(tmp_path / "b"), "--quiet"]) == 0
    )
    again = nar.load(tmp_path / "b")
    same = jax.tree.map(np.array_equal, first.parameters("adam", 0), again.parameters("adam", 0))
    assert all(jax.tree.leaves(same))
    assert first.arm("adam")["seeds"][0]["scores"] == again.arm("adam")["seeds"][0]["scores"]


def test_a_budget_in_seconds_saves_its_steps_and_replays_them(tmp_path: Path) -> None:
    named = nar.strategies.optimizer("adam", learning_rate=0.01)
    arm = nar.Arm(nar.strategies.Gradient(named), batch=512)
    first = compare(tmp_path / "a", {"adam": arm}, nar.Budget(seconds=0.3))
    steps = [seed["cost"]["generations"] for seed in first.arm("adam")["seeds"]]
    saved = config.load_yaml(tmp_path / "a" / "config.yaml")
    assert saved["replay"] == {"adam": steps}
    assert min(steps) > 0
    plan = config.build(saved)
    again = compare(tmp_path / "b", dict(plan.arms), plan.budget, replay=plan.replay)
    for seed in (0, 1):
        assert again.arm("adam")["seeds"][seed]["cost"]["generations"] == steps[seed]
        pair = (first.parameters("adam", seed), again.parameters("adam", seed))
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, *pair)))


@dataclasses.dataclass(frozen=True)
class Breaking:
    """A model whose outputs are NaN once a parameter has moved far enough."""

    name = "breaking"

    def max_size(self, spec: Any) -> None:
        return None

    def init(self, key: jax.Array, spec: Any) -> Any:
        return {"slope": jnp.zeros((2,))}

    def apply(self, params: Any, inputs: Any, *, spec: Any) -> jax.Array:
        slope = params["slope"]
        broken = jnp.where(jnp.abs(slope).max() > 0.05, jnp.nan, 1.0)
        return inputs.values * (1 + slope) * broken


def test_a_run_without_a_finite_loss_stops_says_so_and_keeps_what_it_had(tmp_path: Path) -> None:
    arm = nar.Arm(nar.strategies.Gradient(optax.sgd(0.05)), batch=8)
    results = nar.compare(
        TASK,
        Breaking(),
        {"sgd": arm},
        seeds=1,
        budget=nar.Budget(generations=4000),
        out=tmp_path / "run",
        evaluation_examples=16,
        progress=False,
    )
    seed = results.arm("sgd")["seeds"][0]
    assert seed["stopped"] == "unhealthy"
    assert seed["cost"]["generations"] < 4000
    assert any("not one evaluation of its last step was finite" in n for n in results.data["notes"])
    template = {"slope": jnp.zeros((2,))}
    kept = load_params(tmp_path / "run/arms/sgd/seed-0/deployed.npz", template)
    assert np.isfinite(kept["slope"]).all()
    assert np.abs(kept["slope"]).max() <= 0.05
    assert seed["scores"]["6"]["loss"] is not None


def test_models_that_cannot_run_a_size_are_not_applicable_there(tmp_path: Path) -> None:
    results = nar.compare(
        TASK,
        nar.models.MLP(hidden=(8,)),
        {"adam": ADAM},
        seeds=1,
        budget=nar.Budget(generations=3),
        out=tmp_path / "run",
        evaluation_examples=16,
        progress=False,
    )
    scores = results.arm("adam")["seeds"][0]["scores"]
    assert scores["6"] is None
    assert 0 <= scores["3"]["score"] <= 1


def test_results_say_what_readers_need(tmp_path: Path) -> None:
    results = compare(tmp_path / "run", {"adam": ADAM, "es": ES}, nar.Budget(forwards=1000))
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert stored == json.loads(json.dumps(results.data))
    assert stored["schema"] == "evojax_nar/results/1"
    assert stored["model"]["parameters"] == sum(
        leaf.size for leaf in jax.tree.leaves(MODEL.init(jax.random.key(0), TASK.spec))
    )
    assert stored["budget"] == {"kind": "forwards", "amount": 1000}
    assert "evojax_nar" in stored["environment"]
    for arm in stored["arms"]:
        assert {"name", "strategy", "summary", "seeds"} <= set(arm)
        for seed in arm["seeds"]:
            assert set(seed["scores"]) == {"3", "6"}
            assert {"score", "exact"} <= set(seed["scores"]["6"])
            assert seed["cost"]["flops"] > 0
            assert seed["cost"]["peak_bytes"] > 0
            assert seed["cost"]["device_seconds"] > 0
    text = (tmp_path / "run" / "results.json").read_text()
    assert str(Path.home()) not in text
    assert {p.name for p in (tmp_path / "run").iterdir()} >= {
        "results.json",
        "report.html",
        "curves.png",
        "generalisation.png",
        "config.yaml",
        "arms",
    }
    assert list((tmp_path / "run/arms/es/checkpoints").glob("*/*"))


def test_train_gives_one_run(tmp_path: Path) -> None:
    opaque = nar.Arm(nar.strategies.ES(population=8, optimizer=optax.sgd(0.1)), batch=4)
    run = nar.train(
        TASK, MODEL, opaque, seed=4, budget=nar.Budget(generations=3), out=tmp_path / "one",
        evaluation_examples=16, progress=False,
    )  # fmt: skip
    assert run.arm == "es"
    assert run.cost["generations"] == 3
    assert set(run.scores) == {"3", "6"}
    assert run.results.data["arms"][0]["seeds"][0]["seed"] == 4
    # The strategy was made in a script, and still what it deployed can be read, here and later.
    shapes = jax.tree.map(jnp.shape, run.params)
    assert shapes == jax.tree.map(jnp.shape, MODEL.init(jax.random.key(0), TASK.spec))
    again = nar.load(tmp_path / "one").parameters("es", 4)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, run.params, again)))


def test_an_evaluation_sees_as_many_examples_as_it_says() -> None:
    for wanted in (1, CHUNK, CHUNK + 1, 1000):
        seen = examples_seen(wanted)
        assert wanted <= seen < wanted + CHUNK
    judged = Evaluator(TASK, MODEL).at(
        3,
        jax.tree.map(lambda leaf: leaf[None], MODEL.init(jax.random.key(0), TASK.spec)),
        examples=100,
        key=jax.random.key(1),
    )
    assert judged is not None
    # 100 examples are seen as two chunks of 50, so every score is a multiple of 1 / 100.
    assert float(judged.score[0] * 100) == pytest.approx(round(float(judged.score[0] * 100)))


def test_files_are_cut_back_and_parameters_come_back(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "metrics.jsonl")
    lines.append({"a": 1.0})
    size = lines.size()
    lines.append({"a": float("nan")})
    assert lines.read() == [{"a": 1.0}, {"a": None}]
    lines.cut(size)
    assert lines.read() == [{"a": 1.0}]
    params = {"layer": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "bias": jnp.ones(2)}
    save_params(tmp_path / "params.npz", params)
    jax.tree.map(
        np.testing.assert_array_equal, load_params(tmp_path / "params.npz", params), params
    )
    with pytest.raises(nar.InputError, match="another model: 'bias' should have shape"):
        load_params(tmp_path / "params.npz", {"bias": jnp.ones(3)})
    (tmp_path / "params.npz").write_bytes(b"not a zip")
    with pytest.raises(nar.InputError, match="is damaged"):
        load_params(tmp_path / "params.npz", params)
