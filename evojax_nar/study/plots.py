"""Small figures of a study, one a panel, so that a page can set them side by side or in a column.

They hold no legend: the page shows the key of each arm once, by `key`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from evojax_nar import plots
from evojax_nar.plots import Look
from evojax_nar.stats import Estimate
from evojax_nar.study.measures import COST_AXES, Row

WIDTH, HEIGHT = 3.4, 2.5
_THIN = 0.6


def key(look: Look) -> Figure:
    """How the lines of an arm look, without axes."""
    figure = Figure(figsize=(0.4, 0.11))
    figure.patch.set_alpha(0.0)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.add_line(Line2D([0.03, 0.97], [0.5, 0.5], **_line(look)))
    axes.plot([0.5], [0.5], **_marker(look))
    return figure


def generalisation(rows: Mapping[str, Row], looks: Mapping[str, Look], lowest: float) -> Figure:
    """Score over test size of each arm on one problem, with 95 % intervals, and the floor.

    Args:
      rows: by arm.
      looks: by arm.
      lowest: score that the axis begins below.
    """
    figure, axes = _panel()
    first = next(iter(rows.values()))
    sizes = sorted(int(size) for size in first["test_sizes"])
    spacing = plots._spacing(sizes, len(looks))
    for arm, row in rows.items():
        look = looks[arm]
        entries = [row["summary"]["by_size"].get(str(size)) for size in sizes]
        value, low, high = (
            np.array([np.nan if entry is None else entry[end] for entry in entries]) * 100
            for end in ("iqm", "low", "high")
        )
        x = np.array(sizes) * np.exp(look.shift * spacing)
        axes.vlines(x, low, high, color=look.colour, lw=1.0, alpha=0.7, zorder=look.order)
        axes.plot(x, value, zorder=look.order, **_line(look), **_marker(look))
    floors = [(first.get("floors") or {}).get(str(size)) for size in sizes]
    known = [np.nan if floor is None else 100 * floor for floor in floors]
    axes.plot(sizes, known, color=plots.GREY, lw=1.0, ls=":", zorder=1.0)
    plots._show_training(axes, first["train_sizes"], sizes, spacing)
    for note in axes.texts:
        note.set_fontsize(7)
    plots._score_axis(axes, lowest, "score (%)")
    plots._size_axis(axes, sizes, False)
    return figure


def learning(
    rows: Mapping[str, Row], looks: Mapping[str, Look], axis: int, lowest: float
) -> Figure:
    """Validation score over one of `COST_AXES`: the median of the seeds of each arm.

    A seed that has stopped counts on with its last value, and one that is not finite as 0.
    """
    figure, axes = _panel()
    for arm, row in rows.items():
        if series := _series(row, axis):
            x, y = plots._median(series)
            axes.plot(
                x,
                100 * y,
                zorder=looks[arm].order,
                markevery=[len(x) - 1],
                **_line(looks[arm]),
                **_marker(looks[arm]),
            )
    if axes.get_lines():
        axes.set_xscale("log")
        _decades(axes)
    plots._score_axis(axes, lowest, "validation score (%)")
    axes.set_xlabel(COST_AXES[axis])
    plots._plain_frame(axes)
    return figure


def profiles(
    found: Mapping[str, Sequence[Estimate]], thresholds: Sequence[float], looks: Mapping[str, Look]
) -> Figure:
    """The share of the runs at or above each threshold, with its 95 % interval."""
    figure, axes = _panel(wide=True)
    x = 100 * np.asarray(thresholds)
    for arm, estimates in found.items():
        value, low, high = (
            100 * np.array([getattr(own, end) for own in estimates])
            for end in ("value", "low", "high")
        )
        look = looks[arm]
        axes.fill_between(x, low, high, color=look.colour, alpha=0.13, lw=0, zorder=1.0)
        axes.plot(x, value, zorder=look.order, markevery=_some(len(x)), **_both(look))
    axes.set(xlim=(x[0], x[-1]), ylim=(-2, 102))
    axes.set_xlabel("score above the floor (%)")
    axes.set_ylabel("runs at least there (%)")
    plots._plain_frame(axes)
    return figure


def cost_profiles(ratios: Mapping[str, np.ndarray], looks: Mapping[str, Look], axis: int) -> Figure:
    """The share of the runs that reached the target within a factor of the cheapest's cost.

    Args:
      ratios: of each arm, in any shape; infinite where the target was not reached.
      looks: by arm.
      axis: which of `COST_AXES` they are of.
    """
    figure, axes = _panel()
    finite = [own[np.isfinite(own)] for own in ratios.values()]
    largest = max([2.0, *(float(own.max()) for own in finite if own.size)])
    for arm, own in ratios.items():
        steps = np.sort(own[np.isfinite(own)])
        x = np.concatenate([[1.0], steps, [1.2 * largest]])
        shares = np.concatenate([[0.0], np.arange(1, steps.size + 1), [steps.size]]) / own.size
        axes.plot(
            x,
            100 * shares,
            drawstyle="steps-post",
            zorder=looks[arm].order,
            markevery=[len(x) - 2],
            **_both(looks[arm]),
        )
    axes.set_xscale("log")
    axes.set(xlim=(0.97, 1.2 * largest), ylim=(-2, 102))
    _decades(axes)
    axes.set_xlabel(f"times the least {COST_AXES[axis]}")
    axes.set_ylabel("runs at the target (%)")
    plots._plain_frame(axes)
    return figure


def _series(row: Row, axis: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cost and validation score of each seed, where the cost is known and more than none."""
    found = []
    for seed in row["seeds"]:
        curve = [point for point in seed.get("curve") or () if (point[axis] or 0) > 0]
        if curve:
            x = np.array([point[axis] for point in curve], float)
            found.append((x, np.array([point[3] or 0.0 for point in curve], float)))
    return found


def _panel(wide: bool = False) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH * (1.5 if wide else 1), HEIGHT * (1.15 if wide else 1)))
    axes = figure.add_axes((0.115, 0.17, 0.865, 0.8) if wide else (0.17, 0.19, 0.805, 0.77))
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    return figure, axes


def _decades(axes: Axes) -> None:
    """A logarithmic axis with at least three ticks where it can have them, and at most six."""
    low, high = axes.get_xlim()
    powers = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.empty(0)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.2, 1.5, 2, 3, 4, 6, 8)):
        every = np.sort(np.outer(10.0**powers, steps).reshape(-1))
        ticks = every[(every >= low) & (every <= high)]
        if ticks.size >= 3:
            break
    axes.xaxis.set_major_locator(FixedLocator(list(ticks[:: -(-ticks.size // 6) or 1])))
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.xaxis.set_minor_locator(NullLocator())


def _short(value: float, _: object = None) -> str:
    """A tick: 0.05, 20, 3e5."""
    if 1e-3 <= value < 1e4:
        return f"{value:g}"
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _some(count: int) -> list[int]:
    """Places of a few markers on a line."""
    return list(range(count // 8, count, max(1, count // 4)))


def _line(look: Look) -> dict[str, Any]:
    return plots._line(look, max(1.2, _THIN * look.width))


def _marker(look: Look) -> dict[str, Any]:
    return {**plots._marker(look), "markersize": 4.5, "markeredgewidth": 0.5}


def _both(look: Look) -> dict[str, Any]:
    return {**_line(look), **_marker(look)}
