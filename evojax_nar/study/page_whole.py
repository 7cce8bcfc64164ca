"""What all runs of a study say together: means, profiles, and which arm is likelier to win."""

from __future__ import annotations

from collections.abc import Sequence

from evojax_nar import report, stats
from evojax_nar.page_parts import Cell, image, paragraphs, table, text
from evojax_nar.study import measures
from evojax_nar.study import plots as study_plots
from evojax_nar.study.measures import Row
from evojax_nar.study.page_style import Keys

THRESHOLDS = [index / 25 for index in range(26)]
"""Where performance profiles are read."""


def headline(rows: Sequence[Row]) -> list[str]:
    """Which arms do best over all, in a sentence; nothing where no problem has every arm."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    runs = measures.runs(rows, arms)
    if runs is None or len(arms) < 2:
        return []
    means = {arm: measures.interquartile_mean(own) for arm, own in runs.scores.items()}
    ranked = sorted(arms, key=lambda arm: -means[arm].value)
    shown = [
        f"{arm} {100 * means[arm].value:.1f} % [{100 * means[arm].low:.1f}, "
        f"{100 * means[arm].high:.1f}]"
        for arm in ranked
    ]
    count = report.counted(len(runs.problems), "pair")
    return [
        f"From the floor (0 %) to perfect (100 %), over {count} of task and model: "
        f"{report.listed(report._few(shown))}."
    ]


def over_all(rows: Sequence[Row], keys: Keys) -> str:
    """What the rows of one multiple of the budget say together."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    runs = measures.runs(rows, arms)
    if runs is None:
        together = paragraphs(
            ["No task and model has been run with every arm, so there is nothing to add up."]
        )
    else:
        together = _together(runs, len(measures.by_problem(rows)), keys)
    return together + (_pairs(rows, arms, keys) if len(arms) > 1 else "")


def _together(runs: measures.Runs, every: int, keys: Keys) -> str:
    """Means and profiles over the problems that all arms have."""
    count = len(runs.problems)
    body = []
    for arm, scores in runs.scores.items():
        reached = [bool(cost < float("inf")) for cost in runs.costs[arm][..., 0].flat]
        body.append(
            [
                keys.cell(arm),
                _estimate(measures.interquartile_mean(scores)),
                _estimate(measures.optimality_gap(scores)),
                Cell(f"{sum(reached)} of {len(reached)}", sum(reached)),
            ]
        )
    intro = (
        f"Over the {report.counted(count, 'pair')} of task and model, of {every}, that every arm "
        "was run on. The score of a run is its mean over the test sizes, as the share of the way "
        "from the floor (what answers score that never look at the input) to 100 %: 0 % is the "
        "floor, and less than it is below 0."
    )
    means = table(
        ["arm", "interquartile mean", "optimality gap", f"runs at {100 * stats.TARGET:g} %"],
        body,
        "In %, with 95 % intervals by bootstrap within each task and model. The gap is the mean of "
        "what runs miss to 100 %, lower is better (Agarwal et al. 2021, arXiv:2108.13264). Runs at "
        f"{100 * stats.TARGET:g} % are those whose validation score at the training sizes "
        "got there.",
        "",
    )
    found = {arm: measures.profile(own, THRESHOLDS) for arm, own in runs.scores.items()}
    half = THRESHOLDS.index(0.48)
    profile = image(
        study_plots.profiles(found, THRESHOLDS, keys.looks),
        "Performance profile. Runs of at least 48 %: "
        + report.listed(
            [f"{arm} {report.percent(own[half].value)} %" for arm, own in found.items()]
        ),
        "Performance profiles: the share of the runs that score at least each threshold, with 95 % "
        "intervals (Agarwal et al. 2021). Higher is better.",
    )
    costs = []
    for axis, name in enumerate(measures.COST_AXES):
        ratios = measures.cost_ratios(runs, axis)
        cheapest = {arm: float((own == 1).mean()) for arm, own in ratios.items()}
        costs.append(
            image(
                study_plots.cost_profiles(ratios, keys.looks, axis),
                f"Cost to the target in {name}. The cheapest run of its task, model and seed: "
                + report.listed(
                    [f"{arm} {report.percent(own)} %" for arm, own in cheapest.items()]
                ),
                f"By {name}",
            )
        )
    explain = (
        '<p class="explain">Cost to the target: the share of the runs that reached '
        f"{100 * stats.TARGET:g} % at the training sizes within a factor of what the cheapest arm "
        "took on the same task, model and seed (Dolan and Moré 2002). Where a line begins is how "
        "often the arm was the cheapest, and where it ends how often it got there.</p>"
    )
    legend = keys.legend(runs.scores)
    return (
        f'<p>{text(intro)}</p>{means}{legend}<div class="one">{profile}</div>'
        f'<div class="panels">{"".join(costs)}</div>{explain}'
    )


def _pairs(rows: Sequence[Row], arms: Sequence[str], keys: Keys) -> str:
    """How likely a run of one arm is above one of another."""
    chances: dict[tuple[str, str], tuple[stats.Estimate, int, bool]] = {}
    for place, first in enumerate(arms):
        for second in arms[place + 1 :]:
            runs = measures.runs(rows, [first, second])
            if runs is not None:
                own = measures.improvement(runs.scores[first], runs.scores[second])
                count = len(runs.problems)
                seeds = len(runs.scores[first])
                able = not measures.too_few(seeds, seeds, count)
                mirrored = stats.Estimate(1 - own.value, 1 - own.high, 1 - own.low)
                chances[first, second] = own, count, able
                chances[second, first] = mirrored, count, able
    body = []
    for first in arms:
        cells = [keys.cell(first)]
        for second in arms:
            found = chances.get((first, second))
            if found is None:
                cells.append(Cell("–" if first == second else "n/a"))
                continue
            own, count, able = found
            kind = "best" if able and own.low > 0.5 else ""
            small = f"<small>{own.low:.2f}–{own.high:.2f}</small>"
            small += f"<small>{report.counted(count, 'pair')}</small>"
            cells.append(Cell(f"{own.value:.2f}{small}", own.value, kind))
        body.append(cells)
    caption = (
        "The probability that a run of the arm on the left scores higher than one of the arm above "
        "on the same task and model, mean over those that both were run on, ties counting half; "
        "0.50 is no difference. Bold where the 95 % interval lies above 0.5, and there are "
        "seeds enough for a rank test to find 5 %."
    )
    title = "<h3>Which is likelier to win</h3>"
    return title + table(["arm", *arms], body, caption, "wrap")


def _estimate(own: stats.Estimate) -> Cell:
    between = f"<small>{100 * own.low:.1f}–{100 * own.high:.1f}</small>"
    return Cell(f"{100 * own.value:.1f}{between if own.low < own.high else ''}", own.value)
