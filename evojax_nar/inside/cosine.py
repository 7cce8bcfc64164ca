"""How well a strategy sees the gradient: the cosine of its estimate with it, layer by layer.

For antithetic Gaussian pairs on a loss that is linear over the width of the noise, K pairs and D
parameters reach about 1 / sqrt(1 + (D + 1) / K): see `expected`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from evojax_nar.budget import Arm, Budget
from evojax_nar.errors import InputError, positive_int, reject
from evojax_nar.evaluator import Evaluator, sample_mixture
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.strategies.base import Base
from evojax_nar.trainer import EVALUATIONS, LONGEST_EPOCH, Group, Settings, seed_keys
from evojax_nar.types import Key, Model, Params, State, Strategy, Task

TOTAL = "total"
"""Stands for all parameters together, among the layers."""
MEASURE = 0x5EED_0005
"""Seed of the batches and noise of measurements; the run's own seed and step are folded into it."""


class Point(NamedTuple):
    """Measurements of one seed, at one place of its way."""

    seed: int
    step: int
    loss: float
    """On the measurement's batch, of what would be deployed."""
    cosines: dict[str, float]
    """By layer, and `total`. NaN where the gradient of a layer or its estimate is zero."""


def _keep(updates: Params, state: Params, params: Params | None = None) -> tuple[Params, Params]:
    del state, params
    return jax.tree.map(jnp.zeros_like, updates), updates


KEEP = optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), _keep)
"""An optimiser that moves nothing and remembers what it was given."""


def estimate(key: Key, strategy: Strategy, state: State, objective: Objective) -> Params:
    """What the next step of a strategy would hand to its optimiser, shaped like the parameters.

    Of a strategy without one, such as `SNES` or a genetic algorithm, it is the way that what is
    deployed would move, with its sign turned. A weight decay that is a hyperparameter is left out:
    it is no part of the loss. Zero where a step is not healthy.

    Args:
      key: of the step.
      strategy: any that moves floating-point parameters.
      state: its state.
      objective: what it is handed.
    """
    own: Any = strategy
    if not _has_optimizer(strategy, state):
        after, info = strategy.step(key, state, objective)
        before, then = strategy.params(state), strategy.params(after)
        return jax.tree.map(lambda old, new: jnp.where(info.healthy, old - new, 0.0), before, then)
    bare = dataclasses.replace(own, optimizer=KEEP)
    state = state._replace(optimizer=KEEP.init(strategy.params(state)))
    if isinstance(strategy, Base) and "weight_decay" in strategy.hyperparameters(state):
        state = strategy.with_hyperparameters(state, {"weight_decay": 0.0})
    return bare.step(key, state, objective)[0].optimizer


