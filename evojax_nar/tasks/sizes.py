"""Lists of sizes: what a script, a config or the command line may give, as a tuple of ints."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Iterable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import InputError, positive_int, reject

LARGEST = 100_000
"""No size is larger: a slip of the keyboard should not fill the memory."""

Sizes: TypeAlias = Any
"""Whole numbers in any iterable, one whole number, or text such as "1-20" or "20,50,100".

A task turns it into `tuple[int, ...]` when it is made, so that is what one reads from it.
"""

_REMEDY = "give whole numbers such as range(1, 21), [20, 50, 100] or '1-20'"


def parse(argument: str, value: Sizes) -> tuple[int, ...]:
    """`value` as a tuple of sizes, in the given order.

    Raises:
      InputError: where it is empty, or holds anything but whole numbers from 1 to `LARGEST`.
    """
    if isinstance(value, str):
        numbers = _parse_text(argument, value)
    elif isinstance(value, Iterable):
        # One more than there may be, so that an endless iterator ends here.
        numbers = list(itertools.islice(value, LARGEST + 1))
    else:
        numbers = [value]
    if not numbers:
        raise reject(argument, value, "has no sizes", _REMEDY)
    if len(numbers) > LARGEST:
        raise reject(argument, value, f"has more than {LARGEST} sizes", _REMEDY)
    return tuple(_whole(argument, value, number) for number in numbers)


def _parse_text(argument: str, text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]+)\s*(?:-\s*([0-9]+)\s*)?", part)
        if not found:
            raise reject(argument, text, "is not a list of sizes", _REMEDY)
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise reject(argument, text, f"counts down in {part.strip()!r}", _REMEDY)
        _whole(argument, text, last)
        numbers += range(first, last + 1)
    return numbers


def _whole(argument: str, value: Any, number: Any) -> int:
    problem = f"holds {number!r}, not a whole number from 1 to {LARGEST}"
    if isinstance(number, (bool, np.bool_)):
        raise reject(argument, value, problem, _REMEDY)
    try:
        size = operator.index(number)
    except TypeError:
        raise reject(argument, value, problem, _REMEDY) from None
    if not 1 <= size <= LARGEST:
        raise reject(argument, value, problem, _REMEDY)
    return size


def per_example(size: Any, *, max_size: int, batch: int) -> jax.Array:
    """The size of each of `batch` examples, (B,) int32, from one number or from (B,) of them.

    Numbers that are known on the host are checked against `max_size`. Those on the device are not:
    a task gives an example of a size out of range no step to judge, and so a NaN loss.

    Raises:
      InputError: for a size out of range, or of another shape or type.
    """
    positive_int("max_size", max_size)
    positive_int("batch", batch)
    if not isinstance(size, jax.Array):
        for number in np.ravel(np.asarray(size)).tolist():
            positive_int("size", number)
            if number > max_size:
                raise reject("size", number, f"is beyond max_size={max_size}", "raise max_size")
    sizes = jnp.asarray(size)
    if not jnp.issubdtype(sizes.dtype, jnp.integer):
        raise InputError(f"size has the type {sizes.dtype}; give whole numbers.")
    if sizes.shape not in ((), (batch,)):
        raise InputError(f"size has the shape {sizes.shape}; give one number, or {batch} of them.")
    return jnp.broadcast_to(sizes, (batch,)).astype(jnp.int32)


def at_least(argument: str, sizes: Any, least: int) -> None:
    """Sizes that a task can have, as far as they are known on the host.

    Raises:
      InputError: where one is smaller than `least`.
    """
    if isinstance(sizes, jax.Array):
        return
    for number in np.ravel(np.asarray(sizes)).tolist():
        if number < least:
            raise InputError(f"{argument} holds {number}; give sizes of at least {least}.")
