"""Probes to features: what is known of nodes, of their pairs and of the whole, each H numbers.

Every field has a linear map of its own, and what is known in one place is summed.
Source: Ibarz et al. 2022, arXiv:2209.11142, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.types import Field

POINTERS = ("pointer", "permutation")
FAR = -1e6
"""Stands for a maximum over nothing, and for a logit of a node that does not exist."""


class Features(NamedTuple):
    """What a processor reads."""

    node: jax.Array
    """(B, V, H)."""
    edge: jax.Array
    """(B, V, V, H)."""
    graph: jax.Array
    """(B, H)."""


class Encoder(nn.Module):
    """A linear map a field, summed in each place; an edge pointer has two."""

    fields: tuple[Field, ...]
    hidden: int

    @nn.compact
    def __call__(self, values: Mapping[str, jax.Array], nodes: jax.Array) -> Features:
        """Features of soft probes (see `soften`), for nodes that exist as (B, V) says."""
        batch, count = nodes.shape
        sums = {
            "node": jnp.zeros((batch, count, self.hidden)),
            "edge": jnp.zeros((batch, count, count, self.hidden)),
            "graph": jnp.zeros((batch, self.hidden)),
        }
        for field in self.fields:
            value = values[field.name]
            if field.kind != "categorical":
                value = value[..., None]
            encoded = nn.Dense(self.hidden, name=field.name)(value)
            place = field.location
            if field.kind in POINTERS and place == "node":
                place = "edge"
            elif field.kind in POINTERS:
                # From (i, j) at k: the mean over senders of one map, over receivers of the other.
                other = nn.Dense(self.hidden, name=f"{field.name}_receiver")(value)
                encoded = _mean(encoded, nodes, axis=1) + _mean(other, nodes, axis=2)
            sums[place] += encoded
        return Features(**sums)


def _mean(values: jax.Array, nodes: jax.Array, axis: int) -> jax.Array:
    """Mean of (B, V, V, V, H) over one axis of nodes, those that exist."""
    shape = [nodes.shape[0], *[1] * (values.ndim - 1)]
    shape[axis] = nodes.shape[1]
    weights = (nodes / jnp.maximum(nodes.sum(axis=1, keepdims=True), 1)).reshape(shape)
    return (values * weights).sum(axis=axis)


def soften(fields: tuple[Field, ...], probes: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Probes with pointers as one-hot rows, (..., V), float32; what is masked out stays -1."""
    found = {}
    for field in fields:
        value = probes[field.name]
        if field.kind in POINTERS:
            value = jax.nn.one_hot(value, value.shape[1], dtype=jnp.float32)
        found[field.name] = value.astype(jnp.float32)
    return found


def read_back(
    field: Field, logits: jax.Array, nodes: jax.Array, *, hard: bool = False
) -> jax.Array:
    """Logits of a probe as the soft probe that they stand for; as a decision where `hard`.

    No gradient passes a decision, nor a real number that is read where `hard`.
    """
    if field.kind == "scalar":
        return jax.lax.stop_gradient(logits) if hard else logits
    if field.kind == "mask":
        return (logits > 0).astype(logits.dtype) if hard else jax.nn.sigmoid(logits)
    if field.kind != "categorical":
        real = nodes.reshape(nodes.shape[0], *[1] * (logits.ndim - 2), nodes.shape[1])
        logits = jnp.where(real, logits, FAR)
    if hard:
        return jax.nn.one_hot(logits.argmax(axis=-1), logits.shape[-1], dtype=logits.dtype)
    return jax.nn.softmax(logits)


def links(
    fields: tuple[Field, ...], probes: Mapping[str, jax.Array], nodes: jax.Array
) -> jax.Array:
    """Which nodes are neighbours by soft probes, (B, V, V) bool, symmetric; each is its own.

    Pointers link where they are worth more than 0.5 one way and the other together, masks of edges
    where they are not 0: those that are read back softly never are, and link all nodes.
    Source: Ibarz et al. 2022, arXiv:2209.11142.
    """
    count = nodes.shape[1]
    found = jnp.zeros((*nodes.shape, count), bool)
    for field in fields:
        value = probes[field.name]
        if field.location == "node" and field.kind in POINTERS:
            found |= value + value.swapaxes(1, 2) > 0.5
        elif field.location == "edge" and field.kind == "mask":
            found |= value + value.swapaxes(1, 2) > 0.0
    return found & nodes[:, :, None] & nodes[:, None] | jnp.eye(count, dtype=bool)
