"""Equal tuning: spaces and their points, trials that share a program, and what is chosen."""

import dataclasses
import itertools
import json
import math

import numpy as np
import optax
import pytest
import yaml

import evojax_nar as nar
from evojax_nar import cli, config, strategies, trial_rows, tuning
from evojax_nar.errors import InputError
from evojax_nar.spaces import BATCH, Choice, Linear, Log, points
from evojax_nar.strategies import ES, Gradient, optimizer
from evojax_nar.trial_rows import arm_at
from evojax_nar.tuned import rank

pytestmark = pytest.mark.usefixtures("quick_compile")

TASK = nar.tasks.Parity(train_sizes=(1, 2), test_sizes=(2, 4))
MODEL = nar.models.RNN(hidden=4)
ADAM = nar.Arm(Gradient(optimizer("adam", learning_rate=0.01)), batch=8)
SPACE = {"optimizer.learning_rate": Log(1e-3, 0.1), "batch": Choice((4, 8))}


@dataclasses.dataclass(frozen=True)
class Guarded:
    """Parity whose examples beyond the training sizes cannot be drawn."""

    task: nar.tasks.Parity = TASK

    @property
    def train_sizes(self):
        return self.task.train_sizes

    @property
    def test_sizes(self):
        return self.task.test_sizes

    @property
    def spec(self):
        return self.task.spec

    def length(self, size):
        return self.task.length(size)

    def sample(self, key, size, *, max_size, batch):
        if max_size > max(self.train_sizes):
            raise AssertionError("a test size was drawn")
        return self.task.sample(key, size, max_size=max_size, batch=batch)

    def evaluate(self, outputs, batch):
        return self.task.evaluate(outputs, batch)


@dataclasses.dataclass(frozen=True)
class Bare:
    """A strategy of a user's own, with a setting and no space."""

    rate: float = 0.1

    @property
    def cost(self):
        return Gradient().cost

    def init(self, key, params):
        return Gradient(optimizer("sgd", learning_rate=self.rate)).init(key, params)

    def step(self, key, state, objective):
        inner = Gradient(optimizer("sgd", learning_rate=self.rate))
        return inner.step(key, state, objective)

    def params(self, state):
        return state.params


def tune(arms, out, task: nar.types.Task = TASK, **options):
    """Tune on the small task with a small budget, quietly."""
    given = {"budget": nar.Budget(generations=16), "share": 0.5, "trials": 4, "progress": False}
    return nar.tune(task, MODEL, arms, out=out, **{**given, **options})


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, quick_compile):
    """Two arms, tuned; one shares a program among its trials and has a space of its own."""
    arms = {"es": ES(population=8), "adam": ADAM}
    spaces = {
        "es": {"sigma": Log(0.01, 1.0), "optimizer.learning_rate": Log(0.003, 0.3)},
        "adam": SPACE,
    }
    return tune(arms, tmp_path_factory.mktemp("tuned") / "out", spaces=spaces)


@pytest.mark.parametrize("axis", [Log(1e-3, 10.0), Linear(-2.0, 6.0)])
def test_an_axis_is_uniform_on_its_own_scale(axis):
    u = np.linspace(0.0, 0.999, 37)
    found = np.asarray([axis.at(float(x)) for x in u])
    if isinstance(axis, Log):
        expected = 10 ** np.interp(u, [0, 1], [-3, 1])
    else:
        expected = np.interp(u, [0, 1], [-2, 6])
    # Three digits are kept: half a unit of the third is at most 1 / 200 of the number.
    assert np.all(np.abs(found - expected) <= np.abs(expected) / 200 + 1e-12)
    assert all(float(f"{x:.3g}") == x for x in found)


def test_choices_are_equally_likely():
    assert [Choice(("a", "b", "c")).at(u) for u in (0.0, 0.33, 0.34, 0.66, 0.67, 0.999)] == list(
        "aabbcc"
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Log(0.0, 1.0), "low=0.0"),
        (lambda: Log(1.0, 1.0), "high=1.0"),
        (lambda: Linear(2.0, 1.0), "high=1.0"),
        (lambda: Linear(math.nan, 1.0), "low=nan"),
        (lambda: Choice(()), "values=()"),
        (lambda: points({}, 4), "no axis"),
        (lambda: points({"a": Linear(0, 1)}, 0), "trials=0"),
        (lambda: points({"a": Linear(0, 1)}, 10**6), "trials=1000000"),
    ],
)
def test_what_is_no_axis_is_refused(make, said):
    with pytest.raises(InputError) as error:
        make()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", [0, 1])
