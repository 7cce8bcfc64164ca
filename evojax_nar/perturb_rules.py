"""What operations that move, cut or scale do to a factored operand, and the table of all rules.

`perturb.py` looks them up there.

A rule takes the parameters of an equation and its operands, and gives the result, a list of several
results, or None where it does not cover the case.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from evojax_nar import factored
from evojax_nar.factored import Factored, Value, is_factored
from evojax_nar.perturb_products import convolution, dot_general, gather


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
    if len(values) > 1 or old != list(value.shape) or value.base.size != math.prod(shape):
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


def _split(params: Any, values: list[Value]) -> Value | None:
    ends = list(accumulate(int(size) for size in params["sizes"]))
    cuts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    pieces = [factored.take_along(values[0], params["axis"], cut) for cut in cuts]
    return None if any(piece is None for piece in pieces) else pieces


def _reverse(params: Any, values: list[Value]) -> Value | None:
    value = values[0]
    for axis in params["dimensions"]:
        value = factored.take_along(value, axis, slice(None, None, -1))
        if value is None:
            return None
    return value


def _dynamic_slice(params: Any, values: list[Value]) -> Value | None:
    """A cut at a place that is the same for all members, such as a loop's counter."""
    value, *starts = values
    if any(map(is_factored, starts)):
        return None
    for axis, (start, size) in enumerate(zip(starts, params["slice_sizes"], strict=True)):
        if size == value.shape[axis]:
            continue

        def cut(array: jax.Array, where: int, start: Any = start, size: int = size) -> jax.Array:
            return lax.dynamic_slice_in_dim(array, start, size, where)

        value = factored.map_axis(value, axis, cut)
        if value is None:
            return None
    return value


def _pad(params: Any, values: list[Value]) -> Value | None:
    value, filling = values
    if not isinstance(value, Factored) or is_factored(filling):
        return None
    for axis, config in enumerate(params["padding_config"]):
        if tuple(config) == (0, 0, 0):
            continue
        value = _pad_axis(value, axis, tuple(map(int, config)), filling)
        if value is None:
            return None
    return value


def _pad_axis(value: Factored, axis: int, config: Any, filling: jax.Array) -> Factored | None:
    """Padding of one axis: of the base by `filling`, of the factors by 0."""

    def pad(by: Any) -> Callable[[jax.Array, int], jax.Array]:
        def cut(array: jax.Array, where: int) -> jax.Array:
            configs = [config if place == where else (0, 0, 0) for place in range(array.ndim)]
            return lax.pad(array, jnp.asarray(by, array.dtype), configs)

        return cut

    return factored.map_axis(value, axis, pad(0), pad(filling))


def _concatenate(params: Any, values: list[Value]) -> Value | None:
    if not all(map(is_factored, values)):
        return None
    side_by_side = factored.concatenate(values, params["dimension"])
    return _concatenate_any(params, values) if side_by_side is None else side_by_side


def _concatenate_any(params: Any, values: list[Value]) -> Value | None:
    """Blocks of any size, arrays among them: the sum of the blocks padded to the whole."""
    axis = params["dimension"]
    sizes = [value.shape[axis] for value in values]
    before = [0, *accumulate(sizes)]
    padded = []
    for value, size, start in zip(values, sizes, before, strict=False):
        if isinstance(value, Factored):
            config = (start, sum(sizes) - start - size, 0)
            piece = _pad_axis(value, axis, config, jnp.zeros((), value.dtype))
            if piece is None:
                return None
            padded.append(piece)
    total = factored.add(padded)
    if total is None:
        return None
    bases = [value.base if isinstance(value, Factored) else value for value in values]
    return dataclasses.replace(total, base=lax.concatenate(bases, axis))


def _stack(params: Any, values: list[Value]) -> Value | None:
    return _concatenate({"dimension": params["axis"]}, _with_axis(values, params["axis"]))


def _stack_any(params: Any, values: list[Value]) -> Value | None:
    return _concatenate_any({"dimension": params["axis"]}, _with_axis(values, params["axis"]))


def _with_axis(values: list[Value], place: int) -> list[Value]:
    """Each with a new axis of size 1."""
    shape = list(values[0].shape)
    shape.insert(place, 1)
    return [
        factored.reshape(value, shape) if is_factored(value) else value.reshape(shape)
        for value in values
    ]


def _add(params: Any, values: list[Value]) -> Value | None:
    """The sum of two with axes cut alike: bases are added, ranks stand side by side."""
    if not all(map(is_factored, values)):
        return None
    return factored.add(values)


def _subtract(params: Any, values: list[Value]) -> Value | None:
    left, right = values
    if not all(map(is_factored, values)):
        return None
    return factored.add([left, factored.scale(right, jnp.asarray(-1, right.dtype))])


def _shift(params: Any, values: list[Value]) -> Value | None:
    """An array that is the same for all members, added to the base."""
    left, right = values
    value, by = (left, right) if isinstance(left, Factored) else (right, left)
    if is_factored(by) or jnp.shape(by) not in ((), value.shape):
        return None
    return dataclasses.replace(value, base=value.base + by)


def _unshift(params: Any, values: list[Value]) -> Value | None:
    left, right = values
    if is_factored(left):
        return None if is_factored(right) else _shift(params, [left, -right])
    return _shift(params, [left, factored.scale(right, jnp.asarray(-1, right.dtype))])


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
    return list(values)


def _barrier(params: Any, values: list[Value]) -> Value | None:
    return list(lax.optimization_barrier(tuple(values)))


Rule = Callable[[Any, list[Value]], Value | None]

RULES: dict[str, Rule] = {
    "dot_general": dot_general,
    "transpose": _transpose,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "broadcast_in_dim": _broadcast_in_dim,
    "slice": _slice,
    "split": _split,
    "rev": _reverse,
    "concatenate": _concatenate,
    "stack": _stack,
    "convert_element_type": _convert,
    "add": _add,
    "sub": _subtract,
    "neg": _negate,
    "copy": _same,
    "copy_p": _same,
    "device_put": _same,
    "stop_gradient": _same,
    "sharding_constraint": _same,
    "optimization_barrier": _barrier,
    "gather": gather,
    "conv_general_dilated": convolution,
}
"""Primitive to the rule for at least one factored operand."""

SHARED_RULES: dict[str, Rule] = {
    "mul": _multiply,
    "div": _divide,
    "add": _shift,
    "sub": _unshift,
    "pad": _pad,
    "concatenate": _concatenate_any,
    "stack": _stack_any,
    "dynamic_slice": _dynamic_slice,
}
"""Rules that change the base by other operands. They hold where those are the same for every
member: else the base would no longer be, and would be formed for each."""
