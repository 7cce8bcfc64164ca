"""What contractions, lookups and convolutions do to a factored operand: they use it up.

Each is given the parameters of an equation and its operands, and gives an array, or None where it
does not cover the case.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from evojax_nar import factored
from evojax_nar.factored import Factored, Value, is_factored


def dot_general(params: Any, values: list[Value]) -> Value | None:
    """A contraction: the shared one, and one through each factor."""
    (left_axes, right_axes), (left_batch, _) = params["dimension_numbers"]
    left, right = values
    if is_factored(left) and is_factored(right):
        return _product(params, left, right)
    options = {key: params[key] for key in ("precision", "preferred_element_type")}
    if left_batch:
        bases = [value.base if isinstance(value, Factored) else value for value in values]
        whole = lax.dot_general(bases[0], bases[1], params["dimension_numbers"], **options)
        correction = _batched_difference(params["dimension_numbers"], values)
        return whole + correction.reshape(whole.shape).astype(whole.dtype)
    if isinstance(right, Factored):
        return factored.contract(left, right, left_axes, right_axes, array_first=True, **options)
    return factored.contract(right, left, right_axes, left_axes, array_first=False, **options)


def _product(params: Any, left: Factored, right: Factored) -> Value | None:
    """Of two matrices: factored again, of a rank that is the sum of theirs.

    (L + u v^T) (R + p q^T) = L R + u (v^T R + v^T p q^T) + L p q^T.
    """
    (left_axes, right_axes), (batched, _) = params["dimension_numbers"]
    left, right = factored.fold(left), factored.fold(right)
    for value, axes in ((left, left_axes), (right, right_axes)):
        tags = sorted(axis.tag for axis in value.axes)
        if batched or len(axes) != 1 or len(value.groups) != 2 or tags != ["a", "b"]:
            return None
    (inner_left,), (inner_right,) = left_axes, right_axes
    factors = {
        (side, tag): factor
        for side, value in (("left", left), ("right", right))
        for tag, factor in (("a", value.a), ("b", value.b))
    }
    v = factors["left", left.groups[inner_left][0].tag]
    u = factors["left", left.groups[1 - inner_left][0].tag]
    p = factors["right", right.groups[inner_right][0].tag]
    q = factors["right", right.groups[1 - inner_right][0].tag]
    through_right = jnp.tensordot(right.base, v, ((inner_right,), (0,))) + q @ (p.T @ v)
    through_left = jnp.tensordot(left.base, p, ((inner_left,), (0,)))
    options = {key: params[key] for key in ("precision", "preferred_element_type")}
    base = lax.dot_general(left.base, right.base, params["dimension_numbers"], **options)
    rows, columns = (factored.Axis(size, tag) for size, tag in zip(base.shape, "ab", strict=True))
    return Factored(
        base,
        jnp.concatenate([u, through_left], axis=1).astype(base.dtype),
        jnp.concatenate([through_right, q], axis=1).astype(base.dtype),
        ((rows,), (columns,)),
        factored.merge_leaves([left, right]),
    )


def _batched_difference(numbers: Any, values: list[Value]) -> jax.Array:
    """The difference's part of a contraction with batched axes, as for weights of each head."""
    names = iter(string.ascii_letters)
    rank = next(names)
    place = 0 if is_factored(values[0]) else 1
    value, array = values[place], values[1 - place]
    (contracted, batched), (others, others_batched) = (
        tuple(axes[side] for axes in numbers) for side in (place, 1 - place)
    )
    letters = ["".join(next(names) for _ in group) for group in value.groups]
    pairs = [*zip(contracted, others, strict=True), *zip(batched, others_batched, strict=True)]
    partner = {other: own for own, other in pairs}
    # The array's axes are cut as those that they meet are.
    array_letters = [
        letters[partner[axis]] if axis in partner else next(names) for axis in range(array.ndim)
    ]
    sizes = [
        [own.size for own in value.groups[partner[axis]]] if axis in partner else [length]
        for axis, length in enumerate(array.shape)
    ]
    array = array.reshape([size for cut in sizes for size in cut])
    free = {
        place: [letters[i] for i in range(value.base.ndim) if i not in (*contracted, *batched)],
        1 - place: [array_letters[i] for i in range(len(array_letters)) if i not in partner],
    }
    out = "".join([*(letters[axis] for axis in batched), *free[0], *free[1]])
    tags = list(zip("".join(letters), value.axes, strict=True))
    own = {tag: "".join(n for n, axis in tags if axis.tag in (tag, "k")) for tag in "ab"}
    factors = {"a": value.a, "b": value.b}
    # Through the factor that takes most of the contraction away first.
    inside = "".join(letters[axis] for axis in contracted)
    taken = {t: math.prod(x.size for n, x in tags if n in inside and x.tag == t) for t in "ab"}
    first, second = ("a", "b") if taken["a"] >= taken["b"] else ("b", "a")
    left = "".join(array_letters)
    seen = dict.fromkeys(left + own[first])
    half = "".join(name for name in seen if name in out or name in own[second])
    thin = jnp.einsum(f"{left},{own[first]}{rank}->{half}{rank}", array, factors[first])
    thin = factored.scaled(thin, value)
    return jnp.einsum(f"{half}{rank},{own[second]}{rank}->{out}", thin, factors[second])


