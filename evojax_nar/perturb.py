"""Runs an unmodified program on perturbed parameters, without forming them.

`perturbed(fn)(params, noise, *args)` traces `fn`, walks its jaxpr, and keeps every leaf that has
low-rank noise as a shared base and two thin factors for as long as the program only contracts,
looks up, moves or cuts it. Loops are entered: a leaf that a scan, a while loop or a branch reads
has the same noise at every turn, and its factors are drawn outside. Whatever else a program does to
a leaf adds it up, and `audit` says so.
"""

from __future__ import annotations

import contextlib
import string
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core as jex

from evojax_nar import factored
from evojax_nar.errors import InputError
from evojax_nar.factored import Factored

Value = Any  # an array, or a Factored in its place


class Fallback(NamedTuple):
    """A leaf, or something made of it, that had to be added up."""

    primitive: str
    shape: tuple[int, ...]


_fallbacks: ContextVar[list[Fallback] | None] = ContextVar("fallbacks", default=None)


@contextlib.contextmanager
def recording() -> Iterator[list[Fallback]]:
    """Collects what is added up while programs are traced inside."""
    found: list[Fallback] = []
    token = _fallbacks.set(found)
    try:
        yield found
    finally:
        _fallbacks.reset(token)


def evaluate(function: Callable[..., Any], arguments: Any) -> Any:
    """`function(*arguments)`, where leaves of `arguments` may be `Factored`.

    Raises:
      InputError: where `function` returns something that is not an array.
    """
    leaves, structure = jax.tree.flatten(arguments, is_leaf=_is_factored)
    shapes = [jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(_array(x))) for x in leaves]

    def flat(*leaves: Any) -> Any:
        return function(*jax.tree.unflatten(structure, leaves))

    closed, out = jax.make_jaxpr(flat, return_shape=True)(*shapes)
    results = _run(closed.jaxpr, closed.consts, leaves)
    return jax.tree.unflatten(jax.tree.structure(out), [_add_up(r, "output") for r in results])


def _run(jaxpr: Any, consts: Sequence[Value], arguments: Sequence[Value]) -> list[Value]:
    """Interpret one jaxpr."""
    known: dict[Any, Value] = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Value:
        return atom.val if isinstance(atom, jex.Literal) else known[atom]

    for equation in jaxpr.eqns:
        values = [read(atom) for atom in equation.invars]
        if any(map(_is_factored, values)):
            results = _apply(equation, values, jaxpr.debug_info)
        else:
            results = _bind(equation, values, jaxpr.debug_info)
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _bind(equation: Any, values: Sequence[jax.Array], debug: Any) -> Sequence[Any]:
    """The equation as it stands, on arrays: a program of one line, evaluated by jax itself."""
    own = {
        atom: value
        for atom, value in zip(equation.invars, values, strict=True)
        if not isinstance(atom, jex.Literal)
    }
    line = jex.Jaxpr((), list(own), equation.outvars, [equation], equation.effects, debug)
    return jex.jaxpr_as_fun(jex.ClosedJaxpr(line, ()))(*own.values())


def _apply(equation: Any, values: list[Value], debug: Any) -> Sequence[Value]:
    """The equation, with at least one factored operand: by its rule, else on what it adds up to."""
    name = equation.primitive.name
    if name in _PROGRAMS:
        return _PROGRAMS[name](equation, values)
    if name in _RULES:
        result = _RULES[name](equation.params, values)
        if result is not None:
            return [result]
    return _bind(equation, [_add_up(value, name) for value in values], debug)


def _add_up(value: Value, primitive: str) -> jax.Array:
    if not isinstance(value, Factored):
        return value
    found = _fallbacks.get()
    if found is not None:
        found.append(Fallback(primitive, value.shape))
    return factored.materialise(value)


def _is_factored(value: Any) -> bool:
    return isinstance(value, Factored)


def _array(value: Value) -> jax.Array:
    return value.base if isinstance(value, Factored) else value


# Rules for single operations. None means that the rule does not cover the case.


def _dot_general(params: Any, values: list[Value]) -> Value | None:
    (left_axes, right_axes), (left_batch, right_batch) = params["dimension_numbers"]
    left, right = values
    if left_batch or right_batch or (_is_factored(left) and _is_factored(right)):
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
    if not all(map(_is_factored, values)):
        return None
    return factored.concatenate(values, params["dimension"])


def _convert(params: Any, values: list[Value]) -> Value | None:
    return factored.convert(values[0], params["new_dtype"])


def _multiply(params: Any, values: list[Value]) -> Value | None:
    left, right = values
    value, by = (left, right) if isinstance(left, Factored) else (right, left)
    if _is_factored(by) or jnp.ndim(by) != 0:
        return None
    return factored.scale(value, by)


def _divide(params: Any, values: list[Value]) -> Value | None:
    value, by = values
    if not isinstance(value, Factored) or _is_factored(by) or jnp.ndim(by) != 0:
        return None
    return factored.scale(value, 1 / by)


def _negate(params: Any, values: list[Value]) -> Value | None:
    return factored.scale(values[0], jnp.asarray(-1, values[0].dtype))


