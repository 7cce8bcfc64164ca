"""What strategies made of others share: their parts' settings and hyperparameters."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from evojax_nar.errors import reject, unknown
from evojax_nar.spaces import Axis
from evojax_nar.strategies.base import Base
from evojax_nar.types import State


class Hybrid(Base):
    """Base of strategies that are made of others.

    A state is a NamedTuple that holds the state of each part under the part's name. Hyperparameters
    of a part are called by the part's name, a dot, and their own.
    """

    @property
    @abc.abstractmethod
    def parts(self) -> Mapping[str, Base]:
        """The strategies that this one is made of, by name."""

    def space(self) -> dict[str, Axis]:
        """The spaces of its parts, side by side."""
        return {
            f"{part}.{path}": axis
            for part, strategy in self.parts.items()
            for path, axis in strategy.space().items()
        }

    def hyperparameters(self, state: State) -> dict[str, jax.Array]:
        """Those of its own, and those of its parts."""
        found = dict(getattr(state, "hyperparameters", {}))
        for part, strategy in self.parts.items():
            inner = strategy.hyperparameters(getattr(state, part))
            found |= {f"{part}.{name}": value for name, value in inner.items()}
        return found

    def with_hyperparameters(self, state: State, values: Mapping[str, Any]) -> State:
        """`state` with some hyperparameters replaced, for one point of a sweep.

        Raises:
          InputError: for a name that `hyperparameters(state)` does not have.
        """
        known = self.hyperparameters(state)
        for name in values:
            if name not in known:
                raise unknown("hyperparameter", name, known)
        own = dict(getattr(state, "hyperparameters", {}))
        changed = {name: jnp.asarray(values[name], own[name].dtype) for name in own.keys() & values}
        if changed:
            state = state._replace(hyperparameters=own | changed)
        for part, strategy in self.parts.items():
            begin = f"{part}."
            inner = {n.removeprefix(begin): v for n, v in values.items() if n.startswith(begin)}
            if inner:
                moved = strategy.with_hyperparameters(getattr(state, part), inner)
                state = state._replace(**{part: moved})
        return state


def as_strategy(argument: str, value: Any) -> Base:
    """`value` as a strategy: one as it is, or a mapping or name from a config.

    Raises:
      InputError: for anything else.
    """
    from evojax_nar import strategies  # which imports this

    if isinstance(value, Base):
        return value
    said = {"name": value} if isinstance(value, str) else value
    if not isinstance(said, Mapping) or "name" not in said:
        remedy = "give one such as nar.strategies.ES(), or a mapping with its name and settings"
        raise reject(argument, value, "is no strategy", remedy)
    settings = {key: setting for key, setting in said.items() if key != "name"}
    return strategies.get(said["name"], **settings)
