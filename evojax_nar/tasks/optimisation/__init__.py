"""Problems of optimisation on graphs, solved on the device: flows and tours."""

from evojax_nar.tasks.graph import GraphTask
from evojax_nar.tasks.optimisation.max_flow import MaxFlow
from evojax_nar.tasks.optimisation.tsp import TravellingSalesman

__all__ = ["ALL", "MaxFlow", "TravellingSalesman"]

ALL: tuple[type[GraphTask], ...] = (MaxFlow, TravellingSalesman)
"""Every problem, in the order of the alphabet."""
