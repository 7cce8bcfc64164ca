"""One parent and a few mutated children, by which circuits of choices are evolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import positive_int
from evojax_nar.objective import Objective
from evojax_nar.spaces import CHANCE, Axis, Choice
from evojax_nar.strategies.base import (
    Base,
    Example,
    Fitness,
    check_fitness,
    keep_if,
    population_info,
    to_minimise,
)
from evojax_nar.strategies.choices.genes import check_share, choice_params, default_rate
from evojax_nar.strategies.choices.members import Mutants
from evojax_nar.types import Cost, Info, Key, Params


class CartesianGPState(NamedTuple):
    """State of `CartesianGP`."""

    parent: Params
    hyperparameters: dict[str, jax.Array]


@final
@dataclass(frozen=True)
class CartesianGP(Base):
    """(1 + lambda) evolution of choices with neutral drift, as in Cartesian genetic programming.

    Each of lambda children is a copy of the parent in which every gene is redrawn, by a chance,
    among its other values. The best child takes the parent's place where it is no worse: one that
    is as good does, so that genes which make no difference drift. The parent is judged again with
    its children, on the same batch, and is what is deployed. Source: Miller 1999, "An empirical
    study of the efficiency of learning Boolean functions using a Cartesian genetic programming
    approach", GECCO; Miller & Thomson 2000, "Cartesian genetic programming", EuroGP, whose lambda
    is 4. There a fixed number of genes is mutated; here it is so in the mean.

    Args:
      children: lambda.
      rate: chance of a gene to be redrawn; None for 2 / D, which is two genes a child in the mean.
      fitness: "loss" or "score".

    Raises:
      InputError: where a number is out of range.
    """

    name: ClassVar[str] = "cartesian_gp"
    choices: ClassVar[bool] = True
    children: int = 4
    rate: float | None = None
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        positive_int("children", self.children)
        if self.rate is not None:
            check_share("rate", self.rate, positive=True)
        check_fitness(self.fitness)

    @property
    def cost(self) -> Cost:
        """1 + lambda forward passes a generation, the parent's included."""
        return Cost(forwards=1 + self.children, backwards=0)

    def init(self, key: Key, params: Params) -> CartesianGPState:
        """State with `params` as the parent; `key` is not used.

        Raises:
          InputError: where a leaf is no choice, naming its path.
        """
        del key
        params = choice_params(params)
        rate = default_rate(params) if self.rate is None else self.rate
        return CartesianGPState(params, {"rate": jnp.asarray(rate, jnp.float32)})

    def step(
        self, key: Key, state: CartesianGPState, objective: Objective
    ) -> tuple[CartesianGPState, Info]:
        """One generation: parent and children judged on one batch, the best child may take over."""
        members = self._members(key, state)
        evaluation, _ = objective.population(members)
        losses = to_minimise(evaluation, self.fitness)
        ranked = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
        best = 1 + jnp.argmin(ranked[1:])
        accepted = ranked[best] <= ranked[0]
        info = population_info(
            evaluation,
            losses,
            {"accepted": accepted, "neutral": ranked[best] == ranked[0]},
        )
        new = state._replace(parent=keep_if(accepted, members.draw(best), state.parent))
        return keep_if(info.healthy, new, state), info

    def params(self, state: CartesianGPState) -> Params:
        """The parent."""
        return state.parent

    def ensemble(self, key: Key, state: CartesianGPState, count: int) -> Params:
        """The parent and then children of the next generation, at most `count` in all."""
        return self._members(key, state).stack(min(count, 1 + self.children))

    def space(self) -> dict[str, Axis]:
        """The chance of a gene to be redrawn, and lambda, from the source's to a population."""
        return {"rate": CHANCE, "children": Choice((4, 16, 64))}

    @classmethod
    def example(cls) -> Example:
        """Enough children for a few dozen generations."""
        return Example(cls(children=15), steps=150)

    def _members(self, key: Key, state: CartesianGPState) -> Mutants:
        """The parent, which is member 0, and its children."""
        is_child = jnp.arange(1 + self.children) > 0
        only = jnp.zeros(is_child.shape, jnp.int32)
        return Mutants(
            parents=jax.tree.map(lambda leaf: leaf[None], state.parent),
            first=only,
            second=only,
            rate=jnp.where(is_child, state.hyperparameters["rate"], 0),
            key=key,
            units=1 + self.children,
        )
