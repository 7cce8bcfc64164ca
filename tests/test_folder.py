"""Who may write a results folder: nothing is overwritten or half-written by mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import optax
import pytest

import evojax_nar as nar
from evojax_nar.checkpoint import Checkpoints
from evojax_nar.folder import Folder, fresh

ADAM = nar.Arm(nar.strategies.Gradient(optax.adam(1e-2)), batch=8)


def tiny(out: Path, hidden: int = 2, **options: Any) -> nar.Results:
    return nar.compare(
        nar.tasks.Parity(train_sizes=(1, 2), test_sizes=(2,)),
        nar.models.RNN(hidden=hidden),
        {"adam": ADAM},
        seeds=1,
        budget=nar.Budget(generations=2),
        evaluation_examples=8,
        progress=False,
        out=out,
        **options,
    )


def test_a_named_folder_is_never_overwritten_without_saying_so(tmp_path: Path) -> None:
    out = tmp_path / "run"
    tiny(out)
    before = (out / "results.json").read_bytes()
    with pytest.raises(nar.InputError, match=r"exists already; continue it with --resume"):
        tiny(out)
    assert (out / "results.json").read_bytes() == before
    with pytest.raises(nar.InputError, match="resume=True under a changed config: model was"):
        tiny(out, hidden=3, resume=True)
    with pytest.raises(nar.InputError, match="exclude each other"):
        tiny(out, resume=True, overwrite=True)
    (out / "notes of a person.txt").write_text("keep")
    tiny(out, hidden=3, overwrite=True)
    assert nar.load(out).data["model"]["settings"]["hidden"] == 3
    assert (out / "notes of a person.txt").read_text() == "keep"


def test_two_writers_on_one_folder(tmp_path: Path) -> None:
    with Folder(tmp_path / "run"):
        code = (
            "import sys; from pathlib import Path; from evojax_nar.folder import Folder;"
            "Folder(Path(sys.argv[1]), resume=True)"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True
        )
        assert "is being written by another process" in other.stderr
    with Folder(tmp_path / "run", resume=True):
        pass


def test_fresh_folders_are_numbered(tmp_path: Path) -> None:
    assert [fresh(tmp_path, "parity").name for _ in range(3)] == [
        "parity-001",
        "parity-002",
        "parity-003",
    ]


def test_a_file_in_the_way_and_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(nar.InputError, match="is a file; name a folder"):
        Folder(tmp_path / "file")
    with pytest.raises(nar.InputError, match=r"cannot be written \(Not a directory\)"):
        Folder(tmp_path / "file" / "below")
    with pytest.raises(nar.InputError, match="cannot be written"):
        fresh(Path("/proc"), "parity")
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(nar.InputError, match="cannot be written"):
            Folder(tmp_path / "closed" / "run")


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "", "a\0b", "<b>", "x" * 65])
def test_names_of_arms_stay_within_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(nar.InputError, match="is not the name of an arm"):
        nar.compare(
            nar.tasks.Parity(),
            nar.models.RNN(),
            {name: ADAM},
            budget=nar.Budget(generations=1),
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_budgets_must_be_one_limit_above_zero() -> None:
    for arguments in ({}, {"forwards": 1, "seconds": 1}):
        with pytest.raises(nar.InputError, match="is not one limit"):
            nar.Budget(**arguments)
    for value in (0, -1, float("nan"), float("inf")):
        with pytest.raises(nar.InputError, match=r"budget\.forwards=.*is not allowed"):
            nar.Budget(forwards=value)
    with pytest.raises(nar.InputError, match="does not buy one step of arm 'adam'"):
        nar.compare(
            nar.tasks.Parity(), nar.models.RNN(), {"adam": ADAM}, budget=nar.Budget(forwards=23)
        )


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    warnings: list[str] = []
    with Checkpoints(tmp_path / "c", {"w": jnp.ones(2)}) as checkpoints:
        assert checkpoints.latest(warnings.append) is None
        checkpoints.save(1, {"w": jnp.ones(2)}, {"offsets": [0]})
    other = "is of another model, strategy or version"
    with (
        Checkpoints(tmp_path / "c", {"w": jnp.ones(3)}) as checkpoints,
        pytest.raises(nar.InputError, match=other),
    ):
        checkpoints.latest(warnings.append)
    assert warnings == []
