"""Recurrent networks of two-input gates, whose wires are choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.discrete import Choices, Mixture, select, uniform
from evojax_nar.errors import positive_int
from evojax_nar.models.discrete.base import (
    DiscreteModel,
    input_bits,
    output_bits,
    read_out,
    require_symbols,
)
from evojax_nar.types import Key, Params, Sequence, TaskSpec


@final
@dataclass(frozen=True)
class NandNetwork(DiscreteModel):
    """A circuit of NAND gates with a few bits of memory, for any length.

    The signals of a step are, in this order: the constant 0, its F input bits (whether an input is
    above a half), the S bits of the state that the step before left, zeros at first, and what the
    gates say, layer by layer. Each of the two wires of a gate is chosen among the signals before
    its layer; the new state and the bits of the outputs among all of them. Classes are written in
    binary. Parameters: "wires" (layers, gates, 2), "state" (S,), "outputs" (bits of the outputs,),
    and "tables" (layers, gates, 4) where gates have truth tables.

    All wires have as many choices as those of the last layer. A layer that has only n signals
    before it takes a choice modulo n.

    With mixtures a signal is the probability that a bit is 1, as if all were independent: a NAND is
    1 - a b, a truth table the bilinear interpolation of its entries.

    Source: Miller and Thomson 2000, "Cartesian Genetic Programming", EuroGP, whose columns are the
    layers, here with a state; the relaxation of gates is after Petersen et al. 2022,
    arXiv:2210.08277, with the wires relaxed too.

    Args:
      gates: how many each layer has.
      layers: how many follow each other within a step.
      state: S, bits of memory.
      truth_tables: whether each gate has a table of four choices of its own, 2 a + b being the
        entry for wires a and b, in place of NAND.
    """

    name: ClassVar[str] = "nand_network"
    gates: int = 1
    layers: int = 32
    state: int = 2
    truth_tables: bool = False

    def __post_init__(self) -> None:
        positive_int("gates", self.gates)
        positive_int("layers", self.layers)
        positive_int("state", self.state)

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(gates=2, layers=8, state=1)

    def sources(self, spec: TaskSpec) -> int:
        """Signals before the first gate: the constant, the inputs and the state."""
        return 1 + spec.input_features + self.state

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Fresh wires and tables, all choices equally likely.

        Raises:
          InputError: for a task of graphs, or of outputs other than bits and classes.
        """
        require_symbols(self.name, spec)
        wire_key, state_key, output_key, table_key = jax.random.split(key, 4)
        last = self.sources(spec) + (self.layers - 1) * self.gates
        signals, shape = last + self.gates, (self.layers, self.gates)
        params = {
            "wires": uniform(wire_key, (*shape, 2), last),
            "state": uniform(state_key, (self.state,), signals),
            "outputs": uniform(output_key, (output_bits(spec),), signals),
        }
        if self.truth_tables:
            params["tables"] = uniform(table_key, (*shape, 4), 2)
        return params

    def apply(self, params: Params, inputs: Sequence, *, spec: TaskSpec) -> jax.Array:
        """Outputs (B, T, F of the outputs) of inputs (B, T, F of the inputs), float32.

        Padding comes last, so no step that exists ever sees it.
        """
        bits = jnp.swapaxes(input_bits(inputs.values), 0, 1)
        first = self.sources(spec)
        starts = first + self.gates * jnp.arange(self.layers)
        wires = _wrap(params["wires"], starts, first + self.layers * self.gates)
        # What all entries of the tables are is the same at every step.
        tables = None
        if self.truth_tables:
            tables = select(params["tables"], jnp.arange(2, dtype=bits.dtype))

        def layer(signals: jax.Array, own: tuple) -> tuple[jax.Array, None]:
            start, wires, tables = own
            gates = _gates(select(wires, signals), tables)
            return jax.lax.dynamic_update_slice_in_dim(signals, gates, start, axis=-1), None

        def step(state: jax.Array, bits: jax.Array) -> tuple[jax.Array, jax.Array]:
            zero = jnp.zeros((len(bits), 1), bits.dtype)
            later = jnp.zeros((len(bits), self.layers * self.gates), bits.dtype)
            signals = jnp.concatenate([zero, bits, state, later], axis=-1)
            signals, _ = jax.lax.scan(layer, signals, (starts, wires, tables))
            return select(params["state"], signals), select(params["outputs"], signals)

        before = jnp.zeros((bits.shape[1], self.state), bits.dtype)
        _, outputs = jax.lax.scan(step, before, bits)
        return read_out(spec, jnp.swapaxes(outputs, 0, 1))


def _wrap(wires: Choices | Mixture, starts: jax.Array, signals: int) -> Choices | Mixture:
    """Wires (layers, ...) among all signals, taken modulo the number before each layer (layers,).

    A mixture is wrapped around in the same way: weights of choices that mean the same are added.
    """
    if isinstance(wires, Choices):
        return Choices(wires.value % starts[:, None, None], signals)

    def wrap(weights: jax.Array, start: jax.Array) -> jax.Array:
        same = jnp.arange(weights.shape[-1]) % start
        return jnp.zeros((*weights.shape[:-1], signals), weights.dtype).at[..., same].add(weights)

    return Mixture(jax.vmap(wrap)(wires.weights, starts))


def _gates(pairs: jax.Array, tables: jax.Array | None) -> jax.Array:
    """What gates (B, gates) say of their wires (B, gates, 2): NAND, or by tables (gates, 4)."""
    first, second = pairs[..., 0], pairs[..., 1]
    if tables is None:
        return 1 - first * second
    if_zero = tables[..., 0] * (1 - second) + tables[..., 1] * second
    if_one = tables[..., 2] * (1 - second) + tables[..., 3] * second
    return if_zero * (1 - first) + if_one * first
