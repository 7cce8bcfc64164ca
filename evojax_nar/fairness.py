"""What is not equal between arms that stand in one table: said at its top, before any number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

CONDITIONS = {
    "data": "the data that they are trained and judged on",
    "initial": "the model or its initial parameters",
    "budget": "the budget",
    "tuning": "the tuning that their settings had",
    "stopping": "the data or the rule that stop them early",
    "precision": "the precision that they train in",
}
"""Everything that has to be equal, and what a sentence calls it."""


def conditions(
    *,
    task: Any,
    model: Any,
    seeds: Sequence[int],
    budget: Any,
    tuning: Any,
    stop_loss: float | None,
    validation_examples: int,
    evaluation_examples: int,
    forward_dtype: str,
) -> dict[str, Any]:
    """The terms that one arm was run on, by the names in `CONDITIONS`; plain values."""
    return {
        "data": {"task": task, "test examples": evaluation_examples, "seeds": list(seeds)},
        "initial": {"model": model, "seeds": list(seeds)},
        "budget": budget,
        "tuning": tuning,
        "stopping": {"stop_loss": stop_loss, "validation examples": validation_examples},
        "precision": forward_dtype,
    }


def of_results(results: Mapping[str, Any]) -> list[str]:
    """A sentence for each condition in which the arms of one results.json differ.

    Task, model, budget and stopping stand there once, for all of its arms.
    """
    said = {
        name: {key: own[key] for key in ("trials", "budget") if key in own}
        for name, own in (results.get("tuning") or {}).items()
    }
    arms = {
        arm["name"]: {
            "initial": {"seeds": [seed["seed"] for seed in arm["seeds"]]},
            "tuning": said.get(arm["name"]),
        }
        for arm in results["arms"]
    }
    return unequal("Not equal", arms)


def unequal(table: str, arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each condition in which the arms of one table differ; none where all is fair.

    Args:
      table: what is compared, for the sentence.
      arms: conditions of each arm by its name; all have the same ones.
    """
    found = []
    known = set.intersection(*(set(own) for own in arms.values()))
    for key, meaning in CONDITIONS.items():
        if key not in known:
            continue
        groups: dict[str, list[str]] = {}
        for name, own in arms.items():
            groups.setdefault(json.dumps(own[key], sort_keys=True), []).append(name)
        if len(groups) > 1:
            shown = "; ".join(
                f"{', '.join(names)}: {_difference(text, groups)}" for text, names in groups.items()
            )
            found.append(f"{table}: the arms differ in {meaning} ({shown}).")
    return found


def _difference(text: str, groups: Mapping[str, Any]) -> str:
    """What one group has that is not the same in all: the whole where it is no mapping."""
    every = [json.loads(own) for own in groups]
    mine = json.loads(text)
    if not all(isinstance(own, dict) for own in every):
        return _brief(mine)
    keys = [
        key
        for key in sorted({key for own in every for key in own})
        if len({json.dumps(own.get(key), sort_keys=True) for own in every}) > 1
    ]
    inner = {json.dumps(own.get(keys[0]), sort_keys=True): None for own in every}
    if len(keys) == 1 and all(isinstance(json.loads(one), dict) for one in inner):
        return _difference(json.dumps(mine.get(keys[0]), sort_keys=True), inner)
    return ", ".join(f"{key} {_brief(mine.get(key))}" for key in keys)


def _brief(value: Any, most: int = 60) -> str:
    text = "none" if value is None else json.dumps(value).replace('"', "")
    return text if len(text) <= most else text[: most - 3] + "..."
