"""The results as one HTML page that needs nothing else: plots inside, no network, fit for print."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from matplotlib.figure import Figure

from evojax_nar import plots, report, stats, votes
from evojax_nar.files import write_bytes
from evojax_nar.types import BACKWARD_COST

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --faint: #5c5c5c; --line: #d9d9d9;
  --paper: #fff; --note: #fff6dc; --edge: #d39b00; --band: #f5f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --faint: #a8a8a8; --line: #3c3f44;
  --paper: #17181a; --note: #2d2710; --edge: #b98a10; --band: #202226; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p { margin: .5rem 0; overflow-wrap: anywhere; }
.subject, figcaption, .explain { color: var(--faint); font-size: .9rem; }
.headline p:first-child { font-size: 1.2rem; font-weight: 600; line-height: 1.35; }
.notes { background: var(--note); border-left: .3rem solid var(--edge); margin: 1rem 0;
  padding: .5rem 1rem .5rem 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide { width: 100%; }
th, td { padding: .35rem .6rem; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td.words { text-align: left; }
th:first-child { position: sticky; left: 0; background: var(--paper); }
.wrap thead th { white-space: normal; }
tbody th { font-weight: 600; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
thead button { font: inherit; color: inherit; background: none; border: 0; padding: 0;
  cursor: pointer; text-align: inherit; text-decoration: underline dotted var(--faint);
  text-underline-offset: .25em; }
th[aria-sort=ascending] button::after { content: "\\a0\\2191"; }
th[aria-sort=descending] button::after { content: "\\a0\\2193"; }
small { display: block; color: var(--faint); font-weight: 400; }
td.best { font-weight: 700; }
.swatch { display: inline-block; width: .7em; height: .7em; border-radius: 50%;
  margin-right: .45em; }
.arm { display: inline-block; min-width: 7rem; max-width: 14rem; white-space: normal;
  overflow-wrap: break-word; }
@media (max-width: 40rem) { .arm { max-width: 8rem; } th, td { padding: .3rem .45rem; } }
figure { margin: 1rem 0; }
figure img { width: 100%; max-width: 50rem; height: auto; background: #fff;
  border-radius: .3rem; }
pre { background: var(--band); padding: .6rem .8rem; overflow-x: auto; font-size: .85rem; }
details { border-bottom: 1px solid var(--line); padding: .4rem 0; }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; font-size: 9.5pt; }
  .scroll { overflow: visible; } th, td { padding: .2rem .35rem; }
  thead button { text-decoration: none; }
  figure, table, .notes { break-inside: avoid; } figure img { max-width: 15cm; }
  th:first-child { position: static; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach(other => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = row => row.cells[column].dataset.sort;
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const n = Number(x) - Number(y);
        return (Number.isNaN(n) ? x.localeCompare(y) : n) * (down ? -1 : 1);
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    });
  });
}
"""


class Cell(NamedTuple):
    """One cell of a table: finished HTML, what it is sorted by, and its class."""

    content: str
    sort: str | float | None = None
    kind: str = ""


