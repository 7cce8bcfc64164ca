"""The base of the tasks of CLRS-30: an algorithm, its inputs, and how answers are judged."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import InputError, positive_int
from evojax_nar.tasks.clrs.batches import run_batch
from evojax_nar.tasks.clrs.machine import Machine, Problem, trace
from evojax_nar.tasks.clrs.probes import Specification
from evojax_nar.tasks.graph import GraphTask
from evojax_nar.tasks.sizes import Sizes, per_example
from evojax_nar.types import Batch, Key, TaskSpec


@dataclass(frozen=True)
class ClrsTask(GraphTask):
    """An algorithm of CLRS-30 on inputs of its sampler.

    Source: Velickovic et al. 2022, arXiv:2205.15659; inputs to train on as in Ibarz et al. 2022,
    arXiv:2209.11142.

    Args:
      train_sizes: problem sizes to train on.
      test_sizes: problem sizes to be judged at.
      hints: whether batches hold what the algorithm shows on its way, to learn from. Those that a
        model is judged on hold the first frame alone, which the inputs decide.
      varied: whether inputs are as varied as those that published models are trained on: random
        places, and edges of random density. Those that a model is judged on never are.
      max_frames: room for no more frames of hints than these, and for one step of a model less;
        None for the most that the algorithm can take, which few inputs ever do. Answers are those
        of the whole run all the same.
    """

    specification: ClassVar[Specification]
    machine: ClassVar[Machine]
    constants: ClassVar[tuple[str, ...]] = ()
    """Hints that stay as they are in every frame: models are given them with the inputs instead."""
    source: ClassVar[str] = "CLRS-30, Velickovic et al. 2022, arXiv:2205.15659"
    train_sizes: Sizes = (4, 7, 11, 13, 16)
    test_sizes: Sizes = (16, 64)
    hints: bool = True
    varied: bool = True
    max_frames: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_frames is not None:
            positive_int("max_frames", self.max_frames, least=2)

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(train_sizes=(4, 5), test_sizes=(5, 8))

    @abc.abstractmethod
    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """The inputs of one example: `size` is traced, `nodes` the static V to pad to."""

    @classmethod
    @abc.abstractmethod
    def replay(cls, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """The inputs of one example of the published splits, as its generator draws them.

        Args:
          random: consumed in the order in which the published generator consumes its own.
          size: the problem size.
        """

    @classmethod
    def nodes(cls, size: int) -> int:
        """V of a problem of `size`."""
        return size

    @property
    def validation(self) -> Self:
        """The same task as it is judged: no hints, and unvaried inputs."""
        return replace(self, hints=False, varied=False)

    @property
    def test(self) -> Self:
        """Likewise."""
        return self.validation

    @property
    def spec(self) -> TaskSpec:
        """Inputs, outputs, hints and the largest training size."""
        largest = max(self.train_sizes)
        given, outputs, shown = self.specification
        inputs = (*given, *(field for field in shown if field.name in self.constants))
        hints = tuple(field for field in shown if field.name not in self.constants)
        return TaskSpec(self.name, inputs, outputs, largest, self.nodes(largest), hints)

    def length(self, size: int) -> int:
        """V of a batch padded to `size`."""
        return self.nodes(size)

    def sample(self, key: Key, size: Any, *, max_size: int, batch: int) -> Batch:
        """`batch` examples of `size` (a number, traced or not, or (B,)), padded to `max_size`.

        Raises:
          InputError: for a size that is known on the host and not from 1 to `max_size`.
        """
        sizes = per_example(size, max_size=max_size, batch=batch)
        keys = jax.random.split(key, batch)
        nodes = self.nodes(max_size)
        inputs = jax.vmap(lambda own, n: self.draw(own, n, nodes))(keys, sizes)
        return self.build(inputs, sizes)

    def build(self, inputs: Mapping[str, jax.Array], sizes: jax.Array) -> Batch:
        """The batch of the algorithm on `inputs` with leaves (B, ...), of these sizes (B,)."""
        return run_batch(
            self.machine,
            inputs,
            sizes,
            hints=self.hints,
            exist=jax.vmap(self.count)(sizes),
            constants=self.constants,
            max_frames=self.max_frames,
        )

    @classmethod
    def count(cls, size: jax.Array) -> jax.Array:
        """`nodes` of a traced size."""
        return size


def run(
    task: type[ClrsTask], inputs: Mapping[str, Any], size: Any = None
) -> tuple[dict[str, jax.Array], dict[str, jax.Array], jax.Array]:
    """Outputs, hints and number of frames of one example: see `clrs.run`."""
    values = {name: jnp.asarray(value) for name, value in inputs.items()}
    wanted = [field.name for field in task.specification.inputs]
    if sorted(values) != sorted(wanted):
        raise InputError(f"inputs has {', '.join(sorted(values))}; give {', '.join(wanted)}.")
    nodes = values["pos"].shape[0]
    problem = Problem(values, jnp.asarray(nodes if size is None else size, jnp.int32))
    done = trace(task.machine, problem, task.machine.frames(nodes))
    return dict(done.outputs), dict(done.hints), done.length
