"""One run over several processes, as on a cluster: each host starts this script with its number.

    python examples/multi_host.py --coordinator HOST:7777 --processes 2 --process-id 0 --out run
    python examples/multi_host.py --coordinator HOST:7777 --processes 2 --process-id 1 --out run

Process 0 writes the results. If a process is lost the others end too: start again with --resume, on
as many processes as there are now. Without flags, two processes on this machine show that they find
what one process finds.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

import evojax_nar as nar
from evojax_nar.evaluator import sample_mixture
from evojax_nar.objective import TaskLoss
from evojax_nar.population import GaussianPairs

POPULATION = 36


class Setting(NamedTuple):
    """What is learned, by what and how."""

    task: Any
    model: Any
    strategy: Any


def setting() -> Setting:
    """A function, since processes must be joined before any of these computes something."""
    # Weights that are smooth in the losses, and plain descent: over many steps ranks and Adam would
    # amplify the rounding in which runs on different devices differ.
    strategy = nar.strategies.ES(
        population=POPULATION,
        noise=nar.noise.LowRank(),
        shaping=nar.strategies.shaping.z_score,
        optimizer=nar.strategies.optimizer("sgd", learning_rate=0.01),
    )
    task = nar.tasks.Parity(train_sizes=range(1, 5), test_sizes=(4, 8))
    return Setting(task, nar.models.LSTM(hidden=8), strategy)


def one_generation(placement: nar.Placement) -> dict[str, np.ndarray]:
    """Fitness (N,) of one population, and the estimate that N fixed weights make of its noise."""
    task, model, strategy = setting()
    params = model.init(jax.random.key(0), task.spec)
    batch = sample_mixture(task, jax.random.key(1), 16)
    members = GaussianPairs(
        params, jax.random.key(2), jnp.float32(0.1), POPULATION // 2, strategy.noise
    )
    weights = jax.random.normal(jax.random.key(3), (POPULATION,))
    objective = nar.Objective(TaskLoss(task, model, task.spec), batch, placement=placement)

    @jax.jit
    def both(objective: nar.Objective, members: GaussianPairs, weights: jax.Array):
        evaluation, _ = objective.population(members)
        return evaluation.loss, objective.combine(members, weights)

    # Each process holds a part of the fitness until it is gathered.
    gather = multihost_utils.process_allgather
    fitness, estimate = gather(both(objective, members, weights), tiled=True)
    return {"fitness": np.asarray(fitness), "estimate": flat(estimate)}


def train(placement: nar.Placement, out: Path, options: argparse.Namespace) -> nar.Run:
    """The package's own trainer: every process calls it alike."""
    task, model, strategy = setting()
    return nar.train(
        task,
        model,
        nar.Arm(strategy, batch=16),
        budget=nar.Budget(generations=options.generations),
        out=out,
        resume=options.resume,
        placement=placement,
        checkpoint_seconds=options.checkpoint_seconds,
        evaluation_examples=64,
        progress=False,
    )


def work(options: argparse.Namespace) -> None:
    """What each process does."""
    if options.processes > 1:
        jax.distributed.initialize(options.coordinator, options.processes, options.process_id)
    placement = nar.devices.placement(chunk=options.chunk)
    number = jax.process_index()
    who = f"process {number} with {jax.local_device_count()} of {jax.device_count()} devices"
    found = one_generation(placement)
    report(who, found)
    run = train(placement, Path(options.out), options)
    report(who, {"deployed centre": flat(run.params)})
    file = Path(options.out) / f"process-{number}.npz"
    np.savez(file, fitness=found["fitness"], estimate=found["estimate"])


def report(who: str, found: dict[str, np.ndarray]) -> None:
    for name, values in found.items():
        digest = zlib.crc32(values.tobytes())
        print(f"{who}: {name} sums to {values.sum():+.6f}, checksum {digest:08x}", flush=True)


def start(options: argparse.Namespace, out: Path, processes: int) -> list[subprocess.Popen[str]]:
    """So many processes on this machine, with two pretended devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "2",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
    }
    environment.pop("XLA_FLAGS", None)
    flags = {
        "coordinator": address,
        "processes": processes,
        "out": out,
        "generations": options.generations,
        "checkpoint-seconds": options.checkpoint_seconds,
    }
    given = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    return [
        subprocess.Popen(
            [sys.executable, __file__, *given, "--process-id", str(number)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]


def finish(children: Sequence[subprocess.Popen[str]], seconds: float) -> list[str]:
    """What the processes printed. None outlives this: one that fails ends the others."""
    deadline = time.monotonic() + seconds
    try:
        while any(child.poll() is None for child in children):
            if time.monotonic() > deadline or any(child.poll() for child in children):
                break
            time.sleep(0.1)
        failed = [child for child in children if child.poll() != 0]
        for child in children:
            child.kill()
        printed = [child.communicate() for child in children]
        if failed:
            raise RuntimeError(f"a process failed:\n{''.join(errors for _, errors in printed)}")
        return [output for output, _ in printed]
    finally:
        for child in children:
            child.kill()
            child.wait()


def demonstrate(options: argparse.Namespace) -> dict[str, float]:
    """Two processes against one; the largest differences, relative to the largest number."""
    out = Path(options.out or tempfile.mkdtemp(prefix="multi-host-"))
    for line in "".join(finish(start(options, out / "two", 2), seconds=900)).splitlines():
        if line.startswith("process"):  # and not what the library that joins them says
            print(line)
    alone = nar.Placement()
    found = one_generation(alone)
    report("one process, one device", found)
    run = train(alone, out / "one", options)
    report("one process, one device", {"deployed centre": flat(run.params)})

    differences = {}
    for number in range(2):
        with np.load(out / "two" / f"process-{number}.npz", allow_pickle=False) as file:
            for name, values in found.items():
                differences[f"{name}, process {number}"] = relative(file[name], values)
    curves = [
        [point["validation_loss"] for point in nar.load(out / name).arm("es")["seeds"][0]["curve"]]
        for name in ("two", "one")
    ]
    differences["validation loss, all epochs"] = relative(*map(np.asarray, curves))
    centres = [nar.load(out / name).parameters("es", 0) for name in ("two", "one")]
    differences["deployed centre"] = relative(*map(flat, centres))
    for name, value in differences.items():
        print(f"two processes against one, {name}: {value:.1e}")
    return differences


def flat(tree: Any) -> np.ndarray:
    """All numbers of a tree, as one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def relative(values: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(values - wanted).max() / np.abs(wanted).max())


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--coordinator", help="address and port of process 0")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process-id", type=int, help="from 0; without it, a demonstration")
    parser.add_argument("--out", help="results folder")
    parser.add_argument("--resume", action="store_true", help="continue the run in the folder")
    parser.add_argument("--chunk", type=int, help="pairs evaluated at once on a device")
    parser.add_argument("--generations", type=int, default=200)
    parser.add_argument("--checkpoint-seconds", type=float, default=10.0)
    options = parser.parse_args(arguments)
    if options.process_id is not None and options.out is None:
        parser.error("--out is needed: every process names the same folder")
    return options


def main(arguments: Sequence[str] | None = None) -> dict[str, float] | None:
    options = parse(arguments)
    if options.process_id is None:
        return demonstrate(options)
    try:
        work(options)
    except Exception:
        # At once: an orderly exit would wait for the other processes, and they for this one.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
