"""Sorting by a heap: heapsort."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.lists import Keys, categorical, itself, predecessors, trade
from evojax_nar.tasks.clrs.machine import (
    Machine,
    Probes,
    Problem,
    exchange,
    one_hot,
    read,
    write,
)
from evojax_nar.tasks.clrs.probes import Specification, graph, node
from evojax_nar.tasks.clrs.sorting import sorting

# A frame is a key that was compared with its children, and swapped with the larger one where that
# is larger; or the first key swapped to the end of the heap, which it leaves.
_BUILD, _LEAVE, _REPAIR = 0, 1, 2


class _Heap(NamedTuple):
    order: jax.Array
    """The node at each place."""
    pred: jax.Array
    parent: jax.Array
    """The node above each in the heap; itself at the root and outside."""
    sinking: jax.Array
    """The place to be compared with its children next; -1 where the heap is in order from there."""
    index: jax.Array
    """The place from which a key sinks into the heap as it is built; later that behind the heap."""
    heap: jax.Array
    """The number of keys in the heap."""
    phase: jax.Array
    i: jax.Array
    j: jax.Array
    largest: jax.Array


def _start(problem: Problem) -> _Heap:
    last = problem.size - 1
    return _Heap(
        order=problem.index,
        pred=itself(predecessors(problem), problem),
        parent=itself(jnp.maximum(problem.index - 1, 0) // 2, problem),
        sinking=jnp.int32(-1),
        index=problem.size,
        heap=problem.size,
        phase=jnp.int32(_BUILD),
        i=last,
        j=last,
        largest=last,
    )


def _step(problem: Problem, registers: _Heap) -> _Heap:
    order, pred, parent, sinking, index, heap, phase, *_ = registers
    keys, rests, built = problem.inputs["key"], sinking < 0, phase != _BUILD
    leaves = rests & (built | (index == 0))
    index = jnp.where(leaves, heap - 1, jnp.where(rests, index - 1, index))
    heap = jnp.where(leaves, heap - 1, heap)
    place = jnp.where(rests, index, sinking)

    largest, most = place, read(keys, read(order, place))
    for child in (2 * place + 1, 2 * place + 2):
        own = read(keys, read(order, child))
        more = (child < heap) & (own > most)
        largest, most = jnp.where(more, child, largest), jnp.where(more, own, most)

    one, two = jnp.where(leaves, 0, place), jnp.where(leaves, index, largest)
    first, second = read(order, one), read(order, two)
    order, pred = exchange(order, one, two), trade(pred, first, second)
    parent = write(trade(parent, first, second), jnp.where(leaves, first, -1), first)
    return _Heap(
        order=order,
        pred=pred,
        parent=parent,
        sinking=jnp.where(leaves, 0, jnp.where(largest != place, largest, -1)),
        index=index,
        heap=heap,
        phase=jnp.where(leaves, _LEAVE, jnp.where(phase == _LEAVE, _REPAIR, phase)),
        i=read(order, jnp.where(leaves, 0, index)),
        j=jnp.where(leaves, first, second),
        largest=jnp.where(leaves, 0, first),
    )


def _done(problem: Problem, registers: _Heap) -> jax.Array:
    # All that a heap of one key is still compared with is nothing.
    alone = (registers.heap == 1) & ((registers.phase == _REPAIR) | (registers.index == 0))
    return alone & (registers.sinking < 0)


def _hints(problem: Problem, registers: _Heap) -> Probes:
    return {
        "pred_h": jnp.where(problem.exists, registers.pred, 0),
        "parent": jnp.where(problem.exists, registers.parent, 0),
        "i": one_hot(registers.i, problem),
        "j": one_hot(registers.j, problem),
        "largest": one_hot(registers.largest, problem),
        "heap_size": one_hot(read(registers.order, registers.heap - 1), problem),
        "phase": categorical(registers.phase, 3, problem),
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
        done=_done,
        hints=_hints,
        outputs=lambda problem, registers: {"pred": jnp.where(problem.exists, registers.pred, 0)},
    )
