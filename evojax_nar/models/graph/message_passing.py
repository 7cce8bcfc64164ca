"""Message passing: nodes hear of one another, and each keeps the most of what it hears."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.models.graph.base import Continuous, yes_or_no
from evojax_nar.models.graph.encoding import FAR, Features


class Messages(nn.Module):
    """What processors by messages share: what a message is, and what a node makes of those.

    Source: Gilmer et al. 2017, arXiv:1704.01212, as in Velickovic et al. 2022, arXiv:2205.15659,
    section 4: a message is a network of two layers of the sum of linear maps of sender, receiver,
    edge and graph; then a linear map of the node and of the maximum of its messages, and a norm.
    The gate, which says how much of the state is replaced, is that of Ibarz et al. 2022,
    arXiv:2209.11142, section 3.2.
    """

    hidden: int
    gated: bool = False

    def linear(self, values: jax.Array, name: str) -> jax.Array:
        """A linear map to H features."""
        return nn.Dense(self.hidden, name=name)(values)

    def message(self, summed: jax.Array) -> jax.Array:
        """The message (..., H) of the summed maps of what it is about."""
        return self.linear(nn.relu(self.linear(nn.relu(summed), "message_0")), "message_1")

    def update(self, own: jax.Array, state: jax.Array, heard: jax.Array) -> jax.Array:
        """The next state (B, V, H) of a node that heard at most (B, V, H)."""
        found = nn.relu(self.linear(own, "node") + self.linear(heard, "heard"))
        found = nn.LayerNorm(epsilon=1e-5, name="norm")(found)
        if not self.gated:
            return found
        known = nn.relu(self.linear(own, "gate_node") + self.linear(heard, "gate_heard"))
        shut = nn.initializers.constant(-3.0)
        gate = nn.sigmoid(nn.Dense(self.hidden, bias_init=shut, name="gate")(known))
        return gate * found + (1 - gate) * state


class MessagePassing(Messages):
    """Messages between all nodes, or between those that are linked."""

    full: bool = True

    @nn.compact
    def __call__(
        self, features: Features, state: jax.Array, linked: jax.Array, nodes: jax.Array
    ) -> tuple[jax.Array, None]:
        """The next state (B, V, H) of nodes that exist as (B, V) says."""
        own = jnp.concatenate([features.node, state], axis=-1)
        messages = self.message(
            self.linear(own, "receiver")[:, None]
            + self.linear(own, "sender")[:, :, None]
            + self.linear(features.edge, "edge")
            + self.linear(features.graph, "graph")[:, None, None]
        )
        reach = nodes[:, :, None] if self.full else linked
        heard = jnp.where(reach[..., None], messages, FAR).max(axis=1)
        return self.update(own, state, heard), None


class MessagesToOneself(Messages):
    """Messages along the diagonal alone, from each node to itself."""

    @nn.compact
    def __call__(
        self, features: Features, state: jax.Array, linked: jax.Array, nodes: jax.Array
    ) -> tuple[jax.Array, None]:
        """The next state (B, V, H) of nodes that exist as (B, V) says."""
        own = jnp.concatenate([features.node, state], axis=-1)
        loops = jnp.diagonal(features.edge, axis1=1, axis2=2).swapaxes(1, 2)
        heard = self.message(
            self.linear(own, "receiver")
            + self.linear(own, "sender")
            + self.linear(loops, "edge")
            + self.linear(features.graph, "graph")[:, None]
        )
        return self.update(own, state, heard), None


@dataclass(frozen=True)
class _ByMessages(Continuous):
    """What the models of this file share; they differ in who hears whom."""

    gated: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        yes_or_no(self, "gated")

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(hidden=16)


@final
@dataclass(frozen=True)
class MPNN(_ByMessages):
    """A message-passing network that steps as often as the algorithm does.

    Source: Gilmer et al. 2017, arXiv:1704.01212, as in Velickovic et al. 2022, arXiv:2205.15659.

    Args:
      hidden: H, the features of a node, an edge and the graph.
      teacher_forcing: the share, from 0 to 1, of steps and examples that read true hints in
        training.
      lstm: whether each node has an LSTM after the processor.
      hard_hints: whether predicted hints are read as decisions, without a gradient.
      gated: whether a gate decides how much of a state is replaced.
    """

    name: ClassVar[str] = "mpnn"

    def processor(self, name: str) -> nn.Module:
        """Messages between all nodes."""
        return MessagePassing(self.hidden, self.gated, name=name)


@final
@dataclass(frozen=True)
class PGN(_ByMessages):
    """A pointer graph network: messages along edges, and along what pointers say at each step.

    Source: Velickovic et al. 2020, arXiv:2006.06380, as in Velickovic et al. 2022,
    arXiv:2205.15659.

    Args:
      hidden: H, the features of a node, an edge and the graph.
      teacher_forcing: the share, from 0 to 1, of steps and examples that read true hints in
        training.
      lstm: whether each node has an LSTM after the processor.
      hard_hints: whether predicted hints are read as decisions, without a gradient.
      gated: whether a gate decides how much of a state is replaced.
    """

    name: ClassVar[str] = "pgn"

    def processor(self, name: str) -> nn.Module:
        """Messages between linked nodes."""
        return MessagePassing(self.hidden, self.gated, full=False, name=name)


@final
@dataclass(frozen=True)
class DeepSets(_ByMessages):
    """A network in which no node hears of another, but through the hints.

    Source: Zaheer et al. 2017, arXiv:1703.06114, as in Velickovic et al. 2022, arXiv:2205.15659.

    Args:
      hidden: H, the features of a node, an edge and the graph.
      teacher_forcing: the share, from 0 to 1, of steps and examples that read true hints in
        training.
      lstm: whether each node has an LSTM after the processor.
      hard_hints: whether predicted hints are read as decisions, without a gradient.
      gated: whether a gate decides how much of a state is replaced.
    """

    name: ClassVar[str] = "deepsets"

    def processor(self, name: str) -> nn.Module:
        """Messages of nodes to themselves."""
        return MessagesToOneself(self.hidden, self.gated, name=name)
