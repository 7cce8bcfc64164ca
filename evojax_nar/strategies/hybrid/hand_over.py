"""One strategy for some steps, and then another from what the first would deploy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import positive_int
from evojax_nar.objective import Objective
from evojax_nar.placement import recording
from evojax_nar.strategies.base import Base, Example, Fitness, check_fitness, keep_if
from evojax_nar.strategies.es import ES
from evojax_nar.strategies.evosax_adapter import Evosax
from evojax_nar.strategies.gradient import Gradient
from evojax_nar.strategies.hybrid.branching import either
from evojax_nar.strategies.hybrid.parts import Hybrid, as_strategy
from evojax_nar.types import Cost, Info, Key, Params, State


class HandOverState(NamedTuple):
    """State of `HandOver`."""

    first: State
    second: State
    """Of the initial parameters until the hand-over, which makes it anew."""
    step: jax.Array
    """int32, healthy steps done."""
    hyperparameters: dict[str, jax.Array]


@final
@dataclass(frozen=True)
class HandOver(Hybrid):
    """One strategy for `after` steps, and from then on another, which starts where it stopped.

    The second begins with the parameters that the first would deploy and with nothing else of it:
    moments and widths are fresh. Evolve, then descend, or the other way round; Lehman et al. 2018,
    arXiv:1712.06568, is a reason for the one, and a rough loss for the other.

    A step costs what the strategy that makes it costs, and `Info` says so; `cost` is an upper bound
    on that, the larger number of forward and of backward passes, by which the trainer plans. It
    goes by what has been spent, so the cheaper part gets as many steps as it pays for.

    Only the part whose turn it is is computed, under vmap too while all seeds are in the same
    part. Where they are not (a sweep over `after`, or seeds of which one has stopped) both are
    computed: what is counted is still what each seed used, but device time is that of both.

    Args:
      first: the strategy to begin with.
      second: the one that goes on.
      after: steps of the first.
      fitness: "loss" or "score", which both then follow; None for what each says itself.

    Raises:
      InputError: for what is no strategy, for `after` below 1, or for a score that a part cannot
        follow.
    """

    name: ClassVar[str] = "hand_over"
    gradient_free: ClassVar[bool] = False
    """Of the class; one that is made of gradient-free parts says otherwise of itself."""
    first: Base = field(default_factory=ES)
    second: Base = field(default_factory=Gradient)
    after: int = 500
    fitness: Fitness | None = None

    def __post_init__(self) -> None:
        positive_int("after", self.after)
        if self.fitness is not None:
            check_fitness(self.fitness)
        for name in ("first", "second"):
            part: Any = as_strategy(name, getattr(self, name))
            if self.fitness is not None:
                part = dataclasses.replace(part, fitness=self.fitness)
            object.__setattr__(self, name, part)
        free = self.first.gradient_free and self.second.gradient_free
        object.__setattr__(self, "gradient_free", free)

    @property
    def parts(self) -> Mapping[str, Base]:
        """Both, by their names."""
        return {"first": self.first, "second": self.second}

    @property
    def cost(self) -> Cost:
        """An upper bound: no step of either part spends more."""
        costs = [part.cost for part in self.parts.values()]
        return Cost(
            forwards=max(cost.forwards for cost in costs),
            backwards=max(cost.backwards for cost in costs),
        )

    def init(self, key: Key, params: Params) -> HandOverState:
        """State of both at `params`."""
        first, second = jax.random.split(key)
        return HandOverState(
            first=self.first.init(first, params),
            second=self.second.init(second, params),
            step=jnp.asarray(0, jnp.int32),
            hyperparameters={"after": jnp.asarray(self.after, jnp.int32)},
        )

    def step(
        self, key: Key, state: HandOverState, objective: Objective
    ) -> tuple[HandOverState, Info]:
        """One step of the part whose turn it is. Diagnostics of the other are NaN."""
        names = self._diagnostics(key, state, objective)

        def report(info: Info) -> Info:
            own = {name: jnp.asarray(value) for name, value in info.diagnostics.items()}
            filled = {n: jnp.float32(own.get(n, jnp.nan)) for n in names}
            return info._replace(diagnostics=filled)

        def begin(key: Key, state: HandOverState, objective: Objective) -> Any:
            inner, info = self.first.step(key, state.first, objective)
            return state._replace(first=inner), report(info)

        def go_on(key: Key, state: HandOverState, objective: Objective) -> Any:
            start, own = jax.random.split(key)
            arrives = state.step == state.hyperparameters["after"]
            second = either(arrives, self._hand_over, lambda _, s: s.second, start, state)
            inner, info = self.second.step(own, second, objective)
            return state._replace(second=inner), report(info)

        on_first = state.step < state.hyperparameters["after"]
        new, info = either(on_first, begin, go_on, key, state, objective)
        info = info._replace(
            diagnostics={**info.diagnostics, "on_second": 1 - on_first.astype(jnp.float32)}
        )
        return keep_if(info.healthy, new._replace(step=state.step + 1), state), info

    def params(self, state: HandOverState) -> Params:
        """What the part deploys that made the last step."""
        second, first = self.second.params(state.second), self.first.params(state.first)
        return keep_if(self._has_begun(state), second, first)

    def ensemble(self, key: Key, state: HandOverState, count: int) -> Params | None:
        """That of the second, None where it has none; before its turn, copies of what is deployed.

        The first one's is not taken: what it stands for is no longer what is deployed.
        """
        members = self.second.ensemble(key, state.second, count)
        if members is None:
            return None
        deployed = self.params(state)
        copies = jax.tree.map(
            lambda leaf, own: jnp.broadcast_to(own, leaf.shape), members, deployed
        )
        return keep_if(self._has_begun(state), members, copies)

    @classmethod
    def example(cls) -> Example:
        """Two steps with narrow noise, and then with wider, both without numbers to be swept."""
        narrow, wide = (Evosax("SNES", population=32, std=std) for std in (0.05, 0.1))
        return Example(cls(narrow, wide, after=2), steps=60)

    def _has_begun(self, state: HandOverState) -> jax.Array:
        return state.step > state.hyperparameters["after"]

    def _hand_over(self, key: Key, state: HandOverState) -> State:
        """A fresh state of the second, with the hyperparameters that a sweep may have given it."""
        fresh = self.second.init(key, self.first.params(state.first))
        return self.second.with_hyperparameters(fresh, self.second.hyperparameters(state.second))

    def _diagnostics(self, key: Key, state: HandOverState, objective: Objective) -> list[str]:
        """The names of what either part reports."""
        found: dict[str, None] = {}
        with recording():  # by whoever else listens, populations are to be heard of once
            for name, part in self.parts.items():
                _, info = jax.eval_shape(part.step, key, getattr(state, name), objective)
                found |= dict.fromkeys(info.diagnostics)
        return list(found)
