"""What each command does, once its flags are parsed."""

from __future__ import annotations

import dataclasses
import functools
import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from evojax_nar import (
    cli,
    listing,
    overrides,
    planning,
    predict_graph,
    report,
    stats,
    study,
    tuning,
)
from evojax_nar import config as configs
from evojax_nar import predict as prediction
from evojax_nar.comparison import compare
from evojax_nar.errors import InputError, reject
from evojax_nar.evaluator import CHUNK, TEST, Evaluator
from evojax_nar.files import read_json, write_json
from evojax_nar.floors import Floor, floor
from evojax_nar.folder import fresh
from evojax_nar.results import Results, load
from evojax_nar.tasks import sizes as task_sizes
from evojax_nar.tasks.perturbed import plain_task
from evojax_nar.types import Params, Task


@functools.singledispatch
def run(flags: Any) -> int:
    """Run the command of `flags`, one of `cli.COMMANDS`, and return its exit code.

    Raises:
      InputError: for bad input.
      MemoryError: where the device has not enough of it.
    """
    raise InputError(f"flags={flags!r} are of no command; give one of {', '.join(cli.COMMANDS)}")


@run.register
def _compare(flags: cli.Compare) -> int:
    return _train_arms(flags, "compare")


@run.register
def _tune(flags: cli.Tune) -> int:
    if flags.tensorboard or flags.wandb is not None:
        name, value = ("wandb", flags.wandb) if flags.wandb is not None else ("tensorboard", True)
        raise reject(name, value, "logs comparisons and no trials", "leave it out")
    before = _tuning_before(flags)
    if before and flags.config is None:
        flags = dataclasses.replace(flags, config=str(Path(str(flags.out)) / tuning.UNTUNED))
    config = planning.resolve(flags)
    plan = configs.build(config)
    numbers: dict[str, Any] = {key: before[key] for key in ("trials", "seeds", "share") if before}
    for key, text in (("trials", flags.trials), ("seeds", flags.tuning_seeds)):
        if text is not None:
            numbers[key] = overrides.whole(key, text, least=1)
    if flags.share is not None:
        numbers["share"] = overrides.number("share", flags.share)

    def work(folder: Path) -> None:
        tuned = tuning.tune(
            plan.task,
            plan.model,
            plan.arms,
            **numbers,
            budget=plan.budget,
            stop_loss=plan.stop_loss,
            compare_seeds=plan.seeds,
            out=folder,
            resume=flags.resume,
            overwrite=flags.overwrite,
            evaluation_examples=plan.evaluation_examples,
            forward_dtype=plan.forward_dtype,
            readings=plan.readings,
            placement=planning.placement(flags),
            progress=not flags.quiet,
        )
        console = Console()
        console.print(tuned.table())
        again = f"evojax-nar compare --config {shlex.quote(str(folder / tuning.TUNED))}"
        console.print(f"Compare with: {again}", markup=False, highlight=False, soft_wrap=True)

    return _write(flags, "tune", f"{config['task']['name']}-tuning", work)


def _tuning_before(flags: cli.Tune) -> dict[str, Any]:
    """The record of the tuning that is to be resumed; empty where there is none."""
    file = Path(str(flags.out)) / tuning.RECORD
    return read_json(file) if flags.resume and flags.out is not None and file.exists() else {}


@run.register
def _train(flags: cli.Train) -> int:
    return _train_arms(flags, "train")


@run.register
def _evaluate(flags: cli.Evaluate) -> int:
    results = load(flags.run)
    _check_writable(flags.json)
    task, model = results.task, results.model
    names = [results.arm(flags.arm)["name"]] if flags.arm is not None else results.names
    sizes = task.test_sizes if flags.sizes is None else task_sizes.parse("sizes", flags.sizes)
    examples = results.data["evaluation"]["examples"]
    if flags.examples is not None:
        examples = overrides.whole("examples", flags.examples, least=1)
    # Without a seed: the stream of the run's own test sets.
    seed = TEST if flags.seed is None else configs.check_seeds([_whole("seed", flags.seed)])[0]
    evaluator = Evaluator(task, model)
    rows = []
    for name in names:
        seeds = [entry["seed"] for entry in results.arm(name)["seeds"]]
        stacked = _stack([results.parameters(name, seed) for seed in seeds])
        for size in sizes:
            _check_size(evaluator, stacked, size)
            low = floor(task, size)
            judged = evaluator.at(size, stacked, examples=examples, key=jax.random.key(seed))
            rows += [
                {
                    "arm": name,
                    "seed": own,
                    "size": size,
                    **(_judged(judged.of(row).plain(), low) if judged else {}),
                }
                for row, own in enumerate(seeds)
            ]
    Console().print(listing.evaluations(rows, task.spec.max_size, examples))
    if flags.json is not None:
        write_json(Path(flags.json), {"examples": examples, "evaluations": rows})
    return 0


