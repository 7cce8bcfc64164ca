"""Stack manipulation: push and pop, then read the stack from the top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.chomsky.base import Strings, StringTask, fair_bits
from evojax_nar.tasks.chomsky.draws import below

POP, PUSH, END = 2, 3, 2


@final
@dataclass(frozen=True)
class StackManipulation(StringTask):
    """Give a stack of bits from the top, after pushes and pops.

    The string is a stack from the bottom, of 1 to n - 1 fair bits, each number as likely as the
    others; then actions up to the length n, each as likely as the others: 2 pops, 3 pushes 0 and
    4 pushes 1. A pop of an empty stack does nothing. n = 1 is one bit and no action. The answer is
    the final stack from the top, then the end token 2, then zeros up to n + 1 steps; T = 2n + 1,
    inputs (B, T, 6). Steps after the end token are not judged. In the released code they are left
    out of the accuracy alone, and its accuracy weighs the steps of a batch alike, where here those
    of an example are averaged first.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "chomsky/stack_manipulation"
    symbols: ClassVar[int] = 5
    classes: ClassVar[int] = 3
    words: ClassVar[int] = 2

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(train_sizes=range(1, 4), test_sizes=(3, 6))

    def output_length(self, size: Any) -> Any:
        """n + 1."""
        return size + 1

    def strings(self, words: jax.Array, size: jax.Array) -> Strings:
        """The stack and the actions, and the final stack."""
        place = jnp.arange(words.shape[1])
        shown = place < size[:, None]
        first = 1 + below(words[:, :1, 1], size[:, None] - 1)
        bits, actions = fair_bits(words[..., 0]), POP + below(words[..., 0], 3)
        tokens = jnp.where(place < first, bits, actions)
        pops = (place >= first) & (tokens == POP)
        pushed = jnp.where(place < first, tokens, tokens - PUSH)
        answers, height = final_stack(pushed, shown & ~pops, shown & pops)
        answers = jnp.pad(answers, ((0, 0), (0, 1)))
        at_end = jnp.arange(answers.shape[1]) == height[:, None]
        return Strings(tokens, jnp.where(at_end, END, answers), height + 1)


def final_stack(
    values: jax.Array, pushes: jax.Array, pops: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The stack from the top (B, S), with zeros below its bottom, and its height (B,).

    A step pushes its value, pops, or does neither. No step is simulated: what is pushed stays where
    the stack is never lower afterwards, and the height is that of a walk held up at 0.

    Args:
      values: (B, S) int32.
      pushes: (B, S) bool, the steps that push.
      pops: (B, S) bool, the steps that pop.
    """
    walk = jnp.cumsum(pushes.astype(jnp.int32) - pops.astype(jnp.int32), axis=1)
    depth = walk - jnp.minimum(jax.lax.cummin(walk, axis=1), 0)
    stays = pushes & (jax.lax.cummin(depth, axis=1, reverse=True) >= depth)
    height = depth[:, -1]
    place = jnp.where(stays, height[:, None] - depth, values.shape[1])
    row = jnp.arange(len(values))[:, None]
    return jnp.zeros_like(values).at[row, place].set(values, mode="drop"), height
