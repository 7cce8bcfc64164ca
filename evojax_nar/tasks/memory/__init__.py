"""The tasks of the neural Turing machine, besides copy, which is `tasks.Copy`."""

from evojax_nar.tasks.memory.ngrams import DynamicNGrams, optimum
from evojax_nar.tasks.memory.priority import PrioritySort
from evojax_nar.tasks.memory.recall import AssociativeRecall
from evojax_nar.tasks.memory.repeat_copy import RepeatCopy, RepeatCopyDNC
from evojax_nar.tasks.sequence import SequenceTask

__all__ = [
    "ALL",
    "AssociativeRecall",
    "DynamicNGrams",
    "PrioritySort",
    "RepeatCopy",
    "RepeatCopyDNC",
    "optimum",
]

ALL: tuple[type[SequenceTask], ...] = (
    RepeatCopy,
    RepeatCopyDNC,
    AssociativeRecall,
    DynamicNGrams,
    PrioritySort,
)
"""Every memory task."""
