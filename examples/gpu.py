"""Evolve an LSTM on all GPUs of this machine, by low-rank noise in bfloat16.

    python examples/gpu.py
    python examples/gpu.py --population 262144 --hidden 256 --generations 500

Says what it found, what it will do and how long that should take, then does it. Without a GPU it
runs on the CPU, small.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from typing import Any

import jax
import optax

import evojax_nar as nar

BATCH = 8


def main(arguments: Sequence[str] | None = None) -> Any:
    """Train and print the table of results; the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--population", type=int, help="members; 65,536 a GPU, 256 on a CPU")
    parser.add_argument("--hidden", type=int, help="units of the LSTM; 128, or 16 on a CPU")
    parser.add_argument("--generations", type=int, default=200)
    parser.add_argument("--out", help="results folder; a fresh one under results/ unless given")
    said = parser.parse_args(arguments)

    devices = jax.devices()
    accelerated = devices[0].platform == "gpu"
    if not accelerated:
        print("No GPU was found: jax is installed without CUDA, or sees none. On the CPU, small.")
    population = said.population or (65_536 * len(devices) if accelerated else 256)
    hidden = said.hidden or (128 if accelerated else 16)
    dtype = "bfloat16" if accelerated else "float32"

    task = nar.tasks.Parity(train_sizes=range(1, 21), test_sizes=(20, 100, 500))
    model = nar.models.LSTM(hidden=hidden)
    strategy = nar.strategies.ES(
        population=population,
        sigma=0.04,
        optimizer=optax.adam(0.08),
        noise=nar.noise.LowRank(rank=1),
    )
    arm = nar.Arm(strategy, batch=BATCH)
    placement = nar.devices.placement()
    plan: dict[str, Any] = {"placement": placement, "forward_dtype": dtype}

    print(f"{len(devices)} x {devices[0].device_kind}, {dtype}")
    print(nar.forecast(task, model, arm, name="es", **plan))
    with tempfile.TemporaryDirectory() as folder:
        budget = nar.Budget(generations=4)
        trial = nar.train(task, model, arm, budget=budget, out=folder, progress=False, **plan)
    seconds = trial.cost["device_seconds"] / 4
    print(f"{population / seconds:,.0f} members a second, {seconds:.3g} s a generation")
    print(f"{said.generations} generations should take about {seconds * said.generations:.0f} s")

    budget = nar.Budget(generations=said.generations)
    run = nar.train(task, model, arm, budget=budget, out=said.out, name="es", **plan)
    run.results.table()
    return run.results


if __name__ == "__main__":
    main()