def test_points_of_a_power_of_two_divide_each_axis_evenly(seed):
    """Sobol points in base 2: of 16, each sixteenth of an axis has one (Sobol 1967)."""
    space = {"a": Linear(0.0, 1.0), "b": Linear(0.0, 1.0), "c": Choice((1, 2, 3, 4))}
    found = points(space, 16, seed)
    assert found == points(space, 16, seed)
    assert found != points(space, 16, seed + 1)
    for path in "ab":
        # Rounding to three digits moves a number by 0.0005 at most, 1 / 125 of a sixteenth.
        places = np.sort([16 * point[path] for point in found])
        assert np.all(places >= np.arange(16) - 0.01)
        assert np.all(places <= np.arange(1, 17) + 0.01)
    assert sorted(point["c"] for point in found) == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4


def test_eight_points_of_four_axes_combine_all_halves():
    space = {path: Choice((0, 1)) for path in "abcd"}
    found = [tuple(point.values()) for point in points(space, 8)]
    for one, other in itertools.combinations(range(4), 2):
        pairs = sorted((point[one], point[other]) for point in found)
        assert pairs == sorted([(0, 0), (0, 1), (1, 0), (1, 1)] * 2)


def strategies_to_tune():
    own = [strategy() for strategy in strategies.ALL if strategy is not strategies.Evosax]
    estimates = [Gradient(optimizer(name, learning_rate=0.1)) for name in ("sgd", "lion")]
    evosax = [strategies.Evosax(name) for name in ("SNES", "CMA_ES", "Open_ES", "SimpleGA", "DES")]
    return [*own, *estimates, *evosax]


@pytest.mark.parametrize("strategy", strategies_to_tune(), ids=lambda s: f"{s.name}")
def test_each_strategy_takes_every_corner_of_its_space(strategy):
    space = {**strategy.space(), "batch": BATCH}
    assert len(space) >= 3
    for u in (0.0, 0.999):
        point = {path: axis.at(u) for path, axis in space.items()}
        said = config.describe_arm(arm_at("x", nar.Arm(strategy), point))
        for path, value in point.items():
            here = said
            for part in path.split("."):
                here = here[part]
            assert here == value, path
        rebuilt = config.build({**_config(), "arms": {"x": said}}).arms["x"]
        assert config.describe_arm(rebuilt) == said


def _config():
    return {"task": "parity", "model": "rnn", "budget": {"generations": 1}}


def test_other_settings_of_an_arm_stay():
    before = nar.Arm(
        ES(population=8, weight_decay=0.25, shaping=strategies.shaping.z_score), batch=5, batches=2
    )
    after = arm_at("es", before, {"sigma": 0.5, "optimizer.b1": 0.7})
    assert (after.batch, after.batches) == (5, 2)
    assert isinstance(after.strategy, ES)
    assert (after.strategy.weight_decay, after.strategy.sigma) == (0.25, 0.5)
    assert after.strategy.shaping == strategies.shaping.z_score
    assert dict(after.strategy.optimizer.numbers) == {"b1": 0.7, "learning_rate": 0.02}  # type: ignore[attr-defined]


def test_every_arm_has_equal_trials_and_no_more_than_their_budget(tuned):
    record = tuned.record
    assert record["seeds"] == [1000, 1001]
    assert record["budget"] == {"generations": 8}
    for name, entry in record["arms"].items():
        assert [trial["trial"] for trial in entry["trials"]] == [0, 1, 2, 3]
        assert all(seed["steps"] == 8 for t in entry["trials"] for seed in t["seeds"])
        summary = tuned.summary()[name]
        assert (summary["trials"], summary["seeds"]) == (4, [1000, 1001])
    # 8 steps of 8 members, 128 examples each, 2 seeds, 4 trials; gradients at 3 an example.
    assert record["arms"]["es"]["forward_equivalents"] == 8 * 8 * 128 * 2 * 4
    batches = [trial["point"]["batch"] for trial in record["arms"]["adam"]["trials"]]
    assert sorted(batches) == [4, 4, 8, 8]
    assert record["arms"]["adam"]["forward_equivalents"] == sum(8 * 3 * b * 2 for b in batches)


def test_points_are_those_of_the_sequence(tuned):
    found = [trial["point"] for trial in tuned.record["arms"]["adam"]["trials"]]
    assert found == points(SPACE, 4)


