"""Components to plain settings and back: what a YAML file can say, nothing to be executed."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from evojax_nar.errors import InputError, unknown

OPAQUE = "opaque"
"""The key under which a setting that only a script can express stands in a saved config."""


class Configurable:
    """Mix-in of frozen dataclasses whose fields are their settings.

    `name` is what the component is called on the command line and in a config.
    """

    name: ClassVar[str]

    def settings(self) -> dict[str, Any]:
        """The settings as plain values: what `name` and these build again is equal to this one."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: plain(getattr(self, field.name)) for field in fields if field.init}


def plain(value: Any) -> Any:
    """`value` as YAML can hold it; what cannot be said there becomes `{"opaque": fingerprint}`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Configurable):
        said, name = value.settings(), getattr(value, "name", None)
        return said if name is None or "name" in said else {"name": name, **said}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, range)) or type(value) is tuple:
        return [plain(item) for item in value]
    return {OPAQUE: fingerprint(value)}


def fingerprint(value: Any) -> str:
    """A short name of an opaque value that stays the same from process to process.

    Functions are named by module, name and the plain values they close over, other objects by
    their representation; addresses are left out.
    """
    return (
        f"{_describe_name(value)}:{hashlib.sha256(_describe(value, 0).encode()).hexdigest()[:16]}"
    )


def _describe_name(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__)


def _describe(value: Any, depth: int) -> str:
    if depth > 8:
        return "..."
    if inspect.isfunction(value):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        inner = [_describe(item, depth + 1) for item in (*cells, *(value.__defaults__ or ()))]
        if value.__name__ == "<lambda>":  # all of a module's share the name
            code = value.__code__
            inner += [code.co_code.hex(), *map(repr, code.co_names), *map(repr, code.co_consts)]
        return f"{value.__module__}.{value.__qualname__}({', '.join(inner)})"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}[{', '.join(_describe(item, depth + 1) for item in value)}]"
    if isinstance(value, Mapping):
        items = [f"{key}={_describe(item, depth + 1)}" for key, item in sorted(value.items())]
        return f"{{{', '.join(items)}}}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.repr]
        said = [f"{name}={_describe(getattr(value, name), depth + 1)}" for name in fields]
        return f"{type(value).__module__}.{type(value).__qualname__}({', '.join(said)})"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def build(kind: str, known: Mapping[str, Callable[..., Any]], name: Any, settings: Any) -> Any:
    """The component of `kind` called `name`, made from plain settings.

    Raises:
      InputError: where the name or a setting is not known, naming the nearest one.
    """
    if name not in known:
        raise unknown(kind, name, known)
    maker = known[name]
    parameters = inspect.signature(maker).parameters
    accepted = [p.name for p in parameters.values() if p.kind is not p.VAR_KEYWORD]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in settings:
            if key not in accepted:
                near = difflib.get_close_matches(str(key), accepted, n=1, cutoff=0.4)
                remedy = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(accepted)}"
                raise InputError(f"{kind}={name!r} has no setting {key!r}; {remedy}")
    missing = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD and p.name not in settings
    ]
    if missing:
        raise InputError(f"{kind}={name!r} needs the setting {missing[0]!r}; give it a value")
    for key, value in settings.items():
        if isinstance(value, Mapping) and OPAQUE in value:
            raise InputError(
                f"{kind}={name!r} has {key}={value[OPAQUE]!r}, which was made in a script; "
                "run that script again, or give the setting as plain values"
            )
    return maker(**settings)
