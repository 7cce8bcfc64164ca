"""Search spaces of arms, as the config of a study says them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evojax_nar.errors import InputError, reject, unknown
from evojax_nar.spaces import Axis, Choice, Linear, Log, Space

_KINDS = {"log": Log, "linear": Linear}


def spaces(said: Any, arms: Mapping[str, Any]) -> dict[str, Space]:
    """Spaces by arm, from mappings of paths to `{log: [low, high]}`, `linear` or `choice`.

    Raises:
      InputError: for an arm that the study has not, or what is no axis.
    """
    if not isinstance(said, Mapping):
        raise reject("tuning.spaces", said, "is not a mapping", "write one arm a line")
    for name in said:
        if name not in arms:
            raise unknown("tuning.spaces", name, arms)
    return {
        name: {str(path): _axis(f"tuning.spaces.{name}.{path}", own) for path, own in axes.items()}
        for name, axes in said.items()
    }


def _axis(where: str, said: Any) -> Axis:
    remedy = "write {log: [low, high]}, {linear: [low, high]} or {choice: [...]}"
    if not isinstance(said, Mapping) or len(said) != 1:
        raise reject(where, said, "is not an axis", remedy)
    [(kind, values)] = said.items()
    if kind == "choice" and isinstance(values, list):
        return Choice(tuple(values))
    if kind not in _KINDS or not isinstance(values, list) or len(values) != 2:
        raise reject(where, said, "is not an axis", remedy)
    try:
        return _KINDS[kind](*values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
