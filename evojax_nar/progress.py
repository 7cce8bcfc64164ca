"""What a person sees while arms train: one bar an arm, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from evojax_nar.budget import Budget

_SPENT = {
    "forwards": "forward_equivalents",
    "examples": "examples",
    "generations": "generations",
    "seconds": "device_seconds",
}


@final
class Quiet:
    """Shows nothing but warnings."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to take down."""

    def begin(
        self, name: str, budget: Budget, seeds: int, steps: Mapping[int, int] | None, plan: str
    ) -> None:
        """An arm begins."""

    def show(self, name: str, records: list[dict[str, Any]]) -> None:
        """An epoch is over."""

    def say(self, sentence: str) -> None:
        """Print a warning to standard error."""
        Console(stderr=True).print(sentence, markup=False, highlight=False, soft_wrap=True)


@final
class Display:
    """A live display on the terminal. Use as a context manager.

    Args:
      folder: the results folder, named once at the start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._progress = Progress(
            TextColumn("[bold]{task.description}", markup=True),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} % of the budget"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            # In a notebook rich would ask for a widget library; plain text needs none.
            console=Console(force_jupyter=False),
        )
        self._tasks: dict[str, TaskID] = {}
        self._budgets: dict[str, tuple[str, float]] = {}
        self._latest: dict[str, dict[int, dict[str, Any]]] = {}

    def __enter__(self) -> Display:
        self._progress.start()
        self._progress.console.print(
            f"Writing to {self._folder}", markup=False, highlight=False, soft_wrap=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(
        self, name: str, budget: Budget, seeds: int, steps: Mapping[int, int] | None, plan: str
    ) -> None:
        """Add a bar for an arm of so many seeds; `steps` are those of a replay.

        `plan` says what the arm needs, and is printed above the bars.
        """
        self.say(plan)
        if steps is None:
            self._budgets[name] = (_SPENT[budget.kind], budget.amount * seeds)
        else:
            self._budgets[name] = ("generations", float(sum(steps.values())))
        self._tasks[name] = self._progress.add_task(name, total=1.0, state="compiling")
        self._latest[name] = {}

    def show(self, name: str, records: list[dict[str, Any]]) -> None:
        """Move an arm's bar to what its seeds have spent and stand at."""
        latest = self._latest[name]
        latest.update({record["seed"]: record for record in records})
        key, amount = self._budgets[name]
        spent = sum(record[key] for record in latest.values())
        scores = " ".join(f"{100 * record['validation_score']:.0f}" for record in latest.values())
        solved = sum(record["stopped"] == "target" for record in latest.values())
        state = f"validation score {scores} %" + (f", {solved} solved" if solved else "")
        self._progress.update(self._tasks[name], completed=spent / amount, state=state)

    def say(self, sentence: str) -> None:
        """Print a warning above the bars."""
        self._progress.console.print(sentence, markup=False, highlight=False, soft_wrap=True)
