"""Gaussian pairs with widths of their own: how wide each parameter's noise is, and what says so.

Dense noise has a width for every parameter. Widths for every entry of a matrix would break the rank
of thin noise, so there the width of entry (i, j) is u_i v_j: the noise (u a)(v b)^T / sqrt(r) has
rank r like a b^T, and m + n widths stand for m n.

Of what a member has, nothing of m n numbers is formed; only sums over members are shaped like the
parameters. Why the rule for thin noise is right: with a = u x and b = v y, x and y standard normal,
the search distribution is Gaussian in (a, b). Its score for log u_i is the sum over r of
(x_ir^2 - 1), its Fisher information 2 r, so the natural gradient is the mean over r of
(x_ir^2 - 1) / 2, as it is (s^2 - 1) / 2 for an entry of dense noise s; likewise for log v_j. With
many rows and columns it tends to the least-squares fit, by log u_i + log v_j, of the gradients
(s_ij^2 - 1) / 2 that elementwise widths would have, s being the noise in units of them.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar import noise as noises
from evojax_nar.noise import Noise, Perturbation, Thin
from evojax_nar.population import Members, evaluate_pair
from evojax_nar.types import Carry, Key, Params

Widths = Any
"""A tree like the parameters, of arrays, `Separable` pairs and None where a leaf is frozen."""


class Separable(NamedTuple):
    """Numbers of a leaf with m rows and n columns whose noise is thin."""

    rows: jax.Array
    """(m,), one for each row of a."""
    columns: jax.Array
    """(n,), one for each row of b."""


@final
@partial(
    jax.tree_util.register_dataclass,
    data_fields=["centre", "log_widths", "sigma", "key"],
    meta_fields=["units", "noise"],
)
@dataclass(frozen=True)
class AdaptivePairs(Members):
    """Antithetic pairs: centre + and - sigma * widths * noise, one draw a pair.

    Args:
      centre: the parameters.
      log_widths: logarithms of the widths, relative to sigma.
      sigma: scalar.
      key: of the generation.
      units: pairs.
      noise: a rule of unit variance: see `unscaled`.
    """

    centre: Params
    log_widths: Widths
    sigma: jax.Array
    key: Key
    units: int
    noise: Noise
    width = 2

    def draw(self, index: jax.Array) -> Perturbation:
        """Unit noise of pair `index`; thin noise of normal factors, whatever the rule's own are.

        Widths are learned from how long factors were, and random signs are all equally long.
        """
        key = jax.random.fold_in(self.key, index)
        return self.noise.draw(key, self.centre, factors=noises.normal)

    def evaluate(self, run: Callable[[Params, Carry], Any], draw: Any, carry: Carry) -> Any:
        """The member with + and the member with -, which share the draw."""
        wide = widen(draw, self.log_widths)
        return evaluate_pair(run, self.centre, wide, self.sigma, carry)

    def form(self, index: jax.Array, sign: jax.Array) -> Params:
        """The member of pair `index` with the sign 1 or -1, as parameters."""
        wide = widen(self.draw(index), self.log_widths)
        return noises.materialise(self.centre, noises.scale(wide, sign * self.sigma))

    def weigh(self, draws: Any, weights: jax.Array) -> tuple[Params, Widths]:
        """Both moments of C pairs, from weights (C, 2, 2): one for each sign and moment.

        The first is the sum of weight times noise, in units of the parameters. The second is the
        sum of weight times (s^2 - 1), s being the unit noise, and its mean over r for thin noise:
        twice the natural gradient with respect to the log-widths, shaped like them.
        """
        odd = weights[:, 0, 0] - weights[:, 1, 0]
        even = weights[:, 0, 1] + weights[:, 1, 1]
        first = noises.weigh(self.centre, draws, odd)
        centre, structure = jax.tree.flatten(first)
        own = zip(centre, _leaves(self.log_widths), strict=True)
        first = jax.tree.unflatten(structure, [self._in_units(leaf, log) for leaf, log in own])
        second = [_excess(leaf, even) for leaf in _leaves(draws)]
        return first, jax.tree.unflatten(structure, second)

    def _in_units(self, summed: jax.Array, log: Any) -> jax.Array:
        if log is None:
            return summed
        if not isinstance(log, Separable):
            return self.sigma * jnp.exp(log) * summed
        rows, columns = jnp.exp(log.rows), jnp.exp(log.columns)
        table = summed.reshape(rows.size, columns.size)
        return (self.sigma * rows[:, None] * table * columns).reshape(summed.shape)


def _excess(draw: Any, weights: jax.Array) -> Any:
    """Sum over C draws of weights (C,) times what their squares exceed their mean of one by."""
    if draw is None:
        return None
    if isinstance(draw, Thin):
        rank = draw.b.shape[-1]  # a, and not b, is drawn in units of 1 / sqrt(r)
        rows, columns = (draw.a**2).sum(axis=-1), (draw.b**2).sum(axis=-1) / rank
        return Separable(weights @ (rows - 1), weights @ (columns - 1))
    return jnp.tensordot(weights, draw**2 - 1, axes=1)


def widen(draw: Perturbation, log_widths: Widths) -> Perturbation:
    """Unit noise times its widths; thin noise stays as thin as it is."""

    def wide(log: Any, own: Any) -> Any:
        if log is None:
            return None
        if isinstance(log, Separable):
            rows, columns = jnp.exp(log.rows), jnp.exp(log.columns)
            return Thin(own.a * rows[:, None], own.b * columns[:, None])
        return own * jnp.exp(log)

    return jax.tree.map(wide, log_widths, draw, is_leaf=_is_leaf)


def start_widths(noise: Noise, params: Params) -> Widths:
    """The logarithms of the first widths: zero, or that of the scale that a rule gives a leaf."""
    drawn = jax.eval_shape(noise.draw, jax.random.key(0), params)

    def first(path: Any, own: Any) -> Any:
        log = math.log(_scale(noise, jax.tree_util.keystr(path, simple=True, separator="/")))
        if own is None:
            return None
        if isinstance(own, Thin):
            rows, columns = own.a.shape[0], own.b.shape[0]
            return Separable(*(jnp.full(size, log / 2, jnp.float32) for size in (rows, columns)))
        return jnp.full(own.shape, log, jnp.float32)

    return jax.tree_util.tree_map_with_path(first, drawn, is_leaf=_is_leaf)


def unscaled(noise: Noise) -> Noise:
    """`noise` without the scales of its rules, which the first widths have."""
    rules = tuple(dataclasses.replace(rule, scale=1.0) for rule in noise.rules)
    return dataclasses.replace(noise, rules=rules)  # type: ignore[type-var]


def mean_log_width(log_widths: Widths) -> jax.Array:
    """Mean of the logarithms over the D perturbed parameters; 0 where there are none."""
    total, count = jnp.zeros(()), 0
    for log in _leaves(log_widths):
        if isinstance(log, Separable):
            size = log.rows.size * log.columns.size
            total += size * (log.rows.mean() + log.columns.mean())
            count += size
        elif log is not None:
            total += log.sum()
            count += log.size
    return total / max(count, 1)


def _scale(noise: Noise, path: str) -> float:
    """What the first rule that matches a path multiplies sigma by."""
    rule = next((rule for rule in noise.rules if re.search(rule.pattern, path)), None)
    return 1.0 if rule is None else rule.scale


def _is_leaf(value: Any) -> bool:
    return value is None or isinstance(value, (Separable, Thin))


def _leaves(tree: Widths | Perturbation) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=_is_leaf)
