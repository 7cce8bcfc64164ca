"""Message passing: each node hears of every other one, and keeps the most of what it hears."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.models.graph.encoding import FAR, Features


class MessagePassing(nn.Module):
    """The MPNN processor with maxima, on the full graph.

    Source: Gilmer et al. 2017, arXiv:1704.01212, as in Velickovic et al. 2022, arXiv:2205.15659,
    section 4: a message is a network of two layers of the sum of linear maps of sender, receiver,
    edge and graph; then a linear map of the node and of the maximum of its messages, and a norm.
    """

    hidden: int

    @nn.compact
    def __call__(self, features: Features, state: jax.Array, nodes: jax.Array) -> jax.Array:
        """The next state (B, V, H) of nodes that exist as (B, V) says."""

        def linear(values: jax.Array, name: str) -> jax.Array:
            return nn.Dense(self.hidden, name=name)(values)

        own = jnp.concatenate([features.node, state], axis=-1)
        messages = (
            linear(own, "receiver")[:, None]
            + linear(own, "sender")[:, :, None]
            + linear(features.edge, "edge")
            + linear(features.graph, "graph")[:, None, None]
        )
        messages = linear(nn.relu(messages), "message_0")
        messages = linear(nn.relu(messages), "message_1")
        most = jnp.where(nodes[:, :, None, None], messages, FAR).max(axis=1)
        found = nn.relu(linear(own, "node") + linear(most, "heard"))
        return nn.LayerNorm(epsilon=1e-5, name="norm")(found)
