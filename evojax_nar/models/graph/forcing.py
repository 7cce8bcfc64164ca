"""Teacher forcing without a key: which steps of which examples read the true hints.

A model is a pure function of its inputs, so the coin is a hash of an example's inputs and of the
step. An example by itself, in another place of a batch or with more padding falls the same way, and
all members of a population are told the same; another example falls independently.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evojax_nar.types import Graph

_GOLDEN = 0x9E3779B9
"""2^32 over the golden ratio: multiples of it are spread evenly."""


def forced(graph: Graph, share: float) -> jax.Array:
    """(T, B) bool, true for `share` of the pairs of step and example, in the long run."""
    seed = jnp.zeros(len(graph.mask), jnp.uint32)
    for place, name in enumerate(sorted(graph.values)):
        bits = _mix(_bits(graph.values[name]))
        # Padding is 0, whose hash is 0, so that a sum does not see it.
        seed = _mix(seed + bits.reshape(len(seed), -1).sum(axis=1, dtype=jnp.uint32) + place)
    steps = jnp.arange(1, len(graph.running) + 1, dtype=jnp.uint32)[:, None]
    coins = _mix(seed + steps * jnp.uint32(_GOLDEN))
    return (coins >> 8).astype(jnp.float32) * 2.0**-24 < share


def _bits(values: jax.Array) -> jax.Array:
    if jnp.issubdtype(values.dtype, jnp.integer):
        return values.astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(values.astype(jnp.float32), jnp.uint32)


def _mix(bits: jax.Array) -> jax.Array:
    """The finaliser of MurmurHash3 (Appleby 2011), which leaves 0 as it is."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)
