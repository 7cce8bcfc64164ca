"""Persistent evolution strategies: fresh noise in each segment, and the sum of it as the credit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import optax

from evojax_nar import noise as noises
from evojax_nar.errors import reject
from evojax_nar.noise import Dense, Noise
from evojax_nar.objective import Objective
from evojax_nar.population import Stored
from evojax_nar.strategies.base import Example
from evojax_nar.strategies.unrolled.antithetic import Antithetic, AntitheticState
from evojax_nar.types import Carry, Info, Key, Params


class PESCarry(NamedTuple):
    """What `PES` carries through an episode."""

    total: Params
    """Sum of each pair's unit noise since the episode began, (N / 2, ...): N D / 2 numbers."""
    cells: Carry
    """The members' own carries, (N, ...)."""


@final
@dataclass(frozen=True)
class PES(Antithetic):
    """Persistent evolution strategies: truncated unrolls without their bias, at a cost in variance.

    A pair draws fresh noise in every segment and goes on from its own carries. The estimate of a
    segment is g = 1/(N sigma) * sum over pairs of (L+ - L-) xi, where xi is the sum of the pair's
    unit noise in all segments of the episode so far, since its loss is the work of them all. Its
    variance grows with their number, where gradients of different segments do not cancel; see
    `NRES`. The sums are held: N D / 2 numbers.

    All members are at the same segment; in the paper they are spread over the episode.

    Source: Vicol, Metz and Sohl-Dickstein 2021, arXiv:2112.13835, with antithetic pairs.

    Args:
      population: N, even.
      sigma: standard deviation of the noise, in units of the parameters.
      optimizer: any optax gradient transformation, applied to the estimate of each segment.
      noise: `noise.Dense`, for sums of thin noise are not thin.
      fitness: "loss" or "score", what is optimised.

    Raises:
      InputError: for an odd population, a sigma that is not above 0, an unknown name, or thin
        noise.
    """

    name: ClassVar[str] = "pes"
    noise: Noise = field(default_factory=Dense)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.noise, Dense):
            remedy = "give noise.Dense(), or take strategies.NRES"
            raise reject("noise", self.noise, "would have to be summed, which is not thin", remedy)

    def begin(self, key: Key, state: AntitheticState, objective: Objective) -> PESCarry:
        """Nothing summed yet, and fresh carries."""
        total = jax.tree.map(
            lambda leaf: jnp.zeros((self.pairs, *leaf.shape), leaf.dtype), state.centre
        )
        return PESCarry(total, objective.init_carries(key, self.population))

    def segment(
        self, key: Key, state: AntitheticState, carry: PESCarry, objective: Objective
    ) -> tuple[AntitheticState, PESCarry, Info]:
        """One step: draw, evaluate, add the noise up, estimate."""
        members = self._members(key, state)
        evaluation, cells = objective.population(members, carry.cells)

        def added(index: jax.Array, total: Params) -> Params:
            return noises.materialise(total, members.draw(index))

        total = jax.vmap(added)(jnp.arange(self.pairs, dtype=jnp.int32), carry.total)
        sums = Stored(total, self.pairs)
        state, info = self._learn(
            state, evaluation, lambda weights: objective.combine(sums, weights)
        )
        return state, PESCarry(total, cells), info

    @classmethod
    def example(cls) -> Example:
        """Plain gradient descent on the estimate."""
        return Example(cls(population=64, sigma=0.1, optimizer=optax.sgd(0.1)), steps=60)
