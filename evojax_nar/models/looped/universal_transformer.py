"""The Universal Transformer: one block, run for as many steps as each position wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import finite, reject
from evojax_nar.models.linen import LinenModel
from evojax_nar.models.looped import halting
from evojax_nar.models.looped.looped_transformer import Block, check_attention, check_bool, visible
from evojax_nar.models.transformer import positions
from evojax_nar.types import Params, Sequence, TaskSpec


class SteppedModule(nn.Module):
    """One block with shared weights, which is told position and step each time; all steps are run.

    No parameter depends on `max_steps`.
    """

    width: int
    heads: int
    mlp_ratio: int
    max_steps: int
    causal: bool
    outputs: int

    def setup(self) -> None:
        """The layers."""
        self.embed = nn.Dense(self.width)
        self.block = Block(self.heads, self.mlp_ratio)
        self.normalise = nn.LayerNorm()
        self.read = nn.Dense(self.outputs)

    def __call__(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        """Outputs (B, T, F of the outputs) of values (B, T, F); `mask` (B, T) bool."""
        state = self.embed(values)
        allowed, places, clock = self.surroundings(state, mask)
        is_shown = self.is_mutable_collection("shown")

        def turn(module: Any, state: jax.Array, time: jax.Array) -> tuple[jax.Array, Any]:
            state = module.block(state + places + time, allowed)
            return state, module.answer(state) if is_shown else None

        state, answers = shared(turn)(self, state, clock)
        if is_shown:
            self.sow("shown", "steps", jnp.where(mask, self.max_steps, 0).astype(jnp.int32))
            self.sow("shown", "step_outputs", answers)
        return self.answer(state)

    def surroundings(self, state: jax.Array, mask: jax.Array) -> tuple[jax.Array, ...]:
        """Who attends to whom, positions (T, width), and each step's number (max_steps, width)."""
        places = positions(state.shape[1], self.width).astype(state.dtype)
        clock = positions(self.max_steps + 1, self.width)[1:].astype(state.dtype)
        return visible(mask, causal=self.causal), places, clock

    def answer(self, state: jax.Array) -> jax.Array:
        """The read-out (B, T, F of the outputs) of a state (B, T, width)."""
        return self.read(self.normalise(state))


