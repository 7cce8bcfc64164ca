"""Long unrolls: an episode is cut into segments, and a strategy learns of one at a time.

An episode is one unroll of every member on one batch. The harness draws its data, hands out a
segment a step, and begins what is carried anew where an episode begins; what is done with a segment
is the strategy's: see `types.Unrolling`. A model that can be cut is a `types.Recurrent`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast, final

import jax
import jax.numpy as jnp

from evojax_nar import models, objective, strategies
from evojax_nar.budget import Arm
from evojax_nar.errors import reject
from evojax_nar.evaluator import sample_mixture
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.placement import LOCAL, Placement
from evojax_nar.strategies.base import keep_if
from evojax_nar.types import (
    Batch,
    Carry,
    Evaluation,
    Info,
    Key,
    Params,
    Penalised,
    Recurrent,
    Sequence,
    State,
    Unrolling,
)


class Segment(NamedTuple):
    """K steps of the T of an episode, or all of them."""

    batch: Batch
    """Those steps, (B, K, ...)."""
    judged: jax.Array
    """(B,) float32: how many steps of each example are judged in the whole episode."""


def whole(batch: Batch) -> Segment:
    """An episode as one segment."""
    return Segment(batch, batch.mask.sum(axis=1, dtype=jnp.float32))


def cut(batch: Batch, index: jax.Array, steps: int) -> Segment:
    """Segment `index` (int32) of an episode, `steps` long; the last is filled with padding."""
    more = -batch.mask.shape[1] % steps

    def own(leaf: jax.Array) -> jax.Array:
        padded = jnp.pad(leaf, ((0, 0), (0, more), *((0, 0),) * (leaf.ndim - 2)))
        return jax.lax.dynamic_slice_in_dim(padded, index * steps, steps, axis=1)

    inputs = Sequence(*map(own, batch.inputs))
    part = Batch(inputs, own(batch.targets), own(batch.mask), batch.size)
    return whole(batch)._replace(batch=part)


@final
@dataclass(frozen=True)
class FirstCarry:
    """`start(key, data)` of an objective: the carry before an episode, which `data` holds whole."""

    loss: TaskLoss

    def __call__(self, key: Key, data: Segment) -> Carry:
        """The model's; `key` is not used."""
        del key
        inputs = objective.cast(data.batch.inputs, self.loss.forward_dtype)
        return cast(Recurrent, self.loss.model).initial_carry(inputs, spec=self.loss.spec)


@final
@dataclass(frozen=True)
class SegmentLoss:
    """`fn(params, data, carry)` of an objective: a segment's share of the loss of its episode.

    The segments of an episode add up to the loss of the whole, at parameters that stay the same:
    an example's share is its loss over the judged steps of the segment, times their number, over
    that of the judged steps of the whole. So it is 0 where a segment has none. The task's loss must
    be a mean over the judged steps of each example, which that of every task of sequences is. The
    score is divided likewise.

    Args:
      loss: of the whole: task, model and types.
      time: T of an episode.
    """

    loss: TaskLoss
    time: int

    def __call__(self, params: Params, data: Segment, carry: Carry) -> tuple[Evaluation, Carry]:
        """The evaluation, without metrics, and the carry after the segment."""
        inputs = data.batch.inputs
        if self.loss.forward_dtype != "float32":
            params, inputs = objective.cast((params, inputs), self.loss.forward_dtype)
        model = cast(Recurrent, self.loss.model)
        carry, outputs = model.apply_segment(
            params, carry, inputs, spec=self.loss.spec, time=self.time
        )
        judged = data.batch.mask.sum(axis=1, dtype=jnp.float32)
        none = judged == 0
        # An example that is judged nowhere has no mean. It is judged on zeros, and counts nothing.
        outputs = jnp.where(none[:, None, None], 0.0, jnp.asarray(outputs, jnp.float32))
        batch = data.batch._replace(mask=data.batch.mask | none[:, None])
        found = jax.vmap(self._judge_one)(outputs, batch)
        share = jnp.where(none, 0.0, judged / data.judged)
        return Evaluation((share * found.loss).mean(), (share * found.score).mean()), carry

    def _judge_one(self, outputs: jax.Array, batch: Batch) -> Evaluation:
        alone = jax.tree.map(lambda leaf: leaf[None], batch)
        return self.loss.task.evaluate(outputs[None], alone)._replace(metrics={})


