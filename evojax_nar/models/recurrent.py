"""Recurrent networks: a cell stepped through time, and a read-out at each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from evojax_nar.errors import positive_int
from evojax_nar.models.linen import LinenModel
from evojax_nar.models.unrolled import unroll_segment
from evojax_nar.types import Carry, Params, Sequence, TaskSpec


class RecurrentModule(nn.Module):
    """Layers of one kind of cell, then a dense read-out, which is shared by all steps."""

    cell: type[nn.RNNCellBase]
    hidden: int
    layers: int
    outputs: int

    def __call__(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        """Outputs (B, T, F of the outputs) of values (B, T, F).

        The mask is not used: padding comes last, so no step that exists ever sees it.
        """
        return self.unroll(values, mask)[1]

    @nn.compact
    def unroll(
        self, values: jax.Array, mask: jax.Array, carry: Carry = None
    ) -> tuple[Carry, jax.Array]:
        """The carry of each layer after the last step, and outputs; afresh where it is None."""
        after = []
        for layer in range(self.layers):
            cell = self.cell(self.hidden)  # type: ignore[call-arg]
            start = first_carry(cell, values) if carry is None else carry[layer]
            last, values = nn.RNN(cell, return_carry=True)(values, initial_carry=start)
            values = jnp.asarray(values)
            after.append(last)
        return tuple(after), nn.Dense(self.outputs)(values)


def first_carry(cell: nn.RNNCellBase, values: jax.Array) -> Carry:
    """Of a cell, before the first step of values (B, T, F)."""
    start = cell.initialize_carry(jax.random.key(0), (len(values), values.shape[-1]))
    # In the type of the values: flax would begin, and so go on, in float32.
    return optax.tree.cast(start, values.dtype)


@dataclass(frozen=True)
class _Recurrent(LinenModel):
    """What the three share; they differ in the cell."""

    cell: ClassVar[type[nn.RNNCellBase]]
    hidden: int = 64
    layers: int = 1

    def __post_init__(self) -> None:
        positive_int("hidden", self.hidden)
        positive_int("layers", self.layers)

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(hidden=8)

    def module(self, spec: TaskSpec) -> nn.Module:
        """The module with the outputs of `spec`, for any T."""
        return RecurrentModule(self.cell, self.hidden, self.layers, spec.output_features)

    def initial_carry(self, inputs: Sequence, *, spec: TaskSpec) -> Carry:
        """As `types.Recurrent.initial_carry`: a carry for each layer."""
        cell = self.cell(self.hidden)  # type: ignore[call-arg]
        return (first_carry(cell, inputs.values),) * self.layers

    def apply_segment(
        self, params: Params, carry: Carry, inputs: Sequence, *, spec: TaskSpec, time: int
    ) -> tuple[Carry, jax.Array]:
        """As `types.Recurrent.apply_segment`; no cell depends on `time`."""
        return unroll_segment(self.module(spec), params, carry, inputs)


@final
@dataclass(frozen=True)
class RNN(_Recurrent):
    """A plain recurrent network, h' = tanh(W x + U h + b), for any length.

    Source: Elman 1990, "Finding Structure in Time".

    Args:
      hidden: units H of each layer.
      layers: how many cells are stacked.
    """

    name: ClassVar[str] = "rnn"
    cell: ClassVar[type[nn.RNNCellBase]] = nn.SimpleCell


@final
@dataclass(frozen=True)
class GRU(_Recurrent):
    """A recurrent network with gated recurrent units, for any length.

    Source: Cho et al. 2014, arXiv:1406.1078.

    Args:
      hidden: units H of each layer.
      layers: how many cells are stacked.
    """

    name: ClassVar[str] = "gru"
    cell: ClassVar[type[nn.RNNCellBase]] = nn.GRUCell


@final
@dataclass(frozen=True)
class LSTM(_Recurrent):
    """A recurrent network with long short-term memory, for any length.

    Source: Hochreiter and Schmidhuber 1997, "Long Short-Term Memory", with the forget gate of Gers
    et al. 2000.

    Args:
      hidden: units H of each layer.
      layers: how many cells are stacked.
    """

    name: ClassVar[str] = "lstm"
    cell: ClassVar[type[nn.RNNCellBase]] = nn.OptimizedLSTMCell
