"""Graph attention: each node hears a mean of the others, and decides how much of whom."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.models.graph.base import Continuous, divided, yes_or_no
from evojax_nar.models.graph.encoding import FAR, Features


class _Attention(nn.Module, abc.ABC):
    """What the two share; they differ in how a share is decided."""

    hidden: int
    heads: int
    full: bool = False

    @abc.abstractmethod
    def scores(self, features: Features, own: jax.Array) -> jax.Array:
        """How much node i wants to hear of node j, (B, V, V, heads)."""

    @nn.compact
    def __call__(
        self, features: Features, state: jax.Array, linked: jax.Array, nodes: jax.Array
    ) -> tuple[jax.Array, None]:
        """The next state (B, V, H) of nodes that exist as (B, V) says."""
        own = jnp.concatenate([features.node, state], axis=-1)
        reach = nodes[:, None, :] if self.full else linked
        scores = jnp.where(reach[..., None], self.scores(features, own), FAR)
        values = nn.Dense(self.hidden, name="value")(own)
        values = values.reshape(*nodes.shape, self.heads, -1)
        heard = jnp.einsum("bijh,bjhf->bihf", jax.nn.softmax(scores, axis=2), values)
        kept = nn.Dense(self.hidden, name="skip")(own)
        found = nn.relu(heard.reshape(kept.shape) + kept)
        return nn.LayerNorm(epsilon=1e-5, name="norm")(found), None


class Attention(_Attention):
    """Scores that are sums of a number of the one who hears, of the other, the edge and the graph.

    Source: Velickovic et al. 2018, arXiv:1710.10903.
    """

    def scores(self, features: Features, own: jax.Array) -> jax.Array:
        """How much node i wants to hear of node j, (B, V, V, heads)."""

        def linear(values: jax.Array, name: str) -> jax.Array:
            return nn.Dense(self.heads, name=name)(values)

        return nn.leaky_relu(
            linear(own, "query")[:, :, None]
            + linear(own, "key")[:, None]
            + linear(features.edge, "edge")
            + linear(features.graph, "graph")[:, None, None]
        )


class DynamicAttention(_Attention):
    """Scores that are numbers of a sum of features, so that whom one ranks first may depend on one.

    Source: Brody et al. 2022, arXiv:2105.14491.
    """

    def scores(self, features: Features, own: jax.Array) -> jax.Array:
        """How much node i wants to hear of node j, (B, V, V, heads)."""

        def linear(values: jax.Array, name: str) -> jax.Array:
            return nn.Dense(self.hidden, name=name)(values)

        summed = nn.leaky_relu(
            linear(own, "query")[:, :, None]
            + linear(own, "key")[:, None]
            + linear(features.edge, "edge")
            + linear(features.graph, "graph")[:, None, None]
        )
        parts = jnp.split(summed, self.heads, axis=-1)
        found = [nn.Dense(1, name=f"score_{head}")(part) for head, part in enumerate(parts)]
        return jnp.concatenate(found, axis=-1)


@dataclass(frozen=True)
class _ByAttention(Continuous):
    """What the models of this file share."""

    heads: int = 4
    full: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        divided(self.hidden, self.heads)
        yes_or_no(self, "full")

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(hidden=16, heads=2)


@final
@dataclass(frozen=True)
class GAT(_ByAttention):
    """A graph attention network over linked nodes, that steps as often as the algorithm does.

    Source: Velickovic et al. 2018, arXiv:1710.10903, as in Velickovic et al. 2022,
    arXiv:2205.15659.

    Args:
      hidden: H, the features of a node, an edge and the graph.
      teacher_forcing: the share, from 0 to 1, of steps and examples that read true hints in
        training.
      lstm: whether each node has an LSTM after the processor.
      hard_hints: whether predicted hints are read as decisions, without a gradient.
      heads: means that a node hears, H / heads features each.
      full: whether all nodes are heard, linked or not.
    """

    name: ClassVar[str] = "gat"

    def processor(self, name: str) -> nn.Module:
        """Attention whose scores are sums."""
        return Attention(self.hidden, self.heads, self.full, name=name)


@final
@dataclass(frozen=True)
class GATv2(_ByAttention):
    """A graph attention network whose attention is dynamic, over linked nodes.

    Source: Brody et al. 2022, arXiv:2105.14491, as in dm-clrs.

    Args:
      hidden: H, the features of a node, an edge and the graph.
      teacher_forcing: the share, from 0 to 1, of steps and examples that read true hints in
        training.
      lstm: whether each node has an LSTM after the processor.
      hard_hints: whether predicted hints are read as decisions, without a gradient.
      heads: means that a node hears, H / heads features each.
      full: whether all nodes are heard, linked or not.
    """

    name: ClassVar[str] = "gatv2"

    def processor(self, name: str) -> nn.Module:
        """Attention whose scores are numbers of a sum."""
        return DynamicAttention(self.hidden, self.heads, self.full, name=name)
