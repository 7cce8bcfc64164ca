"""What HTML pages are made of: their style, tables that can be sorted, figures inside the page.

Whatever comes from data goes through `text`, which escapes it.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml
from matplotlib.figure import Figure

from evojax_nar import plots, report

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


def document(title: str, parts: Iterable[str], style: str = "") -> str:
    """A whole page of finished HTML that loads nothing from elsewhere, without the empty parts.

    Args:
      title: plain text.
      parts: finished HTML, in order.
      style: rules beside those that all pages have.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<title>{text(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<script>{SCRIPT}</script></body></html>\n"
    )


def table(
    headings: Sequence[str | Cell],
    rows: Iterable[Sequence[Cell]],
    caption: str,
    kind: str = "wide",
) -> str:
    """A table whose columns can be sorted; its first column names the rows.

    Args:
      headings: plain text, or cells of finished HTML where a column has a class.
      rows: cells, as many as headings.
      caption: plain text, shown below.
      kind: class of the table.
    """
    head = "".join(_heading(heading) for heading in headings)
    body = "".join(
        "<tr>" + "".join(_cell(cell, first=not index) for index, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    below = f'<p class="explain">{text(caption)}</p>' if caption else ""
    return (
        f'<div class="scroll"><table class="sortable {kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{below}"
    )


def score_cell(entry: Mapping[str, Any] | None, best: str | None = None) -> Cell:
    """An interquartile mean and its interval, in bold where it is shown as `best` is."""
    if entry is None:
        return Cell("n/a")
    shown, between = report.percent(entry["iqm"]), report.interval(entry)
    small = f"<small>{text(between)}</small>" if between else ""
    return Cell(text(shown) + small, entry["iqm"], "best" if shown == best else "")


def image(figure: Figure, alternative: str, caption: str) -> str:
    """A figure inside the page, with words for those who cannot see it and a caption."""
    data = base64.b64encode(plots.png(figure)).decode()
    return (
        f'<figure><img alt="{text(alternative)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text(caption)}</figcaption>"
        "</figure>"
    )


def section(title: str, content: str, target: str = "") -> str:
    """A part of the page: a title, which is escaped, and finished HTML; links go to `target`."""
    own = f' id="{text(target)}"' if target else ""
    return f"<section{own}><h2>{text(title)}</h2>\n{content}</section>"


def paragraphs(sentences: Iterable[str]) -> str:
    """A paragraph a sentence, escaped."""
    return "".join(f"<p>{text(sentence)}</p>" for sentence in sentences)


def yaml_block(settings: Mapping[str, Any]) -> str:
    """Settings as YAML, escaped."""
    # Plain results: what YAML cannot hold would have failed when results.json was written.
    shown = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    return f"<pre>{text(shown)}</pre>"


def text(value: Any) -> str:
    """`value` as text that HTML takes for text, between tags and inside attributes."""
    return html.escape(str(value), quote=True)


def _heading(heading: str | Cell) -> str:
    if isinstance(heading, Cell):
        return f'<th scope="col" class="{heading.kind}">{heading.content}</th>'
    return f'<th scope="col">{text(heading)}</th>'


def _cell(cell: Cell, first: bool) -> str:
    sort = "" if cell.sort is None else text(cell.sort)
    kind = f' class="{cell.kind}"' if cell.kind else ""
    if first:
        return f'<th scope="row" data-sort="{sort}"{kind}>{cell.content}</th>'
    return f'<td data-sort="{sort}"{kind}>{cell.content}</td>'
