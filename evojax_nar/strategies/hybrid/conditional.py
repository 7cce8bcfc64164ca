"""A gradient step where it helps, and a step of evolution where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, final

import jax.numpy as jnp
import optax

from evojax_nar.errors import InputError, reject
from evojax_nar.objective import Objective
from evojax_nar.strategies.base import Base, Example, Fitness, check_fitness, keep_if
from evojax_nar.strategies.es import ES, ESState
from evojax_nar.strategies.gradient import Gradient, GradientState
from evojax_nar.strategies.hybrid.branching import either
from evojax_nar.strategies.hybrid.parts import Hybrid, as_strategy
from evojax_nar.types import Cost, Info, Key, Params


class ConditionalGradientState(NamedTuple):
    """State of `ConditionalGradient`."""

    gradient: GradientState
    evolution: ESState | tuple[()]
    """Its centre is always the parameters of `gradient`; `()` where there is no such part."""


@final
@dataclass(frozen=True)
class ConditionalGradient(Hybrid):
    """A gradient step where it lowers the loss of its batch, else a step of evolution, or none.

    The test is one forward pass more: the step is taken where the loss of the same batch after it
    is finite and below the one before it. Where the gradient is nothing to go by (a plateau, a
    cliff, a NaN) the evolution strategy makes a generation from the same parameters on the same
    batch. Each part keeps its own optimiser; that of the gradient sees every finite gradient,
    whether its step is taken or not. Not the method of Frank and Wolfe, which has this name too.

    A step that helps costs two forward passes and one backward pass, one that does not N more
    forward passes; `Info` says which. `cost` is the latter, an upper bound, by which the trainer
    plans; it goes by what has been spent, so what helps cheaply makes more steps. Under vmap a
    generation that one seed needs is computed for all of them, and counted for that one alone.

    Args:
      gradient: the gradient learner.
      evolution: an evolution strategy with a centre; None to stay where the gradient does not help.
      fitness: "loss"; a score need not be differentiable, so "score" is refused.

    Raises:
      InputError: for parts of other kinds, or where `fitness` is "score".
    """

    name: ClassVar[str] = "conditional_gradient"
    gradient_free: ClassVar[bool] = False
    gradient: Gradient = field(default_factory=Gradient)
    evolution: ES | None = field(default_factory=ES)
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        check_fitness(self.fitness)
        if self.fitness == "score":
            raise InputError(
                "fitness='score' has no gradient; use fitness='loss', or a gradient-free strategy"
            )
        for name, kind in (("gradient", Gradient), ("evolution", ES)):
            if name == "evolution" and self.evolution is None:
                continue
            part = as_strategy(name, getattr(self, name))
            if not isinstance(part, kind):
                remedy = f"give a strategies.{kind.__name__}"
                raise reject(name, part.name, "cannot take that part", remedy)
            object.__setattr__(self, name, part)

    @property
    def parts(self) -> Mapping[str, Base]:
        """The gradient learner, and the evolution strategy where there is one."""
        own: dict[str, Base] = {"gradient": self.gradient}
        return own if self.evolution is None else {**own, "evolution": self.evolution}

    @property
    def cost(self) -> Cost:
        """An upper bound: the gradient, its test and a generation."""
        generation = 0 if self.evolution is None else self.evolution.cost.forwards
        return Cost(forwards=2 + generation, backwards=1)

    def init(self, key: Key, params: Params) -> ConditionalGradientState:
        """State at `params`."""
        gradient = self.gradient.init(key, params)
        if self.evolution is None:
            return ConditionalGradientState(gradient, ())
        return ConditionalGradientState(gradient, self.evolution.init(key, params))

    def step(
        self, key: Key, state: ConditionalGradientState, objective: Objective
    ) -> tuple[ConditionalGradientState, Info]:
        """The gradient, its test, and a generation where that fails."""
        before = state.gradient.params
        moved, info = self.gradient.step(key, state.gradient, objective)
        after, _ = objective(moved.params)
        helps = info.healthy & jnp.isfinite(after.loss) & (after.loss < info.loss)
        params, evolution, healthy, forwards = either(
            helps,
            self._take,
            self._evolve,
            *(key, before, moved.params, state.evolution, info.healthy, objective),
        )
        new = ConditionalGradientState(moved._replace(params=params), evolution)
        info = info._replace(
            forwards=info.forwards + 1 + forwards,
            healthy=healthy,
            diagnostics={**info.diagnostics, "helps": helps.astype(jnp.float32)},
        )
        return keep_if(healthy, new, state), info

    def params(self, state: ConditionalGradientState) -> Params:
        """The parameters."""
        return state.gradient.params

    @classmethod
    def example(cls) -> Example:
        """Plain gradient descent that stays where it does not help."""
        return Example(cls(Gradient(optax.sgd(0.1)), None), steps=60)

    def _take(
        self, key: Key, before: Params, moved: Params, evolution: Any, healthy: Any, objective: Any
    ) -> tuple[Any, ...]:
        """Where the gradient goes, and no evaluation more."""
        if self.evolution is not None:
            evolution = evolution._replace(centre=moved)
        return moved, evolution, healthy, jnp.asarray(0, jnp.int32)

    def _evolve(
        self, key: Key, before: Params, moved: Params, evolution: Any, healthy: Any, objective: Any
    ) -> tuple[Any, ...]:
        """Where a generation goes, which may have been healthy where the gradient was not."""
        if self.evolution is None:
            return before, evolution, healthy, jnp.asarray(0, jnp.int32)
        evolution, info = self.evolution.step(key, evolution, objective)
        return evolution.centre, evolution, healthy | info.healthy, info.forwards
