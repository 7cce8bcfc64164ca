"""Quicksort and quickselect, which share how a range of the list is split by its last key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.lists import Keys, first_where, itself, predecessors, rename, trade
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, at, one_hot, read
from evojax_nar.tasks.clrs.probes import KEY, POS, Specification, graph, node
from evojax_nar.tasks.clrs.sorting import ORDER_SO_FAR, sorting

MARKS = tuple(node(name, "mask_one") for name in ("p", "r", "i", "j"))
"""The nodes at the first and the last place of the range, behind the small keys, and at hand."""


class Split(NamedTuple):
    """A range of places that is split by the key at its end, up to place j.

    What trades places in a frame is planned in the one before: all that follows from it is then
    computed once.
    """

    p: jax.Array
    r: jax.Array
    i: jax.Array
    """The place behind the keys that are at most the last one; in the end the place of that."""
    j: jax.Array
    old: jax.Array
    new: jax.Array
    """The nodes that trade places; equal where none do."""

    @property
    def over(self) -> jax.Array:
        """Whether the whole range is split."""
        return self.j == self.r


class List(NamedTuple):
    """The list, as far as it has been sorted."""

    order: jax.Array
    """The node at each place."""
    pred: jax.Array


def whole(problem: Problem) -> List:
    """The list as it comes."""
    return List(problem.index, itself(predecessors(problem), problem))


def plan(problem: Problem, order: jax.Array, p: Any, r: Any, i: Any, j: Any) -> Split:
    """The key at place j goes to the small ones if it is one; the last one always does."""
    keys, new, old = problem.inputs["key"], read(order, j), read(order, i)
    small = (j == r) | (read(keys, new) <= read(keys, read(order, r)))
    return Split(p, r, i + (small & (j < r)), j, old, jnp.where(small, new, old))


def carry_out(old: List, split: Split) -> List:
    """The list after a frame."""
    order = rename(old.order, split.old, split.new)
    return List(order, trade(old.pred, split.old, split.new))


def marks(problem: Problem, now: List, split: Split) -> Probes:
    """The hints of both algorithms."""
    shown = {"pred_h": jnp.where(problem.exists, now.pred, 0)}
    for name in ("p", "r", "i", "j"):
        shown[name] = one_hot(read(now.order, getattr(split, name)), problem)
    return shown


# Quicksort. A frame is a key at hand. Ranges are taken up from left to right, so instead of a stack
# it is enough to know which places have their final key.


class _Quicksort(NamedTuple):
    now: List
    split: Split
    """What led to the list as it is."""
    next: Split
    settled: jax.Array
    """(V,) bool: places that have been the place of a last key."""
    over: jax.Array
    """Whether all are."""


def _quicksort_next(problem: Problem, now: List, split: Split, settled: jax.Array) -> _Quicksort:
    settled = settled | (split.over & at(split.i, problem.nodes))
    unsettled = problem.exists & ~settled
    following = jnp.append(unsettled[1:], False)
    # The first range of two places or more.
    left = first_where(unsettled & following)
    right = first_where(~unsettled & (problem.index > left)) - 1
    p = jnp.where(split.over, left, split.p)
    r = jnp.where(split.over, right, split.r)
    i = jnp.where(split.over, left, split.i)
    j = jnp.where(split.over, left, split.j + 1)
    over = split.over & (left == problem.nodes)
    return _Quicksort(now, split, plan(problem, now.order, p, r, i, j), settled, over)


def _quicksort_step(problem: Problem, registers: _Quicksort) -> _Quicksort:
    now = carry_out(registers.now, registers.next)
    return _quicksort_next(problem, now, registers.next, registers.settled)


def _quicksort_start(problem: Problem) -> _Quicksort:
    zero, now = jnp.int32(0), whole(problem)
    split = plan(problem, now.order, zero, problem.size - 1, zero, zero)
    now = carry_out(now, split)
    return _quicksort_next(problem, now, split, jnp.zeros(problem.nodes, bool))


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
        done=lambda problem, registers: registers.over,
        hints=lambda problem, registers: marks(problem, registers.now, registers.split),
        outputs=lambda problem, registers: {
            "pred": jnp.where(problem.exists, registers.now.pred, 0)
        },
    )


# Quickselect.


class _Quickselect(NamedTuple):
    now: List
    split: Split
    """What led to the list as it is."""
    target: jax.Array
    """The place that is looked for, counted from p."""
    next: Split


def _quickselect_next(problem: Problem, now: List, split: Split, target: jax.Array) -> _Quickselect:
    left = split.over & (target < split.i - split.p)
    right = split.over & ~left
    p = jnp.where(right, split.i + 1, split.p)
    r = jnp.where(left, split.i - 1, split.r)
    i = jnp.where(split.over, p, split.i)
    j = jnp.where(split.over, p, split.j + 1)
    return _Quickselect(now, split, target, plan(problem, now.order, p, r, i, j))


def _quickselect_step(problem: Problem, registers: _Quickselect) -> _Quickselect:
    now, split, target, following = registers
    now = carry_out(now, following)
    return _quickselect_next(problem, now, following, target - (following.p - split.p))


def _quickselect_start(problem: Problem) -> _Quickselect:
    zero, now = jnp.int32(0), whole(problem)
    split = plan(problem, now.order, zero, problem.size - 1, zero, zero)
    now = carry_out(now, split)
    return _quickselect_next(problem, now, split, problem.size // 2)


def _quickselect_hints(problem: Problem, registers: _Quickselect) -> Probes:
    now, split, target, _ = registers
    size = problem.size.astype(problem.dtype)
    # Counted from p once the range is split, and from the start of the list before.
    rank = jnp.where(split.over, split.i - split.p, split.i)
    pivot = read(now.order, jnp.where(split.over, split.i, split.r))
    return {
        **marks(problem, now, split),
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
            registers.split.over & (registers.split.i - registers.split.p == registers.target)
        ),
        hints=_quickselect_hints,
        outputs=lambda problem, registers: {
            "median": one_hot(read(registers.now.order, registers.split.i), problem)
        },
    )
