"""Gradients for choices: each is relaxed to a mixture, and hardened before it is deployed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import optax

from evojax_nar.discrete import Choices, Mixture, is_choices, is_mixture, one_hot
from evojax_nar.errors import InputError, finite, reject
from evojax_nar.objective import Objective
from evojax_nar.spaces import Axis, Choice, Log
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
    optimizer,
)
from evojax_nar.types import Cost, Evaluation, Info, Key, Params


@final
@partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=[])
@dataclass(frozen=True)
class Logits:
    """What is trained in place of `Choices` (...): a number for each value, (..., count)."""

    values: jax.Array


def is_logits(node: Any) -> bool:
    """Whether `node` is a `Logits`; for `is_leaf` of tree functions."""
    return isinstance(node, Logits)


class RelaxationState(NamedTuple):
    """State of `Relaxation`."""

    relaxed: Params
    """`Logits` for all choices; floating-point leaves as they are."""
    optimizer: Any
    hyperparameters: dict[str, jax.Array]


@final
@dataclass(frozen=True)
class Relaxation(Base):
    """Back-propagation through choices, with any optax optimiser.

    Each choice has logits l. The objective sees, in its place, the mixture softmax(l / temperature)
    of its values, and its gradient moves the logits; floating-point leaves beside it are trained as
    they are. With `straight_through` the objective sees the likeliest value alone, as a mixture of
    one, and the gradient is taken as if it had seen the softmax. What is deployed is the likeliest
    value in both cases, so what is judged is discrete. The model must read its choices by
    `discrete.select`. Source: Petersen et al. 2022, "Deep differentiable logic gate networks",
    arXiv:2210.08277, section 3, for mixtures by softmax; Bengio et al. 2013, arXiv:1308.3432, for
    straight-through gradients.

    Args:
      optimizer: any optax gradient transformation.
      temperature: of the softmax; the lower, the closer a mixture is to a choice.
      straight_through: see above.
      bonus: first logit of the initial choice, where the others' is 0.
      noise: standard deviation of what is added to the first logits.
      fitness: "loss"; a score need not be differentiable, so "score" is refused.

    Raises:
      InputError: where `fitness` is "score", or a number is out of range.
    """

    name: ClassVar[str] = "relaxation"
    choices: ClassVar[bool] = True
    gradient_free: ClassVar[bool] = False
    optimizer: Optimizer = field(default_factory=lambda: optimizer("adam", learning_rate=1e-2))
    temperature: float = 1.0
    straight_through: bool = False
    bonus: float = 1.0
    noise: float = 0.1
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        check_fitness(self.fitness)
        if self.fitness == "score":
            raise InputError(
                "fitness='score' has no gradient; use fitness='loss', or a gradient-free strategy"
            )
        object.__setattr__(self, "optimizer", as_optimizer("optimizer", self.optimizer))
        finite("temperature", self.temperature, above=0.0)
        if not isinstance(self.straight_through, bool):
            raise reject(
                "straight_through", self.straight_through, "is not allowed", "give true or false"
            )
        for argument in ("bonus", "noise"):
            if finite(argument, getattr(self, argument)) < 0:
                raise reject(argument, getattr(self, argument), "is below 0", "give 0 or more")

    @property
    def cost(self) -> Cost:
        """One forward and one backward pass."""
        return Cost(forwards=1, backwards=1)

    def init(self, key: Key, params: Params) -> RelaxationState:
        """State at logits that lean to `params`, with noise from `key`.

        Raises:
          InputError: where a leaf is neither a choice nor floating-point, naming its path.
        """
        relaxed = self._relax(key, params)
        numbers = {"temperature": jnp.asarray(self.temperature, jnp.float32)}
        return RelaxationState(relaxed, self.optimizer.init(relaxed), numbers)

    def step(
        self, key: Key, state: RelaxationState, objective: Objective
    ) -> tuple[RelaxationState, Info]:
        """One gradient step; skipped where the loss or the gradient is not finite."""
        del key
        temperature = state.hyperparameters["temperature"]

        def loss(relaxed: Params) -> tuple[jax.Array, Evaluation]:
            evaluation, _ = objective(self.seen(relaxed, temperature))
            return evaluation.loss, evaluation

        (_, evaluation), gradient = jax.value_and_grad(loss, has_aux=True)(state.relaxed)
        norm = optax.tree.norm(gradient)
        healthy = jnp.isfinite(evaluation.loss) & jnp.isfinite(norm)
        updates, optimizer_state = self.optimizer.update(gradient, state.optimizer, state.relaxed)
        new = RelaxationState(
            optax.apply_updates(state.relaxed, updates), optimizer_state, state.hyperparameters
        )
        info = Info(
            loss=evaluation.loss,
            score=evaluation.score,
            forwards=jnp.asarray(1, jnp.int32),
            backwards=jnp.asarray(1, jnp.int32),
            healthy=healthy,
            diagnostics={"gradient_norm": norm},
        )
        return keep_if(healthy, new, state), info

    def params(self, state: RelaxationState) -> Params:
        """The likeliest choices, the first where several are; other leaves as they are."""
        return jax.tree.map(
            lambda node: _likeliest(node) if is_logits(node) else node,
            state.relaxed,
            is_leaf=is_logits,
        )

    def seen(self, relaxed: Params, temperature: jax.Array) -> Params:
        """What the objective sees: a `Mixture` for all logits."""

        def convert(node: Any) -> Any:
            if not is_logits(node):
                return node
            soft = jax.nn.softmax(node.values / temperature)
            if not self.straight_through:
                return Mixture(soft)
            # The difference is exactly 0, but for its gradient.
            return Mixture(one_hot(_likeliest(node)).weights + (soft - jax.lax.stop_gradient(soft)))

        return jax.tree.map(convert, relaxed, is_leaf=is_logits)

    def _relax(self, key: Key, params: Params) -> Params:
        mixed = jax.tree.map(
            lambda node: one_hot(node) if is_choices(node) else node, params, is_leaf=is_choices
        )
        nodes, structure = jax.tree.flatten(float_params(mixed), is_leaf=is_mixture)

        def convert(place: int, node: Any) -> Any:
            if not is_mixture(node):
                return node
            own = jax.random.fold_in(key, place)
            noise = jax.random.normal(own, node.weights.shape, jnp.float32)
            return Logits(self.bonus * node.weights + self.noise * noise)

        return jax.tree.unflatten(structure, [convert(*item) for item in enumerate(nodes)])

    def space(self) -> dict[str, Axis]:
        """The learning rate, the temperature, and whether the model sees single choices.

        Rates are higher than for weights, since a logit must go some units before a choice turns.
        """
        return {
            **learning_rate(self.optimizer, scale=10.0),
            "temperature": Log(0.1, 10.0),
            "straight_through": Choice((False, True)),
        }

    @classmethod
    def example(cls) -> Example:
        """Plain gradient descent."""
        return Example(cls(optax.sgd(1.0), straight_through=True), steps=100)


def _likeliest(logits: Logits) -> Choices:
    values = logits.values
    return Choices(jnp.argmax(values, axis=-1).astype(jnp.int32), values.shape[-1])
