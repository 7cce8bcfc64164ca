"""Loggers hand every number of a record on, to one run an arm and seed, and say what is missing."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from evojax_nar.errors import InputError
from evojax_nar.loggers import TensorBoard, WandB

RECORD = {
    "seed": 3,
    "forward_equivalents": 640,
    "validation_loss": 0.5,
    "scores": {"20": 0.75, "500": None},
    "stopped": None,
}
NUMBERS = {"seed": 3, "forward_equivalents": 640, "validation_loss": 0.5, "scores/20": 0.75}


class Recorder:
    """Stands in for the writer of either library and remembers what it was told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.told: list[tuple[Any, ...]] = []
        self.closed = False

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.told.append((name, value, step))

    def log(self, values: dict[str, float], step: int) -> None:
        self.told += [(name, value, step) for name, value in values.items()]

    def close(self) -> None:
        self.closed = True

    finish = close


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recorder]:
    """Both libraries replaced; the writers that were made, by their names."""
    made: dict[str, Recorder] = {}

    def make(name: str) -> Recorder:
        assert name not in made, "one writer a run"
        return made.setdefault(name, Recorder(name))

    board, wandb = types.ModuleType("tensorboardX"), types.ModuleType("wandb")
    board.__dict__["SummaryWriter"] = lambda folder: make(Path(folder).name)
    wandb.__dict__["init"] = lambda **options: make(options["name"])
    monkeypatch.setitem(sys.modules, "tensorboardX", board)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return made


@pytest.mark.parametrize("make", [TensorBoard, WandB])
def test_each_number_reaches_the_run_of_its_arm_and_seed(
    made: dict[str, Recorder], make: Any
) -> None:
    logger = make("somewhere")
    logger.log("es", RECORD)
    logger.log("es", {**RECORD, "forward_equivalents": 1280})
    logger.log("adam", RECORD)
    logger.close()
    assert set(made) == {"es-seed-3", "adam-seed-3"}
    assert {name: value for name, value, _ in made["adam-seed-3"].told} == NUMBERS
    assert {step for _, _, step in made["es-seed-3"].told} == {640, 1280}
    assert all(recorder.closed for recorder in made.values())


@pytest.mark.parametrize(
    ("make", "library", "extra"),
    [(TensorBoard, "tensorboardX", "tensorboard"), (WandB, "wandb", "wandb")],
)
def test_a_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, make: Any, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"needs {library}; install it with .*\[{extra}\]"):
        make("somewhere")
