"""How fast is a whole generation? Unmodified flax models, against inference and against peers.

Five programs run in turn, and medians of the ratios of neighbours are reported:

- inference: the same module, parameters unperturbed, on N * B inputs that all differ, at once.
- chunked inference: the same, in the chunk of 128 to 4,096 inputs that is fastest on this machine.
- low rank: a generation of `ES` with `noise.LowRank(rank=1)`: noise, N evaluations, update.
- dense: the same with `noise.Dense`, so every member has weights of its own under vmap.
- evosax: ask, vmapped evaluation and tell of its `Open_ES`.
- own batches: low rank, where every antithetic pair has B inputs of its own.

Inputs are B sequences of T = 20 steps of 10 features, shared by all members unless said otherwise.
The share of inference is the time of the faster of the two forms of inference over that of the
low-rank generation; the share of inference at once is reported too.

    python -m benchmarks.population --json benchmarks/results/population.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import evosax.algorithms
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import evojax_nar as nar
from evojax_nar import cost
from evojax_nar.environment import describe
from evojax_nar.files import write_json

TIME, FEATURES, SIGMA = 20, 10, 0.05
CHUNKS = (128, 256, 512, 1024, 2048)


class Block(nn.Module):
    """A pre-norm transformer block."""

    width: int
    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + nn.MultiHeadDotProductAttention(self.heads)(nn.LayerNorm()(x))
        hidden = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x)))
        return x + nn.Dense(self.width)(hidden)


class Transformer(nn.Module):
    """Two such blocks over a projection of the inputs."""

    width: int
    heads: int = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(self.width)(x)
        for _ in range(2):
            x = Block(self.width, self.heads)(x)
        return x


class MLP(nn.Module):
    """Three layers over the flattened sequence."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for _ in range(3):
            x = nn.tanh(nn.Dense(self.width)(x))
        return x


FAMILIES: dict[str, Callable[[int], nn.Module]] = {
    "lstm": lambda width: nn.RNN(nn.OptimizedLSTMCell(width)),
    "gru": lambda width: nn.RNN(nn.GRUCell(width)),
    "transformer": Transformer,
    "mlp": MLP,
}


class Case(NamedTuple):
    """One row of the table."""

    family: str
    width: int
    batch: int
    population: int
    must: float | None = None
    rank: int = 1


CASES = (
    Case("lstm", 256, 4, 512, 0.85),
    Case("lstm", 128, 8, 512, 0.90),
    Case("lstm", 128, 1, 2048, 0.55),
    Case("transformer", 128, 4, 128, 0.75),
    Case("gru", 128, 8, 512),
    Case("mlp", 256, 8, 512),
    Case("lstm", 128, 8, 512, rank=4),
    Case("lstm", 128, 8, 512, rank=16),
)


class Loss(NamedTuple):
    """Mean square of a module's outputs; hashable, so it compiles once."""

    module: nn.Module

    def __call__(self, params: Any, x: jax.Array) -> jax.Array:
        return jnp.mean(jnp.square(jnp.asarray(self.module.apply(params, x))))


