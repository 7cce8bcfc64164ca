"""Noise rules: how a member differs from the centre. An axis of its own of Gaussian strategies.

A rule draws a *perturbation*: a tree like the parameters, in which a leaf is an array of noise, a
`Thin` pair of factors, or None where the leaf is frozen. What is done with one is the same for
every rule, and stands below as functions.
"""

from __future__ import annotations

import abc
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar import factored, perturb
from evojax_nar.errors import InputError, finite, positive_int, reject, unknown
from evojax_nar.settings import Configurable
from evojax_nar.types import Key, Params

Perturbation = Any
"""A tree like the parameters, of arrays, `Thin` pairs and None."""


class Thin(NamedTuple):
    """Noise of rank r of a leaf with m rows (all axes but the last) and n columns: a b^T."""

    a: jax.Array
    """(m, r), scaled by sigma / sqrt(r)."""
    b: jax.Array
    """(n, r)."""
    scale: jax.Array | None = None
    """Multiplies a b^T; kept apart, so that the two of a pair, which differ in it, share `a`."""


class Factors(NamedTuple):
    """How random words become independent symmetric numbers of variance one."""

    numbers: int
    """Made of a word."""
    make: Callable[[jax.Array], jax.Array]
    """(W,) uint32 to (W * numbers,) float32."""


def _normal(words: jax.Array) -> jax.Array:
    """Standard normal numbers, the same as `jax.random.normal` makes of the same words."""
    ones = jax.lax.bitcast_convert_type((words >> 9) | 0x3F80_0000, jnp.float32)  # in [1, 2)
    low = jnp.nextafter(jnp.float32(-1), jnp.float32(0))
    uniform = jnp.maximum(low, (ones - 1) * (1 - low) + low)
    return jnp.float32(2**0.5) * jax.lax.erf_inv(uniform)


def _signs(words: jax.Array) -> jax.Array:
    bits = (words >> jnp.arange(32, dtype=jnp.uint32)[:, None]) & 1
    return (1 - 2 * bits.astype(jnp.float32)).reshape(-1)


normal = Factors(1, _normal)
"""Standard normal numbers."""
signs = Factors(32, _signs)
"""1 or -1. Cheaper than normal numbers, and better where the width is fixed: all directions are
equally long, and an estimate is the less spread the less their lengths are."""
FACTORS: dict[str, Factors] = {"signs": signs, "normal": normal}


@final
@dataclass(frozen=True)
class Rule(Configurable):
    """What differs for the leaves whose path matches a pattern; the first rule that does counts.

    Args:
      pattern: a regular expression searched for in the path, such as "Dense_0/kernel".
      rank: of the noise there; 0 for dense noise, None for the rank of the others.
      scale: multiplies sigma there.
      frozen: True to leave the leaf without noise, and so without updates.

    Raises:
      InputError: for a pattern that is no regular expression, or a number out of range.
    """

    pattern: str
    rank: int | None = None
    scale: float = 1.0
    frozen: bool = False

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except (re.error, TypeError) as error:
            raise reject(
                "rules.pattern", self.pattern, f"is no regular expression ({error})", "correct it"
            ) from None
        if self.rank is not None:
            positive_int("rules.rank", self.rank, least=0)
        finite("rules.scale", self.scale, above=0.0)

    def settings(self) -> dict[str, Any]:
        """Plain settings."""
        return {key: value for key, value in vars(self).items() if value is not None}


