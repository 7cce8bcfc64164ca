"""Does low-rank noise learn what dense noise learns? Parity, copy and sort, noise side by side.

`ES` with dense noise and with noise of rank 1, its factors random signs (the default) or normal
(the published rule), trains the same model on the same task from the same initial parameters, for
the same generations of the same population, on 5 seeds. A seed has learned
a task where what it deploys reaches the target on 1,024 fresh examples of the size that counts. A
task that dense noise does not learn on every seed is a failed test, not a passed one. One size
further dense noise is tried too, to say where the size comes from. The verdict is on dense noise
against the default; normal factors stand beside them for comparison. (They were part of it until a
first run of sorting, where they fall short.)

    python -m benchmarks.low_rank_learning --json benchmarks/results/low_rank_learning.json

`--tune` repeats the search for the settings instead. Both keep what else is in the file.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optax

import evojax_nar as nar
from benchmarks.tune_parity import LOG, points
from evojax_nar.environment import describe
from evojax_nar.files import read_json, write_json
from evojax_nar.noise import Noise
from evojax_nar.stats import PERFECT, TARGET, interquartile_mean, stratified_bootstrap
from evojax_nar.types import Model, Task

SEEDS = (0, 1, 2, 3, 4)
BEYOND_SEEDS = (0, 1)
NOISES: dict[str, Noise] = {
    "dense": nar.noise.Dense(),
    "low_rank": nar.noise.LowRank(rank=1),
    "low_rank_normal": nar.noise.LowRank(rank=1, factors=nar.noise.normal),
}


@dataclass(frozen=True)
class Case:
    """A task, a model, what is spent on it, and what counts as learned.

    Args:
      task: what is learned; `beyond` is the same, one size further.
      model: what is trained.
      population: N.
      batch: examples that all members of a generation share.
      generations: of every run.
      size: the test size that counts.
      target: the score there.
      settings: learning rate and sigma of dense and of low-rank noise, whatever its factors.
      space: what they were searched in, on a logarithmic scale.
      trials: points of that space, for each noise.
      tuning_seeds: seeds of a trial.
      tuning_stop: a trial is over once its validation loss is at most this; None for never.
      decay: whether both fall along half a cosine over the run, the learning rate to 0 and sigma
        to 0.3 of where it began.
    """

    task: Task
    model: Model
    population: int
    batch: int
    generations: int
    size: int
    target: float
    settings: Mapping[str, Mapping[str, float]]
    space: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    trials: int = 0
    tuning_seeds: tuple[int, ...] = ()
    beyond: Task | None = None
    tuning_stop: float | None = None
    decay: bool = True

    def of(self, noise: str) -> Mapping[str, float]:
        """The settings of one of NOISES."""
        return self.settings["dense" if noise == "dense" else "low_rank"]

    def arm(self, noise: Noise, learning_rate: float, sigma: float) -> nar.Arm:
        """One arm at one point of the space."""
        rate, width = learning_rate, sigma
        if self.decay:
            rate = optax.cosine_decay_schedule(learning_rate, self.generations)
            width = optax.cosine_decay_schedule(sigma, self.generations, alpha=0.3)
        strategy = nar.strategies.ES(
            population=self.population, sigma=width, optimizer=optax.adam(rate), noise=noise
        )
        return nar.Arm(strategy, batch=self.batch)


# How the settings were found, always on seeds that the comparison does not use:
# parity: 8 trials for each noise, the same points, seeds 100 and 101; the best of each.
# copy: 4 trials by hand with dense noise chose the model, then 4 trials for each noise, the same
#   points, seed 100; the best of each.
# The settings of low-rank noise were searched with normal factors; random signs take them over.
# sort: 11 trials by hand with dense noise alone, seed 100, over models, batches and lengths; the
#   best point at full width was given more generations. Low-rank noise is given the same, without
#   a search of its own, so that any bias is for dense noise.
CASES = {
    "parity": Case(
        task=nar.tasks.Parity(train_sizes=range(1, 21), test_sizes=(20, 50, 100, 200, 500)),
        model=nar.models.LSTM(hidden=16),
        population=128,
        batch=64,
        generations=732,
        size=500,
        target=PERFECT,
        settings={
            "dense": {"learning_rate": 0.103, "sigma": 0.0691},
            "low_rank": {"learning_rate": 0.0869, "sigma": 0.0384},
        },
        space={"learning_rate": (0.01, 0.2), "sigma": (0.03, 0.3)},
        trials=8,
        tuning_seeds=(100, 101),
        tuning_stop=5e-4,
        decay=False,
    ),
    "copy": Case(
        task=nar.tasks.Copy(train_sizes=(1, 2), test_sizes=(1, 2), width=4),
        beyond=nar.tasks.Copy(train_sizes=(1, 2, 3), test_sizes=(3,), width=4),
        model=nar.models.LSTM(hidden=24),
        population=256,
        batch=32,
        generations=1200,
        size=2,
        target=TARGET,
        settings={
            "dense": {"learning_rate": 0.0441, "sigma": 0.381},
            "low_rank": {"learning_rate": 0.0338, "sigma": 0.178},
        },
        space={"learning_rate": (0.025, 0.1), "sigma": (0.1, 0.4)},
        trials=4,
        tuning_seeds=(100,),
    ),
    "sort": Case(
        task=nar.tasks.Sort(train_sizes=(4,), test_sizes=(4,)),
        beyond=nar.tasks.Sort(train_sizes=(5,), test_sizes=(5,)),
        model=nar.models.MLP(hidden=(32, 32)),
        population=256,
        batch=64,
        generations=20_000,
        size=4,
        target=TARGET,
        settings={
            "dense": {"learning_rate": 0.01, "sigma": 0.05},
            "low_rank": {"learning_rate": 0.01, "sigma": 0.05},
        },
    ),
}


def train(
    case: Case, arms: Mapping[str, nar.Arm], seeds: Sequence[int], stop: float | None = None
) -> dict[str, Any]:
    """The results of a comparison in which a run spends all its generations, or reaches `stop`."""
    with tempfile.TemporaryDirectory() as folder:
        return nar.compare(
            case.task,
            case.model,
            arms,
            seeds=seeds,
            budget=nar.Budget(generations=case.generations),
            stop_loss=stop,
            out=Path(folder) / "run",
            progress=False,
        ).data


def trial(case: Case, noise: str, point: Mapping[str, float]) -> dict[str, Any]:
    """One point of the space, judged by the validation loss, on training sizes alone."""
    arm = case.arm(NOISES[noise], **point)
    results = train(case, {noise: arm}, case.tuning_seeds, case.tuning_stop)
    seeds = results["arms"][0]["seeds"]
    losses = [seed["curve"][-1]["deployed_loss"] for seed in seeds]
    return {
        "point": dict(point),
        "losses": losses,
        "reached": sum(loss <= (case.tuning_stop or 0.0) for loss in losses),
        "generations": [seed["steps"] for seed in seeds],
    }


def rank(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Best first: seeds that stopped early, then when the later one did, then the losses."""
    return (-row["reached"], max(row["generations"]), sum(row["losses"]))


