"""A small synthetic study in the form of study.json, for tests and for looking at its page."""

from __future__ import annotations

import random
from typing import Any

from evojax_nar import stats

TASKS: dict[str, dict[str, Any]] = {
    "parity": {"train": list(range(1, 11)), "test": [10, 20, 40, 80, 250], "floor": 0.5},
    "sort": {"train": list(range(2, 17)), "test": [16, 32, 64], "floor": 0.12},
}
MODELS = {"rnn": 0.2, "lstm": 0.5, "stack_rnn": 0.9}
ARMS = {"adam": 0.95, "sgd": 0.5, "es": 0.8, "random": 0.05, "adam-small": 0.85, "es-score": 0.75}


def row(task: str, model: str, arm: str, multiple: float, seeds: int = 5) -> dict[str, Any]:
    """One row, whose seeds do better with better models and arms and larger budgets."""
    said = TASKS[task]
    noise = random.Random(f"{task} {model} {arm} {multiple}")
    budget, floor = 1e6 * multiple, said["floor"]
    runs = []
    for seed in range(seeds):
        skill = min(1.0, max(0.0, ARMS[arm] * (0.6 + MODELS[model]) + noise.gauss(0, 0.12)))
        solves = skill > 0.9
        curve = []
        for step in range(1, 41):
            share = step / 40
            value = floor + (1 - floor) * (1.0 if solves and share > 1.2 - skill else skill * share)
            spent = budget * share
            curve.append([spent, spent * 9.6e4, spent / 4e5, min(1.0, value)])
        scores = {}
        for size in said["test"]:
            beyond = skill ** (1 + size / max(said["train"]) / 4)
            value = 1.0 if solves and MODELS[model] > 0.4 else floor + (1 - floor) * beyond
            scores[str(size)] = {"score": value, "exact": value, "loss": 1 - value}
        last = curve[-1]
        runs.append(
            {
                "seed": seed,
                "stopped": "budget",
                "in_distribution": {"loss": 0.1, "score": last[3], "exact": last[3]},
                "scores": scores,
                "cost": {
                    "forward_equivalents": last[0],
                    "flops": last[1],
                    "device_seconds": last[2],
                    "compile_seconds": 2.0,
                    "generations": 400,
                },
                "curve": curve,
            }
        )
    return {
        "task": task,
        "model": model,
        "arm": arm,
        "multiple": multiple,
        "task_name": task,
        "train_sizes": said["train"],
        "test_sizes": said["test"],
        "model_name": model,
        "parameters": 1250,
        "strategy": arm.split("-")[0],
        "gradient_free": not arm.startswith(("adam", "sgd")),
        "control": "-" in arm or arm == "random",
        "settings": {"batch": 32, "learning_rate": 0.003},
        "budget": {"kind": "forwards", "amount": budget},
        "tuning": {"trials": 8, "seeds": 1, "share": 0.25, "forward_equivalents": 2e6},
        "floors": {str(size): floor for size in said["test"]},
        "conditions": {},
        "seeds": runs,
    }


def summarised(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the summary of its seeds, as it is made of a comparison of one arm."""
    keys = ("forward_equivalents", "flops", "device_seconds", "validation_score")
    seeds = [
        {**seed, "curve": [dict(zip(keys, point, strict=True)) for point in seed["curve"]]}
        for seed in row["seeds"]
    ]
    results = {
        "schema": stats.SCHEMA,
        "task": {"test_sizes": row["test_sizes"]},
        "arms": [{"name": row["arm"], "seeds": seeds}],
    }
    return {**row, "summary": stats.summarise(results)["arms"][0]["summary"]}


def sample_study(
    *, multiples: tuple[float, ...] = (1,), seeds: int = 5, arms: tuple[str, ...] = tuple(ARMS)
) -> dict[str, Any]:
    """The whole study; the last row is missing."""
    rows = [
        summarised(row(task, model, arm, multiple, seeds))
        for task in TASKS
        for model in MODELS
        for arm in arms
        for multiple in multiples
    ]
    last = rows.pop()
    return {
        "schema": "evojax_nar/study/1",
        "title": "Synthetic architecture x algorithm",
        "config": {"title": "Synthetic", "seeds": seeds, "budget": {"forwards": 1e6}},
        "environment": {"evojax_nar": "0.1.0", "device_kind": "cpu", "devices": 1},
        "unequal": ["sort with rnn: the arms differ in the budget (es: 2e6; adam: 1e6)."],
        "rows": rows,
        "missing": [{key: last[key] for key in ("task", "model", "arm", "multiple")}],
    }
