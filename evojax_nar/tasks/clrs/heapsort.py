"""Sorting by a heap: heapsort."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.lists import Keys, categorical, itself, predecessors, rename, trade
from evojax_nar.tasks.clrs.machine import (
    Machine,
    Probes,
    Problem,
    one_hot,
    read,
    write,
)
from evojax_nar.tasks.clrs.probes import Specification, graph, node
from evojax_nar.tasks.clrs.sorting import sorting

# A frame is a key that was compared with its children, and traded places with the larger one where
# that is larger; or the first key trading places with the last one and leaving the heap. What the
# next frame does is a register, so that all that follows from it is computed once.
_BUILD, _LEAVE, _REPAIR = 0, 1, 2


class _Turn(NamedTuple):
    """What a frame does."""

    phase: jax.Array
    heap: jax.Array
    """The number of keys in the heap."""
    index: jax.Array
    """The place from which keys sink as the heap is built; then the place behind the heap."""
    child: jax.Array
    """The place to which the key sinks."""
    first: jax.Array
    second: jax.Array
    """The nodes that trade places; equal where none do."""
    over: jax.Array
    """Whether there is nothing to do."""


class _Heap(NamedTuple):
    order: jax.Array
    """The node at each place."""
    pred: jax.Array
    parent: jax.Array
    """The node above each in the heap; itself at the root and outside."""
    shown: tuple[jax.Array, ...]
    """The nodes i, j, largest and heap_size, and the phase."""
    turn: _Turn
    """The next one."""


def _start(problem: Problem) -> _Heap:
    last, none = problem.size - 1, jnp.int32(0)
    nothing = _Turn(none + _BUILD, problem.size, problem.size, none, none, none, jnp.asarray(False))
    return _Heap(
        order=problem.index,
        pred=itself(predecessors(problem), problem),
        parent=itself(jnp.maximum(problem.index - 1, 0) // 2, problem),
        shown=(last, last, last, last, none + _BUILD),
        turn=_next(problem, problem.index, nothing),
    )


def _next(problem: Problem, order: jax.Array, turn: _Turn) -> _Turn:
    """What to do after a turn that led to this order."""
    keys = problem.inputs["key"]
    sank = (turn.first != turn.second) & (turn.phase != _LEAVE)
    rests = ~sank & (turn.phase != _LEAVE)
    leaves = rests & ((turn.phase == _REPAIR) | (turn.index == 0))
    heap = turn.heap - leaves
    index = jnp.where(leaves, heap, turn.index - rests)
    place = jnp.where(leaves | (turn.phase == _LEAVE), 0, jnp.where(rests, index, turn.child))

    child, first = place, read(order, place)
    second, most = first, read(keys, first)
    for below in (2 * place + 1, 2 * place + 2):
        node_below = read(order, below)
        own = read(keys, node_below)
        more = (below < heap) & (own > most)
        child, most = jnp.where(more, below, child), jnp.where(more, own, most)
        second = jnp.where(more, node_below, second)
    return _Turn(
        phase=jnp.where(leaves, _LEAVE, jnp.where(turn.phase == _LEAVE, _REPAIR, turn.phase)),
        heap=heap,
        index=index,
        child=child,
        first=first,
        second=jnp.where(leaves, read(order, heap), second),
        over=leaves & (heap == 0),
    )


def _step(problem: Problem, registers: _Heap) -> _Heap:
    turn = registers.turn
    leaves = turn.phase == _LEAVE
    order = rename(registers.order, turn.first, turn.second)
    parent = trade(registers.parent, turn.first, turn.second)
    shown = (
        read(order, jnp.where(leaves, 0, turn.index)),
        jnp.where(leaves, turn.first, turn.second),
        jnp.where(leaves, 0, turn.first),
        read(order, turn.heap - 1),
        turn.phase,
    )
    return _Heap(
        order=order,
        pred=trade(registers.pred, turn.first, turn.second),
        parent=write(parent, jnp.where(leaves, turn.first, -1), turn.first),
        shown=shown,
        turn=_next(problem, order, turn),
    )


def _hints(problem: Problem, registers: _Heap) -> Probes:
    *nodes, phase = registers.shown
    marks = zip(("i", "j", "largest", "heap_size"), nodes, strict=True)
    return {
        "pred_h": jnp.where(problem.exists, registers.pred, 0),
        "parent": jnp.where(problem.exists, registers.parent, 0),
        **{name: one_hot(place, problem) for name, place in marks},
        "phase": categorical(phase, 3, problem),
    }


def _levels(place: int, heap: int) -> int:
    """How often the key at a place can sink: to the left each time, where a heap is deepest."""
    levels = 0
    while (place := 2 * place + 1) < heap:
        levels += 1
    return levels


def _frames(nodes: int) -> int:
    """The start; one a place and a level that its key can sink; then two a key that leaves, and
    one a level of what remains.
    """
    built = sum(1 + _levels(place, nodes) for place in range(nodes))
    return 1 + built + sum(2 + _levels(0, heap) for heap in range(1, nodes))


@final
@dataclass(frozen=True)
class Heapsort(Keys):
    """Sort a list of keys by making it a heap, whose largest key leaves it again and again."""

    name: ClassVar[str] = "clrs/heapsort"
    specification: ClassVar[Specification] = sorting(
        node("parent", "pointer"),
        *(node(name, "mask_one") for name in ("i", "j", "largest", "heap_size")),
        graph("phase", "categorical", 3),
    )
    machine: ClassVar[Machine] = Machine(
        frames=_frames,
        start=_start,
        step=_step,
        done=lambda problem, registers: registers.turn.over,
        hints=_hints,
        outputs=lambda problem, registers: {"pred": jnp.where(problem.exists, registers.pred, 0)},
    )
