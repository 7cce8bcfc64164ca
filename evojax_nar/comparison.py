"""Arms x seeds under one budget: the same model, task, initial parameters and data for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from evojax_nar import config as configs
from evojax_nar import cost, environment, stats
from evojax_nar.budget import Arm, Budget, as_arm
from evojax_nar.checkpoint import Checkpoints
from evojax_nar.errors import InputError
from evojax_nar.evaluator import TEST, Evaluator, examples_seen
from evojax_nar.files import read_json, save_params, write_json
from evojax_nar.floors import Floor, floor
from evojax_nar.folder import ArmFolder, Folder, fresh
from evojax_nar.forecasting import MEMORY_SHARE
from evojax_nar.forecasting import check as check_forecast
from evojax_nar.loggers import Logger
from evojax_nar.models.linen import parameter_count
from evojax_nar.placement import LOCAL, Placement
from evojax_nar.processes import first, is_first
from evojax_nar.progress import Display, Quiet
from evojax_nar.readings import Reading
from evojax_nar.results import SCHEMA, Results, Run
from evojax_nar.spread import SpreadEvaluator, SpreadGroup
from evojax_nar.trainer import Group, Outcome, Settings, train_group
from evojax_nar.types import Model, Strategy, Task


def compare(
    task: Task,
    model: Model,
    arms: Mapping[str, Arm | Strategy],
    *,
    seeds: int | Sequence[int] = 3,
    budget: Budget,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    evaluation_examples: int = 1024,
    forward_dtype: str = "float32",
    stop_loss: float | None = None,
    replay: Mapping[str, Sequence[int]] | None = None,
    readings: Sequence[Reading] = (),
    tuning: Mapping[str, Any] | None = None,
    placement: Placement = LOCAL,
    checkpoint_seconds: float = 10.0,
    loggers: Sequence[Logger] = (),
    notes: Sequence[str] = (),
    progress: bool = True,
) -> Results:
    """Train every arm on every seed and judge what each deploys at every test size.

    Args:
      task: what is learned.
      model: the same for every arm; a seed gives every arm the same initial parameters.
      arms: name to strategy, or to `Arm(strategy, batch=...)`.
      seeds: how many, counted from 0, or which.
      budget: the limit for each seed of each arm.
      out: results folder; None for a fresh numbered one under `results`.
      resume: continue the run in `out` from its checkpoints, to the same result bit for bit.
      overwrite: replace the run in `out`.
      evaluation_examples: fresh examples at each test size, for each seed.
      forward_dtype: "float32", or "bfloat16" for models that run in it while they train; losses,
        parameters and the final judgement are float32.
      stop_loss: stop a seed once its validation loss, on training sizes, is at most this; None to
        spend the budget.
      replay: arm to the steps of each seed, in place of the clock of a budget in seconds.
      readings: further ways to read outputs, `readings.Ensemble()` and `readings.Steps()`, judged
        beside what is deployed on the same examples, at the end of each seed.
      tuning: for arms by name how their settings were found, as `Tuned.summary()` says it; where
        arms differ in that, the report begins with it.
      placement: devices and chunks of populations; where its mesh has devices of several processes,
        each calls this with the same arguments, and the first writes.
      checkpoint_seconds: least time between two checkpoints.
      loggers: told of every record as it is made.
      notes: sentences to stand at the top of the results.
      progress: show a progress display.

    Raises:
      InputError: for bad input, before anything is written; or where `out` belongs to another run.
    """
    config = configs.describe(
        task,
        model,
        arms,
        seeds=seeds,
        budget=budget,
        stop_loss=stop_loss,
        evaluation_examples=evaluation_examples,
        forward_dtype=forward_dtype,
        replay=replay,
        readings=readings,
        tuning=tuning,
    )
    settings = Settings(
        budget=budget,
        stop_loss=stop_loss,
        evaluation_examples=evaluation_examples,
        forward_dtype=forward_dtype,
        placement=placement,
        checkpoint_seconds=checkpoint_seconds,
    )
    evaluator = SpreadEvaluator(task, model)
    groups = {
        name: SpreadGroup(name, as_arm(name, arm), evaluator, settings)
        for name, arm in arms.items()
    }
    which = configs.check_seeds(seeds)
    forecasts = {name: group.forecast(1) for name, group in groups.items()}
    for forecast in forecasts.values():
        first(partial(check_forecast, forecast, placement))
    stem = config["task"]["name"].replace("/", "-")
    path = Path(first(lambda: str(fresh(Path("results"), stem) if out is None else out)))
    remarks = [*notes]
    loggers = loggers if is_first() else ()
    with Folder(path, resume=resume or out is None, overwrite=overwrite) as folder:
        first(lambda: _settle_config(path, config, resume))
        with Display(path) if progress and is_first() else Quiet() as display:
            entries = []
            for name, group in groups.items():
                arm_folder = folder.arm(name)

                def warn(sentence: str, name: str = name) -> None:
                    remarks.append(f"Arm {name}: {sentence}.")
                    display.say(remarks[-1])

                def watch(records: list[dict[str, Any]], name: str = name) -> None:
                    display.show(name, records)
                    for logger in loggers:
                        for record in records:
                            logger.log(name, record)

                steps = None if replay is None else dict(zip(which, replay[name], strict=True))
                display.begin(name, budget, len(which), steps, str(forecasts[name]))
                for seeds_together in _divide(group, which, arm_folder):
                    _train(group, seeds_together, arm_folder, steps, readings, watch, warn)
                entries.append(first(partial(_entry, name, group, which, arm_folder)))
        floors = {str(size): floor(task, size) for size in task.test_sizes}
        for entry in entries:
            for row in entry["seeds"]:
                _normalise(row["scores"], floors)
        for logger in loggers:
            logger.close()
        if not budget.counted and replay is None:
            realised = {e["name"]: [seed["steps"] for seed in e["seeds"]] for e in entries}
            replayable = {**config, "replay": realised}
            first(lambda: configs.dump_yaml(replayable, path / "config.yaml"))
        data = stats.summarise(
            {
                "schema": SCHEMA,
                "task": {**_task_entry(task), "settings": config["task"]},
                "model": {
                    "name": config["model"]["name"],
                    "parameters": _parameters(evaluator),
                    "max_size": model.max_size(evaluator.spec),
                    "settings": config["model"],
                },
                "environment": environment.describe(),
                "budget": {"kind": budget.kind, "amount": budget.amount},
                "evaluation": {"examples": examples_seen(evaluation_examples)},
                **{key: config[key] for key in ("readings", "tuning") if config[key]},
                "stop_loss": stop_loss,
                "floors": {size: own and own._asdict() for size, own in floors.items()},
                "notes": remarks,
                "arms": entries,
            }
        )
        results = Results(data, path, task=task, model=model)
        first(results.save)
    return results


def train(
    task: Task,
    model: Model,
    strategy: Arm | Strategy,
    *,
    seed: int = 0,
    budget: Budget,
    out: str | Path | None = None,
    name: str | None = None,
    **options: Any,
) -> Run:
    """Train one arm on one seed; further options are those of `compare`.

    Args:
      task: what is learned.
      model: what is trained.
      strategy: how; or `Arm(strategy, batch=...)`.
      seed: of the initial parameters, the data and the strategy.
      budget: the limit.
      out: results folder; None for a fresh numbered one under `results`.
      name: of the arm; None for the strategy's.
      **options: `resume`, `overwrite`, `stop_loss` and so on.

    Raises:
      InputError: as `compare`.
    """
    arm = as_arm("strategy", strategy)
    if name is None:
        name = str(getattr(arm.strategy, "name", type(arm.strategy).__name__))
    replay = options.pop("replay", None)
    results = compare(
        task, model, {name: arm}, seeds=[seed], budget=budget, out=out, replay=replay, **options
    )
    return Run(results, name, seed)


def _settle_config(path: Path, config: Mapping[str, Any], resume: bool) -> None:
    """Write the config, or, where a run is resumed, hold it to the one that it began with."""
    file = path / "config.yaml"
    if not (resume and file.exists()):
        configs.dump_yaml(config, file)
        return
    before = configs.load_yaml(file)
    if config["replay"] is None:
        before["replay"] = None  # what a budget in seconds realised is a result, not a setting
    for key in config:
        if before.get(key) != config[key]:
            raise InputError(
                f"resume=True under a changed config: {key} was {before.get(key)!r} and is "
                f"{config[key]!r}; resume with the config in {str(file)!r}, or use --overwrite"
            )


def _divide(group: Group, seeds: tuple[int, ...], folder: ArmFolder) -> Iterator[tuple[int, ...]]:
    """Seeds that train together: all where memory allows, one by one where the clock decides.

    The choice is kept in the folder, since a resumed run must divide them in the same way.
    """
    kept = folder.path / "together.json"
    count = first(lambda: int(read_json(kept)["seeds"]) if kept.exists() else None)
    if count is None:
        count = together(group, seeds)
        write_json(kept, {"seeds": count})
    for begin in range(0, len(seeds), count):
        yield seeds[begin : begin + count]


def together(group: Group, seeds: tuple[int, ...]) -> int:
    """How many of the seeds one program is to train: as many as memory allows."""
    if not group.settings.budget.counted:
        return 1
    count = len(seeds)
    limit = first(lambda: MEMORY_SHARE * cost.available_bytes())
    while count > 1:
        # Every process compiles, and the first one's count is what counts.
        needed = group.compile(count).peak_bytes or 0
        if first(lambda needed=needed: needed) <= limit:
            break
        count = -(-count // 2)
    return count


def _train(
    group: Group,
    seeds: tuple[int, ...],
    folder: ArmFolder,
    steps: Mapping[int, int] | None,
    readings: Sequence[Reading],
    watch: Callable[[list[dict[str, Any]]], None],
    warn: Callable[[str], None],
) -> None:
    """Train seeds that are not finished yet, and write each one's result when it is."""
    if first(lambda: all((folder.seed(seed) / "result.json").exists() for seed in seeds)):
        return
    replay = None if steps is None else [steps[seed] for seed in seeds]
    outcomes = train_group(group, seeds, folder, replay=replay, watch=watch, warn=warn)
    read = _read(group, seeds, folder, readings, warn)
    for row, (seed, outcome) in enumerate(zip(seeds, outcomes, strict=True)):
        save_params(folder.seed(seed) / "deployed.npz", outcome.params)
        entry = _seed_entry(outcome)
        write_json(
            folder.seed(seed) / "result.json",
            entry if read is None else {**entry, "readings": read[row]},
        )