def gather(params: Any, values: list[Value]) -> Value | None:
    """A lookup of whole rows of a table: the row of one factor, times all of the other."""
    value, index = values
    if not isinstance(value, Factored) or is_factored(index):
        return None
    numbers = params["dimension_numbers"]
    whole = tuple(params["slice_sizes"][1:]) == value.shape[1:]
    is_lookup = (
        numbers.collapsed_slice_dims == (0,)
        and numbers.start_index_map == (0,)
        and not numbers.operand_batching_dims
        and params["slice_sizes"][0] == 1
        and whole
        and value.base.ndim == 2  # of larger leaves a lookup would form whole matrices
        and len(value.groups[0]) == 1
        and value.groups[0][0].tag in ("a", "b")
        and all(axis.tag in ("a", "b") for axis in value.axes)
    )
    if not is_lookup:
        return None
    tag = value.groups[0][0].tag
    factors = {"a": value.a, "b": value.b}
    table, other = factors[tag], factors["b" if tag == "a" else "a"]
    letters = string.ascii_letters[: len(value.axes) + 1]
    rank, inner = letters[-1], letters[:-1]
    own = "".join(n for n, axis in zip(inner, value.axes, strict=True) if axis.tag == tag)
    rest = "".join(n for n, axis in zip(inner, value.axes, strict=True) if axis.tag != tag)
    options = {k: params[k] for k in ("unique_indices", "indices_are_sorted", "mode", "fill_value")}

    def look_up(table: jax.Array) -> jax.Array:
        """(index..., row...): rows of a table whatever the layout of the original lookup."""
        count = index.ndim - 1
        layout = lax.GatherDimensionNumbers(
            offset_dims=tuple(range(count, count + table.ndim - 1)),
            collapsed_slice_dims=(0,),
            start_index_map=(0,),
        )
        return lax.gather(table, index, layout, (1, *table.shape[1:]), **options)

    rows = factored.scaled(look_up(table), value)
    result = jnp.einsum(f"...{own[1:]}{rank},{rest}{rank}->...{inner[1:]}", rows, other)
    result = result.reshape(*index.shape[:-1], *value.shape[1:])
    # The lookup's own order of axes: offsets where it says, indices in the places between.
    count = index.ndim - 1
    order: list[int] = []
    indices, offsets = iter(range(count)), iter(range(count, result.ndim))
    for place in range(result.ndim):
        order.append(next(offsets if place in numbers.offset_dims else indices))
    shared = lax.gather(value.base, index, numbers, params["slice_sizes"], **options)
    return shared + jnp.transpose(result, order).astype(shared.dtype)


def convolution(params: Any, values: list[Value]) -> Value | None:
    """A convolution with a factored kernel: the shared one, and one with thin kernels.

    Which depends on where the columns of the noise are: in the output channels, as in flax and
    haiku, in the input channels, as in transposed layers, or along the window, as in kernels of
    (out, in, window).
    """
    array, value = values
    if (
        not isinstance(value, Factored)
        or is_factored(array)
        or params["batch_group_count"] != 1
        or any(len(group) > 1 for group in value.groups)
        or any(axis.tag == "k" for axis in value.axes)
    ):
        return None
    numbers = params["dimension_numbers"]
    columns = {place for place, group in enumerate(value.groups) if group and group[0].tag == "b"}
    if columns <= {numbers.rhs_spec[0]}:
        difference = _through_channels(params, array, value)
    elif columns == {numbers.rhs_spec[1]}:
        difference = _through_inputs(params, array, value)
    elif columns <= set(numbers.rhs_spec[2:]):
        difference = _through_window(params, array, value)
    else:
        return None
    names = (
        *("window_strides", "padding", "lhs_dilation", "rhs_dilation", "dimension_numbers"),
        *("feature_group_count", "precision", "preferred_element_type"),
    )
    options = {name: params[name] for name in names}
    shared = lax.conv_general_dilated(array, value.base, **options)
    batch, channel, *spatial = numbers.out_spec
    whole = jnp.moveaxis(difference, range(difference.ndim), (batch, *spatial, channel))
    return shared + factored.scaled(whole, value).astype(shared.dtype)


