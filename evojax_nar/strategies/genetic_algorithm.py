"""Genetic algorithm with truncation selection, whose genomes are chains of seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import finite, positive_int, reject
from evojax_nar.objective import Objective
from evojax_nar.population import Offspring, mutate
from evojax_nar.spaces import POPULATION, Axis, Choice, Log
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


class Genomes(NamedTuple):
    """E genomes: each is a base, and the mutations made to it, as seeds and step sizes.

    Enough to rebuild the parameters (`GeneticAlgorithm.rebuild`) and small enough to exchange.
    """

    base: Params
    """(E, ...): the parameters that the chain starts from."""
    seeds: jax.Array
    """(E, L) uint32; only the first `length` count."""
    sigmas: jax.Array
    """(E, L) float32, the step size of each mutation."""
    length: jax.Array
    """(E,) int32."""


class GeneticAlgorithmState(NamedTuple):
    """State of `GeneticAlgorithm`; elites are ordered from best to worst."""

    elites: Params
    """(E, ...): the elites' parameters, cached."""
    genomes: Genomes
    champion: jax.Array
    """int32: the best of the finite elites that were elites before, 0 where there is none."""
    hyperparameters: dict[str, jax.Array]


@final
@dataclass(frozen=True)
class GeneticAlgorithm(Base):
    """Truncation selection and Gaussian mutation, without crossover (Such et al. 2017).

    The N members of a generation are the E elites and N - E mutated copies of elites drawn
    uniformly; all are judged on the same batch, and the best E are the next elites
    (arXiv:1712.06567, algorithm 1). An elite that was lucky on one batch is judged again on the
    next. What is deployed is the best of those members that were elites already, so it has been
    selected on one batch and ranked on another. Genomes are chains of seeds (section 3.1); a chain
    that reaches its capacity is folded into its base.

    Args:
      population: N.
      elites: E, the number of survivors.
      sigma: standard deviation of a mutation, in units of the parameters.
      capacity: L, the longest chain of seeds.
      fitness: "loss" or "score".

    Raises:
      InputError: where elites are not fewer than the population, or a number is out of range.
    """

    name: ClassVar[str] = "genetic_algorithm"
    population: int = 256
    elites: int = 16
    sigma: float = 0.05
    capacity: int = 1024
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        positive_int("population", self.population, least=2)
        positive_int("elites", self.elites)
        positive_int("capacity", self.capacity)
        if self.elites >= self.population:
            raise reject(
                "elites",
                self.elites,
                "leaves no room for offspring",
                f"give fewer than population={self.population}",
            )
        finite("sigma", self.sigma, above=0.0)
        check_fitness(self.fitness)

    @property
    def cost(self) -> Cost:
        """N forward passes a generation, the elites' included."""
        return Cost(forwards=self.population, backwards=0)

    def init(self, key: Key, params: Params) -> GeneticAlgorithmState:
        """State with E copies of `params` as elites; `key` is not used."""
        del key
        count = self.elites
        elites = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), float_params(params)
        )
        genomes = Genomes(
            base=elites,
            seeds=jnp.zeros((count, self.capacity), jnp.uint32),
            sigmas=jnp.zeros((count, self.capacity), jnp.float32),
            length=jnp.zeros((count,), jnp.int32),
        )
        numbers = {"sigma": jnp.asarray(self.sigma, jnp.float32)}
        return GeneticAlgorithmState(elites, genomes, jnp.asarray(0, jnp.int32), numbers)

    def step(
        self, key: Key, state: GeneticAlgorithmState, objective: Objective
    ) -> tuple[GeneticAlgorithmState, Info]:
        """One generation: elites and offspring judged on one batch, the best E survive."""
        parent_key, seed_key = jax.random.split(key)
        index = jnp.arange(self.population)
        is_elite = index < self.elites
        drawn = jax.random.randint(parent_key, (self.population,), 0, self.elites)
        parent_of = jnp.where(is_elite, index, drawn)
        seeds = jax.random.bits(seed_key, (self.population,), jnp.uint32)
        sigma = jnp.where(is_elite, 0, state.hyperparameters["sigma"])
        members = Offspring(state.elites, parent_of, seeds, sigma, self.population)
        evaluation, _ = objective.population(members)
        losses = to_minimise(evaluation, self.fitness)
        ranked = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
        survivors = jnp.argsort(ranked)[: self.elites]
        # Where fewer than E are finite, broken members fill up the elites; none is deployed.
        proven = (survivors < self.elites) & jnp.isfinite(losses[survivors])

        elites = jax.vmap(members.draw)(survivors)
        genomes = self._extend(state, parent_of[survivors], seeds[survivors], sigma[survivors])
        new = GeneticAlgorithmState(
            elites=elites,
            genomes=genomes,
            champion=jnp.argmax(proven).astype(jnp.int32),
            hyperparameters=state.hyperparameters,
        )
        info = population_info(
            evaluation, losses, {"new_elites": (survivors >= self.elites).mean()}
        )
        return keep_if(info.healthy, new, state), info

    def params(self, state: GeneticAlgorithmState) -> Params:
        """The champion."""
        return jax.tree.map(lambda leaf: leaf[state.champion], state.elites)

    def ensemble(self, key: Key, state: GeneticAlgorithmState, count: int) -> Params:
        """The best elites, at most `count` of them."""
        del key
        return jax.tree.map(lambda leaf: leaf[:count], state.elites)

    def rebuild(self, genomes: Genomes) -> Params:
        """The parameters (E, ...) that genomes stand for: their bases, mutated seed by seed."""

        def one(base: Params, seeds: jax.Array, sigmas: jax.Array, length: jax.Array) -> Params:
            def mutation(place: jax.Array, params: Params) -> Params:
                return mutate(params, seeds[place], sigmas[place])

            return jax.lax.fori_loop(0, length, mutation, base)

        return jax.vmap(one)(*genomes)

    def _extend(
        self,
        state: GeneticAlgorithmState,
        parent: jax.Array,
        seeds: jax.Array,
        sigmas: jax.Array,
    ) -> Genomes:
        """Genomes of the survivors (E,): the parent's chain, and its mutation if it has one."""
        chain: Genomes = jax.tree.map(lambda leaf: leaf[parent], state.genomes)
        full = chain.length >= self.capacity
        cached = jax.tree.map(lambda leaf: leaf[parent], state.elites)
        mutated = sigmas > 0
        fold = full & mutated
        base = jax.tree.map(
            lambda a, b: jnp.where(fold.reshape(-1, *[1] * (a.ndim - 1)), a, b), cached, chain.base
        )
        place = jnp.where(fold, 0, chain.length)
        row = jnp.arange(self.elites)
        written = jnp.where(mutated, place, self.capacity)  # out of range, hence dropped
        return Genomes(
            base=base,
            seeds=chain.seeds.at[row, written].set(seeds, mode="drop"),
            sigmas=chain.sigmas.at[row, written].set(sigmas, mode="drop"),
            length=jnp.where(mutated, place + 1, chain.length),
        )

    def space(self) -> dict[str, Axis]:
        """The width of a mutation, how many survive, and the population.

        A mutation stays for good, unlike the noise of an evolution strategy, and is smaller.
        """
        return {
            "sigma": Log(0.003, 0.3),
            "elites": Choice((4, 16)),
            "population": POPULATION,
        }

    @classmethod
    def example(cls) -> Example:
        """A small population with strong selection."""
        return Example(cls(population=64, elites=8, sigma=0.1, capacity=16), steps=80)
