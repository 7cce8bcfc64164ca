"""Formal languages on which evolved networks were exact, and serial addition."""

from evojax_nar.tasks.formal.addition import SerialAddition
from evojax_nar.tasks.formal.counting import AnBmCnm, AnBn, AnBnCn
from evojax_nar.tasks.formal.dyck import Dyck1
from evojax_nar.tasks.sequence import SequenceTask

__all__ = [
    "ALL",
    "AnBmCnm",
    "AnBn",
    "AnBnCn",
    "Dyck1",
    "SerialAddition",
]

ALL: tuple[type[SequenceTask], ...] = (AnBn, AnBnCn, AnBmCnm, Dyck1, SerialAddition)
"""Every language, and addition."""
