"""Evolution of int8 parameters: signs of antithetic pairs vote, and weights move by one bin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from evojax_nar.discrete import is_choices
from evojax_nar.errors import InputError, finite, positive_int, reject
from evojax_nar.integer import LIMIT, UNIT_BITS, IntegerPairs
from evojax_nar.objective import Objective
from evojax_nar.spaces import POPULATION, Axis, Choice, Linear, Log
from evojax_nar.strategies.base import (
    Base,
    Example,
    Fitness,
    check_fitness,
    keep_if,
    population_info,
    require_even,
    stack_pairs,
    to_minimise,
)
from evojax_nar.types import Cost, Info, Key, Params

LARGEST = 2**23
"""Members at most: the int32 sums of more of them could overflow."""


class IntegerESState(NamedTuple):
    """State of `IntegerES`."""

    centre: Params
    generation: jax.Array
    hyperparameters: dict[str, jax.Array]


@final
@dataclass(frozen=True)
class IntegerES(Base):
    """Evolution strategy on int8 parameters: noise of rank 1, votes of pairs, steps of one bin.

    A pair i is judged at W + E_i and W - E_i with E_i = a_i b_i^T / 2**(4 + sigma_shift), factors
    int8. Its vote f_i is the sign of the difference of its losses, -1, 0 or 1, for the better side.
    The votes are summed as Z = sum_i f_i a_i b_i^T in int32, and a weight moves by one bin, 1/16,
    in the direction of its sum where |Z| > 256 sqrt(K) q, with K the pairs that voted and q the
    1 - alpha / 2 quantile of the standard normal distribution. Where the votes mean nothing, a
    share alpha of the weights moves. Weights stay in -127..127. Source: EGG, Sarkar et al. 2025,
    arXiv:2511.16652, appendix G, whose pairs see data of their own, as those of other slices do
    here. The model must hold int8 parameters, as `models.IntegerGRU` does.

    Args:
      population: N, even.
      sigma_shift: noise has a standard deviation of 2**-sigma_shift, where fresh weights have 1.
      alpha: share of the weights that moves at generation 0.
      decay: the share at generation t is alpha / (1 + decay * t).
      slices: G. Pair i sees slice i mod G of the batch alone, a G-th of its examples, and a step
        costs N / G evaluations of the batch. More slices are more votes, each on fewer examples.
      fitness: "loss" or "score".

    Raises:
      InputError: for an odd population, or a number out of range.
    """

    name: ClassVar[str] = "integer_es"
    integer: ClassVar[bool] = True
    population: int = 512
    sigma_shift: int = 4
    alpha: float = 1.0
    decay: float = 0.015
    slices: int = 1
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        require_even("population", self.population)
        if self.population > LARGEST:
            raise reject(
                "population", self.population, "could overflow a sum", f"give at most {LARGEST}"
            )
        positive_int("sigma_shift", self.sigma_shift, least=0)
        if self.sigma_shift > 16:
            raise reject("sigma_shift", self.sigma_shift, "leaves no noise", "give at most 16")
        if finite("alpha", self.alpha, above=0.0) > 1:
            raise reject("alpha", self.alpha, "is more than all weights", "give at most 1")
        if finite("decay", self.decay) < 0:
            raise reject("decay", self.decay, "is below 0", "give 0 or more")
        positive_int("slices", self.slices)
        if self.population % self.slices or self.slices > self.population // 2:
            raise InputError(
                f"slices={self.slices} cannot be shared by population={self.population}; "
                "give a divisor of the population, at most half of it"
            )
        check_fitness(self.fitness)

    @property
    def cost(self) -> Cost:
        """N / G forward passes of the whole batch a generation."""
        return Cost(forwards=self.population // self.slices, backwards=0)

    def init(self, key: Key, params: Params) -> IntegerESState:
        """State with `params` as the centre; `key` is not used.

        Raises:
          InputError: where a leaf is not int8, naming its path.
        """
        del key
        return IntegerESState(
            centre=_int8_params(params),
            generation=jnp.asarray(0, jnp.int32),
            hyperparameters={
                "sigma_shift": jnp.asarray(self.sigma_shift, jnp.int32),
                "alpha": jnp.asarray(self.alpha, jnp.float32),
                "decay": jnp.asarray(self.decay, jnp.float32),
            },
        )

    def step(
        self, key: Key, state: IntegerESState, objective: Objective
    ) -> tuple[IntegerESState, Info]:
        """One generation: draw, evaluate N members, let the pairs vote, move what is sure."""
        numbers = state.hyperparameters
        shift = UNIT_BITS + numbers["sigma_shift"]
        members = IntegerPairs(state.centre, key, shift, self.population // 2, self.slices)
        if self.slices > 1:
            objective = replace(objective, fn=_OnSlice(objective.fn, self.slices))
        evaluation, _ = objective.population(members)
        losses = to_minimise(evaluation, self.fitness)
        # A broken member loses to its partner; of two broken ones neither wins.
        pairs = jnp.where(jnp.isfinite(losses), losses, jnp.inf).reshape(-1, 2)
        plus, minus = pairs[:, 0], pairs[:, 1]
        votes = (plus < minus).astype(jnp.int32) - (plus > minus).astype(jnp.int32)
        weights = jnp.stack([votes, jnp.zeros_like(votes)], axis=1).reshape(-1)
        sums = objective.combine(members, weights)

        voters = jnp.abs(votes).sum(dtype=jnp.int32)
        alpha = numbers["alpha"] / (1 + numbers["decay"] * state.generation)
        deviation = 4.0**UNIT_BITS * jnp.sqrt(voters.astype(jnp.float32))
        threshold = jnp.floor(-deviation * ndtri(alpha / 2)).astype(jnp.int32)
        moves = jax.tree.map(
            lambda total: jnp.where(jnp.abs(total) > threshold, jnp.sign(total), 0), sums
        )
        new = IntegerESState(
            centre=jax.tree.map(_move, state.centre, moves),
            generation=state.generation + 1,
            hyperparameters=numbers,
        )
        flags = jnp.concatenate([jnp.abs(leaf).reshape(-1) for leaf in jax.tree.leaves(moves)])
        info = population_info(
            evaluation,
            losses,
            {
                "alpha": alpha,
                "moved": flags.mean(dtype=jnp.float32),
                "voted": voters / (self.population // 2),
            },
        )
        info = info._replace(forwards=jnp.asarray(self.cost.forwards, jnp.int32))
        return keep_if(info.healthy, new, state), info

    def params(self, state: IntegerESState) -> Params:
        """The centre."""
        return state.centre

    def ensemble(self, key: Key, state: IntegerESState, count: int) -> Params:
        """Members of the next generation, in pairs (count, ...), int8."""
        shift = UNIT_BITS + state.hyperparameters["sigma_shift"]
        pairs = IntegerPairs(state.centre, key, shift, self.population // 2)

        def member(pair: jax.Array, sign: Any) -> Params:
            factors, _ = pairs.draw(pair)
            thin = pairs.member(factors, sign)
            return jax.tree.map(lambda _, own: own.astype(jnp.int8), state.centre, thin)

        return stack_pairs(member, count)

    def space(self) -> dict[str, Axis]:
        """The width of the noise, the share that moves and how it falls, and the population."""
        return {
            "sigma_shift": Choice((2, 3, 4, 5)),
            "alpha": Linear(0.1, 1.0),
            "decay": Log(0.001, 0.1),
            "population": POPULATION,
        }

    @classmethod
    def example(cls) -> Example:
        """A few weights, all of which move at first."""
        return Example(cls(population=64, sigma_shift=3, alpha=1.0, decay=0.05), steps=60)


@final
@dataclass(frozen=True)
class _OnSlice:
    """`fn` on one slice of the data, of parameters and the number of the slice."""

    fn: Callable[..., Any]
    slices: int

    def __call__(self, params: tuple[Params, jax.Array], data: Any) -> Any:
        member, place = params

        def cut(leaf: jax.Array) -> jax.Array:
            examples = leaf.shape[0] if leaf.ndim else 1
            if examples % self.slices:
                raise InputError(
                    f"slices={self.slices} does not divide a batch of {examples}; "
                    "give a batch that is a multiple of it"
                )
            size = examples // self.slices
            return jax.lax.dynamic_slice_in_dim(leaf, place * size, size)

        return self.fn(member, jax.tree.map(cut, data))


def _move(leaf: jax.Array, move: jax.Array) -> jax.Array:
    return jnp.clip(leaf.astype(jnp.int32) + move, -LIMIT, LIMIT).astype(jnp.int8)


def _int8_params(params: Params) -> Params:
    """`params` with every leaf an int8 array in -127..127."""

    def convert(path: Any, leaf: Any) -> jax.Array:
        where = jax.tree_util.keystr(path)
        if is_choices(leaf):
            raise InputError(
                f"params{where} holds choices, which steps of whole bins cannot move; "
                "take strategies.BitFlip, or give int8 parameters"
            )
        array = jnp.asarray(leaf)
        if array.dtype != jnp.int8:
            raise InputError(
                f"params{where} has type {array.dtype}, which steps of whole bins cannot move; "
                "give int8 parameters, such as those of models.IntegerGRU, or take strategies.ES"
            )
        return jnp.maximum(array, jnp.int8(-LIMIT))

    return jax.tree_util.tree_map_with_path(convert, params, is_leaf=is_choices)
