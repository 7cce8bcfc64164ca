"""Trains one arm: epochs of one scan each, evaluation between them, exact resume.

The trainer does not know what kind of strategy it holds. All S seeds of a group run as one vmapped
program; a seed that has finished is masked, its state no longer changes and nothing is counted.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from evojax_nar import cost
from evojax_nar.budget import Arm, Budget
from evojax_nar.checkpoint import Checkpoints
from evojax_nar.evaluator import TEST, VALIDATION, Evaluator, Judged, sample_mixture
from evojax_nar.folder import ArmFolder
from evojax_nar.forecasting import Forecast
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.placement import LOCAL, Placement, recording
from evojax_nar.strategies.base import keep_if
from evojax_nar.tally import Tally, count, record, verdict
from evojax_nar.types import Carry, Key, Params, State
from evojax_nar.unroll import Episodes

EVALUATIONS = 40
"""Epochs that a counted budget is divided into."""
CLOCKED_EPOCH = 2**19
"""Forward-equivalents of an epoch where the budget is in seconds."""
LONGEST_EPOCH = 2000
"""Steps of an epoch at most."""


@dataclass(frozen=True)
class Settings:
    """How runs are judged and stopped; the same for every arm of a comparison.

    Args:
      budget: the limit for each seed.
      stop_loss: a seed stops once its validation loss, on training sizes only, is at most this;
        None to spend the whole budget.
      validation_examples: examples of the validation set, the same for every arm and epoch.
      monitor_examples: examples at each test size between epochs; for curves, never for decisions.
      evaluation_examples: examples at each test size at the end.
      forward_dtype: type that models run in while they train; losses and parameters are float32.
      placement: devices and chunks of populations.
      checkpoint_seconds: least time between two checkpoints.
    """

    budget: Budget
    stop_loss: float | None = None
    validation_examples: int = 512
    monitor_examples: int = 64
    evaluation_examples: int = 1024
    forward_dtype: str = "float32"
    placement: Placement = LOCAL
    checkpoint_seconds: float = 10.0


class Progress(NamedTuple):
    """S runs on the device: everything that the next epoch needs."""

    strategy: State
    step: jax.Array
    """(S,) int32, steps done."""
    healthy: jax.Array
    """(S,) bool, False once a step had nothing finite."""
    deployed: Params
    """What would be deployed: the best so far by validation loss."""
    deployed_loss: jax.Array
    """(S,) float32, that loss."""
    carry: Carry = ()
    """What a strategy carries from one segment of an unroll to the next; see `unroll`."""


class Outcome(NamedTuple):
    """One trained seed."""

    tally: Tally
    params: Params
    in_distribution: Judged
    scores: dict[int, Judged | None]
    flops: float
    peak_bytes: int | None
    compile_seconds: float


class Program(NamedTuple):
    """A compiled epoch."""

    run: Any
    compile_seconds: float

    @property
    def peak_bytes(self) -> int | None:
        """Arguments, results and temporaries, for all its seeds together; None where unknown."""
        return cost.compiled_bytes(self.run)


class Group:
    """The compiled programs of one arm for a number of seeds, and the loop that drives them."""

    def __init__(self, name: str, arm: Arm, evaluator: Evaluator, settings: Settings) -> None:
        self.name = name
        self.arm = arm
        self.evaluator = evaluator
        self.settings = settings
        task = evaluator.task
        self._loss = TaskLoss(task, evaluator.model, evaluator.spec, settings.forward_dtype)
        self.episodes = None if arm.truncation is None else Episodes(arm, self._loss)
        self.segments = 1 if self.episodes is None else self.episodes.segments
        self.step_limit = settings.budget.steps(name, arm, self.segments)
        self.epoch_steps = self._epoch_steps()
        self._programs: dict[int, Program] = {}

    def start(self, seeds: Sequence[int]) -> Progress:
        """Fresh runs. A seed gives the same initial parameters and data stream to every arm."""

        def one(key: Key, params: Params) -> Progress:
            _, strategy_key, stream = jax.random.split(key, 3)
            state = self.arm.strategy.init(strategy_key, params)
            first = jnp.asarray(0, jnp.int32)
            return Progress(
                strategy=state,
                step=first,
                healthy=jnp.asarray(True),
                deployed=self.arm.strategy.params(state),
                deployed_loss=jnp.asarray(jnp.inf, jnp.float32),
                carry=() if self.episodes is None else self.episodes.begin(stream, state, first),
            )

        keys = seed_keys(seeds)
        return jax.jit(jax.vmap(one))(keys, self.evaluator.initial(keys))

    def compile(self, count: int) -> Any:
        """The epoch program for `count` seeds, compiled ahead of time, once."""
        if count not in self._programs:
            progress = jax.eval_shape(lambda: self.start(range(count)))
            keys = jax.eval_shape(lambda: seed_keys(range(count)))
            limits = jax.ShapeDtypeStruct((count,), jnp.int32)
            placement = self.placement(count)
            epoch = jax.jit(
                jax.vmap(lambda *rest: self._epoch(placement, *rest)), donate_argnums=(1,)
            )
            begin = time.perf_counter()
            program = epoch.lower(keys, progress, limits).compile()
            self._programs[count] = Program(program, time.perf_counter() - begin)
        return self._programs[count]

    def step_flops(self, progress: Progress, count: int = 1) -> float:
        """FLOPs of one step of one seed, the making of its batch included."""
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), progress)
        key = jax.eval_shape(lambda: jax.random.key(0))
        step = partial(self._step, self.placement(count))
        return cost.flops(step, key, one.strategy, one.carry, one.step)

    def forecast(self, count: int) -> Forecast:
        """What `count` seeds need that train together; nothing is run or compiled."""
        progress = jax.eval_shape(lambda: self.start(range(count)))
        with recording() as chunks:
            flops = self.step_flops(progress, count)
        return Forecast(self.name, flops, cost.tree_bytes(progress), tuple(chunks))

    def placement(self, count: int) -> Placement:
        """Where populations of `count` seeds are evaluated that train together."""
        return dataclasses.replace(self.settings.placement, copies=count)

    def _step(
        self, placement: Placement, key: Key, state: State, carry: Carry, step: jax.Array
    ) -> tuple[State, Carry, Any]:
        _, _, stream = jax.random.split(key, 3)
        if self.episodes is not None:
            return self.episodes.step(placement, stream, state, carry, step)
        batch_key, step_key = jax.random.split(jax.random.fold_in(stream, step))
        arm, task = self.arm, self.evaluator.task
        if arm.batches == 1:
            batch, groups = sample_mixture(task, batch_key, arm.batch), None
        else:
            keys, groups = jax.random.split(batch_key, arm.batches), arm.batches
            batch = jax.vmap(lambda key: sample_mixture(task, key, arm.batch))(keys)
        objective = Objective(self._loss, batch, placement=placement, groups=groups)
        state, info = arm.strategy.step(step_key, state, objective)
        return state, carry, info

    def _epoch(
        self, placement: Placement, key: Key, progress: Progress, limit: jax.Array
    ) -> tuple[Progress, Any]:
        """Up to `limit` steps of one seed, in a scan of a fixed number of them."""

        def body(progress: Progress, index: jax.Array) -> tuple[Progress, Any]:
            active = (index < limit) & progress.healthy
            state, carry, info = self._step(
                placement, key, progress.strategy, progress.carry, progress.step
            )
            new = progress._replace(
                strategy=keep_if(active, state, progress.strategy),
                carry=keep_if(active, carry, progress.carry),
                step=progress.step + active,
                healthy=jnp.where(active, info.healthy, progress.healthy),
            )
            return new, (active, info)

        return jax.lax.scan(body, progress, jnp.arange(self.epoch_steps, dtype=jnp.int32))

    def _epoch_steps(self) -> int:
        if self.step_limit is not None:
            return min(LONGEST_EPOCH, max(1, math.ceil(self.step_limit / EVALUATIONS)))
        price = self.arm.strategy.cost.forward_equivalents(self.arm.batch)
        return min(LONGEST_EPOCH, max(1, CLOCKED_EPOCH * self.segments // price))

    def allowed(self, tally: Tally, replay: int | None) -> int:
        """Steps that a seed may still do: by its replay, its counted budget, or the clock."""
        if tally.stopped is not None:
            return 0
        if replay is not None:
            return replay - tally.steps
        budget = self.settings.budget
        spent = tally.spent(budget.kind)
        if not budget.counted:
            return self.epoch_steps if spent < budget.amount else 0
        return budget.left(self.arm, spent, tally.steps, self.segments)


def seed_keys(seeds: Sequence[int]) -> jax.Array:
    """(S,) typed keys, one a seed."""
    return jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))


def train_group(
    group: Group,
    seeds: Sequence[int],
    folder: ArmFolder,
    *,
    replay: Sequence[int] | None = None,
    watch: Callable[[list[dict[str, Any]]], None] = lambda records: None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> list[Outcome]:
    """Train the seeds of one group to their end, from their newest checkpoint where there is one.

    Args:
      group: programs of the arm.
      seeds: S seeds, trained together.
      folder: where metrics and checkpoints of the arm are kept.
      replay: (S,) steps to do, in place of a budget in seconds.
      watch: called after each epoch with one record a seed that took part in it.
      warn: called with a sentence about anything that a person should know.
    """
    settings, evaluator = group.settings, group.evaluator
    progress = group.start(seeds)
    flops = group.step_flops(progress)
    tallies = [Tally(seed, segments=group.segments) for seed in seeds]
    metrics = [folder.metrics(seed) for seed in seeds]
    key = jax.random.key(VALIDATION)
    epoch, offsets = 0, [0] * len(seeds)
    with Checkpoints(folder.checkpoints(seeds), progress) as checkpoints:
        found = checkpoints.latest(warn)
        if found is not None:
            epoch, progress, notes = found
            tallies = [Tally(**tally) for tally in notes["tallies"]]
            offsets = notes["offsets"]
        for file, offset in zip(metrics, offsets, strict=True):
            file.cut(offset)
        program = group.compile(len(seeds))
        keys = seed_keys(seeds)
        monitored: dict[int, Judged | None] | None = None
        saved = time.monotonic()

        while any(tally.stopped is None for tally in tallies):
            limits = [
                min(
                    group.epoch_steps, group.allowed(tally, None if replay is None else replay[row])
                )
                for row, tally in enumerate(tallies)
            ]
            begin = time.perf_counter()
            progress, log = program.run(keys, progress, jnp.asarray(limits, jnp.int32))
            active, info = jax.block_until_ready(log)
            elapsed = time.perf_counter() - begin
            epoch += 1
            ran = count(tallies, active, info, group.arm, elapsed)

            current = jax.vmap(group.arm.strategy.params)(progress.strategy)
            judged = evaluator.in_distribution(
                current, examples=settings.validation_examples, key=key
            )
            better = jnp.asarray(judged.loss, jnp.float32) < progress.deployed_loss
            progress = _deploy(progress, current, better, jnp.asarray(judged.loss, jnp.float32))
            if monitored is None or bool(better.any()):
                monitored = evaluator.grid(
                    progress.deployed, examples=settings.monitor_examples, key=key
                )

            records = []
            for row, tally in enumerate(tallies):
                if not ran[row]:
                    continue
                healthy = bool(progress.healthy[row])
                left = group.allowed(tally, None if replay is None else replay[row])
                best = float(progress.deployed_loss[row])
                tally.stopped = verdict(healthy, best, settings.stop_loss, left)
                if tally.stopped == "unhealthy":
                    warn(
                        f"seed {tally.seed} stopped at step {tally.steps}: not one evaluation of "
                        "its last step was finite; what it had deployed before stays"
                    )
                records.append(record(row, epoch, tally, active, info, judged, best, monitored))
                metrics[row].append(records[-1])
            watch(records)

            over = all(tally.stopped is not None for tally in tallies)
            if over or time.monotonic() - saved >= settings.checkpoint_seconds:
                notes = {
                    "tallies": [dataclasses.asdict(tally) for tally in tallies],
                    "offsets": [file.size() for file in metrics],
                }
                checkpoints.save(epoch, progress, notes)
                saved = time.monotonic()

    test = jax.random.key(TEST)
    examples = settings.evaluation_examples
    in_distribution = evaluator.in_distribution(progress.deployed, examples=examples, key=test)
    scores = evaluator.grid(progress.deployed, examples=examples, key=test)
    return [
        Outcome(
            tally=tally,
            params=jax.tree.map(lambda leaf, row=row: leaf[row], progress.deployed),
            in_distribution=in_distribution.of(row),
            scores={size: None if j is None else j.of(row) for size, j in scores.items()},
            flops=flops * tally.steps,
            peak_bytes=program.peak_bytes,
            compile_seconds=program.compile_seconds,
        )
        for row, tally in enumerate(tallies)
    ]


@jax.jit
def _deploy(progress: Progress, current: Params, better: jax.Array, loss: jax.Array) -> Progress:
    """Deploy the current parameters of the seeds whose validation loss got better."""
    return progress._replace(
        deployed=jax.vmap(keep_if)(better, current, progress.deployed),
        deployed_loss=jnp.where(better, loss, progress.deployed_loss),
    )
