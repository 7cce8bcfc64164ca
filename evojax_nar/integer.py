"""Arithmetic of int8 networks, and noise that moves int8 parameters by whole bins.

Weights and activations are int8 in -127..127, sums are int32, and what does not fit saturates. A
number counts in bins of 1/16, so 16 stands for 1.

A perturbed weight stays apart as a `Perturbed`: the shared base and two thin factors. The
operations below take one in place of an array and never form it. `perturb` is not used for this.
It promises a program that agrees with the formed sum, for any program; here the correction is
rounded once, after both products, so the place of the rounding is part of what is computed
(EGGROLL, Sarkar et al. 2025, arXiv:2511.16652, appendix G) and only the model can say where it is.
A function of one's own that knows nothing of this calls `jnp.asarray` on a leaf, which forms it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import InputError
from evojax_nar.population import Members
from evojax_nar.types import Carry, Key, Params

LIMIT = 127
"""The largest int8 in use; -128 is not, so that a sign can always be turned."""
UNIT_BITS = 4
"""A bin is 2**-4: factors and fresh weights have a standard deviation of 16 bins."""
LONGEST = (2**31 - 1) // LIMIT**3
"""Rows of a matrix at most: beyond, the correction of a perturbed product could leave int32."""


def saturate(values: jax.Array) -> jax.Array:
    """Whole numbers as int8, clipped to -127..127."""
    return jnp.clip(values, -LIMIT, LIMIT).astype(jnp.int8)


def halve(values: jax.Array, times: Any) -> jax.Array:
    """int32 values / 2**times, rounded to the nearest; a half goes up.

    Rounded and not cut off, since cutting off would move both members of a pair the same way.
    """
    half = jnp.left_shift(jnp.int32(1), times) >> 1
    return jnp.right_shift(values + half, times)


@final
@partial(jax.tree_util.register_dataclass, data_fields=["base", "a", "b", "shift"], meta_fields=[])
@dataclass(frozen=True)
class Perturbed:
    """An int8 parameter and its noise: base + a b^T / 2**shift, or base + a * b / 2**shift.

    The first is of a matrix with m rows (all axes but the last) and n columns, the second of a
    vector. Both are rounded once, and saturated where they are formed.
    """

    base: jax.Array
    """int8, shared by all members."""
    a: jax.Array
    """(m,) int8 of a matrix, (n,) of a vector."""
    b: jax.Array
    """(n,) int8."""
    shift: jax.Array
    """int32 scalar."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter."""
        return self.base.shape

    @property
    def ndim(self) -> int:
        """Axes of the parameter."""
        return self.base.ndim

    def __jax_array__(self) -> jax.Array:
        """The parameter of this member, formed: int8, saturated."""
        a, b = self.a.astype(jnp.int32), self.b.astype(jnp.int32)
        noise = jnp.outer(a, b) if self.ndim > 1 else a * b
        return saturate(self.base + halve(noise.reshape(self.shape), self.shift))

    def astype(self, dtype: Any) -> jax.Array:
        """The same, as another type."""
        return self.__jax_array__().astype(dtype)


Weights = jax.Array | Perturbed


def product(inputs: jax.Array, weights: Weights) -> jax.Array:
    """inputs (..., m) times weights (m, n), both int8, accumulated: (..., n) int32.

    Perturbed: inputs W + ((inputs a) b^T >> shift), with one W for all members.

    Raises:
      InputError: for more than `LONGEST` rows.
    """
    if weights.shape[0] > LONGEST:
        raise InputError(
            f"weights has {weights.shape[0]} rows, whose sums could leave int32; "
            f"give at most {LONGEST}"
        )
    base = weights.base if isinstance(weights, Perturbed) else weights
    shared = jnp.matmul(inputs, base, preferred_element_type=jnp.int32)
    if not isinstance(weights, Perturbed):
        return shared
    wide = inputs.astype(jnp.int32)
    inner = jnp.sum(wide * weights.a.astype(jnp.int32), axis=-1, keepdims=True, dtype=jnp.int32)
    return shared + halve(inner * weights.b.astype(jnp.int32), weights.shift)


