"""The results as one HTML page that needs nothing else: plots inside, no network, fit for print."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evojax_nar import plots, report, stats, votes
from evojax_nar.files import write_bytes
from evojax_nar.page_parts import (
    Cell,
    document,
    image,
    paragraphs,
    score_cell,
    section,
    table,
    text,
    yaml_block,
)
from evojax_nar.types import BACKWARD_COST


def render(results: Mapping[str, Any]) -> str:
    """The whole page. Every name in it is escaped, and it loads nothing from elsewhere."""
    results = report.summarised(results)
    title = f"{results['task']['name']} with {results['model']['name']}"
    notes = report.remarks(results)
    parts = [
        f"<header><h1>{text(title)}</h1>"
        f'<p class="subject">{text(report.subject(results))}</p></header>',
        f'<div class="headline">{paragraphs(report.headline(results))}</div>',
        f'<ul class="notes">{"".join(f"<li>{text(note)}</li>" for note in notes)}</ul>'
        if notes
        else "",
        section("Scores", _scores(results)),
        section(
            "Beyond the training sizes",
            image(
                plots.generalisation(results),
                "Score over test size. " + _describe(results),
                "The interquartile mean of the seeds and its 95 % interval, over the test size. "
                "The shaded sizes were trained on.",
            ),
        ),
        section(
            "Learning",
            image(
                plots.curves(results),
                "Validation score and loss over forward-equivalents. "
                + " ".join(report.headline(results)),
                "Strong lines are the median of the seeds, faint ones the seeds. A seed that has "
                "stopped counts on with its last value.",
            ),
        ),
        section("What a vote adds", _votes(results)) if votes.votes(results) else "",
        section("Cost", _costs(results)),
        section("Which is likelier to win", _comparisons(results))
        if results["comparisons"]
        else "",
        section("Arms", "".join(_arm(arm, results) for arm in results["arms"])),
        section(
            "Task and model",
            yaml_block({"task": results["task"], "model": results["model"]}),
        ),
        section("Environment", yaml_block(results.get("environment") or {})),
        section("How to repeat", _repeat()),
    ]
    return document(title, parts)


def write(results: Mapping[str, Any], folder: str | os.PathLike[str]) -> Path:
    """Writes `report.html` into `folder`, whole or not at all, and gives its path."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    path = target / "report.html"
    write_bytes(path, render(results).encode())
    return path


def _scores(results: Mapping[str, Any]) -> str:
    sizes = [str(size) for size in results["task"]["test_sizes"]]
    arms = results["arms"]
    best = {size: report.best_shown(arms, size) for size in sizes}
    trained = f"trained {report.ranged(results['task']['train_sizes'])}"
    headings = ["arm", "solved", *(f"size {size}" for size in sizes), "mean", trained]
    rows = [
        [
            _name(arm, index, len(arms)),
            Cell(
                f"{arm['summary']['solved']} of {arm['summary']['seeds']}",
                arm["summary"]["success_rate"],
            ),
            *(score_cell(arm["summary"]["by_size"].get(size), best[size]) for size in sizes),
            score_cell(arm["summary"]["score"]),
            score_cell(arm["summary"]["in_distribution"]),
        ]
        for index, arm in enumerate(arms)
    ]
    scores = table(
        headings,
        rows,
        "Score in % on "
        f"{results['evaluation']['examples']:,} examples a size: interquartile mean of the seeds "
        "(Agarwal et al. 2021, arXiv:2108.13264), below it the 95 % interval by bootstrap where "
        "it has width. Solved are the seeds that score 100 % at every test size; mean is over the "
        "test sizes.",
    )
    return scores + _above_floors(results)


def _above_floors(results: Mapping[str, Any]) -> str:
    """The scores again, as shares of the way from the floor to 100 %; nothing without floors."""
    floors = report.floor_scores(results)
    arms = results["arms"]
    if not floors:
        return ""
    rows = [[Cell("floor"), *(Cell(report.percent(score)) for score in floors.values())]]
    for index, arm in enumerate(arms):
        cells = [_name(arm, index, len(arms))]
        for size, own in floors.items():
            entry = arm["summary"]["by_size"].get(size)
            share = entry and report.normalised(entry["iqm"], own)
            cells.append(Cell(report.percent(share), share))
        rows.append(cells)
    return table(
        ["arm", *(f"size {size}" for size in floors)],
        rows,
        "The same scores as shares of the way from the floor to 100 %. The floor is what answers "
        "score that never look at the input, the most frequent one at each place.",
    )


def _votes(results: Mapping[str, Any]) -> str:
    """The points that each vote adds, at each test size."""
    arms = results["arms"]
    places = {arm["name"]: place for place, arm in enumerate(arms)}
    rows = []
    for vote in votes.votes(results):
        place = places[vote.arm]
        cells = [_name(arms[place], place, len(arms)), Cell(text(vote.reading), kind="words")]
        for added in vote.by_size.values():
            value, between = votes.points(added)
            small = f"<small>{text(between)}</small>" if between else ""
            cells.append(Cell(text(value) + small, None if added is None else added.value))
        rows.append(cells)
    sizes = [f"size {size}" for size in results["task"]["test_sizes"]]
    return table(["arm", "vote", *sizes], rows, f"In points. {votes.caption(results)}")


