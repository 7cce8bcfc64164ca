"""Models, one file a family. A model that is not exported here does not exist."""

import inspect
from typing import Any

from evojax_nar.errors import unknown
from evojax_nar.models.graph import MPNN, GraphModel
from evojax_nar.models.integer import IntegerGRU
from evojax_nar.models.linen import LinenModel, Wrapped, parameter_count, wrap
from evojax_nar.models.mlp import MLP
from evojax_nar.models.recurrent import GRU, LSTM, RNN
from evojax_nar.models.transformer import Transformer
from evojax_nar.settings import build
from evojax_nar.types import TaskSpec

__all__ = [
    "ALL",
    "GRU",
    "LSTM",
    "MLP",
    "MPNN",
    "RNN",
    "GraphModel",
    "IntegerGRU",
    "Transformer",
    "Wrapped",
    "describe",
    "get",
    "names",
    "parameter_count",
    "suits",
    "wrap",
]

ALL: tuple[type[LinenModel] | type[IntegerGRU] | type[GraphModel], ...] = (
    MLP,
    RNN,
    GRU,
    LSTM,
    Transformer,
    IntegerGRU,
    MPNN,
)
"""Every built-in model; a name here puts a new one on the command line and under test."""

_KNOWN = {model.name: model for model in ALL}


def names() -> list[str]:
    """What the models are called on the command line and in a config."""
    return list(_KNOWN)


def get(name: str, **settings: Any) -> LinenModel | IntegerGRU | GraphModel:
    """The model called `name`, made from plain settings.

    Raises:
      InputError: for an unknown name or setting, naming the nearest one.
    """
    return build("model", _KNOWN, name, settings)


def suits(name: str, spec: TaskSpec) -> bool:
    """Whether the model called `name` reads what a task with this specification gives."""
    return issubclass(_KNOWN[name], GraphModel) == spec.is_graph


def describe(name: str) -> str:
    """What the model called `name` is, in one line.

    Raises:
      InputError: for an unknown name.
    """
    if name not in _KNOWN:
        raise unknown("model", name, _KNOWN)
    return (inspect.getdoc(_KNOWN[name]) or "").partition("\n")[0]
