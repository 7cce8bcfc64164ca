"""Every strategy of evosax that the adapter runs, on a small quadratic and on a small network.

A row is one strategy on one problem: the loss of what it deploys after a fixed number of
generations, relative to that at the start, the median of the seeds and both ends. Settings are the
adapter's defaults but for the first standard deviation, the same for all, so the rows say that a
strategy works and not which is best. Then those that are known for a size, on problems of it:

- `quadratic`: D = 30, curvatures from 1 to 100 along axes that are turned at random.
- `network`: the parity of up to 3 bits by an MLP of D = 110; fresh examples in each generation, and
  a loss on others in the end.
- `separable`: D = 1000, the same curvatures along the parameters themselves.
- `sphere`: D = 10,000, one curvature.

The optimum of a quadratic is a standard normal draw, the start is 0 and the loss there is half the
mean curvature.

    python -m benchmarks.evosax_breadth --json benchmarks/results/evosax_breadth.json

Rows that the file has, with the same settings, are not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import evojax_nar as nar
from evojax_nar.environment import describe
from evojax_nar.errors import InputError
from evojax_nar.evaluator import sample_mixture
from evojax_nar.files import read_json, write_json
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.strategies import Evosax, evosax_adapter
from evojax_nar.types import Info, Key, Params

STD = 0.3
CONDITION = 100.0
TASK = nar.tasks.Parity(train_sizes=range(1, 4), test_sizes=(3,))
MODEL = nar.models.MLP(hidden=(8,))
JUDGED = 512


class Data(NamedTuple):
    """A quadratic."""

    optimum: jax.Array
    """(D,)"""
    curvatures: jax.Array
    """(D,)"""
    axes: Any = None
    """(D, D) orthogonal; None for the parameters' own."""


def quadratic(params: Params, data: Data) -> jax.Array:
    """Half the mean of curvature times squared distance."""
    away = params - data.optimum
    if data.axes is not None:
        away = data.axes @ away
    return 0.5 * jnp.mean(data.curvatures * away**2)


class Problem(NamedTuple):
    """What is minimised, and how it is judged."""

    start: Callable[[Key], Params]
    data: Callable[[Key], Any]
    """What a seed's problem consists of, made once."""
    objective: Callable[[Any, Key], Objective]
    """Of that and the key of a generation."""
    judge: Callable[[Any, Params], jax.Array]
    """The loss of what is deployed."""


def quadratic_problem(parameters: int, condition: float, turned: bool) -> Problem:
    """A quadratic that is another one for each seed."""

    def data(key: Key) -> Data:
        place, turn = jax.random.split(key)
        axes = None
        if turned:
            axes = jnp.linalg.qr(jax.random.normal(turn, (parameters, parameters)))[0]
        curvatures = jnp.geomspace(1.0, condition, parameters)
        return Data(jax.random.normal(place, (parameters,)), curvatures, axes)

    return Problem(
        start=lambda key: jnp.zeros(parameters),
        data=data,
        objective=lambda data, step: Objective(quadratic, data),
        judge=lambda data, params: quadratic(params, data),
    )


def network_problem() -> Problem:
    """Parity by a small network, on fresh examples; what a seed has made is for the end."""
    loss = TaskLoss(TASK, MODEL, TASK.spec)
    return Problem(
        start=lambda key: MODEL.init(key, TASK.spec),
        data=lambda key: sample_mixture(TASK, key, JUDGED),
        objective=lambda data, step: Objective(loss, sample_mixture(TASK, step, 64)),
        judge=lambda data, params: loss(params, data).loss,
    )


PROBLEMS = {
    "quadratic": quadratic_problem(30, CONDITION, turned=True),
    "network": network_problem(),
    "separable": quadratic_problem(1000, CONDITION, turned=False),
    "sphere": quadratic_problem(10_000, 1.0, turned=False),
}


@dataclass(frozen=True)
class Trial:
    """One row to be measured."""

    algorithm: str
    problem: str
    population: int
    generations: int


SIZED = (
    Trial("CMA_ES", "quadratic", 32, 500),
    Trial("xNES", "quadratic", 32, 500),
    Trial("DifferentialEvolution", "quadratic", 128, 1000),
    Trial("Sep_CMA_ES", "separable", 64, 1000),
    Trial("CR_FM_NES", "separable", 64, 1000),
    Trial("PGPE", "sphere", 128, 300),
)
"""Strategies on the sizes that they are known for, with generations to match."""


