"""A figure of where a model reads and writes its memory, step by step, on one example."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evojax_nar.errors import InputError, positive_int, reject
from evojax_nar.evaluator import TEST
from evojax_nar.plots import GREY
from evojax_nar.types import Batch, Key, Params, TaskSpec

WEIGHTS = ("read_weights", "write_weights")
"""What a model must show at least one of, (T, B, N) or (T, B, R, N): see `LinenModel.inspect`."""
NOTHING = "#dfe7f1"
"""Where there is no number: steps that are not judged, and what is not finite."""


class Panel(NamedTuple):
    """One image: rows of numbers over time."""

    title: str
    rows: str
    """What a row is."""
    values: np.ndarray
    """(T, rows); NaN where there is nothing."""


def draw(task: Any, model: Any, params: Params, *, size: int, arm: str, seed: int) -> Figure:
    """Inputs, targets, outputs, and the weights of each head, over the T steps of one example.

    Time runs from left to right, slots of the memory from bottom to top. The example is the same
    for all that were trained on a task. Bits and classes are drawn as probabilities.

    Args:
      task: what was learned.
      model: what learned it.
      params: its parameters.
      size: of the example.
      arm: whose parameters they are, for the title.
      seed: likewise.

    Raises:
      InputError: for a model that shows no weights of a memory, or a size that it cannot run.
    """
    spec = task.spec
    positive_int("size", size)
    limit = model.max_size(spec)
    if limit is not None and size > limit:
        raise reject("size", size, "is more than the model can run", f"give at most {limit}")
    if spec.is_graph or not hasattr(model, "inspect"):
        raise _without_memory(model)
    # A task of finite data, or with settings of its own for tests, says what it is judged on.
    judged: Any = getattr(task, "test", task)
    padded = size if limit is None else max(size, spec.max_size)
    key = jax.random.fold_in(jax.random.key(TEST), size)

    @jax.jit
    def look(params: Params, key: Key) -> Any:
        batch = judged.sample(key, size, max_size=padded, batch=1)
        outputs, shown = model.inspect(params, batch.inputs, spec=spec)
        return batch, outputs, shown, task.evaluate(outputs, batch).score

    batch, outputs, shown, score = jax.device_get(look(params, key))
    heads = _heads(shown)
    if not heads:
        raise _without_memory(model)
    return _figure(
        [*_on_the_outside(spec, batch, outputs), *heads],
        f"{task.name}, {_name(model)}, {arm}, seed {seed}: "
        f"size {size}, score {100 * float(score):.1f} % on this example",
    )


def _name(model: Any) -> str:
    return getattr(model, "name", type(model).__name__)


def _without_memory(model: Any) -> InputError:
    return InputError(
        f"model={_name(model)!r} shows no {' or '.join(WEIGHTS)} of a memory; "
        "give results of a model that has one, such as 'ntm' or 'dnc'."
    )


def _heads(shown: Mapping[str, jax.Array]) -> list[Panel]:
    """A panel a head, reads first."""
    panels = []
    for kind in WEIGHTS:
        for path, array in shown.items():
            where, _, name = path.rpartition("/")
            if name != kind:
                continue
            values = np.asarray(array, np.float64)[:, 0]
            values = values[:, None] if values.ndim == 2 else values
            title = kind.replace("_", " ") + (f" of {where}" if where else "")
            for head in range(values.shape[1]):
                of = f", head {head + 1} of {values.shape[1]}" if values.shape[1] > 1 else ""
                panels.append(Panel(title + of, "slot", values[:, head]))
    return panels


def _on_the_outside(spec: TaskSpec, batch: Batch, outputs: jax.Array) -> list[Panel]:
    """What went in, what was wanted and what came out, of the first example of a batch."""
    exists, judged = (np.asarray(mask[0])[:, None] for mask in (batch.inputs.mask, batch.mask))
    targets = jnp.asarray(batch.targets)[0]
    if targets.ndim == 1:
        targets = jax.nn.one_hot(targets, spec.output_features)
    said, start = [], 0
    for field in spec.outputs:
        part = outputs[0, :, start : start + field.features]
        read = {"bits": jax.nn.sigmoid, "categorical": jax.nn.softmax}.get(field.kind)
        said.append(part if read is None else read(part))
        start += field.features
    panels = [
        Panel("inputs", "feature", np.where(exists, batch.inputs.values[0], np.nan)),
        Panel("targets", "feature", np.where(judged, targets, np.nan)),
        Panel("outputs", "feature", np.where(judged, jnp.concatenate(said, axis=-1), np.nan)),
    ]
    return [panel._replace(values=panel.values.astype(np.float64)) for panel in panels]


def _figure(panels: Sequence[Panel], title: str) -> Figure:
    time = len(panels[0].values)
    # An inch shows about ten rows, and none is so low that its labels run into each other.
    heights = [min(2.4, max(0.75, 0.1 * panel.values.shape[1])) for panel in panels]
    width = min(14.0, max(6.6, 1.6 + 0.08 * time))
    figure = Figure(figsize=(width, 1.4 + sum(heights) + 0.4 * len(panels)), layout="constrained")
    grid = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        _draw_panel(axes, panel)
    grid[-1].set_xlabel("step")
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    figure.align_ylabels(list(grid))
    figure.suptitle(
        textwrap.fill(title.replace("$", r"\$"), round(10.5 * width), break_on_hyphens=False),
        x=0.012,
        ha="left",
        fontsize=11.5,
        fontweight="bold",
    )
    note = "Pale blue: no number, or a step that is not judged"
    figure.supxlabel(note, x=0.99, ha="right", fontsize=9, color=GREY)
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    """Low is white and high is black; the range is 0 to 1 unless there is more."""
    values = np.where(np.isfinite(panel.values), panel.values, np.nan)
    found = values[np.isfinite(values)]
    low, high = float(found.min(initial=0.0)), float(found.max(initial=1.0))
    axes.set_facecolor(NOTHING)
    axes.imshow(
        values.T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="Greys",
        vmin=low,
        vmax=high,
    )
    axes.set_title(
        f"{panel.title} (white {low:g}, black {high:g})", loc="left", fontsize=10, color=GREY
    )
    axes.set_ylabel(panel.rows)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
