"""Quicksort and quickselect, which share how a range of the list is split by its last key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.lists import Keys, first_where, itself, predecessors, trade
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, at, exchange, one_hot, read
from evojax_nar.tasks.clrs.probes import KEY, POS, Specification, graph, node
from evojax_nar.tasks.clrs.sorting import ORDER_SO_FAR, sorting

MARKS = tuple(node(name, "mask_one") for name in ("p", "r", "i", "j"))
"""The nodes at the first and the last place of the range, behind the small keys, and at hand."""


class Split(NamedTuple):
    """A range of places, up to `j` of which has been split by the key at its end."""

    order: jax.Array
    """The node at each place."""
    pred: jax.Array
    p: jax.Array
    r: jax.Array
    i: jax.Array
    """The place behind the keys that are at most the last one; in the end the place of that."""
    j: jax.Array


def whole(problem: Problem) -> Split:
    """The list as it comes, with nothing split."""
    zero = jnp.int32(0)
    pred = itself(predecessors(problem), problem)
    return Split(problem.index, pred, zero, problem.size - 1, zero, zero)


def advance(problem: Problem, split: Split) -> Split:
    """The key at place j goes to the small ones if it is one; the last one always does."""
    order, pred, p, r, i, j = split
    keys, new, old = problem.inputs["key"], read(order, j), read(order, i)
    small = (j == r) | (read(keys, new) <= read(keys, read(order, r)))
    new = jnp.where(small, new, old)
    order = exchange(order, i, jnp.where(small, j, i))
    return Split(order, trade(pred, old, new), p, r, i + (small & (j < r)), j)


def marks(problem: Problem, split: Split) -> Probes:
    """The hints of both algorithms."""
    shown = {"pred_h": jnp.where(problem.exists, split.pred, 0)}
    for name in ("p", "r", "i", "j"):
        shown[name] = one_hot(read(split.order, getattr(split, name)), problem)
    return shown


# Quicksort. A frame is a key at hand. Ranges are taken up from left to right, so instead of a stack
# it is enough to know which places have their final key.


class _Quicksort(NamedTuple):
    split: Split
    settled: jax.Array
    """(V,) bool: places that have been the place of a last key."""


def _next_range(problem: Problem, registers: _Quicksort) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What is settled once a split is over, and the first range of two places or more that is not.

    The range begins at V where there is none.
    """
    settled = registers.settled | at(registers.split.i, problem.nodes)
    unsettled = problem.exists & ~settled
    following = jnp.append(unsettled[1:], False)
    p = first_where(unsettled & following)
    return settled, p, first_where(~unsettled & (problem.index > p)) - 1


def _quicksort_start(problem: Problem) -> _Quicksort:
    return _Quicksort(advance(problem, whole(problem)), jnp.zeros(problem.nodes, bool))


def _quicksort_step(problem: Problem, registers: _Quicksort) -> _Quicksort:
    split, over = registers.split, registers.split.j == registers.split.r
    settled, p, r = _next_range(problem, registers)
    split = split._replace(
        p=jnp.where(over, p, split.p),
        r=jnp.where(over, r, split.r),
        i=jnp.where(over, p, split.i),
        j=jnp.where(over, p, split.j + 1),
    )
    settled = jnp.where(over, settled, registers.settled)
    return _Quicksort(advance(problem, split), settled)


def _quicksort_done(problem: Problem, registers: _Quicksort) -> jax.Array:
    _, p, _ = _next_range(problem, registers)
    return (registers.split.j == registers.split.r) & (p == problem.nodes)


@final
@dataclass(frozen=True)
class Quicksort(Keys):
    """Sort a list of keys by splitting it, and then its parts, by the last key."""

    name: ClassVar[str] = "clrs/quicksort"
    specification: ClassVar[Specification] = sorting(*MARKS)
    machine: ClassVar[Machine] = Machine(
        # A range of m places takes m frames and leaves m - 1 places. The sum is largest where they
        # stay together, n + (n - 1) + ... + 2: it is convex in how they part.
        frames=lambda nodes: max(nodes * (nodes + 1) // 2 - 1, 1),
        start=_quicksort_start,
        step=_quicksort_step,
        done=_quicksort_done,
        hints=lambda problem, registers: marks(problem, registers.split),
        outputs=lambda problem, registers: {
            "pred": jnp.where(problem.exists, registers.split.pred, 0)
        },
    )


# Quickselect.


class _Quickselect(NamedTuple):
    split: Split
    target: jax.Array
    """The place that is looked for, counted from p."""


def _quickselect_start(problem: Problem) -> _Quickselect:
    return _Quickselect(advance(problem, whole(problem)), problem.size // 2)


def _quickselect_step(problem: Problem, registers: _Quickselect) -> _Quickselect:
    split, target = registers
    over, right = split.j == split.r, target > split.i - split.p
    p = jnp.where(over & right, split.i + 1, split.p)
    split = split._replace(
        p=p,
        r=jnp.where(over & ~right, split.i - 1, split.r),
        i=jnp.where(over, p, split.i),
        j=jnp.where(over, p, split.j + 1),
    )
    return _Quickselect(advance(problem, split), target - (p - registers.split.p))


def _quickselect_hints(problem: Problem, registers: _Quickselect) -> Probes:
    split, target = registers
    over, size = split.j == split.r, problem.size.astype(problem.dtype)
    # Counted from p once the range is split, and from the start of the list before.
    rank = jnp.where(over, split.i - split.p, split.i)
    pivot = read(split.order, jnp.where(over, split.i, split.r))
    return {
        **marks(problem, split),
        "i_rank": rank.astype(problem.dtype) / size,
        "target": target.astype(problem.dtype) / size,
        "pivot": one_hot(pivot, problem),
    }


@final
@dataclass(frozen=True)
class Quickselect(Keys):
    """Find the median of a list of keys, the later one of two, by splitting its part of it."""

    name: ClassVar[str] = "clrs/quickselect"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, KEY),
        outputs=(node("median", "mask_one"),),
        hints=(
            ORDER_SO_FAR,
            *MARKS,
            graph("i_rank", "scalar"),
            graph("target", "scalar"),
            node("pivot", "mask_one"),
        ),
    )
    machine: ClassVar[Machine] = Machine(
        # A range of m places takes m frames; the next one is shorter by one at least.
        frames=lambda nodes: nodes * (nodes + 1) // 2,
        start=_quickselect_start,
        step=_quickselect_step,
        done=lambda problem, registers: (
            (registers.split.j == registers.split.r)
            & (registers.split.i - registers.split.p == registers.target)
        ),
        hints=_quickselect_hints,
        outputs=lambda problem, registers: {
            "median": one_hot(read(registers.split.order, registers.split.i), problem)
        },
    )
