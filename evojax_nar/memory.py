"""How much memory a program needs at its worst point, predicted from its trace.

Values are followed from where they are made to where they are last read. What XLA fuses into its
readers is not counted; what a contraction, a reduction, a lookup or a loop makes or reads is. Each
value counts for the one program, or for every copy of it under vmap, by whether it depends on
something that copies do not share.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jax.extend import core as jex

from evojax_nar import programs
from evojax_nar.cost import itemsize

_STORED = (
    *("dot_general", "conv_general_dilated", "reduce_", "arg", "cum", "sort", "top_k", "gather"),
    *("scatter", "dynamic_", "concatenate", "scan", "while", "cond", "fft", "cholesky"),
    *("triangular_solve", "custom_call", "pure_callback", "random_bits", "threefry"),
)
"""How the names of operations begin whose operands and results XLA keeps in memory."""


class Peak(NamedTuple):
    """Bytes at the worst point."""

    shared: int
    """Once, however many copies there are."""
    own: int
    """For each copy."""


class _Line(NamedTuple):
    """One operation of a program whose calls are written out; values go by number."""

    equation: Any
    operands: tuple[int, ...]
    results: tuple[int, ...]


class _Flat:
    """A jaxpr with its calls written out."""

    def __init__(self, jaxpr: Any) -> None:
        self.lines: list[_Line] = []
        self.bytes: dict[int, int] = {}
        self._numbers = itertools.count()
        names: dict[Any, int] = {}
        constants = [self._define(names, var) for var in jaxpr.constvars]
        self.inputs = [self._define(names, var) for var in jaxpr.invars]
        self.results = self._add(jaxpr, names)
        self.given = {*constants, *self.inputs}

    def _define(self, names: dict[Any, int], var: Any) -> int:
        names[var] = number = next(self._numbers)
        self.bytes[number] = _bytes(var.aval)
        return number

    def _add(self, jaxpr: Any, names: dict[Any, int]) -> list[int]:
        def read(atom: Any) -> int:
            if isinstance(atom, jex.Literal):
                number = next(self._numbers)
                self.bytes[number] = 0
                return number
            return names[atom]

        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            inner = _called(equation)
            if inner is None:
                results = [self._define(names, var) for var in equation.outvars]
                self.lines.append(_Line(equation, tuple(operands), tuple(results)))
                continue
            own = dict(zip(inner.invars, operands, strict=True))
            for var in inner.constvars:
                self._define(own, var)
            names.update(zip(equation.outvars, self._add(inner, own), strict=True))
        return [read(atom) for atom in jaxpr.outvars]


def peak(jaxpr: Any, own: Iterable[int]) -> Peak:
    """Bytes that a program needs, its arguments and results included.

    Args:
      jaxpr: the program.
      own: which of its inputs each copy has for itself.
    """
    inputs = set(own)
    flags = [place in inputs for place in range(len(jaxpr.invars))]
    worst, _ = _peak(jaxpr, flags, arguments=True)
    return worst


def _peak(jaxpr: Any, own: Sequence[bool], *, arguments: bool) -> tuple[Peak, list[bool]]:
    flat = _Flat(jaxpr)
    mine = {n for n, flag in zip(flat.inputs, own, strict=True) if flag}
    inner: list[Peak] = []
    for line in flat.lines:
        peak_inside, results = _inside(line, [number in mine for number in line.operands])
        inner.append(peak_inside)
        mine.update(n for n, flag in zip(line.results, results, strict=True) if flag)
    last, kept = _lifetimes(flat)
    ends: dict[int, list[int]] = {}
    for number, turn in last.items():
        ends.setdefault(turn, []).append(number)

    now = {True: 0, False: 0}
    if arguments:
        for number in flat.given:
            now[number in mine] += flat.bytes[number]
    worst = {flag: now[flag] for flag in now}
    alive: set[int] = set()
    for turn, line in enumerate(flat.lines):
        for number in line.results:
            if number in kept:
                alive.add(number)
                now[number in mine] += flat.bytes[number]
        worst[True] = max(worst[True], now[True] + inner[turn].own)
        worst[False] = max(worst[False], now[False] + inner[turn].shared)
        for number in ends.get(turn, ()):
            if number in alive:
                alive.remove(number)
                now[number in mine] -= flat.bytes[number]
    return Peak(worst[False], worst[True]), [number in mine for number in flat.results]


def _lifetimes(flat: _Flat) -> tuple[dict[int, int], set[int]]:
    """The line that reads each value last, and the values that are kept in memory at all.

    A value that is fused into its readers costs nothing, but what it is made of must live as long.
    """
    end = len(flat.lines)
    last = dict.fromkeys(flat.results, end)
    kept = set(flat.results)
    for turn in range(end - 1, -1, -1):
        line = flat.lines[turn]
        stored = _is_stored(line.equation)
        if stored:
            kept.update(line.results)
            kept.update(line.operands)
        fused = [last.get(n, turn) for n in line.results if n not in kept]
        until = max([turn, *fused])
        for number in line.operands:
            last[number] = max(last.get(number, turn), until)
        for number in line.results:
            last.setdefault(number, turn)
    return last, kept


def _inside(line: _Line, own: list[bool]) -> tuple[Peak, list[bool]]:
    """What the programs inside an operation need at their worst, and which results are copies'."""
    name, params = line.equation.primitive.name, line.equation.params
    some = any(own)
    if name == "cond":
        pairs = [_peak(b.jaxpr, own[1:], arguments=False) for b in params["branches"]]
        flags = [own[0] or any(f) for f in zip(*(result for _, result in pairs), strict=True)]
        return _largest([worst for worst, _ in pairs]), flags
    if name == "scan":
        inner, _ = programs.open_program(params["jaxpr"])
        parts = programs.scan_parts(line.equation)
        return _loop(inner, own, parts.constants, parts.carried)
    if name == "while":
        tests, bodies = params["cond_nconsts"], params["body_nconsts"]
        body = params["body_jaxpr"].jaxpr
        worst, flags = _loop(body, own[tests:], bodies, len(own) - tests - bodies)
        # Under vmap, a loop whose test differs between copies keeps all that it carries apart.
        return worst, [flag or some for flag in flags]
    return Peak(0, 0), [some] * len(line.results)


def _loop(inner: Any, own: Sequence[bool], constants: int, carried: int) -> tuple[Peak, list[bool]]:
    """A body that is run again until it no longer changes which of its carries are copies' own."""
    own = list(own)
    while True:
        worst, results = _peak(inner, own, arguments=False)
        carries = slice(constants, constants + carried)
        merged = [a or b for a, b in zip(own[carries], results, strict=False)]
        if merged == own[carries]:
            return worst, merged + results[carried:]
        own[carries] = merged


def _called(equation: Any) -> Any:
    """The program of an operation that does nothing but call it; None for any other."""
    key = programs.CALLS.get(equation.primitive.name)
    return None if key is None else programs.open_program(equation.params[key])[0]


def _is_stored(equation: Any) -> bool:
    return equation.primitive.name.startswith(_STORED)


def _largest(peaks: Sequence[Peak]) -> Peak:
    return Peak(max(p.shared for p in peaks), max(p.own for p in peaks))


def _bytes(aval: Any) -> int:
    return aval.size * itemsize(aval) if hasattr(aval, "shape") else 0
