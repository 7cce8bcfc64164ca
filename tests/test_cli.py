"""The command line: what it does on a tiny run, and one sentence for every mistake."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from sample_results import sample_results

from evojax_nar import cli, commands, compare, config, load, planning, schema, stats
from evojax_nar.errors import InputError

TINY = {
    "evojax_nar": 1,
    "task": {"name": "parity", "train_sizes": [1, 2], "test_sizes": [2, 4]},
    "model": {"name": "rnn", "hidden": 2},
    "arms": {
        "small": {"strategy": "es", "batch": 8, "population": 4},
        "adam": {"strategy": "gradient", "batch": 8},
    },
    "seeds": [0, 3],
    "budget": {"generations": 2},
    "evaluation_examples": 8,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The config of a tiny comparison, and its finished results folder."""
    folder = tmp_path_factory.mktemp("tiny")
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY, sort_keys=False))
    out = folder / "out"
    assert cli.main(["compare", "--config", str(path), "--out", str(out), "--quiet"]) == 0
    return path, out


@pytest.fixture
def damaged(tiny, tmp_path):
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(tiny[1], tmp_path / "copy"))


def fails(capsys, *argv, code=2):
    """Run the command line, hold it to one line on standard error, and return that line."""
    assert cli.main([str(argument) for argument in argv]) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("evojax-nar: ")
    return lines[0]


def test_a_comparison_leaves_what_it_says(tiny, capsys):
    path, out = tiny
    results = load(out)
    assert results.names == ["small", "adam"]
    assert [seed["seed"] for seed in results.arm("adam")["seeds"]] == [0, 3]
    for name in ("config.yaml", "results.json", "report.html", "curves.png"):
        assert (out / name).is_file()
    assert config.build(config.load_yaml(out / "config.yaml")) == config.build(
        config.load_yaml(path)
    )


def test_a_finished_run_is_resumed_without_change(tiny, capsys):
    before = (tiny[1] / "results.json").read_bytes()
    assert cli.main(["compare", "--out", str(tiny[1]), "--resume", "--quiet"]) == 0
    assert (tiny[1] / "results.json").read_bytes() == before
    assert "report.html" in capsys.readouterr().out


def test_evaluate_without_options_gives_the_numbers_of_the_run(tiny, tmp_path, capsys):
    file = tmp_path / "numbers.json"
    assert cli.main(["evaluate", "--run", str(tiny[1]), "--json", str(file)]) == 0
    numbers = json.loads(file.read_text())
    for row in numbers["evaluations"]:
        arm = load(tiny[1]).arm(row["arm"])
        seed = next(entry for entry in arm["seeds"] if entry["seed"] == row["seed"])
        for key, value in seed["scores"][str(row["size"])].items():
            assert row[key] == pytest.approx(value, rel=1e-6)
    assert len(numbers["evaluations"]) == 2 * 2 * 2
    assert "4 *" in capsys.readouterr().out