@pytest.mark.parametrize("name", ["es", "adam"])
def test_a_trial_that_shares_its_program_is_the_run_of_its_point_alone(tuned, name, tmp_path):
    arms = {"es": nar.Arm(ES(population=8)), "adam": ADAM}
    trial = tuned.record["arms"][name]["trials"][1]
    alone = nar.compare(
        TASK,
        MODEL,
        {name: arm_at(name, arms[name], trial["point"])},
        seeds=[1001],
        budget=nar.Budget(generations=8),
        evaluation_examples=8,
        out=tmp_path / "alone",
        progress=False,
    )
    curve, other = alone.arm(name)["seeds"][0]["curve"], trial["seeds"][1]["curve"]
    for key in ("step", "forward_equivalents"):
        assert [row[key] for row in curve] == [row[key] for row in other]
    for key in ("validation_loss", "deployed_loss", "validation_score"):
        # Float32, and sums in another order; eight steps do not let it grow.
        np.testing.assert_allclose(
            [row[key] for row in curve], [row[key] for row in other], rtol=1e-4, err_msg=key
        )


def test_trials_share_programs_where_their_sizes_are_equal():
    settings = tuning.Settings(nar.Budget(generations=4))
    evaluator = tuning.SpreadEvaluator(TASK, MODEL)
    plan = points({"sigma": Log(0.01, 1.0), "population": Choice((4, 8)), "batch": BATCH}, 8)
    programs = trial_rows.divide("es", nar.Arm(ES()), plan, evaluator, settings)
    assert sorted(trial for program in programs for trial in program.points) == list(range(8))
    sizes = [
        {(point["population"], point["batch"]) for point in program.points.values()}
        for program in programs
    ]
    assert all(len(own) == 1 for own in sizes)
    assert len(set.union(*sizes)) == len(programs) < 8


def test_what_is_chosen_is_best_and_stands_in_the_config(tuned):
    for name, entry in tuned.record["arms"].items():
        losses = [trial["loss"] for trial in entry["trials"]]
        assert entry["chosen"] == int(np.argmin(losses))  # no target was set
        last = [[s["curve"][-1]["deployed_loss"] for s in t["seeds"]] for t in entry["trials"]]
        np.testing.assert_allclose(losses, np.mean(last, axis=1), rtol=1e-6)
        point = entry["trials"][entry["chosen"]]["point"]
        plan = config.build(config.load_yaml(tuned.folder / "config.yaml"))
        assert plan.arms[name] == tuned.arms[name]
        assert arm_at(name, plan.arms[name], point) == plan.arms[name]
        assert plan.budget == nar.Budget(generations=16)
        assert plan.seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("best", "worse"),
    [
        ({"reached": 2, "forward_equivalents": 9}, {"reached": 1, "forward_equivalents": 1}),
        ({"reached": 1, "forward_equivalents": 8, "loss": 3.0}, {"reached": 1, "loss": 1.0}),
        ({"loss": 1.0, "forward_equivalents": 9}, {"loss": 2.0, "forward_equivalents": 1}),
        ({"loss": 5.0}, {"loss": None}),
        ({"trial": 0}, {"trial": 1}),
    ],
)
def test_the_ranking(best, worse):
    plain = {"reached": 0, "forward_equivalents": 9, "loss": 1.0, "trial": 2}
    assert rank({**plain, **best}) < rank({**plain, **worse})


def test_a_target_ends_a_trial_and_decides_by_cost(tmp_path):
    space = {"optimizer.learning_rate": Choice((0.001, 0.1))}
    found = tune(
        {"adam": ADAM},
        tmp_path / "out",
        spaces={"adam": space},
        budget=nar.Budget(generations=300),
        share=1.0,
        stop_loss=0.5,
        trials=2,
    )
    entry = found.record["arms"]["adam"]
    trials = {trial["point"]["optimizer.learning_rate"]: trial for trial in entry["trials"]}
    assert [seed["stopped"] for seed in trials[0.1]["seeds"]] == ["target", "target"]
    assert trials[0.1]["reached"] == 2
    assert trials[0.1]["forward_equivalents"] < trials[0.001]["forward_equivalents"]
    assert entry["chosen"] == trials[0.1]["trial"]


