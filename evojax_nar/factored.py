"""A parameter that members share, and the low-rank difference of one member, never added up.

A `Factored` stands for base + sum over r of a[..., r] b[..., r], where `a` runs over some axes of
the base and `b` over the others. It is an array that a program may contract, look up, move and cut;
`perturb.py` runs programs on it. Everything here is written for one member and is vmapped over the
others: the base stays unmapped, so that its contraction is one product for the whole population.
"""

from __future__ import annotations

import dataclasses
import math
import string
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple, TypeAlias, final

import jax
import jax.numpy as jnp
from jax import lax


class Axis(NamedTuple):
    """One axis of the factors: its size, and which of `a` and `b` have it (`k`: both do)."""

    size: int
    tag: str


Group = tuple[Axis, ...]
"""The axes that one axis of the base is made of, the slowest first."""


@final
@partial(
    jax.tree_util.register_dataclass,
    data_fields=["base", "a", "b", "scale"],
    meta_fields=["groups", "leaves"],
)
@dataclasses.dataclass(frozen=True)
class Factored:
    """base + sum_r a b, for one member.

    Args:
      base: shared by all members.
      a: the axes tagged a or k, in the order of `groups`, then r.
      b: the axes tagged b or k, likewise.
      groups: one for each axis of the base.
      leaves: paths of the parameters that it was made of, for audits.
      scale: multiplies the product of the factors; None for 1. Always float32, and the same array
        in all leaves of a perturbation, so that they can be joined without it.
    """

    base: jax.Array
    a: jax.Array
    b: jax.Array
    groups: tuple[Group, ...]
    leaves: tuple[str, ...] = ()
    scale: jax.Array | None = None

    @property
    def axes(self) -> Group:
        """All axes of the factors, in the order of the base."""
        return tuple(axis for group in self.groups for axis in group)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the base."""
        return tuple(self.base.shape)

    @property
    def dtype(self) -> Any:
        """Type of the base."""
        return self.base.dtype

    @property
    def rank(self) -> int:
        """r."""
        return self.a.shape[-1]


def factored(
    base: jax.Array, a: jax.Array, b: jax.Array, leaf: str = "", scale: jax.Array | None = None
) -> Factored:
    """The leaf `base` with rows (all axes but the last) in `a` (rows, r) and columns in `b`.

    `leaf` is its path, and `scale` multiplies the product.
    """
    *rows, columns = base.shape
    groups = (*((Axis(size, "a"),) for size in rows), (Axis(columns, "b"),))
    return Factored(base, a.reshape(*rows, -1), b, groups, (leaf,), scale)


def difference(value: Factored) -> jax.Array:
    """sum_r a b, shaped like the base: what a factored program never forms."""
    names = _names(len(value.axes) + 1)
    (inner, rank) = names[:-1], names[-1]
    terms = [_subscript(value.axes, inner, tag) + rank for tag in "ab"]
    whole = jnp.einsum(f"{','.join(terms)}->{inner}", value.a, value.b).reshape(value.shape)
    return scaled(whole, value)


Value: TypeAlias = Any
"""An array, or a `Factored` in its place."""


def is_factored(value: Value) -> bool:
    """Whether `value` is a `Factored`."""
    return isinstance(value, Factored)


def materialise(value: Any) -> jax.Array:
    """`value` as an array: a `Factored` is added up, anything else is returned."""
    return value.base + difference(value) if isinstance(value, Factored) else value


def contract(
    array: jax.Array,
    value: Factored,
    array_axes: Sequence[int],
    value_axes: Sequence[int],
    *,
    array_first: bool,
    **options: Any,
) -> jax.Array:
    """Contract `array` with a factored one over the given axes of each, no axis being batched.

    The result has the free axes of the first operand, then those of the second. Cost beside the
    shared product: 2 r times the free elements of `array`, times rows and columns added.
    """
    numbers = ((tuple(array_axes), tuple(value_axes)), ((), ()))
    if array_first:
        shared = lax.dot_general(array, value.base, numbers, **options)
    else:
        flipped = ((tuple(value_axes), tuple(array_axes)), ((), ()))
        shared = lax.dot_general(value.base, array, flipped, **options)
    correction = _contract_factors(array, value, array_axes, value_axes, array_first)
    return shared + correction.reshape(shared.shape).astype(shared.dtype)


def _contract_factors(
    array: jax.Array,
    value: Factored,
    array_axes: Sequence[int],
    value_axes: Sequence[int],
    array_first: bool,
) -> jax.Array:
    """The difference's part of a contraction: through one factor, then through the other."""
    free = [axis for axis in range(array.ndim) if axis not in array_axes]
    names = iter(_names(array.ndim + len(value.axes) + 1))
    rank = next(names)
    letters = [[next(names) for _ in group] for group in value.groups]
    free_letters = [next(names) for _ in free]
    # The contracted axes of the array, cut into the axes of the factors.
    moved = jnp.transpose(array, [*free, *array_axes])
    contracted = [axis for where in value_axes for axis in value.groups[where]]
    contracted_letters = [letter for where in value_axes for letter in letters[where]]
    moved = moved.reshape(*(array.shape[axis] for axis in free), *(a.size for a in contracted))
    kept = [
        letter
        for where in range(len(value.groups))
        if where not in value_axes
        for letter in letters[where]
    ]
    flat = [letter for group in letters for letter in group]
    tags = dict(zip(flat, (axis.tag for axis in value.axes), strict=True))
    # Through the factor that takes most of the contraction away first.
    sizes = {tag: math.prod(a.size for a in contracted if a.tag == tag) for tag in "ab"}
    first, second = ("a", "b") if sizes["a"] >= sizes["b"] else ("b", "a")
    factors = {"a": value.a, "b": value.b}
    subscripts = {
        tag: "".join(letter for letter in flat if tags[letter] in (tag, "k")) + rank for tag in "ab"
    }
    left = "".join([*free_letters, *contracted_letters])
    through = [
        letter
        for letter in [*contracted_letters, *kept]
        if (letter in kept and tags[letter] in (first, "k"))
        or (letter in contracted_letters and tags[letter] in (second, "k"))
    ]
    middle = "".join([*free_letters, *through])
    out = "".join([*free_letters, *kept] if array_first else [*kept, *free_letters])
    if value.rank == 1:
        # Without the axis of size 1 the last step is a product that fuses with the addition;
        # with it, it would be a batch of contractions over one element.
        factors = {tag: factor[..., 0] for tag, factor in factors.items()}
        subscripts = {tag: text[:-1] for tag, text in subscripts.items()}
        half = jnp.einsum(f"{left},{subscripts[first]}->{middle}", moved, factors[first])
        half = scaled(half, value)
        if set(middle) & set(contracted_letters):
            return jnp.einsum(f"{middle},{subscripts[second]}->{out}", half, factors[second])
        return _align(half, middle, out) * _align(factors[second], subscripts[second], out)
    half = jnp.einsum(f"{left},{subscripts[first]}->{middle}{rank}", moved, factors[first])
    half = scaled(half, value)
    return jnp.einsum(f"{middle}{rank},{subscripts[second]}->{out}", half, factors[second])


