"""A user's file to items: its bits, bytes, letters or words, or one column of a CSV."""

from __future__ import annotations

import csv
import difflib
import io
import math
import os
import re
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from evojax_nar.errors import InputError, reject, unknown

MAX_BYTES = 2**26
"""The largest file that is read: 64 MiB, whose bits take eight times that."""
_SHOWN = 12
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


def read_bytes(path: str | os.PathLike[str]) -> np.ndarray:
    """The bytes of the file at `path`, (number of bytes,) uint8.

    Raises:
      InputError: for a file that is missing, a folder, empty or over 64 MiB.
    """
    shown = str(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise reject("input", shown, "does not exist", "give the path of a file") from None
    except IsADirectoryError:
        raise reject("input", shown, "is a folder", "give the path of a file") from None
    except ValueError:  # a NUL in the path
        raise reject("input", shown, "is not a path", "give the path of a file") from None
    if not data:
        raise reject("input", shown, "is empty", "give a file with at least one byte")
    if len(data) > MAX_BYTES:
        raise reject("input", shown, f"is over {MAX_BYTES >> 20} MiB", "give a part of the file")
    return np.frombuffer(data, np.uint8)


def read_bits(path: str | os.PathLike[str]) -> np.ndarray:
    """The bits of the file at `path`, (8 * number of bytes,) uint8, most significant bit first.

    Raises:
      InputError: as `read_bytes` does.
    """
    return np.unpackbits(read_bytes(path))


def read_column(path: str | os.PathLike[str], column: str | None = None) -> np.ndarray:
    """The numbers in one column of a CSV file, (number of rows,) float64.

    The delimiter is a comma, or a semicolon or tab where the first line has one and no comma. The
    first row is a header where none of its cells is a number, or where one of them is `column`,
    though a number that can be a place is one. Lines without any character are skipped; a
    byte-order mark is read over.

    Args:
      path: of the file, in UTF-8.
      column: a name in the header or a place counted from 0; None where there is only one column.

    Raises:
      InputError: for an empty file, a row of another length, a cell that is not a finite
        number, or an unknown column, naming the line and the value.
    """
    shown = str(path)
    rows = read_rows(path)
    if not rows:
        raise reject("input", shown, "has no rows", "give a CSV file with at least one number")
    first = [cell.strip() for cell in rows[0][1]]
    is_place = column is not None and _is_place(column) and int(column) < len(first)
    is_named = column in first and not is_place
    has_header = is_named or not any(_is_number(cell) for cell in first)
    place = _place(column, first, has_header)
    body = rows[1:] if has_header else rows
    if not body:
        raise reject("input", shown, "has a header and no rows", "add at least one row of numbers")
    for line, row in body:
        if len(row) != len(first):
            _refuse(shown, line, f"{len(row)} cells where the first row has {len(first)}")
    return np.asarray([parse_number(shown, line, row[place]) for line, row in body], np.float64)


def read_rows(path: str | os.PathLike[str]) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file that are not blank, each with the number of its last line.

    Raises:
      InputError: as `read_text` does, and for a file that is not CSV.
    """
    shown = str(path)
    text = read_text(path)
    head = text.lstrip("\r\n").partition("\n")[0]
    present = [mark for mark in ",;\t" if mark in head]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=(present or [","])[0], strict=True)
    rows = []
    try:
        for row in reader:
            if row:
                rows.append((reader.line_num, row))
    except csv.Error as error:
        _refuse(shown, reader.line_num, f"what is not CSV ({error})")
    return rows


def _place(column: str | None, first: Sequence[str], has_header: bool) -> int:
    """Where in a row `column` stands."""
    count = len(first)
    if column is None:
        if count > 1:
            choice = ", ".join(map(repr, first[:_SHOWN])) if has_header else f"0 to {count - 1}"
            raise reject("column", column, f"leaves {count} columns open", f"give one of {choice}")
        return 0
    if has_header and column in first:
        if first.count(column) > 1:
            raise reject("column", column, "names two columns", f"give a place, 0 to {count - 1}")
        return first.index(column)
    if _is_place(column):
        if int(column) < count:
            return int(column)
        raise reject("column", column, "is not in the file", f"give a place, 0 to {count - 1}")
    if not has_header:
        problem = "is a name, and the file has no header"
        raise reject("column", column, problem, f"give a place, 0 to {count - 1}")
    near = difflib.get_close_matches(column, first, n=1, cutoff=0.4)
    raise unknown("column", column, [name for name in near or first[:_SHOWN] if name.isprintable()])


def _is_place(column: str) -> bool:
    return bool(re.fullmatch("[0-9]{1,9}", column))


def _is_number(cell: str) -> bool:
    """Whether a cell reads as a number, finite or not."""
    return bool(_NUMBER.fullmatch(cell)) or cell.lower().lstrip("+-") in ("nan", "inf", "infinity")


def parse_number(path: str, line: int, cell: str) -> float:
    """The finite number that stands on a line of the file at `path`.

    Raises:
      InputError: for anything else.
    """
    text = cell.strip()
    if not _NUMBER.fullmatch(text):
        _refuse(path, line, f"{text!r}" if text else "an empty cell")
    if not math.isfinite(float(text)):
        _refuse(path, line, f"{text!r}, which is too large")
    return float(text)


def _refuse(path: str, line: int, found: str) -> NoReturn:
    if len(found) > 80:
        found = found[:77] + "..."
    raise InputError(f"input={path!r} has on line {line} {found}; give a finite number in each row")


def read_words(path: str | os.PathLike[str]) -> np.ndarray:
    """The words of a text file in lower case, (number of words,); all but a to z parts words.

    Raises:
      InputError: as `read_bytes` does, and for a file that is not UTF-8 or has no such word.
    """
    words = re.findall("[a-z]+", read_text(path).lower())
    if not words:
        raise reject("input", str(path), "has no letter from a to z", "give a text file")
    # As objects: an array of text would give every word the room of the longest.
    return np.asarray(words, object)


def read_letters(path: str | os.PathLike[str]) -> np.ndarray:
    """The letters a to z of a text file in lower case, (number of letters,); others are skipped.

    Raises:
      InputError: as `read_words` does.
    """
    return np.asarray(list("".join(read_words(path).tolist())))


def read_text(path: str | os.PathLike[str]) -> str:
    """The file at `path` as text in UTF-8, without a byte-order mark.

    Raises:
      InputError: as `read_bytes` does, and for a file that is not UTF-8.
    """
    try:
        return read_bytes(path).tobytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 at byte {error.start}"
        raise reject("input", str(path), problem, "save the file as UTF-8") from None
