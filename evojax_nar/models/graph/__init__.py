"""Graph processors between encoders and decoders that follow from a task's specification alone."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import InputError, positive_int
from evojax_nar.models.graph.message_passing import MessagePassing
from evojax_nar.models.graph.network import EncodeProcessDecode
from evojax_nar.models.inputs import blank
from evojax_nar.settings import Configurable
from evojax_nar.types import Graph, GraphOutputs, Key, Params, TaskSpec

__all__ = ["MPNN", "GraphModel"]


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


@final
@dataclass(frozen=True)
class MPNN(GraphModel):
    """A message-passing network that steps as often as the algorithm does.

    Source: Gilmer et al. 2017, arXiv:1704.01212, as in Velickovic et al. 2022, arXiv:2205.15659.

    Args:
      hidden: H, the features of a node, an edge and the graph.
    """

    name: ClassVar[str] = "mpnn"
    hidden: int = 32

    def __post_init__(self) -> None:
        positive_int("hidden", self.hidden)

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(hidden=16)

    def module(self, spec: TaskSpec) -> nn.Module:
        """Encoders, message passing and decoders."""
        return EncodeProcessDecode(spec, self.hidden, MessagePassing)
