"""What estimators of long unrolls share: a centre, antithetic pairs, and their differences."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from evojax_nar.errors import finite
from evojax_nar.noise import LowRank, Noise, as_noise
from evojax_nar.objective import Objective
from evojax_nar.population import GaussianPairs
from evojax_nar.spaces import POPULATION, SIGMA, Axis
from evojax_nar.strategies.base import (
    Base,
    Fitness,
    check_fitness,
    float_params,
    keep_if,
    population_info,
    require_even,
    stack_pairs,
    to_minimise,
)
from evojax_nar.strategies.optimizer import (
    FEWER_STEPS,
    Optimizer,
    as_optimizer,
    learning_rate,
    optimizer,
)
from evojax_nar.types import Cost, Evaluation, Info, Key, Params


class AntitheticState(NamedTuple):
    """State of `NRES` and `PES`, between episodes; what is of an episode is carried."""

    centre: Params
    optimizer: Any
    hyperparameters: dict[str, jax.Array]


@dataclass(frozen=True)
class Antithetic(Base, abc.ABC):
    """Antithetic pairs whose losses are taken as they are, since estimates of segments add up.

    Ranks or standard deviations would give each segment a scale of its own. A pair of which one is
    not finite counts nothing, and the others the more.
    """

    population: int = 256
    sigma: float = 0.1
    optimizer: Optimizer = field(default_factory=lambda: optimizer("adam", learning_rate=0.02))
    noise: Noise = field(default_factory=LowRank)
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        require_even("population", self.population)
        finite("sigma", self.sigma, above=0.0)
        object.__setattr__(self, "noise", as_noise(self.noise))
        object.__setattr__(self, "optimizer", as_optimizer("optimizer", self.optimizer))
        check_fitness(self.fitness)

    @property
    def pairs(self) -> int:
        """N / 2."""
        return self.population // 2

    @property
    def cost(self) -> Cost:
        """N forward passes a generation."""
        return Cost(forwards=self.population, backwards=0)

    def init(self, key: Key, params: Params) -> AntitheticState:
        """State with `params` as the centre; `key` is not used."""
        del key
        centre = float_params(params)
        sigma = jnp.asarray(self.sigma, jnp.float32)
        return AntitheticState(centre, self.optimizer.init(centre), {"sigma": sigma})

    def step(
        self, key: Key, state: AntitheticState, objective: Objective
    ) -> tuple[AntitheticState, Info]:
        """One generation on whole unrolls: there it is antithetic ES on the losses as they are."""
        members = self._members(key, state)
        evaluation, _ = objective.population(members)
        return self._learn(state, evaluation, lambda weights: of_pairs(objective, members, weights))

    def params(self, state: AntitheticState) -> Params:
        """The centre."""
        return state.centre

    def ensemble(self, key: Key, state: AntitheticState, count: int) -> Params:
        """Members of the search distribution, in pairs (count, ...)."""
        return stack_pairs(self._members(key, state).form, count)

    def space(self) -> dict[str, Axis]:
        """The learning rate, the width of the noise, and the population."""
        rates = learning_rate(self.optimizer, scale=FEWER_STEPS)
        return {**rates, "sigma": SIGMA, "population": POPULATION}

    def _members(self, key: Key, state: AntitheticState) -> GaussianPairs:
        sigma = state.hyperparameters["sigma"]
        return GaussianPairs(state.centre, key, sigma, self.pairs, self.noise)

    def _learn(
        self,
        state: AntitheticState,
        evaluation: Evaluation,
        combine: Callable[[jax.Array], Params],
    ) -> tuple[AntitheticState, Info]:
        """Step along the estimate 1/(N sigma) * sum over pairs of (L+ - L-) noise.

        Args:
          state: before it.
          evaluation: leaves (N,), pair by pair.
          combine: weights (N / 2,) of the pairs to the sum of their unit noise.
        """
        losses = to_minimise(evaluation, self.fitness)
        sigma = state.hyperparameters["sigma"]
        pairs = losses.reshape(-1, 2)
        sound = jnp.isfinite(pairs).all(axis=1)
        difference = jnp.where(sound, pairs[:, 0] - pairs[:, 1], 0.0)
        estimate = combine(difference / (2 * jnp.maximum(sound.sum(), 1) * sigma))
        updates, inner = self.optimizer.update(estimate, state.optimizer, state.centre)
        centre: Any = optax.apply_updates(state.centre, updates)
        new = state._replace(centre=centre, optimizer=inner)
        numbers = {"sigma": sigma, "estimate_norm": optax.tree.norm(estimate)}
        info = population_info(evaluation, losses, numbers)._replace(healthy=sound.any())
        return keep_if(info.healthy, new, state), info


def of_pairs(objective: Objective, members: GaussianPairs, weights: jax.Array) -> Params:
    """Sum of weights (N / 2,) of pairs times their unit noise."""
    halves = jnp.stack([weights, -weights], axis=1) / 2
    return objective.combine(members, halves.reshape(-1))
