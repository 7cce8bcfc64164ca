"""Members to evaluations, weights to summed noise. This is the one file that knows devices.

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
from typing import Any, final

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, PartitionSpec

from evojax_nar import noise as noises
from evojax_nar.errors import positive_int, reject
from evojax_nar.noise import Noise
from evojax_nar.types import Carry, Evaluation, Key, Params

Run = Callable[[Any, Params, Carry], tuple[Evaluation, Carry]]


@final
@dataclass(frozen=True)
class Placement:
    """Where a population is evaluated.

    Args:
      mesh: devices that share the units; None for one. Its axes must be of type Auto.
      axis: the mesh axis that the units are divided over.
      chunk: units evaluated at once on a device; None for all of them.

    Raises:
      InputError: for a chunk below 1, or a mesh without that axis or with axes of another type.
    """

    mesh: Mesh | None = None
    axis: str = "members"
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.chunk is not None:
            positive_int("chunk", self.chunk)
        if self.mesh is not None and self.axis not in self.mesh.axis_names:
            names = ", ".join(map(str, self.mesh.axis_names))
            raise reject("axis", self.axis, "is not an axis of the mesh", f"it has {names}")
        if self.mesh is not None and any(kind != AxisType.Auto for kind in self.mesh.axis_types):
            kinds = tuple(kind.name for kind in self.mesh.axis_types)
            remedy = "make it with jax.make_mesh(..., axis_types=(AxisType.Auto,))"
            raise reject("mesh.axis_types", kinds, "are not all Auto", remedy)

    @property
    def devices(self) -> int:
        """How many devices share the units."""
        return 1 if self.mesh is None else self.mesh.shape[self.axis]


LOCAL = Placement()
"""One device, the whole population at once."""


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
        """The member with + and the member with -, as two calls that share the draw."""
        results = []
        for row, sign in enumerate((1.0, -1.0)):
            own = jax.tree.map(lambda leaf, row=row: leaf[row], carry)
            noise = noises.scale(draw, sign * self.sigma)
            results.append(noises.perturbed(run)(self.centre, noise, own))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    def weigh(self, draws: Any, weights: jax.Array) -> Params:
        """Sum over pairs of (weight of + less weight of -) times the pair's unit noise."""
        return noises.weigh(self.centre, draws, weights[:, 0] - weights[:, 1])


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
    run: Run, data: Any, members: Members, carries: Carry, placement: Placement
) -> tuple[Evaluation, Carry]:
    """Evaluate every member on the same data: leaves (N, ...) of evaluations and carries."""

    def chunk(shared: tuple[Members, Any], index: jax.Array, carry: Carry) -> Any:
        members, data = shared
        draws = jax.vmap(members.draw)(index)
        return jax.vmap(
            lambda draw, own: members.evaluate(partial(run, data), draw, own),
        )(draws, carry)

    rows = jax.tree.map(
        lambda leaf: leaf.reshape(members.units, members.width, *leaf.shape[1:]), carries
    )
    results = _spread(chunk, (members, data), members.units, rows, placement, total=False)
    return jax.tree.map(lambda leaf: leaf.reshape(members.size, *leaf.shape[2:]), results)


def combine(members: Members, weights: jax.Array, placement: Placement) -> Params:
    """Sum over the members of weights (N, ...) times noise: what `members.weigh` makes of it."""

    def chunk(members: Members, index: jax.Array, weights: jax.Array) -> Params:
        return members.weigh(jax.vmap(members.draw)(index), weights)

    rows = weights.reshape(members.units, members.width, *weights.shape[1:])
    return _spread(chunk, members, members.units, rows, placement, total=True)


def _spread(
    work: Callable[[Any, jax.Array, Any], Any],
    shared: Any,
    units: int,
    rows: Any,
    placement: Placement,
    *,
    total: bool,
) -> Any:
    """Run `work(shared, index (C,), rows (C, ...))` over all units, chunk by chunk, on all devices.

    Results are stacked (units, ...), or summed over units where `total`. Units that only fill up
    the last chunk repeat unit 0, with rows of zeros for a total, to which they so add nothing.
    """
    per_device = -(-units // placement.devices)
    chunk = min(placement.chunk or per_device, per_device)
    chunks = -(-per_device // chunk)
    padding = placement.devices * chunks * chunk - units
    index = jnp.pad(jnp.arange(units, dtype=jnp.int32), (0, padding))
    rows = jax.tree.map(lambda leaf: _extend(leaf, padding, zero=total), rows)

    def on_device(shared: Any, index: jax.Array, rows: Any) -> Any:
        split = jax.tree.map(
            lambda leaf: leaf.reshape(chunks, chunk, *leaf.shape[1:]), (index, rows)
        )
        if not total:
            if chunks == 1:
                return work(shared, index, rows)
            results = jax.lax.map(lambda piece: work(shared, *piece), split)
            return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), results)
        if chunks == 1:
            result = work(shared, index, rows)
        else:
            zero = jax.tree.map(
                lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
                jax.eval_shape(
                    lambda piece: work(shared, *piece), jax.tree.map(lambda x: x[0], split)
                ),
            )
            result, _ = jax.lax.scan(
                lambda sums, piece: (jax.tree.map(jnp.add, sums, work(shared, *piece)), None),
                zero,
                split,
            )
        return result if placement.mesh is None else _sum_over(result, placement.axis)

    if placement.mesh is None:
        results = on_device(shared, index, rows)
    else:
        along, copied = PartitionSpec(placement.axis), PartitionSpec()
        # check_vma is off because a user's own scan may start from a carry that does not vary.
        results = jax.shard_map(
            on_device,
            mesh=placement.mesh,
            in_specs=(copied, along, along),
            out_specs=copied if total else along,
            check_vma=False,
        )(shared, index, rows)
    return results if total else jax.tree.map(lambda leaf: leaf[:units], results)


def _sum_over(tree: Any, axis: str) -> Any:
    """Sums over devices as one reduction, whatever the number of leaves."""
    flat, restore = ravel_pytree(tree)
    return restore(jax.lax.psum(flat, axis))


def _extend(rows: jax.Array, padding: int, *, zero: bool) -> jax.Array:
    """`rows` (units, ...) with more of them: zeros, or copies of the first, as keys cannot be 0."""
    if not padding:
        return rows
    shape = (padding, *rows.shape[1:])
    more = jnp.zeros(shape, rows.dtype) if zero else jnp.broadcast_to(rows[:1], shape)
    return jnp.concatenate([rows, more])


def _single(run: Callable[[Params, Carry], Any], params: Params, carry: Carry) -> Any:
    own = jax.tree.map(lambda leaf: leaf[0], carry)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], run(params, own))


def _weighted_sum(batched: Params, weights: jax.Array) -> Params:
    return jax.tree.map(
        lambda leaf: jnp.tensordot(weights.astype(leaf.dtype), leaf, axes=1), batched
    )
