"""The longest common subsequence of two strings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import strings
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.lists import CONSTANT, first_where
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem
from evojax_nar.tasks.clrs.probes import PREDECESSOR, Specification, edge
from evojax_nar.types import Key

# A cell is a pair of nodes, of the first and of the second string: a row and a column. All cells
# off the first row and column are computed at once from those of the frame before, until none
# changes. Where its subsequence goes on from a cell:
_BOTH, _UP, _LEFT, _BLANK = range(4)


class _Cells(NamedTuple):
    length: jax.Array
    """First of the first string: constant."""
    equal: jax.Array
    """(V, V) bool, whether letters are: constant."""
    c: jax.Array
    """(V, V), the length of the longest common subsequence that ends in a cell."""
    b: jax.Array
    """(V, V) int8."""


def _inside(problem: Problem, length: jax.Array) -> jax.Array:
    """(V, V) bool: the cells."""
    index = problem.index
    rows, columns = index < length, (index >= length) & (index < problem.size)
    return rows[:, None] & columns


def _start(problem: Problem) -> _Cells:
    index, length = problem.index, strings.first_length(problem)
    letters, inside = strings.letters(problem), _inside(problem, length)
    equal = (letters[:, None] == letters) & inside
    top, left = index == 0, index == length
    # In the first row and column a letter that agrees once does so from there on.
    row = first_where((equal & top[:, None]).any(axis=0))
    column = first_where((equal & left).any(axis=1))
    reached = (top[:, None] & (index >= row)) | (left & (index >= column)[:, None])
    before = top[:, None] & (index > row)
    b = jnp.where(equal, _BOTH, jnp.where(before, _LEFT, _UP))
    border = inside & (top[:, None] | left)
    return _Cells(
        length,
        equal,
        (reached & inside).astype(problem.dtype),
        jnp.where(border, b, _BOTH).astype(jnp.int8),
    )


def _update(problem: Problem, registers: _Cells) -> _Cells:
    length, equal, c, b = registers
    index = problem.index
    inner = _inside(problem, length) & (index > 0)[:, None] & (index > length)
    up = jnp.pad(c, ((1, 0), (0, 0)))[:-1]
    left = jnp.pad(c, ((0, 0), (1, 0)))[:, :-1]
    both = jnp.pad(c, ((1, 0), (1, 0)))[:-1, :-1]
    longest = jnp.where(equal, both + 1, jnp.maximum(up, left))
    whence = jnp.where(equal, _BOTH, jnp.where(up >= left, _UP, _LEFT)).astype(jnp.int8)
    return _Cells(length, equal, jnp.where(inner, longest, c), jnp.where(inner, whence, b))


def _classes(problem: Problem, registers: _Cells) -> jax.Array:
    """(V, V, 4): b, one-hot; -1 as the class of pairs of nodes that are no cell."""
    inside = _inside(problem, registers.length)
    exists = problem.exists[:, None] & problem.exists
    b = jnp.where(inside, registers.b, _BLANK)[..., None] == jnp.arange(4, dtype=jnp.int8)
    sign = jnp.where(inside, 1, jnp.where(exists, -1, 0)).astype(problem.dtype)
    return b * sign[..., None]


def _done(problem: Problem, registers: _Cells) -> jax.Array:
    return (_update(problem, registers).c == registers.c).all()


def _hints(problem: Problem, registers: _Cells) -> Probes:
    return {
        "pred_h": strings.predecessors(problem, registers.length),
        "b_h": _classes(problem, registers),
        "c": registers.c,
    }


@final
@dataclass(frozen=True)
class LcsLength(ClrsTask):
    """Find how the longest common subsequence of two strings is made up, cell by cell."""

    name: ClassVar[str] = "clrs/lcs_length"
    specification: ClassVar[Specification] = Specification(
        inputs=strings.STRINGS,
        outputs=(edge("b", "categorical", 4),),
        hints=(PREDECESSOR, edge("b_h", "categorical", 4), edge("c", "scalar")),
    )
    constants: ClassVar[tuple[str, ...]] = CONSTANT
    machine: ClassVar[Machine] = Machine(
        # A cell depends on those one up, one left, or both: the last of r rows and s columns, of
        # which the first are known, is right after r + s - 3 updates. One more changes nothing.
        frames=lambda nodes: max(nodes - 2, 1),
        start=_start,
        step=_update,
        done=_done,
        hints=_hints,
        outputs=lambda problem, registers: {"b": _classes(problem, _update(problem, registers))},
    )

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """Two strings of uniform letters, the first one longer by one if n is odd."""
        two = size // 2
        letters, given = strings.draw_strings(key, size - two, two, nodes, varied=self.varied)
        return given | {"key": strings.spell(letters, jnp.arange(nodes) < size)}

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """Two strings of uniform letters, the first one longer by one if n is odd."""
        lengths = (size - size // 2, size // 2)
        one, two = (random.randint(0, high=strings.LETTERS, size=(n,)) for n in lengths)
        return strings.replay_strings(one, two)
