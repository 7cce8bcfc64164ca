"""Where work on many units is done: in blocks, one after the other, on one or many devices.

This is the one file that knows devices. Work is keyed by unit, never by device, so neither the
number of devices nor the size of a block changes a result beyond rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, final

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, PartitionSpec

from evojax_nar.errors import positive_int, reject, unknown

CACHE = 16 * 2**20
"""Bytes for a chunk on a CPU: about what stays in its caches, where larger chunks are slower."""
SHARE = 0.25
"""Share of the memory of an accelerator for a chunk there."""


@final
@dataclass(frozen=True)
class Placement:
    """Where a population is evaluated.

    Args:
      mesh: devices that share the units; None for one. Its axes must be of type Auto.
      axis: the mesh axis that the units are divided over.
      chunk: units (members, or antithetic pairs) evaluated at once on a device; "auto" for as many
        as `memory` holds, None for all of them.
      memory: bytes for a chunk that is chosen; None for a quarter of what an accelerator has, or
        for 16 MiB on a CPU, where larger chunks leave the caches and are slower.
      copies: programs that run beside each other, such as seeds under vmap; they share `memory`.

    Raises:
      InputError: for a number below 1, or a mesh without that axis or with axes of another type.
    """

    mesh: Mesh | None = None
    axis: str = "members"
    chunk: int | Literal["auto"] | None = "auto"
    memory: int | None = None
    copies: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.chunk, str):
            if self.chunk != "auto":
                raise unknown("chunk", self.chunk, ("auto",))
        elif self.chunk is not None:
            positive_int("chunk", self.chunk)
        if self.memory is not None:
            positive_int("memory", self.memory)
        positive_int("copies", self.copies)
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

    def at_once(self, units: int, unit_bytes: int) -> int:
        """Units that a device takes at once, of `units` that are to be done in all."""
        own = _ceil(units, self.devices)
        if self.chunk is None:
            return own
        if not isinstance(self.chunk, str):
            return min(self.chunk, own)
        memory = default_memory() if self.memory is None else self.memory
        return max(1, min(own, memory // self.copies // max(unit_bytes, 1)))


@final
@dataclass(frozen=True)
class Chunk:
    """How a population was divided, as its program was traced.

    Args:
      units: in all.
      width: members in a unit; 2 for antithetic pairs.
      at_once: units that a device evaluates at once.
      devices: that share them.
      peak_bytes: predicted for a device, what the units share included.
    """

    units: int
    width: int
    at_once: int
    devices: int
    peak_bytes: int

    def __str__(self) -> str:
        kind = "antithetic pairs" if self.width == 2 else "members"
        text = f"{self.units} {kind}, {self.at_once} at once"
        return text if self.devices == 1 else f"{text} on each of {self.devices} devices"


_chunks: ContextVar[list[Chunk] | None] = ContextVar("chunks", default=None)


@contextlib.contextmanager
def recording() -> Iterator[list[Chunk]]:
    """Collects how populations are divided whose programs are traced inside."""
    found: list[Chunk] = []
    token = _chunks.set(found)
    try:
        yield found
    finally:
        _chunks.reset(token)


def note(chunk: Chunk) -> None:
    """Tell whoever is recording."""
    found = _chunks.get()
    if found is not None:
        found.append(chunk)


LOCAL = Placement()
"""One device, chunks as its memory allows."""


def default_memory() -> int:
    """Bytes for a chunk where nobody says; the same in every process, as its program must be."""
    stats = None if jax.default_backend() == "cpu" else jax.local_devices()[0].memory_stats()
    return CACHE if not stats else int(SHARE * stats["bytes_limit"])


class Layout(NamedTuple):
    """How G groups of equal size are cut into blocks of k groups times b units."""

    groups: int
    group_size: int
    blocks: int
    groups_in_block: int
    """k; 1 where a block holds no more than one group."""
    units_in_block: int
    """b, of each of its groups."""
    padded_groups: int
    padded_size: int

    def split(self, rows: jax.Array) -> jax.Array:
        """Rows (units, ...) as (blocks, k, b, ...). Padding is copies: a key cannot be zero."""
        rows = rows.reshape(self.groups, self.group_size, *rows.shape[1:])
        rows = _extend(rows, 0, self.padded_groups)
        rows = _extend(rows, 1, self.padded_size)
        shape = (self.blocks, self.groups_in_block, self.units_in_block)
        return rows.reshape(*shape, *rows.shape[2:])

    def join(self, rows: jax.Array) -> jax.Array:
        """The inverse of `split`."""
        rows = rows.reshape(self.padded_groups, self.padded_size, *rows.shape[3:])
        rows = rows[: self.groups, : self.group_size]
        return rows.reshape(self.groups * self.group_size, *rows.shape[2:])


def layout(units: int, groups: int, at_once: int, devices: int) -> Layout:
    """Blocks of at most `at_once` units, as many for each device, as equal as can be."""
    size = units // groups
    if groups == 1:
        pieces = devices * _ceil(_ceil(size, devices), at_once)
        k, padded = 1, 1
    else:
        pieces = _ceil(size, at_once)
        own = _ceil(groups, devices)
        turns = _ceil(own, max(1, at_once // size))
        k = _ceil(own, turns) if pieces == 1 else 1
        padded = _ceil(groups, k * devices) * k * devices
    b = _ceil(size, pieces)
    return Layout(groups, size, padded // k * pieces, k, b, padded, b * pieces)


def _ceil(whole: int, part: int) -> int:
    return -(-whole // part)


def spread(
    work: Callable[..., Any], shared: Any, blocks: Any, placement: Placement, *, total: bool
) -> Any:
    """`work(shared, *block)` for all blocks (leading axis), their results stacked or summed.

    Each device does its blocks one after the other. `shared` is the same for all.
    """

    def on_device(shared: Any, blocks: Any) -> Any:
        count = jax.tree.leaves(blocks)[0].shape[0]
        if not total:
            return _each(lambda block: work(shared, *block), blocks, count)
        result = _sum(lambda block: work(shared, *block), blocks, count)
        return result if placement.mesh is None else _sum_over(result, placement.axis)

    if placement.mesh is None:
        return on_device(shared, blocks)
    along, copied = PartitionSpec(placement.axis), PartitionSpec()
    # check_vma is off because a user's own scan may start from a carry that does not vary.
    return jax.shard_map(
        on_device,
        mesh=placement.mesh,
        in_specs=(copied, along),
        out_specs=copied if total else along,
        check_vma=False,
    )(shared, blocks)


def _each(work: Callable[[Any], Any], blocks: Any, count: int) -> Any:
    if count > 1:
        return jax.lax.map(work, blocks)
    return jax.tree.map(lambda leaf: leaf[None], work(_first(blocks)))


def _sum(work: Callable[[Any], Any], blocks: Any, count: int) -> Any:
    if count == 1:
        return work(_first(blocks))
    shapes = jax.eval_shape(work, _first(blocks))
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    step = lambda sums, block: (jax.tree.map(jnp.add, sums, work(block)), None)  # noqa: E731
    return jax.lax.scan(step, zero, blocks)[0]


def _first(blocks: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], blocks)


def _sum_over(tree: Any, axis: str) -> Any:
    """Sums over devices as one reduction, whatever the number of leaves."""
    flat, restore = ravel_pytree(tree)
    return restore(jax.lax.psum(flat, axis))


def _extend(rows: jax.Array, axis: int, size: int) -> jax.Array:
    """`rows` with copies of the first along `axis`, up to `size`."""
    more = size - rows.shape[axis]
    if not more:
        return rows
    first = jax.lax.slice_in_dim(rows, 0, 1, axis=axis)
    shape = (*rows.shape[:axis], more, *rows.shape[axis + 1 :])
    return jnp.concatenate([rows, jnp.broadcast_to(first, shape)], axis)
