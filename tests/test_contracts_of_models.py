"""Every model of the package, held to what all of its kind promise."""

from __future__ import annotations

from typing import Any

import contracts
import graph_contracts
import pytest

from evojax_nar import models, tasks
from evojax_nar.models import GraphModel, LinenModel

pytestmark = pytest.mark.usefixtures("quick_compile")


def by_name(classes: tuple[type, ...]) -> Any:
    return pytest.mark.parametrize("cls", classes, ids=[cls.name for cls in classes])


every_model = by_name(tuple(cls for cls in models.ALL if not issubclass(cls, GraphModel)))
every_graph_model = by_name(tuple(cls for cls in models.ALL if issubclass(cls, GraphModel)))


@every_graph_model
def test_graph_model_is_a_pure_function(cls: type[GraphModel]) -> None:
    graph_contracts.model_is_a_pure_function(cls.example(), tasks.clrs.Minimum.example())


@every_graph_model
def test_graph_model_ignores_padding(cls: type[GraphModel]) -> None:
    graph_contracts.model_ignores_padding(cls.example(), tasks.clrs.Minimum.example())


@every_graph_model
def test_graph_model_learns(cls: type[GraphModel]) -> None:
    graph_contracts.model_learns(cls.example(), tasks.clrs.Minimum.example())


@every_model
def test_model_is_a_pure_function(cls: type[LinenModel]) -> None:
    contracts.model_is_a_pure_function(cls.example(), tasks.Copy.example())


@every_model
def test_model_knows_its_limit(cls: type[LinenModel]) -> None:
    contracts.model_knows_its_limit(cls.example(), tasks.Copy.example())


@every_model
def test_model_learns(cls: type[LinenModel]) -> None:
    contracts.model_learns(cls.example())
