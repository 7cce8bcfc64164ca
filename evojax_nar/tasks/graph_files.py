"""Graphs of a user's own, with names for their nodes: edge lists, CSV files and GraphML.

| ending | one edge | direction |
|---|---|---|
| `.csv`, `.tsv` | a row; a header names `source`, `target` and perhaps `weight` | open |
| `.graphml`, `.xml` | an `edge` element; its weight is the data that a key calls `weight` | said |
| any other | a line `u v` or `u v weight`; from a `#` on the rest is a comment | open |

Where a file does not say it, what reads the graph decides whether edges have a direction.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, final
from xml.parsers import expat

import numpy as np

from evojax_nar.errors import InputError, reject, unknown
from evojax_nar.readers import parse_number, read_rows, read_text

_COLUMNS = ("source", "target", "weight")
_COMMENT = re.compile(r"(?:^|\s)#.*")


@final
@dataclass(frozen=True, eq=False)
class NamedGraph:
    """A graph as it was given: each edge once, in the order of the file.

    Args:
      origin: what errors call it, such as "input='roads.csv'".
      names: of the V nodes, all different.
      edges: (E, 2) int64, from and to, as places in `names`.
      weights: (E,) finite float64; None where edges have none.
      directed: whether edges have a direction; None where the file leaves it open.
    """

    origin: str
    names: tuple[str, ...]
    edges: np.ndarray
    weights: np.ndarray | None
    directed: bool | None


class Edge(NamedTuple):
    """An edge as it was read."""

    source: str
    target: str
    weight: float | None


def read_graph(path: str | os.PathLike[str]) -> NamedGraph:
    """The graph in the file at `path`, read as its ending says: see the table above.

    Nodes are in the order in which the file names them first.

    Raises:
      InputError: for a file that cannot be read, is empty, repeats a node or an edge, lacks a
        column, has a weight that is not a finite number, or weights at some edges alone; for XML
        that declares a document type, since that could hold entities, which are never resolved.
    """
    ending = Path(path).suffix.lower()
    if ending in (".graphml", ".xml"):
        return read_graphml(path)
    return read_csv(path) if ending in (".csv", ".tsv") else read_edge_list(path)


def read_edge_list(path: str | os.PathLike[str]) -> NamedGraph:
    """The graph of a text with an edge a line.

    Raises:
      InputError: as `read_graph` does.
    """
    shown = str(path)
    edges = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        items = _COMMENT.sub("", line).split()
        if not items:
            continue
        if len(items) not in (2, 3):
            problem = f"has {len(items)} items on line {number}"
            raise reject("input", shown, problem, "write two nodes and at most a weight")
        weight = parse_number(shown, number, items[2]) if len(items) == 3 else None
        edges.append(Edge(items[0], items[1], weight))
    return named_graph(f"input={shown!r}", edges)


def read_csv(path: str | os.PathLike[str]) -> NamedGraph:
    """The graph of a table with an edge a row; columns go by name, and others are not looked at.

    Raises:
      InputError: as `read_graph` does.
    """
    shown = str(path)
    rows = read_rows(path)
    if not rows:
        raise reject("input", shown, "has no rows", "give a header and at least one edge")
    header = [cell.strip() for cell in rows[0][1]]
    for column in _COLUMNS:
        if header.count(column) > 1:
            raise reject("input", shown, f"has two columns {column!r}", "leave one of them")
    for column in _COLUMNS[:2]:
        if column not in header:
            remedy = f"begin with a header that names {', '.join(_COLUMNS)}"
            raise reject("input", shown, f"has no column {column!r}", remedy)
    places = [header.index(column) for column in _COLUMNS if column in header]
    edges = []
    for line, row in rows[1:]:
        if len(row) != len(header):
            problem = f"has {len(row)} cells on line {line}"
            raise reject("input", shown, problem, f"give {len(header)}, as in the header")
        source, target, *weight = (row[place].strip() for place in places)
        if not source or not target:
            raise reject(
                "input", shown, f"has no node on line {line}", "name both nodes of an edge"
            )
        number = parse_number(shown, line, weight[0]) if weight else None
        edges.append(Edge(source, target, number))
    return named_graph(f"input={shown!r}", edges)


def read_graphml(path: str | os.PathLike[str]) -> NamedGraph:
    """The graph of a GraphML file; nodes are called by their `id`.

    Raises:
      InputError: as `read_graph` does, and for hyperedges, or anything but one graph whose edges
        all have a direction or all have none.
    """
    text = read_text(path)
    found = _GraphML(str(path))
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = found.doctype
    parser.StartElementHandler = lambda tag, attributes: found.start(
        tag, attributes, parser.CurrentLineNumber
    )
    parser.CharacterDataHandler = found.characters
    parser.EndElementHandler = lambda tag: found.end(tag, parser.CurrentLineNumber)
    try:
        # As text, so that expat takes it for UTF-8, whatever encoding the file may declare.
        parser.Parse(text, True)
    except expat.ExpatError as error:
        problem = f"is not XML ({error})"
        raise reject("input", str(path), problem, "give a GraphML file") from None
    return found.graph()


def named_graph(
    origin: str,
    edges: Iterable[Edge],
    *,
    names: Iterable[str] = (),
    directed: bool | None = None,
) -> NamedGraph:
    """The graph of these edges, checked.

    Args:
      origin: what errors call it.
      edges: at least one.
      names: nodes that come first, whether they have edges or not; others follow as edges do.
      directed: whether edges have a direction; None to leave it open.

    Raises:
      InputError: for no edges, a node or an edge that is repeated, or weights at some edges alone.
    """
    place: dict[str, int] = {}
    for name in names:
        if name in place:
            raise InputError(f"{origin} has the node {name!r} twice; leave one of them")
        place[name] = len(place)
    pairs: dict[tuple[int, int], float | None] = {}
    for source, target, weight in edges:
        ends = (place.setdefault(source, len(place)), place.setdefault(target, len(place)))
        twin = ends if directed is not False else (min(ends), max(ends))
        if twin in pairs:
            raise InputError(
                f"{origin} has the edge {source!r} {target!r} twice; leave one of them"
            )
        pairs[twin] = weight
    if not pairs:
        raise InputError(f"{origin} has no edges; give a graph with at least one")
    weights = list(pairs.values())
    with_weight = [weight for weight in weights if weight is not None]
    if with_weight and len(with_weight) < len(weights):
        raise InputError(
            f"{origin} has weights at {len(with_weight)} of {len(weights)} edges; "
            "give each edge a weight, or none"
        )
    return NamedGraph(
        origin=origin,
        names=tuple(place),
        edges=np.asarray(list(pairs), np.int64),
        weights=np.asarray(with_weight, np.float64) if with_weight else None,
        directed=directed,
    )


class _GraphML:
    """What has been read of a GraphML file so far; its methods are called by the parser."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._directed: bool | None = None
        self._nodes: list[str] = []
        self._edges: list[Edge] = []
        self._weight_key: str | None = None
        self._default: float | None = None
        self._key: dict[str, Any] = {}
        self._ends: tuple[str, str] | None = None
        self._weight: float | None = None
        self._text: list[str] | None = None

    def doctype(self, *_: object) -> None:
        problem = "declares a document type, which could hold entities"
        raise reject("input", self._path, problem, "remove the DOCTYPE")

    def start(self, tag: str, attributes: dict[str, str], line: int) -> None:
        tag = tag.rpartition(":")[2]
        if tag == "key":
            self._key = attributes
        elif tag == "graph":
            self._begin_graph(attributes, line)
        elif tag == "hyperedge":
            self._refuse(line, "a hyperedge", "give edges between two nodes")
        elif tag == "node":
            self._nodes.append(self._get(attributes, "id", tag, line))
        elif tag == "edge":
            self._begin_edge(attributes, line)
        elif (tag == "default" and self._is_weight(self._key)) or (
            tag == "data" and self._ends and attributes.get("key") == self._weight_key
        ):
            self._text = []

    def characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def end(self, tag: str, line: int) -> None:
        tag = tag.rpartition(":")[2]
        if tag in ("default", "data") and self._text is not None:
            number = parse_number(self._path, line, "".join(self._text))
            self._text = None
            if tag == "default":
                self._default = number
            else:
                self._weight = number
        elif tag == "key":
            if self._is_weight(self._key):
                self._weight_key = self._key.get("id")
            self._key = {}
        elif tag == "edge" and self._ends:
            weight = self._default if self._weight is None else self._weight
            self._edges.append(Edge(*self._ends, weight))
            self._ends = None

    def graph(self) -> NamedGraph:
        if self._directed is None:
            raise reject("input", self._path, "has no graph element", "give a GraphML file")
        origin = f"input={self._path!r}"
        known = set(self._nodes)
        for edge in self._edges:
            for name in edge[:2]:
                if name not in known:
                    raise InputError(
                        f"{origin} has an edge at {name!r}, which no node is called; add the node"
                    )
        return named_graph(origin, self._edges, names=self._nodes, directed=self._directed)

    def _begin_graph(self, attributes: dict[str, str], line: int) -> None:
        if self._directed is not None:
            self._refuse(line, "another graph", "give a file with one")
        said = self._get(attributes, "edgedefault", "graph", line)
        if said not in ("directed", "undirected"):
            raise unknown(f"input={self._path!r} edgedefault", said, ("directed", "undirected"))
        self._directed = said == "directed"

    def _begin_edge(self, attributes: dict[str, str], line: int) -> None:
        if attributes.get("directed", str(self._directed).lower()) != str(self._directed).lower():
            self._refuse(line, "an edge unlike the others", "give all edges a direction, or none")
        source, target = (self._get(attributes, end, "edge", line) for end in ("source", "target"))
        self._ends, self._weight = (source, target), None

    @staticmethod
    def _is_weight(key: dict[str, str]) -> bool:
        return key.get("attr.name") == "weight" and key.get("for") in ("edge", "all")

    def _get(self, attributes: dict[str, str], name: str, tag: str, line: int) -> str:
        if name not in attributes:
            self._refuse(line, f"a {tag} without {name!r}", f"give it a {name!r}")
        return attributes[name]

    def _refuse(self, line: int, found: str, remedy: str) -> NoReturn:
        raise reject("input", self._path, f"has {found} on line {line}", remedy)
