"""The jobs of a study on several workers, by Dask: GPUs or cores of this machine, or a cluster.

A job is one Dask task, and what travels is its id and the study's config: workers read and write
the study's folder themselves, so all of them must see it. A job whose worker dies is begun again by
another one, from its checkpoints. So work may be done twice; a result is a file that is written
whole, and who comes second finds it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import platform
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from evojax_nar.errors import InputError, positive_int, reject
from evojax_nar.files import write_bytes

RETRIES = 2
"""How often a job is begun again after an error that is not of its input."""
CONNECT = 15.0
"""Seconds that a scheduler has to answer."""
MARK = ".cluster"
"""A file in the study's folder, by which a worker knows that it sees the same folder."""
HOST = "127.0.0.1"
"""Where workers that are started here listen."""
QUIET = logging.CRITICAL
_CORES = "EVOJAX_NAR_CORES"
_TOPIC = "evojax_nar"
_ALONE = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """What became of the jobs."""

    finished: tuple[str, ...]
    """Ids, in the order in which they were finished."""
    failed: Mapping[str, str]
    """Why the others were not, in one sentence each."""


def run(
    config: Mapping[str, Any],
    out: str | os.PathLike[str],
    *,
    only: Sequence[str] = (),
    address: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    watch: Callable[[str], None] | None = None,
) -> Outcome:
    """Run the jobs of a study on workers, or go on with it. Finished jobs are not run again.

    Args:
      config: of the study, checked (see `study.check`).
      out: folder of the study, which every worker sees under the same path.
      only: patterns of job ids; none for all jobs.
      address: of a Dask scheduler; None to start workers on this machine.
      workers: see `run_jobs`.
      threads: see `run_jobs`.
      watch: see `run_jobs`.

    Raises:
      InputError: as `run_jobs`, and where `out` cannot be written or a pattern matches nothing.
    """
    from evojax_nar import study

    folder = Path(out).resolve()
    names = study.jobs(config, only)
    token = uuid.uuid4().hex
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / MARK, token.encode())
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error})"
        raise reject("out", str(folder), problem, "name another folder") from error
    terms = {"out": str(folder), "token": token, "version": version("evojax-nar")}
    job = functools.partial(_study_job, dict(config), terms)
    return run_jobs(job, names, address=address, workers=workers, threads=threads, watch=watch)


def run_jobs(
    run_job: Callable[[str], None],
    jobs: Sequence[str],
    *,
    address: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    watch: Callable[[str], None] | None = None,
    timeout: float = CONNECT,
) -> Outcome:
    """Run each job on a worker; one that fails does not stop the others.

    A worker runs one job at a time. An interrupt stops the workers that were started here, and
    takes back from a scheduler what its workers have not begun; what they have begun they finish.

    Args:
      run_job: runs one job to its end, and is safe to be run twice. A function of a module that the
        workers can import, or a `functools.partial` of one.
      jobs: ids.
      address: of a Dask scheduler; None to start workers on this machine.
      workers: how many to start here; None for one a GPU, or one where there is none. The jobs of
        workers that share a machine slow each other, so device-seconds are best compared from one.
      threads: cores that each worker started here may use, on Linux; None for an equal share.
      watch: called with a sentence when a job begins or ends; beginnings come from another thread.
      timeout: seconds that the scheduler has to answer.

    Raises:
      InputError: where Dask is not installed, a number is out of range, or nothing answers at
        `address`.
    """
    names = list(dict.fromkeys(jobs))
    say = watch or _silent
    with _client(address, workers, threads, timeout) as client:
        if address is not None and not client.scheduler_info()["workers"]:
            say(f"no worker has joined {address} yet; the jobs wait for the first one")
        return _follow(client, run_job, names, say)


def gpus() -> list[str]:
    """What `CUDA_VISIBLE_DEVICES` may name here, a GPU an entry; empty where JAX uses none.

    The driver is asked, and not JAX, which would take the memory that the workers need.
    """
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return []
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [entry.strip() for entry in named.split(",") if entry.strip() not in ("", "-1")]
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):  # no driver that answers is no GPU to use
        return []
    found = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index, _ in enumerate(found)] if listed.returncode == 0 else []