def test_no_test_size_is_drawn(tmp_path):
    options = {"budget": nar.Budget(generations=2), "progress": False}
    with pytest.raises(AssertionError, match="test size"):
        nar.compare(Guarded(), MODEL, {"adam": ADAM}, seeds=1, out=tmp_path / "a", **options)
    found = tune({"adam": ADAM}, tmp_path / "b", Guarded(), trials=2, spaces={"adam": SPACE})
    assert all(math.isfinite(trial["loss"]) for trial in found.record["arms"]["adam"]["trials"])


def test_tuning_finds_a_point_that_learns_on_fresh_seeds(tmp_path):
    """Of rates from useless to good: what is chosen solves two bits, the worst does not move."""
    space = {"optimizer.learning_rate": Log(1e-6, 0.1)}
    arm = nar.Arm(Gradient(optimizer("adam", learning_rate=0.01)), batch=16)
    budget = nar.Budget(generations=200)
    found = tune({"adam": arm}, tmp_path / "out", spaces={"adam": space}, budget=budget, share=1.0)
    entry = found.record["arms"]["adam"]
    worst = max(entry["trials"], key=lambda trial: trial["loss"])
    results = nar.compare(
        TASK,
        MODEL,
        {"chosen": found.arms["adam"], "worst": arm_at("adam", arm, worst["point"])},
        seeds=2,
        budget=budget,
        evaluation_examples=64,
        out=tmp_path / "fresh",
        progress=False,
    )
    loss = {
        name: max(seed["in_distribution"]["loss"] for seed in results.arm(name)["seeds"])
        for name in results.names
    }
    assert loss["chosen"] < 0.5 * loss["worst"], loss


def test_an_interrupted_tuning_goes_on_from_its_finished_trials(tuned, tmp_path, monkeypatch):
    arms, spaces, out = {"adam": ADAM}, {"adam": SPACE}, tmp_path / "out"
    trained, real = [], trial_rows.train_rows

    def stop_at_second(program, rows):
        trained.append({row.trial for row in rows})
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(program, rows)

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train_rows", stop_at_second)
        with pytest.raises(KeyboardInterrupt):
            tune(arms, out, spaces=spaces)
    assert not (out / "config.yaml").exists()
    assert len(list((out / "arms" / "adam").glob("trial-*.json"))) == 2
    with pytest.raises(InputError, match="trials was 4"):
        tune(arms, out, spaces=spaces, resume=True, trials=5)
    with pytest.raises(InputError, match="share was "):
        tune(arms, out, spaces=spaces, resume=True, share=0.25)

    again = []

    def watch(program, rows):
        again.append({row.trial for row in rows})
        return real(program, rows)

    monkeypatch.setattr(tuning, "train_rows", watch)
    found = tune(arms, out, spaces=spaces, resume=True)
    assert again == [trained[1]]
    assert trained[0] | trained[1] == {0, 1, 2, 3}
    assert found.record["arms"]["adam"] == tuned.record["arms"]["adam"]
    assert found.arms["adam"] == tuned.arms["adam"]


