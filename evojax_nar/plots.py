"""Figures of the results: learning curves, and score over size.

Figures are made without `pyplot`, so that notebooks and threads keep their own state. Arms whose
lines lie on each other stay visible: a line drawn later is thinner than those below it.
"""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from evojax_nar import report
from evojax_nar.files import write_bytes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA3377", "#E69F00", "#56B4E9", "#333333")
"""Told apart with the common forms of colour blindness (after Okabe and Ito, 2008)."""
MARKERS = ("o", "s", "^", "D", "v", "X", "p", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
GREY = "#5a5a5a"
MEDIAN_WIDTH = 2.2


@dataclass(frozen=True)
class Look:
    """How one arm is drawn, the same in all figures."""

    colour: str
    marker: str
    dash: Any
    width: float
    order: float
    shift: float
    """Where among the arms it stands, from -1 to 1: points are set apart sideways by it."""


def looks(count: int) -> list[Look]:
    """The looks of `count` arms: the first is drawn lowest and widest."""
    places = np.linspace(0.0, 1.0, count) if count > 1 else np.zeros(1)
    return [
        Look(
            colour=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            dash=DASHES[index % len(DASHES)],
            width=float(3.6 - 2.2 * place) if count > 1 else 2.2,
            order=2.0 + 0.1 * index,
            shift=float(2.0 * place - 1.0) if count > 1 else 0.0,
        )
        for index, place in enumerate(places)
    ]


def generalisation(results: Mapping[str, Any]) -> Figure:
    """Score over test size: the interquartile mean of each arm, with its 95 % interval.

    The training sizes are shaded. Sizes that a model cannot run are left out, and the legend says
    which. The points of one size stand slightly apart, so that equal scores can all be seen.
    """
    results = report.summarised(results)
    sizes = sorted(int(size) for size in results["task"]["test_sizes"])
    arms = results["arms"]
    figure = Figure(figsize=(6.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    handles, lowest = [], 1.0
    spacing = _spacing(sizes, len(arms))
    for arm, look in zip(arms, looks(len(arms)), strict=True):
        entries = [arm["summary"]["by_size"].get(str(size)) for size in sizes]
        x = np.array(sizes) * np.exp(look.shift * spacing)
        value, low, high = (
            np.array([np.nan if entry is None else entry[key] for entry in entries]) * 100
            for key in ("iqm", "low", "high")
        )
        name = _label(arm["name"])
        axes.fill_between(x, low, high, color=look.colour, alpha=0.18, lw=0, zorder=look.order - 1)
        axes.vlines(x, low, high, color=look.colour, lw=1.2, zorder=look.order)
        axes.plot(x, value, label=name, zorder=look.order, **_line(look), **_marker(look))
        missing = [str(size) for size, entry in zip(sizes, entries, strict=True) if entry is None]
        note = f" (n/a at {', '.join(missing)})" if missing else ""
        handles.append(Line2D([], [], label=name + note, **_line(look), **_marker(look)))
        if np.isfinite(low).any():
            lowest = min(lowest, float(np.nanmin(low)) / 100)
    _show_training(axes, results["task"]["train_sizes"], sizes, spacing)
    _score_axis(axes, lowest, "score (%)")
    _size_axis(axes, sizes, len(arms) > 1)
    seeds = max(arm["summary"]["seeds"] for arm in arms)
    _dress(
        figure,
        axes,
        handles,
        f"{results['task']['name']}: {report.headline(results)[0]}",
        f"Score over size, interquartile mean of {report.counted(seeds, 'seed')}"
        + (" with 95 % interval" if seeds > 1 else ""),
    )
    return figure


def curves(results: Mapping[str, Any]) -> Figure:
    """Learning curves over forward-equivalents: validation score and loss, and the largest size.

    The strong line is the median of the seeds, the faint ones the seeds. A seed that has stopped
    counts on with its last value; one that is not finite counts as the worst.
    """
    results = report.summarised(results)
    arms = results["arms"]
    points = [point for arm in arms for seed in arm["seeds"] for point in seed.get("curve") or ()]
    monitored = [
        str(size)
        for size in sorted(results["task"]["test_sizes"])
        if any((point.get("scores") or {}).get(str(size)) is not None for point in points)
    ]
    panels: list[tuple[str, Callable[[Mapping[str, Any]], Any], bool]] = [
        ("validation score (%)\nat training sizes", lambda point: point["validation_score"], True),
        ("validation loss\nat training sizes", lambda point: point["validation_loss"], False),
    ]
    if monitored:
        largest = monitored[-1]
        panels.append(
            (f"score (%)\nat size {largest}", lambda point: point["scores"][largest], True)
        )
    figure = Figure(figsize=(6.6, 1.7 + 2.1 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    handles = []
    for arm, look in zip(arms, looks(len(arms)), strict=True):
        drawn = [
            _draw_seeds(axes, arm, look, read, is_score)
            for axes, (_, read, is_score) in zip(grid, panels, strict=True)
        ]
        note = "" if drawn[0] else " (no curve)"
        if monitored and drawn[0] and not drawn[-1]:
            note = f" (n/a at {monitored[-1]})"
        handles.append(
            Line2D(
                [],
                [],
                label=_label(arm["name"]) + note,
                **_line(look, MEDIAN_WIDTH),
                **_marker(look),
            )
        )
    for axes, (name, _, is_score) in zip(grid, panels, strict=True):
        ends = [line.get_ydata() for line in axes.get_lines()]
        found = np.concatenate([np.asarray(end, float) for end in ends]) if ends else np.empty(0)
        found = found[np.isfinite(found)]
        if is_score:
            _score_axis(axes, float(found.min()) / 100 if found.size else 0.0, name)
        else:
            axes.set_ylabel(name)
            if found.size and found.min() > 0 and found.max() > 10 * found.min():
                axes.set_yscale("log")
        _plain_frame(axes)
    if points:
        grid[-1].set_xscale("log")
    grid[-1].set_xlabel("cost (forward-equivalents)")
    sentences = report.headline(results)
    costs = next((text for text in sentences if text.startswith("Mean cost")), sentences[0])
    _dress(
        figure,
        grid[0],
        handles,
        f"{results['task']['name']}: {costs}",
        "Learning curves: median of the seeds (strong) and each seed (faint)"
        if any(len(arm["seeds"]) > 1 for arm in arms)
        else "Learning curves of one seed an arm",
    )
    return figure


def save(results: Mapping[str, Any], folder: str | os.PathLike[str]) -> list[Path]:
    """Writes `curves.png` and `generalisation.png` into `folder`, and gives their paths."""
    results = report.summarised(results)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for draw in (curves, generalisation):
        paths.append(target / f"{draw.__name__}.png")
        write_bytes(paths[-1], png(draw(results)))
    return paths


def png(figure: Figure) -> bytes:
    """The figure as a PNG file of 160 dots an inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def _draw_seeds(
    axes: Axes,
    arm: Mapping[str, Any],
    look: Look,
    read: Callable[[Mapping[str, Any]], Any],
    is_score: bool,
) -> bool:
    """Draws the seeds of one arm and their median; False where there is nothing to draw."""
    worst, scale = (0.0, 100.0) if is_score else (np.inf, 1.0)
    series = []
    for seed in arm["seeds"]:
        curve = [point for point in seed.get("curve") or () if point["forward_equivalents"] > 0]
        values = [_read(read, point) for point in curve]
        if any(value is not None for value in values):
            x = np.array([point["forward_equivalents"] for point in curve], float)
            y = np.array([worst if value is None else value * scale for value in values], float)
            series.append((x, y))
    if not series:
        return False
    for x, y in series if len(series) > 1 else ():
        axes.plot(x, _shown(y), color=look.colour, lw=0.9, alpha=0.45, zorder=1.5)
        axes.plot(
            x[-1:], _shown(y[-1:]), look.marker, color=look.colour, ms=3.5, alpha=0.6, zorder=1.6
        )
    x, y = _median(series)
    axes.plot(
        x,
        _shown(y),
        label=_label(arm["name"]),
        zorder=look.order,
        markevery=[len(x) - 1],
        **_line(look, MEDIAN_WIDTH),
        **_marker(look),
    )
    return True


def _median(series: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The median of step curves: from where all have begun, each held at its last value."""
    begun = max(x[0] for x, _ in series)
    grid = np.unique(np.concatenate([x for x, _ in series]))
    grid = grid[grid >= begun]
    held = [y[np.searchsorted(x, grid, side="right") - 1] for x, y in series]
    # Sorting instead of np.median, which would average an infinite loss with a finite one.
    ranked = np.sort(np.stack(held), axis=0)
    middle = len(series) // 2
    if len(series) % 2:
        return grid, ranked[middle]
    return grid, (ranked[middle - 1] + ranked[middle]) / 2


def _read(read: Callable[[Mapping[str, Any]], Any], point: Mapping[str, Any]) -> Any:
    """What `read` finds in a point of a curve, None where the point has no such entry."""
    try:
        return read(point)
    except (KeyError, TypeError):
        return None


def _shown(values: np.ndarray) -> np.ndarray:
    """Numbers that are not finite become gaps."""
    return np.where(np.isfinite(values), values, np.nan)


def _line(look: Look, width: float | None = None) -> dict[str, Any]:
    return {"color": look.colour, "linestyle": look.dash, "linewidth": width or look.width}


def _marker(look: Look) -> dict[str, Any]:
    return {
        "marker": look.marker,
        "markersize": 7.5,
        "markerfacecolor": look.colour,
        "markeredgecolor": "white",
        "markeredgewidth": 0.9,
    }


def _label(name: str) -> str:
    """`name` as text that matplotlib neither sets as a formula nor hides."""
    short = name[:39] + "…" if len(name) > 40 else name
    return ("\u200a" if short.startswith("_") else "") + short.replace("$", r"\$")


def _spacing(sizes: Sequence[int], arms: int) -> float:
    """How far the outer arms stand from a size, in its logarithm: about a marker an arm."""
    places = np.log(sorted(set(sizes)))
    across = float(places[-1] - places[0]) + 1.0
    return float(min(0.009 * (arms - 1) * across, *(0.3 * np.diff(places)), 0.5))


def _show_training(
    axes: Axes, train_sizes: Sequence[int], sizes: Sequence[int], spacing: float
) -> None:
    """Shades the sizes that were trained on, with all points that stand for the largest one."""
    largest = max(train_sizes)
    beyond = [size for size in sizes if size > largest]
    room = 0.4 * np.log(min(beyond) / largest) if beyond else 1.5 * spacing
    edge = largest * np.exp(min(1.5 * spacing, room)) if largest in sizes else largest
    left = 0.95 * max(min(train_sizes), min(*sizes, largest) / 2.2) * np.exp(-spacing)
    axes.set_xscale("log")
    axes.set_xlim(left, 1.15 * max(*sizes, largest) * np.exp(spacing))
    axes.axvspan(left, edge, color="#000000", alpha=0.06, lw=0, zorder=0)
    axes.axvline(edge, color=GREY, lw=1.2, ls="--", zorder=0.5)
    axes.annotate(
        f"trained on\n{report.ranged(train_sizes)}",
        xy=(0.012, 0.03),
        xycoords="axes fraction",
        color=GREY,
        fontsize=9,
        va="bottom",
    )


def _size_axis(axes: Axes, sizes: Sequence[int], spread: bool) -> None:
    """Ticks at the test sizes, with labels as far as they have room."""
    ends = np.log(axes.get_xlim())
    room, last, labelled = 0.05 * (ends[1] - ends[0]), -np.inf, set()
    for size in sorted(sizes):
        if np.log(size) - last >= room:
            labelled.add(size)
            last = np.log(size)
    axes.xaxis.set_major_locator(FixedLocator(sorted(sizes)))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda size, _: f"{size:g}" if round(size) in labelled else "")
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("test size" + (" (points of one size stand side by side)" if spread else ""))
    _plain_frame(axes)


def _score_axis(axes: Axes, lowest: float, name: str) -> None:
    """Scores in percent, from the tenth below the lowest one to a little above 100."""
    floor = max(0.0, np.floor(10 * (lowest - 0.03)) * 10)
    axes.set_ylim(floor - (0 if floor else 2), 100 + 0.05 * (100 - floor))
    axes.set_ylabel(name)


def _plain_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, which="major", color="#000000", alpha=0.09, lw=0.8)
    axes.set_axisbelow(True)


def _dress(
    figure: Figure, axes: Axes, handles: Sequence[Line2D], title: str, subtitle: str
) -> None:
    """Title, subtitle above `axes`, and the legend of all arms below."""
    title = title.replace("$", r"\$").removesuffix(".")
    lines = -(-len(title) // 68)
    figure.suptitle(
        # Lines of about equal length, so that no word stands alone.
        textwrap.fill(title, min(68, len(title) // lines + 10), break_on_hyphens=False),
        x=0.012,
        ha="left",
        fontsize=11.5,
        fontweight="bold",
    )
    axes.set_title(subtitle, loc="left", fontsize=10, color=GREY)
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        columns = max(1, min(4, len(handles), 76 // (longest + 10)))
        figure.set_figheight(figure.get_figheight() + 0.22 * -(-len(handles) // columns))
        figure.legend(
            handles=list(handles),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=10,
            handlelength=3.2,
        )
