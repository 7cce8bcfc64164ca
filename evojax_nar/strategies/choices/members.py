"""Populations of choices, as rules that make a member from its number: see `population`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import jax
import jax.numpy as jnp

from evojax_nar.discrete import Choices, Mixture, is_choices, is_mixture
from evojax_nar.population import Members
from evojax_nar.strategies.choices.genes import cut, gene_count, unit_interval
from evojax_nar.types import Carry, Key, Params


class ChoiceMembers(Members):
    """Members whose draw is their parameters, all of them choices."""

    def evaluate(self, run: Callable[[Params, Carry], Any], draw: Any, carry: Carry) -> Any:
        """The member's result, (1, ...)."""
        own = jax.tree.map(lambda leaf: leaf[0], carry)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], run(draw, own))

    def stack(self, count: int) -> Params:
        """The first `count` members, stacked (count, ...)."""
        return jax.lax.map(self.draw, jnp.arange(count, dtype=jnp.int32))

    def weigh(self, draws: Any, weights: jax.Array) -> Params:
        """A tree with a `Mixture` (..., count) for all choices: the weight of those who made it."""

        def total(node: Choices) -> Mixture:
            own = weights[:, 0].reshape(-1, *[1] * (node.value.ndim - 1))

            def of(value: jax.Array) -> jax.Array:
                return jnp.where(node.value == value, own, 0).sum(axis=0)

            # One value after the other: all at once would be as many arrays as there are values.
            return Mixture(jnp.moveaxis(jax.lax.map(of, jnp.arange(node.count)), 0, -1))

        return jax.tree.map(total, draws, is_leaf=is_choices)


@final
@partial(
    jax.tree_util.register_dataclass,
    data_fields=["parents", "first", "second", "rate", "key"],
    meta_fields=["units"],
)
@dataclass(frozen=True)
class Mutants(ChoiceMembers):
    """Mutated children of a few stored parents; no more than a chunk of them exists at a time.

    Every leaf of `parents` has a leading axis of E. Each gene of member i is that of parent
    `first[i]` or of parent `second[i]`, either as likely, and is then redrawn with the chance
    rate[i] among its other values. One parent twice is no crossover, rate 0 no mutation.
    """

    parents: Params
    first: jax.Array
    second: jax.Array
    rate: jax.Array
    key: Key
    units: int

    def draw(self, index: jax.Array) -> Params:
        """Parameters of member `index`."""
        first, second = (
            jax.tree.map(lambda leaf, own=own: leaf[own[index]], self.parents)
            for own in (self.first, self.second)
        )
        return _child(jax.random.fold_in(self.key, index), first, second, self.rate[index])


def _child(key: Key, first: Params, second: Params, rate: jax.Array) -> Params:
    words = jax.random.bits(key, (2, gene_count(first)), jnp.uint32)
    redrawn = unit_interval(words[0]) < rate
    ours, structure = jax.tree.flatten(first, is_leaf=is_choices)
    theirs = jax.tree.leaves(second)
    shapes = [node.value.shape for node in ours]
    children = [
        _redraw(jnp.where(word & 1 == 1, other, node.value), node.count, word >> 1, chosen)
        for node, other, word, chosen in zip(
            ours, theirs, cut(words[1], shapes), cut(redrawn, shapes), strict=True
        )
    ]
    return jax.tree.unflatten(structure, children)


def _redraw(value: jax.Array, count: int, word: jax.Array, chosen: jax.Array) -> Choices:
    """Choices (...), where `chosen` another one; words of 31 bits favour none by count / 2**31."""
    step = 1 + (word % max(1, count - 1)).astype(jnp.int32)
    return Choices(jnp.where(chosen, (value + step) % count, value), count)


@final
@partial(jax.tree_util.register_dataclass, data_fields=["tables", "key"], meta_fields=["units"])
@dataclass(frozen=True)
class Sampled(ChoiceMembers):
    """Members whose every gene is drawn by itself, by the probabilities of its own table.

    `tables` is a tree with a `Mixture` for all choices.
    """

    tables: Params
    key: Key
    units: int

    def draw(self, index: jax.Array) -> Params:
        """Parameters of member `index`."""
        nodes, structure = jax.tree.flatten(self.tables, is_leaf=is_mixture)
        tables = [node.weights for node in nodes]
        size = sum(table.size // table.shape[-1] for table in tables)
        row = jax.random.uniform(jax.random.fold_in(self.key, index), (size,))
        drawn = [
            Choices(_below(table, number), table.shape[-1])
            for table, number in zip(
                tables, cut(row, [table.shape[:-1] for table in tables]), strict=True
            )
        ]
        return jax.tree.unflatten(structure, drawn)


def _below(table: jax.Array, number: jax.Array) -> jax.Array:
    """The value whose share of 0 to 1 a uniform number (...) falls into."""
    edges = jnp.cumsum(table, axis=-1)[..., :-1]
    return (number[..., None] >= edges).sum(axis=-1, dtype=jnp.int32)
