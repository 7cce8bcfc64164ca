"""Machines that gradients cannot train: circuits, cellular automata, networks of step units.

`NeuralAutomaton` and the straight-through `StepRNN` are their counterparts with a gradient.
"""

from evojax_nar.models.discrete.base import DiscreteModel
from evojax_nar.models.discrete.lookup_automaton import LookupAutomaton
from evojax_nar.models.discrete.nand_network import NandNetwork
from evojax_nar.models.discrete.neural_automaton import NeuralAutomaton
from evojax_nar.models.discrete.step_rnn import StepRNN
from evojax_nar.models.discrete.ternary_step_rnn import TernaryStepRNN

__all__ = [
    "DiscreteModel",
    "LookupAutomaton",
    "NandNetwork",
    "NeuralAutomaton",
    "StepRNN",
    "TernaryStepRNN",
]
