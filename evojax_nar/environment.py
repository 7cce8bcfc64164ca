"""What is written about the machine: an allow-list of versions, device kind and core count."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import jax

PACKAGES = ("evojax-nar", "jax", "jaxlib", "flax", "optax", "evosax", "numpy")


def describe() -> dict[str, Any]:
    """Versions, the kind and number of devices, and cores. No names, paths or variables."""
    device = jax.devices()[0]
    return {
        **{package.replace("-", "_"): version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "system": platform.system(),
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
    }
