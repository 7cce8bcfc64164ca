"""Features to predictions, by the place and kind of the probe: logits, or real numbers.

Source: Ibarz et al. 2022, arXiv:2209.11142, section 3.2, and Velickovic et al. 2022,
arXiv:2205.15659, appendix B.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.models.graph.encoding import FAR, POINTERS, Features
from evojax_nar.models.graph.permutations import fuse, log_sinkhorn
from evojax_nar.types import Field


class Decoder(nn.Module):
    """A few linear maps a field."""

    fields: tuple[Field, ...]
    hidden: int

    @nn.compact
    def __call__(self, features: Features, nodes: jax.Array) -> dict[str, jax.Array]:
        """Predictions by field name, for nodes that exist as (B, V) says."""
        return {field.name: self._decode(field, features, nodes) for field in self.fields}

    def _decode(self, field: Field, features: Features, nodes: jax.Array) -> jax.Array:
        def linear(place: str, values: jax.Array, width: int) -> jax.Array:
            return nn.Dense(width, name=f"{field.name}_{place}")(values)

        node, edge, graph = features
        pointer = field.kind in POINTERS
        width = self.hidden if pointer else field.features if field.kind == "categorical" else 1
        if field.location == "graph":
            most = jnp.where(nodes[..., None], node, FAR).max(axis=1)
            found = linear("node", most, width) + linear("graph", graph, width)
        elif field.location == "edge":
            found = linear("from", node, width)[:, :, None] + linear("to", node, width)[:, None]
            found = found + linear("edge", edge, width)
            if pointer:
                at = linear("at", node, width)
                found = linear("logit", jnp.maximum(found[:, :, :, None], at[:, None, None]), 1)
        elif pointer:
            there = linear("to", node, width)[:, :, None] + linear("edge", edge, width)
            here = linear("from", node, width)[:, :, None]
            found = linear("logit", jnp.maximum(here, there.swapaxes(1, 2)), 1)
            if field.kind == "permutation":
                order = log_sinkhorn(found[..., 0], nodes)
                return fuse(order, linear("first", node, 1)[..., 0], nodes)
        else:
            found = linear("node", node, width)
        return found if field.kind == "categorical" else found[..., 0]
