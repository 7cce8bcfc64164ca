"""What all tasks on graphs share: their sizes, their specification, and how outputs are judged."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from evojax_nar.errors import InputError
from evojax_nar.settings import Configurable
from evojax_nar.tasks.scoring import frequent, judge
from evojax_nar.tasks.sizes import Sizes, parse
from evojax_nar.types import Batch, Evaluation, GraphOutputs, Key, TaskSpec


@dataclass(frozen=True)
class GraphTask(Configurable, abc.ABC):
    """A task whose inputs, outputs and hints are fields of nodes, of their pairs and of the whole.

    A model is given a `Graph` and gives `GraphOutputs`. Pointers and what is one of the nodes are
    logits over the nodes.
    """

    source: ClassVar[str]
    """Where the task comes from, in one line."""
    reproducible: ClassVar[bool] = True
    """Whether a key draws the same examples on every machine and version of Python."""
    train_sizes: Sizes
    test_sizes: Sizes

    def __post_init__(self) -> None:
        for argument in ("train_sizes", "test_sizes"):
            object.__setattr__(self, argument, parse(argument, getattr(self, argument)))

    @classmethod
    @abc.abstractmethod
    def example(cls) -> Self:
        """A small one."""

    @property
    @abc.abstractmethod
    def spec(self) -> TaskSpec:
        """Inputs, outputs, hints and the largest training size."""

    @abc.abstractmethod
    def length(self, size: int) -> int:
        """V of a batch padded to `size`."""

    @abc.abstractmethod
    def sample(self, key: Key, size: Any, *, max_size: int, batch: int) -> Batch:
        """`batch` examples of `size` (a number, traced or not, or (B,)), padded to `max_size`."""

    def guess(self, batch: Batch) -> GraphOutputs:
        """Outputs without B that fit the targets of `batch` best, without its inputs."""
        return GraphOutputs(frequent(self.spec, batch), {})

    def evaluate(self, outputs: GraphOutputs, batch: Batch) -> Evaluation:
        """Loss, score and metrics: see `scoring.judge`.

        Raises:
          InputError: for outputs that lack a field.
        """
        for field in self.spec.outputs:
            if field.name not in outputs.outputs:
                raise InputError(f"outputs has no {field.name!r}, which {self.name} asks for.")
        return judge(self.spec, outputs, batch)