def trials() -> list[Trial]:
    """All rows: the breadth, and then the sizes."""
    names = evosax_adapter.names()
    return [
        *(Trial(name, "quadratic", 32, 300) for name in names),
        *(Trial(name, "network", 64, 100) for name in names),
        *SIZED,
    ]


@partial(jax.jit, static_argnames=("strategy", "problem", "generations"))
def train(
    key: Key, state: Any, data: Any, *, strategy: Evosax, problem: str, generations: int
) -> tuple[Any, Info]:
    """All generations of one seed; the last state, and what was reported (G,)."""

    def step(state: Any, key: Key) -> tuple[Any, Info]:
        batch, noise = jax.random.split(key)
        return strategy.step(noise, state, PROBLEMS[problem].objective(data, batch))

    return jax.lax.scan(step, state, jax.random.split(key, generations))


def measure(trial: Trial, seeds: int) -> dict[str, Any]:
    """One row; where the adapter refuses, the sentence that says so."""
    row: dict[str, Any] = {**dataclasses.asdict(trial), "seeds": seeds}
    problem = PROBLEMS[trial.problem]
    try:
        strategy = Evosax(trial.algorithm, population=trial.population, std=STD)
        found = [_one(strategy, problem, trial, seed) for seed in range(seeds)]
    except InputError as error:
        return {**row, "refused": str(error)}
    ratios = sorted(end / begin for begin, end, _, _ in found)
    return {
        **row,
        "parameters": found[0][3],
        "start": float(np.median([begin for begin, _, _, _ in found])),
        "ratio": float(np.median(ratios)),
        "lowest": ratios[0],
        "highest": ratios[-1],
        "healthy": all(healthy for _, _, healthy, _ in found),
    }


def _one(
    strategy: Evosax, problem: Problem, trial: Trial, seed: int
) -> tuple[float, float, bool, int]:
    first, place, own, stream = jax.random.split(jax.random.key(seed), 4)
    start, data = problem.start(first), jax.jit(problem.data)(place)
    state, info = train(
        stream,
        strategy.init(own, start),
        data,
        strategy=strategy,
        problem=trial.problem,
        generations=trial.generations,
    )
    begin, end = (float(problem.judge(data, p)) for p in (start, strategy.params(state)))
    count = sum(leaf.size for leaf in jax.tree.leaves(start))
    return begin, end, bool(info.healthy.all()), count


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text, problem by problem, the lowest loss first."""
    lines = [f"{'problem':10} {'algorithm':22} {'D':>6} {'N':>4} {'G':>5} {'loss / start':>30}"]
    place = {name: index for index, name in enumerate(PROBLEMS)}
    ordered = sorted(rows, key=lambda r: (place[r["problem"]], r.get("ratio", np.inf)))
    for row in ordered:
        said = row.get("refused")
        if said is None:
            said = f"{row['ratio']:.2e} ({row['lowest']:.1e} to {row['highest']:.1e})"
            said += "" if row["healthy"] else "  NOT healthy throughout"
        lines.append(
            f"{row['problem']:10} {row['algorithm']:22} {row.get('parameters', ''):>6} "
            f"{row['population']:4d} {row['generations']:5d} {said:>30}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, print all, and write after each row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="algorithms")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if options.json and options.json.exists():
        rows = read_json(options.json)["rows"]
    for trial in trials():
        wanted = {**dataclasses.asdict(trial), "seeds": options.seeds}
        done = any(wanted.items() <= row.items() for row in rows)
        if done or (options.only and trial.algorithm not in options.only):
            continue
        rows = [r for r in rows if any(r[k] != v for k, v in dataclasses.asdict(trial).items())]
        rows.append(measure(trial, options.seeds))
        if options.json:
            write_json(
                options.json,
                {
                    "benchmark": "evosax_breadth",
                    "environment": describe(),
                    "settings": {"std": STD, "condition": CONDITION},
                    "rows": rows,
                },
            )
        jax.clear_caches()
    print(table(rows))


if __name__ == "__main__":
    main()
