"""Devices of one process or of many: a mesh over all of them, and a placement on it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from evojax_nar.errors import positive_int, reject
from evojax_nar.placement import Placement

AXIS = "members"
"""The mesh axis that units are divided over."""


def mesh(count: int | None = None) -> Mesh:
    """A mesh with one axis, "members", over the devices of all processes.

    Args:
      count: the first so many devices instead; for a single process.

    Raises:
      InputError: for more devices than there are, or a count where there are several processes.
    """
    devices = jax.devices()
    if count is not None:
        positive_int("count", count)
        if count > len(devices):
            raise reject("count", count, f"is more than the {len(devices)} devices", "give fewer")
        if jax.process_count() > 1:
            raise reject("count", count, "would leave out a process", "leave it out instead")
        devices = devices[:count]
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def placement(chunk: Any = "auto", *, count: int | None = None) -> Placement:
    """A population spread over `mesh(count)`.

    Args:
      chunk: units evaluated at once on a device; see `Placement`.
      count: as in `mesh`.

    Raises:
      InputError: as `mesh` and `Placement`.
    """
    return Placement(mesh(count), AXIS, chunk)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def everywhere(tree: Any, mesh: Mesh) -> Any:
    """Arrays that this process holds, and every other holds alike, on every device of the mesh."""
    sharding = replicated(mesh)
    devices = sorted(sharding.addressable_devices, key=lambda device: device.id)

    def put(leaf: jax.Array) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        copies = [jax.device_put(leaf, device) for device in devices]
        return jax.make_array_from_single_device_arrays(leaf.shape, sharding, copies)

    return jax.tree.map(put, tree)


def here(tree: Any) -> Any:
    """Replicated arrays as arrays on one device of this process."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
