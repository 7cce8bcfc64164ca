"""The trainer over a mesh of devices and processes, without the trainer knowing.

Only the program of an epoch runs on the mesh. Between epochs everything is on one device of each
process, where the trainer judges, counts and saves as ever; what the processes could see
differently, they ask the first one.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from evojax_nar.devices import everywhere, here, replicated
from evojax_nar.evaluator import Evaluator, Judged
from evojax_nar.placement import Placement
from evojax_nar.processes import first
from evojax_nar.tally import Tally
from evojax_nar.trainer import Group, Progress
from evojax_nar.types import Key, Params


class SpreadEvaluator(Evaluator):
    """An evaluator whose validation is that of the first process, since decisions hang on it."""

    def in_distribution(self, params: Params, *, examples: int, key: Key) -> Judged:
        """As `Evaluator.in_distribution`."""
        judged = super().in_distribution(params, examples=examples, key=key)
        return Judged(*(np.asarray(row) for row in first(lambda: [x.tolist() for x in judged])))


class SpreadGroup(Group):
    """The programs of an arm, run on the mesh of the placement, if it has one."""

    def compile(self, count: int) -> Any:
        """As `Group.compile`; what runs takes and gives arrays of one device."""
        program = super().compile(count)
        mesh = self.settings.placement.mesh
        return program if mesh is None else program._replace(run=OnMesh(program.run, mesh))

    def allowed(self, tally: Tally, replay: int | None) -> int:
        """As `Group.allowed`, by the clock of the first process."""
        return first(lambda: super(SpreadGroup, self).allowed(tally, replay))

    def _epoch(
        self, placement: Placement, key: Key, progress: Progress, limit: jax.Array
    ) -> tuple[Progress, Any]:
        mesh = placement.mesh
        if mesh is None:
            return super()._epoch(placement, key, progress, limit)
        # What leaves the program must be whole on each process, whatever XLA divided inside.
        progress = jax.lax.with_sharding_constraint(progress, replicated(mesh))
        results = super()._epoch(placement, key, progress, limit)
        return jax.lax.with_sharding_constraint(results, replicated(mesh))


class OnMesh:
    """A compiled program over a mesh, for arguments and results on one device.

    Args:
      program: compiled; its arguments and results are replicated.
      mesh: what it was compiled for.
    """

    def __init__(self, program: Any, mesh: Mesh) -> None:
        self._program = program
        self._mesh = mesh

    def __call__(self, *arguments: Any) -> Any:
        """Run it to its end: programs of one and of several devices are never in flight at once."""
        ready = jax.block_until_ready(arguments)
        results = self._program(*everywhere(ready, self._mesh))
        return here(jax.block_until_ready(results))

    def memory_analysis(self) -> Any:
        """Of the program, on one of its devices."""
        return self._program.memory_analysis()
