"""Recurrent machines with a memory beside the state of their controller."""

from evojax_nar.models.memory.dnc import DNC
from evojax_nar.models.memory.ntm import NTM, NTMLSTM
from evojax_nar.models.memory.stack import StackRNN
from evojax_nar.models.memory.tape import TapeRNN

__all__ = ["DNC", "NTM", "NTMLSTM", "StackRNN", "TapeRNN"]
