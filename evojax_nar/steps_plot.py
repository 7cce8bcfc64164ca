"""How many steps a model takes by itself, measured over the size, and the figure of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evojax_nar import plots
from evojax_nar.errors import InputError, positive_int
from evojax_nar.evaluator import CHUNK
from evojax_nar.tasks.sizes import parse
from evojax_nar.types import Key, Model, Params, Task


class Steps(NamedTuple):
    """Steps taken by the positions that exist, over all examples of one size."""

    mean: float
    low: float
    """The lower quartile."""
    high: float
    """The upper quartile."""


def measure(
    model: Model, params: Params, task: Task, sizes: Any, key: Key, examples: int = 256
) -> dict[int, Steps]:
    """The steps that a model shows at each size, of fresh examples.

    Args:
      model: one that shows `steps` (B, T) when it is inspected.
      params: its parameters.
      task: what the examples are drawn from.
      sizes: one size, several, or text such as "10,20-22".
      key: a random key; each size has examples of its own.
      examples: how many at each size.

    Raises:
      InputError: for a model that shows no steps, sizes that the task does not have, or fewer than
        one example.
    """
    positive_int("examples", examples)
    chunks = -(-examples // CHUNK)
    source = getattr(task, "test", task)
    found = {}
    for size in parse("sizes", sizes):
        counts = []
        for own in jax.random.split(jax.random.fold_in(key, size), chunks):
            steps, mask = _shown(model, params, source, size, own, -(-examples // chunks))
            if steps is None or steps.shape != mask.shape:
                name = getattr(model, "name", type(model).__name__)
                raise InputError(
                    f"model={name!r} shows no steps; choose one that decides on them, such as "
                    "'universal_transformer'."
                )
            counts.append(np.asarray(steps)[np.asarray(mask)])
        taken = np.concatenate(counts)
        low, high = np.quantile(taken, (0.25, 0.75))
        found[size] = Steps(float(taken.mean()), float(low), float(high))
    return found


@partial(jax.jit, static_argnums=(0, 2, 3, 5))
def _shown(model: Any, params: Params, task: Task, size: int, key: Key, batch: int) -> Any:
    """The steps (B, T) or None, and which of them count."""
    inputs = task.sample(key, size, max_size=size, batch=batch).inputs
    if not hasattr(model, "inspect"):
        return None, inputs.mask
    _, shown = model.inspect(params, inputs, spec=task.spec)
    return shown.get("steps"), inputs.mask


def draw(steps: Mapping[int, Steps], *, train_sizes: Any, name: str = "model") -> Figure:
    """Mean steps over the size, with the quartiles as a band, and the training sizes shaded.

    Args:
      steps: by size, as `measure` gives them.
      train_sizes: the sizes that the model was trained on.
      name: of the model, for the title.

    Raises:
      InputError: where there are no steps to draw.
    """
    if not steps:
        raise InputError("steps={} has no sizes; give what `measure` found.")
    sizes = sorted(steps)
    mean, low, high = (np.array([steps[size][part] for size in sizes]) for part in range(3))
    figure = Figure(figsize=(6.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    (look,) = plots.looks(1)
    axes.fill_between(sizes, low, high, color=look.colour, alpha=0.18, lw=0)
    axes.vlines(sizes, low, high, color=look.colour, lw=1.2)
    axes.plot(sizes, mean, color=look.colour, lw=look.width, marker=look.marker, ms=7.5, mec="w")
    plots._show_training(axes, parse("train_sizes", train_sizes), sizes, 0.0)
    # Its note stands at the bottom, where few steps would run through it: it moves to the top.
    (note,) = axes.texts
    note.set(position=(0.012, 0.97), verticalalignment="top")
    plots._size_axis(axes, sizes, False)
    axes.set_ylim(0.0, 1.28 * float(max(mean.max(), high.max(), 1.0)))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("steps of a position")
    ends = [f"{steps[size].mean:.1f} steps at size {size}" for size in dict.fromkeys(sizes[::-1])]
    title = f"{name}: {ends[-1]}" + (f", {ends[0]}" if len(ends) > 1 else "")
    subtitle = "Steps taken over size: mean, and the quartiles of all positions"
    plots._dress(figure, axes, [], title, subtitle)
    return figure
