"""One task of every family is learned beyond its trivial floor, on 3 seeds each.

A proof that the tasks can be trained on, not a comparison: each is trained by one strategy that was
chosen by hand, for a minute or two of two cores. What counts is whether the 95 % interval over the
seeds lies above the floor, what answers score that never look at the input.

    python -m benchmarks.families --json benchmarks/results/families.json
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optax

import evojax_nar as nar
from evojax_nar.environment import describe
from evojax_nar.files import read_json, write_json
from evojax_nar.stats import stratified_bootstrap
from evojax_nar.types import Model, Strategy, Task

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Case:
    """A task, what is trained on it, how, and at which size it is judged."""

    task: Task
    model: Model
    strategy: Strategy
    batch: int
    generations: int
    size: int


def adam(learning_rate: float) -> Strategy:
    """With the gradient clipped."""
    return nar.strategies.Gradient(
        nar.strategies.optimizer("adam", learning_rate=learning_rate, clip=1.0)
    )


def evolution(learning_rate: float, sigma: float, population: int = 128) -> Strategy:
    """Low-rank noise, as by default."""
    return nar.strategies.ES(
        population=population, sigma=sigma, optimizer=optax.adam(learning_rate)
    )


get = nar.tasks.get
CASES: dict[str, Callable[[], Case]] = {
    "clrs": lambda: Case(
        task=get("clrs/minimum", train_sizes=(4, 8, 12, 16), test_sizes=(16, 32)),
        model=nar.models.MPNN(hidden=24),
        strategy=adam(0.003),
        batch=32,
        generations=200,
        size=32,
    ),
    "chomsky": lambda: Case(
        task=get("chomsky/even_pairs", train_sizes=range(1, 21), test_sizes=(41, 100)),
        model=nar.models.LSTM(hidden=16),
        strategy=evolution(0.08, 0.06),
        batch=64,
        generations=600,
        size=100,
    ),
    "memory": lambda: Case(
        task=get("memory/associative_recall", train_sizes=(2, 3), test_sizes=(3, 6)),
        model=nar.models.LSTM(hidden=64),
        strategy=adam(0.003),
        batch=64,
        generations=1500,
        size=3,
    ),
    "formal": lambda: Case(
        task=get("formal/serial_addition", train_sizes=range(1, 21), test_sizes=(20, 100)),
        model=nar.models.LSTM(hidden=12),
        strategy=evolution(0.05, 0.05),
        batch=32,
        generations=600,
        size=100,
    ),
    "logic": lambda: Case(
        task=get("logic/multiplexer_table", address_bits=2),
        model=nar.models.MLP(hidden=(32,)),
        strategy=evolution(0.02, 0.1),
        batch=64,
        generations=600,
        size=1,
    ),
    "optimisation": lambda: Case(
        task=get("optimisation/max_flow", train_sizes=(4, 6, 8), test_sizes=(8, 16)),
        model=nar.models.MPNN(hidden=16),
        strategy=adam(0.003),
        batch=32,
        generations=200,
        size=8,
    ),
    "salsa": lambda: Case(
        task=get("salsa/bfs", train_sizes=(4, 7, 11), test_sizes=(11, 16)),
        model=nar.models.MPNN(hidden=16),
        strategy=adam(0.003),
        batch=32,
        generations=200,
        size=16,
    ),
}


def measure(case: Case) -> dict[str, Any]:
    """Train on every seed, and judge beside the floor."""
    with tempfile.TemporaryDirectory() as folder:
        data = nar.compare(
            case.task,
            case.model,
            {"arm": nar.Arm(case.strategy, batch=case.batch)},
            seeds=SEEDS,
            budget=nar.Budget(generations=case.generations),
            evaluation_examples=512,
            out=Path(folder) / "run",
            progress=False,
        ).data
    (arm,) = data["arms"]
    size = str(case.size)
    scores = [seed["scores"][size]["score"] for seed in arm["seeds"]]
    interval = stratified_bootstrap(
        np.asarray(scores), lambda table: table.mean(axis=(-2, -1))
    )._asdict()
    floor = data["floors"][size]["score"]
    return {
        "task": data["task"],
        "model": data["model"],
        "strategy": arm["settings"],
        "generations": case.generations,
        "size": case.size,
        "scores": scores,
        "score": interval,
        "floor": floor,
        "above_floor": interval["low"] > floor,
        "all_sizes": [
            {at: judged and judged["score"] for at, judged in seed["scores"].items()}
            for seed in arm["seeds"]
        ],
        "floors": data["floors"],
        "cost": [seed["cost"] for seed in arm["seeds"]],
    }


def line(found: Mapping[str, Any]) -> str:
    """One row of the table."""
    low, middle, high = (100 * found["score"][key] for key in ("low", "value", "high"))
    seconds = max(cost["device_seconds"] or 0.0 for cost in found["cost"])
    return (
        f"{found['task']['name']:28} {found['model']['name']:5} {found['strategy']['strategy']:9} "
        f"size {found['size']:3}  {middle:6.1f} [{low:5.1f}, {high:5.1f}]  "
        f"floor {100 * found['floor']:5.1f}  {'above' if found['above_floor'] else 'NOT above'}"
        f"  {seconds:5.0f} s"
    )


def main() -> None:
    """Run the cases, print a line each, and write after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/families.json"))
    options = parser.parse_args()
    kept: dict[str, Any] = read_json(options.json) if options.json.exists() else {"cases": {}}
    for name in options.cases:
        kept["cases"][name] = measure(CASES[name]())
        print(line(kept["cases"][name]), flush=True)
        kept |= {"benchmark": "families", "environment": describe()}
        write_json(options.json, kept)


if __name__ == "__main__":
    main()
