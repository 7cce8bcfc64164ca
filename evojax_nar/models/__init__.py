"""Models, one file a family. A model that is not exported here does not exist."""

import inspect
from typing import Any

from evojax_nar.errors import unknown
from evojax_nar.models.integer import IntegerGRU
from evojax_nar.models.linen import LinenModel, Wrapped, parameter_count, wrap
from evojax_nar.models.mlp import MLP
from evojax_nar.models.recurrent import GRU, LSTM, RNN
from evojax_nar.models.transformer import Transformer
from evojax_nar.settings import build

__all__ = [
    "ALL",
    "GRU",
    "LSTM",
    "MLP",
    "RNN",
    "IntegerGRU",
    "Transformer",
    "Wrapped",
    "describe",
    "get",
    "names",
    "parameter_count",
    "wrap",
]

ALL: tuple[type[LinenModel] | type[IntegerGRU], ...] = (
    MLP,
    RNN,
    GRU,
    LSTM,
    Transformer,
    IntegerGRU,
)
"""Every built-in model; a name here puts a new one on the command line and under test."""

_KNOWN = {model.name: model for model in ALL}


def names() -> list[str]:
    """What the models are called on the command line and in a config."""
    return list(_KNOWN)


def get(name: str, **settings: Any) -> LinenModel | IntegerGRU:
    """The model called `name`, made from plain settings.

    Raises:
      InputError: for an unknown name or setting, naming the nearest one.
    """
    return build("model", _KNOWN, name, settings)


def describe(name: str) -> str:
    """What the model called `name` is, in one line.

    Raises:
      InputError: for an unknown name.
    """
    if name not in _KNOWN:
        raise unknown("model", name, _KNOWN)
    return (inspect.getdoc(_KNOWN[name]) or "").partition("\n")[0]
