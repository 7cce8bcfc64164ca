"""What each seed has spent and where it stands: counted from what the steps themselves report."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from evojax_nar.budget import Arm, readable
from evojax_nar.evaluator import Judged
from evojax_nar.types import BACKWARD_COST, Info


@dataclass
class Tally:
    """What one seed has spent, counted, and why it stopped."""

    seed: int
    steps: int = 0
    examples: int = 0
    forwards: int = 0
    backwards: int = 0
    device_seconds: float = 0.0
    stopped: str | None = None
    segments: int = 1
    """Into which unrolls are cut; forwards and backwards are passes through one of them."""

    @property
    def forward_equivalents(self) -> int | float:
        """Forward and backward passes, per example, in units of a forward pass of a whole unroll.

        A whole number unless unrolls are cut.
        """
        return readable(self.spent("forwards"))

    def spent(self, kind: str) -> Fraction:
        """How much of a budget of this kind is gone, exactly."""
        passes = self.forwards + BACKWARD_COST * self.backwards
        return {
            "forwards": Fraction(passes, self.segments),
            "examples": Fraction(self.examples),
            "generations": Fraction(self.steps),
            "seconds": Fraction(self.device_seconds),
        }[kind]


def count(
    tallies: list[Tally], active: jax.Array, info: Info, arm: Arm, elapsed: float
) -> list[bool]:
    """Add what an epoch really did to the tallies; which seeds took part in it."""
    done = np.asarray(active)  # (S, K) bool
    forwards = (np.asarray(info.forwards, np.int64) * done).sum(1) * arm.batch
    backwards = (np.asarray(info.backwards, np.int64) * done).sum(1) * arm.batch
    for row, tally in enumerate(tallies):
        steps = int(done[row].sum())
        if steps == 0:
            continue
        tally.steps += steps
        # An episode's examples are drawn once, at its first segment.
        tally.examples = -(-tally.steps // tally.segments) * arm.examples
        tally.forwards += int(forwards[row])
        tally.backwards += int(backwards[row])
        # The seeds of a group share the device: each is charged its part of the time.
        tally.device_seconds += elapsed / len(tallies)
    return [bool(row.any()) for row in done]


def verdict(healthy: bool, best: float, stop_loss: float | None, left: int) -> str | None:
    """Why a seed stops after an epoch: unhealthy, target or budget; None where it goes on."""
    if not healthy:
        return "unhealthy"
    if stop_loss is not None and best <= stop_loss:
        return "target"
    return "budget" if left < 1 else None


def record(
    row: int,
    epoch: int,
    tally: Tally,
    active: jax.Array,
    info: Info,
    judged: Judged,
    best: float,
    monitored: dict[int, Judged | None],
) -> dict[str, Any]:
    """One line of the metrics of a seed: the epoch's means, and what it would deploy now."""
    done = np.asarray(active[row])

    def mean(values: jax.Array) -> float:
        return float(np.mean(np.asarray(values[row], np.float64)[done]))

    return {
        "seed": tally.seed,
        "epoch": epoch,
        "step": tally.steps,
        "forward_equivalents": tally.forward_equivalents,
        "examples": tally.examples,
        "generations": tally.steps,
        "train_loss": mean(info.loss),
        "train_score": mean(info.score),
        "validation_loss": float(judged.loss[row]),
        "validation_score": float(judged.score[row]),
        "deployed_loss": best,
        "scores": {
            str(s): None if j is None else float(j.score[row]) for s, j in monitored.items()
        },
        "diagnostics": {name: mean(values) for name, values in info.diagnostics.items()},
        "stopped": tally.stopped,
        "device_seconds": tally.device_seconds,
    }
