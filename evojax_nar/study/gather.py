"""Many comparisons in one table, whoever ran them: what lies under a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evojax_nar import config as configs
from evojax_nar import environment, stats
from evojax_nar.errors import reject
from evojax_nar.results import load
from evojax_nar.study.table import SCHEMA, row, unequal


def gather(folder: str | Path) -> dict[str, Any]:
    """Every finished comparison under `folder`, in the form of `collect`.

    Runs of equal tasks and models share a table, and what is not equal between their arms stands at
    its top; an arm that a table has already is named after its folder too.

    Raises:
      InputError: where there is none, or one is damaged.
    """
    path = Path(folder)
    files = sorted(path.glob("**/results.json"))
    if not files:
        problem = "holds no finished runs"
        raise reject("run", str(path), problem, "give a folder with results in it")
    rows: list[dict[str, Any]] = []
    names: dict[str, dict[str, str]] = {"task": {}, "model": {}}
    taken: set[tuple[str, str, str]] = set()
    for file in files:
        results = load(file.parent)
        found = stats.summarise(results.data)
        said = configs.load_yaml(file.parent / "config.yaml")
        task, model = (_name(kind, found[kind], names[kind]) for kind in ("task", "model"))
        tuned = found.get("tuning") or {}
        for arm in found["arms"]:
            where = file.parent.relative_to(path).as_posix()
            name = arm["name"]
            if (task, model, name) in taken:
                name = f"{name} ({where})"
            taken.add((task, model, name))
            own = tuned.get(arm["name"])
            terms = own and {key: own[key] for key in ("trials", "budget") if key in own}
            place = {"task": task, "model": model, "arm": name, "multiple": 1, "control": False}
            dtype = said["forward_dtype"]
            rows.append(row(place, found, arm, tuning=own, terms=terms, forward_dtype=dtype))
    return {
        "schema": SCHEMA,
        "title": f"Runs in {path.resolve().name}",
        "config": {"runs": [file.parent.relative_to(path).as_posix() for file in files]},
        "environment": rows[0]["environment"] or environment.describe(),
        "unequal": unequal(rows),
        "rows": rows,
        "missing": [],
    }


def _name(kind: str, entry: Mapping[str, Any], known: dict[str, str]) -> str:
    """A name for a task or model: its own, with a number where the same one has other settings."""
    settings = entry.get("settings")
    key = repr((entry["name"], settings))
    if key not in known:
        same = sum(name.split(" #")[0] == entry["name"] for name in known.values())
        known[key] = entry["name"] if not same else f"{entry['name']} #{same + 1}"
    return known[key]
