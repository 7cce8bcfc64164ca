"""Equal tuning: every arm has as many trials, of the same budget and seeds, in a space of its own.

A trial is a point of the arm's space, trained on a few seeds that the comparison does not use. It
is judged by the validation loss, which is of training sizes alone; a test size is never drawn.
What is chosen is frozen before the comparison. After the external tuning of Dahl et al. 2023,
"Benchmarking neural network training algorithms", arXiv:2306.07179, section 4: quasi-random points
of a published space that no workload shapes, and the cost to reach a target.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evojax_nar import config as configs
from evojax_nar import environment, spaces
from evojax_nar.budget import Arm, Budget, as_arm
from evojax_nar.comparison import together
from evojax_nar.errors import InputError, finite, reject, unknown
from evojax_nar.files import read_json, write_json
from evojax_nar.folder import ArmFolder, Folder, fresh
from evojax_nar.forecasting import check as check_forecast
from evojax_nar.placement import LOCAL, Placement
from evojax_nar.processes import first, is_first
from evojax_nar.progress import Display, Quiet
from evojax_nar.readings import Reading
from evojax_nar.settings import plain
from evojax_nar.spaces import Space
from evojax_nar.spread import SpreadEvaluator
from evojax_nar.trainer import Settings
from evojax_nar.trial_rows import Point, Row, Shared, arm_at, divide, train_rows
from evojax_nar.tuned import Tuned, rank
from evojax_nar.types import Model, Strategy, Task

SCHEMA = 1
FIRST_SEED = 1000
"""Tuning seeds are counted from here, comparisons' from 0."""
RECORD, UNTUNED, TUNED = "tuning.json", "untuned.yaml", "config.yaml"
"""What is written: every trial, the comparison as it was given, and with the choices in it."""


