"""Truth tables: Boolean functions whose inputs are all seen in one step."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from evojax_nar.errors import InputError, reject
from evojax_nar.tasks.logic.restricted import RestrictedSizes
from evojax_nar.tasks.sequence import assemble
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Field, Key

MOST_ROWS = 2**20
"""No larger table is listed: with 20 inputs the bits alone take 80 MiB as float32."""


@dataclass(frozen=True)
class TruthTable(RestrictedSizes):
    """Say what a Boolean function is at one row of its truth table.

    The size is always 1, and T = 1. Inputs (B, 1, `columns`): the bits of the row. Rows are drawn
    uniformly; a batch of `whole_table` has each of them once.
    """

    train_sizes: Sizes = (1,)
    test_sizes: Sizes = (1,)

    @property
    @abc.abstractmethod
    def columns(self) -> int:
        """How many inputs K the function has."""

    @abc.abstractmethod
    def values(self, rows: jax.Array) -> jax.Array:
        """The function at rows (..., K) of bits: (..., F of the output), int32."""

    @staticmethod
    def check_size(argument: str, size: int) -> None:
        """A table has rows of size 1 alone."""
        if size != 1:
            raise reject(argument, size, "is not the size of a row of a truth table", "give 1")

    @property
    def rows(self) -> int:
        """How many rows the table has: 2 ** K."""
        return 2**self.columns

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The bits of the row."""
        return (Field("bits", "bits", self.columns),)

    def length(self, size: int) -> int:
        """T = 1.

        Raises:
          InputError: for a size other than 1.
        """
        self.check_size("size", size)
        return 1

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Fair bits (B, max_size, K), int32; only the first row of each example is used."""
        shape = (batch, max_size, self.columns)
        return jax.random.bernoulli(key, shape=shape).astype(jnp.int32)

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of the first rows of `content` (B, max_size, K) of bits."""
        row, exists = content[:, :1], jnp.ones((len(content), 1), bool)
        return assemble(
            values=row,
            exists=exists,
            targets=self.values(row).astype(jnp.float32),
            mask=exists & (size == 1)[:, None],
            size=size,
            max_size=content.shape[1],
        )

    def whole_table(self) -> Batch:
        """Every row once, in the order in which its bits count up, the first the most significant.

        Raises:
          InputError: for a table of more than `MOST_ROWS` rows.
        """
        if self.rows > MOST_ROWS:
            raise InputError(
                f"the table of {self.name} with {self.columns} inputs has {self.rows} rows; "
                f"give it at most {MOST_ROWS.bit_length() - 1} inputs, or sample rows."
            )
        # The numbers are handed in, or the compiler would work the whole table out by itself.
        return _list_rows(self, jnp.arange(self.rows, dtype=jnp.int32))


@partial(jax.jit, static_argnames="task")
def _list_rows(task: TruthTable, numbers: jax.Array) -> Batch:
    return task.build(bits_of(numbers, task.columns)[:, None], jnp.ones(len(numbers), jnp.int32))


def bits_of(numbers: jax.Array, count: int) -> jax.Array:
    """The last `count` bits of whole numbers (...): (..., count), the most significant first."""
    return (numbers[..., None] >> jnp.arange(count - 1, -1, -1)) & 1


def number_of(bits: jax.Array) -> jax.Array:
    """The whole numbers (...), int32, that bits (..., K) write, the most significant first."""
    weights = 1 << jnp.arange(bits.shape[-1] - 1, -1, -1, dtype=jnp.int32)
    return (bits * weights).sum(axis=-1, dtype=jnp.int32)
