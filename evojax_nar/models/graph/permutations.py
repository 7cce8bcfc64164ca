"""Permutations: logits of pointers by which each node is pointed at once.

In the answer of a sorting task the first node points at itself and every other one at the node
before it. Closed to a cycle, the first pointing at the last, that is a permutation that moves every
node: Sinkhorn's iterations bring logits near one. Which node is the first is predicted besides.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from evojax_nar.models.graph.encoding import FAR

ITERATIONS = 10
TEMPERATURE = 0.1


def log_sinkhorn(logits: jax.Array, nodes: jax.Array, iterations: int = ITERATIONS) -> jax.Array:
    """Logarithms (B, V, V) of a matrix whose rows and columns nearly sum to 1, with no diagonal.

    Source: Mena et al. 2018, arXiv:1802.08665, without noise: a model has no key. The temperature
    is that of Ibarz et al. 2022, arXiv:2209.11142.

    Args:
      logits: (B, V, V), from a node to the one that it points at.
      nodes: (B, V) bool, those that exist; the others have no part in it.
      iterations: how often rows and then columns are made to sum to 1.
    """
    pairs = nodes[:, :, None] & nodes[:, None] & ~jnp.eye(nodes.shape[1], dtype=bool)

    def normalise(values: jax.Array, axis: int) -> jax.Array:
        sums = jax.nn.logsumexp(values, axis=axis, keepdims=True)
        return jnp.where(pairs, values - sums, FAR)

    def turn(values: jax.Array, _: Any) -> tuple[jax.Array, None]:
        return normalise(normalise(values, 2), 1), None

    start = jnp.where(pairs, logits / TEMPERATURE, FAR)
    return jax.lax.scan(turn, start, None, length=iterations)[0]


def fuse(order: jax.Array, first: jax.Array, nodes: jax.Array) -> jax.Array:
    """Log-probabilities (B, V, V) of pointers where the first node points at itself.

    A node is the first with a probability f, and then points at itself; else it points as `order`
    says, at j with (1 - f) P_j.

    Args:
      order: (B, V, V), logarithms of the permutation that is a cycle.
      first: (B, V), logits of which node is the first.
      nodes: (B, V) bool, those that exist.
    """
    own = jnp.eye(nodes.shape[1], dtype=bool)
    chances = jax.nn.log_softmax(jnp.where(nodes, first, FAR))
    # log(1 - f) is the logarithm of what the others have, which is exact where f is near 1.
    others = jnp.where(own, FAR, chances[:, None])
    rest = jax.nn.logsumexp(others, axis=-1, keepdims=True)
    return jnp.where(own, chances[:, :, None], order + rest)
