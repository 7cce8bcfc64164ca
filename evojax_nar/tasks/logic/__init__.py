"""Logic and rules: truth tables, cellular automata and the addition of numbers."""

from evojax_nar.tasks.logic.addition import (
    AutoregressiveAddition,
    DecimalAddition,
    board_pairs,
)
from evojax_nar.tasks.logic.boolean import AdderTable, MultiplexerTable, ParityTable
from evojax_nar.tasks.logic.decoding import decode
from evojax_nar.tasks.logic.density import DensityClassification
from evojax_nar.tasks.logic.elementary import ElementaryAutomaton, elementary_step
from evojax_nar.tasks.logic.life import GameOfLife, life_step
from evojax_nar.tasks.logic.majority_automaton import classify, gkl_table, radius_three_step
from evojax_nar.tasks.logic.multiplexer import Multiplexer
from evojax_nar.tasks.logic.roll_out import RollOut, roll_out
from evojax_nar.tasks.logic.table import TruthTable
from evojax_nar.tasks.sequence import SequenceTask

__all__ = [
    "ALL",
    "AdderTable",
    "AutoregressiveAddition",
    "DecimalAddition",
    "DensityClassification",
    "ElementaryAutomaton",
    "GameOfLife",
    "Multiplexer",
    "MultiplexerTable",
    "ParityTable",
    "RollOut",
    "TruthTable",
    "board_pairs",
    "classify",
    "decode",
    "elementary_step",
    "gkl_table",
    "life_step",
    "radius_three_step",
    "roll_out",
]

ALL: tuple[type[SequenceTask], ...] = (
    ParityTable,
    MultiplexerTable,
    AdderTable,
    Multiplexer,
    ElementaryAutomaton,
    GameOfLife,
    DensityClassification,
    DecimalAddition,
    AutoregressiveAddition,
)
"""Every task of the family."""
