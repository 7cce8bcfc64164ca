"""Sorting by neighbours: insertion sort and bubble sort, and what all sorting tasks are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.lists import Keys, predecessors
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, one_hot, read, write
from evojax_nar.tasks.clrs.probes import KEY, POS, Specification, node
from evojax_nar.tasks.clrs.ranking import by_rank, ranks
from evojax_nar.types import Field

ORDER = node("pred", "permutation")
"""The answer: the node before each in the sorted order."""
ORDER_SO_FAR = node("pred_h", "pointer")


def sorting(*hints: Field) -> Specification:
    """What a sorting task reads and answers, and what it shows besides the order so far."""
    return Specification((POS, KEY), (ORDER,), (ORDER_SO_FAR, *hints))


# Insertion sort. A frame is one key put in its place among those before it.


class _Insertion(NamedTuple):
    rank: jax.Array
    """Of each key in the sorted order: constant."""
    order: jax.Array
    """The sorted order: constant."""
    pred: jax.Array
    last: jax.Array
    """The key that was put in its place."""
    after: jax.Array
    """The one that was there; itself where that was the end."""


def _insertion_start(problem: Problem) -> _Insertion:
    rank = ranks(problem.inputs["key"], problem.exists)
    order = by_rank(rank)
    return _Insertion(rank, order, predecessors(problem), jnp.int32(0), jnp.int32(0))


def _insertion_step(problem: Problem, registers: _Insertion) -> _Insertion:
    rank, order, pred, last, _ = registers
    new = last + 1
    own, sorted_already = read(rank, new), problem.index < new
    before = jnp.where(sorted_already & (rank < own), rank, -1).max()
    after = jnp.where(sorted_already & (rank > own), rank, problem.nodes).min()
    ends = after == problem.nodes
    successor = jnp.where(ends, new, read(order, after))
    # The sorted part ends with what was before the new key, or with the new key itself.
    tail = jnp.where(ends, new, read(pred, new))
    pred = write(pred, successor, new)
    pred = write(pred, new, jnp.where(before < 0, new, read(order, before)))
    pred = jnp.where((problem.index == new + 1) & problem.exists, tail, pred)
    return _Insertion(rank, order, pred, new, successor)


def _insertion_hints(problem: Problem, registers: _Insertion) -> Probes:
    return {
        "pred_h": registers.pred,
        "i": one_hot(registers.after, problem),
        "j": one_hot(registers.last, problem),
    }


@final
@dataclass(frozen=True)
class InsertionSort(Keys):
    """Sort a list of keys, each put in its place among those before it."""

    name: ClassVar[str] = "clrs/insertion_sort"
    specification: ClassVar[Specification] = sorting(node("i", "mask_one"), node("j", "mask_one"))
    machine: ClassVar[Machine] = Machine(
        frames=lambda nodes: nodes,  # the start, and one a key but the first
        start=_insertion_start,
        step=_insertion_step,
        done=lambda problem, registers: registers.last >= problem.size - 1,
        hints=_insertion_hints,
        outputs=lambda problem, registers: {"pred": registers.pred},
    )


# Bubble sort. A frame is a comparison of neighbours. The order itself is no register: a pass goes
# down the list, which pointers to the node before can follow.


class _Bubble(NamedTuple):
    pred: jax.Array
    front: jax.Array
    """The node at the place that the pass ends with."""
    last: jax.Array
    """The node at the end of the list."""
    high: jax.Array
    """The node at the later one of the two places that were compared."""
    low: jax.Array
    """The node at the earlier one, to be compared next."""
    i: jax.Array
    j: jax.Array
    """The place to be compared next with the one before it."""


def _bubble_start(problem: Problem) -> _Bubble:
    zero, last = jnp.int32(0), problem.size - 1
    return _Bubble(predecessors(problem), zero, last, zero, last, zero, last)


def _bubble_step(problem: Problem, registers: _Bubble) -> _Bubble:
    pred, front, last, above, node, i, j = registers
    keys, begins, ends = problem.inputs["key"], j == problem.size - 1, j == i + 1
    other = read(pred, node)
    swap = read(keys, node) < read(keys, other)
    high, low = jnp.where(swap, other, node), jnp.where(swap, node, other)
    # Before: ..., other, node, above. The first of a list is its own predecessor.
    before = read(pred, other)
    moved = write(pred, node, jnp.where(before == other, node, before))
    moved = write(moved, other, node)
    moved = write(moved, jnp.where(begins, -1, above), other)
    # At its start a pass ends one place higher: at the later place of the last comparison.
    front = jnp.where(ends, low, jnp.where(begins, above, front))
    last = jnp.where(begins, high, last)
    return _Bubble(
        pred=jnp.where(swap, moved, pred),
        front=front,
        last=last,
        high=high,
        low=jnp.where(ends, last, low),
        i=i + ends,
        j=jnp.where(ends, problem.size - 1, j - 1),
    )


def _bubble_hints(problem: Problem, registers: _Bubble) -> Probes:
    return {
        "pred_h": registers.pred,
        "i": one_hot(registers.front, problem),
        "j": one_hot(registers.high, problem),
    }


@final
@dataclass(frozen=True)
class BubbleSort(Keys):
    """Sort a list of keys by swapping neighbours, down the list again and again."""

    name: ClassVar[str] = "clrs/bubble_sort"
    specification: ClassVar[Specification] = sorting(node("i", "mask_one"), node("j", "mask_one"))
    machine: ClassVar[Machine] = Machine(
        frames=lambda nodes: 1 + nodes * (nodes - 1) // 2,  # the start, and one a pair of places
        start=_bubble_start,
        step=_bubble_step,
        done=lambda problem, registers: registers.i >= problem.size - 1,
        hints=_bubble_hints,
        outputs=lambda problem, registers: {"pred": registers.pred},
    )