def tune(
    task: Task,
    model: Model,
    arms: Mapping[str, Arm | Strategy],
    *,
    trials: int = 8,
    seeds: int | Sequence[int] = 2,
    budget: Budget,
    share: float = 0.25,
    stop_loss: float | None = None,
    spaces: Mapping[str, Space] | None = None,
    compare_seeds: int | Sequence[int] = 3,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    evaluation_examples: int = 1024,
    forward_dtype: str = "float32",
    readings: Sequence[Reading] = (),
    placement: Placement = LOCAL,
    progress: bool = True,
) -> Tuned:
    """Try as many points of its space for each arm, and choose the best by validation loss.

    Best are the trials with the most seeds that reached `stop_loss`; among those with as many, and
    at least one, the cheapest, over all of its seeds; then the one with the lowest mean validation
    loss of what its seeds would deploy, not finite last; then the first. Test sizes are not seen.

    Args:
      task: what is learned.
      model: the same for every arm.
      arms: name to strategy, or to `Arm(strategy, batch=...)`; what a space does not name stays.
      trials: points of each arm's space.
      seeds: of a trial: how many, counted from 1000, or which.
      budget: that of the comparison, for each seed of each arm; not in seconds.
      share: of it that each seed of a trial may spend.
      stop_loss: the target, and that of the comparison; None to rank by loss alone.
      spaces: for arms by name, what is tuned in place of `Base.space` and the batch.
      compare_seeds: seeds of the comparison, as in `compare`.
      out: results folder; None for a fresh numbered one under `results`.
      resume: continue the tuning in `out`, from the trials that are finished.
      overwrite: replace what is in `out`.
      evaluation_examples: of the comparison.
      forward_dtype: as in `compare`.
      readings: of the comparison.
      placement: devices and chunks of populations.
      progress: show what is going on.

    Raises:
      InputError: for bad input, before anything is written, such as seeds that the comparison uses
        too; or where `out` belongs to another run.
    """
    which = _tuning_seeds(seeds)
    config = configs.describe(
        task,
        model,
        arms,
        seeds=compare_seeds,
        budget=budget,
        stop_loss=stop_loss,
        evaluation_examples=evaluation_examples,
        forward_dtype=forward_dtype,
        readings=readings,
    )
    if shared := set(which) & set(config["seeds"]):
        remedy = "keep those of tuning apart from those of the comparison"
        raise reject("seeds", sorted(shared), "are tuned on and compared on", remedy)
    limit = trial_budget(budget, share)
    chosen_spaces = _spaces(arms, {} if spaces is None else spaces)
    plans = {name: _points(space, trials) for name, space in chosen_spaces.items()}
    settings = Settings(
        budget=limit, stop_loss=stop_loss, forward_dtype=forward_dtype, placement=placement
    )
    evaluator = SpreadEvaluator(task, model)
    programs = {
        name: divide(name, as_arm(name, arms[name]), plan, evaluator, settings)
        for name, plan in plans.items()
    }
    for program in [program for own in programs.values() for program in own]:
        forecast = program.group.forecast(1)
        first(partial(check_forecast, forecast, placement))
    record = _plain_json(
        {
            "schema": SCHEMA,
            "config": config,
            "trials": trials,
            "seeds": which,
            "share": share,
            "budget": limit.settings(),
            "spaces": {
                name: {path: axis.settings() for path, axis in space.items()}
                for name, space in chosen_spaces.items()
            },
            "points": plain(plans),
        }
    )
    stem = config["task"]["name"].replace("/", "-") + "-tuning"
    path = Path(first(lambda: str(fresh(Path("results"), stem) if out is None else out)))
    with Folder(path, resume=resume or out is None, overwrite=overwrite) as folder:
        first(lambda: _settle(path, record, resume))
        with Display(path) if progress and is_first() else Quiet() as display:
            say = display.say if progress else lambda sentence: None
            entries = {}
            for name, own in programs.items():
                found = _train(name, own, which, trials, folder.arm(name), say)
                entries[name] = _entry(found)
        arms = {
            name: arm_at(name, as_arm(name, arms[name]), plans[name][entry["chosen"]])
            for name, entry in entries.items()
        }
        full = _plain_json({**record, "environment": environment.describe(), "arms": entries})
        tuned = Tuned(dict(arms), full, path)
        first(lambda: configs.dump_yaml(tuned.config, path / TUNED))
        first(lambda: write_json(path / RECORD, full))
    return tuned


def trial_budget(budget: Budget, share: float) -> Budget:
    """What each seed of a trial may spend: a share of what each seed of the comparison may.

    Raises:
      InputError: for a share that is not above 0 and at most 1, or a budget in seconds.
    """
    if finite("share", share, above=0.0) > 1:
        raise reject("share", share, "is more than the comparison may spend", "give at most 1")
    if not budget.counted:
        problem = "cannot be divided among trials that run as one program"
        remedy = "give forwards, examples or generations"
        raise reject("budget.seconds", budget.amount, problem, remedy)
    return Budget(**{budget.kind: share * budget.amount})


def _tuning_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    which = configs.check_seeds(seeds)
    return tuple(FIRST_SEED + seed for seed in which) if isinstance(seeds, int) else which


def _spaces(arms: Mapping[str, Any], given: Mapping[str, Space]) -> dict[str, Space]:
    """The space of each arm: what is given, or its strategy's own and the batch."""
    for name in given:
        if name not in arms:
            raise unknown("spaces", name, arms)
    found: dict[str, Space] = {}
    for name, arm in arms.items():
        if name in given:
            found[name] = _checked(name, given[name])
            continue
        strategy: Any = as_arm(name, arm).strategy
        try:
            own = strategy.space() if hasattr(strategy, "space") else {}
        except InputError as error:
            raise InputError(f"arm {name}: {error}") from None
        if not own:
            raise InputError(
                f"arms[{name!r}] is a {type(strategy).__name__}, which has no search space; give "
                f"one, such as spaces={{{name!r}: {{'sigma': nar.spaces.Log(0.01, 1.0)}}}}"
            )
        found[name] = {**own, "batch": spaces.BATCH}
    return found


