"""The gradient learner, as one strategy among the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import optax

from evojax_nar.errors import InputError
from evojax_nar.objective import Objective
from evojax_nar.strategies.base import (
    Base,
    Example,
    Fitness,
    check_fitness,
    float_params,
    keep_if,
)
from evojax_nar.strategies.optimizer import Optimizer, as_optimizer, optimizer
from evojax_nar.types import Cost, Evaluation, Info, Key, Params


class GradientState(NamedTuple):
    """State of `Gradient`."""

    params: Params
    optimizer: Any


@final
@dataclass(frozen=True)
class Gradient(Base):
    """Back-propagation, through time where the model is recurrent, with any optax optimiser.

    Args:
      optimizer: any optax gradient transformation.
      fitness: "loss"; a score need not be differentiable, so "score" is refused.

    Raises:
      InputError: where `fitness` is "score".
    """

    name: ClassVar[str] = "gradient"
    gradient_free: ClassVar[bool] = False
    optimizer: Optimizer = field(default_factory=lambda: optimizer("adam", learning_rate=1e-3))
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        check_fitness(self.fitness)
        if self.fitness == "score":
            raise InputError(
                "fitness='score' has no gradient; use fitness='loss', or a gradient-free strategy"
            )
        object.__setattr__(self, "optimizer", as_optimizer("optimizer", self.optimizer))

    @property
    def cost(self) -> Cost:
        """One forward and one backward pass."""
        return Cost(forwards=1, backwards=1)

    def init(self, key: Key, params: Params) -> GradientState:
        """State at `params`; `key` is not used."""
        del key
        params = float_params(params, for_choices="strategies.Relaxation")
        return GradientState(params, self.optimizer.init(params))

    def step(
        self, key: Key, state: GradientState, objective: Objective
    ) -> tuple[GradientState, Info]:
        """One gradient step; skipped where the loss or the gradient is not finite."""
        del key

        def loss(params: Params) -> tuple[jax.Array, Evaluation]:
            evaluation, _ = objective(params)
            return evaluation.loss, evaluation

        (_, evaluation), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        norm = optax.tree.norm(gradient)
        healthy = jnp.isfinite(evaluation.loss) & jnp.isfinite(norm)
        updates, optimizer_state = self.optimizer.update(gradient, state.optimizer, state.params)
        new = GradientState(optax.apply_updates(state.params, updates), optimizer_state)
        info = Info(
            loss=evaluation.loss,
            score=evaluation.score,
            forwards=jnp.asarray(1, jnp.int32),
            backwards=jnp.asarray(1, jnp.int32),
            healthy=healthy,
            diagnostics={"gradient_norm": norm},
        )
        return keep_if(healthy, new, state), info

    def params(self, state: GradientState) -> Params:
        """The parameters."""
        return state.params

    @classmethod
    def example(cls) -> Example:
        """Plain gradient descent."""
        return Example(cls(optax.sgd(0.1)), steps=60)