def shares(workers: int | None, threads: int | None) -> list[dict[str, str]]:
    """The variables of each worker of this machine: its GPU, where there is one, and its cores.

    Raises:
      InputError: for a number out of range.
    """
    devices, cores = gpus(), _cores()
    count = len(devices) or 1 if workers is None else positive_int("workers", workers)
    if devices and count > len(devices):
        problem = f"is more than the {len(devices)} GPUs"
        raise reject("workers", count, problem, f"give at most {len(devices)}")
    each = max(1, len(cores) // count) if threads is None else positive_int("threads", threads)
    if each > len(cores):
        problem = f"is more than the {len(cores)} cores"
        raise reject("threads", threads, problem, f"give at most {len(cores)}")
    found = []
    for index in range(count):
        own = [cores[(index * each + place) % len(cores)] for place in range(each)]
        device = {"CUDA_VISIBLE_DEVICES": devices[index]} if devices else {}
        found.append({_CORES: ",".join(map(str, own)), **device})
    return found


@contextlib.contextmanager
def _client(
    address: str | None, workers: int | None, threads: int | None, timeout: float
) -> Iterator[Any]:
    """A client of the scheduler at `address`, or of workers that live as long as this does."""
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            "a cluster needs Dask; install it with pip install 'evojax-nar[cluster]'"
        ) from error
    with contextlib.ExitStack() as stack:
        if address is not None:
            for name, value in (("workers", workers), ("threads", threads)):
                if value is not None:
                    remedy = "leave it out, or leave out the address of the cluster"
                    raise reject(name, value, "is for workers of this machine", remedy)
            try:
                client = distributed.Client(address, timeout=timeout, set_as_default=False)
            except (OSError, ValueError, TypeError) as error:
                raise reject(
                    "cluster",
                    address,
                    "does not answer",
                    "give the address that `dask scheduler` prints, such as tcp://10.0.0.1:8786",
                ) from error
            yield stack.enter_context(client)
            return
        stack.enter_context(_quiet())
        # Whoever reaches a port of Dask's can run code, so none is open to other machines.
        here = {"host": HOST, "dashboard": False, "dashboard_address": f"{HOST}:0"}
        local = distributed.SpecCluster(
            scheduler={
                "cls": distributed.Scheduler,
                "options": {**here, "port": 0},
            },
            workers={
                index: {
                    "cls": distributed.Nanny,
                    # Dask would pause or kill a worker that takes much memory; the engine plans it.
                    "options": {
                        **here,
                        "nthreads": 1,
                        "memory_limit": 0,
                        "env": own,
                        "silence_logs": QUIET,
                    },
                }
                for index, own in enumerate(shares(workers, threads))
            },
            silence_logs=QUIET,  # type: ignore[arg-type]  # a level, whatever its annotation says
        )
        stack.enter_context(local)
        yield stack.enter_context(distributed.Client(local, set_as_default=False))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Dask logs of its workers from the terminal, whoever else has set up logging."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(QUIET)
    try:
        yield
    finally:
        logger.setLevel(before)


def _follow(
    client: Any, run_job: Callable[[str], None], names: Sequence[str], say: Callable[[str], None]
) -> Outcome:
    """Hand over every job, and wait for all of them."""
    from distributed import as_completed

    token = uuid.uuid4().hex
    topic = f"{_TOPIC}-{token}"

    def begun(event: tuple[float, Any]) -> None:
        say(f"{event[1]['job']} begins on worker {event[1]['place']}")

    client.subscribe_topic(topic, begun)
    futures = {
        client.submit(
            _attempt, run_job, name, topic, key=f"{name}-{token}", pure=False, retries=RETRIES
        ): name
        for name in names
    }
    finished: list[str] = []
    failed: dict[str, str] = {}
    try:
        for future in as_completed(list(futures), loop=client.loop):
            name = futures[future]
            reason = _outcome(future)
            if reason is None:
                finished.append(name)
            else:
                failed[name] = reason
            ended = "is done" if reason is None else f"failed: {reason}"
            say(f"{len(finished) + len(failed)} of {len(names)}: {name} {ended}")
    finally:
        client.cancel(list(futures), force=True)
        client.unsubscribe_topic(topic)
    return Outcome(tuple(finished), {name: failed[name] for name in names if name in failed})


def _outcome(future: Any) -> str | None:
    """None where a task is finished, or why it is not, in a sentence."""
    from distributed import KilledWorker

    # A result may be lost with its worker before it is read: this waits until it is there again.
    try:
        return future.result()
    except CancelledError:
        return "the scheduler has let go of it; run the study again."
    except KilledWorker as error:
        return (
            f"its worker died {error.allowed_failures + 1} times; look at the worker's log, and "
            "give it more memory if that ran out."
        )
    except Exception as error:  # whatever a job raised is why it failed
        return f"{type(error).__name__}: {error}"


def _attempt(run_job: Callable[[str], None], job: str, topic: str) -> str | None:
    """One job, on a worker: None where it is finished, or what is wrong with its input."""
    from distributed import get_worker

    worker = get_worker()
    # A worker with more threads would train several jobs on one device, and time them all wrongly.
    with _ALONE:
        worker.log_event(topic, {"job": job, "place": worker.address.partition("://")[2]})
        _pin()
        try:
            run_job(job)
        except InputError as error:
            return str(error)
    return None


def _study_job(config: dict[str, Any], terms: dict[str, str], job: str) -> None:
    """One job of a study, where the worker has the same folder and the same version."""
    mark = Path(terms["out"]) / MARK
    if not mark.exists() or mark.read_text() != terms["token"]:
        raise InputError(
            f"out={terms['out']!r} is not the same folder on worker {platform.node()!r}; "
            "give one that all workers share"
        )
    if (own := version("evojax-nar")) != terms["version"]:
        raise InputError(
            f"worker {platform.node()!r} has evojax-nar {own} and not {terms['version']}; "
            "install the same version"
        )
    from evojax_nar import study

    try:
        study.run_job(config, job, terms["out"])
    finally:
        # Compiled programs use up the memory maps that a process may have.
        jax.clear_caches()


def _pin() -> None:
    """Keep this thread, and those that JAX starts from it, to the worker's cores."""
    if (cores := os.environ.get(_CORES)) and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _silent(sentence: str) -> None:
    """Say nothing."""
