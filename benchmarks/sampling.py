"""Samples of CLRS-30 a second, hints included: on the device, against dm-clrs in two processes.

Both make problems of size 16 with all their hints. For each algorithm dm-clrs runs first, in as
many processes as there are cores, all at once, their rates summed; then the compiled sampler of
this package, with batches of 32 and of 1,024. Medians of several rounds; compiling is timed apart.

    pip install -e '.[oracle]' && pip install --no-deps dm-clrs==2.0.3
    python -m benchmarks.sampling --json benchmarks/results/sampling.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from evojax_nar.environment import describe
from evojax_nar.files import write_json
from evojax_nar.tasks import clrs
from tests.clrs_oracle import load

SIZE = 16
BATCHES = (32, 1024)
MULTIPLES = {32: 10.0, 1024: 30.0}
"""What the geometric mean over the algorithms must reach, against all processes of dm-clrs."""


def theirs(name: str, seconds: float, ready: Any, rates: Any) -> None:
    """One process of dm-clrs: batches of 32 until the time is over."""
    samplers, _ = load()
    sampler, _ = samplers.build_sampler(
        name, num_samples=-1, length=SIZE, seed=os.getpid() % 1000, track_max_steps=False
    )
    sampler.next(batch_size=4)
    ready.wait()
    begin, made = time.perf_counter(), 0
    while (now := time.perf_counter()) - begin < seconds or not made:
        made += len(sampler.next(batch_size=32).features.lengths)
    rates.put(made / (now - begin) if now > begin else made / (time.perf_counter() - begin))


def peer(name: str, processes: int, seconds: float) -> float:
    """Samples a second of dm-clrs in several processes at once."""
    context = multiprocessing.get_context("spawn")
    ready, rates = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=theirs, args=(name, seconds, ready, rates)) for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = sum(rates.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    return found


def ours(name: str, batch: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Samples a second of the compiled sampler: the median of rounds of batches."""
    task: Any = next(cls for cls in clrs.ALL if cls.name == f"clrs/{name}")(varied=False)
    sample = jax.jit(lambda key: task.sample(key, SIZE, max_size=SIZE, batch=batch))
    begin = time.perf_counter()
    compiled = sample.lower(jax.random.key(0)).compile()
    compile_seconds = time.perf_counter() - begin
    keys = iter(jax.random.split(jax.random.key(1), 100_000))
    jax.block_until_ready(compiled(next(keys)))
    rates = []
    for _ in range(rounds):
        begin, made = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds / rounds:
            jax.block_until_ready(compiled(next(keys)))
            made += batch
        rates.append(made / (time.perf_counter() - begin))
    low, middle, high = np.quantile(rates, (0.25, 0.5, 0.75))
    return {
        "samples_per_second": float(middle),
        "quartiles": [float(low), float(high)],
        "compile_seconds": compile_seconds,
    }


def main() -> None:
    """Measure, print a line an algorithm, and the geometric means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    _, specifications = load()
    rows: dict[str, Any] = {}
    for name in options.names or specifications.CLRS_30_ALGS:
        row: dict[str, Any] = {"dm_clrs": peer(name, options.processes, options.seconds)}
        for batch in BATCHES:
            row[str(batch)] = ours(name, batch, options.seconds, options.rounds)
            row[str(batch)]["times_dm_clrs"] = (
                row[str(batch)]["samples_per_second"] / row["dm_clrs"]
            )
        rows[name] = row
        shown = "  ".join(
            f"{batch:5}: {row[str(batch)]['samples_per_second']:9,.0f}/s "
            f"{row[str(batch)]['times_dm_clrs']:6.1f}x "
            f"(compiled in {row[str(batch)]['compile_seconds']:.1f} s)"
            for batch in BATCHES
        )
        print(f"{name:30} dm-clrs {row['dm_clrs']:8,.0f}/s  {shown}", flush=True)
    means = {}
    for batch in BATCHES:
        times = [row[str(batch)]["times_dm_clrs"] for row in rows.values()]
        means[str(batch)] = float(np.exp(np.mean(np.log(times))))
        print(
            f"batch {batch}: {means[str(batch)]:.1f} times dm-clrs in {options.processes} "
            f"processes, geometric mean of {len(rows)} (must {MULTIPLES[batch]:.0f})"
        )
    if options.json:
        write_json(
            options.json,
            {
                "benchmark": "sampling",
                "environment": describe(),
                "size": SIZE,
                "processes": options.processes,
                "geometric_means": means,
                "algorithms": rows,
            },
        )


if __name__ == "__main__":
    main()
