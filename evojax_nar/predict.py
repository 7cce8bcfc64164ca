"""What a trained model answers on a user's own file, cut into windows, beside what is right."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evojax_nar import cost, predict_list, readers
from evojax_nar.errors import InputError, positive_int, reject
from evojax_nar.tasks.sizes import LARGEST
from evojax_nar.types import Batch, Model, Params

STEPS_AT_ONCE = 2**16
"""Time steps of all windows that are run together; bounds the memory for any file."""
WINDOWS_AT_ONCE = 2048
_WIDTH = 20


@dataclass(frozen=True)
class Reader:
    """How a file becomes windows of one task, and how their answers are shown.

    Args:
      unit: what a window is counted in.
      least: the smallest window that asks anything.
      read: path and column to the items of the file.
      encode: task and windows (B, L) of items to a batch.
      show_input: one window of items (L,) to text.
      show_answer: one window of answers (steps, ...) to text.
      judge: task, outputs and batch to the answers and what they should be, (B, steps, ...) each.
      tabular: whether the file has columns to choose from.
    """

    unit: str
    least: int
    read: Callable[[str | os.PathLike[str], str | None], np.ndarray]
    encode: Callable[[Any, np.ndarray], Batch]
    show_input: Callable[[np.ndarray], str]
    show_answer: Callable[[np.ndarray], str]
    judge: Callable[[Any, Any, Batch], tuple[np.ndarray, np.ndarray]]
    tabular: bool = False


@dataclass(frozen=True)
class Window:
    """One window: what went in, what the model said, and what is right."""

    index: int
    size: int
    beyond_training: bool
    input: str
    predicted: str
    true: str
    right: bool


@dataclass(frozen=True)
class Answers:
    """The answers to a whole file.

    Args:
      shown: the first windows.
      unit: what a size is counted in.
      window: items a window; the last one may have fewer.
      windows: how many windows the file has.
      exact: windows with everything right.
      positions: single answers in all windows.
      right: single answers that are right.
      left_out: items at the end, too few for a window.
      max_trained: the largest training size.
    """

    shown: tuple[Window, ...]
    unit: str
    window: int
    windows: int
    exact: int
    positions: int
    right: int
    left_out: int
    max_trained: int


def predict(
    task: Any,
    model: Model,
    params: Params,
    path: str | os.PathLike[str],
    *,
    window: int | None = None,
    column: str | None = None,
    limit: int = 10,
) -> Answers:
    """Run the model on every window of a file.

    Parity reads bits, most significant first; copy and reverse read bytes; sorting reads numbers
    in a column of a CSV file, letters or words; the tasks of CLRS-30 on keys read numbers too. What
    is left at the end is a shorter window. Graphs have `predict_graph`.

    Args:
      task: one of the built-in tasks.
      model: what was trained on it.
      params: what was deployed.
      path: the file.
      window: items a window; None for the largest training size.
      column: of a CSV file: a name, or a place counted from 0.
      limit: how many windows to keep for showing.

    Raises:
      InputError: for a task that reads no files, a file or column that cannot be read, or a window
        that the model or the memory cannot hold.
    """
    reader = _reader(task)
    if column is not None and not reader.tabular:
        raise reject("column", column, f"has no meaning for task={task.name!r}", "leave it out")
    positive_int("limit", limit, least=0)
    size = max(task.spec.max_size, reader.least) if window is None else window
    positive_int("window", size, least=reader.least)
    able = model.max_size(task.spec)
    largest = LARGEST if able is None else able
    if size > largest:
        problem = f"is more than {'a task' if able is None else 'the model'} can run"
        raise reject("window", size, problem, f"give at most {largest}")
    items = reader.read(path, column)
    if len(items) < reader.least:
        problem = f"has too few {reader.unit}"
        raise reject("input", str(path), problem, f"give a file with at least {reader.least}")
    shown: list[Window] = []
    windows = exact = positions = right = 0
    for content, said, true in _run(reader, task, model, params, items, size):
        hits = (said == true).reshape(len(content), -1)
        for row in range(min(limit - len(shown), len(content))):
            shown.append(
                Window(
                    index=windows + row,
                    size=len(content[row]),
                    beyond_training=len(content[row]) > task.spec.max_size,
                    input=reader.show_input(content[row]),
                    predicted=reader.show_answer(said[row]),
                    true=reader.show_answer(true[row]),
                    right=bool(hits[row].all()),
                )
            )
        windows += len(content)
        exact += int(hits.all(axis=1).sum())
        positions += hits.size
        right += int(hits.sum())
    rest = len(items) % size
    left_out = rest if rest < reader.least else 0
    return Answers(
        shown=tuple(shown),
        unit=reader.unit,
        window=size,
        windows=windows,
        exact=exact,
        positions=positions,
        right=right,
        left_out=left_out,
        max_trained=task.spec.max_size,
    )


def print_answers(answers: Answers, console: Console) -> None:
    """Print the shown windows as a table, then the totals over all windows."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("window", justify="right")
    table.add_column(answers.unit, justify="right")
    for heading in ("input", "predicted", "true"):
        table.add_column(heading, overflow="fold")
    table.add_column("right?")
    table.add_column("", no_wrap=True)
    for window in answers.shown:
        mark = "beyond training" if window.beyond_training else ""
        cells = [window.input, window.predicted, window.true, "yes" if window.right else "no", mark]
        # As Text, since what stands in a file must not be read as markup.
        table.add_row(str(window.index), str(window.size), *map(Text, cells))
    if answers.shown:
        console.print(table)
        console.print()
        if len(answers.shown) < answers.windows:
            console.print(f"The first {len(answers.shown)} of {answers.windows} windows are shown.")
    if answers.window > answers.max_trained:
        trained = f"{answers.max_trained} {answers.unit}"
        console.print(f"Beyond training: the model was trained on up to {trained} a window.")
    if answers.left_out:
        console.print(f"Left out at the end, too few for a window: {answers.left_out}.")
    totals = [("windows right", answers.exact, answers.windows)]
    if answers.positions != answers.windows:
        totals.append(("single answers right", answers.right, answers.positions))
    for name, right, total in totals:
        share = f"{100 * right / total:.1f} %"
        console.print(f"{name}: {right} of {total} ({share})", highlight=False)


