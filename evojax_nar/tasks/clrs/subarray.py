"""The maximum subarray in one pass: Kadane's scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.lists import CONSTANT, Keys, predecessors
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, one_hot, read
from evojax_nar.tasks.clrs.probes import KEY, POS, PREDECESSOR, Specification, graph, node

ENDS = (node("start", "mask_one"), node("end", "mask_one"))
"""The answer: the first and the last node of the subarray with the largest sum."""

# Kadane's scan. A frame is a key at hand.


class _Scan(NamedTuple):
    best_low: jax.Array
    best_high: jax.Array
    best_sum: jax.Array
    i: jax.Array
    """Where the best subarray that ends at j starts."""
    j: jax.Array
    sum: jax.Array


def _scan_start(problem: Problem) -> _Scan:
    zero, first = jnp.int32(0), problem.inputs["key"][0]
    return _Scan(zero, zero, first, zero, zero, first)


def _scan_step(problem: Problem, registers: _Scan) -> _Scan:
    low, high, best, i, j, total = registers
    j = j + 1
    own = read(problem.inputs["key"], j)
    longer = total + own >= own
    i, total = jnp.where(longer, i, j), jnp.where(longer, total + own, own)
    better = total > best
    low, high = jnp.where(better, i, low), jnp.where(better, j, high)
    return _Scan(low, high, jnp.where(better, total, best), i, j, total)


def _scan_hints(problem: Problem, registers: _Scan) -> Probes:
    nodes = ("best_low", "best_high", "i", "j")
    return {
        "pred_h": predecessors(problem),
        **{name: one_hot(getattr(registers, name), problem) for name in nodes},
        "best_sum": registers.best_sum,
        "sum": registers.sum,
    }


def _scan_outputs(problem: Problem, registers: _Scan) -> Probes:
    start, end = registers.best_low, registers.best_high
    return {"start": one_hot(start, problem), "end": one_hot(end, problem)}


@final
@dataclass(frozen=True)
class FindMaximumSubarrayKadane(Keys):
    """Find the subarray with the largest sum in one pass."""

    name: ClassVar[str] = "clrs/find_maximum_subarray_kadane"
    low: ClassVar[float] = -1.0
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, KEY),
        outputs=ENDS,
        hints=(
            PREDECESSOR,
            node("best_low", "mask_one"),
            node("best_high", "mask_one"),
            graph("best_sum", "scalar"),
            node("i", "mask_one"),
            node("j", "mask_one"),
            graph("sum", "scalar"),
        ),
    )
    constants: ClassVar[tuple[str, ...]] = CONSTANT
    machine: ClassVar[Machine] = Machine(
        frames=lambda nodes: nodes,
        start=_scan_start,
        step=_scan_step,
        done=lambda problem, registers: registers.j >= problem.size - 1,
        hints=_scan_hints,
        outputs=_scan_outputs,
    )
