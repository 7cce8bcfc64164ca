"""What holds for the whole suite: four fake devices, fixed seeds, and no warning of our own."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from pathlib import Path

# The fake devices are those of the CPU, so an accelerator that happens to be there is left alone.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 4)


MOST_MAPS = 30_000
"""Memory maps of the process beyond which compiled programs are dropped: see `forget_programs`."""
_tests: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "error:::evojax_nar")


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """No test depends on the ones before it through numpy's or Python's global generator."""
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Compiled programs are dropped after each module: each takes memory maps, of which a process
    may have 65,530 on Linux, and beyond that the compiler crashes.
    """
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(autouse=True)
def leave_room_for_programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """The same within a long module, before the maps run out."""
    yield
    maps = Path("/proc/self/maps")
    _tests.append(request.node.name)
    if len(_tests) % 20 == 0 and maps.exists():
        with maps.open() as file:
            if sum(1 for _ in file) > MOST_MAPS:
                jax.clear_caches()
                gc.collect()


@pytest.fixture(scope="module")
def quick_compile() -> Iterator[None]:
    """Programs are compiled with few optimisations, for modules that compile many and run each
    of them briefly: it halves their time.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
