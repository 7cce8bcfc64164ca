"""What the command line changes in a config: text to numbers, arms and dotted paths."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evojax_nar import yaml_file
from evojax_nar.errors import InputError, reject, unknown


def number(argument: str, text: str) -> int | float:
    """`text` as a number, whole where it is written so; `1e7` is a whole number.

    Raises:
      InputError: for text that is not one finite number.
    """
    try:
        value = yaml_file.parse(text, argument, text)
    except InputError:
        value = None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise reject(argument, text, "is not a number", "give one such as 20 or 1e7")
    return value


def whole(argument: str, text: str, *, least: int = 0) -> int:
    """`text` as a whole number of at least `least`, or an `InputError`."""
    value = number(argument, text)
    if not isinstance(value, int) or value < least:
        remedy = f"give a whole number of at least {least}"
        raise reject(argument, text, "is not allowed", remedy)
    return value


def choose_arms(
    arms: Mapping[str, Any], names: Sequence[str], strategies: Iterable[str]
) -> dict[str, Any]:
    """The arms called `names`: those of a config, and strategies with their defaults.

    Raises:
      InputError: for a name that neither has, naming the nearest one.
    """
    strategies = list(strategies)
    for name in names:
        if name not in arms and name not in strategies:
            raise unknown("arms", name, {*arms, *strategies})
    return {name: arms.get(name, {"strategy": name}) for name in names}


def assign(config: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of `config` after assignments such as "arms.es.sigma=0.2"; values are YAML.

    Where names with dots in them exist, the longest one that fits is meant.

    Raises:
      InputError: for text without "=", a path through something that is not a mapping, or a
        value that is not plain YAML.
    """
    changed = copy.deepcopy(dict(config))
    for text in assignments:
        path, equals, said = text.partition("=")
        parts = path.strip().split(".")
        if not equals or not all(parts):
            raise reject("set", text, "is not an assignment", "write a.b=value")
        here: Any = changed
        while True:
            key, parts = _next_key(here, parts)
            if not parts:
                break
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                raise reject("set", text, f"goes through {key}={here!r}", "set that key itself")
        here[key] = yaml_file.parse(said, "set", text)
    return changed


def _next_key(here: Mapping[str, Any], parts: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The longest run of `parts` that is a key of `here`, else the first part; and what is left."""
    for count in range(len(parts), 1, -1):
        if (key := ".".join(parts[:count])) in here:
            return key, parts[count:]
    return parts[0], parts[1:]
