"""What the built-in strategies share: settings, hyperparameters, and the fitness they read."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from evojax_nar.discrete import is_choices
from evojax_nar.errors import InputError, unknown
from evojax_nar.objective import Objective
from evojax_nar.settings import Configurable
from evojax_nar.spaces import Axis
from evojax_nar.types import Cost, Evaluation, Info, Key, Params, State

Fitness = Literal["loss", "score"]


class Example(NamedTuple):
    """A setting in which a strategy learns quickly; the contract suite holds it to that."""

    strategy: Base
    steps: int


class Base(Configurable, abc.ABC):
    """Base of the built-in strategies; a user's own needs only the `Strategy` protocol.

    A state is a NamedTuple. Where it has a field `hyperparameters` (a mapping of names to scalars)
    those are what a sweep may change, and so are those that optax keeps in an `optimizer` field.
    """

    fitness: Fitness
    gradient_free: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def cost(self) -> Cost:
        """What one step spends."""

    @abc.abstractmethod
    def init(self, key: Key, params: Params) -> State:
        """The state before the first step."""

    @abc.abstractmethod
    def step(self, key: Key, state: State, objective: Objective) -> tuple[State, Info]:
        """One generation, or one gradient step."""

    @abc.abstractmethod
    def params(self, state: State) -> Params:
        """What is deployed."""

    def ensemble(self, key: Key, state: State, count: int) -> Params | None:
        """At most `count` parameter sets that vote together, stacked (C, ...): `readings.Ensemble`.

        Members of the population that `state` stands for. None where there is none, as here.
        """
        del key, state, count
        return None

    @classmethod
    @abc.abstractmethod
    def example(cls) -> Example:
        """A small setting for the contract suite."""

    def space(self) -> dict[str, Axis]:
        """What tuning tries: paths in the config of this strategy to axes, `batch` left out.

        Three or four numbers that matter most, within bounds that hold for any task. Empty, as
        here, where a strategy has not said: tuning is then to be given a space.
        """
        return {}

    def hyperparameters(self, state: State) -> dict[str, jax.Array]:
        """The numbers in `state` that a sweep may change without recompiling."""
        own = dict(getattr(state, "hyperparameters", {}))
        for path, value in _injected(state):
            own[f"optimizer.{path}"] = value
        return own

    def with_hyperparameters(self, state: State, values: Mapping[str, Any]) -> State:
        """`state` with some hyperparameters replaced, for one point of a sweep.

        Raises:
          InputError: for a name that `hyperparameters(state)` does not have.
        """
        known = self.hyperparameters(state)
        for name in values:
            if name not in known:
                raise unknown("hyperparameter", name, known)
        new = {name: jnp.asarray(value, known[name].dtype) for name, value in values.items()}
        own = {n: new.get(n, v) for n, v in getattr(state, "hyperparameters", {}).items()}
        if own:
            state = state._replace(hyperparameters=own)
        inner = {n.removeprefix("optimizer."): v for n, v in new.items() if n not in own}
        return state._replace(optimizer=_inject(state.optimizer, inner)) if inner else state


def check_fitness(value: str) -> None:
    """Raise an `InputError` unless `value` is what a strategy can train on."""
    if value not in ("loss", "score"):
        raise unknown("fitness", value, ("loss", "score"))


def to_minimise(evaluation: Evaluation, fitness: Fitness) -> jax.Array:
    """What a strategy with this `fitness` minimises: the loss, or the score with its sign turned.

    A member whose loss is not finite is broken, whatever its score says: it gives NaN.
    """
    if fitness == "loss":
        return evaluation.loss
    return jnp.where(jnp.isfinite(evaluation.loss), -evaluation.score, jnp.nan)


def population_info(
    evaluation: Evaluation, losses: jax.Array, diagnostics: Mapping[str, jax.Array]
) -> Info:
    """Info of one generation of N members, means over the finite ones.

    Args:
      evaluation: leaves (N,).
      losses: (N,), what was minimised.
      diagnostics: further scalars.
    """
    size = losses.shape[0]
    finite = jnp.isfinite(losses)
    mean = lambda x: jnp.mean(x, where=finite & jnp.isfinite(x))  # noqa: E731
    return Info(
        loss=mean(evaluation.loss),
        score=mean(evaluation.score),
        forwards=jnp.asarray(size, jnp.int32),
        backwards=jnp.asarray(0, jnp.int32),
        healthy=finite.any(),
        diagnostics={
            "best": jnp.min(jnp.where(finite, losses, jnp.inf)),
            "finite": finite.mean(),
            **diagnostics,
        },
    )


def keep_if(condition: jax.Array, new: Any, old: Any) -> Any:
    """`new` where `condition` holds, else `old`, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def stack_pairs(member: Callable[[jax.Array, jax.Array], Params], count: int) -> Params:
    """`count` members of antithetic pairs, stacked (count, ...), + before -.

    Args:
      member: makes one, formed, of the number of its pair (int32) and its sign, 1 or -1 (int32).
      count: how many; of an odd number the last pair is a half.
    """
    index = jnp.arange(count, dtype=jnp.int32)
    # One after another, since what makes a member may be larger than it is.
    return jax.lax.map(lambda place: member(place // 2, 1 - 2 * (place % 2)), index)


def require_even(argument: str, value: Any) -> None:
    """Raise an `InputError` unless `value` is an even whole number of at least 2."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 2 or value % 2:
        raise InputError(
            f"{argument}={value!r} cannot be divided into antithetic pairs; "
            "give an even number of at least 2"
        )


def float_params(params: Params, *, for_choices: str = "strategies.BitFlip") -> Params:
    """`params` with every leaf a strongly typed array in float32; the first state of a strategy.

    Args:
      params: a tree of arrays and numbers.
      for_choices: the strategy to be named where parameters are `Choices`.

    Raises:
      InputError: where a leaf is not of a floating-point type, naming its path.
    """

    def convert(path: Any, leaf: Any) -> jax.Array:
        where = jax.tree_util.keystr(path)
        if is_choices(leaf):
            raise InputError(
                f"params{where} holds choices, which Gaussian noise and gradients cannot move; "
                f"take {for_choices}, or give floating-point parameters"
            )
        array = jnp.asarray(leaf)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise InputError(
                f"params{where} has type {array.dtype}, which Gaussian noise and gradients cannot "
                "move; give floating-point parameters"
            )
        return jax.lax.convert_element_type(array, jnp.float32)

    return jax.tree_util.tree_map_with_path(convert, params, is_leaf=is_choices)


def _is_injected(node: Any) -> bool:
    return isinstance(getattr(node, "hyperparams", None), dict)


def _injected(state: State) -> list[tuple[str, jax.Array]]:
    nodes = jax.tree.leaves(getattr(state, "optimizer", ()), is_leaf=_is_injected)
    return [item for node in nodes if _is_injected(node) for item in node.hyperparams.items()]


def _inject(optimizer_state: Any, values: Mapping[str, jax.Array]) -> Any:
    def change(node: Any) -> Any:
        if not _is_injected(node):
            return node
        merged = {key: values.get(key, value) for key, value in node.hyperparams.items()}
        return node._replace(hyperparams=merged)

    return jax.tree.map(change, optimizer_state, is_leaf=_is_injected)
