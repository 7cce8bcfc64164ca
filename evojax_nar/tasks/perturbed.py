"""Tasks on inputs unlike those that they draw: to judge models, or to train them.

`Perturbed` changes the inputs of any batch; `Shifted` only of those that a model is tested on.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax

from evojax_nar.errors import reject
from evojax_nar.settings import Configurable, build
from evojax_nar.tasks.graph_families import OtherGraphs
from evojax_nar.tasks.perturbations import (
    EqualOperands,
    KeyNoise,
    KeyRange,
    KeyTies,
    Perturbation,
    draw,
)
from evojax_nar.tasks.sizes import per_example
from evojax_nar.types import Batch, Evaluation, Key, TaskSpec

PERTURBATIONS: dict[str, type[Perturbation]] = {
    kind.name: kind for kind in (KeyNoise, KeyRange, KeyTies, EqualOperands, OtherGraphs)
}
"""Those that a config can name."""


@dataclass(frozen=True)
class _Wrapper(Configurable, abc.ABC):
    """What both share: all but the inputs is the task's.

    Either argument may be plain settings with a `name`, as a config has them.
    """

    task: Any
    perturbation: Any

    def __post_init__(self) -> None:
        if isinstance(self.task, Mapping):
            from evojax_nar import tasks

            object.__setattr__(self, "task", _made("task", self.task, tasks.get))
        if isinstance(self.perturbation, Mapping):
            object.__setattr__(
                self, "perturbation", _made("perturbation", self.perturbation, perturbation)
            )
        if not isinstance(self.perturbation, Perturbation):
            remedy = f"give one of {', '.join(PERTURBATIONS)}"
            raise reject("perturbation", self.perturbation, "is none", remedy)
        self.perturbation.check(self.task)

    @property
    def train_sizes(self) -> tuple[int, ...]:
        """Those of the task."""
        return self.task.train_sizes

    @property
    def test_sizes(self) -> tuple[int, ...]:
        """Those of the task."""
        return self.task.test_sizes

    @property
    def spec(self) -> TaskSpec:
        """That of the task, by whose name it goes: models of the one are models of the other."""
        return self.task.spec

    def length(self, size: int) -> int:
        """That of the task."""
        return self.task.length(size)

    def evaluate(self, outputs: Any, batch: Batch) -> Evaluation:
        """As the task judges."""
        return self.task.evaluate(outputs, batch)

    def guess(self, batch: Batch) -> Any:
        """As the task guesses, from a batch of this one."""
        return self.task.guess(batch)


@final
@dataclass(frozen=True)
class Perturbed(_Wrapper):
    """Any task on inputs that are changed after they are drawn.

    What is right is computed by the task from the changed inputs. Sizes, specification and scores
    are the task's, so a model that was trained on it can be judged on this one:
    `Evaluator(Perturbed(task, KeyNoise()), model).grid(...)`.

    Args:
      task: a task.
      perturbation: what changes its inputs.

    Raises:
      InputError: where the perturbation does not apply to the task.
    """

    name: ClassVar[str] = "perturbed"

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(*_example())

    @property
    def validation(self) -> Self:
        """The task's own validation data, changed."""
        return type(self)(getattr(self.task, "validation", self.task), self.perturbation)

    @property
    def test(self) -> Self:
        """The task's own test data, changed."""
        return type(self)(getattr(self.task, "test", self.task), self.perturbation)

    def sample(self, key: Key, size: Any, *, max_size: int, batch: int) -> Batch:
        """`batch` changed examples of `size`, padded to `max_size`: see the task.

        Raises:
          InputError: for a size that is known on the host and not from 1 to `max_size`.
        """
        sizes = per_example(size, max_size=max_size, batch=batch)
        draw_key, change_key = jax.random.split(key)
        content = draw(self.task, draw_key, sizes, max_size=max_size)
        return self.task.build(
            self.perturbation.change(change_key, self.task, content, sizes), sizes
        )


@final
@dataclass(frozen=True)
class Shifted(_Wrapper):
    """Any task as it is while training, and with changed inputs where models are tested.

    Training and the score at the training sizes are the task's; every test size is judged on
    `Perturbed`.

    Args:
      task: a task.
      perturbation: what changes its test inputs.

    Raises:
      InputError: where the perturbation does not apply to the task.
    """

    name: ClassVar[str] = "shifted"

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(*_example())

    @property
    def validation(self) -> Any:
        """The task's own validation data."""
        return getattr(self.task, "validation", self.task)

    @property
    def test(self) -> Perturbed:
        """The task's own test data, changed."""
        return Perturbed(self.task, self.perturbation).test

    def sample(self, key: Key, size: Any, *, max_size: int, batch: int) -> Batch:
        """As the task samples."""
        return self.task.sample(key, size, max_size=max_size, batch=batch)


WRAPPERS: tuple[type[Perturbed] | type[Shifted], ...] = (Perturbed, Shifted)
"""Tasks that are made of another."""


def perturbation(name: str, **settings: Any) -> Perturbation:
    """The perturbation called `name`, made from plain settings.

    Raises:
      InputError: for an unknown name or setting, naming the nearest one.
    """
    return build("perturbation", PERTURBATIONS, name, settings)


def plain_task(task: Any) -> Any:
    """The task that a wrapper holds, whatever it is wrapped in; any other as it is."""
    while isinstance(task, WRAPPERS):
        task = task.task
    return task


def _made(kind: str, said: Mapping[str, Any], get: Any) -> Any:
    settings = dict(said)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise reject(kind, dict(said), "has no name", f"write {kind}: {{name: ...}}")
    return get(name, **settings)


def _example() -> tuple[Any, Perturbation]:
    from evojax_nar.tasks.sort import Sort

    return Sort.example(), KeyTies()
