"""Separable natural evolution strategy: a centre and the widths of its noise, by ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import finite, reject
from evojax_nar.noise import Dense, Noise, as_noise
from evojax_nar.objective import Objective
from evojax_nar.spaces import POPULATION, SIGMA, Axis, Log
from evojax_nar.strategies.adaptive import (
    AdaptivePairs,
    Widths,
    mean_log_width,
    start_widths,
    unscaled,
)
from evojax_nar.strategies.base import (
    Base,
    Example,
    Fitness,
    check_fitness,
    float_params,
    keep_if,
    population_info,
    require_even,
    stack_pairs,
    to_minimise,
)
from evojax_nar.types import Cost, Info, Key, Params


class SNESState(NamedTuple):
    """State of `SNES`."""

    centre: Params
    log_widths: Widths
    """Logarithms of the widths, relative to the hyperparameter sigma."""
    hyperparameters: dict[str, jax.Array]


@final
@dataclass(frozen=True)
class SNES(Base):
    """Natural gradient steps of the centre and of the widths, on utilities of ranks.

    With s_i the noise of member i in units of the widths, and u_i its utility,

        centre <- centre + centre_learning_rate * width * sum_i u_i s_i
        width  <- width * exp(sigma_learning_rate / 2 * sum_i u_i (s_i^2 - 1))

    Wierstra et al. 2014, "Natural Evolution Strategies", JMLR 15, algorithm 6, with antithetic
    pairs. With dense noise every parameter has a width of its own; with thin noise the rows and the
    columns of a matrix have: see `strategies/adaptive.py`. What is deployed is the centre.

    Args:
      population: N, even.
      sigma: the first width, in units of the parameters.
      centre_learning_rate: of the centre.
      sigma_learning_rate: of the widths; None for (3 + ln P) / (5 sqrt P), with P the number of
        widths: the paper's value, where P is D.
      noise: rule that draws the noise: `noise.Dense` or `noise.LowRank`.
      fitness: "loss" or "score".

    Raises:
      InputError: for an odd population, or a number that is out of range.
    """

    name: ClassVar[str] = "snes"
    population: int = 256
    sigma: float = 0.1
    centre_learning_rate: float = 1.0
    sigma_learning_rate: float | None = None
    noise: Noise = field(default_factory=Dense)
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        require_even("population", self.population)
        finite("sigma", self.sigma, above=0.0)
        finite("centre_learning_rate", self.centre_learning_rate, above=0.0)
        rate = self.sigma_learning_rate
        if rate is not None and finite("sigma_learning_rate", rate) < 0:
            raise reject("sigma_learning_rate", rate, "is below 0", "give 0 or more, or None")
        object.__setattr__(self, "noise", as_noise(self.noise))
        check_fitness(self.fitness)

    @property
    def cost(self) -> Cost:
        """N forward passes a generation."""
        return Cost(forwards=self.population, backwards=0)

    def init(self, key: Key, params: Params) -> SNESState:
        """State with `params` as the centre; `key` is not used, the strategy starts where told."""
        del key
        centre = float_params(params)
        log_widths = start_widths(self.noise, centre)
        rate = self.sigma_learning_rate
        if rate is None:
            widths = max(1, sum(leaf.size for leaf in jax.tree.leaves(log_widths)))
            rate = (3 + math.log(widths)) / (5 * math.sqrt(widths))
        numbers = {
            "sigma": self.sigma,
            "centre_learning_rate": self.centre_learning_rate,
            "sigma_learning_rate": rate,
        }
        return SNESState(
            centre=centre,
            log_widths=log_widths,
            hyperparameters={k: jnp.asarray(v, jnp.float32) for k, v in numbers.items()},
        )

    def step(self, key: Key, state: SNESState, objective: Objective) -> tuple[SNESState, Info]:
        """One generation: draw, evaluate N members, sum both moments at once, move."""
        numbers = state.hyperparameters
        members = self._members(key, state)
        evaluation, _ = objective.population(members)
        losses = to_minimise(evaluation, self.fitness)
        weights = utilities(losses)
        first, second = objective.combine(members, jnp.stack([weights, weights], axis=-1))
        rate = numbers["centre_learning_rate"]
        half = 0.5 * numbers["sigma_learning_rate"]
        new = SNESState(
            centre=jax.tree.map(lambda leaf, step: leaf + rate * step, state.centre, first),
            log_widths=jax.tree.map(lambda log, step: log + half * step, state.log_widths, second),
            hyperparameters=numbers,
        )
        mean_sigma = numbers["sigma"] * jnp.exp(mean_log_width(new.log_widths))
        info = population_info(evaluation, losses, {"sigma": mean_sigma})
        return keep_if(info.healthy, new, state), info

    def params(self, state: SNESState) -> Params:
        """The centre."""
        return state.centre

    def ensemble(self, key: Key, state: SNESState, count: int) -> Params:
        """Members of the next generation, in pairs, with its noise (count, ...)."""
        return stack_pairs(self._members(key, state).form, count)

    def _members(self, key: Key, state: SNESState) -> AdaptivePairs:
        return AdaptivePairs(
            centre=state.centre,
            log_widths=state.log_widths,
            sigma=state.hyperparameters["sigma"],
            key=key,
            units=self.population // 2,
            noise=unscaled(self.noise),
        )

    def space(self) -> dict[str, Axis]:
        """The first width, the rate at which widths are learned, and the population.

        The centre's rate of 1 is the natural one.
        """
        return {
            "sigma": SIGMA,
            "sigma_learning_rate": Log(0.005, 0.5),
            "population": POPULATION,
        }

    @classmethod
    def example(cls) -> Example:
        """A small population."""
        return Example(cls(population=64, sigma=0.1), steps=40)


def utilities(losses: jax.Array) -> jax.Array:
    """Utilities (N,) of losses (N,), the best first: max(0, ln(N/2 + 1) - ln k), as shares.

    1/N is taken off each, so that they sum to zero (Wierstra et al. 2014, section 3.1). A larger
    utility is a better member. Members that tie share theirs; those that are not finite are last.
    """
    size = losses.shape[0]
    raw = np.maximum(0.0, math.log(size / 2 + 1) - np.log(np.arange(1, size + 1)))
    by_rank = jnp.asarray(raw / raw.sum() - 1 / size, losses.dtype)
    last = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
    # Ties are groups of neighbours among the ranks: each group has the mean of its utilities.
    group = jax.scipy.stats.rankdata(last, method="dense").astype(jnp.int32) - 1
    ordered = jnp.sort(group)
    total = jax.ops.segment_sum(by_rank, ordered, num_segments=size)
    count = jax.ops.segment_sum(jnp.ones_like(by_rank), ordered, num_segments=size)
    return (total / jnp.maximum(count, 1))[group]
