"""Golden examples: one small example of every task, as readable JSON, to notice any change.

    python tests/golden.py --write

writes tests/golden/ anew; what changed then shows in the diff.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from evojax_nar import tasks
from evojax_nar.types import Graph

FOLDER = Path(__file__).parent / "golden"
KEY = 2026
DIGITS = 5
"""Of a real number; the device's arithmetic may differ in the last ones."""


def path(name: str) -> Path:
    """Where the golden example of a task lies."""
    return FOLDER / f"{name}.json"


def example(name: str) -> dict[str, Any]:
    """The first example that the small setting of a task draws, as plain lists."""
    task: Any = next(cls for cls in tasks.ALL if cls.name == name).example()
    size = task.train_sizes[-1]
    sample = jax.jit(lambda key: task.sample(key, size, max_size=size, batch=1))
    batch = jax.device_get(sample(jax.random.key(KEY)))
    found: dict[str, Any] = {"settings": task.settings(), "size": size}
    if isinstance(batch.inputs, Graph):
        found["inputs"] = {key: plain(value[0]) for key, value in batch.inputs.values.items()}
        found["targets"] = {key: plain(value[0]) for key, value in batch.targets.items()}
        found["steps"] = int(batch.inputs.running.sum())
        steps = min(found["steps"], len(batch.inputs.running))
        found["last_hints"] = {
            key: plain(value[min(steps, len(value) - 1), 0])
            for key, value in batch.inputs.hints.items()
        }
        return found
    judged = batch.mask[0]
    found["inputs"] = plain(batch.inputs.values[0])
    found["targets"] = plain(batch.targets[0])
    found["judged"] = np.flatnonzero(judged).tolist()
    return found


def plain(array: Any) -> Any:
    """An array as numbers that a person can read: whole ones without a point."""
    values = np.asarray(array, np.float64)
    rounded = np.round(values, DIGITS).tolist()

    def short(value: Any) -> Any:
        if isinstance(value, list):
            return [short(item) for item in value]
        return int(value) if float(value).is_integer() else value

    return short(rounded)


def dumps(found: dict[str, Any]) -> str:
    """JSON with one row of an array a line."""

    def show(value: Any, depth: int) -> str:
        space = "  " * (depth + 1)
        if isinstance(value, dict):
            rows = [f"{space}{json.dumps(k)}: {show(v, depth + 1)}" for k, v in value.items()]
            return "{\n" + ",\n".join(rows) + "\n" + "  " * depth + "}" if rows else "{}"
        if isinstance(value, list) and any(isinstance(item, list) for item in value):
            return (
                "[\n"
                + ",\n".join(space + json.dumps(v) for v in value)
                + "\n"
                + ("  " * depth + "]")
            )
        return json.dumps(value)

    return show(found, 0) + "\n"


def names() -> list[str]:
    """The tasks that draw the same on every machine."""
    return [cls.name for cls in tasks.ALL if cls.reproducible]


def main() -> None:
    """Write all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", required=True)
    parser.add_argument("names", nargs="*")
    for name in parser.parse_args().names or names():
        path(name).parent.mkdir(parents=True, exist_ok=True)
        path(name).write_text(dumps(example(name)), encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