@final
@dataclass(frozen=True)
class Episodes:
    """The unrolls of an arm, cut into segments. Step number t is segment t mod S of episode t // S.

    Episode e is on the data that step e of whole unrolls would see: keys are folded, and nothing of
    the data is kept between steps. The T of every episode is that of the largest training size.

    Args:
      arm: one with a truncation.
      loss: of a whole unroll.

    Raises:
      InputError: where strategy or model work with whole unrolls alone.
    """

    arm: Arm
    loss: TaskLoss

    def __post_init__(self) -> None:
        strategy, model = self.arm.strategy, self.loss.model
        if not isinstance(strategy, Unrolling):
            problem = f"cuts unrolls, of which strategy {_name(strategy)!r} needs the whole"
            able = ", ".join(s.name for s in strategies.ALL if hasattr(s, "segment"))
            raise reject("truncation", self.arm.truncation, problem, f"take one of {able}")
        if not isinstance(model, Recurrent) or isinstance(model, Penalised):
            problem = f"cuts unrolls, and model {_name(model)!r} has no cell to stop at"
            able = ", ".join(m.name for m in models.ALL if hasattr(m, "apply_segment"))
            raise reject("truncation", self.arm.truncation, problem, f"take one of {able}")

    @property
    def time(self) -> int:
        """T, the steps of an episode."""
        return self.loss.spec.max_length

    @property
    def steps(self) -> int:
        """K, the steps of a segment."""
        return self.time if self.arm.truncation is None else min(self.arm.truncation, self.time)

    @property
    def segments(self) -> int:
        """S, the segments of an episode."""
        return -(-self.time // self.steps)

    def begin(self, stream: Key, state: State, episode: jax.Array) -> Carry:
        """What is carried into the first segment of an episode.

        Args:
          stream: key of the arm's data and steps.
          state: of the strategy.
          episode: its number, int32.
        """
        batch, begin_key, _ = self._draw(stream, episode)
        return self._begin(begin_key, state, batch)

    def step(
        self, placement: Placement, stream: Key, state: State, carry: Carry, step: jax.Array
    ) -> tuple[State, Carry, Info]:
        """Step number `step` (int32) of the strategy.

        What `Info` says of loss and score is multiplied by S: its mean over the steps of an episode
        is that of whole unrolls.
        """
        episode, index = step // self.segments, step % self.segments
        batch, begin_key, segment_key = self._draw(stream, episode)
        carry = keep_if(index == 0, self._begin(begin_key, state, batch), carry)
        data = cut(batch, index, self.steps)
        key = jax.random.fold_in(segment_key, index)
        strategy = cast(Unrolling, self.arm.strategy)
        state, carry, info = strategy.segment(key, state, carry, self._objective(data, placement))
        scaled = info._replace(loss=info.loss * self.segments, score=info.score * self.segments)
        return state, carry, scaled

    def _draw(self, stream: Key, episode: jax.Array) -> tuple[Batch, Key, Key]:
        batch_key, rest = jax.random.split(jax.random.fold_in(stream, episode))
        begin_key, segment_key = jax.random.split(rest)
        return sample_mixture(self.loss.task, batch_key, self.arm.batch), begin_key, segment_key

    def _begin(self, key: Key, state: State, batch: Batch) -> Carry:
        # What is carried first is the same on all devices.
        everything = self._objective(whole(batch), LOCAL)
        return cast(Unrolling, self.arm.strategy).begin(key, state, everything)

    def _objective(self, data: Segment, placement: Placement) -> Objective:
        fn, start = SegmentLoss(self.loss, self.time), FirstCarry(self.loss)
        return Objective(fn, data, start, placement=placement)


def _name(component: object) -> str:
    return str(getattr(component, "name", type(component).__name__))
