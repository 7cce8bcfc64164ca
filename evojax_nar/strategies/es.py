"""Evolution strategy with antithetic Gaussian noise and any optax optimiser (OpenES and kin)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import optax

from evojax_nar.errors import finite, reject, unknown
from evojax_nar.noise import LowRank, Noise, as_noise
from evojax_nar.objective import Objective
from evojax_nar.population import GaussianPairs
from evojax_nar.spaces import POPULATION, SIGMA, Axis
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
from evojax_nar.strategies.shaping import RULES, Shaping, centered_rank
from evojax_nar.types import Carry, Cost, Info, Key, Params

Schedule = Callable[[jax.Array], Any]


class ESState(NamedTuple):
    """State of `ES`."""

    centre: Params
    optimizer: Any
    generation: jax.Array
    hyperparameters: dict[str, jax.Array]


@final
@dataclass(frozen=True)
class ES(Base):
    """Evolution strategy: antithetic Gaussian noise, shaped losses, an optax optimiser.

    The estimate is g = 1/(N sigma) * sum_i w_i eps_i with w the shaped losses (larger is worse), so
    that minus g descends; Salimans et al. 2017, arXiv:1703.03864, algorithm 2 with the mirrored
    sampling of section 2.1. What is deployed is the centre.

    Args:
      population: N, even.
      sigma: standard deviation of the noise, in units of the parameters; or a schedule from the
        generation (int32 scalar) to it, as optax's are.
      optimizer: any optax gradient transformation, applied to the estimate.
      shaping: losses (N,) to weights (N,); one of `strategies.shaping`, by function or name.
      weight_decay: adds weight_decay * centre to the estimate.
      noise: rule that draws the noise: `noise.LowRank` gives matrices thin noise and runs the model
        without forming those of a member, `noise.Dense` forms them.
      fitness: "loss" or "score", what is optimised.

    Raises:
      InputError: for an odd population, a sigma that is not above 0, or an unknown name.
    """

    name: ClassVar[str] = "es"
    population: int = 256
    sigma: float | Schedule = 0.1
    optimizer: Optimizer = field(default_factory=lambda: optimizer("adam", learning_rate=0.02))
    shaping: Shaping = centered_rank
    weight_decay: float = 0.0
    noise: Noise = field(default_factory=LowRank)
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        require_even("population", self.population)
        if not callable(self.sigma):
            finite("sigma", self.sigma, above=0.0)
        if finite("weight_decay", self.weight_decay) < 0:
            raise reject("weight_decay", self.weight_decay, "is below 0", "give 0 or more")
        if isinstance(self.shaping, str):
            if self.shaping not in RULES:
                raise unknown("shaping", self.shaping, RULES)
            object.__setattr__(self, "shaping", RULES[self.shaping])
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

    def init(self, key: Key, params: Params) -> ESState:
        """State with `params` as the centre; `key` is not used, the strategy starts where told."""
        del key
        centre = float_params(params)
        numbers = {"weight_decay": self.weight_decay}
        if not callable(self.sigma):
            numbers["sigma"] = self.sigma
        return ESState(
            centre=centre,
            optimizer=self.optimizer.init(centre),
            generation=jnp.asarray(0, jnp.int32),
            hyperparameters={k: jnp.asarray(v, jnp.float32) for k, v in numbers.items()},
        )

    def step(self, key: Key, state: ESState, objective: Objective) -> tuple[ESState, Info]:
        """One generation: draw, evaluate N members, estimate, update the centre."""
        state, _, info = self.segment(key, state, (), objective)
        return state, info

    def begin(self, key: Key, state: ESState, objective: Objective) -> Carry:
        """A fresh carry for each member, (N, ...)."""
        del state
        return objective.init_carries(key, self.population)

    def segment(
        self, key: Key, state: ESState, carry: Carry, objective: Objective
    ) -> tuple[ESState, Carry, Info]:
        """One generation on a segment: truncated ES, with fresh noise in every segment.

        Each member goes on from its own carry, which earlier noise has made, and is held to account
        for the noise of this segment alone. So what a parameter does to later segments is not seen:
        the estimate is biased towards what helps within one. `NRES` and `PES` see it.
        """
        sigma = self._sigma(state)
        members = self._members(key, state)
        evaluation, carry = objective.population(members, carry)
        losses = to_minimise(evaluation, self.fitness)
        weights = self.shaping(losses) / (self.population * sigma)
        decay = state.hyperparameters["weight_decay"]
        estimate = jax.tree.map(
            lambda noise, leaf: noise + decay * leaf,
            objective.combine(members, weights),
            state.centre,
        )
        updates, optimizer_state = self.optimizer.update(estimate, state.optimizer, state.centre)
        new = ESState(
            centre=optax.apply_updates(state.centre, updates),
            optimizer=optimizer_state,
            generation=state.generation + 1,
            hyperparameters=state.hyperparameters,
        )
        info = population_info(
            evaluation,
            losses,
            {"sigma": sigma, "estimate_norm": optax.tree.norm(estimate)},
        )
        return keep_if(info.healthy, new, state), carry, info

    def params(self, state: ESState) -> Params:
        """The centre."""
        return state.centre

    def ensemble(self, key: Key, state: ESState, count: int) -> Params:
        """Members of the next generation, in pairs, with its noise (count, ...)."""
        return stack_pairs(self._members(key, state).form, count)

    def space(self) -> dict[str, Axis]:
        """The learning rate, the width of the noise unless it is a schedule, and the population."""
        return {
            **learning_rate(self.optimizer, scale=FEWER_STEPS),
            **({} if callable(self.sigma) else {"sigma": SIGMA}),
            "population": POPULATION,
        }

    @classmethod
    def example(cls) -> Example:
        """Plain gradient descent on the estimate."""
        return Example(cls(population=64, sigma=0.1, optimizer=optax.sgd(0.1)), steps=60)

    def _members(self, key: Key, state: ESState) -> GaussianPairs:
        return GaussianPairs(
            state.centre, key, self._sigma(state), self.population // 2, self.noise
        )

    def _sigma(self, state: ESState) -> jax.Array:
        if callable(self.sigma):
            return jnp.asarray(self.sigma(state.generation), jnp.float32)
        return state.hyperparameters["sigma"]
