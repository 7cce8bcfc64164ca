"""A strategy on its own: any pytree, any pure function, no task and no model.

A small network is fitted to a curve, first step by step, then in one scan, then once for each of
several noise levels in one vmapped program. At last it is trained on a score that no gradient can
follow. Run with `python examples/bare_strategy.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

import evojax_nar as nar

TOLERANCE = 0.15
SIGMAS = (0.001, 0.01, 0.1, 1.0)


# The parameters are whatever you like: here a dict of arrays, for 16 hidden units.
def fresh_params(key: jax.Array) -> dict[str, jax.Array]:
    first_key, second_key = jax.random.split(key)
    return {
        "in": jax.random.normal(first_key, (16,)),
        "shift": jnp.zeros(16),
        "out": 0.25 * jax.random.normal(second_key, (16,)),
    }


def predict(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return jnp.tanh(x[:, None] * params["in"] + params["shift"]) @ params["out"]


# The objective is a pure function of parameters and data. It gives a LOSS: lower is better.
def squared_error(params: dict[str, jax.Array], data: tuple[jax.Array, jax.Array]) -> jax.Array:
    x, y = data
    return jnp.mean((predict(params, x) - y) ** 2)


# It may also give an `Evaluation`. The score is HIGHER-better, and need not be differentiable: this
# one counts the points that are hit within the tolerance.
def points_hit(params: dict[str, jax.Array], data: tuple[jax.Array, jax.Array]) -> nar.Evaluation:
    x, y = data
    hit = jnp.abs(predict(params, x) - y) < TOLERANCE
    return nar.Evaluation(loss=squared_error(params, data), score=hit.mean())


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    steps = 150 if parser.parse_args(arguments).quick else 1000

    x = jnp.linspace(-2.0, 2.0, 64)
    data = (x, jnp.sin(2.0 * x))
    start = fresh_params(jax.random.key(0))
    objective = nar.Objective(squared_error, data)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, steps))
    es = nar.strategies.ES(population=64, sigma=0.03, optimizer=optimizer)

    # 1. One step at a time. `step` is pure, so it can be jitted as it is. The data are an argument
    #    of the program, not part of it: fresh data every step do not recompile.
    step = jax.jit(es.step)
    state = es.init(jax.random.key(1), start)
    for key in jax.random.split(jax.random.key(2), 10):
        state, info = step(key, state, objective)
    print(f"10 steps by hand: mean loss of the members {info.loss:.2g}")

    # 2. The whole run as one scan. A gradient learner is the same kind of object, so the function
    #    does not know which of the two it runs.
    def run(strategy: nar.strategies.Base, key: jax.Array, sigma: jax.Array | None = None):
        state = strategy.init(key, start)
        if sigma is not None:
            state = strategy.with_hyperparameters(state, {"sigma": sigma})

        def body(state, key):
            state, info = strategy.step(key, state, objective)
            return state, info.loss

        state, losses = jax.lax.scan(body, state, jax.random.split(key, steps))
        return strategy.params(state), losses

    adam = nar.strategies.Gradient(optimizer)
    by_es, _ = jax.jit(lambda key: run(es, key))(jax.random.key(3))
    by_adam, _ = jax.jit(lambda key: run(adam, key))(jax.random.key(3))
    found = {
        "start": float(squared_error(start, data)),
        "es": float(squared_error(by_es, data)),
        "adam": float(squared_error(by_adam, data)),
    }
    print(
        f"{steps} steps: loss {found['start']:.2g} at the start, {found['es']:.2g} by ES "
        f"({steps * es.population:,} forward passes), {found['adam']:.2g} by Adam "
        f"({3 * steps:,} forward-equivalents)"
    )

    # 3. A sweep is a vmap: the numbers that can be swept live in the state, so that all noise
    #    levels are one program.
    print("What can be swept:", ", ".join(es.hyperparameters(state)))
    sweep = jax.jit(jax.vmap(lambda sigma: run(es, jax.random.key(3), sigma)))
    swept, _ = sweep(jnp.asarray(SIGMAS))
    losses = jax.vmap(lambda own: squared_error(own, data))(swept)
    for sigma, loss in zip(SIGMAS, losses, strict=True):
        found[f"sigma {sigma:g}"] = float(loss)
        print(f"  sigma {sigma:<5g} ends at loss {loss:.2g}")

    # 4. The score instead of the loss. Its gradient is zero almost everywhere, which is no
    #    obstacle to a strategy that only compares its members.
    by_score = nar.strategies.ES(population=64, sigma=0.1, optimizer=optimizer, fitness="score")
    objective = nar.Objective(points_hit, data)
    state = by_score.init(jax.random.key(4), start)
    step = jax.jit(by_score.step)
    for key in jax.random.split(jax.random.key(5), steps):
        state, _ = step(key, state, objective)
    before, after = points_hit(start, data), points_hit(by_score.params(state), data)
    found |= {"score before": float(before.score), "score after": float(after.score)}
    print(f"Trained on the score: {before.score:.0%} of the points hit before, {after.score:.0%}")
    try:
        nar.strategies.Gradient(optimizer, fitness="score")
    except nar.InputError as error:
        print(f"A gradient cannot do that, and says so: {error}")
    return found


if __name__ == "__main__":
    main()
