"""The walk that all depth-first algorithms take, one move a frame.

A walk starts at a root, discovers the node where it stands, and pushes the first neighbour without
a colour, which it discovers next. Where there is none it finishes the node and stands at the one
below on the stack, whose neighbours it looks through again from the first one on. The stack is a
list of pointers: each node on it points at the one below, and the lowest at itself.

Source: Cormen et al., "Introduction to Algorithms", chapter on elementary graph algorithms; frames
as in Velickovic et al. 2022, arXiv:2205.15659.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.machine import Problem, one_hot, read
from evojax_nar.tasks.clrs.probes import graph, node
from evojax_nar.tasks.clrs.reading import first, identity
from evojax_nar.types import Field

NEW, OPEN, CLOSED = 0, 1, 2
TICK = 0.01
"""What the clock of a walk shows for one unit of time."""
COLOR = node("color", "categorical", 3)
BELOW = node("s_prev", "pointer")
ROOT, AT, SEEN, TOP = (node(name, "mask_one") for name in ("s", "u", "v", "s_last"))
FOUND, LEFT, TIME = node("d", "scalar"), node("f", "scalar"), graph("time", "scalar")
BELOW_TO_TOP: tuple[Field, ...] = (BELOW, ROOT, AT, SEEN, TOP)


class Walk(NamedTuple):
    """Where a walk is."""

    color: jax.Array
    """(V,) int32: new, open while it is on the stack, then closed."""
    below: jax.Array
    """(V,) int32: the node below on the stack; the node itself if it is the lowest or off it."""
    root: jax.Array
    at: jax.Array
    seen: jax.Array
    """The neighbour that was looked at last; all int32, as are these."""
    top: jax.Array


class Move(NamedTuple):
    """What a walk does in a frame: one of these, bool; none where it is at a new root."""

    discovered: jax.Array
    pushed: jax.Array
    looked: jax.Array
    """At a neighbour that is not new: only where such are looked for."""
    finished: jax.Array


def begin(problem: Problem, root: jax.Array) -> Walk:
    """At a root, which no node comes before."""
    none = jnp.zeros(problem.nodes, jnp.int32)
    return Walk(none, identity(problem), root, root, root, root)


def first_new(problem: Problem, walk: Walk) -> jax.Array:
    """The first node without a colour, int32."""
    return first((walk.color == NEW) & problem.exists)


def over(problem: Problem, walk: Walk) -> jax.Array:
    """Whether all nodes are closed."""
    return ((walk.color == CLOSED) | ~problem.exists).all()


def ends(walk: Walk) -> tuple[jax.Array, jax.Array]:
    """Whether the node where the walk stands is closed, and whether it was the lowest, bool."""
    closed = read(walk.color, walk.at) == CLOSED
    return closed, closed & (read(walk.below, walk.at) == walk.at)


def arrive(problem: Problem, walk: Walk, root: jax.Array) -> tuple[Walk, jax.Array, jax.Array]:
    """To where the next frame happens: `root` if the stack is empty, else the top of the stack.

    Returns:
      The walk; whether it is at a new root; whether it has come back from above, bool.
    """
    closed, rooted = ends(walk)
    popped = closed & ~rooted
    under = read(walk.below, walk.top)
    below = jnp.where(popped & (problem.index == walk.top), walk.top, walk.below)
    top = jnp.where(rooted, root, jnp.where(popped, under, walk.top))
    moved = Walk(
        color=walk.color,
        below=below,
        root=jnp.where(rooted, root, walk.root),
        at=top,
        seen=jnp.where(rooted, root, walk.seen),
        top=top,
    )
    return moved, rooted, popped


def act(
    problem: Problem, walk: Walk, known: jax.Array, rooted: jax.Array, wanted: jax.Array
) -> tuple[Walk, Move]:
    """What happens where the walk has arrived.

    Args:
      problem: the graph.
      walk: from `arrive`.
      known: whether the node where it stands has been discovered, bool.
      rooted: from `arrive`.
      wanted: (V,) bool, the neighbours to push or to look at, of which the first one is taken.
    """
    chosen = first(wanted & problem.exists)
    discovered = ~rooted & ~known
    found = ~rooted & known & (chosen < problem.nodes)
    finished = ~rooted & known & (chosen >= problem.nodes)
    pushed = found & (read(walk.color, chosen) == NEW)
    here, there = problem.index == walk.at, problem.index == chosen
    color = jnp.where(here & discovered, OPEN, walk.color)
    color = jnp.where(here & finished, CLOSED, color)
    color = jnp.where(there & pushed, OPEN, color)
    moved = Walk(
        color=color,
        below=jnp.where(there & pushed, walk.top, walk.below),
        root=walk.root,
        at=walk.at,
        seen=jnp.where(found, chosen, jnp.where(finished, problem.size - 1, walk.seen)),
        top=jnp.where(pushed, chosen, walk.top),
    )
    return moved, Move(discovered, pushed, found & ~pushed, finished)


def show(problem: Problem, walk: Walk) -> dict[str, jax.Array]:
    """The hints `color`, `s_prev`, `s`, `u`, `v` and `s_last`."""
    classes = jnp.arange(3, dtype=jnp.int32)
    color = (walk.color[:, None] == classes) & problem.exists[:, None]
    return {
        "color": color.astype(problem.dtype),
        "s_prev": walk.below,
        "s": one_hot(walk.root, problem),
        "u": one_hot(walk.at, problem),
        "v": one_hot(walk.seen, problem),
        "s_last": one_hot(walk.top, problem),
    }


class Times(NamedTuple):
    """When what happened, in ticks of a clock that counts nodes discovered and finished."""

    found: jax.Array
    """(V,) int32: when each node was discovered, 0 before that."""
    left: jax.Array
    """(V,) int32: when each was finished."""
    now: jax.Array


def never(problem: Problem) -> Times:
    """Before anything has happened."""
    none = jnp.zeros(problem.nodes, jnp.int32)
    return Times(none, none, jnp.int32(0))


def tick(problem: Problem, times: Times, walk: Walk, move: Move) -> Times:
    """After a move of a walk that is now as given."""
    now = times.now + (move.discovered | move.finished)
    here = problem.index == walk.at
    return Times(
        found=jnp.where(move.discovered & here, now, times.found),
        left=jnp.where(move.finished & here, now, times.left),
        now=now,
    )


def show_times(problem: Problem, times: Times) -> dict[str, jax.Array]:
    """The hints `d`, `f` and `time`."""
    return {
        "d": clock(problem, times.found),
        "f": clock(problem, times.left),
        "time": clock(problem, times.now),
    }


def clock(problem: Problem, ticks: jax.Array) -> jax.Array:
    """What a clock shows."""
    return ticks.astype(problem.dtype) * jnp.asarray(TICK, problem.dtype)
