"""What tasks on two strings share. The nodes of one come first, then those of the other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs.machine import Problem, at
from evojax_nar.tasks.clrs.probes import POS, node
from evojax_nar.tasks.clrs.ranking import ascending
from evojax_nar.types import Key

LETTERS = 4
STRINGS = (node("string", "mask"), POS, node("key", "categorical", LETTERS))
"""The inputs: which string a node is of, 0 or 1; its place in that, i / n; its letter."""


def first_length(problem: Problem) -> jax.Array:
    """The length of the first string, int32."""
    return problem.size - (problem.inputs["string"] > 0).sum(dtype=jnp.int32)


def letters(problem: Problem) -> jax.Array:
    """The letter of each node, (V,) int32; 0 past the size."""
    return jnp.where(problem.inputs["key"] > 0, jnp.arange(LETTERS), 0).sum(1, dtype=jnp.int32)


def predecessors(problem: Problem, length: jax.Array) -> jax.Array:
    """The node before each in its string, the first ones before themselves, (V,) int32."""
    index = problem.index
    first = (index == 0) | (index == length)
    return jnp.where(problem.exists, jnp.where(first, index, index - 1), 0)


def draw_strings(
    key: Key, one: jax.Array, two: jax.Array, nodes: int, *, varied: bool
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Letters of two strings of these lengths, and their other inputs.

    Returns:
      Uniform letters (V,) int32; `string` and `pos`.
    """
    at_key, letter_key = jax.random.split(key)
    index = jnp.arange(nodes, dtype=jnp.int32)
    exists, second = index < one + two, (index >= one) & (index < one + two)
    if varied:
        # Sorted together, the second string with one more, which keeps all bits of a float32.
        drawn = jax.random.uniform(at_key, (nodes,)) + second
        pos = ascending(drawn, exists) - second
    else:
        pos = jnp.where(second, index - one, index) / jnp.maximum(jnp.where(second, two, one), 1)
    drawn = jax.random.randint(letter_key, (nodes,), 0, LETTERS, jnp.int32)
    pos = jnp.where(exists, pos, 0.0).astype(jnp.float32)
    return drawn, {"string": second.astype(jnp.float32), "pos": pos}


def spell(drawn: jax.Array, exists: jax.Array) -> jax.Array:
    """Letters (V,) as the input `key`, (V, 4) float32."""
    shown = jax.vmap(lambda letter: at(letter, LETTERS))(drawn)
    return (shown & exists[:, None]).astype(jnp.float32)


def replay_strings(one: np.ndarray, two: np.ndarray) -> dict[str, np.ndarray]:
    """The inputs of two strings of letters."""
    parts = [np.arange(len(word)) / max(len(word), 1) for word in (one, two)]
    return {
        "string": np.repeat([0.0, 1.0], [len(one), len(two)]),
        "pos": np.concatenate(parts),
        "key": np.eye(LETTERS)[np.concatenate([one, two])],
    }