def test_a_strategy_without_a_space_is_refused_or_given_one(tmp_path):
    arms = {"mine": nar.Arm(Bare(), batch=8)}
    with pytest.raises(InputError, match="no search space; give one"):
        tune(arms, tmp_path / "a")
    with pytest.raises(InputError, match="was made in a script"):
        tune({"adam": Gradient(optax.adam(0.1))}, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    space = {"rate": Log(0.001, 1.0)}
    found = tune(arms, tmp_path / "b", spaces={"mine": space}, trials=2)
    strategy = found.arms["mine"].strategy
    assert isinstance(strategy, Bare)
    assert strategy.rate in [point["rate"] for point in points(space, 2)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trials": 0}, "trials=0"),
        ({"trials": 2.5}, "trials=2.5"),
        ({"seeds": [5, 1], "compare_seeds": [0, 1]}, "seeds=[1] are tuned on and compared on"),
        ({"seeds": 0}, "seeds=0"),
        ({"share": 0.0}, "share=0.0"),
        ({"share": 1.5}, "share=1.5"),
        ({"budget": nar.Budget(seconds=3.0)}, "budget.seconds=3.0"),
        ({"budget": nar.Budget(generations=1)}, "does not buy one step"),
        ({"spaces": {"adamm": SPACE}}, "spaces='adamm'"),
        ({"spaces": {"adam": {}}}, "spaces['adam']={}"),
        ({"spaces": {"adam": {"batch": (1, 2)}}}, "is not a search space"),
        ({"spaces": {"adam": {"sigma": Log(0.1, 1.0)}}}, "'sigma' is not known"),
        ({"spaces": {"adam": {"optimizer.rate": Log(0.1, 1.0)}}}, "'rate'"),
        ({"spaces": {"adam": {"batch": Linear(1.0, 2.0)}}}, "batch=1."),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(options, said, tmp_path):
    with pytest.raises(InputError) as error:
        tune({"adam": ADAM}, tmp_path / "out", **options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


TINY = {
    "evojax_nar": 1,
    "task": {"name": "parity", "train_sizes": [1, 2], "test_sizes": [2, 4]},
    "model": {"name": "rnn", "hidden": 2},
    "arms": {"sgd": {"strategy": "gradient", "optimizer": {"name": "sgd", "learning_rate": 0.1}}},
    "seeds": [0, 3],
    "budget": {"generations": 8},
    "stop_loss": 0.001,
}


@pytest.fixture(scope="module")
def commanded(tmp_path_factory, quick_compile):
    """A tuning from the command line: its config and its folder."""
    folder = tmp_path_factory.mktemp("commanded")
    path, out = folder / "tiny.yaml", folder / "out"
    path.write_text(yaml.safe_dump(TINY, sort_keys=False))
    argv = ["tune", "--config", path, "--trials", 2, "--share", 0.5, "--out", out, "--quiet"]
    assert cli.main([str(word) for word in argv]) == 0
    return path, out


def fails(capsys, *argv):
    assert cli.main([str(word) for word in argv]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("evojax-nar: ")
    return lines[0]


def test_the_command_writes_a_comparison_that_runs(commanded, tmp_path, capsys):
    path, out = commanded
    record = json.loads((out / "tuning.json").read_text())
    assert (record["trials"], record["seeds"]) == (2, [1000, 1001])
    assert record["budget"] == {"generations": 4}
    plan = config.build(config.load_yaml(out / "config.yaml"))
    given = config.build(config.load_yaml(path))
    assert (plan.seeds, plan.budget, plan.stop_loss) == (given.seeds, given.budget, 0.001)
    entry = record["arms"]["sgd"]
    point = entry["trials"][entry["chosen"]]["point"]
    sgd = Gradient(optimizer("sgd", learning_rate=0.1))
    assert point == points({**sgd.space(), "batch": BATCH}, 2)[entry["chosen"]]
    assert plan.arms["sgd"] == arm_at("sgd", given.arms["sgd"], point)
    argv = ["compare", "--config", out / "config.yaml", "--out", tmp_path / "run", "--quiet"]
    assert cli.main([*map(str, argv), "--evaluation-examples", "8"]) == 0


def test_the_command_is_resumed_without_its_flags_and_prints_a_table(commanded, capsys):
    _, out = commanded
    before = {name: (out / name).read_bytes() for name in ("tuning.json", "config.yaml")}
    assert cli.main(["tune", "--out", str(out), "--resume", "--quiet"]) == 0
    assert {name: (out / name).read_bytes() for name in before} == before
    shown = " ".join(capsys.readouterr().out.split())
    assert "compare --config" in shown
    assert "2 trials of 2 seeds" in shown
    assert "of at most 4 generations" in shown


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--trials", "0"], "trials='0'"),
        (["--trials", "few"], "trials='few'"),
        (["--tuning-seeds", "0"], "seeds='0'"),
        (["--share", "2"], "share=2"),
        (["--arms", "adm"], "arms='adm'"),
        (["--seconds", "5"], "budget.seconds=5"),
        (["--tensorboard"], "tensorboard=True"),
        (["--seeds", "1001"], "seeds="),
        (["--set", "seeds=[0, 1001]"], "seeds=[1001] are tuned on and compared on"),
    ],
)
def test_bad_flags_are_one_sentence(commanded, flags, said, tmp_path, capsys):
    line = fails(capsys, "tune", "--config", commanded[0], "--out", tmp_path / "out", *flags)
    assert said in line
    assert not (tmp_path / "out").exists()


def test_a_comparison_is_not_resumed_as_a_tuning(commanded, tmp_path, capsys):
    (tmp_path / "config.yaml").write_bytes((commanded[1] / "untuned.yaml").read_bytes())
    before = (tmp_path / "config.yaml").read_bytes()
    assert "no tuning" in fails(capsys, "tune", "--out", tmp_path, "--resume", "--quiet")
    assert (tmp_path / "config.yaml").read_bytes() == before
