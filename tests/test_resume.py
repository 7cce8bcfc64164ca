"""A killed and resumed run ends as the one that was not, bit by bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

RUN = """
import sys
import optax
import evojax_nar as nar

out, resume, checkpoint_seconds = sys.argv[1], sys.argv[2] == "resume", float(sys.argv[3])
nar.compare(
    nar.tasks.Parity(train_sizes=range(1, 4), test_sizes=(3, 5)),
    nar.models.GRU(hidden=3),
    {
        "adam": nar.Arm(nar.strategies.Gradient(optax.adam(1e-2)), batch=8),
        "ga": nar.Arm(nar.strategies.GeneticAlgorithm(population=8, elites=2), batch=8),
        "es": nar.Arm(nar.strategies.ES(population=8), batch=8),
    },
    seeds=2,
    budget=nar.Budget(generations=80),
    evaluation_examples=16,
    out=out,
    resume=resume,
    checkpoint_seconds=checkpoint_seconds,
    progress=False,
)
"""
TIMES = ("device_seconds", "compile_seconds")


def start(folder: Path, cache: Path, mode: str, checkpoint_seconds: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PLATFORMS": "cpu"}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), mode, str(checkpoint_seconds)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return errors


def kill_when(process: subprocess.Popen[str], file: Path, lines: int) -> None:
    """Kill -9 as soon as `file` has so many lines."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        if file.exists() and file.read_text().count("\n") >= lines:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def what_a_run_left(folder: Path) -> dict[str, object]:
    """Every parameter and metric of a run, without the times."""
    found: dict[str, object] = {}
    for path in sorted(folder.glob("arms/*/seed-*/deployed.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                found[f"{path.relative_to(folder)}:{name}"] = arrays[name].tobytes()
    for path in sorted(folder.glob("arms/*/seed-*/metrics.jsonl")):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for record in records:
            assert record.pop("device_seconds") >= 0
        found[str(path.relative_to(folder))] = records
    results = json.loads((folder / "results.json").read_text())
    for arm in results["arms"]:
        for seed in arm["seeds"]:
            seed["cost"] = {k: v for k, v in seed["cost"].items() if k not in TIMES}
            del seed["curve"]
        found[f"results of {arm['name']}"] = arm["seeds"]
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    finish(start(folder, cache, "fresh", 0.0))
    return what_a_run_left(folder)


def test_killed_before_the_first_checkpoint(
    tmp_path: Path, cache: Path, uninterrupted: dict[str, object]
) -> None:
    folder = tmp_path / "run"
    kill_when(
        start(folder, cache, "fresh", 1e9), folder / "arms/adam/seed-0/metrics.jsonl", lines=3
    )
    assert not any(p.is_dir() and p.name.isdigit() for p in folder.rglob("checkpoints/*/*"))
    finish(start(folder, cache, "resume", 1e9))
    assert what_a_run_left(folder) == uninterrupted


def test_killed_twice_within_arms(
    tmp_path: Path, cache: Path, uninterrupted: dict[str, object]
) -> None:
    folder = tmp_path / "run"
    kill_when(
        start(folder, cache, "fresh", 0.0), folder / "arms/adam/seed-1/metrics.jsonl", lines=7
    )
    kill_when(
        start(folder, cache, "resume", 0.0), folder / "arms/es/seed-0/metrics.jsonl", lines=21
    )
    newest = max(folder.glob("arms/es/checkpoints/*/*"), key=lambda path: path.stat().st_mtime)
    damaged = [path for path in newest.rglob("*") if path.is_file() and path.stat().st_size > 40]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:20])
    errors = finish(start(folder, cache, "resume", 0.0))
    assert f"checkpoint {newest.name} is damaged" in errors
    assert what_a_run_left(folder) == uninterrupted
