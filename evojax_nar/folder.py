"""The results folder: who may write it, and what lies where.

config.yaml  results.json  report.html  curves.png  generalisation.png
arms/NAME/checkpoints/SEEDS/        to resume from
arms/NAME/seed-0/metrics.jsonl      a line an epoch
arms/NAME/seed-0/deployed.npz       what is deployed, an array a parameter
arms/NAME/seed-0/result.json        written when the seed is finished
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import final

import filelock

from evojax_nar.errors import InputError, reject
from evojax_nar.files import Lines
from evojax_nar.processes import first, is_first

_OURS = (
    "config.yaml",
    "results.json",
    "report.html",
    "curves.png",
    "generalisation.png",
    "arms",
    "tensorboard",
    "tuning.json",
    "untuned.yaml",
)
"""What a run writes, and all that `--overwrite` removes."""


def fresh(parent: Path, stem: str) -> Path:
    """A new folder `parent/stem-001`, or with the next number that is free, made at once."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1_000_000):
            path = parent / f"{stem}-{number:03d}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except OSError as error:
        raise _unwritable(parent, error) from error
    raise reject("out", str(parent), "is full of results", "name another folder")


@final
class Folder:
    """A results folder, locked while it is open. Use as a context manager.

    Where a run has several processes, the first has the folder. The others write to a temporary one
    of their own, which nobody reads.

    Args:
      path: the folder.
      resume: continue what is there; a folder without a run in it is begun afresh.
      overwrite: remove an earlier run first; nothing else in the folder is touched.

    Raises:
      InputError: where the folder exists and neither is said, both are said, it cannot be written,
        or another process is writing it.
    """

    def __init__(self, path: Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.path = path
        self._lock: filelock.FileLock | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        first(lambda: self._open(path, resume, overwrite))
        if not is_first():
            self._temporary = tempfile.TemporaryDirectory()

    def _open(self, path: Path, resume: bool, overwrite: bool) -> None:
        if resume and overwrite:
            raise InputError("resume=True and overwrite=True exclude each other; give one of them")
        if path.exists() and not path.is_dir():
            raise reject("out", str(path), "is a file", "name a folder")
        occupied = path.is_dir() and any(entry.name != ".lock" for entry in path.iterdir())
        if occupied and not (resume or overwrite):
            raise reject(
                "out",
                str(path),
                "exists already",
                "continue it with --resume, replace it with --overwrite, or name another folder",
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / ".lock"
            with probe.open("a"):
                pass
            if not os.access(path, os.W_OK):
                raise PermissionError("permission denied")
        except OSError as error:
            raise _unwritable(path, error) from error
        lock = filelock.FileLock(path / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise reject(
                "out", str(path), "is being written by another process", "wait for it to end"
            ) from None
        self._lock = lock
        if overwrite:
            for name in _OURS:
                target = path / name
                shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()
        if self._temporary is not None:
            self._temporary.cleanup()

    def arm(self, name: str) -> ArmFolder:
        """The folder of one arm, made where it is missing."""
        return ArmFolder(Path(self._temporary.name) if self._temporary else self.path, name)


@final
class ArmFolder:
    """Where one arm keeps its seeds and checkpoints.

    Args:
      results: the results folder.
      name: the arm's.
    """

    def __init__(self, results: Path, name: str) -> None:
        self.path = results / "arms" / name
        self.path.mkdir(parents=True, exist_ok=True)

    def seed(self, seed: int) -> Path:
        """The folder of one seed, made where it is missing."""
        path = self.path / f"seed-{seed}"
        path.mkdir(exist_ok=True)
        return path

    def metrics(self, seed: int) -> Lines:
        """The metrics of one seed."""
        return Lines(self.seed(seed) / "metrics.jsonl")

    def checkpoints(self, seeds: Sequence[int]) -> Path:
        """The folder of the checkpoints of seeds that are trained together."""
        return self.path / "checkpoints" / ("seeds-" + "-".join(map(str, seeds)))


def _unwritable(path: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    return reject("out", str(path), f"cannot be written ({reason})", "name another folder")
