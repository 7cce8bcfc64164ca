"""Strategies that learn of a long unroll segment by segment without bias: see `unroll`."""

from evojax_nar.strategies.unrolled.nres import NRES
from evojax_nar.strategies.unrolled.pes import PES

__all__ = ["NRES", "PES"]
