"""What a model costs under a noise rule, leaf by leaf, before anything is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import jax
from flax import linen as nn

from evojax_nar import noise as noises
from evojax_nar import perturb, programs
from evojax_nar.cost import readable_bytes
from evojax_nar.discrete import is_choices
from evojax_nar.errors import InputError
from evojax_nar.models.inputs import blank
from evojax_nar.noise import LowRank, Thin
from evojax_nar.types import Model, Params, TaskSpec


@final
@dataclass(frozen=True)
class Row:
    """One leaf of the parameters."""

    path: str
    shape: tuple[int, ...]
    kind: str
    """"shared + rank r", "dense", "frozen", "fallback", "unused" or "choices"."""
    drawn: int
    """Random numbers that a member draws for it."""
    formed: int
    """Bytes of its values that are formed for each member."""
    forced_by: tuple[str, ...] = ()
    """The operations that a fallback is due to."""


@final
@dataclass(frozen=True)
class Audit:
    """The leaves of a model in the order of its parameters; printed, an aligned table."""

    rows: tuple[Row, ...]

    @property
    def fallback_bytes(self) -> int:
        """Bytes formed for each member because an operation cannot keep a leaf factored."""
        return sum(row.formed for row in self.rows if row.kind == "fallback")

    def __str__(self) -> str:
        """The table, and a line of totals."""
        header = ("leaf", "shape", "noise", "drawn", "formed", "forced by")
        lines = [header, *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        right = (False, False, False, True, True, False)
        text = [
            "  ".join(
                cell.rjust(width) if from_right else cell.ljust(width)
                for cell, width, from_right in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in lines
        ]
        drawn = sum(row.drawn for row in self.rows)
        formed = readable_bytes(sum(row.formed for row in self.rows))
        fallen = readable_bytes(self.fallback_bytes)
        total = f"A member draws {drawn:,} numbers and forms {formed}, of it {fallen} by fallback."
        return "\n".join([*text, total])


def audit(
    function: Callable[..., Any] | Model,
    params: Params,
    *args: Any,
    spec: TaskSpec | None = None,
    noise: Any = None,
    strict: bool = False,
) -> Audit:
    """What each leaf becomes where `function(params, *args)` runs on perturbed parameters.

    Args:
      function: any pure function of parameters, or a model together with its `spec`.
      params: arrays, or their shapes as `jax.ShapeDtypeStruct`s, as all arguments may be.
      *args: the other arguments of the function, arrays or trees of them.
      spec: of the task that a model is built for; it is then given a blank batch of one.
      noise: a rule, or what a config says of one; None for `LowRank()`.
      strict: True to refuse fallbacks.

    Nothing is run: the program is traced.

    Raises:
      InputError: for a model without its spec, or, where `strict`, for a leaf that falls back,
        naming it, the operation and the remedy.
    """
    rule = LowRank() if noise is None else noises.as_noise(noise)
    if spec is None:
        run = _as_function(function)
    else:
        model: Any = function
        args = (blank(spec, batch=1),)

        def run(params: Params, inputs: Any) -> Any:
            return model.apply(params, inputs, spec=spec)

    drawn = jax.eval_shape(rule.draw, jax.random.key(0), params)
    with perturb.recording() as found:
        jax.eval_shape(noises.perturbed(run), params, drawn, *args)
    # A loop may be traced more than once; what is formed in it, is formed once.
    chosen = _chosen(params)
    fallbacks = [own for own in dict.fromkeys(found) if not chosen.issuperset(own.leaves)]
    if strict:
        perturb.refuse(fallbacks)
    return Audit(_rows(params, drawn, fallbacks, _used(run, params, args)))


def _as_function(function: Any) -> Callable[..., Any]:
    name = type(function).__name__
    if isinstance(function, nn.Module):
        raise InputError(f"function={name} is a linen module; give its method apply")
    if not callable(function):
        remedy = "give its spec, as in nar.audit(model, params, spec=task.spec)"
        if not isinstance(function, Model):
            remedy = "give one of parameters and arrays"
        raise InputError(f"function={name} is no function; {remedy}")
    return function


def _rows(
    params: Params,
    drawn: Any,
    fallbacks: Sequence[perturb.Fallback],
    used: Sequence[bool],
) -> tuple[Row, ...]:
    leaves, structure = jax.tree.flatten(params)
    chosen = _chosen(params)
    rows = []
    for path, leaf, own, is_used in zip(
        noises.paths(params), leaves, structure.flatten_up_to(drawn), used, strict=True
    ):
        mine = [fallback for fallback in fallbacks if path in fallback.leaves]
        numbers = sum(part.size for part in jax.tree.leaves(own))
        kind, formed = "dense", leaf.size * leaf.dtype.itemsize
        if path in chosen:
            kind, numbers = "choices", leaf.size
        elif own is None:
            kind, formed = "frozen", 0
        elif not is_used:
            kind, formed = "unused", 0
        elif mine:
            # What is made of several leaves is divided among them.
            formed = sum(fallback.nbytes // len(fallback.leaves) for fallback in mine)
            kind = "fallback"
        elif isinstance(own, Thin):
            kind, formed = f"shared + rank {own.a.shape[-1]}", 0
        forced = tuple(dict.fromkeys(fallback.primitive for fallback in mine))
        rows.append(Row(path, tuple(leaf.shape), kind, numbers, formed, forced))
    return tuple(rows)


def _chosen(params: Params) -> set[str]:
    """Paths of the leaves that are choices, which noise does not move."""
    # A `Choices` has one leaf, so the two lists are in step.
    nodes = jax.tree.leaves(params, is_leaf=is_choices)
    pairs = zip(noises.paths(params), nodes, strict=True)
    return {path for path, node in pairs if is_choices(node)}


def _used(function: Callable[..., Any], params: Params, args: Any) -> list[bool]:
    """Whether any result depends on each leaf of `params`."""
    program = jax.make_jaxpr(function)(params, *args)
    count = len(jax.tree.leaves(params))
    arguments = len(program.jaxpr.invars)
    marks = [2 << place if place < count else 0 for place in range(arguments)]
    results = programs.reached(program.jaxpr, program.consts, marks)
    return [any(mark & (2 << place) for mark in results) for place in range(count)]


def _cells(row: Row) -> tuple[str, ...]:
    formed = readable_bytes(row.formed) if row.formed else "-"
    drawn = f"{row.drawn:,}" if row.drawn else "-"
    forced = ", ".join(row.forced_by)
    return (row.path, str(row.shape), row.kind, drawn, formed, forced)
