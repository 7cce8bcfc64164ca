"""Tasks, one file a family. A task that is not exported here does not exist."""

import inspect
from typing import Any

from evojax_nar.errors import unknown
from evojax_nar.settings import build
from evojax_nar.tasks import (
    chomsky,
    clrs,
    composed,
    formal,
    graph_files,
    logic,
    memory,
    optimisation,
    real_graphs,
    salsa,
)
from evojax_nar.tasks.copy import Copy, Reverse
from evojax_nar.tasks.digits import Digits
from evojax_nar.tasks.graph import GraphTask
from evojax_nar.tasks.parity import Parity
from evojax_nar.tasks.perturbed import WRAPPERS, Perturbed, Shifted
from evojax_nar.tasks.sequence import SequenceTask
from evojax_nar.tasks.sort import Sort, SortLetters, SortWords
from evojax_nar.tasks.text import ByteText

__all__ = [
    "ALL",
    "ByteText",
    "Copy",
    "Digits",
    "GraphTask",
    "Parity",
    "Perturbed",
    "Reverse",
    "Shifted",
    "Sort",
    "SortLetters",
    "SortWords",
    "chomsky",
    "clrs",
    "composed",
    "describe",
    "formal",
    "get",
    "graph_files",
    "logic",
    "memory",
    "names",
    "optimisation",
    "real_graphs",
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
    Digits,
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
_MAKERS = {**_KNOWN, **{wrapper.name: wrapper for wrapper in WRAPPERS}}


def names() -> list[str]:
    """What the tasks are called on the command line and in a config."""
    return list(_KNOWN)


def get(name: str, **settings: Any) -> SequenceTask | GraphTask:
    """The task called `name`, or a wrapper such as "perturbed", made from plain settings.

    Raises:
      InputError: for an unknown name or setting, naming the nearest one.
    """
    return build("task", _MAKERS, name, settings)


def describe(name: str) -> str:
    """What the task called `name` asks for, in one line.

    Raises:
      InputError: for an unknown name.
    """
    if name not in _KNOWN:
        raise unknown("task", name, _KNOWN)
    return (inspect.getdoc(_KNOWN[name]) or "").partition("\n")[0]
