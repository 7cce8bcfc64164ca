"""Statistics against scipy, brute force and numbers worked out by hand."""

from __future__ import annotations

import copy
import itertools
import json

import numpy as np
import pytest
from sample_results import evaluation, sample_results
from scipy import stats as scipy_stats

from evojax_nar.errors import InputError
from evojax_nar.stats import (
    PERFECT,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
    success_rate,
    summarise,
)


def mean_of_runs(scores: np.ndarray) -> np.ndarray:
    return scores.mean(axis=(-2, -1))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 40])
def test_interquartile_mean_is_the_trimmed_mean_of_scipy(count):
    values = np.random.default_rng(count).normal(size=(3, count, 2))
    for axis in (0, 1, 2, -1):
        expected = scipy_stats.trim_mean(values, 0.25, axis=axis)
        np.testing.assert_allclose(interquartile_mean(values, axis), expected, rtol=1e-12)
    expected = scipy_stats.trim_mean(values.ravel(), 0.25)
    np.testing.assert_allclose(interquartile_mean(values), expected, rtol=1e-12)


def test_interquartile_mean_over_two_axes_flattens_them():
    values = np.random.default_rng(0).normal(size=(2, 5, 3))
    expected = [scipy_stats.trim_mean(table.ravel(), 0.25) for table in values]
    np.testing.assert_allclose(interquartile_mean(values, (-2, -1)), expected, rtol=1e-12)
    np.testing.assert_allclose(
        interquartile_mean(np.moveaxis(values, 0, 1), (0, 2)), expected, rtol=1e-12
    )


def test_interquartile_mean_ignores_a_quarter_at_each_end():
    assert interquartile_mean([-1e9, 1.0, 2.0, 1e9]) == 1.5


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="not finite"):
        interquartile_mean([1.0, float("nan")])
    with pytest.raises(InputError, match="no number"):
        interquartile_mean([])
    with pytest.raises(InputError, match="not finite"):
        probability_of_improvement([1.0], [float("inf")])


def test_bootstrap_of_a_mean_has_its_known_width():
    # For the mean of many runs the percentile interval is the normal one: 1.96 standard errors.
    runs = np.random.default_rng(1).normal(size=(400, 1))
    estimate = stratified_bootstrap(runs, mean_of_runs, samples=4000)
    half = 1.96 * runs.std() / np.sqrt(400)
    assert estimate.value == pytest.approx(runs.mean())
    assert estimate.low == pytest.approx(runs.mean() - half, abs=0.08 * half)
    assert estimate.high == pytest.approx(runs.mean() + half, abs=0.08 * half)


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(2)
    covered = 0
    for trial in range(300):
        runs = generator.normal(3.0, 1.0, size=(30, 1))
        estimate = stratified_bootstrap(runs, mean_of_runs, samples=300, confidence=0.9, seed=trial)
        covered += estimate.low <= 3.0 <= estimate.high
    assert 0.83 < covered / 300 < 0.95


def test_bootstrap_draws_strata_independently():
    # One stratum falls as the other rises: drawn together their sum could not vary.
    rise = np.arange(20.0)
    scores = np.stack([rise, -rise], axis=1)
    apart = stratified_bootstrap(scores, mean_of_runs)
    assert apart.value == 0.0
    expected = 1.96 * rise.std() / np.sqrt(20) / np.sqrt(2)
    assert apart.high == pytest.approx(expected, rel=0.15)
    assert apart.low == pytest.approx(-expected, rel=0.15)