def tune(case: Case) -> dict[str, list[dict[str, Any]]]:
    """The same points for both kinds of noise, best first."""
    space = {name: (LOG, limits) for name, limits in case.space.items()}
    found: dict[str, list[dict[str, Any]]] = {noise: [] for noise in NOISES}
    for point in points(space, case.trials):
        for noise in NOISES:
            found[noise].append(trial(case, noise, point))
            print(noise, found[noise][-1], flush=True)
    return {noise: sorted(rows, key=rank) for noise, rows in found.items()}


def judge(case: Case, entry: Mapping[str, Any]) -> dict[str, Any]:
    """What one arm's seeds reach at the size that counts."""
    rows = []
    for seed in entry["seeds"]:
        there = (r for r in seed["curve"] if r["validation_score"] >= TARGET)
        rows.append(
            {
                "seed": seed["seed"],
                **seed["scores"][str(case.size)],
                "generations": seed["steps"],
                "forwards": seed["cost"]["forward_equivalents"],
                "seconds": seed["cost"]["device_seconds"],
                "generations_to_99_percent": next((r["generations"] for r in there), None),
                "scores": {size: judged["score"] for size, judged in seed["scores"].items()},
            }
        )
    return {
        "learned": sum(row["score"] >= case.target for row in rows),
        "score": estimates([row["score"] for row in rows]),
        "exact": estimates([row["exact"] for row in rows]),
        "median_seconds": float(np.median([row["seconds"] for row in rows])),
        "seeds": rows,
    }


