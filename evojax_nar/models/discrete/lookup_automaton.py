"""Cellular automata whose rule is a table of choices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.discrete import Choices, Mixture, uniform
from evojax_nar.errors import InputError, positive_int, reject
from evojax_nar.models.discrete.base import (
    DiscreteModel,
    input_bits,
    log_probability,
    require_symbols,
)
from evojax_nar.models.discrete.cells import look, neighbours
from evojax_nar.types import Field, Key, Params, Sequence, TaskSpec

MOST_ENTRIES = 2**16
"""No larger table is made, of a rule or of the inputs."""


@final
@dataclass(frozen=True)
class LookupAutomaton(DiscreteModel):
    """A cellular automaton of one dimension, whose cells are the steps of an example.

    A table says in which of k states a cell begins, for each symbol that its inputs can be (the
    bits and classes of all fields, the first the most significant). Then all cells follow one rule
    at once, again and again: entry sum(k**(r - d) * state at distance d, for d from -r to r) of its
    table is the next state, so the cell furthest to the left counts most. Tables read the outputs
    from the last states. Parameters: "start" (symbols,), "rule" (k**(2r + 1),), and in "outputs"
    one by the name of each output, (k,) of its classes or (k, F) of bits.

    Padding is no cell. With mixtures a cell is in each state with a probability, as if all cells
    were independent, and a rule is the multilinear interpolation of its table; that takes memory
    for k**(2r + 1) numbers a cell, so keep the table within some 500 entries.

    Source: Wolfram 1983, "Statistical mechanics of cellular automata", Reviews of Modern Physics
    55; evolved by Mitchell, Hraber and Crutchfield 1993, "Revisiting the edge of chaos".

    Args:
      states: k.
      radius: r, how far a cell sees.
      steps: how often the rule is followed; None for as often as the example is long.
      ring: whether the last cell is beside the first. Else cells beyond the ends are in state 0.

    Raises:
      InputError: for a rule of more than 2**16 entries.
    """

    name: ClassVar[str] = "lookup_automaton"
    states: int = 4
    radius: int = 1
    steps: int | None = None
    ring: bool = False

    def __post_init__(self) -> None:
        positive_int("states", self.states, least=2)
        positive_int("radius", self.radius)
        if self.steps is not None:
            positive_int("steps", self.steps)
        if self.entries > MOST_ENTRIES:
            remedy = f"choose states ** (2 * radius + 1) of at most {MOST_ENTRIES}"
            raise reject("states", self.states, f"makes a rule of {self.entries} entries", remedy)

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(states=4, steps=3)

    @property
    def entries(self) -> int:
        """Entries of the rule."""
        return self.states ** (2 * self.radius + 1)

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Fresh tables, all choices equally likely.

        Raises:
          InputError: for a task of graphs, of outputs other than bits and classes, or of inputs
            with more than 2**16 symbols.
        """
        require_symbols(self.name, spec)
        symbols = math.prod(map(_symbols, spec.inputs))
        if symbols > MOST_ENTRIES:
            raise InputError(
                f"model={self.name!r} lists every symbol, and the inputs of task={spec.name!r} "
                f"have {symbols}; choose a task with at most {MOST_ENTRIES}, or another model"
            )
        start_key, rule_key, *keys = jax.random.split(key, 2 + len(spec.outputs))
        return {
            "start": uniform(start_key, (symbols,), self.states),
            "rule": uniform(rule_key, (self.entries,), self.states),
            "outputs": {
                field.name: uniform(own, (self.states,), field.features)
                if field.kind == "categorical"
                else uniform(own, (self.states, field.features), 2)
                for field, own in zip(spec.outputs, keys, strict=True)
            },
        }

    def apply(self, params: Params, inputs: Sequence, *, spec: TaskSpec) -> jax.Array:
        """Outputs (B, T, F of the outputs) of inputs (B, T, F of the inputs), float32."""
        symbols = _read(spec, inputs.values)
        start, rule = params["start"], params["rule"]
        if isinstance(start, Choices) and isinstance(rule, Choices):
            own = jnp.take(start.value, symbols, mode="clip")
            states = jax.nn.one_hot(self._run(rule.value, own, inputs.mask), self.states)
        else:
            own = jnp.take(_rows(start), symbols, axis=0, mode="clip")
            states = self._run(_rows(rule), own, inputs.mask)
        return jnp.concatenate(
            [_read_out(field, params["outputs"][field.name], states) for field in spec.outputs],
            axis=-1,
        )

    def _run(self, rule: jax.Array, states: jax.Array, mask: jax.Array) -> jax.Array:
        """The last states of cells that begin in `states`, (B, T) int32 or (B, T, k) weights."""
        places = neighbours(mask, self.radius, ring=self.ring)
        trailing = [1] * (states.ndim - 2)
        exists = mask.reshape(*mask.shape, *trailing)
        length = mask.sum(axis=1).reshape(-1, 1, *trailing)

        def step(states: jax.Array, count: jax.Array) -> tuple[jax.Array, None]:
            if states.ndim == 2:
                after = _follow(rule, look(states, places), self.states)
            else:
                # Beyond a row, all the weight is on state 0.
                around = look(states, places)
                beyond = (places == mask.shape[1]).astype(around.dtype)
                after = _interpolate(rule, around.at[..., 0].add(beyond))
            running = exists if self.steps is not None else exists & (count < length)
            return jnp.where(running, after, states), None

        steps = mask.shape[1] if self.steps is None else self.steps
        return jax.lax.scan(step, states, jnp.arange(steps))[0]