def scaled(array: jax.Array, value: Factored) -> jax.Array:
    """An array that was made of the factors of `value`, times its scale."""
    return array if value.scale is None else array * value.scale.astype(array.dtype)


def _align(array: jax.Array, have: str, want: str) -> jax.Array:
    """`array` with axes named `have`, ordered and broadcastable as axes named `want`."""
    order = [have.index(letter) for letter in want if letter in have]
    missing = [place for place, letter in enumerate(want) if letter not in have]
    return jnp.expand_dims(jnp.transpose(array, order), missing)


def _subscript(axes: Group, names: str, tag: str) -> str:
    return "".join(n for n, axis in zip(names, axes, strict=True) if axis.tag in (tag, "k"))


def _names(count: int) -> str:
    return string.ascii_letters[:count]


def transpose(value: Factored, permutation: Sequence[int]) -> Factored:
    """The axes of the base in another order."""
    groups = tuple(value.groups[axis] for axis in permutation)
    places: list[list[int]] = []
    count = 0
    for group in value.groups:
        places.append(list(range(count, count + len(group))))
        count += len(group)
    order = [place for axis in permutation for place in places[axis]]

    def move(factor: jax.Array, tag: str) -> jax.Array:
        own = [place for place, axis in enumerate(value.axes) if axis.tag in (tag, "k")]
        ranked = [own.index(place) for place in order if place in own]
        return jnp.transpose(factor, [*ranked, len(own)])

    base = jnp.transpose(value.base, permutation)
    return dataclasses.replace(
        value, base=base, a=move(value.a, "a"), b=move(value.b, "b"), groups=groups
    )


