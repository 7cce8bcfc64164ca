"""Graph processors between encoders and decoders that follow from a task's specification alone."""

from evojax_nar.models.graph.attention import GAT, GATv2
from evojax_nar.models.graph.base import GraphModel
from evojax_nar.models.graph.discrete import DiscreteMPNN
from evojax_nar.models.graph.memory_network import Memnet
from evojax_nar.models.graph.message_passing import MPNN, PGN, DeepSets
from evojax_nar.models.graph.triplets import TripletMPNN

__all__ = [
    "GAT",
    "MPNN",
    "PGN",
    "DeepSets",
    "DiscreteMPNN",
    "GATv2",
    "GraphModel",
    "Memnet",
    "TripletMPNN",
]
