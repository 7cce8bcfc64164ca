"""An end-to-end memory network in each node, whose memories are its links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import positive_int
from evojax_nar.models.graph.base import Continuous, yes_or_no
from evojax_nar.models.graph.encoding import FAR, Features


class MemoryNetwork(nn.Module):
    """Each node looks at its links `hops` times, each time with what it found before.

    Source: Sukhbaatar et al. 2015, arXiv:1503.08895, section 2, with layers tied as in a recurrent
    network (section 2.2): u = B q, m_j = A x_j, c_j = C x_j, o = sum_j softmax(u m)_j c_j; u <-
    H u + o before another look, and W (u + o) after the last. The query q is the node, its state
    and the graph; x_j the j-th node, its state and the edge to it.
    """

    hidden: int
    hops: int
    full: bool

    @nn.compact
    def __call__(
        self, features: Features, state: jax.Array, linked: jax.Array, nodes: jax.Array
    ) -> tuple[jax.Array, None]:
        """The next state (B, V, H) of nodes that exist as (B, V) says."""

        def linear(name: str) -> nn.Dense:
            return nn.Dense(self.hidden, use_bias=False, name=name)

        own = jnp.concatenate([features.node, state], axis=-1)
        memory = linear("memory_node")(own)[:, None] + linear("memory_edge")(features.edge)
        content = linear("content_node")(own)[:, None] + linear("content_edge")(features.edge)
        query = linear("query_node")(own) + linear("query_graph")(features.graph)[:, None]
        reach = nodes[:, None, :] if self.full else linked
        between = linear("between")  # no parameters where there is one look
        for hop in range(self.hops):
            scores = jnp.where(reach, jnp.einsum("bif,bijf->bij", query, memory), FAR)
            found = jnp.einsum("bij,bijf->bif", jax.nn.softmax(scores), content)
            query = (query if hop + 1 == self.hops else between(query)) + found
        return nn.LayerNorm(epsilon=1e-5, name="norm")(nn.relu(linear("answer")(query))), None


@final
@dataclass(frozen=True)
class Memnet(Continuous):
    """An end-to-end memory network in each node, that steps as often as the algorithm does.

    Source: Sukhbaatar et al. 2015, arXiv:1503.08895. That of dm-clrs takes features for the numbers
    of words, which no gradient passes; here they are embedded by linear maps.

    Args:
      hidden: H, the features of a node, an edge and the graph.
      teacher_forcing: the share, from 0 to 1, of steps and examples that read true hints in
        training.
      lstm: whether each node has an LSTM after the processor.
      hard_hints: whether predicted hints are read as decisions, without a gradient.
      hops: how often a node looks at its memories in a step.
      full: whether all nodes are remembered, linked or not.
    """

    name: ClassVar[str] = "memnet"
    hops: int = 1
    full: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_int("hops", self.hops)
        yes_or_no(self, "full")

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(hidden=16)

    def processor(self, name: str) -> nn.Module:
        """A memory network in each node."""
        return MemoryNetwork(self.hidden, self.hops, self.full, name=name)
