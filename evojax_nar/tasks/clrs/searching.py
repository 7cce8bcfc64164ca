"""Searching: the smallest key, and a key in a sorted list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import inputs
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.lists import CONSTANT, Keys, predecessors
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, one_hot, read
from evojax_nar.tasks.clrs.probes import KEY, POS, PREDECESSOR, Specification, graph, node
from evojax_nar.types import Key

# Minimum. A frame is a key at hand.


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
class Minimum(Keys):
    """Find the smallest of a list of keys."""

    name: ClassVar[str] = "clrs/minimum"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, KEY),
        outputs=(node("min", "mask_one"),),
        hints=(PREDECESSOR, node("min_h", "mask_one"), node("i", "mask_one")),
    )
    constants: ClassVar[tuple[str, ...]] = CONSTANT
    machine: ClassVar[Machine] = Machine(
        frames=lambda nodes: nodes,
        start=_start,
        step=_step,
        done=_done,
        hints=_hints,
        outputs=_outputs,
    )


# Binary search. A frame is a range in which the target may be.


class _Range(NamedTuple):
    low: jax.Array
    high: jax.Array


def _narrow(problem: Problem, registers: _Range) -> _Range:
    low, high = registers
    middle = (low + high) // 2
    left = problem.inputs["target"] <= read(problem.inputs["key"], middle)
    return _Range(jnp.where(left, low, middle + 1), jnp.where(left, middle, high))


def _range_hints(problem: Problem, registers: _Range) -> Probes:
    low, high = registers
    return {
        "pred_h": predecessors(problem),
        "low": one_hot(low, problem),
        "high": one_hot(high, problem),
        "mid": one_hot((low + high) // 2, problem),
    }


@final
@dataclass(frozen=True)
class BinarySearch(ClrsTask):
    """Find the first key of a sorted list that is not below a target, or the last of all."""

    name: ClassVar[str] = "clrs/binary_search"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, KEY, graph("target", "scalar")),
        outputs=(node("return", "mask_one"),),
        hints=(PREDECESSOR, *(node(name, "mask_one") for name in ("low", "high", "mid"))),
    )
    constants: ClassVar[tuple[str, ...]] = CONSTANT
    machine: ClassVar[Machine] = Machine(
        # Of m keys at most half remain, rounded up.
        frames=lambda nodes: 1 + (nodes - 1).bit_length(),
        start=lambda problem: _Range(jnp.int32(0), problem.size - 1),
        step=_narrow,
        done=lambda problem, registers: registers.low >= registers.high,
        hints=_range_hints,
        outputs=lambda problem, registers: {"return": one_hot(registers.high, problem)},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Keys uniform in [0, 1), sorted, and a target like them."""
        at_key, key_key, target_key = jax.random.split(key, 3)
        return {
            "pos": inputs.positions(at_key, size, nodes, varied=self.varied),
            "key": inputs.positions(key_key, size, nodes, varied=True),
            "target": jax.random.uniform(target_key),
        }

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Keys uniform in [0, 1), sorted, and a target like them."""
        return {
            "pos": inputs.replay_positions(size),
            "key": np.sort(inputs.replay_uniform(random, size)),
            "target": np.asarray(random.uniform()),
        }
