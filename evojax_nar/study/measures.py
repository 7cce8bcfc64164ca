"""What the runs of many tasks and models say together about the arms that trained them.

A problem is one task with one model at one multiple of the budget. Arms are compared over the
problems that all of them were run on. The measures are those of Agarwal et al. 2021,
arXiv:2108.13264, with a problem as a stratum, and the profiles of cost those of Dolan and Moré,
"Benchmarking optimization software with performance profiles", 2002, arXiv:cs/0102001.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from evojax_nar import report, stats
from evojax_nar.stats import Estimate

Row: TypeAlias = Mapping[str, Any]
COST_AXES = ("forward-equivalents", "FLOPs", "device-seconds")
"""The first three numbers of a point of a curve; the fourth is the validation score."""
SAMPLES = 1000
"""Bootstrap samples of each interval."""
NEAR = 1.5
"""A test size stands for a multiple of the largest training size that is within this factor."""


class Problem(NamedTuple):
    """What arms compete on."""

    task: str
    model: str
    multiple: float


def problem(row: Row) -> Problem:
    """The problem that a row is of."""
    return Problem(row["task"], row["model"], row["multiple"])


def by_problem(rows: Iterable[Row]) -> dict[Problem, dict[str, Row]]:
    """Rows by problem, and then by arm, in their order."""
    found: dict[Problem, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(problem(row), {})[row["arm"]] = row
    return found


@dataclass(frozen=True)
class Runs:
    """Runs of some arms on the M problems that all of these arms have, S seeds each."""

    problems: tuple[Problem, ...]
    scores: Mapping[str, np.ndarray]
    """(S, M) for each arm: the mean over the test sizes of the share of the way from the floor to
    a perfect score. A size without a known floor counts from 0."""
    costs: Mapping[str, np.ndarray]
    """(S, M, 3) for each arm: what each run had cost, on `COST_AXES`, when its validation score
    first was at least `stats.TARGET`; infinite where it never was."""


def runs(rows: Iterable[Row], arms: Sequence[str]) -> Runs | None:
    """The runs of `arms` on the problems that all of them have; None where there is none.

    Where arms differ in the number of their seeds, the first so many of each that all have.
    """
    shared = {
        name: [found[arm] for arm in arms]
        for name, found in by_problem(rows).items()
        if all(arm in found for arm in arms)
    }
    if not shared:
        return None
    count = min(len(row["seeds"]) for group in shared.values() for row in group)
    scores: dict[str, list[np.ndarray]] = {arm: [] for arm in arms}
    costs: dict[str, list[list[list[float]]]] = {arm: [] for arm in arms}
    for group in shared.values():
        for arm, row, score in zip(arms, group, _above_floor(group), strict=True):
            scores[arm].append(score[:count])
            costs[arm].append([_reached(seed) for seed in row["seeds"][:count]])
    return Runs(
        tuple(shared),
        {arm: np.stack(own, axis=1) for arm, own in scores.items()},
        {arm: np.asarray(own, float).swapaxes(0, 1) for arm, own in costs.items()},
    )


def interquartile_mean(scores: np.ndarray) -> Estimate:
    """The mean of the middle half of all runs (S, M), with its 95 % interval."""
    return stats.stratified_bootstrap(
        scores, lambda drawn: stats.interquartile_mean(drawn, (-2, -1)), samples=SAMPLES
    )


def optimality_gap(scores: np.ndarray) -> Estimate:
    """How far runs (S, M) are from a perfect score, on average; lower is better (section 4.3)."""
    return stats.stratified_bootstrap(
        scores, lambda drawn: 1.0 - np.minimum(drawn, 1.0).mean((-2, -1)), samples=SAMPLES
    )


def profile(scores: np.ndarray, thresholds: Sequence[float]) -> list[Estimate]:
    """The share of the runs (S, M) that reach each threshold, with pointwise intervals.

    As in section 4.2, but for a run that equals a threshold, which counts here: a perfect one
    reaches 1.
    """
    found = []
    for threshold in thresholds:
        least = min(threshold, stats.PERFECT)
        found.append(
            stats.stratified_bootstrap(
                scores, lambda drawn, least=least: (drawn >= least).mean((-2, -1)), samples=SAMPLES
            )
        )
    return found


def improvement(first: np.ndarray, second: np.ndarray) -> Estimate:
    """How likely a run of `first` (S, M) is above one of `second` (S, M) on the same problem.

    The mean over the problems of the Mann-Whitney statistic, ties counting half (section 4.3).
    """
    count = first.shape[1]

    def chance(both: np.ndarray) -> np.ndarray:
        total = np.zeros(both.shape[:-2])
        for place in range(count):  # one at a time, since all pairs of all samples are many
            one, two = both[..., :, None, place], both[..., None, :, count + place]
            total += np.heaviside(one - two, 0.5).mean((-2, -1))
        return total / count

    both = np.concatenate([first, second], axis=1)
    return stats.stratified_bootstrap(both, chance, samples=SAMPLES)


def cost_ratios(runs: Runs, axis: int) -> dict[str, np.ndarray]:
    """How many times the cost of the cheapest arm each run (S, M) took to the target.

    Runs of one problem and seed are compared with each other. Infinite where the target was not
    reached, by this arm or by any.
    """
    costs = {arm: own[..., axis] for arm, own in runs.costs.items()}
    cheapest = np.min(list(costs.values()), axis=0)
    known = np.isfinite(cheapest) & (cheapest > 0)
    return {
        arm: np.where(known, own / np.where(known, cheapest, 1.0), np.inf)
        for arm, own in costs.items()
    }


def told_apart(better: Sequence[float], worse: Sequence[float]) -> bool:
    """Whether seeds (S1,) are above others (S2,) by more than chance would put them.

    They are where the 95 % interval of the probability of improvement lies above 0.5. With so few
    seeds that no outcome of an exact rank test is rarer than 5 %, they never are.
    """
    if too_few(len(better), len(worse)):
        return False
    return stats.probability_of_improvement(better, worse, samples=SAMPLES).low > 0.5


def too_few(first: int, second: int, problems: int = 1) -> bool:
    """Whether so many seeds of two arms, on so many problems, can never be told apart.

    They cannot where even complete separation has more than 5 % in an exact rank test of two sides.
    """
    return 2 / math.comb(first + second, first) ** problems > 0.05


def marks(seeds: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """ "best" for the arm with the highest interquartile mean, "tied" for what is not below it.

    Arms that show the same score are all best; where all show it there is nothing to mark.

    Args:
      seeds: scores of the seeds of each arm.
    """
    means = {arm: float(stats.interquartile_mean(own)) for arm, own in seeds.items()}
    if len({report.percent(mean) for mean in means.values()}) < 2:
        return {}
    top = max(means, key=means.__getitem__)
    found = {}
    for arm, own in seeds.items():
        if report.percent(means[arm]) == report.percent(means[top]):
            found[arm] = "best"
        elif not told_apart(seeds[top], own):
            found[arm] = "tied"
    return found


def size_near(row: Row, multiple: float) -> str | None:
    """The test size nearest to a multiple of the largest training size, as a key; None if far."""
    largest = max(row["train_sizes"])
    away = {
        size: abs(math.log(size / (multiple * largest)))
        for size in row["test_sizes"]
        if size > largest
    }
    nearest = min(away, key=away.__getitem__, default=None)
    return None if nearest is None or away[nearest] > math.log(NEAR) else str(nearest)


def seed_scores(row: Row, size: str | None) -> list[float]:
    """Scores of a row's seeds at a size, or at the training sizes for None.

    Empty where it does not apply; what is not finite counts as 0.
    """
    found = [
        seed.get("in_distribution") if size is None else (seed.get("scores") or {}).get(size)
        for seed in row["seeds"]
    ]
    if all(entry is None for entry in found):
        return []
    return [stats._score(entry) or 0.0 for entry in found]


def _above_floor(group: Sequence[Row]) -> list[np.ndarray]:
    """(S,) mean scores of the seeds of each row, from the floor up, at the sizes that all have."""
    sizes = [
        str(size)
        for size in group[0]["test_sizes"]
        if all(seed_scores(row, str(size)) for row in group)
    ]
    found = []
    for row in group:
        total = np.zeros(len(row["seeds"]))
        for size in sizes:
            floor = (row.get("floors") or {}).get(size) or 0.0
            own = np.asarray(seed_scores(row, size))
            total += own if floor >= 1 else (own - floor) / (1 - floor)
        found.append(total / max(1, len(sizes)))
    return found


def _reached(seed: Mapping[str, Any]) -> list[float]:
    """Costs of the first point of a curve (of four numbers) that meets the target."""
    for *costs, score in seed.get("curve") or ():
        if score is not None and score >= stats.TARGET:
            return [math.inf if cost is None else float(cost) for cost in costs]
    return [math.inf] * len(COST_AXES)
