"""Checkpoints by orbax: a state, and a small JSON beside it. No pickle is read or written."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from evojax_nar.errors import InputError, reject

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
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=False)
        self._folder = folder
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        self._abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        self._layout = _layout(template)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, number: int, state: Any, notes: dict[str, Any]) -> None:
        """Write checkpoint `number`; it appears only once it is complete."""
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
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
        for number in sorted(self._manager.all_steps(), reverse=True):
            try:
                notes = self._restore(number, notes=ocp.args.JsonRestore())["notes"]
                self._check(number, notes)
                state = self._restore(number, state=ocp.args.StandardRestore(self._abstract))
            except InputError:
                raise
            except Exception as error:  # orbax raises whatever its storage layers raise
                # The kind of error alone: its text may name folders of the user's machine.
                kind = type(error).__name__
                warn(f"checkpoint {number} is damaged ({kind}); falling back to the one before")
                self._manager.delete(number)
                continue
            return number, state["state"], notes
        return None

    def _restore(self, number: int, **items: Any) -> Any:
        return self._manager.restore(number, args=ocp.args.Composite(**items))

    def _check(self, number: int, notes: dict[str, Any]) -> None:
        if notes["layout"] != self._layout:
            raise reject(
                "checkpoint",
                str(self._folder / str(number)),
                "is of another model, strategy or version",
                "resume with what it was made with, or start again with --overwrite",
            )


def _layout(state: Any) -> str:
    """A digest of the paths, shapes and types of a state, and of the package's version."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    lines = [f"{jax.tree_util.keystr(p)} {leaf.shape} {leaf.dtype}" for p, leaf in leaves]
    text = "\n".join([version("evojax-nar"), *lines])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
