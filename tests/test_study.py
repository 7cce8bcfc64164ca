"""Studies: what a config means, what is not equal, and that a table can be made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from evojax_nar import cli, fairness, study
from evojax_nar.errors import InputError
from evojax_nar.study import controls, plan
from evojax_nar.study.job import settle

SMALL: dict[str, Any] = {
    "title": "A small study",
    "tasks": {"parity": {"name": "parity", "train_sizes": "1-3", "test_sizes": [3, 6]}},
    "models": {"rnn": {"name": "rnn", "hidden": 3}},
    "arms": {
        "adam": {
            "strategy": "gradient",
            "batch": 16,
            "optimizer": {"name": "adam", "learning_rate": 0.01},
        },
        "es": {"strategy": "es", "batch": 8, "population": 8},
    },
    "seeds": 2,
    "budget": {"forwards": 960},
    "multiples": [1, 2],
    "evaluation_examples": 32,
}


def test_a_study_is_every_pair_and_its_controls() -> None:
    found = study.jobs(
        plan.check({**SMALL, "models": {"rnn": SMALL["models"]["rnn"], "gru": "gru"}})
    )
    assert found == [
        f"parity/{model}/{arm}"
        for model in ("rnn", "gru")
        for arm in ("adam", "es", "random", "adam-small", "es-score")
    ]
    config = plan.check({**SMALL, "skip": {"*/rnn/es*": "a reason"}})
    assert study.jobs(config, ["*/*/*a*"]) == [
        "parity/rnn/adam",
        "parity/rnn/random",
        "parity/rnn/adam-small",
    ]


def test_controls_take_the_settings_of_their_parents() -> None:
    arms = SMALL["arms"]
    assert controls.settings("adam-small", arms) == {**arms["adam"], "batch": 8}
    assert controls.settings("es-score", arms) == {**arms["es"], "fitness": "score"}
    assert controls.settings("random", arms) == {"strategy": "random_search"}
    assert controls.names({"adam": arms["adam"]}) == ["random"]
    assert controls.names({"es": arms["es"], "guess": {"strategy": "random_search"}}) == [
        "es-score"
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"title": 3}, "title=3 is not text"),
        ({"arm": {}}, "did you mean 'arms'"),
        ({"tasks": {}}, "tasks={} is not a mapping"),
        ({"tasks": {"a/b": "parity"}}, "tasks='a/b' is not a short name"),
        ({"tasks": {"parity": "partiy"}}, "job parity/rnn/adam: task='partiy'"),
        ({"arms": {"adam-small": "gradient"}}, "is the name of a control"),
        ({"arms": {"es": {"strategy": "es", "sigma": 0}}}, "arm es: sigma=0"),
        ({"multiples": [1, 1]}, "says one twice"),
        ({"multiples": [0]}, "multiples=0"),
        ({"multiples": 10}, "multiples=10 is not a list"),
        ({"tuning": {"trial": 3}}, "did you mean 'trials'"),
        ({"tuning": {"spaces": {"snes": {}}}}, "tuning.spaces='snes' is not known"),
        ({"tuning": {"spaces": {"es": {"sigma": [1, 2]}}}}, "tuning.spaces.es.sigma=[1, 2]"),
        ({"tuning": {"spaces": {"es": {"sigma": {"log": [2, 1]}}}}}, "high=1"),
        ({"tuning": {"share": 2}}, "tuning.share=2 is above 1"),
        ({"skip": {"*": ""}}, "is not a reason"),
        ({"evojax_nar_study": 2}, "evojax_nar_study=2 is not a known format"),
    ],
)
def test_a_bad_study_is_one_sentence(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        plan.check({**SMALL, **change})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pattern_must_match() -> None:
    with pytest.raises(InputError, match="matches no job"):
        study.jobs(plan.check(SMALL), ["copy/*"])


EQUAL: dict[str, Any] = {
    "task": {"name": "parity", "train_sizes": [1, 2]},
    "model": {"name": "rnn", "hidden": 4},
    "seeds": [0, 1],
    "budget": {"kind": "forwards", "amount": 100},
    "tuning": {"trials": 8, "seeds": 2, "share": 0.25},
    "stop_loss": 0.1,
    "validation_examples": 512,
    "evaluation_examples": 64,
    "forward_dtype": "float32",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": {"name": "parity", "train_sizes": [1, 3]}}, "data.*train_sizes"),
        ({"evaluation_examples": 128}, "data.*test examples 128"),
        ({"model": {"name": "rnn", "hidden": 8}}, "model.*hidden 8"),
        ({"seeds": [0, 2]}, "initial parameters"),
        ({"budget": {"kind": "forwards", "amount": 200}}, "budget.*amount 200"),
        ({"tuning": {"trials": 16, "seeds": 2, "share": 0.25}}, "tuning.*trials 16"),
        ({"tuning": None}, "tuning.*none"),
        ({"stop_loss": None}, "stop them early.*stop_loss none"),
        ({"validation_examples": 64}, "stop them early.*validation examples 64"),
        ({"forward_dtype": "bfloat16"}, "precision.*bfloat16"),
    ],
)
def test_what_is_not_equal_is_said(change: dict[str, Any], said: str) -> None:
    import re

    one, two = fairness.conditions(**EQUAL), fairness.conditions(**{**EQUAL, **change})
    sentences = fairness.unequal("parity with rnn", {"adam": one, "es": two, "snes": one})
    assert any(re.search(said, sentence) for sentence in sentences), sentences
    assert all("adam, snes: " in sentence and "; es: " in sentence for sentence in sentences)
    assert fairness.unequal("parity with rnn", {"adam": one, "es": one}) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("studies") / "small"
    out.mkdir()
    plan.save(plan.check(SMALL), out)
    for job in study.jobs(plan.check(SMALL), ["*/adam", "*/es"]):
        study.run_job(SMALL, job, str(out))
    return out


def test_rows_hold_what_the_jobs_found(finished: Path) -> None:
    found = study.collect(finished)
    assert found["schema"] == study.SCHEMA
    assert found["unequal"] == []
    rows = {(row["arm"], row["multiple"]): row for row in found["rows"]}
    assert set(rows) == {(arm, multiple) for arm in ("adam", "es") for multiple in (1, 2)}
    for (arm, multiple), row in rows.items():
        own = json.loads((finished / f"parity/rnn/{arm}/x{multiple}/results.json").read_text())
        for ours, theirs in zip(row["seeds"], own["arms"][0]["seeds"], strict=True):
            assert ours["scores"] == theirs["scores"]
            # Both arms can spend it all: 960 is 20 steps of 48 and 15 of 64.
            assert ours["cost"]["forward_equivalents"] == 960 * multiple
            last = ours["curve"][-1]
            assert last[0] == 960 * multiple
            assert last[1] == pytest.approx(ours["cost"]["flops"])
        assert row["gradient_free"] == (arm == "es")
    assert {one["arm"] for one in found["missing"]} == {"random", "adam-small", "es-score"}


def test_a_table_is_made_again_and_what_is_missing_is_resumed(
    finished: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    folder = again / "parity/rnn/es/x2"
    (folder / "results.json").unlink()
    (folder / "arms/es/seed-1/result.json").unlink()
    untouched = (again / "parity/rnn/es/x1/results.json").stat().st_mtime_ns
    study.run_job(SMALL, "parity/rnn/es", str(again))
    assert (again / "parity/rnn/es/x1/results.json").stat().st_mtime_ns == untouched
    scores = [
        [[seed["scores"] for seed in row["seeds"]] for row in study.collect(folder)["rows"]]
        for folder in (finished, again)
    ]
    assert scores[0] == scores[1]


def test_runs_of_anybody_make_one_table(finished: Path, tmp_path: Path) -> None:
    for arm, multiple in (("adam", 1), ("es", 1), ("es", 2)):
        shutil.copytree(finished / f"parity/rnn/{arm}/x{multiple}", tmp_path / f"{arm}-{multiple}")
    found = study.gather(tmp_path)
    rows = {row["arm"]: row for row in found["rows"]}
    assert set(rows) == {"adam", "es", "es (es-2)"}
    assert {(row["task"], row["model"]) for row in found["rows"]} == {("parity", "rnn")}
    by_study = {row["arm"]: row for row in study.collect(finished)["rows"] if row["multiple"] == 1}
    for arm in ("adam", "es"):
        assert rows[arm]["seeds"] == by_study[arm]["seeds"]
        assert rows[arm]["summary"] == by_study[arm]["summary"]
    # One of the three had twice the budget, which the top of the page says.
    (sentence,) = found["unequal"]
    assert sentence.startswith("parity with rnn: the arms differ in the budget (adam, es: ")
    assert cli.main(["report", "--run", str(tmp_path)]) == 0
    assert "es (es-2)" in (tmp_path / "report.html").read_text()


def test_unequal_rows_are_said_at_the_top(finished: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(finished, changed)
    file = changed / "parity/rnn/es/x1/results.json"
    data = json.loads(file.read_text())
    data["budget"]["amount"] = 5
    file.write_text(json.dumps(data))
    (sentence,) = study.collect(changed)["unequal"]
    assert sentence.startswith("parity with rnn: the arms differ in the budget")


def test_a_control_of_tuned_arms_takes_what_they_were_tuned_to(tmp_path: Path) -> None:
    config = plan.check(
        {
            **SMALL,
            "multiples": [1],
            "tuning": {
                "trials": 2,
                "seeds": 1,
                "share": 0.5,
                "spaces": {
                    "adam": {"optimizer.learning_rate": {"log": [0.001, 0.1]}},
                    "es": {"sigma": {"log": [0.01, 0.1]}, "batch": {"choice": [2, 4]}},
                },
            },
        }
    )
    plan.save(config, tmp_path)
    study.run_job(config, "parity/rnn/adam-small", str(tmp_path))
    own = {
        arm: settle(config, study.Job("parity", "rnn", arm), tmp_path)
        for arm in ("adam", "es", "adam-small")
    }
    assert own["adam-small"] == {**own["adam"], "batch": own["es"]["batch"]}
    assert own["adam"]["optimizer"] != config["arms"]["adam"]["optimizer"]
    (row,) = study.collect(tmp_path)["rows"]
    assert row["settings"] == own["adam-small"]
    assert row["tuning"]["trials"] == 2
    # Two trials of half the budget, for each of its two parents.
    assert row["tuning"]["forward_equivalents"] == 2 * 2 * 480


def test_the_command_runs_a_part_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {**SMALL, "multiples": [1]}
    file, out = tmp_path / "small.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(small))
    base = ["study", "--out", str(out)]
    assert cli.main([*base, "--config", str(file), "--only", "copy/*"]) == 2
    assert "matches no job" in capsys.readouterr().err
    assert not out.exists()
    assert cli.main([*base, "--config", str(file), "--only", "*/adam"]) == 0
    assert "1 rows, 4 missing" in capsys.readouterr().out
    table = json.loads((out / "study.json").read_text())
    assert [row["arm"] for row in table["rows"]] == ["adam"]
    assert "A small study" in (out / "report.html").read_text()
    assert cli.main([*base, "--jobs"]) == 0
    assert "done parity/rnn/adam\n" in capsys.readouterr().out
    file.write_text(yaml.safe_dump({**small, "budget": {"forwards": 1920}}))
    assert cli.main([*base, "--config", str(file)]) == 2
    assert "holds a study whose budget is" in capsys.readouterr().err
    assert json.loads((out / "study.json").read_text()) == table
    (out / "report.html").unlink()
    assert cli.main(["report", "--run", str(out)]) == 0
    assert (out / "report.html").exists()
    assert cli.main([*base, "--workers", "0"]) == 2
    assert "workers='0'" in capsys.readouterr().err


def test_a_job_that_fails_stops_no_other(tmp_path: Path) -> None:
    # The budget does not buy one step of random search: 256 members, 128 examples each.
    config = {**SMALL, "multiples": [1]}
    found = study.run(config, tmp_path, only=["*/random", "*/adam"])
    assert list(found.failed) == ["parity/rnn/random"]
    assert "does not buy one step" in found.failed["parity/rnn/random"]
    assert [row["arm"] for row in found.study["rows"]] == ["adam"]
