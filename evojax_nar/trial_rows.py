"""Points of a search space, trained: those that differ in numbers of the state as one program.

A row is one seed of one point. Rows of a program share its sizes and differ in what the state of
the strategy holds, its hyperparameters, so all of them are one vmap. Nothing is judged here but the
validation data, which are of training sizes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.budget import Arm
from evojax_nar.errors import InputError, reject, unknown
from evojax_nar.evaluator import VALIDATION, Evaluator
from evojax_nar.settings import OPAQUE, Configurable, plain
from evojax_nar.spread import SpreadGroup
from evojax_nar.tally import Tally, count, verdict
from evojax_nar.trainer import Group, Progress, Settings, seed_keys

Point = Mapping[str, Any]
"""Paths in the config of an arm to values."""


class Row(NamedTuple):
    """One seed of one point."""

    trial: int
    point: Point
    seed: int


@dataclass(frozen=True)
class Shared:
    """Trials that one program trains.

    Args:
      group: of the first of them.
      points: by the number of the trial.
      numbers: hyperparameters in the state of its strategy, the points' paths to their names.
    """

    group: Group
    points: dict[int, Point]
    numbers: Mapping[str, str]

    def fits(self, point: Point) -> bool:
        """Whether `point` differs from the others in numbers of the state alone."""
        first = next(iter(self.points.values()))
        return all(path in self.numbers or point[path] == first[path] for path in point)


def arm_at(name: str, arm: Arm, point: Point) -> Arm:
    """`arm` with the settings of a point of its space.

    Raises:
      InputError: for a path that is no setting of it, or a value that its constructor refuses.
    """
    strategy = arm.strategy
    if not dataclasses.is_dataclass(strategy):
        problem = f"of arm {name!r} is no dataclass, so none of its settings can be tuned"
        raise reject("strategy", type(strategy).__name__, problem, "make it a frozen dataclass")
    own = {field.name for field in dataclasses.fields(Arm)} - {"strategy"}
    known = [field.name for field in dataclasses.fields(strategy) if field.init]
    sizes = {path: value for path, value in point.items() if path in own}
    changed: dict[str, Any] = {}
    for path, value in point.items():
        head, _, rest = path.partition(".")
        if path in sizes:
            continue
        if head not in known:
            raise unknown(f"space of arm {name!r}", path, [*known, *own])
        if rest:
            inner = changed[head] if head in changed else _settings(strategy, head)
            value = _assigned(f"{head} of arm {name!r}", inner, rest, value)
        changed[head] = value
    try:
        strategy = dataclasses.replace(strategy, **changed)  # type: ignore[type-var]
        return dataclasses.replace(arm, strategy=strategy, **sizes)
    except InputError as error:
        said = ", ".join(f"{path}={value!r}" for path, value in point.items())
        raise InputError(f"arm {name} at {said}: {error}") from None


def _settings(strategy: Any, field: str) -> Any:
    """A setting of a strategy in plain values, which make it again."""
    said = strategy.settings() if isinstance(strategy, Configurable) else {}
    return said.get(field, plain(getattr(strategy, field)))


def _assigned(where: str, inner: Any, path: str, value: Any) -> dict[str, Any]:
    """A copy of a setting in plain values, with `value` at a path in it; None is an empty one."""
    inner = {} if inner is None else inner
    if not isinstance(inner, Mapping) or OPAQUE in inner:
        problem = f"does not say what it is made of, so {path} in it cannot be tuned"
        raise reject(where, inner, problem, "give it by its settings, or leave it out of the space")
    head, _, rest = path.partition(".")
    return {**inner, head: _assigned(where, inner.get(head), rest, value) if rest else value}


def divide(
    name: str, arm: Arm, points: Sequence[Point], evaluator: Evaluator, settings: Settings
) -> list[Shared]:
    """The points, as the fewest programs that train them.

    Raises:
      InputError: as `arm_at`, or where the budget does not buy one step at a point.
    """
    programs: list[Shared] = []
    for trial, point in enumerate(points):
        own = next((program for program in programs if program.fits(point)), None)
        placed = arm_at(name, arm, point)
        if own is None:
            group = SpreadGroup(name, placed, evaluator, settings)
            programs.append(Shared(group, {trial: point}, _numbers(group, point)))
        else:
            own.points[trial] = point
    return programs


def _numbers(group: Group, point: Point) -> dict[str, str]:
    """The paths of a point whose values are numbers in the state, and what they are called there.

    None of an unroll in segments, whose carry may have been begun with them.
    """
    strategy: Any = group.arm.strategy
    if not hasattr(strategy, "hyperparameters") or group.arm.truncation is not None:
        return {}
    known = strategy.hyperparameters(jax.eval_shape(lambda: group.start((0,))).strategy)
    names = {path: path.removeprefix("numbers.") for path in point}
    return {path: name for path, name in names.items() if name in known}


def train_rows(program: Shared, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Train rows of one program together, each until it reaches the target or its budget ends.

    The loop is that of `trainer.train_group` without checkpoints and without test sizes.

    Args:
      program: whose points they are.
      rows: R of them.

    Returns:
      (R,) what became of each: `seed`, `loss` (the lowest validation loss), `reached`, `stopped`,
      `steps`, `forward_equivalents`, and `curve`, an entry an epoch.
    """
    group = program.group
    settings, evaluator, strategy = group.settings, group.evaluator, group.arm.strategy
    seeds = [row.seed for row in rows]
    progress, keys = _start(program, rows), seed_keys(seeds)
    run = group.compile(len(rows)).run
    tallies = [Tally(seed, segments=group.segments) for seed in seeds]
    best = np.full(len(rows), np.inf, np.float32)
    curves: list[list[dict[str, Any]]] = [[] for _ in rows]
    while any(tally.stopped is None for tally in tallies):
        limits = [min(group.epoch_steps, group.allowed(tally, None)) for tally in tallies]
        begin = time.perf_counter()
        progress, log = run(keys, progress, jnp.asarray(limits, jnp.int32))
        active, info = jax.block_until_ready(log)
        ran = count(tallies, active, info, group.arm, time.perf_counter() - begin)
        judged = evaluator.in_distribution(
            jax.vmap(strategy.params)(progress.strategy),
            examples=settings.validation_examples,
            key=jax.random.key(VALIDATION),
        )
        losses = np.asarray(judged.loss, np.float32)
        best = np.where(losses < best, losses, best)  # NaN is not less
        for place, tally in enumerate(tallies):
            if not ran[place]:
                continue
            left, healthy = group.allowed(tally, None), bool(progress.healthy[place])
            tally.stopped = verdict(healthy, float(best[place]), settings.stop_loss, left)
            entry = {
                "step": tally.steps,
                "forward_equivalents": tally.forward_equivalents,
                "validation_loss": float(judged.loss[place]),
                "validation_score": float(judged.score[place]),
                "deployed_loss": float(best[place]),
            }
            curves[place].append(entry)
    return [
        {
            "seed": tally.seed,
            "loss": float(loss),
            "reached": tally.stopped == "target",
            "stopped": tally.stopped,
            "steps": tally.steps,
            "forward_equivalents": tally.forward_equivalents,
            "curve": curve,
        }
        for tally, loss, curve in zip(tallies, best, curves, strict=True)
    ]


def _start(program: Shared, rows: Sequence[Row]) -> Progress:
    """Fresh runs of the rows' seeds, each with the numbers of its point in its state."""
    group: Group = program.group
    progress = group.start([row.seed for row in rows])
    values = {
        name: np.asarray([row.point[path] for row in rows])
        for path, name in program.numbers.items()
    }
    if not values:
        return progress
    strategy: Any = group.arm.strategy
    state = jax.jit(jax.vmap(strategy.with_hyperparameters))(progress.strategy, values)
    return progress._replace(strategy=state)
