"""Univariate marginal distribution algorithm: tables are the frequencies among the best members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import jax.numpy as jnp

from evojax_nar.objective import Objective
from evojax_nar.spaces import CHANCE, POPULATION, Axis, Choice
from evojax_nar.strategies.base import (
    Base,
    Example,
    Fitness,
    check_fitness,
    keep_if,
    population_info,
)
from evojax_nar.strategies.choices import tables
from evojax_nar.strategies.choices.genes import choice_params
from evojax_nar.strategies.choices.members import Sampled
from evojax_nar.strategies.choices.tables import TablesState
from evojax_nar.types import Cost, Info, Key, Params


@final
@dataclass(frozen=True)
class UMDA(Base):
    """Univariate marginal distribution algorithm, for any number of choices.

    Members are drawn gene by gene from tables of how likely their values are; the next tables are
    the frequencies of the values among the best k members. No value is likelier than 1 - margin, so
    that none dies out. What is deployed is the mode, the likeliest choices. The more genes there
    are, the larger k must be: frequencies of genes that make no difference drift. Source:
    Muehlenbein & Paass 1996, "From recombination of genes to the estimation of distributions I.
    Binary parameters", PPSN 4; for more values, Ben Jedidia, Doerr & Krejca 2023, arXiv:2302.14420.

    Args:
      population: N.
      best: k.
      start: share of the initial choices in the first tables, beside a uniform rest; 0 to forget
        them, as in the source.
      margin: None for 1 / D, at most a quarter.
      fitness: "loss" or "score".

    Raises:
      InputError: where `best` are not fewer than the population, or a number is out of range.
    """

    name: ClassVar[str] = "umda"
    choices: ClassVar[bool] = True
    population: int = 256
    best: int = 64
    start: float = 0.1
    margin: float | None = None
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        tables.check_selection(self.population, self.best)
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
        margin = tables.default_margin(params) if self.margin is None else self.margin
        return TablesState(
            tables.start_tables(params, self.start), {"margin": jnp.asarray(margin, jnp.float32)}
        )

    def step(self, key: Key, state: TablesState, objective: Objective) -> tuple[TablesState, Info]:
        """One generation: draw and evaluate N members, count the values of the best."""
        drawn = tables.judge(key, state.tables, objective, self.population, self.best, self.fitness)
        margin = state.hyperparameters["margin"]
        new = state._replace(tables=tables.within(drawn.frequencies, margin))
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
        """How many are selected, the chance that each value keeps, and the population."""
        return {
            "best": Choice((16, 32)),
            "margin": CHANCE,
            "population": POPULATION,
        }

    @classmethod
    def example(cls) -> Example:
        """A small population."""
        return Example(cls(population=128, best=32), steps=40)
