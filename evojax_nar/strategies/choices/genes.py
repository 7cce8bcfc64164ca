"""Trees of choices as rows of D genes: what they may hold, and how often they are redrawn."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.discrete import Choices, is_choices
from evojax_nar.errors import InputError, finite, positive_int, reject
from evojax_nar.types import Params

REDRAWN = 2
"""Genes of a child that are redrawn, in the mean, where nothing else is said: with one, more than
a third of all children would be copies of their parent."""


def choice_params(params: Params) -> Params:
    """`params` with every choice an int32 array from 0 to its count - 1.

    Raises:
      InputError: where a leaf is no choice, naming its path.
    """

    def convert(path: Any, node: Any) -> Choices:
        where = jax.tree_util.keystr(path)
        array = jnp.asarray(node.value if is_choices(node) else node)
        if not is_choices(node):
            raise InputError(
                f"params{where} has type {array.dtype} and no count to choose from; give "
                "discrete.Choices, or take strategies.Relaxation for numbers beside choices"
            )
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise InputError(
                f"params{where} holds choices of type {array.dtype}; give whole numbers"
            )
        positive_int(f"params{where}.count", node.count)
        return Choices(jnp.clip(array.astype(jnp.int32), 0, node.count - 1), node.count)

    return jax.tree_util.tree_map_with_path(convert, params, is_leaf=is_choices)


def gene_count(params: Params) -> int:
    """D, the number of choices in `params`."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def default_rate(params: Params) -> float:
    """The chance of a gene by which `REDRAWN` of them are redrawn, at most a half."""
    return min(0.5, REDRAWN / max(1, gene_count(params)))


def cut(row: jax.Array, shapes: list[tuple[int, ...]]) -> list[jax.Array]:
    """A row of D numbers as arrays of these shapes, one after the other.

    Each draw of random numbers adds to the time that XLA takes to compile, so all genes share one.
    """
    ends = np.cumsum([0, *(np.prod(shape, dtype=int) for shape in shapes)])
    return [
        row[start:end].reshape(shape)
        for start, end, shape in zip(ends[:-1], ends[1:], shapes, strict=True)
    ]


def unit_interval(words: jax.Array) -> jax.Array:
    """Random words (...) uint32 as uniform numbers from 0 to 1, 1 excluded, of 24 bits."""
    return (words >> 8).astype(jnp.float32) * 2.0**-24


def check_share(argument: str, value: Any, *, positive: bool = False) -> None:
    """Raise an `InputError` unless `value` is from 0 to 1, and above 0 where it must be."""
    if finite(argument, value, above=0.0 if positive else None) < 0:
        raise reject(argument, value, "is below 0", "give 0 or more")
    if value > 1:
        raise reject(argument, value, "is more than all", "give at most 1")
