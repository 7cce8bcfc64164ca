"""Files that are whole or not there: atomic writes, appended lines that can be cut back, arrays."""

from __future__ import annotations

import io
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any, final

import jax
import numpy as np

from evojax_nar.errors import InputError, reject
from evojax_nar.types import Params


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; numbers that are not finite become null."""
    text = json.dumps(_finite(value), indent=1, allow_nan=False, ensure_ascii=False)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: Path) -> Any:
    """The JSON in a file.

    Raises:
      InputError: where it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise reject("file", str(path), "does not exist", "give a results folder") from None
    except (ValueError, RecursionError) as error:
        raise reject(
            "file", str(path), f"is not readable JSON ({error})", "run again with --overwrite"
        ) from error


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@final
class Lines:
    """A file of JSON lines that is appended to, and can be cut back to an earlier size."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Add one line, on disk when this returns."""
        text = json.dumps(_finite(record), allow_nan=False, separators=(", ", ": "))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())

    def size(self) -> int:
        """Bytes in the file; 0 where it does not exist."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Drop everything beyond `size` bytes: what was written after a checkpoint."""
        if self.path.exists():
            os.truncate(self.path, size)

    def read(self) -> list[dict[str, Any]]:
        """Every line, in order."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


def save_params(path: Path, params: Params) -> None:
    """Write parameters as an uncompressed .npz, one array a leaf, named by its path."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(leaf) for name, leaf in _named(params)}
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def load_params(path: Path, template: Params) -> Params:
    """Parameters from an .npz that `save_params` wrote, shaped like `template`. No pickle is read.

    Raises:
      InputError: where the file is missing, damaged or of another model.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise reject("file", str(path), "does not exist", "train this seed first") from None
    except Exception as error:  # zipfile, zlib and numpy each have errors of their own
        raise reject(
            "file", str(path), f"is damaged ({type(error).__name__})", "train this seed again"
        ) from error
    named = _named(template)
    for name, leaf in named:
        if name not in stored or stored[name].shape != leaf.shape:
            found = stored[name].shape if name in stored else "nothing"
            raise InputError(
                f"file={str(path)!r} is of another model: {name!r} should have shape {leaf.shape} "
                f"and it has {found}; use the config that it was trained with"
            )
    leaves = [stored[name].astype(leaf.dtype) for name, leaf in named]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _named(params: Params) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [(jax.tree_util.keystr(p, simple=True, separator="/"), leaf) for p, leaf in leaves]
