"""Expressions in brackets: random ones of a given length, and their values.

The definition is recursive. An expression of length 1 is a digit d, of 2 is -d, of 3 is (d) and of
4 is (-d); a longer one is (left operator right), where the length of the left part is uniform from
1 to length - 4. Here one is written from left to right instead: whatever writes a token also plans
what stands where behind it, so that one scan over the places does it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from evojax_nar.tasks.chomsky.draws import below
from evojax_nar.tasks.chomsky.regular import MODULUS
from evojax_nar.tasks.sequence import gather

PLUS, MINUS, TIMES, OPEN, CLOSE = range(MODULUS, MODULUS + 5)


class Expressions(NamedTuple):
    """Expressions (B, S) int32, padded with zeros, and where their parts are."""

    tokens: jax.Array
    """Digits, operators and brackets."""
    length: jax.Array
    """The length of the expression that begins at a place; not above 0 where none does."""
    left: jax.Array
    """Of an expression that has two parts: the length of the left one, which begins a place on."""


def generate(words: jax.Array, length: jax.Array, *, operators: int) -> Expressions:
    """Random expressions of these lengths (B,), out of uniform words (B, S, 2) uint32.

    Args:
      words: what is drawn at a place: the length of a left part, and a digit or an operator.
      length: 0 or below gives an empty expression.
      operators: 2 for plus and minus alone, 3 for times as well.
    """
    batch, places = words.shape[:2]
    row = jnp.arange(batch)[:, None]

    def step(
        plan: jax.Array, inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
        place, word = inputs
        # What is planned at a place is the length of an expression, or a token with its sign
        # turned: brackets and operators are not 0, and digits are never planned.
        planned = plan[:, place]
        own = jnp.maximum(planned, 0)
        left = 1 + below(word[:, 0], own - 4)
        digit, operator = below(word[:, 1], MODULUS), PLUS + below(word[:, 1], operators)
        token = jnp.where(own == 1, digit, jnp.where(own == 2, MINUS, OPEN))
        token = jnp.where(planned > 0, token, -planned)
        inner = jnp.where(own > 4, left, jnp.where(own == 4, 2, 1))
        parts = [
            (own > 1, place + 1, inner),
            (own > 4, place + 1 + left, -operator),
            (own > 4, place + 2 + left, own - left - 3),
            (own > 2, place + own - 1, jnp.full_like(own, -CLOSE)),
        ]
        where = jnp.stack([jnp.where(is_part, at, places) for is_part, at, _ in parts], axis=1)
        what = jnp.stack([value for _, _, value in parts], axis=1)
        return plan.at[row, where].set(what, mode="drop"), (token, own, left)

    plan = jnp.zeros((batch, places), jnp.int32).at[:, 0].set(jnp.maximum(length, 0))
    _, written = jax.lax.scan(step, plan, (jnp.arange(places), jnp.moveaxis(words, 1, 0)))
    return Expressions(*(column.T for column in written))


def values(expressions: Expressions) -> jax.Array:
    """The values (B,) modulo 5, from the last place back to the first."""
    tokens, length, left = expressions
    places = tokens.shape[1]
    # Of an expression with two parts at a place: where the right one begins, and the operator.
    right = jnp.arange(places) + 2 + left
    operator = gather(tokens, right - 1)

    def step(known: jax.Array, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        place, token, own, right, operator = inputs
        inner = known[:, jnp.minimum(place + 1, places - 1)]
        other = gather(known, right[:, None])[:, 0]
        both = jnp.where(operator == PLUS, inner + other, inner - other)
        both = jnp.where(operator == TIMES, inner * other, both)
        value = jnp.where(own > 4, both, jnp.where(own == 2, -inner, inner))
        value = jnp.where(own == 1, token, value) % MODULUS
        return known.at[:, place].set(value), None

    columns = (tokens.T, length.T, right.T, operator.T)
    known, _ = jax.lax.scan(
        step, jnp.zeros_like(tokens), (jnp.arange(places), *columns), reverse=True
    )
    return known[:, 0]
