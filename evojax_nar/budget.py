"""What an arm may spend, per seed, and how many steps that buys."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fractions import Fraction
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

    def price(self, arm: Arm, segments: int = 1) -> Fraction:
        """What one step of an arm costs, in units of a counted budget.

        A segment of an unroll costs its share of the whole: those of an episode add up to it. The
        examples of an episode are its first step's, and the price is that.

        Args:
          arm: it.
          segments: S, into which its unrolls are cut.
        """
        prices = {
            "forwards": Fraction(arm.strategy.cost.forward_equivalents(arm.batch), segments),
            "examples": Fraction(arm.examples),
            "generations": Fraction(1),
        }
        return prices[self.kind]

    def left(self, arm: Arm, spent: Fraction, done: int = 0, segments: int = 1) -> int:
        """Steps that the rest of a counted budget buys, where `spent` of it went on `done`."""
        bought = (Fraction(self.amount) - spent) // self.price(arm, segments)
        if self.kind == "examples":  # of whole episodes, after what is left of the one begun
            return int(bought) * segments + -done % segments
        return int(bought)

    def steps(self, name: str, arm: Arm, segments: int = 1) -> int | None:
        """Steps that the budget buys an arm; None where only the clock can tell.

        Raises:
          InputError: where it buys none.
        """
        if not self.counted:
            return None
        steps = self.left(arm, Fraction(0), segments=segments)
        if steps < 1:
            raise InputError(
                f"budget.{self.kind}={self.amount:g} does not buy one step of arm {name!r}, which "
                f"costs {readable(self.price(arm, segments))}; raise the budget, or lower its "
                "population or batch"
            )
        return steps


def readable(number: Fraction) -> int | float:
    """A whole number as an int, any other as a float."""
    return int(number) if number.denominator == 1 else float(number)


@final
@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a strategy, and the examples that each of its steps sees.

    Args:
      strategy: any `Strategy`.
      batch: examples B that each member of a population sees in a step.
      batches: how many different batches a step draws. With 1 all members share one (common random
        numbers); with G each N / G members in turn have their own.
      truncation: K time steps, after each of which a strategy that can learn of a segment of an
        unroll makes a step: see `unroll`. None to unroll all T of them in each step.

    Raises:
      InputError: for a number below 1, or more than one batch for a strategy that uses gradients,
        or together with a truncation.
    """

    strategy: Strategy
    batch: int = 128
    batches: int = 1
    truncation: int | None = None

    def __post_init__(self) -> None:
        positive_int("batch", self.batch)
        positive_int("batches", self.batches)
        if self.batches > 1 and self.strategy.cost.backwards:
            problem = "is for populations, and this strategy follows gradients"
            raise reject("batches", self.batches, problem, "raise batch instead")
        if self.truncation is not None:
            positive_int("truncation", self.truncation)
            if self.batches > 1:
                problem = "cannot go with a truncation, whose members share their examples"
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
