"""Is the gradient baseline a straw man? A training step here against a hand-written optax loop.

Both train the same LSTM on the same stream of parity batches with the same optimiser, as one
jitted scan of K steps for S seeds by vmap. The hand-written loop is what a person would write:
sample, `value_and_grad`, update, apply; no protocol, no masks, no counts. They run in turn, and
the median of the ratios of neighbours is reported with a 95 % bootstrap interval.

    python -m benchmarks.gradient_step --json benchmarks/results/gradient_step.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import evojax_nar as nar
from evojax_nar.environment import describe
from evojax_nar.evaluator import Evaluator, sample_mixture
from evojax_nar.files import write_json
from evojax_nar.stats import stratified_bootstrap
from evojax_nar.trainer import Group, Settings, seed_keys

TASK = nar.tasks.Parity(train_sizes=range(1, 21), test_sizes=(20,))
OPTIMIZER = optax.adam(5e-3)


def ours(model: Any, seeds: int, batch: int, steps: int) -> Callable[[], Any]:
    """One epoch of the trainer, state carried on."""
    # LONGEST_EPOCH and EVALUATIONS decide the epoch's length: ask for one of exactly `steps`.
    budget = nar.Budget(generations=40 * steps)
    arm = nar.Arm(nar.strategies.Gradient(OPTIMIZER), batch=batch)
    group = Group("adam", arm, Evaluator(TASK, model), Settings(budget=budget))
    assert group.epoch_steps == steps
    program = group.compile(seeds).run
    keys = seed_keys(range(seeds))
    progress = group.start(range(seeds))
    limits = jnp.full((seeds,), steps, jnp.int32)

    def run() -> Any:
        nonlocal progress
        progress, log = program(keys, progress, limits)
        return jax.block_until_ready((progress, log))[0].strategy.params

    return run


def by_hand(model: Any, seeds: int, batch: int, steps: int) -> Callable[[], Any]:
    """The same training, written out."""
    spec = TASK.spec

    def step(carry: Any, index: jax.Array) -> Any:
        key, params, state = carry
        _, _, stream = jax.random.split(key, 3)
        batch_key, _ = jax.random.split(jax.random.fold_in(stream, index))
        data = sample_mixture(TASK, batch_key, batch)

        def loss(params: Any) -> jax.Array:
            return TASK.evaluate(model.apply(params, data.inputs, spec=spec), data).loss

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = OPTIMIZER.update(gradient, state, params)
        return (key, optax.apply_updates(params, updates), state), value

    @jax.jit
    @jax.vmap
    def epoch(key: jax.Array, params: Any, state: Any, first: jax.Array) -> Any:
        (_, params, state), values = jax.lax.scan(
            step, (key, params, state), first + jnp.arange(steps)
        )
        return params, state, values

    keys = seed_keys(range(seeds))
    params = Evaluator(TASK, model).initial(keys)
    state = jax.vmap(OPTIMIZER.init)(params)
    done = 0

    def run() -> Any:
        nonlocal params, state, done
        first = jnp.full((seeds,), done, jnp.int32)
        params, state, values = epoch(keys, params, state, first)
        jax.block_until_ready((params, state, values))
        done += steps
        return params

    return run


def measure(model: Any, seeds: int, batch: int, steps: int, pairs: int) -> dict[str, Any]:
    """Seconds of both, in turn, and the ratio of each pair."""
    mine, hand = ours(model, seeds, batch, steps), by_hand(model, seeds, batch, steps)
    same = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), mine(), hand())
    rows = []
    for pair in range(pairs):
        times = {}
        order = (("ours", mine), ("by_hand", hand))
        for name, run in order if pair % 2 else order[::-1]:
            begin = time.perf_counter()
            run()
            times[name] = time.perf_counter() - begin
        rows.append((times["ours"], times["by_hand"]))
    seconds = np.asarray(rows)
    ratios = seconds[:, 0] / seconds[:, 1]
    interval = stratified_bootstrap(ratios[:, None], lambda x: np.median(x, axis=(-2, -1)))
    return {
        "model": type(model).__name__,
        "seeds": seeds,
        "batch": batch,
        "steps_per_epoch": steps,
        "pairs": pairs,
        "largest_difference_after_one_epoch": max(jax.tree.leaves(same)),
        "milliseconds_a_step": dict(
            zip(("ours", "by_hand"), 1e3 * np.median(seconds, axis=0) / steps, strict=True)
        ),
        "ratio": {"median": interval.value, "low": interval.low, "high": interval.high},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cases = [
        measure(nar.models.LSTM(hidden=16), 1, 128, options.steps, options.pairs),
        measure(nar.models.LSTM(hidden=16), 3, 128, options.steps, options.pairs),
        measure(nar.models.LSTM(hidden=64), 1, 128, options.steps // 2, options.pairs),
    ]
    for case in cases:
        ratio = case["ratio"]
        print(
            f"{case['model']} S={case['seeds']} B={case['batch']}: a step costs "
            f"{ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}] of one by hand "
            f"({case['pairs']} pairs; parameters differ by "
            f"{case['largest_difference_after_one_epoch']:.1e} after the first epoch)"
        )
    if options.json:
        write_json(
            options.json,
            {"benchmark": "gradient_step", "environment": describe(), "cases": cases},
        )


if __name__ == "__main__":
    main()
