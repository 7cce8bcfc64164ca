"""Each model on what it is known for: by gradient and by evolution, on 3 seeds, against the figure.

Every side of a row is a comparison of one arm, with a budget of its own, that is kept in a folder
and goes on from its checkpoints where it was interrupted. What counts is the score of what is
deployed, in percent: its worst over the test sizes; of the Chomsky tasks, as published, its average
over the lengths from 41 to 500; of those of CLRS-30, that on the published test split. The settings
are in `known_rows.py`, with how they were found.

    python -m benchmarks.known_results --json benchmarks/results/known_results.json
    python -m benchmarks.known_results --rows parity,nand_adder --sides evolution
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import evojax_nar as nar
from benchmarks.known_rows import ROWS, Row, Side
from evojax_nar.environment import describe
from evojax_nar.errors import unknown
from evojax_nar.files import read_json, write_json
from evojax_nar.results import Results
from evojax_nar.stats import interquartile_mean, stratified_bootstrap

SEEDS = (0, 1, 2)


def run(name: str, side: str, folder: Path, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Train one side of one row, or go on with it, and say what it reached."""
    row = ROWS[name]
    own = row.sides[side]
    path = folder / f"{name}-{side}"
    results = nar.compare(
        own.task or row.task,
        own.model or row.model,
        {side: own.arm},
        seeds=list(seeds),
        budget=own.budget,
        stop_loss=own.stop_loss,
        evaluation_examples=row.examples,
        out=path,
        resume=(path / "config.yaml").exists(),
        progress=False,
    )
    return measure(row, own, side, results)


def measure(row: Row, own: Side, side: str, results: Results) -> dict[str, Any]:
    """Scores in percent by size and seed, with the floor, the cost, and the verdict."""
    entry = results.arm(side)
    seeds = entry["seeds"]
    scores = {
        size: [100 * seed["scores"][size]["score"] for seed in seeds]
        for size in seeds[0]["scores"]
        if seeds[0]["scores"][size] is not None
    }
    exact = {size: [100 * seed["scores"][size]["exact"] for seed in seeds] for size in scores}
    counted = {size: values for size, values in scores.items() if int(size) in row.counted}
    if row.official is not None:
        counted = {"official": [judge_officially(row, own, side, results, s) for s in seeds]}
    worst = [min(values[i] for values in counted.values()) for i in range(len(seeds))]
    reached = averages(counted) if row.averaged else worst
    floors = results.data["floors"]
    met = own.must is None or sum(value >= own.must for value in reached) >= row.needed
    return {
        "task": (own.task or row.task).settings(),
        "model": (own.model or row.model).settings(),
        "parameters": results.data["model"]["parameters"],
        "settings": entry["settings"],
        "budget": own.budget.settings(),
        "scores": scores,
        "exact": exact,
        "counted": counted,
        "intervals": {size: interval(values) for size, values in counted.items()},
        "mean": float(np.mean(reached)),
        "reached": reached,
        "worst": worst,
        "must": own.must,
        "needed": row.needed,
        "met": met if own.must is not None else None,
        "floors": {
            size: 100 * floor["score"] for size, floor in floors.items() if floor is not None
        },
        "cost": {
            key: [seed["cost"][key] for seed in seeds]
            for key in ("forward_equivalents", "flops", "device_seconds", "generations")
        },
        "curve": [
            [[p["forward_equivalents"], p["validation_score"]] for p in seed["curve"]]
            for seed in seeds
        ],
    }


def averages(counted: dict[str, list[float]]) -> list[float]:
    """Of each seed: the score averaged over all lengths, linear between those that were tested."""
    lengths = sorted(counted, key=int)
    table = np.array([counted[length] for length in lengths])
    places = np.array([int(length) for length in lengths])
    return (np.trapezoid(table, places, axis=0) / (places[-1] - places[0])).tolist()


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Interquartile mean over the seeds, with a bootstrapped interval of 95 %."""
    return stratified_bootstrap(
        values, lambda runs: interquartile_mean(runs, axis=(-2, -1))
    )._asdict()


def judge_officially(
    row: Row, own: Side, side: str, results: Results, seed: dict[str, Any]
) -> float:
    """The published score in percent, on the published test split."""
    from evojax_nar.tasks.clrs import official

    batch = official.official(str(row.official), "test")
    model, params = own.model or row.model, results.parameters(side, seed["seed"])
    outputs = model.apply(params, batch.inputs, spec=row.task.spec)
    return 100 * official.score(str(row.official), outputs, batch)


def line(name: str, side: str, found: dict[str, Any]) -> str:
    """One side of one row for people."""
    counted = ", ".join(
        f"{size}: {' '.join(f'{value:.1f}' for value in values)}"
        for size, values in found["counted"].items()
    )
    must = "report" if found["must"] is None else f"{found['must']:g}"
    met = {True: "met", False: "MISSED", None: ""}[found["met"]]
    seconds = np.mean(found["cost"]["device_seconds"])
    reached = " ".join(f"{value:.1f}" for value in found["reached"])
    return (
        f"{name:22} {side:10} reached {reached} (asked {must}) {met:6} "
        f"{found['parameters']:6d} parameters, {seconds:6.0f} s a seed; {counted}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="add the figures to this file")
    parser.add_argument("--rows", default=",".join(ROWS), help="which, separated by commas")
    parser.add_argument("--sides", default="gradient,evolution", help="which, likewise")
    parser.add_argument("--seeds", default="0,1,2", help="which, likewise")
    parser.add_argument("--folder", type=Path, default=Path("results/known"), help="of the runs")
    said = parser.parse_args()
    rows = said.rows.split(",")
    for name in rows:
        if name not in ROWS:
            parser.error(str(unknown("rows", name, ROWS)))
    said.folder.mkdir(parents=True, exist_ok=True)
    for name in rows:
        for side in said.sides.split(","):
            if side not in ROWS[name].sides:
                continue
            found = run(name, side, said.folder, [int(seed) for seed in said.seeds.split(",")])
            print(line(name, side, found), flush=True)
            if said.json is not None:
                record(said.json, name, side, found)


def record(path: Path, name: str, side: str, found: dict[str, Any]) -> None:
    """Add one side to the file, and keep what else is there."""
    kept = read_json(path) if path.exists() else {"rows": {}}
    kept["environment"] = describe()
    kept["rows"].setdefault(name, {})[side] = found
    write_json(path, kept)


if __name__ == "__main__":
    main()
