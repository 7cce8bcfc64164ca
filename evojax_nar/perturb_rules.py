"""What single operations do to a factored operand: see `perturb.py`, which looks them up.

A rule takes the parameters of an equation and its operands, and gives the result, or None where it
does not cover the case.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from evojax_nar import factored
from evojax_nar.factored import Factored

Value = Any  # an array, or a Factored in its place


def is_factored(value: Any) -> bool:
    """Whether `value` is a `Factored`."""
    return isinstance(value, Factored)


def _dot_general(params: Any, values: list[Value]) -> Value | None:
    (left_axes, right_axes), (left_batch, right_batch) = params["dimension_numbers"]
    left, right = values
    if left_batch or right_batch or (is_factored(left) and is_factored(right)):
        return None
    options = {key: params[key] for key in ("precision", "preferred_element_type")}
    if isinstance(right, Factored):
        return factored.contract(left, right, left_axes, right_axes, array_first=True, **options)
    return factored.contract(right, left, right_axes, left_axes, array_first=False, **options)


def _transpose(params: Any, values: list[Value]) -> Value | None:
    return factored.transpose(values[0], params["permutation"])


def _reshape(params: Any, values: list[Value]) -> Value | None:
    if len(values) > 1 or params.get("dimensions") is not None:
        return None
    return factored.reshape(values[0], params["new_sizes"])


def _squeeze(params: Any, values: list[Value]) -> Value | None:
    shape = [s for axis, s in enumerate(values[0].shape) if axis not in params["dimensions"]]
    return factored.reshape(values[0], shape)


def _broadcast_in_dim(params: Any, values: list[Value]) -> Value | None:
    """New axes of size 1 are a reshape; anything larger is a copy of the whole leaf."""
    value, shape = values[0], params["shape"]
    old = [shape[axis] for axis in params["broadcast_dimensions"]]
    if len(values) > 1 or old != list(value.shape) or value.base.size != jnp.prod(jnp.array(shape)):
        return None
    return factored.reshape(value, shape)


def _slice(params: Any, values: list[Value]) -> Value | None:
    value = values[0]
    strides = params["strides"] or (1,) * len(value.shape)
    limits = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    for axis, (start, limit, stride) in enumerate(limits):
        if (start, limit, stride) != (0, value.shape[axis], 1):
            value = factored.take_along(value, axis, slice(start, limit, stride))
            if value is None:
                return None
    return value


def _concatenate(params: Any, values: list[Value]) -> Value | None:
    if not all(map(is_factored, values)):
        return None
    return factored.concatenate(values, params["dimension"])


def _convert(params: Any, values: list[Value]) -> Value | None:
    return factored.convert(values[0], params["new_dtype"])


def _multiply(params: Any, values: list[Value]) -> Value | None:
    left, right = values
    value, by = (left, right) if isinstance(left, Factored) else (right, left)
    if is_factored(by) or jnp.ndim(by) != 0:
        return None
    return factored.scale(value, by)


def _divide(params: Any, values: list[Value]) -> Value | None:
    value, by = values
    if not isinstance(value, Factored) or is_factored(by) or jnp.ndim(by) != 0:
        return None
    return factored.scale(value, 1 / by)


def _negate(params: Any, values: list[Value]) -> Value | None:
    return factored.scale(values[0], jnp.asarray(-1, values[0].dtype))


def _same(params: Any, values: list[Value]) -> Value | None:
    return values[0]


def _gather(params: Any, values: list[Value]) -> Value | None:
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

    rows = look_up(table)
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


def _convolution(params: Any, values: list[Value]) -> Value | None:
    """A convolution with a factored kernel: one with r output channels, then a product."""
    array, value = values
    numbers = params["dimension_numbers"]
    out = numbers.rhs_spec[0]
    if (
        not isinstance(value, Factored)
        or is_factored(array)
        or params["feature_group_count"] != 1
        or params["batch_group_count"] != 1
        or any(len(group) > 1 for group in value.groups)
        or any(
            axis.tag != ("b" if place == out else "a")
            for place, group in enumerate(value.groups)
            for axis in group
        )
    ):
        return None
    names = (
        *("window_strides", "padding", "lhs_dilation", "rhs_dilation", "dimension_numbers"),
        *("feature_group_count", "batch_group_count", "precision", "preferred_element_type"),
    )
    options = {name: params[name] for name in names}
    shared = lax.conv_general_dilated(array, value.base, **options)
    thin = value.a.reshape(*(s for p, s in enumerate(value.shape) if p != out), value.rank)
    thin = jnp.moveaxis(thin, -1, out)
    half = lax.conv_general_dilated(array, thin, **options)
    channel = numbers.out_spec[1]
    columns = value.b.reshape(-1, value.rank)
    whole = jnp.moveaxis(jnp.moveaxis(half, channel, -1) @ columns.T, -1, channel)
    return shared + whole.astype(shared.dtype)


RULES: dict[str, Callable[[Any, list[Value]], Value | None]] = {
    "dot_general": _dot_general,
    "transpose": _transpose,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "broadcast_in_dim": _broadcast_in_dim,
    "slice": _slice,
    "concatenate": _concatenate,
    "convert_element_type": _convert,
    "mul": _multiply,
    "div": _divide,
    "neg": _negate,
    "copy": _same,
    "stop_gradient": _same,
    "gather": _gather,
    "conv_general_dilated": _convolution,
}
"""Primitive to the rule for at least one factored operand."""
