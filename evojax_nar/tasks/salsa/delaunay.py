"""Delaunay graphs of random points, exactly, without a triangulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.salsa.families import Family
from evojax_nar.types import Key

NEAREST = 24
"""Points near each that pairs are held against first."""


@final
@dataclass(frozen=True)
class Delaunay(Family):
    """The Delaunay graph of uniform points in the unit square: planar, with mostly local edges.

    Source: Minder et al. 2023, SALSA-CLRS, arXiv:2309.12253. See `edges_of` for how exact it is.
    """

    name: ClassVar[str] = "delaunay"

    def draw(self, key: Key, size: jax.Array, nodes: int) -> jax.Array:
        """See `Family`."""
        return edges_of(jax.random.uniform(key, (nodes, 2)), size)


def edges_of(points: jax.Array, size: jax.Array) -> jax.Array:
    """The Delaunay graph of the first `size` of points (V, 2), as (V, V) bool.

    Two points are neighbours where some circle through both has all others outside. Centres of such
    circles lie on a line, and each other point bounds them from one side: there is a circle where
    the largest lower bound is below the smallest upper one. All pairs are held against the nearest
    points of both; what is left, some 3 V pairs of uniform points, is held against all points, V
    pairs at a time. It is the definition itself, in float32: where four points lie on one circle
    but for an error of rounding, both diagonals may be edges, or none.
    """
    nodes = points.shape[0]
    index = jnp.arange(nodes)
    exists = index < size
    x, y = points.T
    apart = jnp.square(x[:, None] - x) + jnp.square(y[:, None] - y)
    # The point itself is the nearest one, and bounds nothing.
    near = jax.lax.top_k(-jnp.where(exists, apart, jnp.inf), min(NEAREST + 1, nodes))[1]

    def narrow(carry: _Bounds, outside: jax.Array) -> tuple[_Bounds, None]:
        """Bounds (V, V) of each pair by one more point near the first of the pair, (V,)."""
        found = _bounds(points, exists, index[:, None], index, outside[:, None])
        return _both(carry, found), None

    free = jnp.full((nodes, nodes), jnp.inf)
    begin = _Bounds(-free, free, jnp.zeros((nodes, nodes), bool))
    possible = _is_edge(jax.lax.scan(narrow, begin, near.T)[0])
    possible &= possible.T & (index[:, None] < index) & exists

    def decide(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        left, edges = carry
        (pair,) = jnp.nonzero(left, size=nodes, fill_value=nodes * nodes)
        one, two = pair // nodes, pair % nodes
        found = _bounds(points, exists, one[:, None], two[:, None], index)
        found = _Bounds(found.lower.max(axis=1), found.upper.min(axis=1), found.between.any(axis=1))
        return left.at[pair].set(False, mode="drop"), edges.at[pair].set(
            _is_edge(found), mode="drop"
        )

    # Each round decides on V pairs, or on all that are left.
    start = (possible.reshape(-1), jnp.zeros(nodes * nodes, bool))
    _, upper = jax.lax.while_loop(lambda carry: carry[0].any(), decide, start)
    upper = upper.reshape(nodes, nodes)
    return upper | upper.T


class _Bounds(NamedTuple):
    """What points outside leave of the centres of circles, as places on the bisector."""

    lower: jax.Array
    upper: jax.Array
    between: jax.Array
    """Whether a point lies between the two, where no circle has it outside, bool."""


def _bounds(
    points: jax.Array, exists: jax.Array, one: jax.Array, two: jax.Array, outside: jax.Array
) -> _Bounds:
    """The bounds that points set to circles through two others; indices are broadcast."""
    x, y = points.T
    ahead = x[two] - x[one], y[two] - y[one]
    aside = x[outside] - x[one], y[outside] - y[one]
    behind = x[outside] - x[two], y[outside] - y[two]
    cross = ahead[0] * aside[1] - ahead[1] * aside[0]
    along = aside[0] * behind[0] + aside[1] * behind[1]
    other = exists[outside] & (outside != one) & (outside != two)
    place = along / cross
    return _Bounds(
        lower=jnp.where(other & (cross < 0), place, -jnp.inf),
        upper=jnp.where(other & (cross > 0), place, jnp.inf),
        between=other & (cross == 0) & (along <= 0),
    )


def _is_edge(bounds: _Bounds) -> jax.Array:
    return (bounds.lower < bounds.upper) & ~bounds.between


def _both(one: _Bounds, two: _Bounds) -> _Bounds:
    return _Bounds(
        jnp.maximum(one.lower, two.lower),
        jnp.minimum(one.upper, two.upper),
        one.between | two.between,
    )
