"""What an arm may spend, per seed, and how many steps that buys."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, final

from evojax_nar.errors import InputError, finite, positive_int, reject
from evojax_nar.types import Strategy


@final
@dataclass(frozen=True)
class Budget:
    """A limit for each seed of each arm; exactly one of the four is given.

    Args:
      forwards: forward-equivalents: one example through one member is 1, a gradient step 3 an
        example.
      examples: examples drawn, however often each is used.
      generations: steps of the strategy.
      seconds: device-seconds of training, compilation and evaluation excluded. A run remembers the
        steps that it realised, so that it can be repeated.

    Raises:
      InputError: where none or several are given, or the number is not finite and above 0.
    """

    forwards: float | None = None
    examples: float | None = None
    generations: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        if len(given) != 1:
            said = ", ".join(given) or "none"
            raise InputError(
                f"budget={said} is not one limit; give one of forwards, examples, generations or "
                "seconds"
            )
        finite(f"budget.{self.kind}", self.amount, above=0.0)

    @property
    def kind(self) -> str:
        """Which limit it is."""
        return next(k for k, v in dataclasses.asdict(self).items() if v is not None)

    @property
    def amount(self) -> float:
        """How much of it."""
        return getattr(self, self.kind)

    @property
    def counted(self) -> bool:
        """Whether the same budget always buys the same steps."""
        return self.seconds is None

    def settings(self) -> dict[str, float]:
        """`{kind: amount}`."""
        return {self.kind: self.amount}

    def price(self, arm: Arm) -> int:
        """What one step of an arm costs, in units of a counted budget."""
        prices = {
            "forwards": arm.strategy.cost.forward_equivalents(arm.batch),
            "examples": arm.examples,
            "generations": 1,
        }
        return prices[self.kind]

    def steps(self, name: str, arm: Arm) -> int | None:
        """Steps that the budget buys an arm; None where only the clock can tell.

        Raises:
          InputError: where it buys none.
        """
        if not self.counted:
            return None
        price = self.price(arm)
        steps = int(self.amount // price)
        if steps < 1:
            raise InputError(
                f"budget.{self.kind}={self.amount:g} does not buy one step of arm {name!r}, which "
                f"costs {price}; raise the budget, or lower its population or batch"
            )
        return steps


@final
@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a strategy, and the examples that each of its steps sees.

    Args:
      strategy: any `Strategy`.
      batch: examples B that each member of a population sees in a step.
      batches: how many different batches a step draws. With 1 all members share one (common random
        numbers); with G each N / G members in turn have their own.

    Raises:
      InputError: for a number below 1, or more than one batch for a strategy that uses gradients.
    """

    strategy: Strategy
    batch: int = 128
    batches: int = 1

    def __post_init__(self) -> None:
        positive_int("batch", self.batch)
        positive_int("batches", self.batches)
        if self.batches > 1 and self.strategy.cost.backwards:
            problem = "is for populations, and this strategy follows gradients"
            raise reject("batches", self.batches, problem, "raise batch instead")

    @property
    def examples(self) -> int:
        """Different examples that a step draws."""
        return self.batch * self.batches


def as_arm(name: str, value: Any) -> Arm:
    """`value` as an arm: an `Arm` as it is, a bare strategy with the default batch."""
    if isinstance(value, Arm):
        return value
    if isinstance(value, Strategy):
        return Arm(value)
    raise InputError(
        f"arms[{name!r}]={value!r} is not a strategy; give one such as nar.strategies.ES(), or "
        "nar.Arm(strategy, batch=...)"
    )
