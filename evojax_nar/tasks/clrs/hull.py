"""The convex hull: Graham's scan and Jarvis' march."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import inputs
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.lists import (
    CONSTANT,
    categorical,
    first_where,
    predecessors,
)
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, at, one_hot, read, write
from evojax_nar.tasks.clrs.probes import PREDECESSOR, Specification, graph, node
from evojax_nar.tasks.clrs.ranking import by_rank, ranks
from evojax_nar.tasks.clrs.segments import POINTS
from evojax_nar.types import Key

RADIUS = 2.0
IN_LINE = 1e-12
"""Three points whose triangle is as small as half of this are drawn again in published splits."""
HULL = node("in_hull", "mask")


@dataclass(frozen=True)
class _Hull(ClrsTask):
    """The base of the tasks of hulls: points in a disc."""

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Points uniform in a disc of radius 2. That three are in line is not looked for."""
        at_key, angle_key, radius_key = jax.random.split(key, 3)
        angle = inputs.uniform(angle_key, size, nodes, 0.0, 2 * np.pi)
        radius = RADIUS * jnp.sqrt(inputs.uniform(radius_key, size, nodes))
        pos = inputs.positions(at_key, size, nodes, varied=self.varied)
        return {"pos": pos, "x": radius * jnp.cos(angle), "y": radius * jnp.sin(angle)}

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Points uniform in a disc of radius 2, until no three are in line."""
        while True:
            angle = inputs.replay_uniform(random, size, 0.0, 2 * np.pi)
            radius = RADIUS * np.sqrt(inputs.replay_uniform(random, size))
            x, y = radius * np.cos(angle), radius * np.sin(angle)
            if not _in_line(x, y):
                return {"pos": inputs.replay_positions(size), "x": x, "y": y}


def _in_line(x: np.ndarray, y: np.ndarray) -> bool:
    triples = np.array(list(itertools.combinations(range(len(x)), 3)), int).reshape(-1, 3)
    (x1, x2, x3), (y1, y2, y3) = x[triples.T], y[triples.T]
    area = (x2 - x1) * (y3 - y1) - (y2 - y1) * (x3 - x1)
    return bool((np.abs(area) < IN_LINE).any())


def _lowest(problem: Problem) -> jax.Array:
    """The lowest node, of several the leftmost, of several the first."""
    x, y = problem.inputs["x"], problem.inputs["y"]
    lowest = problem.exists & (y == jnp.where(problem.exists, y, jnp.inf).min())
    return first_where(lowest & (x == jnp.where(lowest, x, jnp.inf).min()))


def _turns_right(problem: Problem, one: jax.Array, two: jax.Array, three: jax.Array) -> jax.Array:
    """Whether the way from one to two to three turns right, or goes on straight."""
    x, y = problem.inputs["x"], problem.inputs["y"]
    x1, y1 = read(x, one), read(y, one)
    along = (read(x, two) - x1) * (read(y, three) - y1)
    return along - (read(y, two) - y1) * (read(x, three) - x1) <= 0


# Graham's scan. Frames show the start, the lowest point, and the angles from that; then each is a
# point that leaves the stack, or one that is put on it.
_FOUND, _ANGLES, _POP, _PUSH = 1, 2, 3, 4


class _Graham(NamedTuple):
    best: jax.Array
    """The lowest point: constant."""
    angles: jax.Array
    """(V,), from that to each: constant."""
    order: jax.Array
    """The nodes by angle, the lowest first: constant."""
    below: jax.Array
    """What is below each node on the stack; itself for what is not on it, or at its bottom."""
    in_hull: jax.Array
    last: jax.Array
    """The top of the stack."""
    i: jax.Array
    """The place in the order of the point that is next."""
    phase: jax.Array


def _graham_start(problem: Problem) -> _Graham:
    x, y, best = problem.inputs["x"], problem.inputs["y"], _lowest(problem)
    is_best = at(best, problem.nodes)
    angles = jnp.arctan2(y - read(y, best), x - read(x, best))
    # No angle is negative: the lowest point comes first.
    order = by_rank(ranks(jnp.where(is_best, -1, angles), problem.exists))
    return _Graham(
        best=best,
        angles=jnp.where(is_best | ~problem.exists, 0, angles),
        order=order,
        below=problem.index,
        in_hull=jnp.zeros(problem.nodes, problem.dtype),
        last=jnp.int32(0),
        i=jnp.int32(1),
        phase=jnp.int32(0),
    )


def _graham_step(problem: Problem, registers: _Graham) -> _Graham:
    best, _, order, below, in_hull, last, i, phase = registers
    # After a push the next point is at hand; after a pop it is the same.
    i = i + (phase == _PUSH)
    scans, new, under = phase >= _ANGLES, read(order, i), read(below, last)
    # Of points in line all might leave, but for the lowest one.
    pops = scans & (i >= 3) & (last != best) & _turns_right(problem, under, last, new)
    pushes = scans & ~pops
    finds = phase == 0
    below = write(below, jnp.where(pops, last, -1), last)
    below = write(below, jnp.where(pushes, new, -1), last)
    in_hull = write(in_hull, jnp.where(pops, last, -1), 0)
    in_hull = write(in_hull, jnp.where(pushes, new, jnp.where(finds, best, -1)), 1)
    last = jnp.where(pops, under, jnp.where(pushes, new, best))
    phase = jnp.where(pops, _POP, jnp.where(pushes, _PUSH, phase + 1))
    return registers._replace(below=below, in_hull=in_hull, last=last, i=i, phase=phase)


def _graham_done(problem: Problem, registers: _Graham) -> jax.Array:
    all_pushed = (registers.phase == _PUSH) & (registers.i >= problem.size - 1)
    return all_pushed | ((registers.phase == _ANGLES) & (problem.size == 1))


def _graham_hints(problem: Problem, registers: _Graham) -> Probes:
    best, angles, order, below, in_hull, last, i, phase = registers
    found = phase >= _FOUND
    shown = jnp.where(phase > _ANGLES, read(order, i), best)
    return {
        "best": one_hot(jnp.where(found, best, 0), problem),
        "atans": jnp.where(phase >= _ANGLES, angles, 0),
        "in_hull_h": in_hull,
        "stack_prev": jnp.where(problem.exists, below, 0),
        "last_stack": one_hot(last, problem),
        "i": one_hot(jnp.where(found, shown, 0), problem),
        "phase": categorical(phase, 5, problem),
    }


@final
@dataclass(frozen=True)
class GrahamScan(_Hull):
    """Find the convex hull of points by going around the lowest one."""

    name: ClassVar[str] = "clrs/graham_scan"
    specification: ClassVar[Specification] = Specification(
        inputs=POINTS,
        outputs=(HULL,),
        hints=(
            node("best", "mask_one"),
            node("atans", "scalar"),
            node("in_hull_h", "mask"),
            node("stack_prev", "pointer"),
            node("last_stack", "mask_one"),
            node("i", "mask_one"),
            graph("phase", "categorical", 5),
        ),
    )
    machine: ClassVar[Machine] = Machine(
        # All points but the lowest are pushed, and all of those but the last may be popped.
        frames=lambda nodes: max(2 * nodes, 3),
        start=_graham_start,
        step=_graham_step,
        done=_graham_done,
        hints=_graham_hints,
        outputs=lambda problem, registers: {"in_hull": registers.in_hull},
    )


# Jarvis' march. Frames show the start and the lowest point; then each is a point that is compared
# with the best end of a side of the hull, or a new side.


class _Jarvis(NamedTuple):
    best: jax.Array
    """The lowest point: constant."""
    in_hull: jax.Array
    last: jax.Array
    """Where the side starts."""
    end: jax.Array
    """Where it ends, as far as is known."""
    i: jax.Array
    """The points that were compared; -1 before the lowest one is found."""


def _jarvis_start(problem: Problem) -> _Jarvis:
    zero = jnp.int32(0)
    in_hull = jnp.zeros(problem.nodes, problem.dtype)
    return _Jarvis(_lowest(problem), in_hull, zero, zero, jnp.int32(-1))


def _jarvis_step(problem: Problem, registers: _Jarvis) -> _Jarvis:
    best, in_hull, last, end, i = registers
    finds, turns = i < 0, i >= problem.size
    outside = (i != last) & (i != end) & _turns_right(problem, last, end, i)
    compares = ~finds & ~turns
    new = jnp.where(finds, best, jnp.where(turns, end, -1))
    return _Jarvis(
        best=best,
        in_hull=write(in_hull, new, 1),
        last=jnp.where(compares, last, new),
        end=jnp.where(compares, jnp.where((end == last) | outside, i, end), 0),
        i=jnp.where(compares, i + 1, 0),
    )


def _jarvis_done(problem: Problem, registers: _Jarvis) -> jax.Array:
    return (registers.i >= problem.size) & (read(registers.in_hull, registers.end) > 0)


def _jarvis_hints(problem: Problem, registers: _Jarvis) -> Probes:
    best, in_hull, last, end, i = registers
    found = i >= 0
    return {
        "pred_h": predecessors(problem),
        "in_hull_h": in_hull,
        "best": one_hot(jnp.where(found, best, 0), problem),
        "last_point": one_hot(last, problem),
        "endpoint": one_hot(end, problem),
        "i": one_hot(jnp.maximum(i - 1, 0), problem),
        "phase": categorical(found.astype(jnp.int32), 2, problem),
    }


@final
@dataclass(frozen=True)
class JarvisMarch(_Hull):
    """Find the convex hull of points side by side."""

    name: ClassVar[str] = "clrs/jarvis_march"
    specification: ClassVar[Specification] = Specification(
        inputs=POINTS,
        outputs=(HULL,),
        hints=(
            PREDECESSOR,
            node("in_hull_h", "mask"),
            *(node(name, "mask_one") for name in ("best", "last_point", "endpoint", "i")),
            graph("phase", "categorical", 2),
        ),
    )
    constants: ClassVar[tuple[str, ...]] = CONSTANT
    machine: ClassVar[Machine] = Machine(
        # The start and the lowest point; n + 1 a side, as every side but the last, which has one
        # frame less, ends at a point that was not in the hull.
        frames=lambda nodes: nodes * (nodes + 1) + 1,
        start=_jarvis_start,
        step=_jarvis_step,
        done=_jarvis_done,
        hints=_jarvis_hints,
        outputs=lambda problem, registers: {"in_hull": registers.in_hull},
    )
