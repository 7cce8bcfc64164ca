"""Judges deployed parameters: in distribution, and on the grid of test sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import positive_int
from evojax_nar.objective import TaskLoss
from evojax_nar.readings import Reading
from evojax_nar.types import Batch, Evaluation, Key, Model, Params, State, Strategy, Task

CHUNK = 64
"""Examples that a compiled evaluation sees at once; more are seen by calling it again."""

VALIDATION, TEST = 0x5EED_0001, 0x5EED_0002
"""Seeds of the validation and test streams. Training keys are folded from the run's own seed."""
VOTES = 0x5EED_0004
"""Seed of what votes; the run's own seed is folded into it."""


class Judged(NamedTuple):
    """Means over the examples at one size, for each of S seeds."""

    loss: np.ndarray
    score: np.ndarray
    exact: np.ndarray

    def of(self, row: int) -> Judged:
        """One seed's."""
        return Judged(*(column[row] for column in self))

    def plain(self) -> dict[str, float | None]:
        """One seed's, for JSON: a number that is not finite becomes null."""
        return {k: float(v) if np.isfinite(v) else None for k, v in self._asdict().items()}


class Evaluator:
    """Compiled evaluations of one task and model, shared by every arm of a comparison."""

    def __init__(self, task: Task, model: Model) -> None:
        self.task = task
        self.model = model
        # A task of finite data names what is not trained on; the others never run out of examples.
        self._validation: Task = getattr(task, "validation", task)
        self._test: Task = getattr(task, "test", task)
        self.spec = task.spec
        self.sizes = tuple(task.test_sizes)
        self._loss = TaskLoss(task, model, self.spec)
        self._at_size = jax.jit(self._evaluate_at, static_argnames=("max_size", "batch"))
        self._initial = jax.jit(jax.vmap(self._initialise))
        self._read_at = jax.jit(
            self._evaluate_votes, static_argnames=("reading", "max_size", "batch")
        )
        self._on_mixture = jax.jit(self._evaluate_mixture, static_argnames=("batch",))

    def initial(self, keys: Key) -> Params:
        """Initial parameters for each of the (S,) keys of runs, with a leading axis of S."""
        return self._initial(keys)

    def applicable(self, size: int) -> bool:
        """Whether the model can run examples of `size` at all."""
        limit = self.model.max_size(self.spec)
        return limit is None or size <= limit

    def in_distribution(self, params: Params, *, examples: int, key: Key) -> Judged:
        """Training sizes, for parameters with a leading axis of S.

        Examples are drawn as in training, or from the validation data of a task that has them.
        """
        return _mean_over_chunks(partial(self._on_mixture, params), examples, key)

    def at(self, size: int, params: Params, *, examples: int, key: Key) -> Judged | None:
        """Fresh examples of `size`; None where the model cannot run it."""
        judge = partial(self._at_size, params)
        return self._judge_at(size, judge, examples, key)

    def grid(self, params: Params, *, examples: int, key: Key) -> dict[int, Judged | None]:
        """Every test size."""
        return {size: self.at(size, params, examples=examples, key=key) for size in self.sizes}

    def votes(
        self,
        readings: Sequence[Reading],
        strategy: Strategy,
        state: State,
        deployed: Params,
        *,
        seed: int,
        examples: int,
        key: Key,
    ) -> dict[str, dict[str, Any]]:
        """Scores of the votes of one seed, by test size and reading, on the examples of `grid`.

        None where there is no such reading, or the model cannot run the size. Votes have no loss.

        Args:
          readings: what is read.
          strategy: what has trained.
          state: its last one, of one seed, without the axis of S.
          deployed: of that seed.
          seed: its number.
          examples: at each size, and of the validation data where members are chosen by it.
          key: that of `grid`.
        """
        found: dict[str, dict[str, Any]] = {str(size): {} for size in self.sizes}

        def losses(members: Params) -> np.ndarray:
            validation = jax.random.key(VALIDATION)
            return np.asarray(self.in_distribution(members, examples=examples, key=validation).loss)

        for reading in readings:
            voters = None
            if reading.suits(self.model, self.spec):
                own = jax.random.fold_in(jax.random.key(VOTES), seed)
                voters = reading.voters(own, strategy, state, deployed)
            if voters is not None:
                voters = reading.choose(voters, losses)
            for size in self.sizes:
                judged = None
                if voters is not None:
                    judge = partial(self._read_at, reading, voters)
                    judged = self._judge_at(size, judge, examples, key)
                plain = {} if judged is None else judged.plain()
                said = {name: plain[name] for name in ("score", "exact") if name in plain}
                found[str(size)][reading.name] = said or None
        return found

    def _judge_at(
        self, size: int, judge: Callable[..., Evaluation], examples: int, key: Key
    ) -> Judged | None:
        if not self.applicable(size):
            return None
        max_size = max(size, self.spec.max_size) if self._is_fixed else size
        at_size = partial(judge, size, max_size=max_size)
        return _mean_over_chunks(at_size, examples, jax.random.fold_in(key, size))

    @property
    def _is_fixed(self) -> bool:
        return self.model.max_size(self.spec) is not None

    def _initialise(self, key: Key) -> Params:
        params_key, _, _ = jax.random.split(key, 3)
        return self.model.init(params_key, self.spec)

    def _evaluate_at(
        self, params: Params, size: int, key: Key, *, max_size: int, batch: int
    ) -> Evaluation:
        data = self._test.sample(key, size, max_size=max_size, batch=batch)
        return jax.vmap(lambda own: self._loss(own, data))(params)

    def _evaluate_votes(
        self, reading: Reading, voters: Params, size: int, key: Key, *, max_size: int, batch: int
    ) -> Evaluation:
        data = self._test.sample(key, size, max_size=max_size, batch=batch)
        votes = reading.outputs(self.model, voters, data.inputs, spec=self.spec)
        return self.task.evaluate(votes, data)

    def _evaluate_mixture(self, params: Params, key: Key, *, batch: int) -> Evaluation:
        data = sample_mixture(self._validation, key, batch)
        return jax.vmap(lambda own: self._loss(own, data))(params)


def sample_mixture(task: Task, key: Key, batch: int) -> Batch:
    """`batch` training examples, each of a size drawn uniformly from the training sizes."""
    size_key, data_key = jax.random.split(key)
    sizes = jax.random.choice(size_key, jnp.asarray(task.train_sizes), (batch,))
    return task.sample(data_key, sizes, max_size=task.spec.max_size, batch=batch)


def _mean_over_chunks(judge: Callable[..., Evaluation], examples: int, key: Key) -> Judged:
    positive_int("examples", examples)
    chunks = -(-examples // CHUNK)
    batch = -(-examples // chunks)
    rows = []
    for chunk in range(chunks):
        result = judge(key=jax.random.fold_in(key, chunk), batch=batch)
        exact = result.metrics.get("exact", result.score)
        rows.append(
            np.stack([np.asarray(x, np.float64) for x in (result.loss, result.score, exact)])
        )
    return Judged(*np.mean(rows, axis=0))


def examples_seen(examples: int) -> int:
    """How many examples an evaluation of `examples` really draws: equal chunks, rounded up."""
    chunks = -(-examples // CHUNK)
    return chunks * -(-examples // chunks)
