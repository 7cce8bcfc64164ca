"""Genetic algorithm on choices: truncation selection, redrawn genes, uniform crossover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import positive_int, reject
from evojax_nar.objective import Objective
from evojax_nar.spaces import CHANCE, POPULATION, Axis, Linear
from evojax_nar.strategies.base import (
    Base,
    Example,
    Fitness,
    check_fitness,
    keep_if,
    population_info,
    to_minimise,
)
from evojax_nar.strategies.choices.genes import (
    check_share,
    choice_params,
    default_rate,
    unit_interval,
)
from evojax_nar.strategies.choices.members import Mutants
from evojax_nar.types import Cost, Info, Key, Params


class BitFlipState(NamedTuple):
    """State of `BitFlip`; elites are ordered from best to worst."""

    elites: Params
    """(E, ...)."""
    champion: Params
    """The best of the elites that the last generation began with."""
    hyperparameters: dict[str, jax.Array]


@final
@dataclass(frozen=True)
class BitFlip(Base):
    """Genetic algorithm for parameters that are choices.

    The N members of a generation are the E elites and N - E children, all judged on the same batch;
    the best E are the next elites. Where members tie, as they often do on choices, children go
    first, so that genes which make no difference drift. A child has one parent, or by a chance two,
    from either of which each of its genes comes; parents are elites, drawn uniformly. Each gene of
    a child is then redrawn, by a chance, among its other values: a flip where there are two. What
    is deployed is the best of the elites that a generation began with, so it has been selected on
    one batch and ranked on another. Source: Muehlenbein 1992, "How genetic algorithms really work:
    mutation and hillclimbing", PPSN 2, for flips by the number of genes; Syswerda 1989, "Uniform
    crossover in genetic algorithms", ICGA 3.

    Args:
      population: N.
      elites: E, the number of survivors.
      rate: chance of a gene to be redrawn; None for 2 / D, which is two genes a child in the mean.
      crossover: share of the children that have two parents.
      fitness: "loss" or "score".

    Raises:
      InputError: where elites are not fewer than the population, or a number is out of range.
    """

    name: ClassVar[str] = "bit_flip_ga"
    choices: ClassVar[bool] = True
    population: int = 256
    elites: int = 16
    rate: float | None = None
    crossover: float = 0.5
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        positive_int("population", self.population, least=2)
        positive_int("elites", self.elites)
        if self.elites >= self.population:
            raise reject(
                "elites",
                self.elites,
                "leaves no room for offspring",
                f"give fewer than population={self.population}",
            )
        if self.rate is not None:
            check_share("rate", self.rate, positive=True)
        check_share("crossover", self.crossover)
        check_fitness(self.fitness)

    @property
    def cost(self) -> Cost:
        """N forward passes a generation, the elites' included."""
        return Cost(forwards=self.population, backwards=0)

    def init(self, key: Key, params: Params) -> BitFlipState:
        """State with E copies of `params` as elites; `key` is not used.

        Raises:
          InputError: where a leaf is no choice, naming its path.
        """
        del key
        params = choice_params(params)
        numbers = {
            "rate": default_rate(params) if self.rate is None else self.rate,
            "crossover": self.crossover,
        }
        return BitFlipState(
            elites=jax.tree.map(
                lambda leaf: jnp.broadcast_to(leaf, (self.elites, *leaf.shape)), params
            ),
            champion=params,
            hyperparameters={k: jnp.asarray(v, jnp.float32) for k, v in numbers.items()},
        )

    def step(
        self, key: Key, state: BitFlipState, objective: Objective
    ) -> tuple[BitFlipState, Info]:
        """One generation: elites and offspring judged on one batch, the best E survive."""
        draw_key, mutation_key = jax.random.split(key)
        index = jnp.arange(self.population)
        is_elite = index < self.elites
        words = jax.random.bits(draw_key, (3, self.population), jnp.uint32)
        drawn, partner = (words[:2] % self.elites).astype(jnp.int32)
        first = jnp.where(is_elite, index, drawn)
        crossed = unit_interval(words[2]) < state.hyperparameters["crossover"]
        members = Mutants(
            parents=state.elites,
            first=first,
            second=jnp.where(crossed & ~is_elite, partner, first),
            rate=jnp.where(is_elite, 0, state.hyperparameters["rate"]),
            key=mutation_key,
            units=self.population,
        )
        evaluation, _ = objective.population(members)
        losses = to_minimise(evaluation, self.fitness)
        ranked = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
        # Of members that tie, the last of all comes first, and children come after elites.
        survivors = self.population - 1 - jnp.argsort(ranked[::-1])[: self.elites]
        best = jnp.argmin(ranked[: self.elites])
        found = jax.tree.map(lambda leaf: leaf[best], state.elites)
        # Where fewer than E are finite, broken members fill up the elites; none is deployed.
        new = BitFlipState(
            elites=jax.vmap(members.draw)(survivors),
            champion=keep_if(jnp.isfinite(ranked[best]), found, state.champion),
            hyperparameters=state.hyperparameters,
        )
        info = population_info(
            evaluation, losses, {"new_elites": (survivors >= self.elites).mean()}
        )
        return keep_if(info.healthy, new, state), info

    def params(self, state: BitFlipState) -> Params:
        """The champion."""
        return state.champion

    def ensemble(self, key: Key, state: BitFlipState, count: int) -> Params:
        """The best elites, at most `count` of them."""
        del key
        return jax.tree.map(lambda leaf: leaf[:count], state.elites)

    def space(self) -> dict[str, Axis]:
        """The chance of a gene to be redrawn, the share of two parents, and the population."""
        return {
            "rate": CHANCE,
            "crossover": Linear(0.0, 1.0),
            "population": POPULATION,
        }

    @classmethod
    def example(cls) -> Example:
        """A small population with strong selection."""
        return Example(cls(population=64, elites=8), steps=60)
