"""Every strategy, task and model of the package, held to what all of its kind promise."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import contracts
import pytest
import strategy_contracts as promises

from evojax_nar import models, strategies, tasks
from evojax_nar.errors import InputError
from evojax_nar.models import DiscreteModel, GraphModel, LinenModel
from evojax_nar.strategies import Base
from evojax_nar.tasks import GraphTask, SequenceTask

pytestmark = pytest.mark.usefixtures("quick_compile")

FOLDERS: list[tuple[Any, Any, tuple[str, ...]]] = [
    (strategies, Base, ("init", "step", "params")),
    (tasks, (SequenceTask, GraphTask), ("sample", "evaluate")),
    (models, (LinenModel, GraphModel, DiscreteModel), ("init", "apply")),
]
every_folder = pytest.mark.parametrize(
    ("folder", "base", "methods"), FOLDERS, ids=[folder.__name__ for folder, _, _ in FOLDERS]
)


every_strategy = pytest.mark.parametrize(
    "cls", strategies.ALL, ids=[cls.name for cls in strategies.ALL]
)


def test_every_component_is_of_a_kind_that_is_tested() -> None:
    assert all(issubclass(cls, (SequenceTask, GraphTask)) for cls in tasks.ALL)


# Folders.


@every_folder
def test_every_file_and_component_is_listed(
    folder: Any, base: Any, methods: tuple[str, ...]
) -> None:
    assert contracts.unreachable_files(folder) == set()
    assert contracts.unlisted_components(folder, folder.ALL, base, methods) == set()
    assert [cls.name for cls in folder.ALL] == folder.names()
    assert len(set(folder.names())) == len(folder.ALL)
    for cls in folder.ALL:
        assert cls.__name__ in contracts.home(cls, folder).__all__
        assert folder.get(cls.name) == cls()
        assert (cls.__doc__ or "").partition("\n")[0].endswith(".")
    with pytest.raises(InputError, match=f"did you mean '{folder.names()[0]}'"):
        folder.get(folder.names()[0] + "_")


@pytest.fixture
def fake_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A folder with a file that nothing imports, and components that nothing lists."""
    files = {
        "__init__": "from fake_folder.listed import Listed\nALL = (Listed,)\n",
        "listed": "from . import helper\nclass Listed(helper.Base):\n    pass\n"
        "class Forgotten(helper.Base):\n    pass\n"
        "class _Private(helper.Base):\n    pass\n",
        "helper": "import abc\nclass Base(abc.ABC):\n    pass\n"
        "class Abstract(Base):\n    @abc.abstractmethod\n    def step(self): ...\n",
        "stray": "class Alike:\n    def step(self): ...\n    def init(self): ...\n"
        "class Half:\n    def step(self): ...\n"
        "class Adapter:\n    def __init__(self, inner): ...\n"
        "    def step(self): ...\n    def init(self): ...\n",
    }
    (tmp_path / "fake_folder").mkdir()
    for name, text in files.items():
        (tmp_path / "fake_folder" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("fake_folder")
    for name in [name for name in sys.modules if name.partition(".")[0] == "fake_folder"]:
        del sys.modules[name]


def test_what_is_not_listed_is_found(fake_folder: Any) -> None:
    base = importlib.import_module("fake_folder.helper").Base
    found = contracts.unlisted_components(fake_folder, fake_folder.ALL, base, ("init", "step"))
    assert found == {"Forgotten", "Alike"}, "a base of what is listed is no component"
    assert contracts.unreachable_files(fake_folder) == {"stray"}


# Settings.


@pytest.mark.parametrize("folder", [strategies, tasks, models], ids=lambda folder: folder.__name__)
def test_settings_build_an_equal_component(folder: Any) -> None:
    for cls in folder.ALL:
        contracts.settings_build_an_equal_one(cls(), folder.get)
        example = cls.example()
        contracts.settings_build_an_equal_one(getattr(example, "strategy", example), folder.get)


SETTINGS = """
import json
from evojax_nar import models, strategies, tasks
said = [cls().settings() for folder in (strategies, tasks, models) for cls in folder.ALL]
said += [cls.example().strategy.settings() for cls in strategies.ALL]
print(json.dumps(said))
"""


def test_settings_are_the_same_in_another_process() -> None:
    """Fingerprints of what only a script can say, too: they hold no address and no hash."""
    here: dict[str, Any] = {}
    exec(SETTINGS.replace("print(json.dumps(said))", ""), here)
    assert "opaque" in json.dumps(here["said"])
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", SETTINGS]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(there.stdout) == json.loads(json.dumps(here["said"]))


# Strategies.


@every_strategy
def test_strategy_learns(cls: type[Base]) -> None:
    promises.learns(*cls.example())


@every_strategy
def test_strategy_keeps_its_types(cls: type[Base]) -> None:
    promises.keeps_its_types(cls.example().strategy)
    promises.keeps_its_types(cls())


@every_strategy
def test_strategy_counts_its_cost(cls: type[Base]) -> None:
    promises.counts_its_cost(cls.example().strategy)


@every_strategy
def test_strategy_never_recompiles(cls: type[Base]) -> None:
    promises.never_recompiles(cls.example().strategy)


@every_strategy
def test_sweeps_and_seeds_are_rows(cls: type[Base]) -> None:
    promises.sweeps_and_seeds_are_rows(cls.example().strategy)


@every_strategy
def test_strategy_survives_broken_members(cls: type[Base]) -> None:
    promises.survives_broken_members(*cls.example())


@every_strategy
def test_strategy_stands_still_where_all_is_broken(cls: type[Base]) -> None:
    promises.stands_still_where_all_is_broken(cls.example().strategy)


@every_strategy
def test_strategy_agrees_wherever_it_is_placed(cls: type[Base]) -> None:
    promises.agrees_wherever_it_is_placed(cls.example().strategy)


@every_strategy
def test_strategy_follows_a_score(cls: type[Base]) -> None:
    promises.follows_a_score(*cls.example())


@every_strategy
def test_strategy_trains_any_tree(cls: type[Base]) -> None:
    promises.trains_any_tree(*cls.example())
