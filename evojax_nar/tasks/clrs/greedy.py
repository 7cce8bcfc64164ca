"""Greedy choices: which activities to attend, and which tasks to do before their deadlines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import inputs
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.lists import CONSTANT, predecessors
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, at, one_hot, read
from evojax_nar.tasks.clrs.probes import POS, PREDECESSOR, Specification, graph, node
from evojax_nar.tasks.clrs.ranking import by_rank, ranks
from evojax_nar.types import Key

SELECTED = node("selected", "mask")


class _Choice(NamedTuple):
    order: jax.Array
    """The nodes in the order in which they are looked at: constant."""
    selected: jax.Array
    at: jax.Array
    """The number of nodes that were looked at."""
    last: jax.Array
    """The last activity that was selected; the number of tasks that were."""


def _start(problem: Problem, urgency: jax.Array) -> _Choice:
    order = by_rank(ranks(urgency, problem.exists))
    zero = jnp.int32(0)
    return _Choice(order, jnp.zeros(problem.nodes, problem.dtype), zero, zero)


def _latest(registers: _Choice) -> jax.Array:
    """The node that was looked at last; node 0 before the first."""
    return read(registers.order, registers.at - 1)


def _select(registers: _Choice, new: jax.Array, chosen: jax.Array, last: jax.Array) -> _Choice:
    here = chosen & at(new, registers.order.shape[0])
    selected = jnp.where(here, 1, registers.selected)
    return registers._replace(selected=selected, at=registers.at + 1, last=last)


def _done(problem: Problem, registers: _Choice) -> jax.Array:
    return registers.at >= problem.size


def _outputs(problem: Problem, registers: _Choice) -> Probes:
    del problem
    return {"selected": registers.selected}


# Activity selection. A frame is an activity at hand, the one that ends first at first.


def _attend(problem: Problem, registers: _Choice) -> _Choice:
    new = read(registers.order, registers.at)
    free = read(problem.inputs["s"], new) >= read(problem.inputs["f"], registers.last)
    free |= registers.at == 0
    return _select(registers, new, free, jnp.where(free, new, registers.last))


@final
@dataclass(frozen=True)
class ActivitySelector(ClrsTask):
    """Select as many activities as can be attended one after the other."""

    name: ClassVar[str] = "clrs/activity_selector"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, node("s", "scalar"), node("f", "scalar")),
        outputs=(SELECTED,),
        hints=(
            PREDECESSOR,
            node("selected_h", "mask"),
            node("m", "mask_one"),
            node("k", "mask_one"),
        ),
    )
    constants: ClassVar[tuple[str, ...]] = CONSTANT
    machine: ClassVar[Machine] = Machine(
        frames=lambda nodes: nodes + 1,
        start=lambda problem: _start(problem, problem.inputs["f"]),
        step=_attend,
        done=_done,
        hints=lambda problem, registers: {
            "pred_h": predecessors(problem),
            "selected_h": registers.selected,
            "m": one_hot(_latest(registers), problem),
            "k": one_hot(registers.last, problem),
        },
        outputs=_outputs,
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Starts and finishes uniform in [0, 1), the earlier one of two the start."""
        at_key, one_key, two_key = jax.random.split(key, 3)
        one = inputs.uniform(one_key, size, nodes)
        two = inputs.uniform(two_key, size, nodes)
        pos = inputs.positions(at_key, size, nodes, varied=self.varied)
        return {"pos": pos, "s": jnp.minimum(one, two), "f": jnp.maximum(one, two)}

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Starts and finishes uniform in [0, 1), the earlier one of two the start."""
        one = inputs.replay_uniform(random, size)
        two = inputs.replay_uniform(random, size)
        pos = inputs.replay_positions(size)
        return {"pos": pos, "s": np.minimum(one, two), "f": np.maximum(one, two)}


# Task scheduling. A frame is a task at hand, the heaviest one at first.


def _schedule(problem: Problem, registers: _Choice) -> _Choice:
    new = read(registers.order, registers.at)
    early = registers.last.astype(problem.dtype) < read(problem.inputs["d"], new)
    early |= registers.at == 0
    return _select(registers, new, early, registers.last + early)


@final
@dataclass(frozen=True)
class TaskScheduling(ClrsTask):
    """Select tasks of unit length to be done before their deadlines, heavy ones first."""

    name: ClassVar[str] = "clrs/task_scheduling"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, node("d", "scalar"), node("w", "scalar")),
        outputs=(SELECTED,),
        hints=(
            PREDECESSOR,
            node("selected_h", "mask"),
            node("i", "mask_one"),
            graph("t", "scalar"),
        ),
    )
    constants: ClassVar[tuple[str, ...]] = CONSTANT
    machine: ClassVar[Machine] = Machine(
        frames=lambda nodes: nodes + 1,
        start=lambda problem: _start(problem, -problem.inputs["w"]),
        step=_schedule,
        done=_done,
        hints=lambda problem, registers: {
            "pred_h": predecessors(problem),
            "selected_h": registers.selected,
            "i": one_hot(_latest(registers), problem),
            "t": registers.last.astype(problem.dtype),
        },
        outputs=_outputs,
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Whole deadlines uniform from 1 to n, weights uniform in [0, 1)."""
        at_key, deadline_key, weight_key = jax.random.split(key, 3)
        deadlines = jax.random.randint(deadline_key, (nodes,), 1, size + 1, jnp.int32)
        return {
            "pos": inputs.positions(at_key, size, nodes, varied=self.varied),
            "d": jnp.where(jnp.arange(nodes) < size, deadlines, 0).astype(jnp.float32),
            "w": inputs.uniform(weight_key, size, nodes),
        }

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Whole deadlines uniform from 1 to n, weights uniform in [0, 1)."""
        deadlines = random.randint(0, high=size, size=(size,)) + 1
        weights = inputs.replay_uniform(random, size)
        return {"pos": inputs.replay_positions(size), "d": deadlines, "w": weights}
