"""The maximum subarray by dividing the list in halves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeVar, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.lists import CONSTANT, Keys, categorical, predecessors
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, one_hot, read, write
from evojax_nar.tasks.clrs.probes import KEY, POS, PREDECESSOR, Specification, graph, node
from evojax_nar.tasks.clrs.subarray import ENDS
from evojax_nar.types import Field

_T = TypeVar("_T")

# What a frame is: a range is taken up; its left half is solved, its right half is; the subarrays
# across its middle are taken up, one more key to the left of it, the middle again, one more key to
# the right; the range is solved.
_TAKE, _LEFT, _RIGHT, _ACROSS, _LEFTWARDS, _MIDDLE, _RIGHTWARDS, _SOLVED = range(8)
_MARGIN = 0.1
"""By this much the sum of a single key at the middle is lowered before it is known."""


class _Best(NamedTuple):
    """A subarray and its sum."""

    low: jax.Array
    high: jax.Array
    sum: jax.Array


class _Range(NamedTuple):
    """A range that is being solved."""

    low: jax.Array
    high: jax.Array
    left: _Best
    """Of its left half."""


class _Halving(NamedTuple):
    stack: _Range
    """Of arrays (D,): the ranges around this one, the whole list first."""
    depth: jax.Array
    range: _Range
    right: _Best
    """Of the right half."""
    cross_low: jax.Array
    cross_high: jax.Array
    left_sum: jax.Array
    right_sum: jax.Array
    """The best subarray across the middle so far, and its sum on either side."""
    cursor: jax.Array
    """The key that was added last."""
    sum: jax.Array
    kind: jax.Array


def _middle(low: jax.Array, high: jax.Array) -> jax.Array:
    return (low + high) // 2


def _take(problem: Problem, low: jax.Array, high: jax.Array) -> tuple[_Range, _Best]:
    """A range of which nothing is known, and its right half."""
    middle, none = _middle(low, high), jnp.zeros((), problem.dtype)
    right = jnp.where(low == high, low, middle + 1)
    return _Range(low, high, _Best(low, middle, none)), _Best(right, high, none)


def _start(problem: Problem) -> _Halving:
    zero, none = jnp.int32(0), jnp.zeros((), problem.dtype)
    depth = max((problem.nodes - 1).bit_length(), 1)
    own, right = _take(problem, zero, problem.size - 1)
    places, sums = jnp.zeros(depth, jnp.int32), jnp.zeros(depth, problem.dtype)
    stack = _Range(places, places, _Best(places, places, sums))
    blank = _Halving(stack, zero, own, right, zero, zero, none, none, zero, none, zero + _TAKE)
    return _at_middle(problem, blank)


def _at_middle(problem: Problem, registers: _Halving) -> _Halving:
    """With nothing known of the subarrays across the middle."""
    keys, (low, high, _) = problem.inputs["key"], registers.range
    middle = _middle(low, high)
    right = jnp.where(low == high, low, middle + 1)
    return registers._replace(
        cross_low=middle,
        cross_high=right,
        left_sum=read(keys, middle) - _MARGIN,
        right_sum=read(keys, right) - _MARGIN,
        sum=jnp.zeros((), problem.dtype),
    )


def _result(problem: Problem, registers: _Halving) -> _Best:
    """The best subarray of the range, once that is solved."""
    (low, high, left), right = registers.range, registers.right
    cross = registers.left_sum + registers.right_sum
    is_left = (left.sum >= right.sum) & (left.sum >= cross)
    is_right = ~is_left & (right.sum >= left.sum) & (right.sum >= cross)
    across = _Best(registers.cross_low, registers.cross_high, cross)
    best = jax.tree.map(
        lambda one, two, three: jnp.where(is_left, one, jnp.where(is_right, two, three)),
        left,
        right,
        across,
    )
    alone = _Best(low, high, read(problem.inputs["key"], low))
    return jax.tree.map(lambda one, two: jnp.where(low == high, one, two), alone, best)


def _step(problem: Problem, registers: _Halving) -> _Halving:
    own, kind = registers.range, registers.kind
    low, high, _ = own
    middle, single = _middle(low, high), low == high
    solved = (kind == _SOLVED) | ((kind == _TAKE) & single)
    halve = ((kind == _TAKE) & ~single) | (kind == _LEFT)

    # To a half, or back to the range around this one.
    depth = registers.depth + halve - solved
    stack = jax.tree.map(
        lambda all_, one: write(all_, jnp.where(halve, registers.depth, -1), one),
        registers.stack,
        own,
    )
    half, half_right = _take(
        problem, jnp.where(kind == _LEFT, middle + 1, low), jnp.where(kind == _LEFT, high, middle)
    )
    around = jax.tree.map(lambda all_: read(all_, depth), registers.stack)
    result, was_left = _result(problem, registers), low == around.low
    _, unsolved = _take(problem, around.low, around.high)
    back = around._replace(left=_pick(was_left, result, around.left))
    moved = _at_middle(
        problem,
        registers._replace(
            stack=stack,
            depth=depth,
            range=_pick(halve, half, back),
            right=_pick(halve, half_right, _pick(was_left, unsolved, result)),
            kind=jnp.where(halve, _TAKE, jnp.where(was_left, _LEFT, _RIGHT)),
        ),
    )
    return _pick(halve | solved, moved, _across(problem, registers))


def _across(problem: Problem, registers: _Halving) -> _Halving:
    """The steps that stay with a range."""
    (low, high, _), kind = registers.range, registers.kind
    middle = _middle(low, high)
    leftwards = (kind == _ACROSS) | ((kind == _LEFTWARDS) & (registers.cursor > low))
    rightwards = (kind == _MIDDLE) | ((kind == _RIGHTWARDS) & (registers.cursor < high))
    starts = (kind == _ACROSS) | (kind == _MIDDLE)
    cursor = jnp.where(
        kind == _ACROSS,
        middle,
        jnp.where(kind == _MIDDLE, middle + 1, registers.cursor + jnp.where(leftwards, -1, 1)),
    )
    total = jnp.where(starts, 0, registers.sum) + read(problem.inputs["key"], cursor)
    more_left = leftwards & (total > registers.left_sum)
    more_right = rightwards & (total > registers.right_sum)
    return registers._replace(
        cross_low=jnp.where(more_left, cursor, registers.cross_low),
        cross_high=jnp.where(more_right, cursor, registers.cross_high),
        left_sum=jnp.where(more_left, total, registers.left_sum),
        right_sum=jnp.where(more_right, total, registers.right_sum),
        cursor=cursor,
        sum=jnp.where(
            leftwards | rightwards, total, jnp.where(kind == _LEFTWARDS, 0, registers.sum)
        ),
        kind=jnp.where(leftwards, _LEFTWARDS, jnp.where(rightwards, _RIGHTWARDS, kind + 1)),
    )


def _pick(condition: jax.Array, yes: _T, no: _T) -> _T:
    return jax.tree.map(lambda one, two: jnp.where(condition, one, two), yes, no)


def _done(problem: Problem, registers: _Halving) -> jax.Array:
    del problem
    low, high, _ = registers.range
    across = (registers.kind == _RIGHTWARDS) & (registers.cursor == high)
    return (registers.depth == 0) & (across | (low == high))


def _hints(problem: Problem, registers: _Halving) -> Probes:
    (low, high, left), right, kind = registers.range, registers.right, registers.kind
    middle, single = _middle(low, high), low == high
    solved, passed = kind == _SOLVED, (kind == _MIDDLE) | (kind == _RIGHTWARDS)
    best, none = _result(problem, registers), jnp.zeros((), problem.dtype)
    found = _pick(solved | single, best, _Best(low, high, none))
    to_right = kind == _RIGHTWARDS
    i = jnp.where(kind == _LEFTWARDS, registers.cursor, jnp.where(solved | passed, low, middle))
    beyond = jnp.where(solved | single, high, middle + 1)
    nodes = {
        "low": low,
        "high": high,
        "mid": middle,
        "left_low": left.low,
        "left_high": left.high,
        "right_low": right.low,
        "right_high": right.high,
        "cross_low": registers.cross_low,
        "cross_high": registers.cross_high,
        "ret_low": found.low,
        "ret_high": found.high,
        "i": i,
        "j": jnp.where(to_right, registers.cursor, beyond),
    }
    phase = jnp.where(solved | (kind < _ACROSS), 0, jnp.where(passed, 2, 1))
    return {
        "pred_h": predecessors(problem),
        **{name: one_hot(place, problem) for name, place in nodes.items()},
        # Past the middle the sums of the halves are those across it.
        "left_sum": jnp.where(passed, registers.left_sum, left.sum),
        "right_sum": jnp.where(passed, registers.right_sum, right.sum),
        "cross_sum": jnp.where(single, none, registers.left_sum + registers.right_sum),
        "ret_sum": found.sum,
        "sum": registers.sum,
        "left_x_sum": registers.left_sum,
        "right_x_sum": registers.right_sum,
        "phase": categorical(phase, 3, problem),
    }


def _outputs(problem: Problem, registers: _Halving) -> Probes:
    best = _result(problem, registers)
    return {"start": one_hot(best.low, problem), "end": one_hot(best.high, problem)}


def _frames(nodes: int) -> int:
    """All lists of one size take as many: the whole list is not shown as solved."""

    def within(size: int) -> int:
        # One a key across the middle and six more; a single key takes one in all.
        return 1 if size == 1 else size + 6 + within(size - size // 2) + within(size // 2)

    return max(within(nodes) - 1, 1)


def _triple(name: str) -> tuple[Field, ...]:
    return (
        node(f"{name}_low", "mask_one"),
        node(f"{name}_high", "mask_one"),
        graph(f"{name}_sum", "scalar"),
    )


@final
@dataclass(frozen=True)
class FindMaximumSubarray(Keys):
    """Find the subarray with the largest sum from those of the halves and across the middle.

    Not one of the thirty, which have Kadane's scan in its place.
    """

    name: ClassVar[str] = "clrs/find_maximum_subarray"
    low: ClassVar[float] = -1.0
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, KEY),
        outputs=ENDS,
        hints=(
            PREDECESSOR,
            *(node(name, "mask_one") for name in ("low", "high", "mid")),
            *_triple("left"),
            *_triple("right"),
            *_triple("cross"),
            *_triple("ret"),
            node("i", "mask_one"),
            node("j", "mask_one"),
            *(graph(name, "scalar") for name in ("sum", "left_x_sum", "right_x_sum")),
            graph("phase", "categorical", 3),
        ),
    )
    constants: ClassVar[tuple[str, ...]] = CONSTANT
    machine: ClassVar[Machine] = Machine(
        frames=_frames,
        start=_start,
        step=_step,
        done=_done,
        hints=_hints,
        outputs=_outputs,
    )
