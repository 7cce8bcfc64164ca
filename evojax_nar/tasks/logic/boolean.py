"""The usual Boolean functions of the literature on evolved circuits: parity, multiplexer, adder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import positive_int, reject
from evojax_nar.tasks.logic.table import TruthTable, bits_of, number_of
from evojax_nar.types import Field


@final
@dataclass(frozen=True)
class ParityTable(TruthTable):
    """Say whether the number of ones among bits that are all seen at once is odd.

    The size is always 1, and T = 1. Inputs (B, 1, bits); output (B, 1, 1), 1 for odd. Source: Koza
    1992, "Genetic Programming"; Miller 1999 (GECCO), "An empirical study of the efficiency of
    learning Boolean functions using a Cartesian Genetic Programming approach". What those call
    even parity is the complement.

    Args:
      train_sizes: 1.
      test_sizes: 1.
      bits: how many bits there are.
    """

    name: ClassVar[str] = "logic/parity_table"
    source: ClassVar[str] = "Koza 1992, Genetic Programming; Miller 1999, GECCO"
    bits: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_int("bits", self.bits)

    @classmethod
    def example(cls) -> Self:
        """A small one, which a small model learns in seconds."""
        return cls(bits=3)

    @property
    def columns(self) -> int:
        """The bits."""
        return self.bits

    @property
    def output(self) -> Field:
        """1 for odd."""
        return Field("odd", "bits", 1)

    def values(self, rows: jax.Array) -> jax.Array:
        """Whether the ones of rows (..., K) are odd: (..., 1) int32."""
        return rows.sum(axis=-1, keepdims=True, dtype=jnp.int32) % 2


@final
@dataclass(frozen=True)
class MultiplexerTable(TruthTable):
    """Give the data bit that the address bits choose, all of them seen at once.

    The size is always 1, and T = 1. With A address bits the inputs are (B, 1, A + 2**A): first the
    address, the most significant bit first, then the data bits in the order of their addresses. So
    2, 3 and 4 address bits make the 6-, 11- and 20-multiplexer. Output (B, 1, 1). Source: Barto
    1985, "Learning by statistical cooperation of self-interested neuron-like computing elements";
    Wilson 1987, "Classifier systems and the animat problem"; Koza 1992, "Genetic Programming".

    Args:
      train_sizes: 1.
      test_sizes: 1.
      address_bits: 2, 3 or 4.
    """

    name: ClassVar[str] = "logic/multiplexer_table"
    source: ClassVar[str] = "Barto 1985; Wilson 1987; Koza 1992, Genetic Programming"
    address_bits: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if positive_int("address_bits", self.address_bits) not in (2, 3, 4):
            raise reject("address_bits", self.address_bits, "is not allowed", "give 2, 3 or 4")

    @classmethod
    def example(cls) -> Self:
        """The 6-multiplexer."""
        return cls(address_bits=2)

    @property
    def columns(self) -> int:
        """Address bits and data bits."""
        return self.address_bits + 2**self.address_bits

    @property
    def output(self) -> Field:
        """The data bit."""
        return Field("data", "bits", 1)

    def values(self, rows: jax.Array) -> jax.Array:
        """The chosen data bit of rows (..., K): (..., 1) int32."""
        address = number_of(rows[..., : self.address_bits])
        data = rows[..., self.address_bits :]
        return jnp.take_along_axis(data, address[..., None], axis=-1).astype(jnp.int32)


@final
@dataclass(frozen=True)
class AdderTable(TruthTable):
    """Add two binary numbers and a carry, all of their bits seen at once.

    The size is always 1, and T = 1. Inputs (B, 1, 2 * bits + 1): the two numbers, each with its
    most significant bit first, then the carry in. Output (B, 1, bits + 1): the carry out, then the
    bits of the sum, the most significant first. Source: the adder for which circuits are evolved by
    Miller, Job and Vassilev 2000, "Principles in the evolutionary design of digital circuits".

    Args:
      train_sizes: 1.
      test_sizes: 1.
      bits: bits of each number, up to 30.
    """

    name: ClassVar[str] = "logic/adder_table"
    source: ClassVar[str] = (
        "Miller, Job and Vassilev 2000, Genetic Programming and Evolvable Machines 1"
    )
    bits: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        # The sum must fit into an int32.
        if positive_int("bits", self.bits) > 30:
            raise reject("bits", self.bits, "is more than 30", "give fewer bits")

    @classmethod
    def example(cls) -> Self:
        """One full adder."""
        return cls(bits=1)

    @property
    def columns(self) -> int:
        """The bits of both numbers, and the carry in."""
        return 2 * self.bits + 1

    @property
    def output(self) -> Field:
        """The carry out and the bits of the sum."""
        return Field("sum", "bits", self.bits + 1)

    def values(self, rows: jax.Array) -> jax.Array:
        """The sums of rows (..., K): (..., bits + 1) int32."""
        first, second = rows[..., : self.bits], rows[..., self.bits : -1]
        return bits_of(number_of(first) + number_of(second) + rows[..., -1], self.bits + 1)