class Noise(Configurable, abc.ABC):
    """Draws perturbations of mean zero and variance one for a parameter tree."""

    rules: tuple[Rule, ...]
    factors: Factors
    """Of thin noise."""

    @abc.abstractmethod
    def rank_of(self, path: str, shape: tuple[int, ...]) -> int:
        """Rank of the noise of a leaf that no rule speaks of; 0 for dense noise."""

    def draw(
        self, key: Key, params: Params, sigma: Any = 1.0, factors: Factors | None = None
    ) -> Perturbation:
        """One perturbation of `params`, of standard deviation `sigma`.

        `factors` is the distribution of thin noise's; None for the rule's own.

        All its random words are one draw, cut into leaves: each generator more would add half a
        second to the time that XLA takes to compile a generation.
        """
        plans = self._plans(params)
        dense = sum(plan.count for plan in plans if not plan.rank)
        thin = sum(plan.count for plan in plans if plan.rank)
        factors = self.factors if factors is None else factors
        words = jax.random.bits(key, (dense + -(-thin // factors.numbers),), jnp.uint32)
        numbers = {
            False: iter(_cut(normal.make(words[:dense]), plans, thin=False)),
            True: iter(_cut(factors.make(words[dense:])[:thin], plans, thin=True)),
        }
        noise = [plan.noise(next(numbers[bool(plan.rank)]), sigma) for plan in plans]
        return jax.tree.unflatten(jax.tree.structure(params), noise)

    def describe(self, params: Params) -> dict[str, str]:
        """Path of each leaf to the noise that it gets: "rank 1", "dense" or "frozen"."""
        return {plan.path: plan.kind for plan in self._plans(params)}

    def _plans(self, params: Params) -> list[_Plan]:
        plans = []
        for path, leaf in zip(paths(params), jax.tree.leaves(params), strict=True):
            rule = next((r for r in self.rules if re.search(r.pattern, path)), None)
            rank = self.rank_of(path, leaf.shape)
            if rule is not None and rule.rank is not None:
                rank = rule.rank
                if rank and len(leaf.shape) < 2:
                    raise InputError(
                        f"rules.rank={rank} for {path!r}, which has shape {leaf.shape} and no "
                        "columns; give rank 0, or a pattern that leaves it out"
                    )
            scale, frozen = (1.0, False) if rule is None else (rule.scale, rule.frozen)
            plans.append(_Plan(path, leaf.shape, leaf.dtype, rank, scale, frozen))
        return plans


class _Plan(NamedTuple):
    """How the noise of one leaf is made."""

    path: str
    shape: tuple[int, ...]
    dtype: Any
    rank: int
    scale: float
    frozen: bool

    @property
    def kind(self) -> str:
        if self.frozen:
            return "frozen"
        return f"rank {self.rank}" if self.rank else "dense"

    @property
    def columns(self) -> int:
        return self.shape[-1]

    @property
    def size(self) -> int:
        size = 1
        for length in self.shape:
            size *= length
        return size

    @property
    def count(self) -> int:
        """Random numbers needed."""
        if self.frozen:
            return 0
        if not self.rank:
            return self.size
        return self.rank * (self.size // self.columns + self.columns)

    def noise(self, flat: jax.Array, sigma: Any) -> Any:
        if self.frozen:
            return None
        scale = jnp.asarray(self.scale * sigma, jnp.float32)
        if not self.rank:
            return (scale * flat).reshape(self.shape).astype(self.dtype)
        rows = self.size // self.columns
        a, b = flat[: rows * self.rank], flat[rows * self.rank :]
        a = a.reshape(rows, self.rank) * (scale / self.rank**0.5)
        return Thin(a.astype(self.dtype), b.reshape(self.columns, self.rank).astype(self.dtype))


def _cut(flat: jax.Array, plans: list[_Plan], *, thin: bool) -> list[jax.Array]:
    """The numbers of each leaf of one kind."""
    ends = list(itertools.accumulate(plan.count for plan in plans if bool(plan.rank) == thin))
    return jnp.split(flat, ends[:-1])


@final
@dataclass(frozen=True)
class Dense(Noise):
    """Independent standard normal noise for every parameter: D numbers a draw.

    Args:
      rules: exceptions by path; see `Rule`.
    """

    name: ClassVar[str] = "dense"
    factors: ClassVar[Factors] = signs
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", _as_rules(self.rules))

    def rank_of(self, path: str, shape: tuple[int, ...]) -> int:
        """Always 0."""
        return 0


@final
@dataclass(frozen=True)
class LowRank(Noise):
    """Noise a b^T / sqrt(r) for matrices, of independent factors; dense noise for vectors.

    r (m + n) numbers for a leaf of m rows and n columns, whose entries have mean zero and variance
    one, and the program runs without forming it (EGGROLL, Sarkar et al. 2025, arXiv:2511.16652,
    equation 4). A leaf counts as a matrix where that is fewer numbers than it has, and where its
    name is not that of a bias or a scale.

    Args:
      rank: r.
      factors: the distribution of the entries of a and b: `signs` or `normal`, or by that name.
      rules: exceptions by path; see `Rule`.

    Raises:
      InputError: for a rank below 1, or an unknown distribution.
    """

    name: ClassVar[str] = "low_rank"
    rank: int = 1
    factors: Factors = signs
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        positive_int("rank", self.rank)
        if isinstance(self.factors, str):
            if self.factors not in FACTORS:
                raise unknown("factors", self.factors, FACTORS)
            object.__setattr__(self, "factors", FACTORS[self.factors])
        object.__setattr__(self, "rules", _as_rules(self.rules))

    def rank_of(self, path: str, shape: tuple[int, ...]) -> int:
        """`rank` for matrices, 0 for vectors and for leaves that are added and not multiplied."""
        if len(shape) < 2 or re.search(r"(^|/)(b|bias|scale|offset)$", path):
            return 0
        size = 1
        for length in shape:
            size *= length
        thin = self.rank * (size // shape[-1] + shape[-1]) if shape[-1] else size
        return self.rank if thin < size else 0

    def settings(self) -> dict[str, Any]:
        """Plain settings; a distribution of ours goes by its name."""
        settings = super().settings()
        names = {factors: name for name, factors in FACTORS.items()}
        if self.factors in names:
            settings["factors"] = names[self.factors]
        return settings


RULES: dict[str, type[Noise]] = {"dense": Dense, "low_rank": LowRank}


def scale(noise: Perturbation, by: Any) -> Perturbation:
    """`noise` times a scalar."""
    by = jnp.asarray(by, jnp.float32)  # one array for all leaves, so that they can be joined

    def thin(own: Thin) -> Thin:
        return own._replace(scale=by if own.scale is None else own.scale * by)

    return _map(lambda leaf: leaf * by.astype(leaf.dtype), thin, noise)


def paths(params: Params) -> list[str]:
    """Path of each leaf, in the order of the leaves, such as "Dense_0/kernel"."""

    def text(keys: tuple[Any, ...]) -> str:
        # An nnx variable is a tree of its value alone, which is no name.
        if len(keys) > 1 and keys[-1] == jax.tree_util.GetAttrKey("value"):
            keys = keys[:-1]
        return jax.tree_util.keystr(keys, simple=True, separator="/")

    return [text(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(params)]


def perturbed(function: Callable[..., Any], *, strict: bool = False) -> Callable[..., Any]:
    """`function(params, *args)` as `g(params, noise, *args)`, run at params + noise.

    Leaves with thin noise stay shared: see `perturb`. Where there are none, `function` is called on
    the sums. Where `strict`, calling `g` raises an `InputError` instead of adding up a leaf that
    cannot stay shared.
    """

    def run(params: Params, noise: Perturbation, *args: Any) -> Any:
        moved, thin = [], False
        leaves, structure = jax.tree.flatten(params)
        for path, leaf, own in zip(paths(params), leaves, _leaves(params, noise), strict=True):
            if isinstance(own, Thin):
                thin = True
                moved.append(factored.factored(leaf, own.a, own.b, path, own.scale))
            else:
                moved.append(leaf if own is None else leaf + own)
        tree = jax.tree.unflatten(structure, moved)
        if not thin:
            return function(tree, *args)
        return perturb.evaluate(function, (tree, *args), strict=strict)

    return run


def materialise(params: Params, noise: Perturbation) -> Params:
    """params + noise, formed: what a factored program must agree with."""
    leaves, structure = jax.tree.flatten(params)
    sums = [
        leaf
        if own is None
        else leaf + _formed(own).reshape(leaf.shape)
        if isinstance(own, Thin)
        else leaf + own
        for leaf, own in zip(leaves, _leaves(params, noise), strict=True)
    ]
    return jax.tree.unflatten(structure, sums)


def _formed(noise: Thin) -> jax.Array:
    """a b^T, (m, n)."""
    whole = noise.a @ noise.b.T
    return whole if noise.scale is None else whole * noise.scale.astype(whole.dtype)


def weigh(params: Params, noise: Perturbation, weights: jax.Array) -> Params:
    """Sum over C draws (leading axis) of weights (C,) times noise, shaped like `params`.

    Thin noise is contracted over draws and rank at once: no draw is formed.
    """

    def total(leaf: jax.Array, own: Any) -> jax.Array:
        if own is None:
            return jnp.zeros(leaf.shape, leaf.dtype)
        if isinstance(own, Thin):
            by = weights if own.scale is None else weights * own.scale
            weighted = own.a * by.astype(own.a.dtype)[:, None, None]
            return jnp.einsum("cir,cjr->ij", weighted, own.b).reshape(leaf.shape)
        return jnp.tensordot(weights.astype(own.dtype), own, axes=1)

    leaves, structure = jax.tree.flatten(params)
    pairs = zip(leaves, _leaves(params, noise), strict=True)
    return jax.tree.unflatten(structure, [total(leaf, own) for leaf, own in pairs])


def standard_normal(key: Key, params: Params) -> Params:
    """A tree like `params` of independent standard normal numbers."""
    return Dense().draw(key, params)


def as_noise(value: Any) -> Noise:
    """`value` as a noise rule: one as it is, or a mapping or name from a config."""
    from evojax_nar.settings import build

    if isinstance(value, Noise):
        return value
    said = {"name": value} if isinstance(value, str) else value
    if not isinstance(said, Mapping) or "name" not in said:
        raise reject("noise", value, "is no noise rule", "give one such as nar.noise.LowRank()")
    return build("noise", RULES, said["name"], {k: v for k, v in said.items() if k != "name"})


def _as_rules(rules: Iterable[Any]) -> tuple[Rule, ...]:
    return tuple(rule if isinstance(rule, Rule) else Rule(**rule) for rule in rules)


def _is_leaf(value: Any) -> bool:
    return value is None or isinstance(value, Thin)


def _leaves(params: Params, noise: Perturbation) -> list[Any]:
    """The noise of each leaf. By the structure of `params`, which may hold None of its own."""
    return jax.tree.structure(params).flatten_up_to(noise)


def _map(
    dense: Callable[[jax.Array], Any], thin: Callable[[Thin], Any], noise: Perturbation
) -> Perturbation:
    return jax.tree.map(
        lambda leaf: (
            None if leaf is None else thin(leaf) if isinstance(leaf, Thin) else dense(leaf)
        ),
        noise,
        is_leaf=_is_leaf,
    )