def test_bootstrap_repeats_and_collapses_for_one_run():
    scores = np.random.default_rng(3).uniform(size=(6, 2))
    assert stratified_bootstrap(scores, mean_of_runs) == stratified_bootstrap(scores, mean_of_runs)
    one = stratified_bootstrap([[0.25, 0.75]], mean_of_runs)
    assert one == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"confidence": 1.0}, "confidence"),
        ({"samples": 0}, "samples"),
        ({"statistic": np.mean}, "statistic"),
        ({"scores": np.zeros((2, 2, 2))}, "scores"),
    ],
)
def test_bootstrap_names_what_is_wrong(arguments, named):
    given = {"scores": np.zeros((3, 2)), "statistic": mean_of_runs, **arguments}
    with pytest.raises(InputError, match=named):
        stratified_bootstrap(given.pop("scores"), given.pop("statistic"), **given)


def test_probability_of_improvement_is_the_share_of_pairs_won():
    generator = np.random.default_rng(4)
    first = generator.integers(0, 5, 7).astype(float)
    second = generator.integers(0, 5, 9).astype(float)
    pairs = list(itertools.product(first, second))
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs)
    estimate = probability_of_improvement(first, second)
    assert estimate.value == pytest.approx(wins / len(pairs))
    u = scipy_stats.mannwhitneyu(first, second).statistic
    assert estimate.value == pytest.approx(u / len(pairs))
    assert estimate.low < estimate.value < estimate.high


def test_probability_of_improvement_at_its_ends():
    assert probability_of_improvement([2.0, 3.0], [0.0, 1.0]) == (1.0, 1.0, 1.0)
    assert probability_of_improvement([1.0], [1.0]) == (0.5, 0.5, 0.5)


def test_probability_of_improvement_interval_redraws_both_sides():
    # Every run drawn in pure Python, from the same two sets.
    generator = np.random.default_rng(5)
    first, second = generator.normal(0.5, 1, 12), generator.normal(0, 1, 10)
    drawn = [
        np.mean(generator.choice(first, 12)[:, None] > generator.choice(second, 10)[None])
        for _ in range(4000)
    ]
    estimate = probability_of_improvement(first, second, samples=4000)
    assert estimate.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.03)
    assert estimate.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.03)


def test_success_rate_and_profile_count_runs():
    assert success_rate([0.2, 0.5, 0.9, 1.0], 0.5) == 0.75
    assert success_rate([1.0, 1.0 - 2.0**-23, 0.9999]) == pytest.approx(2 / 3)
    scores = [[0.0, 0.5], [0.5, 1.0]]
    np.testing.assert_allclose(
        performance_profile(scores, [-1.0, 0.0, 0.5, 1.0]), [1.0, 0.75, 0.25, 0.0]
    )


def small_results() -> dict:
    """Two arms of four and two seeds at sizes 10 and 40; the second arm cannot run size 40."""

    def point(cost: float, score: float | None) -> dict:
        return {"forward_equivalents": cost, "validation_score": score}

    def seed(number: int, at_10: float | None, at_40: dict | None, curve: list) -> dict:
        return {
            "seed": number,
            "scores": {"10": {"score": at_10, "exact": at_10, "loss": 1.0}, "40": at_40},
            "in_distribution": evaluation(0.5, 1.0),
            "stopped": "budget",
            "cost": {"forward_equivalents": 100.0 * (number + 1), "flops": None, "peak_bytes": 7},
            "curve": curve,
        }

    fast = [point(10.0, 0.5), point(20.0, 0.99), point(30.0, 0.2), point(40.0, 1.0)]
    slow = [point(10.0, None), point(40.0, 1.0)]
    results = sample_results(seeds=1)
    results["task"]["test_sizes"] = [10, 40]
    common = {"strategy": "es", "settings": {}, "batch": 4, "gradient_free": True}
    results["arms"] = [
        {
            "name": "one",
            **common,
            "seeds": [
                seed(0, 1.0, evaluation(1.0, 0.0), fast),
                seed(1, 0.8, evaluation(0.6, 0.0), slow),
                seed(2, 0.4, evaluation(0.2, 0.0), fast),
                seed(3, 0.6, evaluation(0.0, 0.0), fast),
            ],
        },
        {
            "name": "two",
            **common,
            "seeds": [seed(0, 0.6, None, fast), seed(1, None, None, [point(5.0, 0.1)])],
        },
    ]
    return results


