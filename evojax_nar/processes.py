"""Several processes, one run: the first one decides and writes, and the others do as it says.

A program over a mesh of several processes waits for all of them, so they must agree on what to run
next. Whatever could differ between them (a clock, a file, free memory) is looked at by the first
process alone, and its answer is sent to the others. With a single process nothing is sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from evojax_nar.errors import InputError

T = TypeVar("T")

SHORTEST = 1024
"""Bytes of a message at least; longer ones are powers of two, so that few programs are compiled."""


def is_first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def first(function: Callable[[], T]) -> T:
    """What `function` gives on the first process, on every process; elsewhere it is not called.

    Every process must come here, in the same order. Between several, the value travels as JSON.

    Raises:
      InputError: on every process, where `function` does on the first.
      RuntimeError: on the others, where it raises anything else.
    """
    if jax.process_count() == 1:
        return function()
    failure: Exception | None = None
    message: dict[str, Any] = {}
    if is_first():
        try:
            message["value"] = function()
        except Exception as error:  # raised again below, once the others know
            failure = error
            message["input" if isinstance(error, InputError) else "other"] = str(error)
    message = json.loads(_send(json.dumps(message).encode()))
    if failure is not None:
        raise failure
    if "input" in message:
        raise InputError(message["input"])
    if "other" in message:
        raise RuntimeError(f"the first process failed: {message['other']}")
    return message["value"]


def first_arrays(tree: Any) -> Any:
    """The first process's values of a tree of numpy arrays, which has the same shapes on all."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(_send_array, tree)


def _send_array(array: np.ndarray) -> np.ndarray:
    if not array.size:
        return array
    # As bytes, since not every number has a sum over processes.
    sent = multihost_utils.broadcast_one_to_all(array.reshape(-1).view(np.uint8))
    return np.asarray(sent).view(array.dtype).reshape(array.shape)


def _send(content: bytes) -> bytes:
    length = int(multihost_utils.broadcast_one_to_all(np.asarray(len(content), np.int32)))
    padded = np.zeros(max(SHORTEST, 1 << (length - 1).bit_length()), np.uint8)
    if is_first():
        padded[:length] = np.frombuffer(content, np.uint8)
    return np.asarray(_send_array(padded))[:length].tobytes()
