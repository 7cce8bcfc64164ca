"""Runs an unmodified program on perturbed parameters, without forming them.

`perturbed(fn)(params, noise, *args)` traces `fn`, walks its jaxpr, and keeps every leaf that has
low-rank noise as a shared base and two thin factors for as long as the program only contracts,
looks up, moves or cuts it. Loops are entered: a leaf that a scan, a while loop or a branch reads
has the same noise at every turn, and its factors are drawn outside. Whatever else a program does to
a leaf adds it up, and `audit` says so.
"""

from __future__ import annotations

import contextlib
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
from evojax_nar.perturb_rules import RULES, Value, is_factored


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
    leaves, structure = jax.tree.flatten(arguments, is_leaf=is_factored)
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
        if any(map(is_factored, values)):
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
    if name in RULES:
        result = RULES[name](equation.params, values)
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


def _array(value: Value) -> jax.Array:
    return value.base if isinstance(value, Factored) else value


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
        follows = not is_factored(value) or len(value.groups[0]) == 1
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
