"""Runs an unmodified program on perturbed parameters, without forming them.

`perturbed(fn)(params, noise, *args)` traces `fn`, walks its jaxpr, and keeps every leaf that has
low-rank noise as a shared base and two thin factors for as long as the program only contracts,
looks up, moves or cuts it. Loops are entered: a leaf that a scan, a while loop or a branch reads
has the same noise at every turn, and its factors are drawn outside. Whatever else a program does to
a leaf adds it up, and `audit` says so.

Beside the values walks a mark for each: 0 where it is the same for every member, such as a loop's
counter, 1 where it may differ. A base may only be changed by what is the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core as jex

from evojax_nar import factored, programs
from evojax_nar.errors import InputError
from evojax_nar.factored import Factored, Value, is_factored
from evojax_nar.perturb_rules import RULES, SHARED_RULES


class Fallback(NamedTuple):
    """A leaf, or something made of one or several, that had to be added up for each member."""

    leaves: tuple[str, ...]
    """Paths of the parameters."""
    primitive: str
    """The operation that asked for it."""
    shape: tuple[int, ...]
    dtype: Any

    @property
    def nbytes(self) -> int:
        """Bytes formed for each member."""
        return math.prod(self.shape) * jnp.dtype(self.dtype).itemsize


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


def evaluate(function: Callable[..., Any], arguments: Any, *, strict: bool = False) -> Any:
    """`function(*arguments)`, where leaves of `arguments` may be `Factored`.

    Raises:
      InputError: where `strict` and something would be added up.
    """
    if strict:
        with recording() as found:
            results = evaluate(function, arguments)
        refuse(found)
        return results
    leaves, structure = jax.tree.flatten(arguments, is_leaf=is_factored)
    shapes = [jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(_array(x))) for x in leaves]

    def flat(*leaves: Any) -> Any:
        return function(*jax.tree.unflatten(structure, leaves))

    closed, out = jax.make_jaxpr(flat, return_shape=True)(*shapes)
    results = _run(closed.jaxpr, closed.consts, leaves, [1] * len(leaves))
    return jax.tree.unflatten(jax.tree.structure(out), [_add_up(r, "output") for r in results])


def _run(
    jaxpr: Any, consts: Sequence[Value], arguments: Sequence[Value], marks: Sequence[int]
) -> list[Value]:
    """Interpret one jaxpr, whose arguments have `marks`."""
    known: dict[Any, Value] = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))
    marked = dict(zip(jaxpr.constvars, programs.mark_constants(consts), strict=True))
    marked.update(zip(jaxpr.invars, marks, strict=True))

    def read(atom: Any) -> Value:
        return atom.val if isinstance(atom, jex.Literal) else known[atom]

    for equation in jaxpr.eqns:
        values = [read(atom) for atom in equation.invars]
        own = programs.read(marked, equation)
        if any(map(is_factored, values)):
            results = _apply(equation, values, own, jaxpr.debug_info)
        else:
            results = _bind(equation, values, jaxpr.debug_info)
        known.update(zip(equation.outvars, results, strict=True))
        marked.update(zip(equation.outvars, programs.through(equation, own), strict=True))
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


def _apply(equation: Any, values: list[Value], marks: list[int], debug: Any) -> Sequence[Value]:
    """The equation, with at least one factored operand: by its rule, else on what it adds up to."""
    name = equation.primitive.name
    if name in _PROGRAMS:
        return _PROGRAMS[name](equation, values, marks)
    rules = [RULES.get(name)]
    if not any(mark for value, mark in zip(values, marks, strict=True) if not is_factored(value)):
        rules.append(SHARED_RULES.get(name))
    for rule in rules:
        result = None if rule is None else rule(equation.params, values)
        if result is not None:
            return result if isinstance(result, list) else [result]
    return _bind(equation, [_add_up(value, name) for value in values], debug)


def _add_up(value: Value, primitive: str) -> jax.Array:
    if not isinstance(value, Factored):
        return value
    found = _fallbacks.get()
    if found is not None:
        found.append(Fallback(value.leaves, primitive, value.shape, value.dtype))
    return factored.materialise(value)


def _array(value: Value) -> jax.Array:
    return value.base if isinstance(value, Factored) else value


# Rules for operations that hold programs.


def _call(equation: Any, values: list[Value], marks: list[int]) -> Sequence[Value]:
    (inner,) = programs.inside(equation, marks)
    return _run(inner.jaxpr, inner.consts, values, inner.marks)


def _scan(equation: Any, values: list[Value], marks: list[int]) -> Sequence[Value]:
    """The same scan: factored constants are read at every turn, factored sequences cut by turn."""
    params, parts = equation.params, programs.scan_parts(equation)
    (inner,) = programs.inside(equation, marks)
    fixed = values[: parts.constants]
    carried = values[parts.constants : parts.constants + parts.carried]
    start = [_add_up(value, "scan carry") for value in carried]
    sequences = []
    for value in values[parts.constants + parts.carried :]:
        follows = not is_factored(value) or len(value.groups[0]) == 1
        sequences.append(value if follows else _add_up(value, "scan"))
    rows = [_rows(value) for value in sequences]

    def body(carry: list[jax.Array], turn: list[Any]) -> Any:
        pieces = [
            _row(value, piece) if isinstance(value, Factored) else piece
            for value, piece in zip(sequences, turn, strict=True)
        ]
        results = _run(inner.jaxpr, inner.consts, [*fixed, *carry, *pieces], inner.marks)
        results = [_add_up(result, "scan result") for result in results]
        return results[: parts.carried], results[parts.carried :]

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
    return dataclasses.replace(
        value,
        base=base,
        a=value.a if a is None else a,
        b=value.b if b is None else b,
        groups=value.groups[1:],
    )


def _while(equation: Any, values: list[Value], marks: list[int]) -> Sequence[Value]:
    params = equation.params
    tests, bodies = params["cond_nconsts"], params["body_nconsts"]
    test, body = programs.inside(equation, marks)
    test_fixed, body_fixed = values[:tests], values[tests : tests + bodies]
    start = [_add_up(value, "while carry") for value in values[tests + bodies :]]

    def go_on(carry: list[jax.Array]) -> jax.Array:
        (result,) = _run(test.jaxpr, test.consts, [*test_fixed, *carry], test.marks)
        return _add_up(result, "while")

    def turn(carry: list[jax.Array]) -> list[jax.Array]:
        results = _run(body.jaxpr, body.consts, [*body_fixed, *carry], body.marks)
        return [_add_up(result, "while result") for result in results]

    return lax.while_loop(go_on, turn, start)


def _cond(equation: Any, values: list[Value], marks: list[int]) -> Sequence[Value]:
    index, *operands = values

    def branch(inner: programs.Inner) -> Callable[..., list[jax.Array]]:
        def run(operands: list[Value]) -> list[jax.Array]:
            results = _run(inner.jaxpr, inner.consts, operands, inner.marks)
            return [_add_up(result, "cond result") for result in results]

        return run

    branches = [branch(inner) for inner in programs.inside(equation, marks)]
    if not marks[0]:
        return lax.switch(index, branches, operands)
    # Where members take different branches, vmap runs them all and selects; but it would first
    # copy every operand for each member, the shared bases among them.
    results = [run(operands) for run in branches]
    return [lax.select_n(index, *cases) for cases in zip(*results, strict=True)]


_PROGRAMS: dict[str, Callable[[Any, list[Value], list[int]], Sequence[Value]]] = {
    **dict.fromkeys(programs.CALLS, _call),
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}


def refuse(found: Sequence[Fallback]) -> None:
    """Raise where anything was added up.

    Raises:
      InputError: naming the leaf, the operation and the remedy.
    """
    if found:
        first = found[0]
        leaf = " and ".join(map(repr, first.leaves))
        pattern = f"(^|/){re.escape(first.leaves[0])}$" if first.leaves else "..."
        raise InputError(
            f"strict=True: {first.primitive} needs {leaf} of shape {first.shape} added up for each "
            f"member; give it dense noise by nar.noise.Rule({pattern!r}, rank=0), freeze it by "
            "frozen=True there, or drop strict"
        )
