"""Members to evaluations, weights to summed noise, in blocks: see `placement`.

A population is a rule, not an array: a `Members` object says how to make its unit number i (one
member, or a pair that shares a draw), so a chunk of units exists only while it is evaluated. Noise
is keyed by unit and generation, never by device, so the result does not depend on the placement
beyond rounding.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun

from evojax_nar import cost, memory
from evojax_nar import noise as noises
from evojax_nar.errors import reject
from evojax_nar.noise import Noise
from evojax_nar.placement import Chunk, Placement, layout, note, spread
from evojax_nar.types import Carry, Evaluation, Key, Params

Run = Callable[[Any, Params, Carry], tuple[Evaluation, Carry]]


class Members(abc.ABC):
    """N parameter sets, as a rule that makes unit i. A pytree; `units` and `width` are static."""

    units: int
    width: int = 1
    """Members in a unit: 2 for an antithetic pair, which shares one draw."""

    @property
    def size(self) -> int:
        """N, the number of members; unit i holds the members width * i and those after."""
        return self.units * self.width

    @abc.abstractmethod
    def draw(self, index: jax.Array) -> Any:
        """What unit `index` does not share with the others: its noise, or its parameters."""

    @abc.abstractmethod
    def evaluate(self, run: Callable[[Params, Carry], Any], draw: Any, carry: Carry) -> Any:
        """Results of a unit's members, stacked (width, ...); `carry` is stacked likewise."""

    @abc.abstractmethod
    def weigh(self, draws: Any, weights: jax.Array) -> Params:
        """Sum over C units of weights (C, width) times their members' noise."""


@final
@partial(
    jax.tree_util.register_dataclass,
    data_fields=["centre", "key", "sigma"],
    meta_fields=["units", "noise"],
)
@dataclass(frozen=True)
class GaussianPairs(Members):
    """Antithetic pairs: centre + sigma * noise and centre - sigma * noise, one draw a pair."""

    centre: Params
    key: Key
    sigma: jax.Array
    units: int
    noise: Noise
    width = 2

    def draw(self, index: jax.Array) -> Any:
        """Unit noise of pair `index`."""
        return self.noise.draw(jax.random.fold_in(self.key, index), self.centre)

    def evaluate(self, run: Callable[[Params, Carry], Any], draw: Any, carry: Carry) -> Any:
        """The member with + and the member with -, which share the draw."""
        return evaluate_pair(run, self.centre, draw, self.sigma, carry)

    def weigh(self, draws: Any, weights: jax.Array) -> Params:
        """Sum over pairs of (weight of + less weight of -) times the pair's unit noise."""
        return noises.weigh(self.centre, draws, weights[:, 0] - weights[:, 1])

    def form(self, index: jax.Array, sign: jax.Array) -> Params:
        """The member of pair `index` with the sign 1 or -1, as parameters."""
        return noises.materialise(self.centre, noises.scale(self.draw(index), sign * self.sigma))


def evaluate_pair(
    run: Callable[[Params, Carry], Any], centre: Params, noise: Any, sigma: Any, carry: Carry
) -> Any:
    """Results at centre + sigma * noise and centre - sigma * noise, stacked (2, ...).

    By vmap over the sign: thin factors are read once for both, and the products with shared weights
    are twice as tall.
    """

    def one(scale: jax.Array, own: Carry) -> Any:
        return noises.perturbed(run)(centre, noises.scale(noise, scale), own)

    return jax.vmap(one)(sigma * jnp.array([1.0, -1.0]), carry)


@final
@partial(jax.tree_util.register_dataclass, data_fields=["parameters"], meta_fields=["units"])
@dataclass(frozen=True)
class Stored(Members):
    """Members that are held as arrays: every leaf of `parameters` has a leading axis of N."""

    parameters: Params
    units: int

    def draw(self, index: jax.Array) -> Any:
        """Parameters of member `index`."""
        return jax.tree.map(lambda leaf: leaf[index], self.parameters)

    def evaluate(self, run: Callable[[Params, Carry], Any], draw: Any, carry: Carry) -> Any:
        """The member's result, (1, ...)."""
        return _single(run, draw, carry)

    def weigh(self, draws: Any, weights: jax.Array) -> Params:
        """Weighted sum of the members' parameters."""
        return _weighted_sum(draws, weights[:, 0])


