"""Tables for the terminal of what there is, and of evaluations at chosen sizes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from evojax_nar import models, report, strategies, tasks

KINDS: dict[str, Any] = {"tasks": tasks, "models": models, "strategies": strategies}


def components(kind: str) -> Table:
    """One row a component of `kind`, a key of `KINDS`: its name, what it is, and its settings.

    What a component has to say that is many at once, its `remarks`, stands below the table.
    """
    grid = Table(title=kind, box=box.SIMPLE_HEAD, padding=(0, 1), title_justify="left")
    remarks: list[str] = []
    for heading in ("name", "what it is", "settings and their defaults"):
        # A name must stand whole, to be found and copied.
        grid.add_column(heading, overflow="fold", no_wrap=heading == "name")
    for name in KINDS[kind].names():
        component = KINDS[kind].get(name)
        what = (inspect.getdoc(type(component)) or "").partition("\n")[0]
        said = [f"{key}={_short(value)}" for key, value in component.settings().items()]
        about = Text(what)
        if source := getattr(component, "source", None):
            about.append(f"\n{source}", style="dim")
        remarks += [f"{name}, {remark}" for remark in getattr(component, "remarks", ())]
        grid.add_row(Text(name, style="bold"), about, Text(", ".join(said)))
    if remarks:
        grid.caption, grid.caption_justify = Text("\n".join(remarks)), "left"
    return grid


def evaluations(rows: Sequence[Mapping[str, Any]], trained: int, examples: int) -> Table:
    """One row an arm and size: score, exact match and loss, means of the seeds.

    Args:
      rows: one an arm, size and seed, with `arm`, `size`, and where the model can run the size
        `score`, `exact` and `loss`, and where a floor is known `floor` and `normalised`.
      trained: the largest training size.
      examples: examples at each size.
    """
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1), caption_justify="left")
    grid.caption = (
        f"{examples:,} examples at each size; means of the seeds, and the score of the worst. "
        "Above floor: the share of the way from the floor, what answers score that never look at "
        "the input, to 100 %. "
        f"* beyond the training sizes, which end at {trained}."
    )
    headings = ("arm", "size", "score %", "floor %", "above floor %", "exact %", "loss", "worst %")
    for heading in headings:
        grid.add_column(heading, justify="left" if heading == "arm" else "right")
    for arm, size in dict.fromkeys((row["arm"], row["size"]) for row in rows):
        own = [row for row in rows if (row["arm"], row["size"]) == (arm, size)]
        score, low, above, exact, loss = (
            _mean(own, key) for key in ("score", "floor", "normalised", "exact", "loss")
        )
        scores = [row["score"] for row in own if row.get("score") is not None]
        grid.add_row(
            Text(arm),
            f"{size}{' *' if size > trained else ''}",
            *(report.percent(share) for share in (score, low, above, exact)),
            "n/a" if loss is None else f"{loss:.4g}",
            report.percent(min(scores) if scores else None),
        )
    return grid


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Mean of the seeds, None where one of them has no finite number."""
    values = [row.get(key) for row in rows]
    return None if None in values else float(np.mean(np.asarray(values, float)))


def _short(value: Any) -> str:
    """A setting in few characters; a run of sizes as its ends."""
    if isinstance(value, list) and len(value) > 1 and all(isinstance(item, int) for item in value):
        if value == list(range(value[0], value[-1] + 1)):
            return f"{value[0]}-{value[-1]}"
        return ",".join(map(str, value))
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key}: {_short(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    return "null" if value is None else str(value)
