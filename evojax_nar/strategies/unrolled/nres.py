"""Noise-reuse evolution strategies: one perturbation of each pair for a whole episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import optax

from evojax_nar.objective import Objective
from evojax_nar.strategies.base import Example
from evojax_nar.strategies.unrolled.antithetic import Antithetic, AntitheticState, of_pairs
from evojax_nar.types import Carry, Info, Key


class NRESCarry(NamedTuple):
    """What `NRES` carries through an episode."""

    key: Key
    """Gives the noise of every pair, in every segment."""
    cells: Carry
    """The members' own carries, (N, ...)."""


@final
@dataclass(frozen=True)
class NRES(Antithetic):
    """Noise-reuse evolution strategies, also ES-Single: truncated unrolls without their bias.

    A pair keeps its noise eps for all segments of an episode and goes on from its own carries. The
    estimate of a segment is g = 1/(N sigma) * sum over pairs of (L+ - L-) eps with the losses of
    that segment alone; over an episode they add up to that of antithetic ES on whole unrolls, the
    centre's own movement aside. So it sees as far as an episode is long, and unlike that of `PES`
    its variance does not grow with the number of segments. Of the noise only a key is kept.

    All members are at the same segment; in both papers they are spread over the episode.

    Source: Li et al. 2023, arXiv:2304.12180; Vicol 2023, "Low-variance gradient
    estimation in unrolled computation graphs with ES-Single".

    Args:
      population: N, even.
      sigma: standard deviation of the noise, in units of the parameters.
      optimizer: any optax gradient transformation, applied to the estimate of each segment.
      noise: rule that draws the noise; see `ES`.
      fitness: "loss" or "score", what is optimised.

    Raises:
      InputError: for an odd population, a sigma that is not above 0, or an unknown name.
    """

    name: ClassVar[str] = "nres"

    def begin(self, key: Key, state: AntitheticState, objective: Objective) -> NRESCarry:
        """The noise of an episode, and fresh carries."""
        del state
        return NRESCarry(key, objective.init_carries(key, self.population))

    def segment(
        self, key: Key, state: AntitheticState, carry: NRESCarry, objective: Objective
    ) -> tuple[AntitheticState, NRESCarry, Info]:
        """One step, with the noise of the episode; `key` is not used."""
        del key
        members = self._members(carry.key, state)
        evaluation, cells = objective.population(members, carry.cells)
        state, info = self._learn(
            state, evaluation, lambda weights: of_pairs(objective, members, weights)
        )
        return state, carry._replace(cells=cells), info

    @classmethod
    def example(cls) -> Example:
        """Plain gradient descent on the estimate."""
        return Example(cls(population=64, sigma=0.1, optimizer=optax.sgd(0.1)), steps=60)