def _through_channels(params: Any, array: jax.Array, value: Factored) -> jax.Array:
    """(N, window..., out): a convolution with r output channels, then a product with b."""
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    batch, channel, *spatial = numbers.lhs_spec
    # Groups of channels have the same factor a, so they become examples.
    moved = jnp.transpose(array, (batch, *spatial, channel))
    moved = jnp.moveaxis(moved.reshape(*moved.shape[:-1], groups, -1), -2, 1)
    moved = moved.reshape(-1, *moved.shape[2:])
    _, into, *window = numbers.rhs_spec
    half = _convolve(moved, _kernel(value, "a", (*window, into)), params, range(len(window)))
    half = half.reshape(-1, groups, *half.shape[1:])
    whole = jnp.einsum("ng...r,gcr->n...gc", half, value.b.reshape(groups, -1, value.rank))
    return whole.reshape(*whole.shape[:-2], -1)


def _through_inputs(params: Any, array: jax.Array, value: Factored) -> jax.Array:
    """(N, window..., out): r sums of input channels, then a convolution of those."""
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    batch, channel, *spatial = numbers.lhs_spec
    out, _, *window = numbers.rhs_spec
    moved = jnp.transpose(array, (batch, *spatial, channel))
    moved = moved.reshape(*moved.shape[:-1], groups, -1)
    half = jnp.einsum("...gc,cr->...gr", moved, value.b.reshape(-1, value.rank))
    half = half.reshape(*half.shape[:-2], -1)
    kernel = jnp.moveaxis(_kernel(value, "a", (*window, out)), -1, -2)
    return _convolve(half, kernel, params, range(len(window)), groups)


def _through_window(params: Any, array: jax.Array, value: Factored) -> jax.Array:
    """(N, window..., out): each channel along the window of b, then all through a."""
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    batch, channel, *spatial = numbers.lhs_spec
    out, into, *window = numbers.rhs_spec
    columns = {place for place, group in enumerate(value.groups) if group and group[0].tag == "b"}
    taken = [place for place, axis in enumerate(window) if axis in columns]
    moved = jnp.transpose(array, (batch, channel, *spatial))
    moved = moved.reshape(-1, *moved.shape[2:], 1)
    kernel = jnp.expand_dims(_kernel(value, "b", window), -2)
    half = _convolve(moved, kernel, params, taken)
    half = half.reshape(array.shape[batch], -1, *half.shape[1:])
    half = jnp.moveaxis(half, 1, -2)
    half = half.reshape(*half.shape[:-2], -1)
    kernel = jnp.moveaxis(_kernel(value, "a", (*window, into, out)), -1, -2)
    kernel = kernel.reshape(*kernel.shape[:-3], -1, kernel.shape[-1])
    others = [i for i in range(len(window)) if i not in taken]
    return _convolve(half, kernel, params, others, groups)


def _kernel(value: Factored, tag: str, order: Sequence[int]) -> jax.Array:
    """One factor with the axes of the base in `order`, of size 1 where it has none, and r last."""
    factor = value.a if tag == "a" else value.b
    have = [bool(group) and group[0].tag == tag for group in value.groups]
    sizes = [size if own else 1 for size, own in zip(value.shape, have, strict=True)]
    whole = factor.reshape(*sizes, value.rank)
    last = whole.ndim - 1
    kept = jnp.transpose(whole, (*order, *(x for x in range(last) if x not in order), last))
    return kept.reshape(*(sizes[axis] for axis in order), value.rank)


def _convolve(
    array: jax.Array, kernel: jax.Array, params: Any, along: Sequence[int], groups: int = 1
) -> jax.Array:
    """(N, window..., C) with a kernel (window..., C, out), strided and padded `along` some axes."""
    axes = range(array.ndim - 2)
    last = array.ndim - 1
    outside = (0, last, *range(1, last))

    def choose(name: str, neutral: Any) -> list[Any]:
        return [params[name][axis] if axis in along else neutral for axis in axes]

    return lax.conv_general_dilated(
        array,
        kernel,
        window_strides=choose("window_strides", 1),
        padding=choose("padding", (0, 0)),
        lhs_dilation=choose("lhs_dilation", 1),
        rhs_dilation=choose("rhs_dilation", 1),
        dimension_numbers=lax.ConvDimensionNumbers(
            outside, (last, last - 1, *range(last - 1)), outside
        ),
        feature_group_count=groups,
        precision=params["precision"],
    )
