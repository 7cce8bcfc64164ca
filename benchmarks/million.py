"""A generation of a very large population of an unmodified LSTM: time and memory.

    /usr/bin/time -v python -m benchmarks.million --members 1048576

prints the seconds of a generation after the first, what plain inference over as many inputs takes
in the chunks that suit it best, and the peak memory of the process. All members share one sequence
of T = 20 steps of 10 features. Inference runs in a process of its own: it is not in the peak.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import evojax_nar as nar
from evojax_nar.environment import describe
from evojax_nar.files import read_json, write_json

TIME, FEATURES = 20, 10
CHUNKS = (256, 512, 1024, 2048, 4096)


def generation(module: nn.Module, members: int, repeats: int) -> dict[str, float]:
    """Seconds of the first generation and of a later one, and the peak bytes of the process."""
    x = jax.random.normal(jax.random.key(0), (1, TIME, FEATURES))
    params = module.init(jax.random.key(1), x)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.mean(jnp.square(jnp.asarray(module.apply(params, x))))

    strategy = nar.strategies.ES(
        population=members, optimizer=optax.adam(1e-2), noise=nar.noise.LowRank(rank=1)
    )
    step = jax.jit(strategy.step, donate_argnums=(1,))
    state = strategy.init(jax.random.key(2), params)
    objective = nar.Objective(loss, x)
    seconds = []
    for turn in range(repeats + 1):
        begin = time.perf_counter()
        state, info = step(jax.random.key(turn), state, objective)
        jax.block_until_ready((state, info))
        seconds.append(time.perf_counter() - begin)
    return {
        "first_seconds": seconds[0],
        "seconds": min(seconds[1:]),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def inference(module: nn.Module, inputs: int) -> dict[str, float]:
    """Seconds of plain inference over so many inputs, from a part of them, in the best chunks."""
    part = min(inputs, 65_536)
    x = jax.random.normal(jax.random.key(0), (part, TIME, FEATURES))
    params = module.init(jax.random.key(1), x[:1])

    def run(rows: int) -> Callable[[], Any]:
        def chunk(x: jax.Array) -> jax.Array:
            outputs = jnp.asarray(module.apply(params, x))
            return jnp.mean(jnp.square(outputs).reshape(rows, -1), axis=1)

        whole = jax.jit(lambda x: jax.lax.map(chunk, x.reshape(-1, rows, *x.shape[1:])))
        return lambda: jax.block_until_ready(whole(x))

    seconds = {}
    for rows in CHUNKS:
        call = run(rows)
        call()
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        seconds[rows] = min(times) * inputs / part
    best = min(seconds, key=lambda rows: seconds[rows])
    return {"inference_seconds": seconds[best], "inference_chunk": best}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=2**20)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path, help="add the figures to those in this file")
    parser.add_argument("--inference-only", action="store_true", help=argparse.SUPPRESS)
    said = parser.parse_args()
    module = nn.RNN(nn.OptimizedLSTMCell(said.hidden))
    if said.inference_only:
        print(json.dumps(inference(module, said.members)))
        return
    row: dict[str, Any] = {"members": said.members, "hidden": said.hidden}
    row |= generation(module, said.members, said.repeats)
    command = [sys.executable, "-m", "benchmarks.million", "--inference-only"]
    command += ["--members", str(said.members), "--hidden", str(said.hidden)]
    row |= json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    row["share_of_inference"] = row["inference_seconds"] / row["seconds"]
    print(
        f"{row['members']:,} members of an LSTM with H={row['hidden']}: {row['seconds']:.2f} s a "
        f"generation ({row['first_seconds']:.2f} s the first), {row['share_of_inference']:.2f} of "
        f"inference in chunks of {row['inference_chunk']}, peak {row['peak_bytes'] / 2**20:.0f} MiB"
    )
    if said.json is not None:
        rows = read_json(said.json)["rows"] if said.json.exists() else []
        rows = [
            old for old in rows if (old["members"], old["hidden"]) != (said.members, said.hidden)
        ]
        write_json(said.json, {"environment": describe(), "rows": [*rows, row]})


if __name__ == "__main__":
    main()