def _same(params: Any, values: list[Value]) -> Value | None:
    return values[0]


def _gather(params: Any, values: list[Value]) -> Value | None:
    """A lookup of whole rows of a table: the row of one factor, times all of the other."""
    value, index = values
    if not isinstance(value, Factored) or _is_factored(index):
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
        or _is_factored(array)
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


_RULES: dict[str, Callable[[Any, list[Value]], Value | None]] = {
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


# Rules for operations that hold programs.


def _call(program: str) -> Callable[[Any, list[Value]], Sequence[Value]]:
    def rule(equation: Any, values: list[Value]) -> Sequence[Value]:
        return _run(*_open(equation.params[program]), values)

    return rule


def _open(program: Any) -> tuple[Any, Sequence[Any]]:
    """A program inside an equation, and its constants, closed over or not."""
    if isinstance(program, jex.ClosedJaxpr):
        return program.jaxpr, program.consts
    return program, ()


def _scan(equation: Any, values: list[Value]) -> Sequence[Value]:
    """The same scan: factored constants are read at every turn, factored sequences cut by turn."""
    params = equation.params
    inner, consts = _open(params["jaxpr"])
    # Counted from the shapes, since their names among the parameters change with jax: what is
    # cut or stacked by turn has one axis more outside than inside.
    inside = zip(equation.invars, inner.invars, strict=True)
    cut = sum(len(x.aval.shape) > len(v.aval.shape) for x, v in inside)
    outside = zip(equation.outvars, inner.outvars, strict=True)
    carried = sum(len(x.aval.shape) == len(v.aval.shape) for x, v in outside)
    constants = len(values) - carried - cut
    fixed = values[:constants]
    start = [_add_up(v, "scan carry") for v in values[constants : constants + carried]]
    sequences = []
    for value in values[constants + carried :]:
        follows = not _is_factored(value) or len(value.groups[0]) == 1
        sequences.append(value if follows else _add_up(value, "scan"))
    rows = [_rows(value) for value in sequences]

    def body(carry: list[jax.Array], turn: list[Any]) -> Any:
        pieces = [
            _row(value, piece) if isinstance(value, Factored) else piece
            for value, piece in zip(sequences, turn, strict=True)
        ]
        results = _run(inner, consts, [*fixed, *carry, *pieces])
        results = [_add_up(result, "scan result") for result in results]
        return results[:carried], results[carried:]

    final, stacked = lax.scan(
        body,
        start,
        rows,
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*final, *stacked]


def _rows(value: Value) -> Any:
    """What of a sequence a scan cuts by turn: its first axis, in each factor that has it."""
    if not isinstance(value, Factored):
        return value
    tag = value.groups[0][0].tag
    return (
        value.base,
        value.a if tag in ("a", "k") else None,
        value.b if tag in ("b", "k") else None,
    )


def _row(value: Factored, piece: Any) -> Factored:
    base, a, b = piece
    return Factored(
        base, value.a if a is None else a, value.b if b is None else b, value.groups[1:]
    )


def _while(equation: Any, values: list[Value]) -> Sequence[Value]:
    params = equation.params
    tests, bodies = params["cond_nconsts"], params["body_nconsts"]
    test, body = _open(params["cond_jaxpr"]), _open(params["body_jaxpr"])
    test_fixed, body_fixed = values[:tests], values[tests : tests + bodies]
    start = [_add_up(value, "while carry") for value in values[tests + bodies :]]

    def go_on(carry: list[jax.Array]) -> jax.Array:
        return _add_up(_run(*test, [*test_fixed, *carry])[0], "while")

    def turn(carry: list[jax.Array]) -> list[jax.Array]:
        results = _run(*body, [*body_fixed, *carry])
        return [_add_up(result, "while result") for result in results]

    return lax.while_loop(go_on, turn, start)


def _cond(equation: Any, values: list[Value]) -> Sequence[Value]:
    index, *rest = values

    def branch(inner: Any) -> Callable[..., list[jax.Array]]:
        def run(operands: list[Value]) -> list[jax.Array]:
            results = _run(*_open(inner), operands)
            return [_add_up(result, "cond result") for result in results]

        return run

    return lax.switch(index, [branch(inner) for inner in equation.params["branches"]], rest)


_PROGRAMS: dict[str, Callable[[Any, list[Value]], Sequence[Value]]] = {
    "jit": _call("jaxpr"),
    "pjit": _call("jaxpr"),
    "closed_call": _call("call_jaxpr"),
    "core_call": _call("call_jaxpr"),
    "checkpoint": _call("jaxpr"),
    "remat2": _call("jaxpr"),
    "custom_jvp_call": _call("call_jaxpr"),
    "custom_vjp_call": _call("call_jaxpr"),
    "custom_vjp_call_jaxpr": _call("fun_jaxpr"),
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}


def refuse(found: Sequence[Fallback]) -> None:
    """Raise where anything was added up.

    Raises:
      InputError: naming the operation and the shape.
    """
    if found:
        first = found[0]
        raise InputError(
            f"strict=True: {first.primitive} needs a parameter of shape {first.shape} added up for "
            "each member; give that leaf dense noise by a rule, freeze it, or drop strict"
        )
