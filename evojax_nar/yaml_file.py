"""YAML that people write and share: read with a safe loader that refuses what a config never needs.

Scalars follow YAML 1.2, so that `1e7` is a number and `no` is text. Tags, anchors, aliases,
duplicate keys, several documents and numbers that are not finite are refused, each in a sentence.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import yaml

from evojax_nar.errors import reject

MAX_BYTES = 2**20
"""The largest config that is read."""
_MAX_DEPTH = 16
_MAX_DIGITS = 18
_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "int": (r"^[-+]?[0-9]+(?:_[0-9]+)*$", list("-+0123456789")),
    "float": (
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
}


class _Problem(Exception):
    """What is wrong with a document, where, and what to do instead."""

    def __init__(self, mark: yaml.Mark | None, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.mark = mark
        self.problem = problem
        self.remedy = remedy


class _Loader(yaml.SafeLoader):
    """A safe loader with YAML 1.2 scalars and text keys, without references and tags."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _Problem(
                event.start_mark,
                "has an anchor or alias (& or *)",
                "write the value out, or in quotes where it is text",
            )
        if getattr(event, "tag", None) is not None:
            raise _Problem(
                event.start_mark,
                f"has the tag {event.tag!r}",
                "use plain text, numbers, lists and mappings",
            )
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _Problem(
                event.start_mark, f"is nested more than {_MAX_DEPTH} deep", "use fewer levels"
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_settings(self, node: yaml.MappingNode) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag != f"{_TAG}str":
                shown = key_node.value if isinstance(key_node, yaml.ScalarNode) else "[...]"
                raise _Problem(
                    key_node.start_mark,
                    f"has the key {shown}, which is not text",
                    "put it in quotes",
                )
            key = key_node.value
            if key in settings:
                raise _Problem(
                    key_node.start_mark, f"has the key {key!r} twice", "leave one of them out"
                )
            settings[key] = self.construct_object(value_node, deep=True)
        return settings

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        digits = node.value.replace("_", "")
        if len(digits) > _MAX_DIGITS:
            raise _Problem(
                node.start_mark, f"has a number of {len(digits)} digits", "write a smaller one"
            )
        return int(digits)

    def construct_real(self, node: yaml.ScalarNode) -> float | int:
        text = node.value
        value = math.nan if text.lstrip("+-")[:2].lower() in (".i", ".n") else float(text)
        if not math.isfinite(value):
            raise _Problem(
                node.start_mark, f"has {text}, which is not finite", "write a finite number"
            )
        # 2e7 is how people write a whole number of evaluations.
        whole = "e" in text.lower() and value.is_integer() and abs(value) < 10**_MAX_DIGITS
        return int(value) if whole else value


class _Dumper(yaml.SafeDumper):
    """Block style, with lists of scalars on one line; quotes what YAML 1.1 or 1.2 would convert."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_row(self, data: Any) -> yaml.Node:
        flat = all(item is None or isinstance(item, (bool, int, float, str)) for item in data)
        return self.represent_sequence(f"{_TAG}seq", data, flow_style=flat)


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(_pattern), _first)
    _Dumper.add_implicit_resolver(f"{_TAG}{_name}", re.compile(_pattern), _first)
_Loader.add_constructor(f"{_TAG}map", _Loader.construct_settings)
_Loader.add_constructor(f"{_TAG}int", _Loader.construct_whole)
_Loader.add_constructor(f"{_TAG}float", _Loader.construct_real)
_Dumper.add_representer(list, _Dumper.represent_row)
_Dumper.add_representer(tuple, _Dumper.represent_row)


def parse(text: str, argument: str, value: Any) -> Any:
    """The plain value that `text` says.

    Args:
      text: one YAML document.
      argument: what an error calls it.
      value: the value of that argument, such as the file's path.

    Raises:
      InputError: for what is not one document of plain, finite values, naming the line.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except _Problem as problem:
        mark, said, remedy = problem.mark, problem.problem, problem.remedy
    except yaml.reader.ReaderError as error:
        mark, said = None, f"has the character {chr(error.character)!r}"
        remedy = "leave it out, as YAML forbids it"
    except yaml.MarkedYAMLError as error:
        mark, said = error.problem_mark, f"is not YAML ({error.problem})"
        remedy = "correct it"
        if error.context == "expected a single document in the stream":
            said, remedy = "begins a second document", "keep one"
    where = "" if mark is None else f"on line {mark.line + 1} "
    raise reject(argument, value, f"{where}{said}", remedy)


def read(path: str | os.PathLike[str], argument: str = "config") -> Any:
    """The plain value in the file at `path`; see `parse`.

    Raises:
      InputError: for a file that is missing, empty, not UTF-8, over 1 MiB or not plain YAML.
    """
    shown = str(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise reject(argument, shown, "does not exist", "give the path of a YAML file") from None
    except IsADirectoryError:
        raise reject(argument, shown, "is a folder", "give the path of a YAML file") from None
    except ValueError:  # a NUL in the path
        raise reject(argument, shown, "is not a path", "give the path of a YAML file") from None
    if len(data) > MAX_BYTES:
        raise reject(argument, shown, "is over 1 MiB", "give a config of this package")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 at byte {error.start}"
        raise reject(argument, shown, problem, "save the file as UTF-8") from None
    if not text.strip():
        raise reject(argument, shown, "is empty", "give a config of this package")
    return parse(text, argument, shown)


def write(value: Any, path: str | os.PathLike[str], comment: str) -> None:
    """Write `value` to `path` as YAML under one line of comment; whole, or not at all."""
    from evojax_nar.files import write_bytes  # imports jax, which reading does without

    body = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    write_bytes(Path(path), f"# {comment}\n{body}".encode())
