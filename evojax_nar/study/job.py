"""One job of a study: its arm is tuned, and then trained at every multiple of the budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock

from evojax_nar import config as configs
from evojax_nar.comparison import compare
from evojax_nar.files import read_json, write_json
from evojax_nar.study import controls, plan, spaces
from evojax_nar.study.plan import Job
from evojax_nar.tuning import tune

ARM = "arm.json"
"""The settings that an arm was tuned to, and the record of its tuning."""


def run_job(config: Mapping[str, Any], job: str, out: str) -> None:
    """Run one job to its end, or go on with it; where it is finished, return at once.

    A job may be begun twice, by two workers: the second waits for the first, and finds its results.
    What is waited for is a lock of the operating system, which ends with the process that holds it.

    Args:
      config: of the study.
      job: its id.
      out: folder of the study.

    Raises:
      InputError: for bad input, or a folder that belongs to another study.
    """
    own, study = Job.of(job), plan.check(config)
    folder = Path(out) / own.id
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".job.lock"):
        if finished(study, own, Path(out)):
            return
        arm = settle(study, own, Path(out))
        for multiple in study["multiples"]:
            path = results_folder(folder, multiple)
            if (path / "results.json").exists():
                continue
            built = configs.build(plan.comparison(study, own, arm, multiple))
            compare(
                built.task,
                built.model,
                built.arms,
                seeds=built.seeds,
                budget=built.budget,
                stop_loss=built.stop_loss,
                evaluation_examples=built.evaluation_examples,
                forward_dtype=built.forward_dtype,
                readings=built.readings,
                out=path,
                resume=path.exists(),
                progress=False,
            )


def finished(study: Mapping[str, Any], job: Job, out: Path) -> bool:
    """Whether a job has a result at every multiple of the budget."""
    folder = out / job.id
    return all(
        (results_folder(folder, multiple) / "results.json").exists()
        for multiple in study["multiples"]
    )


def results_folder(folder: Path, multiple: float) -> Path:
    """Where a job keeps its comparison at a multiple of the budget."""
    return folder / f"x{multiple:g}"


def settle(study: Mapping[str, Any], job: Job, out: Path) -> dict[str, Any]:
    """The settings of a job's arm: tuned where the study tunes, or made of its parents'."""
    arms = dict(study["arms"])
    if study["tuning"] is not None:
        wanted = [job.arm] if job.arm in arms else controls.parents(job.arm, arms)
        for name in wanted:
            arms[name] = tuned(study, job._replace(arm=name), out)["settings"]
    return dict(plan.settings(job.arm, arms))


def tuned(study: Mapping[str, Any], job: Job, out: Path) -> dict[str, Any]:
    """`settings` and `record` of the tuning of an arm that the study names; tuned here if need be.

    Its control may ask for them first, so whoever comes first tunes, and others wait.
    """
    folder = out / job.id
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".tuning.lock"):
        if not (folder / ARM).exists():
            said = study["tuning"]
            built = configs.build(plan.comparison(study, job, study["arms"][job.arm]))
            own = spaces.spaces(said["spaces"], study["arms"])
            found = tune(
                built.task,
                built.model,
                built.arms,
                trials=said["trials"],
                seeds=said["seeds"],
                share=said["share"],
                budget=built.budget,
                stop_loss=built.stop_loss,
                spaces={name: space for name, space in own.items() if name == job.arm},
                compare_seeds=built.seeds,
                forward_dtype=built.forward_dtype,
                out=folder / "tuning",
                resume=(folder / "tuning").exists(),
                progress=False,
            )
            settings = configs.describe_arm(found.arms[job.arm])
            write_json(folder / ARM, {"settings": settings, "record": found.record})
    return read_json(folder / ARM)
