"""Tables and figures of docs/results.md, made of the results that are kept in studies/results.

    python -m studies.draw

What stands between `<!-- study: NAME -->` and `<!-- end -->` is replaced; the words around it are
written by hand.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from evojax_nar import plots, report
from evojax_nar.files import read_json, write_bytes
from evojax_nar.study import measures
from evojax_nar.study.measures import Row

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
IMAGES = PAGE.parent / "images"


def tables(study: Mapping[str, Any], name: str) -> str:
    """What all arms did together, and one table a task, with the place of its figure."""
    rows = study["rows"]
    parts = [said(study), *(f"**{sentence}**" for sentence in study["unequal"]), together(rows)]
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        parts += [
            f"### {task}",
            f"![Score over size on {task}, a panel for each model](images/{image(name, task)})",
            of_task(own),
        ]
    return "\n\n".join(part for part in parts if part)


def image(name: str, task: str) -> str:
    """The file of a figure."""
    return f"study-{name}-{task}.png"


def pictures(study: Mapping[str, Any], name: str) -> None:
    """Write one figure a task."""
    rows = study["rows"]
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        drawn = figure(own, list(study["config"]["arms"]))
        write_bytes(IMAGES / image(name, task), plots.png(drawn))


def said(study: Mapping[str, Any]) -> str:
    """Budget, tuning, seeds and device, in one paragraph."""
    rows, config = study["rows"], study["config"]
    seconds = sum(s["cost"]["device_seconds"] for row in rows for s in row["seeds"])
    [(kind, amount)] = config["budget"].items()
    tuning = config["tuning"]
    tuned = (
        "Settings were not tuned."
        if tuning is None
        else f"Each arm was tuned on each task and model: {tuning['trials']} trials of "
        f"{report.counted(tuning['seeds'], 'seed')}, each with {tuning['share']:g} of the budget, "
        "on training sizes alone; controls have the settings of their parents."
    )
    where = study["environment"]
    multiples = report.listed([f"{multiple:g}" for multiple in config["multiples"]])
    return (
        f"{len(rows)} rows of {report.counted(len(config['seeds']), 'seed')}; "
        f"{len(study['missing'])} of the config are not run yet. Budget {report.compact(amount)} "
        f"{report.UNITS[kind]} a seed, times {multiples}. {tuned} "
        f"{seconds:,.0f} device-seconds without tuning, on {_device(where)}."
    )


def together(rows: list[Row]) -> str:
    """Interquartile means over the problems that every arm has."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    runs = measures.runs(rows, arms)
    if runs is None:
        return ""
    lines = []
    for arm, scores in runs.scores.items():
        mean, gap = measures.interquartile_mean(scores), measures.optimality_gap(scores)
        reached = sum(bool(cost < float("inf")) for cost in runs.costs[arm][..., 0].flat)
        learned = f"{reached} of {runs.costs[arm][..., 0].size}"
        adds = added([row for row in rows if row["arm"] == arm])
        lines.append([arm, _estimate(mean), _estimate(gap), learned, adds])
    head = ["arm", "interquartile mean, %", "gap to perfect, %", "runs that learned", "best member"]
    several = len({row["multiple"] for row in rows}) > 1
    kind = "of task, model and budget" if several else "of task and model"
    caption = (
        f"Over the {report.counted(len(runs.problems), 'combination' if several else 'pair')} "
        f"{kind} that every arm was run on: the mean over the test sizes of the share of the way "
        "from the floor to perfect, with 95 % intervals. Learned: 99 % at the training sizes. Best "
        "member: the points that the best of 32 members by validation adds to what is deployed, "
        "over all test sizes and seeds, and how often it is better and worse."
    )
    return f"{_markdown(head, lines)}\n\n{caption}"


def added(rows: list[Row]) -> str:
    """What the best member of the search distribution adds to what is deployed."""
    found = [
        100 * (own["best"]["score"] - seed["scores"][size]["score"])
        for row in rows
        for seed in row["seeds"]
        for size, own in (seed.get("readings") or {}).items()
        if own.get("best") and seed["scores"].get(size)
    ]
    if not found:
        return "none"
    better, worse = sum(one > 0 for one in found), sum(one < 0 for one in found)
    return f"{sum(found) / len(found):+.1f} ({better} better, {worse} worse of {len(found)})"