def estimates(values: Sequence[float]) -> dict[str, Any]:
    """Mean and interquartile mean over seeds, each with its 95 % bootstrap interval."""
    statistics = {
        "mean": lambda table: table.mean(axis=(-2, -1)),
        "iqm": lambda table: interquartile_mean(table, axis=(-2, -1)),
    }
    return {
        name: stratified_bootstrap(np.asarray(values), statistic)._asdict()
        for name, statistic in statistics.items()
    }


def measure(case: Case) -> dict[str, Any]:
    """Both kinds of noise on the same seeds, and dense noise one size further."""
    arms = {noise: case.arm(rule, **case.of(noise)) for noise, rule in NOISES.items()}
    results = train(case, arms, SEEDS)
    found: dict[str, Any] = {
        "task": results["task"],
        "model": results["model"],
        "population": case.population,
        "batch": case.batch,
        "generations": case.generations,
        "forwards": case.generations * case.population * case.batch,
        "size": case.size,
        "target": case.target,
        "decay": case.decay,
        "settings": case.settings,
        **{entry["name"]: judge(case, entry) for entry in results["arms"]},
    }
    if case.beyond is not None:
        size = max(case.beyond.test_sizes)
        further = dataclasses.replace(case, task=case.beyond, size=size)
        entry = train(further, {"dense": arms["dense"]}, BEYOND_SEEDS)["arms"][0]
        found["dense_one_size_further"] = {"size": size, **judge(further, entry)}
    everyone = len(SEEDS)
    if found["dense"]["learned"] < everyone:
        found["verdict"] = "failed: dense noise does not learn it on every seed"
    elif found["low_rank"]["learned"] < everyone:
        found["verdict"] = "failed: low-rank noise does not learn it on every seed"
    else:
        found["verdict"] = "passed"
    return found


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """One line for each task and noise, in percent."""
    lines = [
        "task    size noise            learned  mean score [95 %]       IQM [95 %]"
        "              exact [95 %]            generations  forwards  s/seed"
    ]
    for name, case in found.items():
        for noise in NOISES:
            arm = case[noise]
            numbers = (arm["score"]["mean"], arm["score"]["iqm"], arm["exact"]["mean"])
            said = "  ".join(
                "{:6.2f} [{:6.2f}, {:6.2f}]".format(*(100 * e[k] for k in ("value", "low", "high")))
                for e in numbers
            )
            lines.append(
                f"{name:7} {case['size']:4} {noise:15} {arm['learned']:3} of {len(arm['seeds'])}  "
                f"{said}  {case['generations']:11} {case['forwards']:9.1e} "
                f"{arm['median_seconds']:7.0f}"
            )
        if "dense_one_size_further" in case:
            arm = case["dense_one_size_further"]
            lines.append(
                f"{name:7} {arm['size']:4} {'dense':15} {arm['learned']:3} of "
                f"{len(arm['seeds'])}  "
                f"{100 * arm['score']['mean']['value']:6.2f}"
            )
        lines.append(f"{name}: {case['verdict']}")
    return "\n".join(lines)


def main() -> None:
    """Run the cases, or search their settings, and write after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--tune", action="store_true", help="search settings instead")
    parser.add_argument(
        "--json", type=Path, default=Path("benchmarks/results/low_rank_learning.json")
    )
    options = parser.parse_args()
    kept = read_json(options.json) if options.json.exists() else {"cases": {}, "trials": {}}
    for name in options.cases:
        case = CASES[name]
        if options.tune and not case.space:
            print(f"{name}: settings were found by hand; see the comment above CASES")
        elif options.tune:
            kept["trials"][name] = {
                "seeds": case.tuning_seeds,
                "space": case.space,
                "generations": case.generations,
                "stop_loss": case.tuning_stop,
                **tune(case),
            }
        else:
            kept["cases"][name] = measure(case)
            print(table({name: kept["cases"][name]}), flush=True)
        kept = {**kept, "benchmark": "low_rank_learning", "environment": describe()}
        write_json(options.json, kept)


if __name__ == "__main__":
    main()
