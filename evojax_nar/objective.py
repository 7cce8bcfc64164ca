"""The objective: a pure function of parameters, with the batch inside. Lower loss is better."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp

from evojax_nar import population
from evojax_nar.errors import positive_int, reject
from evojax_nar.placement import LOCAL, Placement
from evojax_nar.population import Members
from evojax_nar.types import Batch, Carry, Evaluation, Key, Model, Params, Penalised, Task, TaskSpec


@final
@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["data"],
    meta_fields=["fn", "start", "placement", "groups"],
)
@dataclass(frozen=True)
class Objective:
    """What a strategy minimises.

    Args:
      fn: `fn(params, data)`, pure, giving a loss (scalar; **lower is better**) or an `Evaluation`.
        Where `start` is given, `fn(params, data, carry)` giving a pair of that and the next carry.
      data: a pytree of arrays, the batch; it may be traced, so new data never recompile.
      start: `start(key, data) -> carry`, the carry of a fresh unroll, for models that are unrolled
        in segments. None where nothing is carried.
      placement: the devices and chunks over which a population is spread.
      groups: None where all members share `data`. G where `data` has a leading axis of G and each
        group of N / G members in turn has its own; an antithetic pair is never divided. One
        parameter set is then judged by the mean over the groups.

    Raises:
      InputError: for groups below 1, or together with `start`.

    All but `data` is static: use module-level functions or hashable callables, since a new lambda
    is a new program.
    """

    fn: Callable[..., Any]
    data: Any = ()
    start: Callable[[Key, Any], Carry] | None = None
    placement: Placement = LOCAL
    groups: int | None = None

    def __post_init__(self) -> None:
        if self.groups is not None:
            positive_int("groups", self.groups)
            if self.start is not None:
                remedy = "let all members share the data of a segment"
                raise reject("groups", self.groups, "cannot go with a carry", remedy)

    def init_carry(self, key: Key) -> Carry:
        """The carry of a fresh unroll of one parameter set; `()` where nothing is carried."""
        return () if self.start is None else self.start(key, self.data)

    def init_carries(self, key: Key, size: int) -> Carry:
        """The carries of a fresh unroll of N = `size` members, all alike: leaves (N, ...)."""
        return jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (size, *leaf.shape)), self.init_carry(key)
        )

    def __call__(self, params: Params, carry: Carry = ()) -> tuple[Evaluation, Carry]:
        """Evaluate one parameter set on the batch, or on a segment of a long unroll."""
        if self.groups is None:
            return _run(self.fn, self.start is not None, self.data, params, carry)
        each = jax.vmap(lambda data: _run(self.fn, False, data, params, carry)[0])(self.data)
        return jax.tree.map(lambda leaf: leaf.mean(axis=0), each), carry

    def population(self, members: Members, carries: Carry = ()) -> tuple[Evaluation, Carry]:
        """Evaluate all N members, in chunks, over the mesh.

        `carries` has a leading axis of N; so has every leaf of what is returned.
        """
        run = functools.partial(_run, self.fn, self.start is not None)
        return population.evaluate(run, self.data, members, carries, self.placement, self.groups)

    def combine(self, members: Members, weights: jax.Array) -> Params:
        """Sum of weight (N,) times each member's noise, or its parameters where those are stored.

        In chunks, over the mesh; one parameter-sized reduction between devices.
        """
        return population.combine(members, weights, self.placement)


def _run(
    fn: Callable[..., Any], carried: bool, data: Any, params: Params, carry: Carry
) -> tuple[Evaluation, Carry]:
    result, carry = fn(params, data, carry) if carried else (fn(params, data), carry)
    if not isinstance(result, Evaluation):
        loss = jnp.asarray(result, jnp.float32)
        result = Evaluation(loss, -loss)
    # Fitness stays in float32 whatever the forward pass runs in: bfloat16 merges ranks.
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), result), carry


@final
@dataclass(frozen=True)
class TaskLoss:
    """`fn(params, batch)` of a task and a model; equal for equal ones, so it never recompiles."""

    task: Task
    model: Model
    spec: TaskSpec
    forward_dtype: str = "float32"
    """Type of parameters and inputs as the model sees them; the outputs are judged in float32."""

    def __call__(self, params: Params, batch: Batch) -> Evaluation:
        """Judge the model's outputs on the batch by the task; a model's own penalty is added."""
        inputs = batch.inputs
        if self.forward_dtype != "float32":
            params, inputs = cast((params, inputs), self.forward_dtype)
        if not isinstance(self.model, Penalised):
            return self._judge(self.model.apply(params, inputs, spec=self.spec), batch)
        outputs, penalty = self.model.apply_with_penalty(params, inputs, spec=self.spec)
        found = self._judge(outputs, batch)
        penalty = jnp.asarray(penalty, jnp.float32)
        metrics = {**found.metrics, "penalty": penalty}
        return Evaluation(found.loss + penalty, found.score, metrics)

    def _judge(self, outputs: Any, batch: Batch) -> Evaluation:
        outputs = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), outputs)
        return self.task.evaluate(outputs, batch)


def cast(tree: Any, dtype: Any) -> Any:
    """`tree` with its floating-point leaves in another type; integers and masks stay."""

    def convert(leaf: jax.Array) -> jax.Array:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(convert, tree)
