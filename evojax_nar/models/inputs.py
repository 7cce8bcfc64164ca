"""Inputs of zeros, by which a model learns its shapes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from evojax_nar.types import Field, Graph, Sequence, TaskSpec


def blank(spec: TaskSpec, *, batch: int) -> Any:
    """What a task with this specification gives, all zeros, in the length of its largest size.

    A `Sequence` (B, max_length, F), or a `Graph` of V = max_length nodes for one step.
    """
    shape = (batch, spec.max_length)
    if not spec.is_graph:
        return Sequence(
            jnp.zeros((*shape, spec.input_features), jnp.float32), jnp.ones(shape, bool)
        )

    def zeros(field: Field) -> jax.Array:
        nodes = {"node": 1, "edge": 2, "graph": 0}[field.location]
        classes = (field.features,) if field.kind == "categorical" else ()
        dtype = jnp.int32 if field.kind in ("pointer", "permutation") else jnp.float32
        return jnp.zeros((batch, *[spec.max_length] * nodes, *classes), dtype)

    return Graph(
        values={field.name: zeros(field) for field in spec.inputs},
        mask=jnp.ones(shape, bool),
        running=jnp.ones((1, batch), bool),
        hints={field.name: zeros(field)[None] for field in spec.hints},
    )