def _judged(entry: dict[str, float | None], low: Floor | None) -> dict[str, float | None]:
    """An evaluation with the floor beside it, where there is one."""
    if low is None:
        return entry
    return {**entry, "floor": low.score, "normalised": low.normalised(entry["score"])}


@run.register
def _predict(flags: cli.Predict) -> int:
    results = load(flags.run)
    _check_writable(flags.json)
    arm = _best_arm(results) if flags.arm is None else results.arm(flags.arm)["name"]
    seed = _best_seed(results, arm) if flags.seed is None else _whole("seed", flags.seed)
    task, model, params = plain_task(results.task), results.model, results.parameters(arm, seed)
    limit = None if flags.limit is None else _whole("limit", flags.limit)
    console = Console()
    heading = f"Arm {arm}, seed {seed}, task {results.data['task']['name']}."
    if predict_graph.reads(task):
        _refuse(flags, task, "window", "column")
        found = predict_graph.predict(
            task, model, params, flags.input, source=flags.source, limit=limit
        )
        console.print(heading, highlight=False)
        predict_graph.print_answers(found, console)
    else:
        _refuse(flags, task, "source")
        found = prediction.predict(
            task,
            model,
            params,
            flags.input,
            window=None if flags.window is None else _whole("window", flags.window),
            column=flags.column,
            limit=10 if limit is None else limit,
        )
        console.print(heading, highlight=False)
        prediction.print_answers(found, console)
    if flags.json is not None:
        write_json(Path(flags.json), {"arm": arm, "seed": seed, **dataclasses.asdict(found)})
    return 0


def _refuse(flags: cli.Predict, task: Any, *names: str) -> None:
    """Refuse flags that mean nothing to what `task` reads."""
    for name in names:
        value = getattr(flags, name)
        if value is not None:
            raise reject(name, value, f"has no meaning for task={task.name!r}", "leave it out")


@run.register
def _study(flags: cli.Study) -> int:
    folder = Path(flags.out)
    config = study.load(folder / study.CONFIG if flags.config is None else flags.config)
    only = [pattern for group in flags.only for pattern in group]
    console = Console()

    def say(sentence: str) -> None:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    if flags.jobs:
        for name in study.jobs(config, only):
            say(
                f"{'done' if study.finished(config, study.Job.of(name), folder) else '    '} {name}"
            )
        return 0
    workers = None if flags.workers is None else overrides.whole("workers", flags.workers, least=1)
    try:
        ran = study.run(
            config, folder, only=only, cluster=flags.cluster, workers=workers, watch=say
        )
    except KeyboardInterrupt:
        again = f"evojax-nar study --out {shlex.quote(str(folder))}"
        return cli.fail(f"interrupted; continue with: {again}", cli.INTERRUPTED)
    _show_study(ran.study, folder, say)
    for name, sentence in ran.failed.items():
        cli.fail(f"job {name}: {sentence}")
    return cli.BAD_INPUT if ran.failed else 0


def _is_collection(folder: Path) -> bool:
    """Whether a folder is no run of its own, and has runs in folders of it."""
    own = any((folder / name).exists() for name in ("results.json", "config.yaml"))
    return not own and any(folder.glob("*/**/results.json"))


def _show_study(found: dict[str, Any], folder: Path, say: Callable[[str], None]) -> None:
    for sentence in found["unequal"]:
        say(sentence)
    say(f"{len(found['rows'])} rows, {len(found['missing'])} missing.")
    say(f"Written to {folder / 'report.html'}")


@run.register
def _report(flags: cli.Report) -> int:
    folder = Path(flags.run)
    if (folder / study.CONFIG).exists() or (folder.is_dir() and _is_collection(folder)):
        is_study = (folder / study.CONFIG).exists()
        found = study.collect(folder) if is_study else study.gather(folder)
        study.write(found, folder)
        _show_study(found, folder, functools.partial(Console().print, soft_wrap=True))
        return 0
    results = load(flags.run)
    renewed = Results(stats.summarise(results.data), results.folder)
    renewed.save()
    _show(renewed)
    return 0


