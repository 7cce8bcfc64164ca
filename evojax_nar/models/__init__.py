"""Models, one file a family. A model that is not exported here does not exist."""

import inspect
from typing import Any, TypeAlias

from evojax_nar.errors import unknown
from evojax_nar.models.autoencoder import Autoencoder
from evojax_nar.models.cnn import CNN
from evojax_nar.models.discrete import (
    DiscreteModel,
    LookupAutomaton,
    NandNetwork,
    NeuralAutomaton,
    StepRNN,
    TernaryStepRNN,
)
from evojax_nar.models.graph import (
    GAT,
    MPNN,
    PGN,
    DeepSets,
    DiscreteMPNN,
    GATv2,
    GraphModel,
    Memnet,
    TripletMPNN,
)
from evojax_nar.models.integer import IntegerGRU
from evojax_nar.models.linen import LinenModel, Wrapped, parameter_count, wrap
from evojax_nar.models.looped import (
    LoopedTransformer,
    NeuralGPU,
    SteppedTransformer,
    UniversalTransformer,
)
from evojax_nar.models.memory import DNC, NTM, NTMLSTM, StackRNN, TapeRNN
from evojax_nar.models.mlp import MLP
from evojax_nar.models.recurrent import GRU, LSTM, RNN
from evojax_nar.models.som import SelfOrganisingMap
from evojax_nar.models.transformer import Transformer
from evojax_nar.models.unrolled import CellModel
from evojax_nar.settings import build
from evojax_nar.types import TaskSpec

__all__ = [
    "ALL",
    "CNN",
    "DNC",
    "GAT",
    "GRU",
    "LSTM",
    "MLP",
    "MPNN",
    "NTM",
    "NTMLSTM",
    "PGN",
    "RNN",
    "Autoencoder",
    "CellModel",
    "DeepSets",
    "DiscreteMPNN",
    "DiscreteModel",
    "GATv2",
    "GraphModel",
    "IntegerGRU",
    "LinenModel",
    "LookupAutomaton",
    "LoopedTransformer",
    "Memnet",
    "NandNetwork",
    "NeuralAutomaton",
    "NeuralGPU",
    "SelfOrganisingMap",
    "StackRNN",
    "StepRNN",
    "SteppedTransformer",
    "TapeRNN",
    "TernaryStepRNN",
    "Transformer",
    "TripletMPNN",
    "UniversalTransformer",
    "Wrapped",
    "describe",
    "get",
    "names",
    "parameter_count",
    "suits",
    "wrap",
]

Known: TypeAlias = LinenModel | IntegerGRU | DiscreteModel | GraphModel
"""What a built-in model is."""

ALL: tuple[type[Known], ...] = (
    MLP,
    CNN,
    RNN,
    GRU,
    LSTM,
    Transformer,
    NTM,
    NTMLSTM,
    DNC,
    StackRNN,
    TapeRNN,
    UniversalTransformer,
    SteppedTransformer,
    LoopedTransformer,
    NeuralGPU,
    NeuralAutomaton,
    StepRNN,
    TernaryStepRNN,
    NandNetwork,
    LookupAutomaton,
    IntegerGRU,
    Autoencoder,
    SelfOrganisingMap,
    MPNN,
    PGN,
    DeepSets,
    GAT,
    GATv2,
    Memnet,
    TripletMPNN,
    DiscreteMPNN,
)
"""Every built-in model; a name here puts a new one on the command line and under test."""

_KNOWN = {model.name: model for model in ALL}


def names() -> list[str]:
    """What the models are called on the command line and in a config."""
    return list(_KNOWN)


def get(name: str, **settings: Any) -> Known:
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
