"""Statistics over seeds: interquartile means, bootstrap intervals and who is likelier to win.

The measures are those of Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", 2021, arXiv:2108.13264.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from evojax_nar.errors import InputError, finite, positive_int, reject

PERFECT = 1.0 - 2e-7
"""A score from here on is 1.0: a float32 mean of ones may miss it by two roundings."""

TARGET = 0.99
"""The validation score at which `cost_to_target` is read."""

SCHEMA = "evojax_nar/results/1"
"""The form of the results that this version summarises."""


class Estimate(NamedTuple):
    """A number from the seeds at hand, and its bootstrap interval."""

    value: float
    low: float
    high: float


def interquartile_mean(values: ArrayLike, axis: int | tuple[int, ...] | None = None) -> Any:
    """Mean of the middle half of `values` along `axis` (all of them where it is None).

    A quarter of the numbers, rounded down, is cut from each end, as `scipy.stats.trim_mean(values,
    0.25)` does. So fewer than four numbers give their plain mean.

    Raises:
      InputError: where there is no number, or one that is not finite.
    """
    array = _numbers("values", values)
    axes = tuple(range(array.ndim)) if axis is None else axis
    axes = (axes,) if isinstance(axes, int) else axes
    array = np.moveaxis(array, axes, range(-len(axes), 0))
    array = np.sort(array.reshape(*array.shape[: array.ndim - len(axes)], -1), axis=-1)
    count = array.shape[-1]
    cut = count // 4
    return array[..., cut : count - cut].mean(axis=-1)


def stratified_bootstrap(
    scores: ArrayLike,
    statistic: Callable[[np.ndarray], Any],
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A statistic of runs, with its percentile interval.

    The S runs are drawn anew, with replacement and independently within each of the M strata
    (arXiv:2108.13264, section 4.2). One run leaves nothing to draw: the interval has no width.

    Args:
      scores: (S, M), or (S,) for one stratum.
      statistic: maps (..., S, M) to (...).
      samples: how many times to draw.
      confidence: the share of the drawn statistics that lies in the interval.
      seed: seeds the draws, so that the same scores give the same interval.

    Raises:
      InputError: where an argument is out of range or `statistic` gives another shape.
    """
    table = _numbers("scores", scores)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2:
        raise reject("scores.shape", table.shape, "is not (S, M)", "give one row a run")
    positive_int("samples", samples)
    runs, strata = table.shape
    generator = np.random.default_rng(seed)
    picks = generator.integers(runs, size=(samples, runs, strata))
    drawn = np.asarray(statistic(table[picks, np.arange(strata)]))
    if drawn.shape != (samples,):
        raise reject(
            "statistic", statistic, f"gave {drawn.shape}", "let it map (..., S, M) to (...)"
        )
    return Estimate(float(statistic(table)), *_percentiles(drawn, confidence))


