"""One task of a study: its curves over size and over cost, and what every seed did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evojax_nar import report
from evojax_nar.page_parts import Cell, image, table, text, yaml_block
from evojax_nar.study import measures
from evojax_nar.study import plots as study_plots
from evojax_nar.study.measures import Row
from evojax_nar.study.page_style import Keys


def of_task(rows: Sequence[Row], keys: Keys) -> str:
    """The curves of one task, and what each of its rows did."""
    groups = measures.by_problem(rows)
    several = len({name.multiple for name in groups}) > 1
    lowest = min((own for row in rows for own in _lows(row)), default=0.0)
    over_size, over_cost = [], []
    for name, group in groups.items():
        title = name.model + (f", {name.multiple:g} × the budget" if several else "")
        over_size.append(
            image(
                study_plots.generalisation(group, keys.looks, lowest),
                f"{title}: score over test size. "
                + " ".join(_scores(row) for row in group.values()),
                title,
            )
        )
        panels = [
            image(
                study_plots.learning(group, keys.looks, axis, lowest),
                f"{title}: validation score over {axis_name}.",
                f"{title}, by {axis_name}",
            )
            for axis, axis_name in enumerate(measures.COST_AXES)
        ]
        over_cost.append(f'<div class="panels three">{"".join(panels)}</div>')
    first = rows[0]
    intro = (
        f"{first['task_name']}, trained on sizes {report.ranged(first['train_sizes'])}, judged at "
        f"{report.listed([str(size) for size in first['test_sizes']])}."
    )
    return (
        f"<p>{text(intro)}</p>{keys.legend(dict.fromkeys(row['arm'] for row in rows))}"
        f'<h3>Beyond the training sizes</h3><div class="panels">{"".join(over_size)}</div>'
        '<p class="explain">Interquartile mean of the seeds and its 95 % interval. The shaded '
        "sizes were trained on; the dotted line is the floor.</p>"
        f"<h3>Learning by cost</h3>{''.join(over_cost)}"
        '<p class="explain">Median of the seeds of the validation score at the training sizes. A '
        "seed that has stopped counts on with its last value.</p>"
        f"<h3>Seeds and settings</h3>{''.join(_details(row, several) for row in rows)}"
    )


def _lows(row: Row) -> Iterable[float]:
    """The scores that an axis has to begin below."""
    for entry in (row["summary"]["in_distribution"], *row["summary"]["by_size"].values()):
        if entry is not None:
            yield entry["low"]
    for own in (row.get("floors") or {}).values():
        if own is not None:
            yield own
    for seed in row["seeds"]:
        for point in (seed.get("curve") or ())[:1]:
            yield point[3] or 0.0


def _scores(row: Row) -> str:
    sizes = row["summary"]["by_size"].items()
    return f"{row['arm']}: {', '.join(f'{report.spread(own)} at {size}' for size, own in sizes)}."


def _details(row: Row, several: bool) -> str:
    """Settings of one row and what each of its seeds did."""
    sizes = [str(size) for size in row["test_sizes"]]
    body = []
    for seed in row["seeds"]:
        scores = [seed.get("in_distribution"), *((seed.get("scores") or {}).get(s) for s in sizes)]
        cost = seed.get("cost") or {}
        body.append(
            [
                Cell(text(seed["seed"]), seed["seed"]),
                *(
                    Cell("n/a" if own is None else report.percent(own.get("score")))
                    for own in scores
                ),
                Cell(report.compact(cost.get("forward_equivalents"))),
                Cell(report.seconds(cost.get("device_seconds"))),
                Cell(text(seed.get("stopped", "")), kind="words"),
            ]
        )
    kind = "gradient-free" if row["gradient_free"] else "with gradients"
    times = f", {row['multiple']:g} × the budget" if several else ""
    shown = {"strategy": row["strategy"], **row["settings"]}
    if row.get("tuning"):
        shown["tuning"] = row["tuning"]
    headings = ["seed", "trained", *sizes, "forward-equivalents", "device-seconds", "stopped by"]
    return (
        f"<details><summary>{text(row['model'])}, {text(row['arm'])}{times} ({kind})</summary>"
        f"{yaml_block(shown)}{table(headings, body, 'Score in % at each size.', '')}</details>"
    )