@final
@partial(
    jax.tree_util.register_dataclass,
    data_fields=["parents", "parent_of", "seeds", "sigma"],
    meta_fields=["units"],
)
@dataclass(frozen=True)
class Offspring(Members):
    """Mutated copies of a few stored parents; no more than a chunk of them exists at a time.

    Every leaf of `parents` has a leading axis of E; member i is parent `parent_of[i]` plus
    sigma[i] times the noise that `seeds[i]` (N,) uint32 gives. Sigma 0 is the parent itself.
    """

    parents: Params
    parent_of: jax.Array
    seeds: jax.Array
    sigma: jax.Array
    units: int

    def draw(self, index: jax.Array) -> Any:
        """Parameters of member `index`."""
        parent = jax.tree.map(lambda leaf: leaf[self.parent_of[index]], self.parents)
        return mutate(parent, self.seeds[index], self.sigma[index])

    def evaluate(self, run: Callable[[Params, Carry], Any], draw: Any, carry: Carry) -> Any:
        """The member's result, (1, ...)."""
        return _single(run, draw, carry)

    def weigh(self, draws: Any, weights: jax.Array) -> Params:
        """Weighted sum of the members' parameters."""
        return _weighted_sum(draws, weights[:, 0])


def mutate(params: Params, seed: jax.Array, sigma: jax.Array) -> Params:
    """`params` + sigma * standard normal noise made from `seed` (uint32) alone."""
    noise = noises.standard_normal(jax.random.key(seed), params)
    return jax.tree.map(lambda leaf, eps: leaf + sigma.astype(leaf.dtype) * eps, params, noise)


def evaluate(
    run: Run,
    data: Any,
    members: Members,
    carries: Carry,
    placement: Placement,
    groups: int | None = None,
) -> tuple[Evaluation, Carry]:
    """Evaluate every member: leaves (N, ...) of evaluations and carries.

    All on the same data, or, with G groups, each group of units / G units on its own (leading axis
    of G).

    Raises:
      InputError: where the units cannot be divided into so many groups.
    """
    units = members.units
    if groups is not None and units % groups:
        kind = "antithetic pairs" if members.width == 2 else "members"
        raise reject("groups", groups, f"does not divide {units} {kind}", "give a number that does")
    rows = jax.tree.map(lambda leaf: leaf.reshape(units, members.width, *leaf.shape[1:]), carries)
    own_data = data if groups is None else jax.tree.map(lambda leaf: leaf[0], data)
    unit = _trace(run, members, own_data, jax.tree.map(lambda leaf: leaf[0], rows))
    at_once = placement.at_once(units, unit.unit_bytes)
    cut = layout(units, groups or 1, at_once, placement.devices)
    at_once = cut.groups_in_block * cut.units_in_block
    predicted = placement.copies * (unit.shared_bytes + at_once * unit.unit_bytes)
    note(Chunk(units, members.width, at_once, placement.devices, predicted))

    def block(shared: Any, index: jax.Array, carry: Carry, group: jax.Array) -> Any:
        """A block of k groups times b units; `group` (k, b) says which."""
        members, data = shared
        draws = _draws(members, index)
        each = jax.vmap(unit.run, in_axes=(None, None, 0, 0))
        if groups is None:
            first = jax.tree.map(lambda leaf: leaf[0], (draws, carry))
            result = each(members, data, *first)
            return jax.tree.map(lambda leaf: leaf[None], result)
        own = jax.tree.map(lambda leaf: leaf[group[:, 0]], data)
        if cut.units_in_block == 1:  # an axis of size 1 inside would make XLA's loops slower
            first = jax.tree.map(lambda leaf: leaf[:, 0], (draws, carry))
            result = jax.vmap(unit.run, in_axes=(None, 0, 0, 0))(members, own, *first)
            return jax.tree.map(lambda leaf: leaf[:, None], result)
        return jax.vmap(each, in_axes=(None, 0, 0, 0))(members, own, draws, carry)

    group = jnp.repeat(jnp.arange(cut.groups, dtype=jnp.int32), cut.group_size)
    blocks = jax.tree.map(cut.split, (jnp.arange(units, dtype=jnp.int32), rows, group))
    results = spread(block, (members, data), blocks, placement, total=False)
    joined = jax.tree.map(cut.join, results)
    return jax.tree.map(lambda leaf: leaf.reshape(members.size, *leaf.shape[2:]), joined)


