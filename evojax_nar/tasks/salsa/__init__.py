"""SALSA-CLRS: six algorithms on sparse connected graphs, learned from small ones."""

from evojax_nar.tasks.salsa.base import FAMILIES, SalsaTask
from evojax_nar.tasks.salsa.delaunay import Delaunay
from evojax_nar.tasks.salsa.eccentricity import Eccentricity
from evojax_nar.tasks.salsa.erdos_renyi import ErdosRenyi
from evojax_nar.tasks.salsa.families import Family
from evojax_nar.tasks.salsa.independent_set import FastIndependentSet
from evojax_nar.tasks.salsa.searches import SparseBreadthFirstSearch, SparseDepthFirstSearch
from evojax_nar.tasks.salsa.watts_strogatz import WattsStrogatz
from evojax_nar.tasks.salsa.weighted import SparseDijkstra, SparsePrim

__all__ = [
    "ALL",
    "FAMILIES",
    "Delaunay",
    "Eccentricity",
    "ErdosRenyi",
    "Family",
    "FastIndependentSet",
    "SalsaTask",
    "SparseBreadthFirstSearch",
    "SparseDepthFirstSearch",
    "SparseDijkstra",
    "SparsePrim",
    "WattsStrogatz",
]

ALL: tuple[type[SalsaTask], ...] = (
    SparseBreadthFirstSearch,
    SparseDepthFirstSearch,
    SparseDijkstra,
    Eccentricity,
    FastIndependentSet,
    SparsePrim,
)
"""Every algorithm, in the order of the alphabet."""
