"""What machines on graphs read."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.machine import Problem, read


def first(mask: jax.Array) -> jax.Array:
    """The first true entry of (V,), int32; V where there is none."""
    nodes = mask.shape[0]
    return jnp.where(mask, jnp.arange(nodes, dtype=jnp.int32), nodes).min()


def identity(problem: Problem) -> jax.Array:
    """Every node points at itself, (V,) int32; 0 past the size."""
    return jnp.where(problem.exists, problem.index, 0)


def neighbours(problem: Problem, at: jax.Array) -> jax.Array:
    """(V,) bool: where edges lead from a node."""
    return read(problem.inputs["A"], at) != 0


def source(problem: Problem) -> jax.Array:
    """The node to start from, int32."""
    return first(problem.inputs["s"] > 0)


def adjacency(problem: Problem, matrix: jax.Array) -> jax.Array:
    """The probe of which edges a matrix (V, V) has, and from every node to itself."""
    linked = (matrix != 0) | (problem.index[:, None] == problem.index)
    return (linked & pairs(problem)).astype(problem.dtype)


def pairs(problem: Problem) -> jax.Array:
    """(V, V) bool: pairs of nodes that exist."""
    return problem.exists[:, None] & problem.exists