def test_evaluate_at_another_size_and_seed(tiny, tmp_path):
    file = tmp_path / "numbers.json"
    options = ["--arm", "adam", "--sizes", "6", "--examples", "100", "--seed", "7"]
    assert cli.main(["evaluate", "--run", str(tiny[1]), *options, "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["evaluations"]
    assert [(row["size"], row["seed"]) for row in rows] == [(6, 0), (6, 3)]
    results = load(tiny[1])
    # All 64 inputs of size 6 give the true score; 100 drawn ones lie within 4 deviations of it.
    batch = results.task.encode_windows(np.arange(64)[:, None] >> np.arange(6) & 1)  # type: ignore[attr-defined]
    for row in rows:
        params = results.parameters("adam", row["seed"])
        outputs = results.model.apply(params, batch.inputs, spec=results.task.spec)
        assert abs(row["score"] - float(results.task.evaluate(outputs, batch).score)) <= 0.2


def test_predict_shows_what_the_model_says_of_a_file(tiny, tmp_path, capsys):
    file, told = tmp_path / "bits.bin", tmp_path / "told.json"
    file.write_bytes(bytes([0b10110000, 0b11100101]))
    options = ["--arm", "small", "--seed", "3", "--window", "5", "--json", str(told)]
    assert cli.main(["predict", "--run", str(tiny[1]), "--input", str(file), *options]) == 0
    answers = json.loads(told.read_text())
    results = load(tiny[1])
    bits = np.unpackbits(np.frombuffer(file.read_bytes(), np.uint8))[:15].reshape(3, 5)
    batch = results.task.encode_windows(bits)  # type: ignore[attr-defined]
    outputs = results.model.apply(
        results.parameters("small", 3), batch.inputs, spec=results.task.spec
    )
    said = ["odd" if odd else "even" for odd in np.asarray(outputs)[:, -1].argmax(axis=-1)]
    assert [window["predicted"] for window in answers["shown"][:3]] == said
    assert [window["input"] for window in answers["shown"]] == ["10110", "00011", "10010", "1"]
    out = capsys.readouterr().out
    assert "beyond training" in out
    assert f"windows right: {answers['exact']} of 4" in out


def test_report_makes_plots_and_page_again(damaged, capsys):
    page = (damaged / "report.html").read_bytes()
    for name in ("report.html", "curves.png", "generalisation.png"):
        (damaged / name).unlink()
    assert cli.main(["report", "--run", str(damaged)]) == 0
    assert (damaged / "report.html").read_bytes() == page
    assert (damaged / "curves.png").is_file()
    assert "small" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["tasks", "models", "strategies"])
def test_list(kind, capsys):
    assert cli.main(["list", kind]) == 0
    out = capsys.readouterr().out
    for name in commands.listing.KINDS[kind].names():
        assert name in out


@pytest.mark.parametrize("command", [[], *([name] for name in cli.COMMANDS)])
def test_help(command, capsys):
    assert cli.main([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "usage: evojax-nar" in out
    if command and command != ["list"]:
        for name in cli.COMMANDS[command[0]].__dataclass_fields__:
            assert f"--{name.replace('_', '-')}" in out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("evojax-nar ")


def test_the_help_needs_no_jax():
    code = (
        "import sys, types; package = types.ModuleType('evojax_nar'); "
        f"package.__path__ = [{str(Path(cli.__file__).parent)!r}]; "
        "sys.modules['evojax_nar'] = package; import evojax_nar.cli as cli; "
        "cli.main(['compare', '--help']); assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


MISTAKES = [
    (["--task", "parrity"], ["'parrity'", "'parity'"]),
    (["--model", "lstn"], ["'lstn'", "'lstm'"]),
    (["--arms", "ess"], ["arms='ess'", "'es'"]),
    (["--arms"], ["arms"]),
    (["--hidden", "0"], ["hidden='0'"]),
    (["--hidden", "many"], ["hidden='many'"]),
    (["--model", "transformer", "--hidden", "3"], ["hidden", "transformer"]),
    (["--seeds", "0"], ["seeds='0'"]),
    (["--seeds", "-1"], ["seeds='-1'"]),
    (["--seeds", "1.5"], ["seeds='1.5'"]),
    (["--seeds", "x"], ["seeds='x'"]),
    (["--seeds", "1e9"], ["seeds=1000000000"]),
    (["--forwards", "nan"], ["forwards='nan'"]),
    (["--forwards", "0"], ["forwards=0"]),
    (["--forwards", "-5"], ["forwards=-5"]),
    (["--forwards", "10"], ["budget.forwards=10", "one step"]),
    (["--seconds", ".inf"], ["seconds='.inf'"]),
    (["--forwards", "1e6", "--seconds", "3"], ["--forwards 1e6", "--seconds 3"]),
    (["--examples", "[1]"], ["examples='[1]'"]),
    (["--generations", "true"], ["generations='true'"]),
    (["--train-sizes", "0"], ["train_sizes='0'"]),
    (["--train-sizes", "5-1"], ["train_sizes='5-1'"]),
    (["--test-sizes", "a,b"], ["test_sizes='a,b'"]),
    (["--test-sizes", "1-999999999"], ["test_sizes='1-999999999'"]),
    (["--stop-loss", "low"], ["stop_loss='low'"]),
    (["--evaluation-examples", "0"], ["evaluation_examples='0'"]),
    (["--forward-dtype", "float8"], ["forward_dtype='float8'"]),
    (["--chunk", "few"], ["chunk='few'"]),
    (["--set", "sigma"], ["set='sigma'"]),
    (["--set", "arms.es.sigma=!!python/name:os.system"], ["set=", "tag"]),
    (["--set", "arms.es.sigma=-1"], ["arm es", "sigma=-1"]),
    (["--set", "arms.es.sgma=1"], ["arm es", "'sgma'", "'sigma'"]),
    (["--set", "arms.es.population=7"], ["arm es", "population=7"]),
    (["--set", "arms.es.batch=0"], ["arms.es.batch=0"]),
    (["--set", "arms.es=3"], ["arms.es=3"]),
    (["--set", "arms={../x: {strategy: es}}"], ["arms='../x'"]),
    (["--set", "arms.<b>.strategy=es"], ["arms='<b>'"]),
    (["--set", "task.width=3"], ["'width'"]),
    (["--set", "seeds.x=3"], ["set='seeds.x=3'"]),
    (["--set", "colour=red"], ["'colour'"]),
    (["--resume"], ["--resume", "--out"]),
    (["--overwrite"], ["--overwrite", "--out"]),
    (["--config", "nothing.yaml"], ["config='nothing.yaml'", "does not exist"]),
    (["--config", "."], ["config='.'", "folder"]),
    (["--config", "\x1b[31mred"], ["config=", "\\x1b"]),
]


@pytest.mark.parametrize(("argv", "said"), MISTAKES, ids=[" ".join(m[0]) for m in MISTAKES])
def test_mistakes_in_a_comparison(argv, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sentence = fails(capsys, "compare", *argv)
    for part in said:
        assert part in sentence
    # Nothing is left behind, not even an empty results folder.
    assert not list(tmp_path.glob("results/*"))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["compare", "--sedes", "3"], "--sedes"),
        (["compare", "--seeds"], "--seeds"),
        (["compere"], "compere"),
        (["list", "taks"], "taks"),
        (["evaluate"], "--run"),
        ([], "compare"),
    ],
)
def test_flags_that_do_not_exist(argv, said, capsys):
    assert cli.main(argv) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["train"], ["strategy=None", "es"]),
        (["train", "--strategy", "addam"], ["'addam'", "'adam'"]),
        (["train", "--strategy", "es", "--seed", "-1"], ["seed='-1'"]),
        (["train", "--strategy", "es", "--seed", "1e12"], ["seeds=1000000000000"]),
        (["report", "--run", "nothing"], ["run='nothing'"]),
        (["evaluate", "--run", "."], ["run='.'"]),
        (["predict", "--run", "a\0b", "--input", "x"], ["run="]),
    ],
)
def test_mistakes_in_other_commands(argv, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sentence = fails(capsys, *argv)
    for part in said:
        assert part in sentence


def test_mistakes_about_a_run(tiny, tmp_path, capsys):
    path, out = tiny
    run = ["--run", out]
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    some = tmp_path / "some"
    some.write_bytes(b"abc")
    for argv, said in [
        (["compare", "--config", path, "--out", out], f"out={str(out)!r} exists already"),
        (["compare", "--config", path, "--out", some], "is a file"),
        (["compare", "--config", path, "--out", some / "x"], "cannot be written"),
        (["compare", "--out", out, "--resume", "--overwrite"], "overwrite"),
        (["compare", "--config", path, "--seeds", 3, "--out", out, "--resume"], "seeds was"),
        (["train", "--out", out, "--resume"], "2 arms"),
        (["evaluate", *run, "--arm", "smal"], "did you mean 'small'"),
        (["evaluate", *run, "--sizes", "x"], "sizes='x'"),
        (["evaluate", *run, "--examples", "0"], "examples='0'"),
        (["evaluate", *run, "--seed", "1.5"], "seed='1.5'"),
        (["evaluate", *run, "--json", tmp_path / "no" / "x"], "json="),
        (["predict", *run, "--input", "nothing"], "input='nothing' does not exist"),
        (["predict", *run, "--input", tmp_path], "is a folder"),
        (["predict", *run, "--input", empty], "is empty"),
        (["predict", *run, "--input", some, "--window", "0"], "window=0"),
        (["predict", *run, "--input", some, "--window", "wide"], "window='wide'"),
        (["predict", *run, "--input", some, "--limit", "-1"], "limit='-1'"),
        (["predict", *run, "--input", some, "--seed", "1"], "seed=1 was not trained"),
        (["predict", *run, "--input", some, "--arm", "sgd"], "arm='sgd'"),
        (["predict", *run, "--input", some, "--column", "x"], "column='x'"),
        (["predict", *run, "--input", some, "--json", tmp_path], "json="),
    ]:
        assert said in fails(capsys, *argv), argv


def results_with(damaged, change):
    path = damaged / "results.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


DAMAGE = {
    "schema": (lambda d: d.update(schema="other/1"), "other/1"),
    "no arms": (lambda d: d.pop("arms"), "arms"),
    "empty arms": (lambda d: d.update(arms=[]), "no arms"),
    "arms of another type": (lambda d: d.update(arms={"a": 1}), "arms="),
    "no seeds": (lambda d: d["arms"][0].update(seeds=[]), "no seed"),
    "leaving the folder": (lambda d: d["arms"][0].update(name="../../x"), "'../../x'"),
    "seed as text": (lambda d: d["arms"][0]["seeds"][0].update(seed="0"), "arms[0].seeds[0].seed"),
    "score as text": (
        lambda d: d["arms"][0]["seeds"][0]["scores"]["2"].update(score="high"),
        "arms[0].seeds[0].scores.2.score='high'",
    ),
    "score not finite": (
        lambda d: d["arms"][1]["seeds"][0]["scores"]["2"].update(score=float("nan")),
        "score=nan",
    ),
    "sizes as text": (lambda d: d["task"].update(test_sizes="2"), "task.test_sizes='2'"),
    "size as flag": (lambda d: d["task"].update(train_sizes=[True]), "task.train_sizes[0]=True"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_results_of_another_form_are_refused(name, damaged, capsys):
    change, said = DAMAGE[name]
    results_with(damaged, change)
    for command in ("report", "evaluate"):
        assert said in fails(capsys, command, "--run", damaged)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '"x"', "\xff"])
def test_results_that_are_not_json_are_refused(text, damaged, capsys):
    (damaged / "results.json").write_bytes(text.encode("latin-1"))
    assert "run=" in fails(capsys, "report", "--run", damaged).replace("file=", "run=")


def test_a_damaged_run_is_refused(damaged, capsys, tmp_path):
    some = tmp_path / "some"
    some.write_bytes(b"abc")
    predict = ["predict", "--run", damaged, "--input", some, "--arm", "adam", "--seed", "0"]
    weights = damaged / "arms" / "adam" / "seed-0" / "deployed.npz"
    weights.write_bytes(weights.read_bytes()[:100])
    assert "damaged" in fails(capsys, *predict)
    (damaged / "config.yaml").write_text("a: &x 1")
    assert "anchor" in fails(capsys, *predict)
    (damaged / "config.yaml").unlink()
    assert "config.yaml" in fails(capsys, *predict)


def test_sample_results_fit_the_schema():
    schema.check_results(sample_results(), "sample")
    schema.check_results(stats.summarise(sample_results()), "sample")
    with pytest.raises(InputError, match=r"task\.train_sizes"):
        schema.check_results({**sample_results(), "task": {"name": "x"}}, "sample")


def resolved(*argv):
    """The config that a command line says, up to its checks."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "run", lambda flags: seen.append(planning.resolve(flags)) or 0)
        assert cli.main([str(argument) for argument in argv]) == 0
    return seen[0]


def test_no_flags_are_the_preset():
    assert resolved("compare") == config.load_preset()


def test_flags_override_the_file_and_the_file_the_preset(tiny):
    said = resolved(
        *("compare", "--config", tiny[0], "--hidden", 5, "--forwards", "1e6", "--seeds", 4),
        *("--arms", "adam", "random_search"),
        *("--stop-loss", "none", "--train-sizes", "1-3", "--set", "arms.adam.batch=16"),
        *("--set", "model.layers=2", "task.test_sizes=[9]"),
    )
    assert said["model"] == {"name": "rnn", "hidden": 5, "layers": 2}
    assert said["budget"] == {"forwards": 1_000_000}
    assert said["seeds"] == [0, 1, 2, 3]
    assert list(said["arms"]) == ["adam", "random_search"]
    assert said["arms"]["adam"]["batch"] == 16
    assert said["stop_loss"] is None
    assert said["task"] == {"name": "parity", "train_sizes": "1-3", "test_sizes": [9]}
    assert said["evaluation_examples"] == 8


def test_another_task_has_its_own_sizes_and_says_where_the_settings_come_from():
    said = resolved("compare", "--task", "copy")
    assert said["task"] == {"name": "copy"}
    assert said["arms"] == config.load_preset()["arms"]
    assert "tuned on parity" in planning.notes(said)[0]
    assert planning.notes(resolved("compare")) == []
    assert planning.notes(resolved("compare", "--task", "copy", "--arms", "random_search")) == []
    # What is written into the folder says the same, so a resumed run has the same notes.
    plan = config.build(said)
    kept = config.describe(plan.task, plan.model, plan.arms, seeds=1, budget=plan.budget)
    assert planning.notes(kept) == planning.notes(said)


def test_an_arm_counts_as_tuned_while_it_is_what_was_chosen():
    tuned = config.load_preset()["tuning"]
    assert resolved("compare", "--generations", 3)["tuning"] == tuned
    assert list(resolved("compare", "--arms", "sgd", "es", "snes")["tuning"]) == [
        *("es", "snes", "sgd")
    ]
    assert "es" not in resolved("compare", "--set", "arms.es.sigma=0.5")["tuning"]
    assert resolved("compare", "--task", "copy")["tuning"] == {}
    assert resolved("compare", "--model", "gru")["tuning"] == {}


def test_a_replay_is_dropped_where_a_flag_changes_the_run(tmp_path):
    path = tmp_path / "replay.yaml"
    said = {**TINY, "budget": {"seconds": 1}, "replay": {"small": [3, 4], "adam": [5, 6]}}
    path.write_text(yaml.safe_dump(said))
    assert resolved("compare", "--config", path)["replay"] == said["replay"]
    assert resolved("compare", "--config", path, "--arms", "adam")["replay"] is None


def test_train_keeps_one_arm_and_one_seed(tiny, tmp_path):
    said = resolved("train", "--config", tiny[0], "--strategy", "adam", "--seed", 7)
    assert list(said["arms"]) == ["adam"]
    assert said["arms"]["adam"] == TINY["arms"]["adam"]
    assert said["seeds"] == [7]
    assert resolved("train", "--strategy", "random_search")["arms"] == {
        "random_search": {"strategy": "random_search"}
    }


def test_train_hands_one_arm_and_seed_to_compare(tiny, tmp_path, monkeypatch):
    calls = []

    def spy(task, model, arms, **options):
        calls.append((arms, options))
        return load(tiny[1])

    monkeypatch.setattr(commands, "compare", spy)
    argv = ["train", "--config", tiny[0], "--strategy", "small", "--seed", "3", "--out", tmp_path]
    assert cli.main([str(argument) for argument in argv]) == 0
    ((arms, options),) = calls
    assert arms == {"small": config.build(TINY).arms["small"]}
    assert options["seeds"] == (3,)
    assert options["out"] == tmp_path
    assert options["progress"]


def test_an_interrupt_says_how_to_continue(tiny, tmp_path, capsys, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "compare", interrupt)
    out = tmp_path / "my run"
    sentence = fails(capsys, "compare", "--config", tiny[0], "--out", out, "--quiet", code=130)
    assert f"evojax-nar compare --out '{out}' --resume --quiet" in sentence
    monkeypatch.setattr(commands, "load", interrupt)
    assert "interrupted" in fails(capsys, "report", "--run", out, code=130)


def test_errors_of_files_and_memory_are_one_sentence(tiny, tmp_path, capsys, monkeypatch):
    def fail_with(error):
        def failing(*args, **kwargs):
            raise error

        monkeypatch.setattr(commands, "compare", failing)
        return fails(capsys, "compare", "--config", tiny[0], "--out", tmp_path / "x", "--quiet")

    assert "'a/b' cannot be read or written (No space left" in fail_with(
        OSError(28, "No space left on device", "a/b")
    )
    assert "memory" in fail_with(MemoryError())
    full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
    assert "memory" in fail_with(full)


def test_a_logger_that_is_not_installed_is_named(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    start = ["compare", "--config", tiny[0], "--out", tmp_path / "x"]
    assert "evojax-nar[tensorboard]" in fails(capsys, *start, "--tensorboard")
    assert "evojax-nar[wandb]" in fails(capsys, *start, "--wandb", "mine")


def test_the_public_compare_refuses_arm_names_too():
    plan = config.build(TINY)
    with pytest.raises(InputError, match="arms='a/b'"):
        compare(plan.task, plan.model, {"a/b": plan.arms["adam"]}, seeds=1, budget=plan.budget)
