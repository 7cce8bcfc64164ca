"""Optimisers by name: plain enough for a config, with numbers that can be swept."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Protocol, final

import optax

from evojax_nar.errors import InputError, finite, reject, unknown
from evojax_nar.settings import Configurable, build
from evojax_nar.spaces import Axis, Choice, Log, rounded
from evojax_nar.strategies.clipup import clipup

NAMES = ("adam", "adamw", "nadam", "sgd", "rmsprop", "adagrad", "lion", "lamb", "radam", "yogi")
"""Those of optax."""

RULES = {**{name: getattr(optax, name) for name in NAMES}, "clipup": clipup}
"""All that have a name: functions of numbers that give an optax gradient transformation."""

NOT_NUMBERS = ("mask", "mu_dtype", "accumulator_dtype")
"""Arguments in optax that are functions or types; an optimiser made in a script may have them."""


class Optimizer(Protocol):
    """Anything with optax's `init` and `update`: every optax gradient transformation."""

    @property
    def init(self) -> Any:
        """`init(params) -> state`."""
        ...

    @property
    def update(self) -> Any:
        """`update(gradient, state, params) -> (updates, state)`."""
        ...


@final
@dataclass(frozen=True)
class Named(Configurable):
    """An optimiser by its name, its numbers kept in its state by `inject_hyperparams`.

    Args:
      rule: one of `RULES`.
      numbers: its keyword arguments, as sorted pairs.
      clip: largest global norm of the gradient; None for no limit.
    """

    rule: str
    numbers: tuple[tuple[str, float | bool], ...]
    clip: float | None = None

    def settings(self) -> dict[str, Any]:
        """The mapping that `optimizer(**settings)` makes this from."""
        clip = {} if self.clip is None else {"clip": self.clip}
        return {"name": self.rule, **dict(self.numbers), **clip}

    def _transformation(self) -> optax.GradientTransformation:
        rule = optax.inject_hyperparams(RULES[self.rule])(**dict(self.numbers))
        if self.clip is None:
            return rule
        return optax.chain(optax.clip_by_global_norm(self.clip), rule)

    def init(self, params: Any) -> Any:
        """State for `params`, hyperparameters included."""
        return self._transformation().init(params)

    def update(self, gradient: Any, state: Any, params: Any = None) -> Any:
        """Updates to be added to the parameters, and the next state."""
        return self._transformation().update(gradient, state, params)


def optimizer(name: str, *, clip: float | None = None, **numbers: float | bool) -> Named:
    """The optimiser called `name`, with numbers that a sweep can change without recompiling.

    Args:
      name: one of `RULES`.
      clip: largest global norm of the gradient; None for no limit.
      **numbers: its keyword arguments, `learning_rate` among them.

    Raises:
      InputError: for an unknown name or argument, or a number that is not finite.
    """
    if name not in RULES:
        raise unknown("optimizer", name, RULES)
    accepted = inspect.signature(RULES[name]).parameters
    for key, value in numbers.items():
        argument = f"optimizer.{key}"
        if key in NOT_NUMBERS:
            raise reject(argument, value, "is not a number in optax", "leave it out")
        if key not in accepted:
            continue  # `build` names the nearest one
        if not isinstance(accepted[key].default, bool):
            finite(argument, value)
        elif not isinstance(value, bool):
            raise reject(argument, value, "is not allowed", "give true or false")
    build("optimizer", RULES, name, numbers)
    if clip is not None:
        finite("optimizer.clip", clip, above=0.0)
    return Named(name, tuple(sorted(numbers.items())), clip)


def as_optimizer(argument: str, value: Any) -> Optimizer:
    """`value` as an optimiser: an optax transformation as it is, or a mapping from a config."""
    if isinstance(value, dict):
        if "name" not in value:
            raise InputError(f"{argument}={value!r} has no name; add one such as name: adam")
        return optimizer(**value)
    if callable(getattr(value, "init", None)) and callable(getattr(value, "update", None)):
        return value
    raise InputError(
        f"{argument}={value!r} is not an optimiser; give an optax one such as optax.adam(1e-2)"
    )


FEWER_STEPS = 10.0
"""`scale` of `learning_rate` for estimates of a population: at equal cost it takes some hundred
times fewer steps than a gradient, so each must go further."""

_ADAPTIVE = (3e-4, 3e-2)
_RATES = {"sgd": (1e-2, 1.0), "clipup": (1e-2, 1.0), "lion": (3e-5, 3e-3)}
_KEPT = Choice((0.8, 0.9, 0.95))
_MOMENTUM = {
    "sgd": ("momentum", Choice((0.0, 0.9, 0.95))),
    "clipup": ("momentum", _KEPT),
    **dict.fromkeys(("adam", "adamw", "nadam", "radam", "lamb", "lion", "yogi"), ("b1", _KEPT)),
}


def learning_rate(value: Optimizer, *, scale: float = 1.0) -> dict[str, Axis]:
    """The axis of the learning rate, by its path in a strategy: two decades, by the rule.

    Adaptive rules move a parameter by about the learning rate in a step whatever the scale of the
    gradient, so one range holds for all tasks; `lion` takes ten times less (Chen et al. 2023,
    arXiv:2302.06675, section 5). `sgd` and `clipup`, which do not, have ranges of their own.

    Args:
      value: an optimiser by name.
      scale: multiplies the range of adaptive rules: see `FEWER_STEPS`.

    Raises:
      InputError: for an optimiser that has no name, whose numbers cannot be seen.
    """
    rule = _rule(value)
    low, high = _RATES.get(rule, _ADAPTIVE)
    factor = 1.0 if rule in ("sgd", "clipup") else scale
    return {"optimizer.learning_rate": Log(rounded(factor * low), rounded(factor * high))}


def momentum(value: Optimizer) -> dict[str, Axis]:
    """The axis of what a rule keeps of the steps before, by its path; none for rules without it.

    Raises:
      InputError: as `learning_rate`.
    """
    found = _MOMENTUM.get(_rule(value))
    return {} if found is None else {f"optimizer.{found[0]}": found[1]}


def _rule(value: Optimizer) -> str:
    if isinstance(value, Named):
        return value.rule
    raise InputError(
        f"optimizer={type(value).__name__} was made in a script, so it cannot be tuned; "
        'take strategies.optimizer("adam", learning_rate=...), or give a space without it'
    )
