"""Probes, the arrays of an algorithm's trace, and how each is encoded.

| kind | one entry | at node | at edge | of the graph |
|---|---|---|---|---|
| scalar | a real number | (V,) | (V, V) | () |
| mask | 0 or 1; -1 where it is not judged | (V,) | (V, V) | () |
| mask_one | one-hot over the nodes | (V,) | | |
| categorical | one-hot over k classes | (V, k) | (V, V, k) | (k,) |
| pointer | the index of a node, int32 | (V,) | (V, V) | |
| permutation | a pointer; each node is pointed at once, the first one points at itself | (V,) | | |

All but pointers are in the type of the inputs. Hints have a leading axis of T frames. At nodes that
do not exist everything is 0. Source: Velickovic et al. 2022, arXiv:2205.15659, section 3.
"""

from __future__ import annotations

from typing import NamedTuple

from evojax_nar.types import Field

KINDS = ("scalar", "mask", "mask_one", "categorical", "pointer", "permutation")


class Specification(NamedTuple):
    """What an algorithm reads, answers and shows on the way, in the order of the benchmark."""

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    hints: tuple[Field, ...]


def node(name: str, kind: str, classes: int = 1) -> Field:
    """A probe with one entry a node."""
    return Field(name, kind, classes, "node")


def edge(name: str, kind: str, classes: int = 1) -> Field:
    """A probe with one entry an ordered pair of nodes."""
    return Field(name, kind, classes, "edge")


def graph(name: str, kind: str, classes: int = 1) -> Field:
    """A probe with one entry in all."""
    return Field(name, kind, classes, "graph")


POS = node("pos", "scalar")
"""The place of a node, i / n, by which ties are broken."""
KEY = node("key", "scalar")
PREDECESSOR = node("pred_h", "pointer")
"""A hint of all algorithms on lists: the node before, in the order of the input."""
