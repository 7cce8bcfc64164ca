"""A whole study: its jobs one after the other here, or on workers, and then its table and page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from evojax_nar.errors import InputError
from evojax_nar.files import write_json
from evojax_nar.study import plan
from evojax_nar.study.job import finished, run_job
from evojax_nar.study.table import collect

TABLE = "study.json"
"""All that a study has found, in its folder."""


class Ran(NamedTuple):
    """What `run` has done."""

    study: dict[str, Any]
    """What `collect` gives."""
    failed: dict[str, str]
    """Why a job has no result, by its id."""


def run(
    config: Mapping[str, Any],
    out: str | Path,
    *,
    only: Sequence[str] = (),
    cluster: str | None = None,
    workers: int | None = None,
    watch: Callable[[str], None] = lambda sentence: None,
) -> Ran:
    """Run the jobs of a study that are not finished, and write study.json and report.html.

    Args:
      config: as `check` takes it.
      out: folder of the study; one that holds it already is gone on with.
      only: patterns of job ids such as `parity/lstm/*`; none for all.
      cluster: address of a Dask scheduler.
      workers: how many to start on this machine; with neither, jobs run in this process.
      watch: called with a sentence about each job.

    Raises:
      InputError: for a bad config, a folder of another study, or a cluster that does not answer.
        What is wrong with one job is in `Ran.failed` and stops no other.
    """
    study, folder = plan.check(config), Path(out)
    names = plan.jobs(study, only)
    plan.save(study, folder)
    if cluster is not None or workers is not None:
        from evojax_nar import cluster as clusters

        outcome = clusters.run(
            study, folder, only=only, address=cluster, workers=workers, watch=watch
        )
        failed = dict(outcome.failed)
    else:
        failed = _one_by_one(study, folder, names, watch)
    found = collect(folder)
    write(found, folder)
    return Ran(found, failed)


def write(found: Mapping[str, Any], folder: Path) -> None:
    """Write study.json and report.html."""
    from evojax_nar.study import page  # matplotlib, which jobs do without

    write_json(folder / TABLE, found)
    page.write(dict(found), folder)


def _one_by_one(
    study: Mapping[str, Any], folder: Path, names: Sequence[str], watch: Callable[[str], None]
) -> dict[str, str]:
    failed = {}
    waiting = [name for name in names if not finished(study, plan.Job.of(name), folder)]
    for number, name in enumerate(waiting, 1):
        watch(f"{number} of {len(waiting)}: {name} begins")
        try:
            run_job(study, name, str(folder))
        except InputError as error:
            failed[name] = str(error)
            watch(f"{number} of {len(waiting)}: {name} failed: {error}")
        # Compiled programs use up the memory maps that a process may have.
        jax.clear_caches()
    return failed
