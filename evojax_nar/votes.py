"""What votes add: the differences that readings make to the scores in results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from evojax_nar import stats


class Vote(NamedTuple):
    """What one reading adds to the score of an arm's deployed parameters, as a share of 1."""

    arm: str
    reading: str
    by_size: dict[str, stats.Estimate | None]
    """The interquartile mean of the seeds' differences; None where there is no such vote."""


def votes(results: Mapping[str, Any]) -> list[Vote]:
    """One for each arm and reading; none where nothing but the deployed parameters was read."""
    sizes = [str(size) for size in results["task"]["test_sizes"]]
    return [
        Vote(arm["name"], name, {size: _added(arm["seeds"], name, size) for size in sizes})
        for arm in results["arms"]
        for name in results.get("readings") or {}
    ]


def caption(results: Mapping[str, Any]) -> str:
    """How a table of votes is to be read."""
    readings = results.get("readings") or {}
    said = [
        "Score of the vote less that of the deployed parameters on the same examples: "
        "interquartile mean of the seeds, below it the 95 % interval."
    ]
    if "ensemble" in readings:
        members = readings["ensemble"].get("members")
        said.append(
            f"An ensemble is at most {members} members that the strategy's last state gives."
        )
    if "steps" in readings:
        said.append(
            f"Steps are the last {readings['steps'].get('last')} loops of what is deployed."
        )
    if "best" in readings:
        members = readings["best"].get("members")
        said.append(
            f"Best is the one of at most {members} such members with the lowest validation loss."
        )
    return " ".join([*said, "n/a where a strategy or a model has no such vote."])


def points(added: stats.Estimate | None) -> tuple[str, str]:
    """A difference in points, and its interval, empty where that has no width."""
    if added is None:
        return "n/a", ""
    value, low, high = (_signed(100 * share) for share in added)
    return value, "" if low == high else f"{low} to {high}"


def _added(seeds: Sequence[Mapping[str, Any]], name: str, size: str) -> stats.Estimate | None:
    added = []
    for seed in seeds:
        vote = ((seed.get("readings") or {}).get(size) or {}).get(name)
        own = seed["scores"].get(size)
        if vote is None or own is None:
            return None
        # A score that is not finite counts as 0, as it does everywhere.
        added.append((vote["score"] or 0.0) - (own["score"] or 0.0))
    return stats.stratified_bootstrap(
        added, lambda runs: stats.interquartile_mean(runs, axis=(-2, -1))
    )


def _signed(number: float) -> str:
    text = f"{number:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")