def cosines(
    key: Key, strategy: Strategy, state: State, objective: Objective
) -> dict[str, jax.Array]:
    """Cosine of a strategy's estimate with the gradient of the same loss on the same batch.

    Pure, and fit for jit and vmap.

    Args:
      key: of the step.
      strategy: any that moves floating-point parameters.
      state: its state; the gradient is that at what it deploys.
      objective: the loss, differentiable, and the batch.

    Returns:
      Scalars by layer, and `TOTAL` for all of them. A layer is what the tree first divides into.

    Raises:
      InputError: for parameters that are not floating-point, which have no gradient.
    """
    params = strategy.params(state)
    for leaf in jax.tree.leaves(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise InputError(
                f"params has leaves of type {leaf.dtype}, which have no gradient to compare with; "
                "take a model with floating-point parameters"
            )
    gradient = jax.grad(lambda own: objective(own)[0].loss)(params)
    found = estimate(key, strategy, state, objective)
    ours, theirs = layers(found), layers(gradient)
    named = {name: _cosine(ours[name], theirs[name]) for name in theirs}
    return {**named, TOTAL: _cosine(found, gradient)}


def layers(params: Params) -> dict[str, Params]:
    """The parts that a tree first divides into, by their path; what is above them is left out."""
    name, node = "", params
    while True:
        inner = _children(node)
        if len(inner) != 1:
            break
        ((key, node),) = inner.items()
        name = f"{name}/{key}" if name else key
    if not inner:
        return {name or "parameters": node}
    return {f"{name}/{key}" if name else key: child for key, child in inner.items()}


def expected(parameters: int, pairs: Any) -> Any:
    """The cosine that K antithetic Gaussian pairs reach with D parameters on a linear loss.

    The estimate is 1/K sum_k <G, e_k> e_k with mean G, and E[<G, e>^2 |e|^2] = (D + 2) |G|^2, so
    its mean square is (1 + (D + 1) / K) |G|^2. Their ratio is the cosine, but for its scatter.
    """
    return 1 / np.sqrt(1 + (parameters + 1) / np.asarray(pairs))


def along(
    task: Task,
    model: Model,
    arm: Arm,
    *,
    seeds: Sequence[int] = (0,),
    steps: int,
    every: int,
    batch: int | None = None,
    probe: Strategy | None = None,
    repeats: int = 1,
) -> Iterator[Point]:
    """Train an arm as a comparison would, and measure on the way: at step 0 and `every` so many.

    The seeds are trained together, from the same initial parameters and on the same batches as
    in `compare`. Measurements have batches and noise of their own and change nothing.

    Args:
      task: what is learned.
      model: with floating-point parameters.
      arm: the strategy and its batch.
      seeds: S of them.
      steps: how many in all.
      every: steps between two measurements.
      batch: examples of a measurement; None for those of a step.
      probe: a strategy whose estimate is measured in place of the arm's own, begun anew at the
        arm's parameters: what evolution would see along the way of a gradient.
      repeats: batches and draws of noise that a measurement is the mean of.

    Raises:
      InputError: for numbers below 1, or above the longest stretch between measurements.
    """
    for argument, value in (("steps", steps), ("every", every), ("repeats", repeats)):
        positive_int(argument, value)
    if every > LONGEST_EPOCH:
        raise reject("every", every, "is too many steps", f"give at most {LONGEST_EPOCH}")
    evaluator = Evaluator(task, model)
    # Such that an epoch, the program that the trainer runs, is the way to the next point.
    group = Group("along", arm, evaluator, Settings(Budget(generations=every * EVALUATIONS)))
    measure = _measure(task, model, arm, batch or arm.batch, probe)
    progress, keys = group.start(seeds), seed_keys(seeds)
    run = group.compile(len(seeds)).run
    done = 0
    while True:
        yield from _points(measure, progress.strategy, seeds, done, repeats)
        if done == steps:
            return
        turn = min(every, steps - done)
        limits = jnp.full(len(seeds), turn, jnp.int32)
        progress, _ = run(keys, progress, limits)
        done += turn


def _measure(
    task: Task, model: Model, arm: Arm, batch: int, probe: Strategy | None
) -> Callable[[Key, State], Any]:
    """Compiled: loss and cosines of one draw, for S states and their keys."""
    loss = TaskLoss(task, model, task.spec)

    def one(key: Key, state: State) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        data, start, noise = jax.random.split(key, 3)
        objective = Objective(loss, sample_mixture(task, data, batch))
        params = arm.strategy.params(state)
        own = (arm.strategy, state) if probe is None else (probe, probe.init(start, params))
        return objective(params)[0].loss, cosines(noise, *own, objective)

    return jax.jit(jax.vmap(one))


def _points(
    measure: Callable[[Key, State], Any],
    states: State,
    seeds: Sequence[int],
    step: int,
    repeats: int,
) -> Iterator[Point]:
    base = jax.random.fold_in(jax.random.key(MEASURE), step)
    own = jax.vmap(partial(jax.random.fold_in, base))(jnp.asarray(seeds, jnp.uint32))
    rows = []
    for turn in range(repeats):
        keys = jax.vmap(lambda key, turn=turn: jax.random.fold_in(key, turn))(own)
        rows.append(measure(keys, states))
    losses, found = jax.tree.map(lambda *leaves: np.mean(np.stack(leaves), axis=0), *rows)
    for row, seed in enumerate(seeds):
        named = {name: float(values[row]) for name, values in found.items()}
        yield Point(int(seed), step, float(losses[row]), named)


def _has_optimizer(strategy: Any, state: Any) -> bool:
    """Whether it hands an estimate to an optimiser whose state is in its own."""
    fields = getattr(strategy, "__dataclass_fields__", {})
    return "optimizer" in fields and hasattr(state, "optimizer")


def _children(node: Any) -> dict[str, Any]:
    """What a node of a tree holds, by name; nothing where it is a leaf."""
    inner, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda own: own is not node)
    return {jax.tree_util.keystr(path, simple=True): child for path, child in inner if path != ()}


def _cosine(first: Params, second: Params) -> jax.Array:
    """Of two trees as vectors. NaN where one of them is zero."""
    pairs = list(zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))
    product = sum(jnp.vdot(a, b) for a, b in pairs)
    return product / (optax.tree.norm(first) * optax.tree.norm(second))
