"""Models that are one cell stepped through time: the base of those with a memory."""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from evojax_nar.models.linen import LinenModel
from evojax_nar.types import Carry, Params, Sequence, TaskSpec


class CellModel(LinenModel):
    """A model whose module is one cell, `(carry, x (B, F)) -> (carry, outputs (B, F))`.

    What a cell sows as "shown" is stacked over time, (T, B, ...): see `LinenModel.inspect`.
    """

    @abc.abstractmethod
    def cell(self, spec: TaskSpec, time: int) -> nn.RNNCellBase:
        """The cell with the outputs of `spec`, for inputs of T = `time` steps."""

    def start(self, cell: nn.RNNCellBase, inputs: Sequence) -> Carry:
        """The carry before the first step; a pytree of arrays (B, ...) without parameters."""
        values = inputs.values
        return cell.initialize_carry(jax.random.key(0), (values.shape[0], values.shape[-1]))

    def module(self, spec: TaskSpec) -> nn.Module:
        """The cell, stepped through the inputs."""
        return Unrolled(self, spec)

    def initial_carry(self, inputs: Sequence, *, spec: TaskSpec) -> Carry:
        """As `types.Recurrent.initial_carry`."""
        cell = self.cell(spec, inputs.values.shape[1])
        return optax.tree.cast(self.start(cell, inputs), inputs.values.dtype)

    def apply_segment(
        self, params: Params, carry: Carry, inputs: Sequence, *, spec: TaskSpec, time: int
    ) -> tuple[Carry, jax.Array]:
        """As `types.Recurrent.apply_segment`."""
        module = Unrolled(self, spec, time)
        return unroll_segment(module, params, carry, inputs)


class Unrolled(nn.Module):
    """A cell, stepped through the inputs; padding comes last, so what exists never sees it.

    `time` is the T for which the cell is made; None for that of the inputs.
    """

    model: CellModel
    spec: TaskSpec
    time: int | None = None

    def __call__(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        """Outputs (B, T, F of the outputs) of values (B, T, F); `mask` (B, T) bool."""
        return self.unroll(values, mask)[1]

    @nn.compact
    def unroll(
        self, values: jax.Array, mask: jax.Array, carry: Carry = None
    ) -> tuple[Carry, jax.Array]:
        """The carry after the last step, and outputs, from a carry or, where it is None, afresh."""
        cell = self.model.cell(self.spec, values.shape[1] if self.time is None else self.time)
        if carry is None:
            # In the type of the values: a carry that begins in float32 would go on in it.
            carry = optax.tree.cast(self.model.start(cell, Sequence(values, mask)), values.dtype)
        axes: Any = {"shown": 0, "penalties": 0}
        steps = nn.RNN(cell, variable_axes=axes, return_carry=True)
        carry, outputs = steps(values, initial_carry=carry)
        return carry, jnp.asarray(outputs)


def unroll_segment(
    module: nn.Module, params: Params, carry: Carry, inputs: Sequence
) -> tuple[Carry, jax.Array]:
    """The next carry and outputs, float32, of a module with a method `unroll`."""
    values, mask = inputs
    carry, outputs = module.apply({"params": params}, values, mask, carry, method="unroll")  # type: ignore[misc]
    return carry, jnp.asarray(outputs, jnp.float32)
