"""Checkpoints by orbax: a state, and a small JSON beside it. No pickle is read or written.

A state is kept as plain arrays that know no devices, so it can be restored on others. Where a run
has several processes, the first writes and reads, and sends what it read to the others.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.options import MultiprocessingOptions

from evojax_nar.errors import InputError, reject
from evojax_nar.processes import first, first_arrays, is_first

KEEP = 2
"""Checkpoints kept, so that a damaged newest one can fall back to the one before."""


class Checkpoints:
    """Numbered checkpoints of states of one layout, in one folder. Use as a context manager.

    Args:
      folder: made where it is missing.
      template: a state of the shapes and types to be saved and restored.
    """

    def __init__(self, folder: Path, template: Any) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._folder = folder
        self._template = template
        self._layout = _layout(template)
        self._manager = _manager(folder) if is_first() else None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        if self._manager is not None:
            self._manager.close()

    def save(self, number: int, state: Any, notes: dict[str, Any]) -> None:
        """Write checkpoint `number`; it appears only once it is complete."""
        if self._manager is None:
            return
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(_plain(state)),
            notes=ocp.args.JsonSave({"layout": self._layout, **notes}),
        )
        self._manager.save(number, args=arguments, force=True)
        self._manager.wait_until_finished()

    def latest(self, warn: Callable[[str], None]) -> tuple[int, Any, dict[str, Any]] | None:
        """The newest checkpoint that can be read, as (number, state, notes); None without one.

        Args:
          warn: called with a sentence for each damaged checkpoint that is passed over.

        Raises:
          InputError: where the newest readable one is of another model or version.
        """
        state = _plain(self._template)

        def read() -> tuple[int, dict[str, Any]] | None:
            nonlocal state
            found = self._newest(state, warn)
            if found is None:
                return None
            number, state, notes = found
            return number, notes

        found = first(read)
        if found is None:
            return None
        number, notes = found
        return number, _typed(first_arrays(state), self._template), notes

    def _newest(
        self, plain: Any, warn: Callable[[str], None]
    ) -> tuple[int, Any, dict[str, Any]] | None:
        manager = self._manager
        if manager is None:
            return None

        def restore(number: int, **items: Any) -> Any:
            return manager.restore(number, args=ocp.args.Composite(**items))

        for number in sorted(manager.all_steps(), reverse=True):
            try:
                notes = restore(number, notes=ocp.args.JsonRestore())["notes"]
                self._check(number, notes)
                state = restore(number, state=ocp.args.StandardRestore(plain))["state"]
            except InputError:
                raise
            except Exception as error:  # orbax raises whatever its storage layers raise
                # The kind of error alone: its text may name folders of the user's machine.
                kind = type(error).__name__
                warn(f"checkpoint {number} is damaged ({kind}); falling back to the one before")
                manager.delete(number)
                continue
            return number, state, notes
        return None

    def _check(self, number: int, notes: dict[str, Any]) -> None:
        if notes["layout"] != self._layout:
            raise reject(
                "checkpoint",
                str(self._folder / str(number)),
                "is of another model, strategy or version",
                "resume with what it was made with, or start again with --overwrite",
            )


def _manager(folder: Path) -> ocp.CheckpointManager:
    """A manager that this process uses alone."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEEP,
        create=False,
        enable_async_checkpointing=False,
        multiprocessing_options=MultiprocessingOptions(active_processes={0}),
    )
    return ocp.CheckpointManager(folder.absolute(), options=options)


def _plain(state: Any) -> Any:
    """`state` as numpy arrays; a typed key as its words."""
    return jax.tree.map(
        lambda leaf: np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf), state
    )


def _typed(plain: Any, template: Any) -> Any:
    """Copies of plain arrays on the default device, as keys where the template has keys."""

    def convert(array: np.ndarray, leaf: jax.Array) -> jax.Array:
        # A copy, since a program may be given the memory of its arguments to write to.
        own = jnp.array(array, copy=True)
        if not _is_key(leaf):
            return own
        return jax.random.wrap_key_data(own, impl=jax.random.key_impl(leaf))

    return jax.tree.map(convert, plain, template)


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _layout(state: Any) -> str:
    """A digest of the paths, shapes and types of a state, and of the package's version."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    lines = [f"{jax.tree_util.keystr(p)} {leaf.shape} {leaf.dtype}" for p, leaf in leaves]
    text = "\n".join([version("evojax-nar"), *lines])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