def of_task(rows: list[Row]) -> str:
    """A line for each model and arm; bold is best, ~ is not told apart from it."""
    sizes = [str(size) for size in rows[0]["test_sizes"]]
    several = len({row["multiple"] for row in rows}) > 1
    lines = []
    for problem, group in measures.by_problem(rows).items():
        marked = {
            size: measures.marks(
                {arm: s for arm, row in group.items() if (s := measures.seed_scores(row, size))}
            )
            for size in (None, *sizes)
        }
        for arm, row in group.items():
            summary, cost = row["summary"], row["summary"]["cost"]
            entries = {None: summary["in_distribution"], **summary["by_size"]}
            times = [f"{problem.multiple:g}"] if several else []
            lines.append(
                [
                    f"{problem.model} ({row['parameters']:,})",
                    arm,
                    *times,
                    *(_score(entries[size], marked[size].get(arm)) for size in (None, *sizes)),
                    f"{summary['solved']}/{summary['seeds']}",
                    report.compact(summary["cost_to_target"]),
                    report.compact(cost["forward_equivalents"]),
                    report.compact(cost["flops"]),
                    report.seconds(cost["device_seconds"]),
                ]
            )
    floors = rows[0]["floors"]
    width = 2 + several
    lines.append(
        ["floor", *[""] * width, *(report.percent(floors.get(size)) for size in sizes), *[""] * 5]
    )
    head = [
        "model (parameters)",
        "arm",
        *(["budget"] if several else []),
        "trained",
        *sizes,
        "solved",
        "cost to 99 %",
        "cost",
        "FLOPs",
        "seconds",
    ]
    return _markdown(head, lines)


def figure(rows: list[Row], arms: list[str]) -> Figure:
    """Score over test size: a panel for each model, a line for each arm that is no control."""
    several = len({row["multiple"] for row in rows}) > 1
    groups = {
        problem.model + (f", {problem.multiple:g} x the budget" if several else ""): {
            arm: row for arm, row in group.items() if arm in arms
        }
        for problem, group in measures.by_problem(rows).items()
    }
    looks = dict(zip(arms, plots.looks(len(arms)), strict=True))
    across = min(3, len(groups))
    down = -(-len(groups) // across)
    drawn = Figure(figsize=(3.3 * across, 2.7 * down + 0.5), layout="constrained")
    panels = drawn.subplots(down, across, squeeze=False, sharey=True)
    handles: dict[str, Any] = {}
    for axes, (model, group) in zip(panels.flat, groups.items(), strict=False):
        for arm, row in group.items():
            found = {int(s): e for s, e in row["summary"]["by_size"].items() if e is not None}
            if not found:
                continue
            look = looks[arm]
            means = [100 * entry["iqm"] for entry in found.values()]
            low, high = ([100 * e[end] for e in found.values()] for end in ("low", "high"))
            axes.fill_between(list(found), low, high, color=look.colour, alpha=0.15, lw=0)
            handles[arm] = axes.plot(
                list(found),
                means,
                color=look.colour,
                linestyle=look.dash,
                marker=look.marker,
                markersize=4,
                lw=1.4,
            )[0]
        floors = {int(s): f for s, f in rows[0]["floors"].items() if f is not None}
        axes.plot(list(floors), [100 * f for f in floors.values()], color="0.4", ls=":", lw=1)
        axes.axvline(max(rows[0]["train_sizes"]), color="0.7", lw=0.8, zorder=0)
        axes.set_xscale("log")
        axes.set_xticks(rows[0]["test_sizes"], [str(size) for size in rows[0]["test_sizes"]])
        axes.minorticks_off()
        axes.set_title(model, fontsize=10)
        axes.set_ylim(-3, 103)
    for axes in list(panels.flat)[len(groups) :]:
        axes.set_axis_off()
    for row in panels:
        row[0].set_ylabel("score, %")
    drawn.supxlabel("size (grey line: largest size trained on; dotted: floor)", fontsize=9)
    drawn.legend(
        handles.values(), handles, loc="outside upper center", ncols=len(handles), fontsize=9
    )
    return drawn


def _device(environment: Mapping[str, Any]) -> str:
    kind = environment["device_kind"]
    count = (
        report.counted(environment["cores"], "core")
        if environment["platform"] == "cpu"
        else (f"{environment['devices']} of them")
    )
    return f"{kind} ({count}, jax {environment['jax']})"


def _estimate(own: Any) -> str:
    return f"{100 * own.value:.1f} [{100 * own.low:.1f}, {100 * own.high:.1f}]"


def _score(entry: Mapping[str, Any] | None, mark: str | None) -> str:
    if entry is None:
        return "n/a"
    shown = report.percent(entry["iqm"])
    between = report.interval(entry)
    shown = {"best": f"**{shown}**", "tied": f"~{shown}"}.get(mark or "", shown)
    return f"{shown} ({between})" if between else shown


def _markdown(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Draw every study whose results are kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to be renewed")
    page: Path = parser.parse_args().page
    text = page.read_text(encoding="utf-8")
    for file in sorted((HERE / "results").glob("*.json")):
        name = file.stem
        block = re.compile(rf"(<!-- study: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not block.search(text):
            raise SystemExit(
                f"{page} has no place for {name}; add <!-- study: {name} -->, <!-- end -->"
            )
        study = read_json(file)
        pictures(study, name)
        made = tables(study, name)
        text = block.sub(lambda found, made=made: f"{found[1]}\n{made}\n\n{found[2]}", text)
    write_bytes(page, text.encode())


if __name__ == "__main__":
    main()
