"""The studies of this project: their configs hold, and what is kept of them is what is shown."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from evojax_nar import study
from evojax_nar.files import read_json

FOLDER = Path(__file__).parents[1] / "studies"
CONFIGS = sorted(FOLDER.glob("*.yaml"))
KEPT = sorted((FOLDER / "results").glob("*.json"))


def drawing() -> Any:
    """`studies/draw.py`, which is no part of the package."""
    found = importlib.util.spec_from_file_location("draw", FOLDER / "draw.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_says_what_is_run(path: Path) -> None:
    jobs = study.jobs(study.load(path))
    assert len(jobs) == len(set(jobs)) > 3


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_is_kept_is_of_the_config_and_on_the_page(path: Path) -> None:
    kept = read_json(path)
    assert kept["config"] == study.load(FOLDER / f"{path.stem}.yaml")
    wanted = {row["task"] + "/" + row["model"] + "/" + row["arm"] for row in kept["rows"]}
    jobs = study.jobs(kept["config"])
    assert wanted <= set(jobs)
    draw = drawing()
    assert draw.tables(kept, path.stem) in draw.PAGE.read_text(encoding="utf-8")


def test_something_is_kept() -> None:
    assert CONFIGS
    assert KEPT
