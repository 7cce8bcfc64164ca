"""Random inputs that several algorithms share: on the device, and replayed in NumPy.

On the device an array is (V,) with zeros past the size, which is traced.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs.ranking import ascending
from evojax_nar.types import Key


def positions(key: Key, size: jax.Array, nodes: int, *, varied: bool) -> jax.Array:
    """i / n for each of n nodes, or n sorted uniform numbers where `varied`, (V,) float32."""
    index = jnp.arange(nodes)
    exists = index < size
    if not varied:
        return jnp.where(exists, index / jnp.maximum(size, 1), 0.0).astype(jnp.float32)
    return ascending(jax.random.uniform(key, (nodes,)), exists)


def uniform(
    key: Key, size: jax.Array, nodes: int, low: float = 0.0, high: float = 1.0
) -> jax.Array:
    """n numbers uniform in [low, high), (V,) float32."""
    drawn = jax.random.uniform(key, (nodes,), jnp.float32, low, high)
    return jnp.where(jnp.arange(nodes) < size, drawn, 0.0)


def replay_positions(size: int) -> np.ndarray:
    """i / n for each of n nodes, (n,) float64."""
    return np.arange(size) / size


def replay_uniform(
    random: np.random.RandomState, size: int, low: float = 0.0, high: float = 1.0
) -> np.ndarray:
    """n numbers uniform in [low, high), (n,) float64."""
    return random.uniform(low=low, high=high, size=(size,))