def programs(case: Case, dtype: Any = jnp.float32) -> dict[str, Callable[[], Any]]:
    """The five programs of a case, each a call that runs one generation on fresh keys."""
    module = FAMILIES[case.family](case.width)
    loss = Loss(module)
    size = case.population
    data_key, params_key, every_key = jax.random.split(jax.random.key(0), 3)
    shape = (case.batch, TIME, FEATURES)
    shared = jax.random.normal(data_key, shape, dtype)
    params = module.init(params_key, shared)
    everyone = jax.random.normal(every_key, (size * case.batch, *shape[1:]), dtype)
    own = everyone[: size // 2 * case.batch].reshape(size // 2, *shape)
    keys = iter(range(10**9))

    def key() -> jax.Array:
        return jax.random.key(next(keys))

    @jax.jit
    def infer(params: Any, x: jax.Array) -> jax.Array:
        outputs = jnp.asarray(module.apply(params, x))
        return jnp.mean(jnp.square(outputs).reshape(size, -1), axis=1)

    def in_chunks(rows: int) -> Callable[[], Any]:
        @jax.jit
        def infer_chunks(params: Any, x: jax.Array) -> jax.Array:
            def chunk(x: jax.Array) -> jax.Array:
                outputs = jnp.asarray(module.apply(params, x))
                return jnp.mean(jnp.square(outputs).reshape(-1, outputs[0].size), axis=1)

            return jax.lax.map(chunk, x.reshape(-1, rows, *x.shape[1:]))

        return lambda: infer_chunks(params, everyone)

    def generation(noise: Any, groups: int = 1) -> Callable[[], Any]:
        strategy = nar.strategies.ES(
            population=size, sigma=SIGMA, optimizer=optax.adam(1e-2), noise=noise
        )
        step = jax.jit(strategy.step)
        state = strategy.init(key(), params)
        data = shared if groups == 1 else own
        objective = nar.Objective(loss, data, groups=None if groups == 1 else groups)
        return lambda: step(key(), state, objective)

    algorithm = evosax.algorithms.Open_ES(population_size=size, solution=params)
    settings = algorithm.default_params
    state = algorithm.init(key(), params, settings)

    @jax.jit
    def peer(key: jax.Array, state: Any, x: jax.Array) -> Any:
        ask, tell = jax.random.split(key)
        members, state = algorithm.ask(ask, state, settings)
        losses = jax.vmap(loss, in_axes=(0, None))(members, x)
        return algorithm.tell(tell, members, losses, state, settings)[0].mean

    return {
        "inference": lambda: infer(params, everyone),
        "chunked inference": fastest([in_chunks(rows) for rows in CHUNKS if rows < len(everyone)]),
        "low rank": generation(nar.noise.LowRank(rank=case.rank)),
        "dense": generation(nar.noise.Dense()),
        "evosax": lambda: peer(key(), state, shared),
        "own batches": generation(nar.noise.LowRank(rank=case.rank), groups=size // 2),
    }


def fastest(runs: Sequence[Callable[[], Any]]) -> Callable[[], Any]:
    """The run that took the least time, of five each after the first."""

    def seconds(run: Callable[[], Any]) -> float:
        jax.block_until_ready(run())
        return min(_time(run) for _ in range(5))

    return min(runs, key=seconds)


def _time(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - begin


def measure(case: Case, rounds: int, only: Sequence[str]) -> dict[str, Any]:
    """Seconds of each program, its first call, and ratios as medians over interleaved rounds."""
    todo = {name: run for name, run in programs(case).items() if not only or name in only}
    first: dict[str, float] = {}
    for name, run in todo.items():
        first[name] = _time(run)
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    for _ in range(rounds):
        for name, run in todo.items():
            # Once without a clock: the one before may have taken all memory and all caches.
            jax.block_until_ready(run())
            seconds[name].append(_time(run))
    floors = ("inference", "chunked inference")
    floor = min(floors, key=lambda name: np.median(seconds[name]))
    ratios = {
        name: _spread(np.array(seconds[floor]) / np.array(seconds[name]))
        for name in todo
        if name not in floors
    }
    at_once = {
        name: _spread(np.array(seconds["inference"]) / np.array(seconds[name])) for name in ratios
    }
    row: dict[str, Any] = {
        **case._asdict(),
        "seconds": {name: _spread(np.array(values)) for name, values in seconds.items()},
        "first_call_seconds": first,
        "share_of_inference": ratios,
        "share_of_inference_at_once": at_once,
        "limits": limits(case),
    }
    if {"low rank", "dense"} <= set(todo):
        row["low_rank_over_dense"] = _spread(
            np.array(seconds["dense"]) / np.array(seconds["low rank"])
        )
    if {"low rank", "evosax"} <= set(todo):
        row["low_rank_over_evosax"] = _spread(
            np.array(seconds["evosax"]) / np.array(seconds["low rank"])
        )
    return row


def limits(case: Case) -> dict[str, float]:
    """FLOPs of inference over N * B inputs, and the bytes that one dense population would take."""
    module = FAMILIES[case.family](case.width)
    one = jnp.zeros((case.batch, TIME, FEATURES))
    params = jax.eval_shape(module.init, jax.random.key(0), one)
    return {
        "inference_flops": case.population * cost.flops(module.apply, params, one),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "dense_population_bytes": case.population * cost.tree_bytes(params),
    }


def _spread(values: np.ndarray) -> list[float]:
    """Median and quartiles."""
    return [float(np.quantile(values, q)) for q in (0.5, 0.25, 0.75)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds of a case")
    parser.add_argument("--cases", type=str, help="which rows, such as 0,3; all unless given")
    parser.add_argument("--only", type=str, default="", help="which programs, separated by commas")
    said = parser.parse_args()
    which = range(len(CASES)) if said.cases is None else map(int, said.cases.split(","))
    only = [name for name in said.only.split(",") if name]
    if only:
        only += ["inference", "chunked inference"]
    rows = []
    print(
        f"{'case':38} {'share of inference':>20} {'at once':>8} {'must':>5} {'over dense':>11} "
        f"{'over evosax':>12} {'own data':>8}"
    )
    for index in which:
        row = measure(CASES[index], said.rounds, only)
        rows.append(row)
        print(line(row), flush=True)
    if said.json is not None:
        write_json(said.json, {"environment": describe(), "rounds": said.rounds, "cases": rows})


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    name = "{family} H={width} B={batch} N={population} r={rank}".format(**row)
    share = row["share_of_inference"]
    text = f"{name:38}"
    if "low rank" in share:
        low, first, third = share["low rank"]
        text += f" {low:7.2f} [{first:.2f}, {third:.2f}]"
        text += f" {row['share_of_inference_at_once']['low rank'][0]:8.2f}"
        text += f" {'' if row['must'] is None else row['must']:>5}"
    for key in ("low_rank_over_dense", "low_rank_over_evosax"):
        text += f" {row[key][0]:11.1f}" if key in row else " " * 12
    if "own batches" in share:
        text += f" {share['own batches'][0]:8.2f}"
    seconds = {name: round(values[0], 3) for name, values in row["seconds"].items()}
    first = {name: round(value, 1) for name, value in row["first_call_seconds"].items()}
    return f"{text}\n    seconds {seconds}, first calls {first}"


if __name__ == "__main__":
    main()
