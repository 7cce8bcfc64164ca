"""Policy gradients with parameter-based exploration: a centre and its widths, by any optimiser."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import optax

from evojax_nar.errors import InputError, finite, reject, unknown
from evojax_nar.noise import Dense, Noise, as_noise
from evojax_nar.objective import Objective
from evojax_nar.spaces import POPULATION, SIGMA, Axis
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
from evojax_nar.strategies.optimizer import (
    FEWER_STEPS,
    Optimizer,
    as_optimizer,
    learning_rate,
    optimizer,
)
from evojax_nar.strategies.shaping import RULES, Shaping, centered_rank, sign
from evojax_nar.types import Cost, Info, Key, Params


class PGPEState(NamedTuple):
    """State of `PGPE`."""

    centre: Params
    log_widths: Widths
    """Logarithms of the widths, relative to the hyperparameter sigma."""
    optimizer: Any
    hyperparameters: dict[str, jax.Array]


@final
@dataclass(frozen=True)
class PGPE(Base):
    """Symmetric sampling, with likelihood-gradient steps of the centre and of the widths.

    With K pairs, s_k their noise in units of the widths, and w the shaped losses (larger is worse),

        g = 1/K sum_k (w_k+ - w_k-) / 2 * width s_k             what the optimiser descends
        h = 1/K sum_k (w_k+ + w_k-) / 2 * (s_k^2 - 1)
        width <- width * (1 - clip(sigma_learning_rate * h, -max_change, max_change))

    Sehnke et al. 2010, "Parameter-exploring policy gradients", Neural Networks 23, with their
    symmetric sampling, and a shaping that sums to zero in place of their baseline and of their
    division by the best reward. The limit on the change of a width and `clipup` are those of Toklu
    et al. 2020, arXiv:2008.02387. With dense noise every parameter has a width of its own; with
    thin noise the rows and the columns of a matrix have: see `strategies/adaptive.py`. What is
    deployed is the centre.

    Args:
      population: N = 2 K, even.
      sigma: the first width, in units of the parameters.
      optimizer: `strategies.optimizer("clipup", ...)` or any optax gradient transformation.
      sigma_learning_rate: of the widths.
      max_change: the largest relative change of a width in a generation, below 1.
      shaping: losses (N,) to weights (N,); one of `strategies.shaping`, by function or name, but
        not `sign`, which says nothing about widths.
      noise: rule that draws the noise: `noise.Dense` or `noise.LowRank`.
      fitness: "loss" or "score".

    Raises:
      InputError: for an odd population, a number that is out of range, or an unknown name.
    """

    name: ClassVar[str] = "pgpe"
    population: int = 256
    sigma: float = 0.1
    optimizer: Optimizer = field(default_factory=lambda: optimizer("clipup", learning_rate=0.15))
    sigma_learning_rate: float = 0.1
    max_change: float = 0.2
    shaping: Shaping = centered_rank
    noise: Noise = field(default_factory=Dense)
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        require_even("population", self.population)
        finite("sigma", self.sigma, above=0.0)
        if finite("sigma_learning_rate", self.sigma_learning_rate) < 0:
            rate = self.sigma_learning_rate
            raise reject("sigma_learning_rate", rate, "is below 0", "give 0 or more")
        if finite("max_change", self.max_change, above=0.0) >= 1:
            remedy = "give a number between 0 and 1"
            raise reject("max_change", self.max_change, "lets a width become negative", remedy)
        if isinstance(self.shaping, str):
            if self.shaping not in RULES:
                raise unknown("shaping", self.shaping, RULES)
            object.__setattr__(self, "shaping", RULES[self.shaping])
        if self.shaping is sign:
            raise InputError(
                "shaping='sign' sums to zero in every pair, so widths would never change; "
                "give centered_rank or z_score"
            )
        object.__setattr__(self, "noise", as_noise(self.noise))
        object.__setattr__(self, "optimizer", as_optimizer("optimizer", self.optimizer))
        check_fitness(self.fitness)

    def settings(self) -> dict[str, Any]:
        """Plain settings; a shaping rule of ours goes by its name."""
        settings = super().settings()
        names = {rule: name for name, rule in RULES.items()}
        if self.shaping in names:
            settings["shaping"] = names[self.shaping]
        return settings

    @property
    def cost(self) -> Cost:
        """N forward passes a generation."""
        return Cost(forwards=self.population, backwards=0)

    def init(self, key: Key, params: Params) -> PGPEState:
        """State with `params` as the centre; `key` is not used, the strategy starts where told."""
        del key
        centre = float_params(params)
        numbers = {"sigma": self.sigma, "sigma_learning_rate": self.sigma_learning_rate}
        return PGPEState(
            centre=centre,
            log_widths=start_widths(self.noise, centre),
            optimizer=self.optimizer.init(centre),
            hyperparameters={k: jnp.asarray(v, jnp.float32) for k, v in numbers.items()},
        )

    def step(self, key: Key, state: PGPEState, objective: Objective) -> tuple[PGPEState, Info]:
        """One generation: draw, evaluate N members, sum both moments at once, move."""
        numbers = state.hyperparameters
        members = self._members(key, state)
        evaluation, _ = objective.population(members)
        losses = to_minimise(evaluation, self.fitness)
        weights = self.shaping(losses) / self.population
        estimate, excess = objective.combine(members, jnp.stack([weights, weights], axis=-1))
        updates, optimizer_state = self.optimizer.update(estimate, state.optimizer, state.centre)

        def change(log: jax.Array, excess: jax.Array) -> jax.Array:
            relative = -numbers["sigma_learning_rate"] * excess
            return log + jnp.log1p(jnp.clip(relative, -self.max_change, self.max_change))

        new = PGPEState(
            centre=optax.apply_updates(state.centre, updates),
            log_widths=jax.tree.map(change, state.log_widths, excess),
            optimizer=optimizer_state,
            hyperparameters=numbers,
        )
        mean_sigma = numbers["sigma"] * jnp.exp(mean_log_width(new.log_widths))
        diagnostics = {"sigma": mean_sigma, "estimate_norm": optax.tree.norm(estimate)}
        info = population_info(evaluation, losses, diagnostics)
        return keep_if(info.healthy, new, state), info

    def params(self, state: PGPEState) -> Params:
        """The centre."""
        return state.centre

    def ensemble(self, key: Key, state: PGPEState, count: int) -> Params:
        """Members of the next generation, in pairs, with its noise (count, ...)."""
        return stack_pairs(self._members(key, state).form, count)

    def _members(self, key: Key, state: PGPEState) -> AdaptivePairs:
        return AdaptivePairs(
            centre=state.centre,
            log_widths=state.log_widths,
            sigma=state.hyperparameters["sigma"],
            key=key,
            units=self.population // 2,
            noise=unscaled(self.noise),
        )

    def space(self) -> dict[str, Axis]:
        """The learning rate of the centre, the first width, and the population."""
        return {
            **learning_rate(self.optimizer, scale=FEWER_STEPS),
            "sigma": SIGMA,
            "population": POPULATION,
        }

    @classmethod
    def example(cls) -> Example:
        """Steps short enough to end near the optimum."""
        rule = optimizer("clipup", learning_rate=0.03)
        return Example(cls(population=64, sigma=0.1, optimizer=rule), steps=60)
