"""Dynamic programming over intervals: the order of a matrix chain, and the best search tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import inputs
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.lists import CONSTANT, predecessors
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem
from evojax_nar.tasks.clrs.probes import POS, PREDECESSOR, Specification, edge, node
from evojax_nar.types import Key

# Matrix chain. A frame updates all intervals at once from the frame before, until none changes.


class _Chain(NamedTuple):
    m: jax.Array
    """(V, V), the least cost found of the product of the matrices i to j."""
    s: jax.Array
    """(V, V) int32, where that is split."""
    reach: jax.Array
    """The length of the longest intervals that have a cost: it doubles, as halves must have one."""


def _chain_start(problem: Problem) -> _Chain:
    square = (problem.nodes, problem.nodes)
    return _Chain(jnp.zeros(square, problem.dtype), jnp.zeros(square, jnp.int32), jnp.int32(1))


def _known(problem: Problem, reach: jax.Array) -> jax.Array:
    """(V, V) bool: the intervals from i to j of 1 to `reach` matrices. There is no matrix 0."""
    first, last = problem.index[:, None], problem.index
    inside = (first >= 1) & (first <= last) & (last < problem.size)
    return inside & (last - first < reach)


def _chain_update(problem: Problem, registers: _Chain) -> _Chain:
    m, s, reach = registers
    p, known = problem.inputs["p"], _known(problem, reach)
    costs = jnp.where(known, m, jnp.inf)
    before, behind = _preceding(p)[:, None], _following(costs)

    def split(k: jax.Array, least: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        sides = before * p[k] * p
        cost = costs[:, k][:, None] + behind[k] + sides
        better = cost < least[0]
        return jnp.where(better, cost, least[0]), jnp.where(better, k, least[1])

    # What is known already is only changed by what is less. No interval is split after its last
    # matrix. Unrolled, as splits are quick; in part, so that programs stay short.
    least, where = jax.lax.fori_loop(1, problem.nodes - 1, split, (costs, s), unroll=8)
    found = jnp.isfinite(least)
    reach = jnp.minimum(2 * reach, problem.nodes)
    return _Chain(jnp.where(found, least, m), where, reach)


def _following(rows: jax.Array) -> jax.Array:
    """Row k + 1 at row k, and nothing at the last."""
    return jnp.concatenate([rows[1:], jnp.zeros_like(rows[:1])])


def _preceding(rows: jax.Array) -> jax.Array:
    """Row k - 1 at row k, and nothing at the first."""
    return jnp.concatenate([jnp.zeros_like(rows[:1]), rows[:-1]])


def _chain_hints(problem: Problem, registers: _Chain) -> Probes:
    return {
        "pred_h": predecessors(problem),
        "m": registers.m,
        "s_h": registers.s,
        "msk": _known(problem, registers.reach).astype(problem.dtype),
    }


@final
@dataclass(frozen=True)
class MatrixChainOrder(ClrsTask):
    """Find the order in which a chain of matrices is multiplied at the least cost.

    Matrix i is p of node i - 1 by p of node i.
    """

    name: ClassVar[str] = "clrs/matrix_chain_order"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, node("p", "scalar")),
        outputs=(edge("s", "pointer"),),
        hints=(PREDECESSOR, edge("m", "scalar"), edge("s_h", "pointer"), edge("msk", "mask")),
    )
    constants: ClassVar[tuple[str, ...]] = CONSTANT
    machine: ClassVar[Machine] = Machine(
        # An interval of l matrices has its cost after l - 1 updates, as those in it before. With
        # n - 1 matrices that is n - 2, and the one that changes nothing.
        frames=lambda nodes: max(nodes - 1, 1),
        start=_chain_start,
        step=_chain_update,
        done=lambda problem, registers: (_chain_update(problem, registers).m == registers.m).all(),
        hints=_chain_hints,
        outputs=lambda problem, registers: {"s": _chain_update(problem, registers).s},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Sides uniform in [0, 1)."""
        at_key, side_key = jax.random.split(key)
        return {
            "pos": inputs.positions(at_key, size, nodes, varied=self.varied),
            "p": inputs.uniform(side_key, size, nodes),
        }

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Sides uniform in [0, 1)."""
        return {"pos": inputs.replay_positions(size), "p": inputs.replay_uniform(random, size)}


# Search tree. A frame is all intervals of one length. They are all known before the first, since
# later ones do not change them: what is shown of them is what grows.


class _Tree(NamedTuple):
    root: jax.Array
    """(V, V) int32, the root of the best tree of the keys i to j - 1: constant."""
    e: jax.Array
    """(V, V), what it costs to search in that: constant."""
    w: jax.Array
    """(V, V), how often it is searched in: constant."""
    length: jax.Array
    """Of the intervals that are shown: at most this."""


def _solve(problem: Problem) -> _Tree:
    """Intervals by length and first node, (V, V), one length after the other."""
    nodes, dtype = problem.nodes, problem.dtype
    p, q, index = problem.inputs["p"], problem.inputs["q"], problem.index
    square = jnp.zeros((nodes, nodes), dtype)
    # At [s, i] the cost of the tree of the s keys from i, and of those from there to the end of
    # the interval from i: without its root they are what there is to choose from.
    before, behind = square.at[0].set(q), square.at[0].set(_following(q))

    def lengthen(carry: Any, length: jax.Array) -> tuple[Any, Any]:
        before, behind, weight = carry
        weight = weight + _from(p, length - 1) + _from(q, length)
        choices = jnp.where(index[:, None] < length, before + behind + weight, jnp.inf)
        cost = choices.min(axis=0)
        root = jnp.where(choices == cost, index[:, None], nodes).min(axis=0)
        cost = jnp.where(index + length < problem.size, cost, 0)
        before = jax.lax.dynamic_update_index_in_dim(before, cost, length, 0)
        behind = jnp.concatenate(
            [_following(cost)[None], jnp.pad(behind, ((0, 0), (0, 1)))[:-1, 1:]]
        )
        return (before, behind, weight), (weight, root)

    carry, lengths = (before, behind, q), jnp.arange(1, nodes, dtype=jnp.int32)
    (before, _, _), (weights, roots) = jax.lax.scan(lengthen, carry, lengths)
    e = _by_ends(before)
    w = _by_ends(jnp.concatenate([q[None], weights]))
    shorter = jnp.concatenate([jnp.zeros((1, nodes), jnp.int32), roots])
    root = _by_ends(shorter + jnp.where(index[:, None] > 0, index, 0))
    return _Tree(root, e, w, jnp.int32(0))


def _from(array: jax.Array, start: jax.Array) -> jax.Array:
    """The entries from `start` on, at the front, and zeros behind them."""
    doubled = jnp.concatenate([array, jnp.zeros_like(array)])
    return jax.lax.dynamic_slice_in_dim(doubled, start, len(array))


def _by_ends(intervals: jax.Array) -> jax.Array:
    """Intervals by length and first node, as by first and last node; what is beyond is not 0."""
    nodes = len(intervals)
    rows = jnp.pad(intervals.T, ((0, 0), (0, 1))).reshape(-1)[: nodes * nodes]
    return rows.reshape(nodes, nodes)  # each row begins one later in this


def _tree_hints(problem: Problem, registers: _Tree) -> Probes:
    index = problem.index
    length = index - index[:, None]
    shown = (length >= 0) & (length <= registers.length) & problem.exists
    return {
        "pred_h": predecessors(problem),
        "root_h": jnp.where(shown & (length > 0), registers.root, 0),
        "e": jnp.where(shown, registers.e, 0),
        "w": jnp.where(shown, registers.w, 0),
        "msk": shown.astype(problem.dtype),
    }


@final
@dataclass(frozen=True)
class OptimalBst(ClrsTask):
    """Find the search tree that is quickest on average.

    There is one node more than keys: p is how often a key is searched for, q how often what lies
    before it, and at the last node behind all keys.
    """

    name: ClassVar[str] = "clrs/optimal_bst"
    specification: ClassVar[Specification] = Specification(
        inputs=(POS, node("p", "scalar"), node("q", "scalar")),
        outputs=(edge("root", "pointer"),),
        hints=(
            PREDECESSOR,
            edge("root_h", "pointer"),
            edge("e", "scalar"),
            edge("w", "scalar"),
            edge("msk", "mask"),
        ),
    )
    constants: ClassVar[tuple[str, ...]] = CONSTANT
    machine: ClassVar[Machine] = Machine(
        frames=lambda nodes: nodes,  # lengths from 0 to n - 1
        start=_solve,
        step=lambda problem, registers: registers._replace(length=registers.length + 1),
        done=lambda problem, registers: registers.length >= problem.size - 1,
        hints=_tree_hints,
        outputs=lambda problem, registers: {"root": _tree_hints(problem, registers)["root_h"]},
    )

    @classmethod
    def nodes(cls, size: int) -> int:
        """One more than keys."""
        return size + 1

    @classmethod
    def count(cls, size: jax.Array) -> jax.Array:
        """One more than keys."""
        return size + 1

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Uniform numbers divided by the sum of all p and q."""
        at_key, p_key, q_key = jax.random.split(key, 3)
        p, q = inputs.uniform(p_key, size, nodes), inputs.uniform(q_key, size + 1, nodes)
        total = p.sum() + q.sum()
        pos = inputs.positions(at_key, size + 1, nodes, varied=self.varied)
        return {"pos": pos, "p": p / total, "q": q / total}

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Uniform numbers divided by the sum of all p and q."""
        both = inputs.replay_uniform(random, 2 * size + 1)
        both /= np.sum(both)
        p = np.append(both[:size], 0.0)
        return {"pos": inputs.replay_positions(size + 1), "p": p, "q": both[size:]}
