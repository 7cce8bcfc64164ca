"""Jobs on Dask workers: each has one result, whatever dies, and nothing is done without need."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import distributed
import pytest

from evojax_nar import cluster
from evojax_nar.errors import InputError
from evojax_nar.files import write_bytes


def job(folder: str, name: str) -> None:
    """Begins where it was left, dies once where its name says so, and writes one result."""
    own = Path(folder) / name.replace("/", "-")
    own.mkdir(exist_ok=True)
    if (own / "result").exists():
        return
    with (own / "begun").open("a") as log:
        log.write(f"{os.getpid()}\n")
    if "wrong" in name:
        raise InputError("width=0 is not allowed; give more.")
    if "flaky" in name and len(begun(own)) < 2:
        raise OSError("the disk was away")
    if "broken" in name:
        raise ZeroDivisionError("by design")
    if not (own / "half").exists():
        write_bytes(own / "half", b"1")
        if "dies" in name:
            os._exit(1)
    time.sleep(0.05)
    # A result that is there is never replaced: opening it for the second time is an error.
    with (own / "result").open("x") as result:
        result.write("1")


def begun(folder: Path) -> list[str]:
    """The processes that have begun a job."""
    log = folder / "begun"
    return log.read_text().split() if log.exists() else []


@pytest.fixture(scope="module")
def address():
    """A scheduler with two workers, as somebody else may have started it."""
    found = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    )
    yield str(found.scheduler_address)
    found.close()


def test_every_job_has_one_result_though_a_worker_dies(address, tmp_path):
    names = [f"parity/lstm/{index}" for index in range(6)] + ["sort/lstm/dies", "sort/mlp/flaky"]
    said: list[str] = []
    outcome = cluster.run_jobs(
        functools.partial(job, str(tmp_path)), names, address=address, watch=said.append
    )
    assert sorted(outcome.finished) == sorted(names)
    assert outcome.failed == {}
    assert all((tmp_path / name.replace("/", "-") / "result").exists() for name in names)
    first, second = begun(tmp_path / "sort-lstm-dies")
    assert first != second
    assert len(begun(tmp_path / "sort-mlp-flaky")) == 2
    ended = [line for line in said if " of 8: " in line]
    assert len(ended) == 8
    assert sum("begins on worker" in line for line in said) >= 8


def test_a_result_that_is_lost_with_its_worker_is_waited_for(tmp_path):
    # The worker is killed with the results of both jobs, while nobody has read the second.
    names = ["a", "b"]

    def busy(sentence: str) -> None:
        if sentence.startswith("1 of 2"):
            until(lambda: all((tmp_path / name / "result").exists() for name in names))
            time.sleep(0.3)  # it is known by now that both are finished
            os.kill(int(begun(tmp_path / "a")[0]), signal.SIGKILL)
            time.sleep(0.7)  # it is known by now that it died, and another takes seconds to start

    run_job = functools.partial(job, str(tmp_path))
    outcome = cluster.run_jobs(run_job, names, workers=1, watch=busy)
    assert sorted(outcome.finished) == names
    assert outcome.failed == {}


def until(met: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it did not become so in time"
        time.sleep(0.01)


def test_what_fails_is_said_and_stops_nothing(address, tmp_path):
    names = ["wrong", "a", "broken", "b"]
    outcome = cluster.run_jobs(functools.partial(job, str(tmp_path)), names, address=address)
    assert sorted(outcome.finished) == ["a", "b"]
    assert outcome.failed == {
        "wrong": "width=0 is not allowed; give more.",
        "broken": "ZeroDivisionError: by design",
    }
    assert len(begun(tmp_path / "wrong")) == 1, "bad input is not tried again"
    assert len(begun(tmp_path / "broken")) == 1 + cluster.RETRIES


def test_after_an_interrupt_only_what_is_missing_is_run(tmp_path):
    names = [f"job-{index}" for index in range(5)]
    run_job = functools.partial(job, str(tmp_path))

    def interrupt(sentence: str) -> None:
        if sentence.startswith("2 of 5"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster.run_jobs(run_job, names, workers=1, watch=interrupt)
    before = {name: begun(tmp_path / name) for name in names}
    done = [name for name in names if (tmp_path / name / "result").exists()]
    assert 2 <= len(done) < 5
    outcome = cluster.run_jobs(run_job, names, workers=1)
    assert sorted(outcome.finished) == names
    for name in names:
        again = begun(tmp_path / name)[len(before[name]) :]
        assert len(again) == (0 if name in done else 1)
    assert not {os.getpid()} & {
        int(process) for name in names for process in begun(tmp_path / name)
    }


def test_an_address_where_nothing_answers_is_one_sentence():
    with pytest.raises(InputError, match=r"cluster='tcp://127.0.0.1:9' does not answer; give the"):
        cluster.run_jobs(print, ["a"], address="tcp://127.0.0.1:9", timeout=1.0)
    with pytest.raises(InputError, match="does not answer"):
        cluster.run_jobs(print, ["a"], address="no such thing", timeout=1.0)


def test_numbers_for_this_machine_are_refused_with_an_address():
    with pytest.raises(InputError, match="workers=2 is for workers of this machine"):
        cluster.run_jobs(print, ["a"], address="tcp://127.0.0.1:9", workers=2)


def test_workers_share_gpus_and_cores(monkeypatch):
    monkeypatch.setattr(cluster, "_cores", lambda: [0, 1, 2, 3, 6])
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 7")
    assert cluster.shares(None, None) == [
        {"CUDA_VISIBLE_DEVICES": "4", "EVOJAX_NAR_CORES": "0,1"},
        {"CUDA_VISIBLE_DEVICES": "7", "EVOJAX_NAR_CORES": "2,3"},
    ]
    with pytest.raises(InputError, match="workers=3 is more than the 2 GPUs; give at most 2"):
        cluster.shares(3, None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert cluster.shares(2, 3) == [{"EVOJAX_NAR_CORES": "0,1,2"}, {"EVOJAX_NAR_CORES": "3,6,0"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert cluster.shares(None, None) == [{"EVOJAX_NAR_CORES": "0,1,2,3,6"}]
    with pytest.raises(InputError, match="threads=6 is more than the 5 cores"):
        cluster.shares(1, 6)
    with pytest.raises(InputError, match="workers=0 is not allowed"):
        cluster.shares(0, None)


def test_a_driver_that_lists_gpus_is_asked(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: one (UUID: a)'\necho '  MIG 1g: two'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cluster.gpus() == ["0"]
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML'\nexit 9\n")
    assert cluster.gpus() == []
