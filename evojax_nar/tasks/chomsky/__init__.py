"""The suite of Deletang et al. 2023, "Neural Networks and the Chomsky Hierarchy": fifteen tasks."""

from evojax_nar.tasks.chomsky.binary import BinaryAddition, BinaryMultiplication, ComputeSqrt
from evojax_nar.tasks.chomsky.brackets import ModularArithmeticBrackets, SolveEquation
from evojax_nar.tasks.chomsky.rearrange import (
    BucketSort,
    DuplicateString,
    MissingDuplicateString,
    OddsFirst,
    ReverseString,
)
from evojax_nar.tasks.chomsky.regular import (
    CycleNavigation,
    EvenPairs,
    ModularArithmetic,
    ParityCheck,
)
from evojax_nar.tasks.chomsky.stack import StackManipulation
from evojax_nar.tasks.sequence import SequenceTask

__all__ = [
    "ALL",
    "BinaryAddition",
    "BinaryMultiplication",
    "BucketSort",
    "ComputeSqrt",
    "CycleNavigation",
    "DuplicateString",
    "EvenPairs",
    "MissingDuplicateString",
    "ModularArithmetic",
    "ModularArithmeticBrackets",
    "OddsFirst",
    "ParityCheck",
    "ReverseString",
    "SolveEquation",
    "StackManipulation",
]

ALL: tuple[type[SequenceTask], ...] = (
    EvenPairs,
    ModularArithmetic,
    ParityCheck,
    CycleNavigation,
    StackManipulation,
    ReverseString,
    ModularArithmeticBrackets,
    SolveEquation,
    DuplicateString,
    MissingDuplicateString,
    OddsFirst,
    BinaryAddition,
    BinaryMultiplication,
    ComputeSqrt,
    BucketSort,
)
"""Every task of the suite, from regular over context-free to context-sensitive."""
