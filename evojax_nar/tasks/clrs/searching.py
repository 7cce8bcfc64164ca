"""Searching: the smallest key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import inputs
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, one_hot, read
from evojax_nar.tasks.clrs.probes import KEY, POS, PREDECESSOR, Specification, node
from evojax_nar.types import Key


def predecessors(problem: Problem) -> jax.Array:
    """The node before each, the first one before itself, (V,) int32; 0 past the size."""
    return jnp.where(problem.exists, jnp.maximum(problem.index - 1, 0), 0)


class _Scan(NamedTuple):
    best: jax.Array
    at: jax.Array


def _start(problem: Problem) -> _Scan:
    return _Scan(jnp.int32(0), jnp.int32(0))


def _step(problem: Problem, registers: _Scan) -> _Scan:
    keys, at = problem.inputs["key"], registers.at + 1
    better = read(keys, registers.best) > read(keys, at)
    return _Scan(jnp.where(better, at, registers.best), at)


def _done(problem: Problem, registers: _Scan) -> jax.Array:
    return registers.at >= problem.size - 1


def _hints(problem: Problem, registers: _Scan) -> Probes:
    return {
        "pred_h": predecessors(problem),
        "min_h": one_hot(registers.best, problem),
        "i": one_hot(registers.at, problem),
    }


def _outputs(problem: Problem, registers: _Scan) -> Probes:
    return {"min": one_hot(registers.best, problem)}


@final
@dataclass(frozen=True)
class Minimum(ClrsTask):
    """Find the smallest of a list of keys."""

    name: ClassVar[str] = "clrs/minimum"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, KEY),
        outputs=(node("min", "mask_one"),),
        hints=(PREDECESSOR, node("min_h", "mask_one"), node("i", "mask_one")),
    )
    constants: ClassVar[tuple[str, ...]] = ("pred_h",)
    machine: ClassVar[Machine] = Machine(
        frames=lambda nodes: nodes,
        start=_start,
        step=_step,
        done=_done,
        hints=_hints,
        outputs=_outputs,
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Keys uniform in [0, 1)."""
        at_key, key_key = jax.random.split(key)
        return {
            "pos": inputs.positions(at_key, size, nodes, varied=self.varied),
            "key": inputs.uniform(key_key, size, nodes),
        }

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Keys uniform in [0, 1)."""
        return {"pos": inputs.replay_positions(size), "key": inputs.replay_uniform(random, size)}
