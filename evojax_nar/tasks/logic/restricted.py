"""Tasks that have no examples of some sizes, and say so."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from evojax_nar.errors import positive_int
from evojax_nar.tasks.sequence import SequenceTask
from evojax_nar.types import Batch, Key


@dataclass(frozen=True)
class RestrictedSizes(SequenceTask):
    """A task whose sizes are not all whole numbers.

    A size that is known on the host is refused. One on the device cannot be: `build` gives an
    example of it no step to judge, and so a NaN loss.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument in ("train_sizes", "test_sizes"):
            for size in getattr(self, argument):
                self.check_size(argument, size)

    @staticmethod
    @abc.abstractmethod
    def check_size(argument: str, size: int) -> None:
        """Raise an `InputError` that names `argument`, where there are no examples of `size`."""

    def sample(self, key: Key, size: Any, *, max_size: int, batch: int) -> Batch:
        """`batch` examples of `size` (a number, traced or not, or (B,)), padded to `max_size`.

        Raises:
          InputError: for a size that is known on the host and not one of the task's own.
        """
        if not isinstance(size, jax.Array):
            for number in np.ravel(np.asarray(size)).tolist():
                self.check_size("size", positive_int("size", number))
        return super().sample(key, size, max_size=max_size, batch=batch)
