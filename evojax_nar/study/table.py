"""All that a study has found so far, as one plain mapping: study.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evojax_nar import environment, fairness
from evojax_nar.errors import InputError, reject
from evojax_nar.files import read_json
from evojax_nar.results import SCHEMA as RESULTS_SCHEMA
from evojax_nar.study import controls, job, plan
from evojax_nar.study.plan import Job
from evojax_nar.trainer import Settings

SCHEMA = "evojax_nar/study/1"


def collect(folder: str | Path) -> dict[str, Any]:
    """What the jobs of the study in `folder` have found; those that are not finished are listed.

    Raises:
      InputError: where there is no study, or a file of it is damaged.
    """
    path = Path(folder)
    if not (path / plan.CONFIG).exists():
        raise reject("study", str(path), "holds no study", "give a folder that study has begun")
    config = plan.load(path / plan.CONFIG)
    rows, missing = [], []
    for own in plan.expand(config):
        for multiple in config["multiples"]:
            file = job.results_folder(path / own.id, multiple) / "results.json"
            if file.exists():
                rows.append(_row(config, own, multiple, path, read_json(file)))
            else:
                missing.append({**own._asdict(), "multiple": multiple})
    return {
        "schema": SCHEMA,
        "title": config["title"],
        "config": config,
        "environment": rows[0]["environment"] if rows else environment.describe(),
        "unequal": unequal(rows),
        "rows": rows,
        "missing": missing,
    }


def unequal(rows: list[dict[str, Any]]) -> list[str]:
    """What is not equal between the arms of each table (task, model, multiple) of `rows`."""
    tables: dict[str, dict[str, Any]] = {}
    for own in rows:
        name = f"{own['task']} with {own['model']}"
        if own["multiple"] != 1:
            name += f" at {own['multiple']:g} times the budget"
        tables.setdefault(name, {})[own["arm"]] = own["conditions"]
    return [said for name, arms in tables.items() for said in fairness.unequal(name, arms)]


def row(
    place: Mapping[str, Any],
    found: Mapping[str, Any],
    arm: Mapping[str, Any],
    *,
    tuning: Mapping[str, Any] | None,
    terms: Any,
    forward_dtype: str,
) -> dict[str, Any]:
    """One row: an arm of a results.json.

    Args:
      place: `task`, `model`, `arm` and `multiple`, by which the row is found, and `control`.
      found: the results.json.
      arm: its entry there.
      tuning: how its settings were found, and at what cost; None where they were not tuned.
      terms: what of that has to be equal.
      forward_dtype: the type that it was trained in.
    """
    return {
        **place,
        "task_name": found["task"]["name"],
        "train_sizes": found["task"]["train_sizes"],
        "test_sizes": found["task"]["test_sizes"],
        "model_name": found["model"]["name"],
        "parameters": found["model"]["parameters"],
        "strategy": arm["strategy"],
        "gradient_free": arm["gradient_free"],
        "settings": arm["settings"],
        "budget": found["budget"],
        "tuning": tuning,
        "floors": {size: low and low["score"] for size, low in (found.get("floors") or {}).items()},
        "conditions": fairness.conditions(
            task=found["task"].get("settings"),
            model=found["model"].get("settings"),
            seeds=[seed["seed"] for seed in arm["seeds"]],
            budget=found["budget"],
            tuning=terms,
            stop_loss=found.get("stop_loss"),
            validation_examples=Settings.validation_examples,
            evaluation_examples=found["evaluation"]["examples"],
            forward_dtype=forward_dtype,
        ),
        "environment": found.get("environment"),
        "seeds": [{**seed, "curve": _curve(seed)} for seed in arm["seeds"]],
        "summary": arm["summary"],
    }


def _row(
    config: Mapping[str, Any], own: Job, multiple: float, path: Path, found: dict[str, Any]
) -> dict[str, Any]:
    if found.get("schema") != RESULTS_SCHEMA or len(found["arms"]) != 1:
        raise InputError(f"job {own.id} holds results of another kind; remove its folder")
    tuning = _tuning(config, own, path)
    place = {**own._asdict(), "multiple": multiple, "control": controls.is_control(own.arm)}
    return row(
        place,
        found,
        found["arms"][0],
        tuning=tuning,
        terms=_terms(config, own, tuning),
        forward_dtype=config["forward_dtype"],
    )


def _curve(seed: Mapping[str, Any]) -> list[list[float | None]]:
    """Forward-equivalents, FLOPs, device-seconds and validation score of each epoch."""
    cost = seed["cost"]
    flops = (cost.get("flops") or 0.0) / max(1, cost.get("generations") or 1)
    return [
        [
            point["forward_equivalents"],
            flops * point.get("step", 0),
            round(point.get("device_seconds", 0.0), 4),
            point.get("validation_score"),
        ]
        for point in seed.get("curve") or ()
    ]


def _tuning(config: Mapping[str, Any], own: Job, path: Path) -> dict[str, Any] | None:
    """What the tuning of a job's arm, or of a control's parents, has cost and looked at."""
    if config["tuning"] is None:
        return None
    named = [own.arm] if own.arm in config["arms"] else controls.parents(own.arm, config["arms"])
    files = [path / own._replace(arm=name).id / job.ARM for name in named]
    records = [read_json(file)["record"] for file in files if file.exists()]
    if not records:
        return None
    costs = [entry["forward_equivalents"] for record in records for entry in _entries(record)]
    return {**config["tuning"], "forward_equivalents": sum(costs)}


def _entries(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(record["arms"].values())


def _terms(config: Mapping[str, Any], own: Job, tuning: Any) -> Any:
    """Terms of tuning that arms must share; controls have those of their parents, or need none."""
    if controls.is_control(own.arm):
        return config["tuning"]
    return None if tuning is None else {key: tuning[key] for key in config["tuning"]}