def probability_of_improvement(
    first: ArrayLike,
    second: ArrayLike,
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """How likely a run of `first` (S1,) scores above one of `second` (S2,), ties counting half.

    This is the Mann-Whitney statistic over S1 x S2 (arXiv:2108.13264, section 4.3). The interval
    is the percentile bootstrap over both sets of runs.

    Raises:
      InputError: where a set is empty or holds a number that is not finite.
    """
    one = _numbers("first", first).reshape(-1)
    two = _numbers("second", second).reshape(-1)
    positive_int("samples", samples)
    generator = np.random.default_rng(seed)
    wins = np.heaviside(one[:, None] - two[None, :], 0.5)
    rows = generator.integers(one.size, size=(samples, one.size, 1))
    columns = generator.integers(two.size, size=(samples, 1, two.size))
    drawn = wins[rows, columns].mean(axis=(1, 2))
    return Estimate(float(wins.mean()), *_percentiles(drawn, confidence))


def success_rate(values: ArrayLike, threshold: float = PERFECT) -> float:
    """The share of `values` that is at least `threshold`."""
    return float(np.mean(_numbers("values", values) >= threshold))


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> np.ndarray:
    """The share of all runs in `scores` (S, M) that scores above each of `thresholds` (K,).

    Gives (K,). Above is strict, as in arXiv:2108.13264, section 4.2.
    """
    runs = _numbers("scores", scores).reshape(-1)
    return np.mean(runs[None, :] > _numbers("thresholds", thresholds).reshape(-1, 1), axis=1)


def summarise(results: Mapping[str, Any]) -> dict[str, Any]:
    """`results` with a `summary` in each arm and the `comparisons` of all pairs of arms.

    A size is not applicable to an arm where no seed has a score for it. A score that is missing
    otherwise was not finite, and counts as 0, the worst: leaving it out would reward divergence.
    Two arms are compared by their mean scores over the sizes that apply to both.

    Raises:
      InputError: where `results` is of another schema, has no arm, or an arm has no seed.
    """
    if results.get("schema") != SCHEMA:
        raise reject(
            "results['schema']", results.get("schema"), "is not known", f"this reads {SCHEMA!r}"
        )
    if not results["arms"]:
        raise reject("results['arms']", [], "holds no arm", "run at least one")
    sizes = [str(size) for size in results["task"]["test_sizes"]]
    arms = [{**arm, "summary": _summary(arm, sizes)} for arm in results["arms"]]
    pairs = itertools.combinations(arms, 2)
    return {
        **results,
        "arms": arms,
        "comparisons": [_comparison(one, two, sizes) for one, two in pairs],
    }


def _summary(arm: Mapping[str, Any], sizes: Sequence[str]) -> dict[str, Any]:
    seeds = arm["seeds"]
    if not seeds:
        raise InputError(f"arm {arm['name']!r} has no seed; run it with at least one")
    able = _applicable(arm, sizes)
    scores = _scores(arm, able)
    at_training = [seed.get("in_distribution") for seed in seeds]
    solved = (scores >= PERFECT).all(axis=1) if able else np.zeros(len(seeds), bool)
    reached = [cost for seed in seeds if (cost := _cost_to_target(seed)) is not None]
    return {
        "seeds": len(seeds),
        "score": _spread(scores.mean(axis=1)) if able else None,
        "success_rate": float(solved.mean()),
        "solved": int(solved.sum()),
        "by_size": {
            size: _spread(scores[:, able.index(size)], successes=True) if size in able else None
            for size in sizes
        },
        "in_distribution": _spread(
            np.array([_score(entry) or 0.0 for entry in at_training]), successes=True
        )
        if any(entry is not None for entry in at_training)
        else None,
        "not_finite": sum(
            _score((seed.get("scores") or {}).get(size)) is None for seed in seeds for size in able
        ),
        "cost": _mean_cost([seed.get("cost") or {} for seed in seeds]),
        "cost_to_target": float(np.mean(reached)) if len(reached) == len(seeds) else None,
        "reached": len(reached),
    }


def _spread(values: np.ndarray, *, successes: bool = False) -> dict[str, float]:
    """The numbers that stand for one score of the seeds (S,)."""
    estimate = stratified_bootstrap(values, lambda runs: interquartile_mean(runs, (-2, -1)))
    spread = {
        "iqm": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "mean": float(values.mean()),
        "max": float(values.max()),
        "min": float(values.min()),
    }
    return {**spread, "success_rate": success_rate(values)} if successes else spread


def _comparison(
    one: Mapping[str, Any], two: Mapping[str, Any], sizes: Sequence[str]
) -> dict[str, Any]:
    shared = [size for size in _applicable(one, sizes) if size in _applicable(two, sizes)]
    names = {"first": one["name"], "second": two["name"], "sizes": [int(size) for size in shared]}
    if not shared:
        return {**names, "probability_of_improvement": None, "low": None, "high": None}
    chance = probability_of_improvement(
        _scores(one, shared).mean(axis=1), _scores(two, shared).mean(axis=1)
    )
    return {
        **names,
        "probability_of_improvement": chance.value,
        "low": chance.low,
        "high": chance.high,
    }


def _applicable(arm: Mapping[str, Any], sizes: Sequence[str]) -> list[str]:
    """The sizes that at least one seed of the arm was judged at."""
    return [
        size
        for size in sizes
        if any((seed.get("scores") or {}).get(size) is not None for seed in arm["seeds"])
    ]


def _scores(arm: Mapping[str, Any], sizes: Sequence[str]) -> np.ndarray:
    """(S, M) scores of the seeds at `sizes`, 0 where there is none."""
    rows = [
        [_score((seed.get("scores") or {}).get(size)) or 0.0 for size in sizes]
        for seed in arm["seeds"]
    ]
    return np.asarray(rows, float).reshape(len(rows), len(sizes))


def _score(entry: Mapping[str, Any] | None) -> float | None:
    """The score in an evaluation, None where there is none or it is not finite."""
    score = None if entry is None else entry.get("score")
    return None if score is None or not np.isfinite(score) else float(score)


def _mean_cost(costs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Each cost as its mean over the seeds that have it; of peak memory, the largest."""
    means: dict[str, float | None] = {}
    for name in dict.fromkeys(key for cost in costs for key in cost):
        known = [float(cost[name]) for cost in costs if cost.get(name) is not None]
        merge = max if name == "peak_bytes" else np.mean
        means[name] = float(merge(known)) if known else None
    return means


def _cost_to_target(seed: Mapping[str, Any]) -> float | None:
    """Forward-equivalents at the first point of the curve that meets `TARGET`."""
    for point in seed.get("curve") or ():
        score = point.get("validation_score")
        if score is not None and score >= TARGET:
            return float(point["forward_equivalents"])
    return None


def _percentiles(drawn: np.ndarray, confidence: float) -> tuple[float, float]:
    if not 0 < finite("confidence", confidence) < 1:
        raise reject("confidence", confidence, "is not allowed", "give a share between 0 and 1")
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(drawn, [tail, 100.0 - tail])
    return float(low), float(high)


def _numbers(argument: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, float)
    if array.size == 0:
        raise reject(argument, [], "holds no number", "give at least one")
    if not np.isfinite(array).all():
        raise reject(
            argument,
            array[~np.isfinite(array)].tolist(),
            "is not finite",
            "replace such numbers by the worst score",
        )
    return np.atleast_1d(array)
