"""What all models of graphs are, and the settings of those with a processor in their middle."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import InputError, positive_int, reject
from evojax_nar.models.graph.network import EncodeProcessDecode
from evojax_nar.models.inputs import blank
from evojax_nar.settings import Configurable
from evojax_nar.types import Graph, GraphOutputs, Key, Params, TaskSpec


class GraphModel(Configurable, abc.ABC):
    """A model of graphs, whose parameters are those of a linen module called with a `Graph`."""

    @classmethod
    @abc.abstractmethod
    def example(cls) -> Self:
        """A small one, which learns the small example of a task in seconds."""

    @abc.abstractmethod
    def module(self, spec: TaskSpec) -> nn.Module:
        """The module for the fields of `spec`, for any V."""

    def max_size(self, spec: TaskSpec) -> int | None:
        """The largest size that the model can run when built for `spec`; None for no limit."""
        return None

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Fresh parameters, float32.

        Raises:
          InputError: for a task of sequences.
        """
        if not spec.is_graph:
            raise InputError(
                f"model={self.name!r} reads graphs, and task={spec.name!r} gives sequences; "
                "choose a model of sequences, such as 'lstm'"
            )
        return self.module(spec).init(key, blank(spec, batch=1))["params"]

    def apply(self, params: Params, inputs: Graph, *, spec: TaskSpec) -> GraphOutputs:
        """Predictions of every output, and of every hint at every step, float32."""
        found: GraphOutputs = self.module(spec).apply({"params": params}, inputs)  # type: ignore[assignment]
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), found)


@dataclass(frozen=True)
class Processing(GraphModel):
    """A processor between encoders and decoders, which steps as often as the algorithm does.

    Args:
      hidden: H, the features of a node, an edge and the graph.
      teacher_forcing: the share, from 0 to 1, of steps and examples in training that read the
        algorithm's own hints in place of those that the model predicts.
    """

    hidden: int = 32
    teacher_forcing: float = 0.0

    def __post_init__(self) -> None:
        positive_int("hidden", self.hidden)
        share = self.teacher_forcing
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not number or not 0 <= share <= 1:
            raise reject("teacher_forcing", share, "is no share", "give a number from 0 to 1")

    @abc.abstractmethod
    def processor(self, name: str) -> nn.Module:
        """The processor, called with features, the state, what is linked, and the nodes.

        It returns the next state (B, V, S), and features of edges (B, V, V, H) or None.
        """

    def start(self, nodes: jax.Array) -> jax.Array:
        """The state (B, V, S) before the first step, of nodes that exist as (B, V) says."""
        return jnp.zeros((*nodes.shape, self.hidden))

    @property
    def edge_features(self) -> int:
        """Features of an edge that decoders read."""
        return self.hidden

    @property
    def reads_hard(self) -> bool:
        """Whether predicted hints are read as decisions."""
        return False

    @property
    def remembers(self) -> bool:
        """Whether each node has a long short-term memory."""
        return False

    def module(self, spec: TaskSpec) -> nn.Module:
        """Encoders, the processor and decoders."""
        return EncodeProcessDecode(self, spec)


@dataclass(frozen=True)
class Continuous(Processing):
    """A processor whose states are real numbers.

    Args:
      hidden: H, the features of a node, an edge and the graph.
      teacher_forcing: the share of steps and examples that read true hints in training.
      lstm: whether each node has an LSTM after the processor.
      hard_hints: whether predicted hints are read as decisions, without a gradient, rather than as
        probabilities.
    """

    lstm: bool = False
    hard_hints: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        yes_or_no(self, "lstm", "hard_hints")

    @property
    def reads_hard(self) -> bool:
        """Whether predicted hints are read as decisions."""
        return self.hard_hints

    @property
    def remembers(self) -> bool:
        """Whether each node has a long short-term memory."""
        return self.lstm


def yes_or_no(model: Any, *arguments: str) -> None:
    """Raise an `InputError` where a setting is neither true nor false."""
    for argument in arguments:
        value = getattr(model, argument)
        if not isinstance(value, bool):
            raise reject(argument, value, "is not allowed", "give true or false")


def divided(hidden: int, heads: int) -> None:
    """Raise an `InputError` where `hidden` cannot be shared out among `heads`."""
    positive_int("heads", heads)
    if hidden % heads:
        raise reject("hidden", hidden, "does not fit", f"give a multiple of heads={heads}")
