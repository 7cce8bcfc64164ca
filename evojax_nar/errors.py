"""The one exception that a user's input can raise, and the helpers that word it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Bad input: one sentence that names the argument, its value and the remedy.

    The command line prints the sentence and exits with code 2.
    """


def reject(argument: str, value: Any, problem: str, remedy: str) -> InputError:
    """The error for `argument` having `value`, to be raised by the caller."""
    shown = repr(value)
    # A path that is cut short cannot be found again.
    longest = 240 if isinstance(value, str) else 80
    if len(shown) > longest:
        shown = shown[: longest - 3] + "..."
    return InputError(f"{argument}={shown} {problem}; {remedy}.")


def unknown(argument: str, value: Any, known: Iterable[str]) -> InputError:
    """The error for a name that is not among the `known` ones, with the nearest of them."""
    names = sorted(known)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
    remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
    return InputError(f"{argument}={value!r} is not known; {remedy}")


def positive_int(argument: str, value: Any, *, least: int = 1) -> int:
    """`value` as an int of at least `least`, or an `InputError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise reject(argument, value, "is not allowed", f"give a whole number of at least {least}")
    return value


def finite(argument: str, value: Any, *, above: float | None = None) -> float:
    """`value` as a finite float, larger than `above` where that is given, or an `InputError`."""
    remedy = "give a finite number" + ("" if above is None else f" above {above:g}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise reject(argument, value, "is not a number", remedy)
    if not math.isfinite(value) or (above is not None and value <= above):
        raise reject(argument, value, "is not allowed", remedy)
    return float(value)