def _checked(name: str, space: Any) -> Space:
    axes = isinstance(space, Mapping) and all(isinstance(a, spaces.Axis) for a in space.values())
    if not axes or not space:
        remedy = "give paths to axes, such as {'sigma': nar.spaces.Log(0.01, 1.0)}"
        raise reject(f"spaces[{name!r}]", space, "is not a search space", remedy)
    return space


def _points(space: Space, trials: int) -> list[Point]:
    return [*spaces.points(space, trials)]


def _settle(path: Path, record: Mapping[str, Any], resume: bool) -> None:
    """Write what is to be done, or, where it is resumed, hold it to what was begun."""
    file = path / RECORD
    if resume and not file.exists() and (path / TUNED).exists():
        raise reject("out", str(path), "holds a run that is no tuning", "name another folder")
    if not (resume and file.exists()):
        configs.dump_yaml(record["config"], path / UNTUNED)
        write_json(file, record)
        return
    before = read_json(file)
    for old, new in ((before.get("config", {}), record["config"]), (before, record)):
        for key in new:
            if key != "config" and old.get(key) != new[key]:
                raise InputError(
                    f"resume=True under changed settings: {key} was {old.get(key)!r} and is "
                    f"{new[key]!r}; resume with what is in {str(file)!r}, or use --overwrite"
                )


def _train(
    name: str,
    programs: Sequence[Shared],
    seeds: Sequence[int],
    trials: int,
    folder: ArmFolder,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Every trial of an arm, in order: from its file, or trained and then written there."""
    files = {trial: folder.path / f"trial-{trial}.json" for trial in range(trials)}

    def finished() -> list[int]:
        return [trial for trial, file in files.items() if file.exists()]

    done = set(first(finished))
    for program in programs:
        missing = {trial: p for trial, p in program.points.items() if trial not in done}
        rows = [Row(trial, p, seed) for trial, p in missing.items() for seed in seeds]
        outcomes: dict[int, list[dict[str, Any]]] = {trial: [] for trial in missing}
        for batch in _divide(program, rows):
            numbers = ", ".join(str(trial) for trial in dict.fromkeys(row.trial for row in batch))
            say(f"{name}: trials {numbers} of {trials}, {len(batch)} runs together")
            for row, outcome in zip(batch, train_rows(program, batch), strict=True):
                outcomes[row.trial].append(outcome)
            for trial in [trial for trial, own in outcomes.items() if len(own) == len(seeds)]:
                entry = _outcome(trial, missing[trial], outcomes.pop(trial))
                write_json(files[trial], entry)
                say(f"{name}: trial {trial}, {_said(entry)}")
    return first(lambda: [read_json(files[trial]) for trial in files])


def _divide(program: Shared, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Rows that train together: all where memory allows."""
    if not rows:
        return
    count = together(program.group, tuple(range(len(rows))))
    for begin in range(0, len(rows), count):
        yield rows[begin : begin + count]


def _outcome(trial: int, point: Point, seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """A trial in plain values; a loss that is not finite stands as null."""
    return {
        "trial": trial,
        "point": plain(point),
        "reached": sum(seed["reached"] for seed in seeds),
        "loss": sum(seed["loss"] for seed in seeds) / len(seeds),
        "forward_equivalents": sum(seed["forward_equivalents"] for seed in seeds),
        "seeds": seeds,
    }


def _entry(trials: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "trials": trials,
        "chosen": min(trials, key=rank)["trial"],
        "forward_equivalents": sum(trial["forward_equivalents"] for trial in trials),
    }


def _said(trial: Mapping[str, Any]) -> str:
    values = ", ".join(f"{path}={value}" for path, value in trial["point"].items())
    loss = trial["loss"]
    shown = f"{loss:.3g}" if loss is not None and math.isfinite(loss) else "not finite"
    return f"{values}: validation loss {shown}, {trial['reached']} reached the target"


def _plain_json(value: Any) -> Any:
    """What JSON would give back, so that what is compared and returned is as it is read."""
    return json.loads(json.dumps(value))
