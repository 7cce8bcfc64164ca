"""A long short-term memory of each node, after the processor."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn


class NodeMemory(nn.Module):
    """An LSTM that all nodes share, whose output is the state.

    Source: Hochreiter and Schmidhuber 1997, with a forget gate that begins open, after Jozefowicz
    et al. 2015, "An Empirical Exploration of Recurrent Network Architectures".
    """

    hidden: int

    @nn.compact
    def __call__(
        self, moved: jax.Array, state: jax.Array, cell: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The next state and cell, (B, V, H) each."""
        gates = nn.Dense(4 * self.hidden, name="gates")(jnp.concatenate([moved, state], axis=-1))
        write, new, keep, show = jnp.split(gates, 4, axis=-1)
        cell = nn.sigmoid(keep + 1.0) * cell + nn.sigmoid(write) * jnp.tanh(new)
        return nn.sigmoid(show) * jnp.tanh(cell), cell
