"""Where records go beside the JSONL that is always written: TensorBoard and Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, final

from evojax_nar.errors import InputError


class Logger(Protocol):
    """Receives one record a seed and epoch, as in `metrics.jsonl`, with the arm's name."""

    def log(self, arm: str, record: Mapping[str, Any]) -> None:
        """Take one record."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


@final
class TensorBoard:
    """Event files, by tensorboardX (extra `tensorboard`).

    Args:
      folder: where they go; one run an arm and seed.

    Raises:
      InputError: where tensorboardX is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from tensorboardX import SummaryWriter  # type: ignore[import-not-found]
        except ImportError as error:
            raise InputError(
                "tensorboard=True needs tensorboardX; install it with "
                "pip install 'evojax-nar[tensorboard]'"
            ) from error
        self._make = lambda run: SummaryWriter(str(Path(folder) / run))
        self._writers: dict[str, Any] = {}

    def log(self, arm: str, record: Mapping[str, Any]) -> None:
        """One scalar a number of the record, at its forward-equivalents."""
        run = f"{arm}-seed-{record['seed']}"
        writer = self._writers.setdefault(run, None) or self._make(run)
        self._writers[run] = writer
        for name, value in _scalars(record):
            writer.add_scalar(name, value, record["forward_equivalents"])

    def close(self) -> None:
        """Close every writer."""
        for writer in self._writers.values():
            writer.close()


@final
class WandB:
    """Runs at Weights & Biases (extra `wandb`).

    Args:
      project: its name there.
      **options: further arguments of `wandb.init`, such as mode="offline".

    Raises:
      InputError: where wandb is not installed.
    """

    def __init__(self, project: str, **options: Any) -> None:
        try:
            import wandb  # type: ignore[import-not-found]
        except ImportError as error:
            raise InputError(
                f"wandb={project!r} needs wandb; install it with pip install 'evojax-nar[wandb]'"
            ) from error
        self._init = lambda run: wandb.init(
            project=project, name=run, reinit="create_new", **options
        )
        self._runs: dict[str, Any] = {}

    def log(self, arm: str, record: Mapping[str, Any]) -> None:
        """One entry a record, at its forward-equivalents."""
        name = f"{arm}-seed-{record['seed']}"
        if name not in self._runs:
            self._runs[name] = self._init(name)
        self._runs[name].log(dict(_scalars(record)), step=record["forward_equivalents"])

    def close(self) -> None:
        """Finish every run."""
        for run in self._runs.values():
            run.finish()


def _scalars(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{key}", value
