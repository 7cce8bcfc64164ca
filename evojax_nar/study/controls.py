"""Controls: arms that every study has, made of the arms that it names.

A result of evolution means little unless search without learning does worse; a result of gradients
may be one of their batch; and what a strategy trains on, loss or score, is a choice too.

* `random`: random search, with the evaluations that the budget buys.
* `ARM-small`: the first gradient arm at the batch of the first evolution strategy.
* `ARM-score`: the first evolution strategy, on the score in place of the loss.

The settings of the last two are those that their parents were tuned to. The trivial floor is in
every table, and the best member of the last population, by validation, is read beside what each arm
deploys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evojax_nar import strategies

RANDOM = "random"
SMALL, SCORE = "-small", "-score"
READINGS = {"best": {"members": 32}}
"""What is read beside what is deployed."""


def names(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The controls that a study of these arms has."""
    found = [] if any(arm["strategy"] == "random_search" for arm in arms.values()) else [RANDOM]
    gradient, evolution = _first_gradient(arms), _first_evolution(arms)
    if gradient is not None and evolution is not None:
        found.append(gradient + SMALL)
    if evolution is not None:
        found.append(evolution + SCORE)
    return found


def is_control(name: str) -> bool:
    """Whether an arm with this name is a control."""
    return name == RANDOM or name.endswith((SMALL, SCORE))


def parents(name: str, arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The arms whose settings a control takes."""
    if name.endswith(SCORE):
        return [name.removesuffix(SCORE)]
    evolution = _first_evolution(arms)
    if name.endswith(SMALL) and evolution is not None:
        return [name.removesuffix(SMALL), evolution]
    return []


def settings(name: str, arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Settings of a control, from those of its parents in `arms`, tuned or not."""
    own = parents(name, arms)
    if not own:
        return {"strategy": "random_search"}
    if name.endswith(SCORE):
        return {**arms[own[0]], "fitness": "score"}
    batch = {key: arms[own[1]][key] for key in ("batch",) if key in arms[own[1]]}
    return {**arms[own[0]], **batch}


def _first_gradient(arms: Mapping[str, Mapping[str, Any]]) -> str | None:
    followers = {one.name for one in strategies.ALL if not one.gradient_free}
    return next((name for name, arm in arms.items() if arm["strategy"] in followers), None)


def _first_evolution(arms: Mapping[str, Mapping[str, Any]]) -> str | None:
    free = {one.name for one in strategies.ALL if one.gradient_free} - {"random_search"}
    return next((name for name, arm in arms.items() if arm["strategy"] in free), None)
