"""Tables of probabilities, one a gene, that a population is drawn from and that follow its best."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from evojax_nar.discrete import Choices, Mixture, harden, is_choices, is_mixture, one_hot
from evojax_nar.errors import positive_int, reject
from evojax_nar.objective import Objective
from evojax_nar.strategies.base import Fitness, to_minimise
from evojax_nar.strategies.choices.genes import check_share, gene_count
from evojax_nar.strategies.choices.members import Sampled
from evojax_nar.types import Evaluation, Key, Params

Tables: TypeAlias = Any
"""A tree with a `Mixture` (..., count) for all choices: how likely each value of each gene is."""


class TablesState(NamedTuple):
    """State of the strategies whose population is drawn from tables."""

    tables: Tables
    hyperparameters: dict[str, jax.Array]


class Drawn(NamedTuple):
    """A judged population."""

    evaluation: Evaluation
    losses: jax.Array
    """(N,), what is minimised."""
    frequencies: Tables
    """How often each value occurs among the best."""


def check_selection(population: Any, best: Any) -> None:
    """Raise an `InputError` unless `best` of `population` members can be chosen."""
    positive_int("population", population, least=2)
    positive_int("best", best)
    if best >= population:
        remedy = f"give fewer than population={population}"
        raise reject("best", best, "chooses nobody from others", remedy)


def check_table(start: Any, margin: Any) -> None:
    """Raise an `InputError` unless these say how tables start, and where they end."""
    check_share("start", start)
    if start == 1:
        raise reject("start", start, "leaves nothing to the other values", "give less than 1")
    if margin is not None:
        check_share("margin", margin)


def start_tables(params: Params, share: float) -> Tables:
    """Uniform tables for params, but for `share` of the weight, which the given choices have."""

    def convert(node: Choices) -> Mixture:
        return Mixture(share * one_hot(node).weights + (1 - share) / node.count)

    return jax.tree.map(convert, params, is_leaf=is_choices)


def default_margin(params: Params) -> float:
    """1 / D, at most a quarter."""
    return 1 / max(4, gene_count(params))


def within(tables: Tables, margin: jax.Array) -> Tables:
    """Tables in which no value is likelier than 1 - margin, so that none dies out.

    Each value has a chance of margin / (count - 1) at least, and of no more than 1 / count; what
    the others have beyond it is scaled so that the sum is 1 (Ben Jedidia, Doerr & Krejca 2023,
    arXiv:2302.14420, section 4).
    """

    def bound(table: jax.Array) -> jax.Array:
        count = table.shape[-1]
        least = jnp.minimum(margin / max(1, count - 1), 1 / count)
        beyond = jnp.maximum(table - least, 0)
        left = jnp.maximum(1 - count * least, 0)
        total = jnp.maximum(beyond.sum(axis=-1, keepdims=True), jnp.finfo(table.dtype).tiny)
        return least + beyond * (left / total)

    return jax.tree.map(bound, tables)


def judge(
    key: Key, tables: Tables, objective: Objective, population: int, best: int, fitness: Fitness
) -> Drawn:
    """Draw N members, judge them on one batch, and count the values of the finite ones' best."""
    members = Sampled(tables, key, population)
    evaluation, _ = objective.population(members)
    losses = to_minimise(evaluation, fitness)
    finite = jnp.isfinite(losses)
    order = jnp.argsort(jnp.where(finite, losses, jnp.inf))
    chosen = jnp.zeros(losses.shape, jnp.float32).at[order[:best]].set(1.0) * finite
    # Whole numbers, whose sum does not depend on how the members are placed.
    counts = objective.combine(members, chosen)
    return Drawn(
        evaluation,
        losses,
        jax.tree.map(lambda leaf: leaf / jnp.maximum(chosen.sum(), 1), counts),
    )


def likeliest(tables: Tables) -> Params:
    """The mode: the likeliest choice of each gene, the first where several are."""
    return harden(tables)


def certainty(tables: Tables) -> jax.Array:
    """The chance of the likeliest value, the mean over all genes."""
    nodes = jax.tree.leaves(tables, is_leaf=is_mixture)
    peaks = [node.weights.max(axis=-1).reshape(-1) for node in nodes]
    return jnp.concatenate(peaks).mean()
