"""Models that are one cell stepped through time: the base of those with a memory."""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from evojax_nar.models.linen import LinenModel
from evojax_nar.types import Carry, Sequence, TaskSpec


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


class Unrolled(nn.Module):
    """A cell, stepped through the inputs; padding comes last, so what exists never sees it."""

    model: CellModel
    spec: TaskSpec

    @nn.compact
    def __call__(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        """Outputs (B, T, F of the outputs) of values (B, T, F); `mask` (B, T) bool."""
        cell = self.model.cell(self.spec, values.shape[1])
        # In the type of the values: a carry that begins in float32 would go on in it.
        start = optax.tree.cast(self.model.start(cell, Sequence(values, mask)), values.dtype)
        axes: Any = {"shown": 0, "penalties": 0}
        return jnp.asarray(nn.RNN(cell, variable_axes=axes)(values, initial_carry=start))
