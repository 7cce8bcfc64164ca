"""The form of results.json, held against a file that may be damaged or another program's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from evojax_nar.config import check_arm_name
from evojax_nar.errors import InputError

_NUMBER, _MAYBE = "a finite number", "a finite number or null"
_EVALUATION = {"score": _MAYBE, "loss?": _MAYBE, "exact?": _MAYBE, "normalised?": _MAYBE}
_SEED = {
    "seed": int,
    "scores": {"*": (_EVALUATION, None)},
    "in_distribution?": (_EVALUATION, None),
    "readings?": {"*": {"*": ({"score": _MAYBE, "exact?": _MAYBE}, None)}},
    "stopped?": (str, None),
    "cost": {"*": _MAYBE},
    "curve?": [
        {
            "forward_equivalents": _NUMBER,
            "validation_loss?": _MAYBE,
            "validation_score?": _MAYBE,
        }
    ],
}
FORM: dict[str, Any] = {
    "schema": str,
    "task": {"name": str, "train_sizes": [int], "test_sizes": [int]},
    "model": {"name": str, "parameters": int},
    "budget": {"kind": str, "amount": _NUMBER},
    "evaluation": {"examples": int},
    "floors?": {"*": ({"score": _NUMBER, "exact": _NUMBER}, None)},
    "environment?": {},
    "readings?": {"*": {}},
    "notes?": [str],
    "arms": [
        {
            "name": str,
            "strategy": str,
            "settings?": {},
            "batch?": int,
            "gradient_free": bool,
            "seeds": [_SEED],
        }
    ],
}
"""Keys that reports read: a type, a kind of number, a list of one form, alternatives in a tuple, or
a mapping, where `?` ends what may be left out and `*` stands for any key. Others are let be."""


def check_results(data: Any, where: str) -> dict[str, Any]:
    """`data` where it has the form of results.json.

    Args:
      data: what was read from JSON.
      where: what an error calls it.

    Raises:
      InputError: naming the first place that is wrong.
    """
    _check(data, FORM, where, "")
    for arm in data["arms"]:
        check_arm_name(arm["name"])  # it is a folder's name too
        if not arm["seeds"]:
            raise InputError(f"{where} has no seed in arm {arm['name']!r}; run it again")
    if not data["arms"] or not data["task"]["train_sizes"] or not data["task"]["test_sizes"]:
        raise InputError(f"{where} has no arms or no sizes; run it again")
    return data


def _check(value: Any, form: Any, where: str, path: str) -> None:
    if isinstance(form, tuple):
        if value is not None:
            _check(value, form[0], where, path)
    elif isinstance(form, list):
        _require(isinstance(value, list), value, "a list", where, path)
        for place, item in enumerate(value):
            _check(item, form[0], where, f"{path}[{place}]")
    elif isinstance(form, Mapping):
        _require(isinstance(value, dict), value, "a mapping", where, path)
        for key, inner in form.items():
            name = key.rstrip("?")
            if key == "*":
                for other, item in value.items():
                    _check(item, inner, where, f"{path}.{other}")
            elif name in value:
                _check(value[name], inner, where, f"{path}.{name}")
            elif name == key:
                _require(False, None, "there", where, f"{path}.{name}")
    elif isinstance(form, str):
        fits = _is_number(value) or (form == _MAYBE and value is None)
        _require(fits, value, form, where, path)
    else:
        fits = isinstance(value, form) and (form is bool or not isinstance(value, bool))
        _require(fits, value, f"of type {form.__name__}", where, path)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _require(fits: bool, value: Any, wanted: str, where: str, path: str) -> None:
    if not fits:
        shown = repr(value)
        shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
        place = path.lstrip(".") or "all of it"
        raise InputError(f"{where} has {place}={shown} that is not {wanted}; run it again")
