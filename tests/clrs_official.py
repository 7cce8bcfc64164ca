"""Fingerprints of the published splits of CLRS-30: ours against those measured of dm-clrs 2.0.3.

    python tests/clrs_official.py bfs minimum

prints a line a split; all algorithms where none is named. The two string matchers are listed twice:
in the size at which they were published, which counts haystack and needle, and at 16 and 64 nodes,
which the same call gives today.

A fingerprint is the first 64 bits of the SHA-256 of names and values, in float32, of the probes in
the order of the specification.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from evojax_nar.tasks.clrs import official
from evojax_nar.types import Batch, Field

KNOWN = Path(__file__).with_name("clrs_fingerprints.csv")


def rows() -> list[dict[str, str]]:
    """What is known: algorithm, split, size, samples, steps of the longest, and fingerprints."""
    with KNOWN.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fingerprint(fields: Iterable[Field], probes: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for field in fields:
        digest.update(field.name.encode())
        digest.update(np.ascontiguousarray(probes[field.name], np.float32).tobytes())
    return digest.hexdigest()[:16]


def replayed(row: Mapping[str, str]) -> tuple[Any, dict[str, np.ndarray]]:
    """The task of a row, and its inputs."""
    task, split = official.find(row["algorithm"], row["split"])
    return task, official.replay(task, replace(split, size=int(row["size"])))


def solved(row: Mapping[str, str], inputs: Mapping[str, np.ndarray]) -> Batch:
    task, _ = official.find(row["algorithm"], row["split"])
    return official.solve(task(hints=False, varied=False), inputs, int(row["size"]))


def found_for(row: Mapping[str, str]) -> dict[str, str]:
    """What a row should say."""
    task, inputs = replayed(row)
    batch = solved(row, inputs)
    return {
        "samples": str(len(inputs["pos"])),
        "steps": str(int(batch.inputs.running.any(axis=1).sum())),
        "inputs": fingerprint(task.specification.inputs, inputs),
        "outputs": fingerprint(task.specification.outputs, batch.targets),
    }


def main() -> None:
    """Print what is asked for; exit with 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="algorithms; all where none is named")
    options = parser.parse_args()
    wrong = 0
    for row in rows():
        if options.names and row["algorithm"] not in options.names:
            continue
        begin = time.perf_counter()
        found = found_for(row)
        equal = all(found[key] == row[key] for key in found)
        wrong += not equal
        print(
            f"{row['algorithm']:30} {row['split']:5} size {row['size']:>2}",
            *(f"{key} {value}" for key, value in found.items()),
            f"{'equal' if equal else 'DIFFERS'} in {time.perf_counter() - begin:.1f} s",
            flush=True,
        )
    sys.exit(min(wrong, 1))


if __name__ == "__main__":
    main()
