"""Geometry of two segments: whether they intersect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import inputs
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, one_hot
from evojax_nar.tasks.clrs.probes import POS, Specification, graph, node
from evojax_nar.types import Key

NODES = 4
"""The ends of one segment, then those of the other."""
POINTS = (POS, node("x", "scalar"), node("y", "scalar"))


class _Ends(NamedTuple):
    direction: jax.Array
    """(4,), on which side of the other segment each end is: constant."""
    on: jax.Array
    """(4,) bool, whether it is within the other's rectangle: constant."""
    frame: jax.Array
    """The ends that were looked at."""


def _start(problem: Problem) -> _Ends:
    x, y = problem.inputs["x"], problem.inputs["y"]
    from_x, from_y, to_x, to_y = (_other(points, end) for end in (0, 1) for points in (x, y))
    direction = (x - from_x) * (to_y - from_y) - (to_x - from_x) * (y - from_y)
    on = (jnp.minimum(from_x, to_x) <= x) & (x <= jnp.maximum(from_x, to_x))
    on &= (jnp.minimum(from_y, to_y) <= y) & (y <= jnp.maximum(from_y, to_y))
    return _Ends(direction, on, jnp.int32(0))


def _other(points: jax.Array, end: int) -> jax.Array:
    """For each end one end of the other segment, (4,)."""
    one, two = points[end], points[2 + end]
    return jnp.stack([two, two, one, one])


def _hints(problem: Problem, registers: _Ends) -> Probes:
    frame, index = registers.frame, problem.index
    looked, second = index < frame, frame > 2
    begin = jnp.where((frame > 0) & ~second, 2, 0)
    return {
        "i": one_hot(begin, problem),
        "j": one_hot(jnp.where(frame > 0, begin + 1, 0), problem),
        "k": one_hot(jnp.maximum(frame - 1, 0), problem),
        "dir": jnp.where(looked, registers.direction, 0),
        "on_seg": (looked & registers.on).astype(problem.dtype),
    }


def _outputs(problem: Problem, registers: _Ends) -> Probes:
    sign = jnp.sign(registers.direction)
    cross = (sign[0] * sign[1] < 0) & (sign[2] * sign[3] < 0)
    touch = ((sign == 0) & registers.on).any()
    return {"intersect": (cross | touch).astype(problem.dtype)}


def _crossing(x: jax.Array, y: jax.Array) -> jax.Array:
    """Which node is joined to node 0 so that the segment crosses the other two's; 0 where none."""

    def side(one: int, two: int, three: int) -> jax.Array:
        return (y[three] - y[one]) * (x[two] - x[one]) > (y[two] - y[one]) * (x[three] - x[one])

    def cross(one: int, two: int, three: int, four: int) -> jax.Array:
        return (side(one, three, four) != side(two, three, four)) & (
            side(one, two, three) != side(one, two, four)
        )

    pairs = (cross(0, 1, 2, 3), cross(0, 2, 1, 3), cross(0, 3, 1, 2))
    return jnp.select(pairs, (jnp.int32(1), jnp.int32(2), jnp.int32(3)), jnp.int32(0))


@final
@dataclass(frozen=True)
class SegmentsIntersect(ClrsTask):
    """Tell whether two segments intersect. There are four nodes whatever the size."""

    name: ClassVar[str] = "clrs/segments_intersect"
    specification: ClassVar[Specification] = Specification(
        inputs=POINTS,
        outputs=(graph("intersect", "mask"),),
        hints=(
            *(node(name, "mask_one") for name in ("i", "j", "k")),
            node("dir", "scalar"),
            node("on_seg", "mask"),
        ),
    )
    machine: ClassVar[Machine] = Machine(
        frames=lambda nodes: NODES + 1,
        start=_start,
        step=lambda problem, registers: registers._replace(frame=registers.frame + 1),
        done=lambda problem, registers: registers.frame >= NODES,
        hints=_hints,
        outputs=_outputs,
    )

    @classmethod
    def nodes(cls, size: int) -> int:
        """Four."""
        return NODES

    @classmethod
    def count(cls, size: jax.Array) -> jax.Array:
        """Four."""
        return jnp.full_like(size, NODES)

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Ends uniform in the unit square, on condition of a coin: half of the pairs intersect.

        Of four points at most one pairing crosses. Drawn at random it is as likely one as another,
        so points that have one are paired so, where the pair is to intersect.
        """
        at_key, coin_key, point_key = jax.random.split(key, 3)
        wanted = jax.random.bernoulli(coin_key)

        def unfit(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            _, _, mate = carry
            return jnp.where(wanted, mate == 0, mate == 1)

        def again(
            carry: tuple[jax.Array, jax.Array, jax.Array],
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            key, new_key = jax.random.split(carry[0])
            points = jax.random.uniform(new_key, (2, NODES))
            return key, points, _crossing(points[0], points[1])

        first = (point_key, jnp.zeros((2, NODES)), jnp.where(wanted, 0, 1))
        _, points, mate = jax.lax.while_loop(unfit, again, first)
        mate = jnp.where(wanted, mate, 1)
        index = jnp.arange(NODES, dtype=jnp.int32)
        paired = points[:, jnp.where(index == 1, mate, jnp.where(index == mate, 1, index))]
        pos = inputs.positions(at_key, jnp.int32(NODES), NODES, varied=self.varied)
        return {"pos": pos, "x": paired[0], "y": paired[1]}

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Ends uniform in the unit square, on condition of a coin: half of the pairs intersect."""
        wanted = random.binomial(1, 0.5)
        while True:
            x = inputs.replay_uniform(random, NODES)
            y = inputs.replay_uniform(random, NODES)
            if _replay_crosses(x, y) == wanted:
                return {"pos": inputs.replay_positions(NODES), "x": x, "y": y}


def _replay_crosses(x: np.ndarray, y: np.ndarray) -> bool:
    def side(one: int, two: int, three: int) -> bool:
        return (y[three] - y[one]) * (x[two] - x[one]) > (y[two] - y[one]) * (x[three] - x[one])

    return side(0, 2, 3) != side(1, 2, 3) and side(0, 1, 2) != side(0, 1, 3)