def lookup(index: jax.Array, weights: Weights) -> jax.Array:
    """Rows `index` (...) of weights (m, n): (..., n) int8."""
    if not isinstance(weights, Perturbed):
        return weights[index]
    outer = weights.a[index].astype(jnp.int32)[..., None] * weights.b.astype(jnp.int32)
    return saturate(weights.base[index] + halve(outer, weights.shift))


def vector(weights: Weights) -> jax.Array:
    """A vector of parameters (n,) as int32, formed where it is perturbed: it is small."""
    return jnp.asarray(weights).astype(jnp.int32)


def draw_factors(key: Key, params: Params) -> Params:
    """Factors of every leaf: a tree like `params` of pairs (a, b) of int8, round(16 N(0, 1)).

    All of them are one draw, cut into leaves.
    """
    leaves, structure = jax.tree.flatten(params)
    sizes = [(_rows(leaf), _columns(leaf)) for leaf in leaves]
    total = sum(m + n for m, n in sizes)
    normal = jax.random.normal(key, (total,), jnp.float32)
    flat = saturate(jnp.round(normal * 2**UNIT_BITS).astype(jnp.int32))
    factors, place = [], 0
    for m, n in sizes:
        factors.append((flat[place : place + m], flat[place + m : place + m + n]))
        place += m + n
    return jax.tree.unflatten(structure, factors)


def _columns(leaf: jax.Array) -> int:
    return leaf.shape[-1] if leaf.ndim else 1


def _rows(leaf: jax.Array) -> int:
    return leaf.size // leaf.shape[-1] if leaf.ndim > 1 else _columns(leaf)


@final
@partial(
    jax.tree_util.register_dataclass,
    data_fields=["centre", "key", "shift"],
    meta_fields=["units", "slices"],
)
@dataclass(frozen=True)
class IntegerPairs(Members):
    """Antithetic pairs around int8 parameters: noise of rank 1, added and taken away.

    Where there are several slices, what is evaluated is a pair of the parameters and the number of
    the slice of the data that is the member's, an int32 scalar.
    """

    centre: Params
    key: Key
    shift: jax.Array
    units: int
    slices: int = 1
    width = 2

    def draw(self, index: jax.Array) -> Any:
        """Factors of pair `index`, and its slice."""
        factors = draw_factors(jax.random.fold_in(self.key, index), self.centre)
        return factors, index % self.slices

    def evaluate(self, run: Callable[[Params, Carry], Any], draw: Any, carry: Carry) -> Any:
        """The member with + and the member with -, as two calls that share the draw."""
        factors, place = draw
        results = []
        for row, sign in enumerate((1, -1)):
            own = jax.tree.map(lambda leaf, row=row: leaf[row], carry)
            member = self.member(factors, sign)
            results.append(run((member, place) if self.slices > 1 else member, own))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    def member(self, factors: Params, sign: int) -> Params:
        """Parameters of one member: a tree like the centre, of `Perturbed`."""
        return jax.tree.map(
            lambda leaf, own: Perturbed(leaf, jnp.int8(sign) * own[0], own[1], self.shift),
            self.centre,
            factors,
        )

    def weigh(self, draws: Any, weights: jax.Array) -> Params:
        """Sum over C pairs of weight (C, 2), -1, 0 or 1, of + less that of -, times a b^T; int32.

        The weight joins one factor, so that both operands are int8.
        """
        signs = (weights[:, 0] - weights[:, 1]).astype(jnp.int8)[:, None]

        def total(leaf: jax.Array, own: Any) -> jax.Array:
            equation = "ci,cj->ij" if leaf.ndim > 1 else "ci,ci->i"
            a, b = signs * own[0], own[1]
            summed = jnp.einsum(equation, a, b, preferred_element_type=jnp.int32)
            return summed.reshape(leaf.shape)

        return jax.tree.map(total, self.centre, draws[0])
