"""What training an arm will need, predicted before anything runs: FLOPs, memory, time at best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from evojax_nar import cost
from evojax_nar.cost import readable_bytes
from evojax_nar.errors import InputError
from evojax_nar.placement import LOCAL, Chunk, Placement
from evojax_nar.types import Model, Strategy, Task

if TYPE_CHECKING:
    from evojax_nar.budget import Arm

MEMORY_SHARE = 0.8
"""Share of the free memory that a program may use."""


@final
@dataclass(frozen=True)
class Forecast:
    """What one step of an arm needs, for each of its seeds.

    Args:
      name: of the arm.
      flops: of a step.
      state_bytes: what is kept between steps.
      chunks: how each population of a step is divided; none where there is no population.
    """

    name: str
    flops: float
    state_bytes: int
    chunks: tuple[Chunk, ...]

    @property
    def peak_bytes(self) -> int:
        """What is kept, and the largest chunk."""
        return self.state_bytes + max((chunk.peak_bytes for chunk in self.chunks), default=0)

    @property
    def members(self) -> int:
        """Members that a step evaluates; 0 where there is no population."""
        return sum(chunk.units * chunk.width for chunk in self.chunks)

    def members_per_second(self) -> float:
        """At most so many: the FLOPs of a step at the speed of a large matrix product here."""
        return self.members * cost.flops_per_second() / self.flops

    def __str__(self) -> str:
        step = f"{self.name}: {self.flops:.2g} FLOPs a step"
        if not self.chunks:
            return step
        parts = ", ".join(map(str, self.chunks))
        return f"{step}; {parts}; about {readable_bytes(self.peak_bytes)}"


def forecast(
    task: Task,
    model: Model,
    strategy: Arm | Strategy,
    *,
    name: str = "arm",
    placement: Placement = LOCAL,
    forward_dtype: str = "float32",
) -> Forecast:
    """What one step of training needs; nothing is run or compiled.

    Args:
      task: what is learned.
      model: what is trained.
      strategy: how; or `Arm(strategy, batch=...)`.
      name: of the arm, for messages.
      placement: devices and chunks of populations.
      forward_dtype: as in `compare`.

    Raises:
      InputError: where it does not fit into the memory that is free, naming what would.
    """
    # The trainer makes forecasts of its own.
    from evojax_nar.budget import Budget, as_arm
    from evojax_nar.evaluator import Evaluator
    from evojax_nar.trainer import Group, Settings

    settings = Settings(Budget(generations=1), forward_dtype=forward_dtype, placement=placement)
    group = Group(name, as_arm("strategy", strategy), Evaluator(task, model), settings)
    found = group.forecast(1)
    check(found, placement)
    return found


def check(forecast: Forecast, placement: Placement) -> None:
    """Refuse an arm that cannot fit, before anything is written.

    Raises:
      InputError: naming what would make it fit.
    """
    free = MEMORY_SHARE * cost.available_bytes()
    if forecast.peak_bytes <= free:
        return
    name = forecast.name
    if forecast.state_bytes > free:
        remedy = f"lower --hidden, or --set arms.{name}.population=N"
    elif placement.chunk != "auto":
        remedy = "lower --chunk, or give --chunk auto"
    else:
        remedy = f"lower --set arms.{name}.batch=B, or --hidden"
    raise InputError(
        f"arm {name!r} needs about {readable_bytes(forecast.peak_bytes)} and "
        f"{readable_bytes(free)} can be had; {remedy}"
    )
