"""The gradient learner, as one strategy among the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import optax

from evojax_nar.errors import InputError
from evojax_nar.objective import Objective
from evojax_nar.spaces import Axis, Choice
from evojax_nar.strategies.base import (
    Base,
    Example,
    Fitness,
    check_fitness,
    float_params,
    keep_if,
)
from evojax_nar.strategies.optimizer import (
    Optimizer,
    as_optimizer,
    learning_rate,
    momentum,
    optimizer,
)
from evojax_nar.types import Carry, Cost, Evaluation, Info, Key, Params


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
        state, _, info = self.segment(key, state, (), objective)
        return state, info

    def begin(self, key: Key, state: GradientState, objective: Objective) -> Carry:
        """A fresh carry."""
        del state
        return objective.init_carry(key)

    def segment(
        self, key: Key, state: GradientState, carry: Carry, objective: Objective
    ) -> tuple[GradientState, Carry, Info]:
        """One gradient step on a segment: truncated back-propagation through time.

        What is carried in is a constant, so a gradient goes back to where the segment begins.
        Source: Williams and Peng 1990, BPTT(h; h').
        """
        del key

        def loss(params: Params) -> tuple[jax.Array, tuple[Evaluation, Carry]]:
            evaluation, after = objective(params, carry)
            return evaluation.loss, (evaluation, after)

        (_, (evaluation, carry)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
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
        return keep_if(healthy, new, state), carry, info

    def params(self, state: GradientState) -> Params:
        """The parameters."""
        return state.params

    def space(self) -> dict[str, Axis]:
        """The optimiser's learning rate and momentum, and where the gradient is clipped.

        The limit of its norm matters where back-propagation through time makes it explode.
        """
        return {
            **learning_rate(self.optimizer),
            **momentum(self.optimizer),
            "optimizer.clip": Choice((0.1, 1.0)),
        }

    @classmethod
    def example(cls) -> Example:
        """Plain gradient descent."""
        return Example(cls(optax.sgd(0.1)), steps=60)
