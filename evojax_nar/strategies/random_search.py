"""Random search: the control that every other strategy has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import finite, positive_int
from evojax_nar.objective import Objective
from evojax_nar.population import Offspring, mutate
from evojax_nar.spaces import POPULATION, Axis, Log
from evojax_nar.strategies.base import (
    Base,
    Example,
    Fitness,
    check_fitness,
    float_params,
    keep_if,
    population_info,
    to_minimise,
)
from evojax_nar.types import Cost, Info, Key, Params


class RandomSearchState(NamedTuple):
    """State of `RandomSearch`."""

    start: Params
    incumbent: Params
    hyperparameters: dict[str, jax.Array]


@final
@dataclass(frozen=True)
class RandomSearch(Base):
    """Independent draws around the starting point; the best so far is kept and deployed.

    The incumbent is one of the N members of every step and is judged on the same batch as its
    challengers, so that luck on one batch does not keep it.

    Args:
      population: N, the incumbent and N - 1 fresh draws.
      sigma: standard deviation of the draws around the starting point.
      fitness: "loss" or "score".

    Raises:
      InputError: for a population below 2 or a sigma that is not above 0.
    """

    name: ClassVar[str] = "random_search"
    population: int = 256
    sigma: float = 0.5
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        positive_int("population", self.population, least=2)
        finite("sigma", self.sigma, above=0.0)
        check_fitness(self.fitness)

    @property
    def cost(self) -> Cost:
        """N forward passes a step."""
        return Cost(forwards=self.population, backwards=0)

    def init(self, key: Key, params: Params) -> RandomSearchState:
        """State around `params`, which is the first incumbent; `key` is not used."""
        del key
        params = float_params(params)
        numbers = {"sigma": jnp.asarray(self.sigma, jnp.float32)}
        return RandomSearchState(params, params, numbers)

    def step(
        self, key: Key, state: RandomSearchState, objective: Objective
    ) -> tuple[RandomSearchState, Info]:
        """Draw N - 1 members around the start and keep the best of them and the incumbent."""
        seeds = jax.random.bits(key, (self.population,), jnp.uint32)
        incumbent_first = jnp.arange(self.population) == 0
        parents = jax.tree.map(lambda *leaf: jnp.stack(leaf), state.incumbent, state.start)
        sigma = jnp.where(incumbent_first, 0, state.hyperparameters["sigma"])
        members = Offspring(
            parents, jnp.where(incumbent_first, 0, 1), seeds, sigma, self.population
        )
        evaluation, _ = objective.population(members)
        losses = to_minimise(evaluation, self.fitness)
        best = jnp.argmin(jnp.where(jnp.isfinite(losses), losses, jnp.inf))
        challenger = mutate(state.start, seeds[best], state.hyperparameters["sigma"])
        info = population_info(evaluation, losses, {"replaced": best > 0})
        replace = info.healthy & (best > 0)
        return state._replace(incumbent=keep_if(replace, challenger, state.incumbent)), info

    def params(self, state: RandomSearchState) -> Params:
        """The incumbent."""
        return state.incumbent

    def space(self) -> dict[str, Axis]:
        """How far draws go, up to three times the scale of fresh parameters, and the population."""
        return {"sigma": Log(0.03, 3.0), "population": POPULATION}

    @classmethod
    def example(cls) -> Example:
        """Wide draws: the example problem is small enough to be hit by chance."""
        return Example(cls(population=256, sigma=0.4), steps=60)
