"""Finds the settings of the preset `parity`: the same number of quasi-random trials for every arm.

A trial is one point of a Sobol sequence in the arm's space, trained on seeds that no comparison
uses and judged by what it costs to bring the validation loss, on training sizes only, to the
target. Trials that do not get there are ordered by their validation loss. Test sizes are not seen.

    python -m benchmarks.tune_parity --json benchmarks/results/tune_parity.json
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scipy.stats import qmc

import evojax_nar as nar
from evojax_nar.environment import describe
from evojax_nar.files import write_json

SEEDS = (1000, 1001)
BATCHES = (32, 64, 128)

Axis = tuple[float, float] | tuple[Any, ...]

LOG, CHOICE = "log", "choice"
SPACES: dict[str, dict[str, tuple[str, tuple[Any, ...]]]] = {
    "es": {
        "learning_rate": (LOG, (0.005, 0.1)),
        "sigma": (LOG, (0.03, 0.3)),
        "population": (CHOICE, (128, 256, 512)),
        "batch": (CHOICE, BATCHES),
    },
    "snes": {
        "std": (LOG, (0.03, 0.5)),
        "lr_std_init": (LOG, (0.003, 0.3)),
        "population": (CHOICE, (128, 256, 512)),
        "batch": (CHOICE, BATCHES),
    },
    "adam": {
        "learning_rate": (LOG, (0.001, 0.05)),
        "clip": (LOG, (0.1, 10.0)),
        "b1": (CHOICE, (0.8, 0.9, 0.95)),
        "batch": (CHOICE, BATCHES),
    },
    "sgd": {
        "learning_rate": (LOG, (0.02, 2.0)),
        "clip": (LOG, (0.1, 10.0)),
        "momentum": (CHOICE, (0.0, 0.9, 0.95)),
        "batch": (CHOICE, BATCHES),
    },
}


def arm(name: str, point: Mapping[str, Any]) -> nar.Arm:
    """The arm at one point of its space."""
    point = dict(point)
    batch = point.pop("batch")
    if name == "es":
        strategy = nar.strategies.ES(
            population=point["population"],
            sigma=point["sigma"],
            optimizer=nar.strategies.optimizer("adam", learning_rate=point["learning_rate"]),
        )
    elif name == "snes":
        strategy = nar.strategies.Evosax(
            "SNES",
            population=point["population"],
            std=point["std"],
            numbers={"lr_std_init": point["lr_std_init"]},
        )
    else:
        strategy = nar.strategies.Gradient(nar.strategies.optimizer(name, **point))
    return nar.Arm(strategy, batch=batch)


def points(space: Mapping[str, tuple[str, tuple[Any, ...]]], trials: int) -> list[dict[str, Any]]:
    """The first `trials` points of a scrambled Sobol sequence in `space`."""
    unit = qmc.Sobol(len(space), rng=0).random(1 << (trials - 1).bit_length())[:trials]
    chosen = []
    for row in unit:
        point = {}
        for (name, (kind, values)), u in zip(space.items(), row, strict=True):
            if kind == LOG:
                low, high = map(math.log, values)
                point[name] = float(f"{math.exp(low + u * (high - low)):.3g}")
            else:
                point[name] = values[int(u * len(values))]
        chosen.append(point)
    return chosen


def trial(name: str, point: Mapping[str, Any], budget: float, target: float) -> dict[str, Any]:
    """Train one point on the tuning seeds."""
    task = nar.tasks.Parity(train_sizes=range(1, 21), test_sizes=(20,))
    with tempfile.TemporaryDirectory() as folder:
        results = nar.compare(
            task,
            nar.models.LSTM(hidden=16),
            {name: arm(name, point)},
            seeds=SEEDS,
            budget=nar.Budget(forwards=budget),
            stop_loss=target,
            evaluation_examples=64,
            out=Path(folder) / "trial",
            progress=False,
        )
    seeds = results.data["arms"][0]["seeds"]
    losses = [seed["curve"][-1]["deployed_loss"] for seed in seeds]
    losses = [math.inf if loss is None else loss for loss in losses]
    costs = [seed["cost"]["forward_equivalents"] for seed in seeds]
    reached = [loss <= target for loss in losses]
    return {
        "point": dict(point),
        "reached": sum(reached),
        "losses": losses,
        "forward_equivalents": costs,
        "worst_cost": max(costs),
    }


def rank(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Best first: seeds that reach the target, then the dearer one's cost, then the losses."""
    return (-row["reached"], row["worst_cost"] if row["reached"] else 0, sum(row["losses"]))


def main(show: Callable[[str], None] = print) -> None:
    """Run the trials and write them, best first, after each one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=8, help="points for each arm")
    parser.add_argument("--budget", type=float, default=6e6, help="forward-equivalents a seed")
    parser.add_argument("--target", type=float, default=5e-4, help="validation loss to reach")
    parser.add_argument("--arms", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/tune_parity.json"))
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in options.arms}
    plans = {name: points(SPACES[name], options.trials) for name in options.arms}
    for number in range(options.trials):
        for name in options.arms:
            row = trial(name, plans[name][number], options.budget, options.target)
            found[name] = sorted([*found[name], row], key=rank)
            show(f"{number} {name} {json.dumps(row)}")
            write_json(
                options.json,
                {
                    "benchmark": "tune_parity",
                    "environment": describe(),
                    "seeds": SEEDS,
                    "trials": options.trials,
                    "budget": options.budget,
                    "target": options.target,
                    "spaces": {name: SPACES[name] for name in options.arms},
                    "found": found,
                },
            )


if __name__ == "__main__":
    main()
