"""Strategies for parameters that are choices: see `evojax_nar/discrete.py`."""

from evojax_nar.strategies.choices.bit_flip import BitFlip
from evojax_nar.strategies.choices.cartesian_gp import CartesianGP
from evojax_nar.strategies.choices.pbil import PBIL
from evojax_nar.strategies.choices.relaxation import Relaxation
from evojax_nar.strategies.choices.umda import UMDA

__all__ = ["PBIL", "UMDA", "BitFlip", "CartesianGP", "Relaxation"]