def _read(
    group: Group,
    seeds: Sequence[int],
    folder: ArmFolder,
    readings: Sequence[Reading],
    warn: Callable[[str], None],
) -> list[dict[str, Any]] | None:
    """Of each seed, by size and reading, what votes score; None where nothing is to be read.

    The strategy's last state is that of the last checkpoint, which is written once all are done.
    """
    if not readings:
        return None
    with Checkpoints(folder.checkpoints(seeds), group.start(seeds)) as checkpoints:
        found = checkpoints.latest(warn)
    assert found is not None
    progress = found[1]
    votes = partial(
        group.evaluator.votes,
        readings,
        group.arm.strategy,
        examples=group.settings.evaluation_examples,
        key=jax.random.key(TEST),
    )
    rows = []
    for row, seed in enumerate(seeds):
        own = jax.tree.map(lambda leaf, row=row: leaf[row], progress)
        rows.append(votes(own.strategy, own.deployed, seed=seed))
    return rows


def _seed_entry(outcome: Outcome) -> dict[str, Any]:
    tally = outcome.tally
    return {
        "seed": tally.seed,
        "steps": tally.steps,
        "stopped": tally.stopped,
        "in_distribution": outcome.in_distribution.plain(),
        "scores": {str(s): None if j is None else j.plain() for s, j in outcome.scores.items()},
        "cost": {
            "forward_equivalents": tally.forward_equivalents,
            "flops": outcome.flops,
            "device_seconds": tally.device_seconds,
            "compile_seconds": outcome.compile_seconds,
            "examples": tally.examples,
            "generations": tally.steps,
            "peak_bytes": outcome.peak_bytes,
        },
    }


