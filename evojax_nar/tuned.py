"""What tuning has found: the chosen arms, every trial, and the table that says so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from evojax_nar import config as configs
from evojax_nar import report, spaces
from evojax_nar.budget import Arm


@final
@dataclass(frozen=True)
class Tuned:
    """What tuning has found.

    Args:
      arms: each at the best point of its space.
      record: every trial and what was chosen, in plain values, as in tuning.json.
      folder: where it stands.
    """

    arms: dict[str, Arm]
    record: dict[str, Any]
    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        """The comparison that was given, between the chosen arms."""
        arms = {name: configs.describe_arm(arm) for name, arm in self.arms.items()}
        return configs.check(
            {**self.record["config"], "arms": arms, "replay": None, "tuning": self.summary()}
        )

    def summary(self) -> dict[str, Any]:
        """For each arm how it was tuned: `trials`, `seeds`, `budget`, `space` and what it cost."""
        setup = self.record
        return {
            name: {
                "trials": setup["trials"],
                "seeds": setup["seeds"],
                "budget": setup["budget"],
                "space": setup["spaces"][name],
                "forward_equivalents": entry["forward_equivalents"],
            }
            for name, entry in setup["arms"].items()
        }

    def table(self) -> Group:
        """What each arm chose of its space, and what its trials came to."""
        return Group(self._choices(), self._outcomes())

    def _choices(self) -> Table:
        """One row an arm and axis."""
        grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
        for heading in ("arm", "setting", "chosen", "of"):
            grid.add_column(heading, overflow="fold")
        for name, entry in self.record["arms"].items():
            point = entry["trials"][entry["chosen"]]["point"]
            for place, (path, axis) in enumerate(self.record["spaces"][name].items()):
                shown = (name if place == 0 else "", path, str(point[path]), _shown(axis))
                grid.add_row(*map(Text, shown))
        return grid

    def _outcomes(self) -> Table:
        """One row an arm."""
        record = self.record
        [(kind, amount)] = record["budget"].items()
        target = record["config"]["stop_loss"]
        goal = "none was set" if target is None else f"a validation loss of {target:g}"
        grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1), caption_justify="left")
        grid.caption = (
            f"Each arm had {record['trials']} trials of {len(record['seeds'])} seeds in its space "
            f"above, of at most {amount:,g} {report.UNITS[kind]} for each seed. Reached: trials "
            f"all of whose seeds reached the target ({goal}). Loss and cost: of the chosen trial, "
            "means of its seeds; the loss is that of validation, and test sizes were not seen. "
            "Tuning cost: of all trials. Costs are in forward-equivalents."
        )
        for heading in ("arm", "trials", "reached", "loss", "cost", "tuning cost"):
            grid.add_column(heading, justify="left" if heading == "arm" else "right")
        for name, entry in record["arms"].items():
            chosen = entry["trials"][entry["chosen"]]
            full = sum(trial["reached"] == len(record["seeds"]) for trial in entry["trials"])
            grid.add_row(
                Text(name),
                str(len(entry["trials"])),
                "n/a" if target is None else str(full),
                "n/a" if chosen["loss"] is None else f"{chosen['loss']:.3g}",
                report.compact(chosen["forward_equivalents"] / len(record["seeds"])),
                report.compact(entry["forward_equivalents"]),
            )
        return grid


def rank(trial: Mapping[str, Any]) -> tuple[Any, ...]:
    """What trials are sorted by, best first: see `tuning.tune`."""
    loss = math.inf if trial["loss"] is None else trial["loss"]
    cost = trial["forward_equivalents"] if trial["reached"] else 0
    return (-trial["reached"], cost, loss, trial["trial"])


def _shown(axis: Mapping[str, Any]) -> str:
    """An axis in plain values, as `str` of it shows it."""
    [(kind, values)] = axis.items()
    if kind == "choice":
        return str(spaces.Choice(tuple(values)))
    return str({"log": spaces.Log, "linear": spaces.Linear}[kind](*values))
