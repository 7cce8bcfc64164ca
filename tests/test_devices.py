"""Many devices and many processes find what one device finds, and a run moves between them."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax_nar as nar
from evojax_nar import processes

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
PATIENCE = 900.0
"""Seconds after which a process counts as hanging."""
ROUNDING = 1e-5
GENERATIONS = 40
RUN = ["--generations", str(GENERATIONS), "--checkpoint-seconds", "0"]

pytestmark = pytest.mark.usefixtures("quick_compile")


# One process with eight devices.


@pytest.fixture(scope="module")
def eight() -> dict[str, Any]:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    environment.pop("XLA_FLAGS", None)
    done = subprocess.run(
        [sys.executable, str(HERE / "on_eight_devices.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert found["devices"] == 8
    return found


def test_devices_and_chunks_change_rounding_alone(eight: dict[str, Any]) -> None:
    rows = eight["differences"]
    assert {row["devices"] for row in rows} == {1, 2, 4, 8}
    for row in rows:
        assert row["fitness"] < ROUNDING, row
        assert row["estimate"] < ROUNDING, row
    # The sums are made in another order, so they should not all be the same to the last bit.
    assert any(row["estimate"] > 0 for row in rows)


def test_a_generation_exchanges_one_estimate_and_a_few_numbers_a_member(
    eight: dict[str, Any],
) -> None:
    generation = eight["generation"]
    exchanged = [tuple(pair) for pair in generation["exchanged"]]
    estimate = ("all-reduce", generation["parameters"])
    assert exchanged.count(estimate) == 1
    exchanged.remove(estimate)
    # A loss, a score and metrics of every member, and of those that fill up the last chunks.
    assert max(size for _, size in exchanged) < generation["parameters"]
    assert sum(size for _, size in exchanged) <= 8 * generation["population"]
    assert generation["whole"], "state and Info are whole on every device"


# Meshes and placements.


def test_a_mesh_is_over_all_devices_or_the_first_of_them() -> None:
    everything = nar.devices.placement()
    assert everything.mesh is not None
    assert everything.devices == jax.device_count()
    assert nar.devices.placement(chunk=3, count=2) == nar.Placement(nar.devices.mesh(2), chunk=3)
    assert list(nar.devices.mesh(2).devices) == jax.devices()[:2]
    with pytest.raises(nar.InputError, match=r"count=99 is more than the \d+ devices"):
        nar.devices.mesh(99)
    with pytest.raises(nar.InputError, match="count=0 is not allowed"):
        nar.devices.placement(count=0)


def test_arrays_go_to_every_device_and_come_back() -> None:
    mesh = nar.devices.mesh(2)
    tree = {"a": jnp.arange(6.0).reshape(2, 3), "key": jax.random.split(jax.random.key(1), 3)}
    spread = nar.devices.everywhere(tree, mesh)
    for leaf in jax.tree.leaves(spread):
        assert leaf.is_fully_replicated
        assert leaf.sharding.device_set == set(mesh.devices)
    back = nar.devices.here(spread)
    np.testing.assert_array_equal(back["a"], tree["a"])
    assert (back["key"] == tree["key"]).all()
    assert all(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(back))


# What the first of several processes says. The exchange itself is that of the runs below.


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Two processes in turn: what the first sends is what the second is given."""
    sent: list[Any] = []

    def broadcast(value: Any) -> Any:
        if jax.process_index() == 0:
            sent.append(value)
            return value
        return sent.pop(0)

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes.multihost_utils, "broadcast_one_to_all", broadcast)
    return sent


def in_turn(monkeypatch: pytest.MonkeyPatch, function: Any) -> list[Any]:
    results = []
    for number in range(2):
        monkeypatch.setattr(jax, "process_index", lambda number=number: number)
        try:
            results.append(function())
        except Exception as error:
            results.append(error)
    return results