def check_memory(argument: str, value: Any, function: Callable[..., Any], *args: Any) -> None:
    """Raise an `InputError` where one operation of `function(*args)` needs more than is free.

    Args:
      argument: what the error names.
      value: its value.
      function: anything that jax can trace; it is not run.
      *args: its arguments, arrays or `jax.ShapeDtypeStruct`s.
    """
    needed, free = cost.largest_bytes(function, *args), cost.available_bytes()
    if needed > free:
        wanted, there = cost.readable_bytes(needed), cost.readable_bytes(free)
        problem = f"needs at least {wanted} of memory where {there} are free"
        raise reject(argument, value, problem, "give a smaller one")


def _run(
    reader: Reader, task: Any, model: Model, params: Params, items: np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Windows (B, L), answers and truths (B, steps, ...): one batch after another."""
    spec = task.spec
    apply = jax.jit(lambda params, inputs: model.apply(params, inputs, spec=spec))
    fixed = model.max_size(spec) is not None
    steps = task.length(size) ** (2 if spec.is_graph else 1)  # a graph has pairs of nodes
    together = max(1, min(WINDOWS_AT_ONCE, STEPS_AT_ONCE // steps))
    whole, rest = divmod(len(items), size)
    batches = [
        items[start * size : min(start + together, whole) * size].reshape(-1, size)
        for start in range(0, whole, together)
    ]
    if rest >= reader.least:
        batches.append(items[whole * size :].reshape(1, rest))
    for place, content in enumerate(batches):
        batch = reader.encode(task, content)
        if fixed:
            batch = _padded(batch, spec.max_length)
        if place == 0:
            check_memory("window", size, apply, params, batch.inputs)
        outputs = apply(params, batch.inputs)
        yield content, *reader.judge(task, outputs, batch)


def _padded(batch: Batch, length: int) -> Batch:
    """`batch` with T padded to `length`, for a model that is built for that one."""

    def pad(array: jax.Array) -> jax.Array:
        missing = max(0, length - array.shape[1])
        return jnp.pad(array, [(0, 0), (0, missing), *[(0, 0)] * (array.ndim - 2)])

    inputs = jax.tree.map(pad, batch.inputs)
    return Batch(inputs, pad(batch.targets), pad(batch.mask), batch.size)


def _judge(task: Any, outputs: jax.Array, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Of a task of sequences, at the judged steps, of which windows of a size have as many."""
    said, true = task.answers(outputs, batch), task.truths(batch)
    mask = np.asarray(batch.mask)
    shape = (len(mask), -1, *said.shape[2:])
    return said[mask].reshape(shape), true[mask].reshape(shape)


def _reader(task: Any) -> Reader:
    if predict_list.reads(task):
        return _LISTS
    name = getattr(task, "name", None)
    if name not in READERS:
        remedy = f"use a run of {', '.join(READERS)}, or of clrs/ on keys or graphs"
        raise reject("task", name, "reads no files", remedy)
    if name in ("copy", "reverse") and task.width != 8:
        raise InputError(
            f"width={task.width!r} is not that of a byte, and files are read as bytes; "
            f"train the task {name} with width=8"
        )
    if name == "sort_words":
        return _words_reader(task)
    return READERS[name]


def _words_reader(task: Any) -> Reader:
    """The reader of words, with a check of their length that names the word."""
    base = READERS["sort_words"]

    def read(path: str | os.PathLike[str], column: str | None) -> np.ndarray:
        words = base.read(path, column)
        for word in words:
            if len(word) > task.word_length:
                raise InputError(
                    f"input={str(path)!r} has the word {_shorten(str(word))!r}, and the task has "
                    f"words of at most {task.word_length} letters; leave out longer ones"
                )
        return words

    return replace(base, read=read)


def _encode_bytes(task: Any, windows: np.ndarray) -> Batch:
    return task.encode_windows(np.unpackbits(windows[..., None], axis=-1))


def _show_bytes(bits: np.ndarray) -> str:
    """Bits (steps, 8) as bytes in hexadecimal; `??` where one is missing."""
    known = np.atleast_1d((bits >= 0).all(axis=-1))
    values = np.packbits(np.maximum(bits, 0).astype(np.uint8), axis=-1)[:, 0]
    return _join([f"{v:02x}" if k else "??" for v, k in zip(values, known, strict=True)])


def _show_ranks(ranks: np.ndarray) -> str:
    """Ranks (n,); `?` where one is out of range."""
    return _join([str(rank) if 0 <= rank < len(ranks) else "?" for rank in ranks.tolist()])


def _show_places(places: np.ndarray) -> str:
    """Places (steps,), counted from 0; `?` where one is missing."""
    return _join([str(place) if place >= 0 else "?" for place in places.tolist()])


def _show_parity(answers: np.ndarray) -> str:
    return {0: "even", 1: "odd"}.get(int(answers[0]), "?")


def _join(items: Sequence[str], mark: str = " ") -> str:
    """The items, with the middle left out where they are long; the whole text first if it fits."""
    text = mark.join(items[: _WIDTH + 1])
    if len(items) <= _WIDTH and len(text) <= _WIDTH:
        return text
    half = max(1, _WIDTH // (2 * max(1, max(len(item) for item in items) + len(mark))))
    return f"{mark.join(items[:half])} ... {mark.join(items[-half:])}"


def _shorten(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def _show_number(number: float) -> str:
    return f"{number:.6g}"


def _ranked(
    unit: str, read: Any, show: Callable[[Any], str], mark: str = " ", *, tabular: bool = False
) -> Reader:
    """A reader of keys that are to be ranked."""
    return Reader(
        unit=unit,
        least=2,
        read=read,
        encode=lambda task, windows: task.encode_keys(windows.tolist()),
        show_input=lambda window: _join([show(key) for key in window.tolist()], mark),
        show_answer=_show_ranks,
        judge=_judge,
        tabular=tabular,
    )


_BYTES = Reader(
    unit="bytes",
    least=1,
    read=lambda path, column: readers.read_bytes(path),
    encode=_encode_bytes,
    show_input=lambda window: _join([f"{byte:02x}" for byte in window.tolist()]),
    show_answer=_show_bytes,
    judge=_judge,
)
_LISTS = Reader(
    unit="numbers",
    least=2,
    read=readers.read_column,
    encode=predict_list.encode,
    show_input=lambda window: _join([_show_number(number) for number in window.tolist()]),
    show_answer=_show_places,
    judge=predict_list.judge,
    tabular=True,
)
READERS: dict[str, Reader] = {
    "parity": Reader(
        unit="bits",
        least=1,
        read=lambda path, column: readers.read_bits(path),
        encode=lambda task, windows: task.encode_windows(windows),
        show_input=lambda window: _join([str(bit) for bit in window.tolist()], ""),
        show_answer=_show_parity,
        judge=_judge,
    ),
    "copy": _BYTES,
    "reverse": _BYTES,
    "sort": _ranked("numbers", readers.read_column, _show_number, tabular=True),
    "sort_letters": _ranked("letters", lambda path, column: readers.read_letters(path), str, ""),
    "sort_words": _ranked("words", lambda path, column: readers.read_words(path), str),
}
"""The tasks of sequences that read files."""
