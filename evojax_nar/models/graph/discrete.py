"""Message passing between nodes whose states are discrete: a few digits, no real numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import positive_int, reject
from evojax_nar.models.graph.base import Processing, yes_or_no
from evojax_nar.models.graph.encoding import Features
from evojax_nar.models.graph.message_passing import MessagePassing


def _largest(logits: jax.Array) -> jax.Array:
    return jax.nn.one_hot(logits.argmax(axis=-1), logits.shape[-1], dtype=logits.dtype)


@jax.custom_jvp
def straight(logits: jax.Array) -> jax.Array:
    """One-hot of the largest along the last axis, exactly; its derivative is that of a softmax.

    Source: Bengio et al. 2013, arXiv:1308.3432.
    """
    return _largest(logits)


@straight.defjvp
def _straight_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    return straight(*primals), jax.jvp(jax.nn.softmax, primals, tangents)[1]


@jax.custom_jvp
def blunt(logits: jax.Array) -> jax.Array:
    """One-hot of the largest along the last axis, which refuses to be differentiated."""
    return _largest(logits)


@blunt.defjvp
def _blunt_jvp(primals: Any, tangents: Any) -> Any:
    remedy = "set it to true, or train with a strategy that needs no gradient, such as 'es'"
    raise reject("straight_through", False, "has no gradient", remedy)


class DiscreteMessagePassing(nn.Module):
    """Messages between all nodes, of which each keeps `digits` choices among `states`."""

    hidden: int
    digits: int
    states: int
    straight_through: bool

    @nn.compact
    def __call__(
        self, features: Features, state: jax.Array, linked: jax.Array, nodes: jax.Array
    ) -> tuple[jax.Array, None]:
        """The next state (B, V, digits x states), of zeros and ones."""
        found, _ = MessagePassing(self.hidden, name="messages")(features, state, linked, nodes)
        logits = nn.Dense(self.digits * self.states, name="digits")(found)
        choose = straight if self.straight_through else blunt
        chosen = choose(logits.reshape(*nodes.shape, self.digits, self.states))
        return chosen.reshape(logits.shape), None


@final
@dataclass(frozen=True)
class DiscreteMPNN(Processing):
    """Message passing whose nodes remember a few digits, and read their hints as decisions.

    What goes from one step to the next is discrete, but for hints that are real numbers, so that an
    algorithm once learned makes no small errors to add up on larger graphs.

    Source: after Rodionov and Prokhorenkova 2024, arXiv:2402.11628, which makes edges discrete too
    and hears one neighbour at a time; messages here are those of `mpnn`.

    Args:
      hidden: H, the features of a node, an edge and the graph within a step.
      teacher_forcing: the share, from 0 to 1, of steps and examples that read true hints in
        training.
      digits: choices that are the state of a node; all are 0 before the first step.
      states: how many there are to choose from, 2 or more.
      straight_through: whether the gradient of a choice is taken to be that of a softmax; it has
        none otherwise, and differentiating raises an `InputError`.
    """

    name: ClassVar[str] = "discrete_mpnn"
    digits: int = 8
    states: int = 4
    straight_through: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_int("digits", self.digits)
        positive_int("states", self.states, least=2)
        yes_or_no(self, "straight_through")

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(hidden=16)

    @property
    def reads_hard(self) -> bool:
        """Hints are decisions too."""
        return True

    def start(self, nodes: jax.Array) -> jax.Array:
        """Digits of 0, (B, V, digits x states)."""
        zero = jax.nn.one_hot(jnp.zeros((*nodes.shape, self.digits), jnp.int32), self.states)
        return zero.reshape(*nodes.shape, -1)

    def processor(self, name: str) -> nn.Module:
        """Messages, and choices."""
        return DiscreteMessagePassing(
            self.hidden, self.digits, self.states, self.straight_through, name=name
        )