def test_summary_of_hand_computed_numbers():
    one = summarise(small_results())["arms"][0]["summary"]
    # Mean scores of the seeds are 1.0, 0.7, 0.3 and 0.3; the middle two of them are 0.7 and 0.3.
    assert one["score"]["iqm"] == pytest.approx(0.5)
    assert one["score"]["mean"] == pytest.approx(0.575)
    assert (one["score"]["min"], one["score"]["max"]) == (pytest.approx(0.3), 1.0)
    assert one["score"]["low"] < 0.5 < one["score"]["high"]
    assert one["by_size"]["10"]["iqm"] == pytest.approx(0.7)
    assert one["by_size"]["40"]["iqm"] == pytest.approx(0.4)
    assert one["by_size"]["40"]["success_rate"] == 0.25
    assert (one["solved"], one["seeds"], one["success_rate"]) == (1, 4, 0.25)
    assert one["cost"] == {"forward_equivalents": 250.0, "flops": None, "peak_bytes": 7.0}
    assert one["cost_to_target"] == pytest.approx((20 + 40 + 20 + 20) / 4)
    assert (one["reached"], one["not_finite"]) == (4, 0)
    assert one["in_distribution"]["iqm"] == 0.5


def test_summary_where_sizes_or_scores_are_missing():
    two = summarise(small_results())["arms"][1]["summary"]
    assert two["by_size"]["40"] is None
    # The score that is missing at a size that the arm can run counts as the worst.
    assert two["by_size"]["10"]["mean"] == pytest.approx(0.3)
    assert two["by_size"]["10"]["min"] == 0.0
    assert two["not_finite"] == 1
    assert (two["cost_to_target"], two["reached"]) == (None, 1)


def test_arms_are_compared_over_the_sizes_that_both_can_run():
    (pair,) = summarise(small_results())["comparisons"]
    assert (pair["first"], pair["second"], pair["sizes"]) == ("one", "two", [10])
    # 1.0, 0.8, 0.4 and 0.6 against 0.6 and 0: six pairs won, one tied, one lost.
    assert pair["probability_of_improvement"] == pytest.approx(6.5 / 8)


def test_nothing_to_compare_gives_none():
    results = small_results()
    for seed in results["arms"][1]["seeds"]:
        seed["scores"] = {"10": None, "40": None}
    summary = summarise(results)
    assert summary["arms"][1]["summary"]["score"] is None
    assert summary["arms"][1]["summary"]["success_rate"] == 0.0
    assert summary["comparisons"][0]["probability_of_improvement"] is None


def test_summary_of_one_seed_has_no_width():
    results = summarise(sample_results(seeds=1))
    for arm in results["arms"]:
        score = arm["summary"]["score"]
        assert score["low"] == score["iqm"] == score["high"] == pytest.approx(score["mean"])


def test_summarise_repeats_is_plain_and_leaves_its_argument_alone():
    results = sample_results()
    before = copy.deepcopy(results)
    once, again = summarise(results), summarise(results)
    assert results == before
    assert once == again == summarise(once)
    assert json.loads(json.dumps(once, allow_nan=False)) == once
    names = [(pair["first"], pair["second"]) for pair in once["comparisons"]]
    assert names == list(itertools.combinations(["es", "snes", "adam", "sgd"], 2))
    assert once["arms"][0]["summary"]["by_size"]["500"]["iqm"] >= PERFECT


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema": "other"}, "schema"),
        ({"arms": []}, "no arm"),
        ({"arms": [{"name": "empty", "seeds": []}]}, "'empty' has no seed"),
    ],
)
def test_results_that_cannot_be_summarised_are_refused(change, sentence):
    with pytest.raises(InputError, match=sentence):
        summarise({**sample_results(seeds=1), **change})