def combine(members: Members, weights: jax.Array, placement: Placement) -> Params:
    """Sum over the members of weights (N, ...) times noise: what `members.weigh` makes of it."""
    units = members.units
    draw = jax.eval_shape(lambda: members.draw(jnp.asarray(0, jnp.int32)))
    # A draw, the random words it is made of, and its product with the weights.
    cut = layout(units, 1, placement.at_once(units, 3 * cost.tree_bytes(draw)), placement.devices)

    def block(members: Members, index: jax.Array, weights: jax.Array, valid: jax.Array) -> Params:
        own = jnp.where(valid[0].reshape(-1, *[1] * (weights.ndim - 2)), weights[0], 0)
        return members.weigh(jax.tree.map(lambda leaf: leaf[0], _draws(members, index)), own)

    rows = weights.reshape(units, members.width, *weights.shape[1:])
    index = jnp.arange(units, dtype=jnp.int32)
    # What only fills up the last block is a copy of the first unit, and must add nothing.
    valid = jnp.arange(cut.padded_size) < units
    blocks = (cut.split(index), cut.split(rows), valid.reshape(cut.blocks, 1, -1))
    return spread(block, members, blocks, placement, total=True)


def _draws(members: Members, index: jax.Array) -> Any:
    """Draws of units (k, b), made in a loop of two turns.

    XLA would otherwise fuse the making of noise into every operation that reads it, and make it
    anew for each element of the result; across a loop it does not.
    """
    flat = index.reshape(-1)
    half = -(-flat.size // 2)
    turns = jnp.pad(flat, (0, 2 * half - flat.size)).reshape(2, half)
    draws = jax.lax.map(jax.vmap(members.draw), turns)
    return jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: flat.size].reshape(
            *index.shape, *leaf.shape[2:]
        ),
        draws,
    )


class Unit(NamedTuple):
    """The program that evaluates one unit, traced once."""

    run: Callable[[Members, Any, Any, Carry], tuple[Evaluation, Carry]]
    shared_bytes: int
    unit_bytes: int


def _trace(run: Run, members: Members, data: Any, carry: Carry) -> Unit:
    def unit(members: Members, data: Any, draw: Any, carry: Carry) -> Any:
        return members.evaluate(partial(run, data), draw, carry)

    draw = jax.eval_shape(lambda: members.draw(jnp.asarray(0, jnp.int32)))
    # By shapes alone: arrays would bring the devices that they are on, and it runs on each of them.
    arguments = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)),
        (members, data, draw, carry),
    )
    program, shapes = jax.make_jaxpr(unit, return_shape=True)(*arguments)
    leaves = jax.tree.leaves((members, data))
    shared, own = memory.peak(program.jaxpr, range(len(leaves), len(program.jaxpr.invars)))

    def again(*arguments: Any) -> Any:
        results = jaxpr_as_fun(program)(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return Unit(again, shared, own)


def _single(run: Callable[[Params, Carry], Any], params: Params, carry: Carry) -> Any:
    own = jax.tree.map(lambda leaf: leaf[0], carry)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], run(params, own))


def _weighted_sum(batched: Params, weights: jax.Array) -> Params:
    return jax.tree.map(
        lambda leaf: jnp.tensordot(weights.astype(leaf.dtype), leaf, axes=1), batched
    )
