"""What tuning has found: the chosen arms, every trial, and the table that says so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from rich import box
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
        return configs.check({**self.record["config"], "arms": arms, "replay": None})

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

    def table(self) -> Table:
        """One row an arm: its trials, what was chosen of which space, and what that cost."""
        record = self.record
        [(kind, amount)] = record["budget"].items()
        target = record["config"]["stop_loss"]
        stop = "no target was set" if target is None else f"a validation loss of {target:g}"
        grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1), caption_justify="left")
        grid.caption = (
            f"Each arm had {record['trials']} trials of {len(record['seeds'])} seeds, of at most "
            f"{amount:,g} {report.UNITS[kind]} a seed. Reached: trials all of whose seeds reached "
            f"the target ({stop}). Loss: validation loss of the chosen trial, mean of its seeds; "
            "test sizes were not seen. Costs are in forward-equivalents: of a seed of the chosen "
            "trial, and of all trials."
        )
        for heading in ("arm", "trials", "chosen", "of"):
            grid.add_column(heading, overflow="fold")
        for heading in ("reached", "loss", "cost", "tuning cost"):
            grid.add_column(heading, justify="right")
        for name, entry in record["arms"].items():
            chosen = entry["trials"][entry["chosen"]]
            full = sum(trial["reached"] == len(record["seeds"]) for trial in entry["trials"])
            loss = chosen["loss"]
            grid.add_row(
                Text(name),
                str(len(entry["trials"])),
                Text("\n".join(f"{path}={value}" for path, value in chosen["point"].items())),
                Text("\n".join(map(_shown, record["spaces"][name].values()))),
                "n/a" if target is None else str(full),
                "n/a" if loss is None else f"{loss:.3g}",
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
