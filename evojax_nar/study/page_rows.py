"""The table of a study: a row for each task, model, arm and multiple of the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evojax_nar import report, stats
from evojax_nar.page_parts import Cell, table, text
from evojax_nar.study import measures
from evojax_nar.study.measures import Problem, Row
from evojax_nar.study.page_style import Keys

MULTIPLES = (2, 4, 8, 25)
"""Multiples of the largest training size that have a column."""


def all_rows(rows: Sequence[Row], keys: Keys, several: bool) -> str:
    """The table of all rows; `several` where the budget has several multiples."""
    marked = _marked(rows)
    headings: list[str | Cell] = [
        "arm",
        Cell("task", kind="words where"),
        Cell("model", kind="words where"),
        "parameters",
        *(["× budget"] if several else []),
        "trained sizes",
        *(f"×{multiple}" for multiple in MULTIPLES),
        "largest",
        "floor there",
        "solved",
        f"to {100 * stats.TARGET:g} %",
        "forward-equivalents",
        "FLOPs",
        "device-seconds",
    ]
    body = []
    for row in rows:
        summary, cost = row["summary"], row["summary"]["cost"]
        sizes = [measures.size_near(row, multiple) for multiple in MULTIPLES]
        largest = str(max(row["test_sizes"]))
        floor = (row.get("floors") or {}).get(largest)
        own = marked[measures.problem(row)]
        place = f"{row['task']}, {row['model']}"
        times = [Cell(f"{row['multiple']:g}", row["multiple"])] if several else []
        body.append(
            [
                keys.cell(row["arm"], place, "control" if row.get("control") else ""),
                Cell(text(row["task"]), row["task"], "words where"),
                Cell(text(row["model"]), row["model"], "words where"),
                Cell(f"{row['parameters']:,}", row["parameters"]),
                *times,
                _score(row, None, own, ""),
                *(_score(row, size, own, f"at {size}") if size else Cell("–") for size in sizes),
                _score(row, largest, own, f"at {largest}"),
                Cell(report.percent(floor), floor),
                Cell(f"{summary['solved']} of {summary['seeds']}", summary["success_rate"]),
                Cell(
                    f"{report.compact(summary['cost_to_target'])}"
                    f"<small>{summary['reached']} of {summary['seeds']}</small>",
                    summary["cost_to_target"],
                ),
                Cell(
                    report.compact(cost.get("forward_equivalents")), cost.get("forward_equivalents")
                ),
                Cell(report.compact(cost.get("flops")), cost.get("flops")),
                Cell(report.seconds(cost.get("device_seconds")), cost.get("device_seconds")),
            ]
        )
    caption = (
        "Score in %: interquartile mean of the seeds, below it the 95 % interval by bootstrap. "
        "×2 and so on are multiples of the largest training size: the nearest test size, which is "
        f"named, and – where none is within a factor of {measures.NEAR:g}. Bold is the best arm "
        "of a task and model"
        + (" at one multiple of the budget" if several else "")
        + "; ≈ is not told apart from it: the 95 % bootstrap interval of the probability that a "
        "seed of the best one scores higher includes 0.5, or there are too few seeds for any "
        "rank test to find 5 %. Solved are the seeds that score 100 % at every test size. "
        f"To {100 * stats.TARGET:g} % is the mean cost, in forward-equivalents, at which the "
        "validation score at the training sizes first is there; n/a unless every seed got there. "
        "Costs are means of the seeds."
    )
    return table(headings, body, caption, "wide wrap rows")


def _marked(rows: Sequence[Row]) -> dict[Problem, dict[tuple[str, str | None], str]]:
    """By problem: how an arm is marked at a size, or at the training sizes for None."""
    found: dict[Problem, dict[tuple[str, str | None], str]] = {}
    for name, group in measures.by_problem(rows).items():
        first = next(iter(group.values()))
        found[name] = {}
        for size in (None, *map(str, first["test_sizes"])):
            seeds = {arm: measures.seed_scores(row, size) for arm, row in group.items()}
            able = {arm: own for arm, own in seeds.items() if own}
            marked = measures.marks(able) if len(able) > 1 else {}
            found[name].update({(arm, size): mark for arm, mark in marked.items()})
    return found


def _score(
    row: Row, size: str | None, marked: Mapping[tuple[str, str | None], str], where: str
) -> Cell:
    """The score of a row at a size, or at the training sizes for None."""
    summary = row["summary"]
    entry = summary["in_distribution"] if size is None else summary["by_size"].get(size)
    if entry is None:
        return Cell("n/a")
    mark = marked.get((row["arm"], size), "")
    shown = ("≈\u2009" if mark == "tied" else "") + report.percent(entry["iqm"])
    below = "".join(
        f"<small>{text(line)}</small>" for line in (report.interval(entry), where) if line
    )
    return Cell(text(shown) + below, entry["iqm"], mark)
