"""Operations that hold programs: how they are opened, and what depends on what inside them.

A mark is a whole number whose bits say what a value depends on. Bit 0 stands for anything that may
differ from member to member.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

from jax.core import Tracer
from jax.extend import core as jex

CALLS: dict[str, str] = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
"""Primitive that runs one program once, to the parameter that holds it."""


class Inner(NamedTuple):
    """A program inside an equation, and the marks that its arguments have at any turn."""

    jaxpr: Any
    consts: Sequence[Any]
    marks: list[int]


class ScanParts(NamedTuple):
    """How many operands of a scan are read at every turn, carried, and cut by turn."""

    constants: int
    carried: int
    cut: int


def open_program(program: Any) -> tuple[Any, Sequence[Any]]:
    """The jaxpr and its constants, closed over or not."""
    if isinstance(program, jex.ClosedJaxpr):
        return program.jaxpr, program.consts
    return program, ()


def scan_parts(equation: Any) -> ScanParts:
    """The parts of a scan, counted from shapes: their names among the parameters change with jax.

    What is cut or stacked by turn has one axis more outside than inside.
    """
    inner, _ = open_program(equation.params["jaxpr"])
    inside = zip(equation.invars, inner.invars, strict=True)
    cut = sum(len(x.aval.shape) > len(v.aval.shape) for x, v in inside)
    outside = zip(equation.outvars, inner.outvars, strict=True)
    carried = sum(len(x.aval.shape) == len(v.aval.shape) for x, v in outside)
    return ScanParts(len(equation.invars) - carried - cut, carried, cut)


def reached(jaxpr: Any, consts: Sequence[Any], marks: Sequence[int]) -> list[int]:
    """Marks of the results of a program whose arguments have `marks`."""
    known = dict(zip(jaxpr.constvars, mark_constants(consts), strict=True))
    known.update(zip(jaxpr.invars, marks, strict=True))
    for equation in jaxpr.eqns:
        known.update(zip(equation.outvars, through(equation, read(known, equation)), strict=True))
    return [0 if isinstance(atom, jex.Literal) else known[atom] for atom in jaxpr.outvars]


def read(known: dict[Any, int], equation: Any) -> list[int]:
    """Marks of the operands of an equation; literals have none."""
    return [0 if isinstance(atom, jex.Literal) else known[atom] for atom in equation.invars]


def mark_constants(consts: Sequence[Any]) -> list[int]:
    """Bit 0 for what is being traced outside and so may differ from member to member."""
    return [int(isinstance(const, Tracer)) for const in consts]


def through(equation: Any, marks: Sequence[int]) -> list[int]:
    """Marks of the results of an equation whose operands have `marks`."""
    name = equation.primitive.name
    programs = inside(equation, marks)
    if not programs:
        return [_union(marks)] * len(equation.outvars)
    if name == "while":  # the body, whose arguments after its constants are what is carried
        return programs[1].marks[equation.params["body_nconsts"] :]
    results = [reached(*program) for program in programs]
    if name == "cond":
        return [marks[0] | _union(row) for row in zip(*results, strict=True)]
    return results[0]


def inside(equation: Any, marks: Sequence[int]) -> list[Inner]:
    """The programs that an equation runs; none for an operation without, or of another kind."""
    name, params = equation.primitive.name, equation.params
    marks = list(marks)
    if name in CALLS:
        return [Inner(*open_program(params[CALLS[name]]), marks)]
    if name == "cond":
        return [Inner(*open_program(branch), marks[1:]) for branch in params["branches"]]
    if name == "scan":
        program, parts = open_program(params["jaxpr"]), scan_parts(equation)
        first, last = parts.constants, parts.constants + parts.carried
        while True:
            after = reached(*program, marks)[: parts.carried]
            carried = [old | new for old, new in zip(marks[first:last], after, strict=True)]
            if carried == marks[first:last]:
                return [Inner(*program, marks)]
            marks[first:last] = carried
    if name == "while":
        test, body = open_program(params["cond_jaxpr"]), open_program(params["body_jaxpr"])
        tests, bodies = params["cond_nconsts"], params["body_nconsts"]
        fixed_test, fixed_body = marks[:tests], marks[tests : tests + bodies]
        carried = marks[tests + bodies :]
        while True:
            # How often the body runs depends on what the test depends on.
            turns = _union(reached(*test, [*fixed_test, *carried]))
            after = reached(*body, [*fixed_body, *carried])
            grown = [old | new | turns for old, new in zip(carried, after, strict=True)]
            if grown == carried:
                inner_test = Inner(*test, [*fixed_test, *carried])
                return [inner_test, Inner(*body, [*fixed_body, *carried])]
            carried = grown
    return []


def _union(marks: Sequence[int]) -> int:
    return reduce(operator.or_, marks, 0)
