"""Finding a needle in a haystack: by trying all places, and by Knuth, Morris and Pratt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import strings
from evojax_nar.tasks.clrs.base import ClrsTask
from evojax_nar.tasks.clrs.lists import CONSTANT
from evojax_nar.tasks.clrs.machine import Machine, Probes, Problem, one_hot, read, write
from evojax_nar.tasks.clrs.probes import PREDECESSOR, Specification, graph, node
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Key

MATCH = node("match", "mask_one")
"""The answer: where the needle starts in the haystack; its own first node where it is not there."""


class _Text(NamedTuple):
    """What stays as it is."""

    letters: jax.Array
    haystack: jax.Array
    """Its length."""
    needle: jax.Array
    """Its length."""


def _text(problem: Problem) -> _Text:
    haystack = strings.first_length(problem)
    return _Text(strings.letters(problem), haystack, problem.size - haystack)


@dataclass(frozen=True)
class _Matcher(ClrsTask):
    """The base of string matching: of n nodes, a fifth is the needle and the rest the haystack.

    Where inputs are varied, so is how many of the nodes are the needle: 1 to two fifths. Published
    models are trained at one size.
    """

    train_sizes: Sizes = (20,)
    test_sizes: Sizes = (20, 80)
    constants: ClassVar[tuple[str, ...]] = CONSTANT

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """A random needle, written into a random haystack at a random place."""
        string_key, length_key, place_key = jax.random.split(key, 3)
        needle = jnp.maximum(size // 5, 1)
        if self.varied:
            longest = jnp.maximum(2 * size // 5, 1)
            needle = jax.random.randint(length_key, (), 1, longest + 1, jnp.int32)
        haystack = size - needle
        letters, given = strings.draw_strings(
            string_key, haystack, needle, nodes, varied=self.varied
        )
        places = jnp.maximum(haystack - needle, 1)
        place = jax.random.randint(place_key, (), 0, places, jnp.int32)
        index = jnp.arange(nodes, dtype=jnp.int32)
        inside = (index >= place) & (index < place + needle)
        letters = letters[jnp.where(inside, index - place + haystack, index)]
        return given | {"key": strings.spell(letters, index < size)}

    @classmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """A random needle, written into a random haystack at a random place."""
        length = max(size // 5, 1)
        needle = random.randint(0, high=strings.LETTERS, size=(length,))
        haystack = random.randint(0, high=strings.LETTERS, size=(size - length,))
        place = random.choice(max(size - 2 * length, 1))
        haystack[place : place + length] = needle
        return strings.replay_strings(haystack, needle)


# Naive matching. A frame is a pair of letters.


class _Naive(NamedTuple):
    text: _Text
    s: jax.Array
    """The place that is tried."""
    j: jax.Array
    """How many letters agree there."""


def _naive_equal(registers: _Naive) -> jax.Array:
    (letters, haystack, _), s, j = registers
    return read(letters, s + j) == read(letters, haystack + j)


def _naive_found(registers: _Naive) -> jax.Array:
    (_, haystack, needle), s, j = registers
    return _naive_equal(registers) & (j == needle - 1) & (s <= haystack - needle)


def _naive_step(problem: Problem, registers: _Naive) -> _Naive:
    del problem
    equal = _naive_equal(registers)
    s, j = registers.s + ~equal, jnp.where(equal, registers.j + 1, 0)
    return registers._replace(s=s, j=j)


def _naive_done(problem: Problem, registers: _Naive) -> jax.Array:
    del problem
    (_, haystack, needle), s, j = registers
    return jnp.where(_naive_equal(registers), j >= needle - 1, s >= haystack - needle)


def _naive_hints(problem: Problem, registers: _Naive) -> Probes:
    (_, haystack, _), s, j = registers
    return {
        "pred_h": strings.predecessors(problem, haystack),
        "s": one_hot(s, problem),
        "i": one_hot(s + j, problem),
        "j": one_hot(haystack + j, problem),
    }


def _naive_frames(nodes: int) -> int:
    """At most all letters of the needle at each of the places: the worst length of it."""
    return max(
        (max(nodes - 2 * needle + 1, 1) * needle for needle in range(1, nodes)),
        default=1,
    )


@final
@dataclass(frozen=True)
class NaiveStringMatcher(_Matcher):
    """Find a needle in a haystack by trying every place."""

    name: ClassVar[str] = "clrs/naive_string_matcher"
    specification: ClassVar[Specification] = Specification(
        inputs=strings.STRINGS,
        outputs=(MATCH,),
        hints=(PREDECESSOR, *(node(name, "mask_one") for name in ("s", "i", "j"))),
    )
    machine: ClassVar[Machine] = Machine(
        frames=_naive_frames,
        start=lambda problem: _Naive(_text(problem), jnp.int32(0), jnp.int32(0)),
        step=_naive_step,
        done=_naive_done,
        hints=_naive_hints,
        outputs=lambda problem, registers: {
            "match": one_hot(
                jnp.where(_naive_found(registers), registers.s, registers.text.haystack), problem
            )
        },
    )


# Knuth, Morris and Pratt. First the needle is matched with itself, then with the haystack, by the
# same rule: a prefix of the needle that ends here is made longer by a letter, or gives way to the
# longest shorter one. A frame is a prefix that gave way, or a letter that was looked at.


class _Prefix(NamedTuple):
    """A prefix of the needle: its last place, or none. The place is then 0."""

    end: jax.Array
    empty: jax.Array


class _Kmp(NamedTuple):
    text: _Text
    pi: jax.Array
    """The node at which the longest shorter prefix ends, that ends at each node of the needle."""
    is_reset: jax.Array
    """1 at nodes where there is none."""
    k: _Prefix
    """What the needle is matched with; what it ended with in the second phase."""
    q: _Prefix
    """In the first phase the place of the needle that is looked at; then as k."""
    looked: jax.Array
    """Whether the first phase is done with q."""
    s: jax.Array
    i: jax.Array
    phase: jax.Array


def _kmp_start(problem: Problem) -> _Kmp:
    text, zero, yes = _text(problem), jnp.int32(0), jnp.asarray(True)
    return _Kmp(
        text=text,
        pi=problem.index,
        is_reset=one_hot(text.haystack, problem),
        k=_Prefix(zero, yes),
        q=_Prefix(jnp.minimum(text.needle - 1, 1), yes),
        looked=text.needle == 1,
        s=zero,
        i=zero,
        phase=zero,
    )


def _longer(registers: _Kmp) -> tuple[_Prefix, jax.Array, jax.Array]:
    """What the prefix is after a letter, and whether it first gives way, or becomes the needle."""
    letters, haystack, needle = registers.text
    first = registers.phase == 0
    end = jnp.where(first, registers.k.end, registers.q.end)
    empty = jnp.where(first, registers.k.empty, registers.q.empty)
    place = jnp.where(first, haystack + registers.q.end + registers.looked, registers.i)
    length = jnp.where(empty, 0, end + 1)
    equal = read(letters, haystack + length) == read(letters, place)
    way = haystack + end
    shorter = _Prefix(
        jnp.where(read(registers.is_reset, way) > 0, 0, read(registers.pi, way) - haystack),
        read(registers.is_reset, way) > 0,
    )
    length = length + equal
    same = _Prefix(jnp.maximum(length - 1, 0), length == 0)
    falls = ~empty & ~equal
    prefix = jax.tree.map(lambda one, two: jnp.where(falls, one, two), shorter, same)
    return prefix, falls, equal & (length == needle)


def _kmp_step(problem: Problem, registers: _Kmp) -> _Kmp:
    text, k, q, phase = registers.text, registers.k, registers.q, registers.phase
    prefix, falls, _ = _longer(registers)
    place = q.end + registers.looked
    first, again = (phase == 0) & (place < text.needle), phase == 1
    here = jnp.where(first & ~falls, text.haystack + place, -1)
    turns = again & ~falls
    i = registers.i + turns
    return _Kmp(
        text=text,
        pi=write(registers.pi, here, text.haystack + prefix.end),
        is_reset=write(registers.is_reset, jnp.where(prefix.empty, here, -1), 1),
        k=_Prefix(jnp.where(first, prefix.end, k.end), jnp.where(first, prefix.empty, k.empty)),
        q=_Prefix(
            jnp.where(first, place, jnp.where(again, prefix.end, 0)),
            jnp.where(again, prefix.empty, True),
        ),
        looked=~falls,
        s=registers.s + (turns & (i >= text.needle)),
        i=i,
        phase=jnp.where(first, 0, 1),
    )


def _kmp_done(problem: Problem, registers: _Kmp) -> jax.Array:
    del problem
    _, falls, found = _longer(registers)
    ends = found | (registers.i >= registers.text.haystack - 1)
    return (registers.phase == 1) & ~falls & ends


def _kmp_hints(problem: Problem, registers: _Kmp) -> Probes:
    haystack = registers.text.haystack
    marks = {
        "k": haystack + registers.k.end,
        "q": haystack + registers.q.end,
        "s": registers.s,
        "i": registers.i,
    }
    flags = {"k_reset": registers.k.empty, "q_reset": registers.q.empty, "phase": registers.phase}
    return {
        "pred_h": strings.predecessors(problem, haystack),
        "pi": jnp.where(problem.exists, registers.pi, 0),
        "is_reset": registers.is_reset,
        **{name: one_hot(place, problem) for name, place in marks.items()},
        **{name: flag.astype(problem.dtype) for name, flag in flags.items()},
    }


def _kmp_outputs(problem: Problem, registers: _Kmp) -> Probes:
    _, _, found = _longer(registers)
    return {"match": one_hot(jnp.where(found, registers.s, registers.text.haystack), problem)}


@final
@dataclass(frozen=True)
class KmpMatcher(_Matcher):
    """Find a needle in a haystack by Knuth, Morris and Pratt's algorithm."""

    name: ClassVar[str] = "clrs/kmp_matcher"
    specification: ClassVar[Specification] = Specification(
        inputs=strings.STRINGS,
        outputs=(MATCH,),
        hints=(
            PREDECESSOR,
            node("pi", "pointer"),
            node("is_reset", "mask"),
            node("k", "mask_one"),
            graph("k_reset", "mask"),
            node("q", "mask_one"),
            graph("q_reset", "mask"),
            node("s", "mask_one"),
            node("i", "mask_one"),
            graph("phase", "mask"),
        ),
    )
    machine: ClassVar[Machine] = Machine(
        # A prefix that gives way gets shorter, and letters but the last of each string are all that
        # makes one longer: m + m - 2 frames for a needle of m > 1, 2 h - 1 for a haystack of h, and
        # the start's is among the former. For m = 1 none gives way.
        frames=lambda nodes: max(2, nodes, 2 * nodes - 3),
        start=_kmp_start,
        step=_kmp_step,
        done=_kmp_done,
        hints=_kmp_hints,
        outputs=_kmp_outputs,
    )
