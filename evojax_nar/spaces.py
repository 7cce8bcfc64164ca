"""Search spaces: what of an arm is tuned, within which bounds, and the points that are tried.

A space maps paths in the config of an arm ("sigma", "optimizer.learning_rate", "batch") to axes.
The built-in ones say nothing of a task, so that no arm is helped by who wrote them; each strategy
says its own in `Base.space`.
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from evojax_nar.errors import InputError, finite, positive_int, reject
from evojax_nar.settings import plain

MOST_TRIALS = 4096
"""Trials that one arm can be given at most."""
_SPARE, _JUDGED = 4, 64
"""Coordinates that `points` draws beyond those of a space; points by which it chooses."""


class Axis(abc.ABC):
    """One direction of a search space."""

    @abc.abstractmethod
    def at(self, u: float) -> Any:
        """The value at `u` in [0, 1), uniform in `u`."""

    @abc.abstractmethod
    def settings(self) -> dict[str, list[Any]]:
        """The axis in plain values, by what it is called."""


Space: TypeAlias = Mapping[str, Axis]
"""Paths in the config of an arm to axes."""


@final
@dataclass(frozen=True)
class Log(Axis):
    """low * (high / low)^u, to three digits: for numbers whose order of magnitude is not known.

    Raises:
      InputError: unless 0 < low < high, both finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        finite("low", self.low, above=0.0)
        finite("high", self.high, above=self.low)

    def at(self, u: float) -> float:
        """As `Axis.at`."""
        return rounded(self.low * (self.high / self.low) ** u)

    def settings(self) -> dict[str, list[Any]]:
        """`{"log": [low, high]}`."""
        return {"log": [self.low, self.high]}

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} (log)"


@final
@dataclass(frozen=True)
class Linear(Axis):
    """low + u (high - low), to three digits.

    Raises:
      InputError: unless low < high, both finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        finite("low", self.low)
        finite("high", self.high, above=self.low)

    def at(self, u: float) -> float:
        """As `Axis.at`."""
        return rounded(self.low + u * (self.high - self.low))

    def settings(self) -> dict[str, list[Any]]:
        """`{"linear": [low, high]}`."""
        return {"linear": [self.low, self.high]}

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@final
@dataclass(frozen=True)
class Choice(Axis):
    """One of `values`, each as likely as any other.

    Raises:
      InputError: where there are none.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.values, (tuple, list)) or not self.values:
            raise reject("values", self.values, "are no choices", "give a tuple of some")
        object.__setattr__(self, "values", tuple(self.values))

    def at(self, u: float) -> Any:
        """As `Axis.at`."""
        return self.values[math.floor(u * len(self.values))]

    def settings(self) -> dict[str, list[Any]]:
        """`{"choice": [...]}`."""
        return {"choice": plain(self.values)}

    def __str__(self) -> str:
        return "/".join(map(str, self.values))


BATCH = Choice((32, 128))
"""Batches of every arm. Four times apart, any size is within a factor of two of one of them; and
two sizes, unlike many, leave the points of a small search in a few programs."""
POPULATION = Choice((64, 256))
"""Populations of every strategy that has one; for the reason of `BATCH`."""
SIGMA = Log(0.01, 1.0)
"""Widths of noise in units of the parameters, whose fresh values are some tenths."""

CHANCE = Log(1e-3, 0.1)
"""Chances of a gene to change, from one in a thousand to one in ten."""


def points(space: Space, trials: int, seed: int = 0) -> list[dict[str, Any]]:
    """Scrambled Sobol points in `space`, the same for the same arguments.

    Owen 1998, "Scrambling Sobol' and Niederreiter-Xing points", Journal of Complexity 14: a power
    of two of them has as many in each half of each axis. Between two coordinates that need not be
    so when there are few points: of the first eight in four coordinates, the last two agree in
    their halves or always differ, and a large population would never meet a small batch. So some
    coordinates more are drawn, and those are used whose points have the least discrepancy.

    Args:
      space: its axes, at least one.
      trials: how many.
      seed: of the scrambling.

    Raises:
      InputError: for a number of trials that is not from 1 to `MOST_TRIALS`, or an empty space.
    """
    from scipy.stats import qmc  # slow to import, and strategies import this module

    if positive_int("trials", trials) > MOST_TRIALS:
        raise reject("trials", trials, "are too many", f"give at most {MOST_TRIALS}")
    if not space:
        raise InputError("space={} has no axis; give at least one, such as sigma: Log(0.01, 1.0)")
    # Sobol points are balanced in powers of two, and scipy warns of any other number.
    drawn = 1 << (trials - 1).bit_length()
    unit = qmc.Sobol(len(space) + _SPARE, rng=seed).random(drawn)[:trials]
    chosen = min(
        itertools.combinations(range(unit.shape[1]), len(space)),
        key=lambda columns: qmc.discrepancy(unit[:_JUDGED, columns]),
    )
    return [
        {path: axis.at(float(u)) for (path, axis), u in zip(space.items(), row, strict=True)}
        for row in unit[:, chosen]
    ]


def rounded(value: float) -> float:
    """`value` to three significant digits, so that a config reads well."""
    return float(f"{value:.3g}")