def test_every_process_hears_what_the_first_says(
    wire: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter([{"a": [1, 2.5, None]}, "ü" * 3000])
    for wanted in ({"a": [1, 2.5, None]}, "ü" * 3000):
        assert in_turn(monkeypatch, lambda: processes.first(lambda: next(said))) == [wanted] * 2
    arrays = {"a": np.array([[True], [False]]), "b": np.float32(2.5).reshape(()), "c": np.zeros(0)}
    for found in in_turn(monkeypatch, lambda: processes.first_arrays(arrays)):
        jax.tree.map(np.testing.assert_array_equal, found, arrays)
    assert not wire


@pytest.mark.usefixtures("wire")
def test_every_process_fails_where_the_first_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise nar.InputError("out='x' exists already")

    errors = in_turn(monkeypatch, lambda: processes.first(refuse))
    assert [type(error) for error in errors] == [nar.InputError] * 2
    assert {str(error) for error in errors} == {"out='x' exists already"}
    errors = in_turn(monkeypatch, lambda: processes.first(lambda: 1 // 0))
    assert [type(error) for error in errors] == [ZeroDivisionError, RuntimeError]
    assert "the first process failed: integer division" in str(errors[1])


# Two processes on this machine.


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module of the example. What it compiles is kept for the next process that does."""
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.syspath_prepend(str(EXAMPLES))
        yield importlib.import_module("multi_host")


@pytest.fixture(scope="module")
def demonstration(example: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("demonstration")
    return folder, example.main([*RUN, "--out", str(folder)])


def curve(folder: Path) -> list[dict[str, Any]]:
    file = folder / "arms" / "es" / "seed-0" / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def losses(folder: Path) -> np.ndarray:
    return np.array([[point["train_loss"], point["validation_loss"]] for point in curve(folder)])


def test_two_processes_find_what_one_finds(demonstration: Any) -> None:
    folder, differences = demonstration
    for number in range(2):
        assert differences[f"fitness, process {number}"] < ROUNDING
        assert differences[f"estimate, process {number}"] < ROUNDING
    assert differences["deployed centre"] < 1e-4
    np.testing.assert_allclose(losses(folder / "two"), losses(folder / "one"), rtol=1e-4)
    # The first process alone has written, and what it left is a finished run like any other.
    files = [sorted(p.name for p in (folder / run).iterdir()) for run in ("two", "one")]
    assert files[0] == sorted([*files[1], "process-0.npz", "process-1.npz"])
    assert nar.load(folder / "two").arm("es")["seeds"][0]["steps"] == GENERATIONS


def test_a_lost_process_and_a_restart_on_fewer_devices(
    example: Any, demonstration: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    children = example.start(example.parse(RUN), run, 2)  # 2 processes with 2 devices each
    try:
        metrics = run / "arms/es/seed-0/metrics.jsonl"
        deadline = time.monotonic() + PATIENCE
        while not (metrics.exists() and metrics.read_text().count("\n") >= 6):
            assert all(child.poll() is None for child in children), "it ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        children[1].kill()
        # The other one cannot go on, and does not wait for ever.
        assert children[0].wait(timeout=PATIENCE) != 0
    finally:
        for child in children:
            child.kill()
            child.communicate()
    before = curve(run)
    assert before[-1]["stopped"] is None, "it ended before it could be killed"
    shutil.copytree(run, tmp_path / "again")
    options = example.parse([*RUN, "--resume"])
    wanted = losses(demonstration[0] / "one")
    for placement, folder in (
        (nar.devices.placement(chunk=4, count=2), run),
        (nar.Placement(), tmp_path / "again"),
    ):
        resumed = example.train(placement, folder, options)
        assert resumed.entry["steps"] == GENERATIONS
        after = curve(folder)
        assert [point["step"] for point in after] == list(range(1, GENERATIONS + 1))
        # What was counted and measured before stays; only what came after a checkpoint was redone.
        kept = len(before) - 2
        assert after[:kept] == before[:kept]
        np.testing.assert_allclose(losses(folder), wanted, rtol=1e-4)