@run.register
def _list(flags: cli.List) -> int:
    console = Console()
    for kind in listing.KINDS if flags.kind is None else [flags.kind]:
        console.print(listing.components(kind))
    return 0


def _train_arms(flags: cli.Compare | cli.Train, command: str) -> int:
    """Train what the flags say into a folder that is known before the first step."""
    config = planning.resolve(flags)
    if command == "train" and (len(config["arms"]) != 1 or len(config["seeds"]) != 1):
        raise InputError(
            f"out={flags.out!r} is a comparison of {len(config['arms'])} arms and "
            f"{len(config['seeds'])} seeds; use evojax-nar compare"
        )
    plan = configs.build(config)

    def work(folder: Path) -> None:
        results = compare(
            plan.task,
            plan.model,
            plan.arms,
            seeds=plan.seeds,
            budget=plan.budget,
            out=folder,
            resume=flags.resume,
            overwrite=flags.overwrite,
            evaluation_examples=plan.evaluation_examples,
            forward_dtype=plan.forward_dtype,
            placement=planning.placement(flags),
            stop_loss=plan.stop_loss,
            replay=plan.replay,
            readings=plan.readings,
            tuning=plan.tuning,
            loggers=_loggers(flags, folder),
            notes=planning.notes(config),
            progress=not flags.quiet,
        )
        _show(results)

    return _write(flags, command, config["task"]["name"], work)


def _write(flags: cli.PlanFlags, command: str, stem: str, work: Callable[[Path], None]) -> int:
    """Do `work` in a folder that is known before it begins, and return the exit code.

    Raises:
      MemoryError: where the device has not enough of it.
    """
    is_fresh = flags.out is None
    folder = fresh(Path("results"), stem) if is_fresh else Path(str(flags.out))
    try:
        work(folder)
    except KeyboardInterrupt:
        again = planning.repeat(flags, command, folder)
        return cli.fail(f"interrupted; continue with: {again}", cli.INTERRUPTED)
    except InputError:
        if is_fresh and not any(folder.iterdir()):
            folder.rmdir()
        raise
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise MemoryError from error
        raise
    return 0


def _loggers(flags: cli.PlanFlags, folder: Path) -> list[Any]:
    from evojax_nar.loggers import TensorBoard, WandB

    chosen: list[Any] = [TensorBoard(folder / "tensorboard")] if flags.tensorboard else []
    return [*chosen, WandB(flags.wandb)] if flags.wandb is not None else chosen


def _show(results: Results) -> None:
    console = Console()
    report.print_table(results.data, console)
    page = results.folder / "report.html"
    console.print(f"Written to {page}", markup=False, highlight=False, soft_wrap=True)


def _check_writable(json: str | None) -> None:
    """Refuse a file that cannot be written before work is done for it."""
    if json is not None and (Path(json).is_dir() or not Path(json).absolute().parent.is_dir()):
        raise reject("json", json, "is not a file in a folder that exists", "name another file")


def _best_arm(results: Results) -> str:
    """The arm with the most seeds that solved the task, then with the highest mean score."""
    arms = stats.summarise(results.data)["arms"]

    def merit(arm: dict[str, Any]) -> tuple[int, float]:
        score = arm["summary"]["score"]
        return arm["summary"]["solved"], -math.inf if score is None else score["iqm"]

    return max(arms, key=merit)["name"]


def _best_seed(results: Results, arm: str) -> int:
    """The seed with the lowest loss at the training sizes: the test sizes play no part in it."""

    def loss(entry: dict[str, Any]) -> float:
        found = (entry.get("in_distribution") or {}).get("loss")
        return math.inf if found is None else found

    return min(results.arm(arm)["seeds"], key=loss)["seed"]


def _check_size(evaluator: Evaluator, stacked: Params, size: int) -> None:
    """Refuse a size whose evaluation the memory cannot hold, before it is begun."""
    if not evaluator.applicable(size):
        return
    spec, task = evaluator.spec, evaluator.task
    judged: Task = getattr(task, "test", task)
    batch = jax.eval_shape(
        lambda key: judged.sample(key, size, max_size=size, batch=CHUNK), jax.random.key(0)
    )

    def outputs(stacked: Params, inputs: Any) -> Any:
        return jax.vmap(lambda own: evaluator.model.apply(own, inputs, spec=spec))(stacked)

    prediction.check_memory("sizes", size, outputs, stacked, batch.inputs)


def _stack(params: Sequence[Params]) -> Params:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)


def _whole(argument: str, text: str) -> int:
    return overrides.whole(argument, text)
