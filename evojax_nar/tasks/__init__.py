"""Tasks, one file a family. A task that is not exported here does not exist."""

import inspect
from typing import Any

from evojax_nar.errors import unknown
from evojax_nar.settings import build
from evojax_nar.tasks import chomsky, clrs, formal, logic, memory, optimisation, salsa
from evojax_nar.tasks.copy import Copy, Reverse
from evojax_nar.tasks.graph import GraphTask
from evojax_nar.tasks.parity import Parity
from evojax_nar.tasks.sequence import SequenceTask
from evojax_nar.tasks.sort import Sort, SortLetters, SortWords
from evojax_nar.tasks.text import ByteText

__all__ = [
    "ALL",
    "ByteText",
    "Copy",
    "GraphTask",
    "Parity",
    "Reverse",
    "Sort",
    "SortLetters",
    "SortWords",
    "chomsky",
    "clrs",
    "describe",
    "formal",
    "get",
    "logic",
    "memory",
    "names",
    "optimisation",
    "salsa",
]

ALL: tuple[type[SequenceTask] | type[GraphTask], ...] = (
    Parity,
    Copy,
    Reverse,
    Sort,
    SortLetters,
    SortWords,
    ByteText,
    *chomsky.ALL,
    *clrs.ALL,
    *formal.ALL,
    *logic.ALL,
    *memory.ALL,
    *optimisation.ALL,
    *salsa.ALL,
)
"""Every built-in task; a name here puts a new one on the command line and under test."""

_KNOWN = {task.name: task for task in ALL}


def names() -> list[str]:
    """What the tasks are called on the command line and in a config."""
    return list(_KNOWN)


def get(name: str, **settings: Any) -> SequenceTask | GraphTask:
    """The task called `name`, made from plain settings.

    Raises:
      InputError: for an unknown name or setting, naming the nearest one.
    """
    return build("task", _KNOWN, name, settings)


def describe(name: str) -> str:
    """What the task called `name` asks for, in one line.

    Raises:
      InputError: for an unknown name.
    """
    if name not in _KNOWN:
        raise unknown("task", name, _KNOWN)
    return (inspect.getdoc(_KNOWN[name]) or "").partition("\n")[0]
