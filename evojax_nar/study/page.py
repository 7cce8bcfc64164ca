"""A study as one HTML page: every row, what all of them say together, and the curves of each task.

It needs nothing else, as the page of one comparison does, and shares its look.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evojax_nar import report
from evojax_nar.errors import reject
from evojax_nar.files import write_bytes
from evojax_nar.page_parts import document, paragraphs, section, text, yaml_block
from evojax_nar.study.measures import Row
from evojax_nar.study.page_rows import all_rows
from evojax_nar.study.page_style import STYLE, Keys
from evojax_nar.study.page_task import of_task
from evojax_nar.study.page_whole import headline, over_all

SCHEMA = "evojax_nar/study/1"


def page(study: Mapping[str, Any]) -> str:
    """The whole page of what `collect` gives. Every name in it is escaped.

    Raises:
      InputError: where `study` is of another schema.
    """
    if study.get("schema") != SCHEMA:
        raise reject("schema", study.get("schema"), "is not known", f"this reads {SCHEMA!r}")
    rows: Sequence[Row] = study["rows"]
    keys = Keys(list(dict.fromkeys(row["arm"] for row in rows)))
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    several = list(dict.fromkeys(row["multiple"] for row in rows))
    parts = [
        f"<header><h1>{text(study['title'])}</h1></header>",
        _notes(study),
        _headline(rows),
        _ran(study),
    ]
    if rows:
        parts += [
            _contents(tasks),
            section("All rows", all_rows(rows, keys, len(several) > 1), "rows"),
            *(
                section(
                    "Over all tasks and models"
                    + (f", at {multiple:g} times the budget" if len(several) > 1 else ""),
                    over_all([row for row in rows if row["multiple"] == multiple], keys),
                    "all" if multiple == several[0] else "",
                )
                for multiple in several
            ),
            *(
                section(task, of_task([own for own in rows if own["task"] == task], keys), target)
                for target, task in _targets(tasks)
            ),
        ]
    parts += [
        section("Config", yaml_block(study["config"])),
        section("Environment", yaml_block(study["environment"])),
    ]
    return document(str(study["title"]), parts, STYLE + keys.style())


def write(study: Mapping[str, Any], folder: str | os.PathLike[str]) -> Path:
    """Writes `report.html` into `folder`, whole or not at all, and gives its path."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    path = target / "report.html"
    write_bytes(path, page(study).encode())
    return path


def _notes(study: Mapping[str, Any]) -> str:
    """What is unequal, what is missing, and how far intervals can be believed."""
    rows, missing = study["rows"], study["missing"]
    unequal = [f"Not equal: {sentence}" for sentence in study["unequal"]]
    found = []
    if missing:
        names = ["/".join((one["task"], one["model"], one["arm"])) for one in missing]
        shown = report.listed(report._few(list(dict.fromkeys(names)), 8))
        every = len(rows) + len(missing)
        found.append(f"{len(missing)} of {every} rows are not there yet: {shown}.")
    fewest = min((len(row["seeds"]) for row in rows), default=report.FEW_SEEDS)
    if fewest < report.FEW_SEEDS:
        found.append(
            f"Some rows have {report.counted(fewest, 'seed')}: their intervals say how far the "
            "seeds lie apart, and hardly more."
        )
    lost = sum(row["summary"].get("not_finite", 0) for row in rows)
    if lost:
        found.append(f"{report.counted(lost, 'score')} were not finite, and count as 0.")
    if rows and not unequal:
        found.insert(0, "The arms of each table were run on equal terms.")
    items = "".join(f"<li>{text(note)}</li>" for note in [*unequal, *found])
    kind = "notes unequal" if unequal else "notes"
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def _headline(rows: Sequence[Row]) -> str:
    """What the largest multiple of the budget says."""
    largest = max((row["multiple"] for row in rows), default=1)
    sentences = headline([row for row in rows if row["multiple"] == largest])
    return f'<div class="headline">{paragraphs(sentences)}</div>' if sentences else ""


def _ran(study: Mapping[str, Any]) -> str:
    """What was run, on what, and what it cost."""
    rows, environment = study["rows"], study["environment"]
    if not rows:
        return paragraphs(["No job is finished yet."])
    count = {kind: len({row[kind] for row in rows}) for kind in ("task", "model", "arm")}
    seeds = sum(len(row["seeds"]) for row in rows)
    costs = [seed.get("cost") or {} for row in rows for seed in row["seeds"]]
    forwards, flops, seconds, compiling = (
        sum(cost.get(name) or 0 for cost in costs)
        for name in ("forward_equivalents", "flops", "device_seconds", "compile_seconds")
    )
    tuned = _tuning_cost(rows)
    budgets = dict.fromkeys(
        f"{report.compact(row['budget']['amount'])} "
        f"{report.UNITS.get(row['budget']['kind'], row['budget']['kind'])}"
        for row in rows
    )
    device = environment.get("device_kind", "a device that is not known")
    version = environment.get("evojax_nar", "")
    sentences = [
        f"{report.counted(count['task'], 'task')}, {report.counted(count['model'], 'model')} and "
        f"{report.counted(count['arm'], 'arm')}: {report.counted(len(rows), 'row')} and "
        f"{report.counted(seeds, 'run')}, each with a budget of {report.listed(list(budgets))}. "
        f"Trained on {device} with evojax-nar {version}. All runs together took "
        f"{report.compact(forwards)} forward-equivalents, {report.compact(flops)} FLOPs and "
        f"{report.seconds(seconds)} device-seconds, beside {report.seconds(compiling)} s of "
        f"compiling"
        + (f"; tuning took {report.compact(tuned)} forward-equivalents." if tuned else ".")
    ]
    return paragraphs(sentences)


def _tuning_cost(rows: Sequence[Row]) -> float:
    """Forward-equivalents of tuning, each (task, model, arm) once; controls tune nothing."""
    found = {
        (row["task"], row["model"], row["arm"]): row["tuning"]["forward_equivalents"]
        for row in rows
        if row.get("tuning") and not row.get("control")
    }
    return sum(found.values())


def _contents(tasks: Sequence[str]) -> str:
    links = [("rows", "All rows"), ("all", "Over all tasks and models"), *_targets(tasks)]
    shown = "".join(f'<a href="#{target}">{text(name)}</a> ' for target, name in links)
    return f"<nav>{shown}</nav>"


def _targets(tasks: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"task-{index}", task) for index, task in enumerate(tasks)]