def _entry(name: str, group: Group, seeds: Sequence[int], folder: ArmFolder) -> dict[str, Any]:
    """One arm of results.json, from what its seeds left in the folder."""
    strategy = group.arm.strategy
    described = configs.describe_arm(group.arm)
    rows = []
    for seed in seeds:
        result = read_json(folder.seed(seed) / "result.json")
        rows.append({**result, "curve": folder.metrics(seed).read()})
    return {
        "name": name,
        "strategy": described["strategy"],
        "settings": described,
        "batch": group.arm.batch,
        "gradient_free": strategy.cost.backwards == 0,
        "seeds": rows,
    }


def _normalise(scores: Mapping[str, Any], floors: Mapping[str, Floor | None]) -> None:
    """Write beside each score where it lies between the floor of its size and 1."""
    for size, entry in scores.items():
        own = floors[size]
        if entry is not None and own is not None:
            entry["normalised"] = own.normalised(entry["score"])


def _task_entry(task: Task) -> dict[str, Any]:
    return {
        "name": task.spec.name,
        "train_sizes": list(task.train_sizes),
        "test_sizes": list(task.test_sizes),
    }


def _parameters(evaluator: Evaluator) -> int:
    shapes = jax.eval_shape(lambda: evaluator.model.init(jax.random.key(0), evaluator.spec))
    return parameter_count(shapes)
