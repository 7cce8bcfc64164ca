"""Every task of the package, held to what all of its kind promise."""

from __future__ import annotations

from typing import Any

import contracts
import graph_contracts
import pytest

from evojax_nar import models, tasks
from evojax_nar.tasks import GraphTask, SequenceTask

pytestmark = pytest.mark.usefixtures("quick_compile")


def by_name(classes: tuple[type, ...]) -> Any:
    return pytest.mark.parametrize("cls", classes, ids=[cls.name for cls in classes])


every_task = by_name(tuple(cls for cls in tasks.ALL if issubclass(cls, SequenceTask)))
every_graph_task = by_name(tuple(cls for cls in tasks.ALL if issubclass(cls, GraphTask)))


@every_task
def test_batches_are_well_formed(cls: type[SequenceTask]) -> None:
    contracts.batches_are_well_formed(cls.example())


@every_task
def test_outputs_are_judged(cls: type[SequenceTask]) -> None:
    contracts.outputs_are_judged(cls.example())


@every_task
def test_task_is_learned(cls: type[SequenceTask]) -> None:
    contracts.task_is_learned(cls.example(), models.LSTM(hidden=24))


@every_graph_task
def test_graph_batches_are_well_formed(cls: type[GraphTask]) -> None:
    graph_contracts.batches_are_well_formed(cls.example())


@every_graph_task
def test_graph_outputs_are_judged(cls: type[GraphTask]) -> None:
    graph_contracts.outputs_are_judged(cls.example())