class AdaptiveModule(SteppedModule):
    """The same with a halting unit: the read-out is of a position's states, weighted by it."""

    epsilon: float
    halting_bias: float

    def setup(self) -> None:
        """The layers."""
        super().setup()
        self.halt = nn.Dense(1, bias_init=nn.initializers.constant(self.halting_bias))

    def __call__(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        """Outputs (B, T, F of the outputs) of values (B, T, F); `mask` (B, T) bool."""
        state = self.embed(values)
        allowed, places, clock = self.surroundings(state, mask)
        is_last = jnp.arange(self.max_steps) == self.max_steps - 1
        is_shown = self.is_mutable_collection("shown")

        def turn(module: Any, carry: Any, step: Any) -> tuple[Any, Any]:
            (state, mean, halts), (time, is_last) = carry, step
            new = module.block(state + places + time, allowed)
            # Who has halted stays as it was, and is still attended to.
            state = jnp.where(halts.running[..., None], new, state)
            probability = nn.sigmoid(module.halt(state)[..., 0])
            after, weight = halting.advance(halts, probability, is_last, module.epsilon)
            mean = mean + weight[..., None].astype(state.dtype) * state
            probability = jnp.where(halts.running, probability, 0.0)
            return (state, mean, after), (module.answer(state), probability) if is_shown else None

        carry = (state, jnp.zeros_like(state), halting.begin(mask))
        (_, mean, halts), shown = shared(turn)(self, carry, (clock, is_last))
        if is_shown:
            answers, probabilities = shown
            self.sow("shown", "steps", halts.steps)
            self.sow("shown", "step_outputs", answers)
            self.sow("shown", "halting_probability", probabilities)
        self.sow("penalties", "ponder", halting.ponder_cost(halts, mask))
        return self.answer(mean)


def shared(turn: Any) -> Any:
    """A scan over `turn(module, carry, step)`, whose parameters are the same at every step."""
    return nn.scan(turn, variable_broadcast="params", split_rngs={"params": False})


@dataclass(frozen=True)
class _Stepped(LinenModel):
    """What the two share; they differ in who decides on the number of steps."""

    width: int = 64
    heads: int = 4
    mlp_ratio: int = 4
    max_steps: int = 8
    causal: bool = False

    def __post_init__(self) -> None:
        check_attention(self, "max_steps", even=True)
        check_bool("causal", self.causal)

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(width=16, heads=2, mlp_ratio=2, max_steps=3)

    def _sizes(self, spec: TaskSpec) -> dict[str, Any]:
        return {
            "width": self.width,
            "heads": self.heads,
            "mlp_ratio": self.mlp_ratio,
            "max_steps": self.max_steps,
            "causal": self.causal,
            "outputs": spec.output_features,
        }


@final
@dataclass(frozen=True)
class UniversalTransformer(_Stepped):
    """One Transformer block, applied until each position halts by itself, for any length.

    Sinusoidal positions and step numbers are added before every step. A halting unit gives each
    position a probability after each step; it halts once they sum to more than 1 - `epsilon`, or
    after `max_steps`. Its state then stays, the others attend to it further, and it is read out of
    its states weighted by their probabilities, with what is left to 1 for the last. No parameter
    depends on `max_steps`, so `dataclasses.replace(model, max_steps=32)` runs further than trained.
    Halting saves no time: all `max_steps` are computed, and those after it count nothing.

    `inspect` shows `steps` (B, T), `halting_probability` (max_steps, B, T), 0 after a position has
    halted, and `step_outputs` (max_steps, B, T, F), the read-out of the state after each step.

    Source: Dehghani et al. 2019, "Universal Transformers", arXiv:1807.03819, with adaptive
    computation time as in Graves 2016, arXiv:1603.08983. LayerNorm comes before each part, as in
    the authors' code, and after each in the paper's text.

    Args:
      width: features of a step, even and a multiple of `heads`.
      heads: how many heads of attention.
      mlp_ratio: units of the dense layer of the block, as a multiple of `width`.
      max_steps: how many steps a position may take at most.
      causal: whether a step attends to itself and earlier steps alone.
      ponder: what a step costs: steps and remainder, averaged over the positions that exist, are
        added to the loss that many times. 0 for free.
      epsilon: how far below 1 the sum of the probabilities may end.
      halting_bias: of a fresh halting unit. 1, as the authors have it, is a probability near 0.73,
        so two steps at first; a lower one begins with more.
    """

    name: ClassVar[str] = "universal_transformer"
    ponder: float = 0.001
    epsilon: float = 0.01
    halting_bias: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if finite("ponder", self.ponder) < 0:
            raise reject("ponder", self.ponder, "is not allowed", "give 0 or more")
        if not 0 < finite("epsilon", self.epsilon) < 1:
            raise reject("epsilon", self.epsilon, "is not allowed", "give one between 0 and 1")
        finite("halting_bias", self.halting_bias)

    def module(self, spec: TaskSpec) -> nn.Module:
        """The module with the outputs of `spec`, for any T."""
        return AdaptiveModule(
            **self._sizes(spec), epsilon=self.epsilon, halting_bias=self.halting_bias
        )

    def apply_with_penalty(
        self, params: Params, inputs: Sequence, *, spec: TaskSpec
    ) -> tuple[jax.Array, jax.Array]:
        """Outputs as `apply` gives them, and `ponder` times the mean of steps and remainder."""
        outputs, state = self.module(spec).apply(
            {"params": params}, inputs.values, inputs.mask, mutable=["penalties"]
        )
        cost = jnp.asarray(state["penalties"]["ponder"][0])
        return jnp.asarray(outputs, jnp.float32), self.ponder * cost


@final
@dataclass(frozen=True)
class SteppedTransformer(_Stepped):
    """The Universal Transformer without halting: every position takes `max_steps` steps.

    All else is as in `UniversalTransformer`: position and step number are added before every step,
    and `dataclasses.replace(model, max_steps=32)` runs further than trained. `inspect` shows
    `steps` (B, T) and `step_outputs` (max_steps, B, T, F), the read-out after each step.

    Source: Dehghani et al. 2019, "Universal Transformers", arXiv:1807.03819, section 2.1.

    Args:
      width: features of a step, even and a multiple of `heads`.
      heads: how many heads of attention.
      mlp_ratio: units of the dense layer of the block, as a multiple of `width`.
      max_steps: how many steps are taken.
      causal: whether a step attends to itself and earlier steps alone.
    """

    name: ClassVar[str] = "stepped_transformer"

    def module(self, spec: TaskSpec) -> nn.Module:
        """The module with the outputs of `spec`, for any T."""
        return SteppedModule(**self._sizes(spec))
