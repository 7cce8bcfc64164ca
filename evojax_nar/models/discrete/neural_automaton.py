"""Cellular automata whose rule is a small network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import positive_int
from evojax_nar.models.discrete.cells import look, neighbours
from evojax_nar.models.linen import LinenModel
from evojax_nar.types import TaskSpec

WIDEST = 10.0
"""States stay within minus this and this, so that however many steps there are, all is finite."""


@final
@dataclass(frozen=True)
class NeuralAutomaton(LinenModel):
    """A neural cellular automaton of one dimension, whose cells are the steps of an example.

    A cell holds a vector s of C channels, which begins as a linear function of its inputs x. All
    cells follow one rule at once, again and again, where (s, x)_-1, (s, x)_0, (s, x)_1 are those
    of its neighbours and its own:

        p = W_p [(s, x)_-1, (s, x)_0, (s, x)_1] + b_p        what it perceives, H units
        s = s + W_u relu(p) + b_u                            held between -10 and 10

    Outputs are a linear function of the last states. W_u begins at zero, so a fresh automaton
    does nothing. Padding is no cell; beyond the ends of a row all is zero.

    Source: Mordvintsev et al. 2020, "Growing Neural Cellular Automata", Distill, here in one
    dimension, with perception that is learned, inputs that are always seen, as in Randazzo et al.
    2020, "Self-classifying MNIST Digits", Distill, and all cells updated at every step.

    Args:
      channels: C.
      hidden: H.
      steps: how often the rule is followed; None for as often as the example is long.
      ring: whether the last cell is beside the first.
    """

    name: ClassVar[str] = "neural_automaton"
    channels: int = 16
    hidden: int = 64
    steps: int | None = None
    ring: bool = False

    def __post_init__(self) -> None:
        positive_int("channels", self.channels)
        positive_int("hidden", self.hidden)
        if self.steps is not None:
            positive_int("steps", self.steps)

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(channels=8, hidden=24)

    def module(self, spec: TaskSpec) -> nn.Module:
        """The module with the outputs of `spec`, for any T."""
        return AutomatonModule(self, spec.output_features)


class AutomatonModule(nn.Module):
    """The cells of a batch, from their inputs to their outputs; shows "cells" (steps, B, T, C)."""

    model: NeuralAutomaton
    outputs: int

    @nn.compact
    def __call__(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        """Outputs (B, T, F of the outputs) of values (B, T, F); `mask` (B, T) bool."""
        model, time = self.model, mask.shape[1]
        channels, hidden = model.channels, model.hidden
        places = neighbours(mask, 1, ring=model.ring)
        exists, length = mask[..., None], mask.sum(axis=1)[:, None, None]

        def around(cells: jax.Array) -> jax.Array:
            seen = look(cells, places)
            return seen.reshape(*seen.shape[:2], -1)

        # One matrix, in two parts: what comes from the inputs is the same at every step.
        fan_in = 3 * (channels + values.shape[-1])
        normal = nn.initializers.normal(fan_in**-0.5)
        perceive = self.param("perceive", normal, (3 * channels, hidden))
        update = self.param("update", nn.initializers.zeros, (hidden, channels))
        offset = self.param("offset", nn.initializers.zeros, (channels,))
        from_inputs = nn.Dense(hidden, kernel_init=normal, name="inputs")(around(values))

        def step(cells: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
            unit = nn.relu(from_inputs + around(cells) @ perceive)
            after = jnp.clip(cells + unit @ update + offset, -WIDEST, WIDEST)
            running = exists if model.steps is not None else exists & (count < length)
            cells = jnp.where(running, after, cells)
            return cells, cells

        cells = jnp.where(exists, nn.Dense(channels, name="start")(values), 0)
        steps = time if model.steps is None else model.steps
        cells, history = jax.lax.scan(step, cells, jnp.arange(steps))
        self.sow("shown", "cells", history)
        return nn.Dense(self.outputs, name="read_out")(cells)