def render(results: Mapping[str, Any]) -> str:
    """The whole page. Every name in it is escaped, and it loads nothing from elsewhere."""
    results = report.summarised(results)
    title = f"{results['task']['name']} with {results['model']['name']}"
    notes = report.remarks(results)
    parts = [
        f"<header><h1>{_text(title)}</h1>"
        f'<p class="subject">{_text(report.subject(results))}</p></header>',
        f'<div class="headline">{_paragraphs(report.headline(results))}</div>',
        f'<ul class="notes">{"".join(f"<li>{_text(note)}</li>" for note in notes)}</ul>'
        if notes
        else "",
        _section("Scores", _scores(results)),
        _section(
            "Beyond the training sizes",
            _figure(
                plots.generalisation(results),
                "Score over test size. " + _describe(results),
                "The interquartile mean of the seeds and its 95 % interval, over the test size. "
                "The shaded sizes were trained on.",
            ),
        ),
        _section(
            "Learning",
            _figure(
                plots.curves(results),
                "Validation score and loss over forward-equivalents. "
                + " ".join(report.headline(results)),
                "Strong lines are the median of the seeds, faint ones the seeds. A seed that has "
                "stopped counts on with its last value.",
            ),
        ),
        _section("What a vote adds", _votes(results)) if votes.votes(results) else "",
        _section("Cost", _costs(results)),
        _section("Which is likelier to win", _comparisons(results))
        if results["comparisons"]
        else "",
        _section("Arms", "".join(_arm(arm, results) for arm in results["arms"])),
        _section(
            "Task and model",
            _settings({"task": results["task"], "model": results["model"]}),
        ),
        _section("Environment", _settings(results.get("environment") or {})),
        _section("How to repeat", _repeat()),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<script>{SCRIPT}</script></body></html>\n"
    )


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
            *(_score(arm["summary"]["by_size"].get(size), best[size]) for size in sizes),
            _score(arm["summary"]["score"]),
            _score(arm["summary"]["in_distribution"]),
        ]
        for index, arm in enumerate(arms)
    ]
    scores = _table(
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
    return _table(
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
        cells = [_name(arms[place], place, len(arms)), Cell(_text(vote.reading), kind="words")]
        for added in vote.by_size.values():
            value, between = votes.points(added)
            small = f"<small>{_text(between)}</small>" if between else ""
            cells.append(Cell(_text(value) + small, None if added is None else added.value))
        rows.append(cells)
    sizes = [f"size {size}" for size in results["task"]["test_sizes"]]
    return _table(["arm", "vote", *sizes], rows, f"In points. {votes.caption(results)}")


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
    return explain + _table(
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
                Cell(_text(pair["first"]), pair["first"]),
                Cell(_text(pair["second"]), pair["second"], "words"),
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
    return explain + _table(headings, rows, "", kind="")


def _arm(arm: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Settings of one arm and what each of its seeds did."""
    sizes = [str(size) for size in results["task"]["test_sizes"]]
    rows = []
    for seed in arm["seeds"]:
        scores = [(seed.get("scores") or {}).get(size) for size in sizes]
        cost = (seed.get("cost") or {}).get("forward_equivalents")
        rows.append(
            [
                Cell(_text(seed["seed"]), seed["seed"]),
                *(Cell("n/a" if entry is None else _seed_score(entry)) for entry in scores),
                Cell(report.compact(cost)),
                Cell(_text(seed.get("stopped", "")), kind="words"),
            ]
        )
    settings = {"strategy": arm["strategy"], **arm.get("settings", {}), "batch": arm.get("batch")}
    headings = ["seed", *sizes, "forward-equivalents", "stopped by"]
    kind = "gradient-free" if arm["gradient_free"] else "with gradients"
    return (
        f"<details><summary>{_text(arm['name'])} ({kind})</summary>{_settings(settings)}"
        f"{_table(headings, rows, 'Score in % at each test size.', kind='')}</details>"
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
        f"{_text(arm['name'])}<small>{_text(arm['strategy'])}</small>"
        f"<small>{kind}</small></span>"
    )
    return Cell(content, arm["name"])


def _score(entry: Mapping[str, Any] | None, best: str | None = None) -> Cell:
    if entry is None:
        return Cell("n/a")
    shown, between = report.percent(entry["iqm"]), report.interval(entry)
    small = f"<small>{_text(between)}</small>" if between else ""
    return Cell(_text(shown) + small, entry["iqm"], "best" if shown == best else "")


def _table(
    headings: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str, kind: str = "wide"
) -> str:
    """A table whose columns can be sorted; its first column names the rows."""
    head = "".join(f'<th scope="col">{_text(heading)}</th>' for heading in headings)
    body = "".join(
        "<tr>" + "".join(_cell(cell, first=not index) for index, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    below = f'<p class="explain">{_text(caption)}</p>' if caption else ""
    return (
        f'<div class="scroll"><table class="sortable {kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{below}"
    )


def _cell(cell: Cell, first: bool) -> str:
    sort = "" if cell.sort is None else _text(cell.sort)
    kind = f' class="{cell.kind}"' if cell.kind else ""
    if first:
        return f'<th scope="row" data-sort="{sort}"{kind}>{cell.content}</th>'
    return f'<td data-sort="{sort}"{kind}>{cell.content}</td>'


def _figure(figure: Figure, alternative: str, caption: str) -> str:
    data = base64.b64encode(plots.png(figure)).decode()
    return (
        f'<figure><img alt="{_text(alternative)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{_text(caption)}</figcaption>"
        "</figure>"
    )


def _describe(results: Mapping[str, Any]) -> str:
    """The numbers of the generalisation plot, for those who cannot see it."""
    lines = []
    for arm in results["arms"]:
        sizes = arm["summary"]["by_size"].items()
        scores = ", ".join(f"{report.spread(entry)} at {size}" for size, entry in sizes)
        lines.append(f"{arm['name']}: {scores}.")
    return " ".join(lines)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{_text(title)}</h2>\n{content}</section>"


def _paragraphs(sentences: Iterable[str]) -> str:
    return "".join(f"<p>{_text(sentence)}</p>" for sentence in sentences)


def _settings(settings: Mapping[str, Any]) -> str:
    # Plain results: what YAML cannot hold would have failed when results.json was written.
    shown = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    return f"<pre>{_text(shown)}</pre>"


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)