def _costs(results: Mapping[str, Any]) -> str:
    arms = results["arms"]
    columns: list[tuple[str, str, Callable[[float | None], str]]] = [
        ("forward-equivalents", "forward_equivalents", report.compact),
        ("FLOPs", "flops", report.compact),
        ("device-seconds", "device_seconds", report.seconds),
        ("compile seconds", "compile_seconds", report.seconds),
        ("examples", "examples", report.compact),
        ("generations", "generations", report.compact),
        ("peak MiB", "peak_bytes", lambda size: "n/a" if size is None else f"{size / 2**20:,.0f}"),
    ]
    rows = []
    for index, arm in enumerate(arms):
        summary = arm["summary"]
        cost = summary["cost"]
        reached = f"<small>{summary['reached']} of {summary['seeds']} seeds</small>"
        rows.append(
            [
                _name(arm, index, len(arms)),
                Cell(
                    report.compact(summary["cost_to_target"]) + reached, summary["cost_to_target"]
                ),
                *(Cell(show(cost.get(key)), cost.get(key)) for _, key, show in columns),
            ]
        )
    target = f"to {100 * stats.TARGET:g} % trained"
    explain = (
        "<p>A forward pass of one example counts 1 and a backward pass "
        f"{BACKWARD_COST}, so that a gradient step costs {1 + BACKWARD_COST} an example and an "
        "evolution step as many as its evaluations. Device-seconds are those of training: "
        "compiling is listed on its own, and evaluation is counted for no arm.</p>"
    )
    return explain + table(
        ["arm", target, *(heading for heading, _, _ in columns)],
        rows,
        "Means of the seeds; of peak memory the largest. The first column is the mean cost in "
        f"forward-equivalents at which the validation score at the training sizes first is at "
        f"least {100 * stats.TARGET:g} %; n/a unless every seed got there.",
        kind="wide wrap",
    )


def _comparisons(results: Mapping[str, Any]) -> str:
    rows = []
    for pair in results["comparisons"]:
        chance = pair["probability_of_improvement"]
        shown = "n/a" if chance is None else f"{chance:.2f}"
        between = "n/a" if chance is None else f"{pair['low']:.2f}–{pair['high']:.2f}"
        rows.append(
            [
                Cell(text(pair["first"]), pair["first"]),
                Cell(text(pair["second"]), pair["second"], "words"),
                Cell(shown, chance),
                Cell(between, pair["low"]),
            ]
        )
    explain = (
        "<p>The probability that a seed of the first arm has a higher mean score over the test "
        "sizes than one of the second; ties count half, so 0.50 is no difference (Mann-Whitney). "
        "Cost plays no part in it.</p>"
    )
    headings = ["first", "second", "probability", "95 % interval"]
    return explain + table(headings, rows, "", kind="")


def _arm(arm: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Settings of one arm and what each of its seeds did."""
    sizes = [str(size) for size in results["task"]["test_sizes"]]
    rows = []
    for seed in arm["seeds"]:
        scores = [(seed.get("scores") or {}).get(size) for size in sizes]
        cost = (seed.get("cost") or {}).get("forward_equivalents")
        rows.append(
            [
                Cell(text(seed["seed"]), seed["seed"]),
                *(Cell("n/a" if entry is None else _seed_score(entry)) for entry in scores),
                Cell(report.compact(cost)),
                Cell(text(seed.get("stopped", "")), kind="words"),
            ]
        )
    settings = {"strategy": arm["strategy"], **arm.get("settings", {}), "batch": arm.get("batch")}
    headings = ["seed", *sizes, "forward-equivalents", "stopped by"]
    kind = "gradient-free" if arm["gradient_free"] else "with gradients"
    return (
        f"<details><summary>{text(arm['name'])} ({kind})</summary>{yaml_block(settings)}"
        f"{table(headings, rows, 'Score in % at each test size.', kind='')}</details>"
    )


def _seed_score(entry: Mapping[str, Any]) -> str:
    return "not finite" if entry.get("score") is None else report.percent(entry["score"])


def _repeat() -> str:
    return (
        "<pre>evojax-nar compare --config config.yaml</pre>"
        "<p><code>config.yaml</code> lies beside this page and holds every setting of it; "
        "<code>results.json</code> holds every number. On the same machine and versions a counted "
        "budget gives the same scores again.</p>"
    )


def _name(arm: Mapping[str, Any], index: int, count: int) -> Cell:
    colour = plots.looks(count)[index].colour
    kind = "gradient-free" if arm["gradient_free"] else "with gradients"
    content = (
        f'<span class="arm"><span class="swatch" style="background:{colour}"></span>'
        f"{text(arm['name'])}<small>{text(arm['strategy'])}</small>"
        f"<small>{kind}</small></span>"
    )
    return Cell(content, arm["name"])


def _describe(results: Mapping[str, Any]) -> str:
    """The numbers of the generalisation plot, for those who cannot see it."""
    lines = []
    for arm in results["arms"]:
        sizes = arm["summary"]["by_size"].items()
        scores = ", ".join(f"{report.spread(entry)} at {size}" for size, entry in sizes)
        lines.append(f"{arm['name']}: {scores}.")
    return " ".join(lines)
