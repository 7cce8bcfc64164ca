"""How far does training in int8 get on text, beside a float network of the same size and Adam?

Both learn to say the next byte of Python's documentation (`ByteText`): an `IntegerGRU` by the votes
of `IntegerES`, and a float GRU with as nearly the same number of parameters by Adam. Each side is
tuned by the same number of trials, which spend the same share of the same budget in
forward-equivalents on a seed of their own and are ranked on validation text. The best setting is
then trained on the whole budget, and judged on all of the test text, cut into windows at whose
first byte a network knows nothing. Counting pairs of bytes and zlib are the marks to be measured
by.

    python -m benchmarks.integer_text --json benchmarks/results/integer_text.json
"""

from __future__ import annotations

import argparse
import math
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import evojax_nar as nar
from evojax_nar.environment import describe
from evojax_nar.files import write_json
from evojax_nar.objective import TaskLoss
from evojax_nar.tasks.text import references

TASK = nar.tasks.ByteText(train_sizes=(32,), test_sizes=(32, 256))
SHARE = 0.1
"""Of the budget, for each trial."""
TUNING_SEED, SEED = 1000, 0
BATCHES = {"int8": 512, "float": 32}
POPULATION = 1024
"""With 512 pairs and 512 slices of the batch, each pair sees one window of its own."""
CHUNK = 64
"""Pairs evaluated at once: what they compute then fits into the caches of a processor."""
POINTS: dict[str, list[dict[str, Any]]] = {
    "int8": [
        {"sigma_shift": 3, "alpha": 1.0},
        {"sigma_shift": 4, "alpha": 1.0},
        {"sigma_shift": 5, "alpha": 1.0},
        {"sigma_shift": 4, "alpha": 0.5},
    ],
    "float": [{"learning_rate": rate} for rate in (0.001, 0.003, 0.01, 0.03)],
}


def strategy(side: str, point: dict[str, Any]) -> Any:
    """The strategy of one side at one point."""
    if side == "int8":
        return nar.strategies.IntegerES(
            population=POPULATION, slices=BATCHES["int8"], decay=0.015, **point
        )
    return nar.strategies.Gradient(nar.strategies.optimizer("adam", clip=1.0, **point))


def parameters(model: Any) -> int:
    """D of a model built for the task."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), TASK.spec))
    return nar.models.parameter_count(shapes)


def models(hidden: int) -> dict[str, Any]:
    """An int8 network with H units, and the float one nearest to it in parameters."""
    integer = nar.models.IntegerGRU(hidden=hidden)
    wanted = parameters(integer)
    units = min(range(1, 2 * hidden), key=lambda h: abs(parameters(nar.models.GRU(h)) - wanted))
    return {"int8": integer, "float": nar.models.GRU(hidden=units)}


def train(side: str, model: Any, point: dict[str, Any], budget: float, seed: int) -> nar.Run:
    """One run; its folder is a temporary one, so what is wanted of it is read by the caller."""
    folder = tempfile.mkdtemp(prefix="integer_text_")
    return nar.train(
        TASK,
        model,
        nar.Arm(strategy(side, point), batch=BATCHES[side]),
        seed=seed,
        budget=nar.Budget(forwards=budget),
        out=Path(folder) / "run",
        placement=nar.Placement(chunk=CHUNK if side == "int8" else None),
        evaluation_examples=64,
        progress=False,
    )


def bits_per_byte(model: Any, params: Any, size: int) -> float:
    """Of all whole windows of `size` bytes of the test text, each from a fresh state."""
    text = np.frombuffer(TASK.test.text, np.uint8).astype(np.int32)
    count = (len(text) - 1) // size
    windows = text[np.arange(count)[:, None] * size + np.arange(size + 1)]
    loss = TaskLoss(TASK, model, TASK.spec)
    judge = jax.jit(lambda own, batch: loss(own, batch).loss)
    total = 0.0
    for first in range(0, count, 64):
        rows = windows[first : first + 64]
        batch = TASK.build(jnp.asarray(rows), jnp.full((len(rows),), size))
        total += float(judge(params, batch)) * len(rows)
    return total / count / math.log(2)


def validation_bits(run: nar.Run) -> float:
    """Of what the run deployed, on validation text."""
    loss = run.entry["curve"][-1]["deployed_loss"]
    return math.inf if loss is None else loss / math.log(2)


def trial(side: str, model: Any, point: dict[str, Any], budget: float) -> dict[str, Any]:
    """One point, trained on a share of the budget."""
    run = train(side, model, point, SHARE * budget, TUNING_SEED)
    return {
        "point": point,
        "validation_bits_per_byte": validation_bits(run),
        "cost": run.cost,
    }


def measure(side: str, model: Any, budget: float, show: Callable[[str], None]) -> dict[str, Any]:
    """Tune one side, train it, and judge it."""
    trials = []
    for point in POINTS[side]:
        trials.append(trial(side, model, point, budget))
        bits = trials[-1]["validation_bits_per_byte"]
        show(f"{side} {point}: {bits:.3f} bits a byte of validation text")
    best = min(trials, key=lambda row: row["validation_bits_per_byte"])["point"]
    run = train(side, model, best, budget, SEED)
    judged = {str(size): bits_per_byte(model, run.params, size) for size in TASK.test_sizes}
    return {
        "model": {"name": model.name, **model.settings(), "parameters": parameters(model)},
        "bytes_of_parameters": sum(leaf.nbytes for leaf in jax.tree.leaves(run.params)),
        "strategy": run.results.arm(run.arm)["settings"],
        "trials": trials,
        "chosen": best,
        "steps": run.entry["steps"],
        "test_bits_per_byte": judged,
        "validation_bits_per_byte": validation_bits(run),
        "validation_curve": [
            [record["forward_equivalents"], record["deployed_loss"] / math.log(2)]
            for record in run.entry["curve"]
        ],
        "cost": run.cost,
    }


def main(show: Callable[[str], None] = lambda line: print(line, flush=True)) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=64, help="units of the int8 network")
    parser.add_argument("--budget", type=float, default=2e6, help="forward-equivalents a side")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    marks = references(TASK.test)
    found = {
        side: measure(side, model, options.budget, show)
        for side, model in models(options.hidden).items()
    }
    largest = str(max(TASK.test_sizes))
    show(f"bits per byte of {len(TASK.test.text):,} bytes of held-out text, windows of {largest}:")
    for name, bits in marks.items():
        show(f"  {name:8} {bits:.3f}")
    for side, row in found.items():
        model, cost = row["model"], row["cost"]
        show(
            f"  {side:8} {row['test_bits_per_byte'][largest]:.3f}  {model['name']} "
            f"H={model['hidden']} D={model['parameters']:,}, {row['steps']:,} steps, "
            f"{cost['forward_equivalents']:,} forward-equivalents, "
            f"{cost['device_seconds']:.0f} s of training"
        )
    if options.json:
        write_json(
            options.json,
            {
                "benchmark": "integer_text",
                "environment": describe(),
                "budget": options.budget,
                "share_of_a_trial": SHARE,
                "seeds": {"trials": TUNING_SEED, "final": SEED},
                "task": TASK.settings(),
                "text": {
                    part: {"bytes": len(text), "crc32": zlib.crc32(text)}
                    for part, text in (
                        ("train", TASK.text),
                        ("validation", TASK.validation.text),
                        ("test", TASK.test.text),
                    )
                },
                "references_bits_per_byte": marks,
                "sides": found,
            },
        )


if __name__ == "__main__":
    main()
