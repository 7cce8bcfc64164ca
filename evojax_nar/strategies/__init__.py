"""Training algorithms, one file each, gradients among them. Lower loss is better, everywhere."""

from collections.abc import Callable
from typing import Any

from evojax_nar.settings import build
from evojax_nar.strategies import shaping
from evojax_nar.strategies.base import Base, Example
from evojax_nar.strategies.choices import PBIL, UMDA, BitFlip, CartesianGP, Relaxation
from evojax_nar.strategies.es import ES
from evojax_nar.strategies.evosax_adapter import Evosax
from evojax_nar.strategies.genetic_algorithm import GeneticAlgorithm
from evojax_nar.strategies.gradient import Gradient
from evojax_nar.strategies.hybrid import ConditionalGradient, HandOver
from evojax_nar.strategies.integer_es import IntegerES
from evojax_nar.strategies.optimizer import optimizer
from evojax_nar.strategies.pgpe import PGPE
from evojax_nar.strategies.random_search import RandomSearch
from evojax_nar.strategies.snes import SNES
from evojax_nar.strategies.unrolled import NRES, PES

ALL: tuple[type[Base], ...] = (
    ES,
    SNES,
    PGPE,
    NRES,
    PES,
    Evosax,
    GeneticAlgorithm,
    RandomSearch,
    IntegerES,
    BitFlip,
    PBIL,
    UMDA,
    CartesianGP,
    Relaxation,
    Gradient,
    HandOver,
    ConditionalGradient,
)
"""Every built-in strategy; a name here puts a new one on the command line and under test."""

__all__ = [
    "ALL",
    "ES",
    "NRES",
    "PBIL",
    "PES",
    "PGPE",
    "SNES",
    "UMDA",
    "Base",
    "BitFlip",
    "CartesianGP",
    "ConditionalGradient",
    "Evosax",
    "Example",
    "GeneticAlgorithm",
    "Gradient",
    "HandOver",
    "IntegerES",
    "RandomSearch",
    "Relaxation",
    "get",
    "names",
    "optimizer",
    "shaping",
]


def names() -> list[str]:
    """What strategies are called on the command line."""
    return [strategy.name for strategy in ALL]


def get(name: str, **settings: Any) -> Base:
    """The strategy called `name`, made from plain settings.

    Raises:
      InputError: where the name or a setting is not known.
    """
    known: dict[str, Callable[..., Base]] = {strategy.name: strategy for strategy in ALL}
    return build("strategy", known, name, settings)
