"""Population-based incremental learning: tables of probabilities that move to the best members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from evojax_nar.objective import Objective
from evojax_nar.spaces import POPULATION, Axis, Choice, Log
from evojax_nar.strategies.base import (
    Base,
    Example,
    Fitness,
    check_fitness,
    keep_if,
    population_info,
)
from evojax_nar.strategies.choices import tables
from evojax_nar.strategies.choices.genes import check_share, choice_params, cut, unit_interval
from evojax_nar.strategies.choices.members import Sampled
from evojax_nar.strategies.choices.tables import Tables, TablesState
from evojax_nar.types import Cost, Info, Key, Params


@final
@dataclass(frozen=True)
class PBIL(Base):
    """Population-based incremental learning, for any number of choices.

    Each gene has a table p of how likely its values are, and members are drawn from the tables, all
    genes by themselves. With f the frequencies of the values among the best k members,

        p <- (1 - learning_rate) p + learning_rate f

    and then a few tables, by the chance `mutation`, move by `shift` towards a value drawn
    uniformly. No value is likelier than 1 - margin, so that none dies out. What is deployed is the
    mode, the likeliest choices. Source: Baluja 1994, "Population-based incremental learning",
    CMU-CS-94-163, whose genes are bits; the margin for more values: see `tables.within`.

    Args:
      population: N.
      best: k.
      learning_rate: how far the tables go towards the best.
      mutation: chance of a table to be moved at random.
      shift: how far it is then.
      start: share of the initial choices in the first tables, beside a uniform rest; 0 to forget
        them, as in the source.
      margin: None for 1 / D, at most a quarter.
      fitness: "loss" or "score".

    Raises:
      InputError: where `best` are not fewer than the population, or a number is out of range.
    """

    name: ClassVar[str] = "pbil"
    choices: ClassVar[bool] = True
    population: int = 256
    best: int = 8
    learning_rate: float = 0.1
    mutation: float = 0.02
    shift: float = 0.05
    start: float = 0.1
    margin: float | None = None
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        tables.check_selection(self.population, self.best)
        check_share("learning_rate", self.learning_rate, positive=True)
        check_share("mutation", self.mutation)
        check_share("shift", self.shift)
        tables.check_table(self.start, self.margin)
        check_fitness(self.fitness)

    @property
    def cost(self) -> Cost:
        """N forward passes a generation."""
        return Cost(forwards=self.population, backwards=0)

    def init(self, key: Key, params: Params) -> TablesState:
        """State with tables that lean to `params`; `key` is not used.

        Raises:
          InputError: where a leaf is no choice, naming its path.
        """
        del key
        params = choice_params(params)
        numbers = {
            "learning_rate": self.learning_rate,
            "mutation": self.mutation,
            "shift": self.shift,
            "margin": tables.default_margin(params) if self.margin is None else self.margin,
        }
        return TablesState(
            tables.start_tables(params, self.start),
            {k: jnp.asarray(v, jnp.float32) for k, v in numbers.items()},
        )

    def step(self, key: Key, state: TablesState, objective: Objective) -> tuple[TablesState, Info]:
        """One generation: draw and evaluate N members, move the tables to the best, disturb few."""
        sample_key, mutation_key = jax.random.split(key)
        numbers = state.hyperparameters
        drawn = tables.judge(
            sample_key, state.tables, objective, self.population, self.best, self.fitness
        )
        rate = numbers["learning_rate"]
        moved = jax.tree.map(
            lambda table, found: (1 - rate) * table + rate * found, state.tables, drawn.frequencies
        )
        shaken = mutate(mutation_key, moved, numbers["mutation"], numbers["shift"])
        new = state._replace(tables=tables.within(shaken, numbers["margin"]))
        info = population_info(
            drawn.evaluation, drawn.losses, {"certainty": tables.certainty(new.tables)}
        )
        return keep_if(info.healthy, new, state), info

    def params(self, state: TablesState) -> Params:
        """The likeliest choices."""
        return tables.likeliest(state.tables)

    def ensemble(self, key: Key, state: TablesState, count: int) -> Params:
        """Members of the next generation, drawn from the tables (count, ...)."""
        return Sampled(state.tables, key, count).stack(count)

    def space(self) -> dict[str, Axis]:
        """How far the tables go, to how many of the best, and the population."""
        return {
            "learning_rate": Log(0.005, 0.5),
            "best": Choice((2, 8)),
            "population": POPULATION,
        }

    @classmethod
    def example(cls) -> Example:
        """A small population that learns fast."""
        return Example(cls(population=64, best=8, learning_rate=0.2, mutation=0.1), steps=60)


def mutate(key: Key, given: Tables, chance: jax.Array, shift: jax.Array) -> Tables:
    """Tables of which each, by `chance`, moves by `shift` towards a value drawn uniformly."""
    leaves, structure = jax.tree.flatten(given)
    genes = [leaf.shape[:-1] for leaf in leaves]
    size = sum(leaf.size // leaf.shape[-1] for leaf in leaves)
    row, word = jax.random.bits(key, (2, size), jnp.uint32)
    chosen = unit_interval(row) < chance
    moved = []
    for leaf, own, number in zip(leaves, cut(chosen, genes), cut(word, genes), strict=True):
        count = leaf.shape[-1]
        value = (number % count).astype(jnp.int32)
        there = jax.nn.one_hot(value, count, dtype=leaf.dtype)
        moved.append(jnp.where(own[..., None], (1 - shift) * leaf + shift * there, leaf))
    return jax.tree.unflatten(structure, moved)