def reshape(value: Factored, shape: Sequence[int]) -> Factored | None:
    """Another shape; None where an axis would be cut in a way that the factors cannot follow."""
    axes = [axis for axis in value.axes if axis.size != 1]
    groups: list[Group] = []
    cut: list[Axis] = []
    for size in shape:
        group: list[Axis] = []
        have = 1
        while have < size:
            if not axes:
                return None
            axis = axes.pop(0)
            if size % (have * axis.size) == 0:
                group.append(axis)
                have *= axis.size
                continue
            part = size // have
            if size % have or axis.size % part:
                return None
            group.append(Axis(part, axis.tag))
            axes.insert(0, Axis(axis.size // part, axis.tag))
            have = size
        groups.append(tuple(group))
        cut.extend(group)
    if axes:
        return None

    def move(factor: jax.Array, tag: str) -> jax.Array:
        return factor.reshape(*(axis.size for axis in cut if axis.tag in (tag, "k")), value.rank)

    base = value.base.reshape(shape)
    return dataclasses.replace(
        value, base=base, a=move(value.a, "a"), b=move(value.b, "b"), groups=tuple(groups)
    )


def take_along(value: Factored, axis: int, index: Any) -> Factored | None:
    """`index` (a slice, or an array of one axis) applied to one axis of the base."""
    return map_axis(value, axis, lambda array, where: array[(slice(None),) * where + (index,)])


def map_axis(
    value: Factored,
    axis: int,
    cut: Callable[[jax.Array, int], jax.Array],
    cut_base: Callable[[jax.Array, int], jax.Array] | None = None,
) -> Factored | None:
    """`cut(array, axis)` applied to one axis of the base and of each factor that has it.

    Args:
      value: what is cut.
      axis: of the base; None is returned where it is made of several axes of the factors.
      cut: linear in its array, such as a slice, a reversal or padding with zeros.
      cut_base: what is done to the base where that differs.
    """
    if len(value.groups[axis]) > 1:
        return None
    if not value.groups[axis]:  # of size 1, and in neither factor
        groups = list(value.groups)
        groups[axis] = (Axis(1, "a"),)
        before = [own for group in value.groups[:axis] for own in group]
        a = jnp.expand_dims(value.a, sum(own.tag != "b" for own in before))
        value = dataclasses.replace(value, a=a, groups=tuple(groups))
    (own,) = value.groups[axis]
    place = sum(len(group) for group in value.groups[:axis])

    def move(factor: jax.Array, tag: str) -> jax.Array:
        if own.tag not in (tag, "k"):
            return factor
        return cut(factor, sum(a.tag in (tag, "k") for a in value.axes[:place]))

    base = (cut_base or cut)(value.base, axis)
    groups = list(value.groups)
    groups[axis] = (Axis(base.shape[axis], own.tag),)
    return dataclasses.replace(
        value, base=base, a=move(value.a, "a"), b=move(value.b, "b"), groups=tuple(groups)
    )


def concatenate(values: Sequence[Factored], axis: int) -> Factored | None:
    """Equal blocks side by side; None where they differ in shape.

    The blocks keep factors of their own, stacked along a new axis that both have.
    """
    head = values[0]
    if any(v.groups != head.groups or v.rank != head.rank for v in values):
        return None
    values = _with_one_scale(values)
    place = sum(len(group) for group in head.groups[:axis])

    def stack(factors: Sequence[jax.Array], tag: str) -> jax.Array:
        where = sum(a.tag in (tag, "k") for a in head.axes[:place])
        return jnp.stack(factors, axis=where)

    groups = list(head.groups)
    groups[axis] = (Axis(len(values), "k"), *groups[axis])
    return Factored(
        lax.concatenate([v.base for v in values], axis),
        stack([v.a for v in values], "a"),
        stack([v.b for v in values], "b"),
        tuple(groups),
        merge_leaves(values),
        values[0].scale,
    )


def add(values: Sequence[Factored]) -> Factored | None:
    """Their sum, whose rank is the sum of theirs; None where their axes are cut differently."""
    head = values[0]
    values = [v if v.groups == head.groups else _swap(v) for v in values]
    if any(v.groups != head.groups for v in values):
        return None
    values = _with_one_scale(values)
    return Factored(
        reduce(jnp.add, [v.base for v in values]),
        jnp.concatenate([v.a for v in values], axis=-1),
        jnp.concatenate([v.b for v in values], axis=-1),
        head.groups,
        merge_leaves(values),
        values[0].scale,
    )


def _with_one_scale(values: Sequence[Factored]) -> Sequence[Factored]:
    """The values as they are where all have the same scale, else with each one's in its factor."""
    if all(value.scale is values[0].scale for value in values):
        return values
    return [fold(value) for value in values]


def fold(value: Factored) -> Factored:
    """`value` with its scale in one factor."""
    return dataclasses.replace(value, a=scaled(value.a, value), scale=None)


def _swap(value: Factored) -> Factored:
    """The same with the names of the factors exchanged, as a transposed matrix has them."""
    other = {"a": "b", "b": "a", "k": "k"}
    groups = tuple(
        tuple(Axis(axis.size, other[axis.tag]) for axis in group) for group in value.groups
    )
    return dataclasses.replace(value, a=value.b, b=value.a, groups=groups)


def merge_leaves(values: Sequence[Factored]) -> tuple[str, ...]:
    """Paths of all parameters that the values are made of, each once."""
    return tuple(dict.fromkeys(leaf for value in values for leaf in value.leaves))


def scale(value: Factored, by: jax.Array) -> Factored:
    """`value` times a scalar, which goes to the base and to one factor."""
    return dataclasses.replace(value, base=value.base * by, a=value.a * by)


def convert(value: Factored, dtype: Any) -> Factored:
    """`value` in another type, factors included."""
    return dataclasses.replace(
        value,
        base=value.base.astype(dtype),
        a=value.a.astype(dtype),
        b=value.b.astype(dtype),
    )