def _symbols(field: Field) -> int:
    return field.features if field.kind == "categorical" else 2**field.features


def _read(spec: TaskSpec, values: jax.Array) -> jax.Array:
    """The symbol (B, T) int32 of each step of inputs (B, T, F); padding is one of them, too."""
    bits = input_bits(values).astype(jnp.int32)
    number, start = jnp.zeros(values.shape[:2], jnp.int32), 0
    for field in spec.inputs:
        own = bits[..., start : start + field.features]
        start += field.features
        place = jnp.arange(field.features, dtype=jnp.int32)
        if field.kind != "categorical":
            place = 1 << place[::-1]
        number = _symbols(field) * number + (own * place).sum(axis=-1, dtype=jnp.int32)
    return number


def _rows(choices: Choices | Mixture) -> jax.Array:
    """The weights (..., count) of choices, float32."""
    if isinstance(choices, Choices):
        return jax.nn.one_hot(choices.value, choices.count)
    return choices.weights


def _follow(rule: jax.Array, around: jax.Array, states: int) -> jax.Array:
    """The next states (B, T) of cells whose neighbourhoods are `around` (B, T, 2r + 1)."""
    number = jnp.zeros_like(around[..., 0])
    for place in range(around.shape[-1]):
        number = states * number + around[..., place]
    return jnp.take(rule, number, mode="clip")


def _interpolate(rule: jax.Array, around: jax.Array) -> jax.Array:
    """The same with weights: a rule (entries, k) and neighbourhoods (B, T, 2r + 1, k)."""
    weights = jnp.ones((*around.shape[:2], 1), around.dtype)
    for place in range(around.shape[2]):
        outer = weights[..., :, None] * around[..., place, None, :]
        weights = outer.reshape(*around.shape[:2], -1)
    return weights @ rule.astype(weights.dtype)


def _read_out(field: Field, table: Choices | Mixture, states: jax.Array) -> jax.Array:
    """Logits (B, T, F) of a field, float32, of cells that are in states with weights (B, T, k)."""
    rows = jnp.asarray(_rows(table), jnp.float32)
    if field.kind == "categorical":
        return log_probability(states @ rows)
    ones = states @ rows[..., 1]
    return log_probability(ones) - log_probability(1 - ones)
