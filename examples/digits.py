"""Two networks without a memory on handwritten digits: an autoencoder, and a self-organising map.

Both must complete digits of 8 x 8 pixels of which some are missing. The autoencoder learns by a
gradient and by evolution; the map by its own rule, which is plain gradient descent on its energy,
and by evolution. All four spend the same. Prints a table, and draws the maps and what each arm
makes of a few digits into `digits.png`. Needs `pip install 'evojax-nar[digits]'`. Run with `python
examples/digits.py`, about a minute on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import evojax_nar as nar

SIDE = 8
# Missing pixels: all of the training sizes, and three times as many as the largest of them.
TASK = nar.tasks.Digits(train_sizes=range(1, 17), test_sizes=(16, 32, 48))
CODE = nar.models.Autoencoder(code=8, hidden=())
MAP = nar.models.SelfOrganisingMap(rows=5, columns=5, radius=0.7)


def arms() -> dict[str, tuple[Any, dict[str, nar.Arm]]]:
    """Model to what trains it, for each of the two models."""
    optimizer, strategies = nar.strategies.optimizer, nar.strategies

    def evolved(sigma: float) -> nar.Arm:
        adam = optimizer("adam", learning_rate=0.005)
        return nar.Arm(strategies.ES(population=128, sigma=sigma, optimizer=adam), batch=32)

    adam = strategies.Gradient(optimizer("adam", learning_rate=0.003))
    kohonen = strategies.Gradient(optimizer("sgd", learning_rate=1.0))
    return {
        "autoencoder": (CODE, {"adam": nar.Arm(adam, batch=512), "es": evolved(0.05)}),
        # Noise that is wider than the prototypes lie apart would decide which of them wins: the map
        # that is best under it has all of them in one place.
        "map": (MAP, {"kohonen": nar.Arm(kohonen, batch=512), "es": evolved(0.002)}),
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, nar.Results]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller budget")
    parser.add_argument("--out", default="results/digits", help="folder of results and picture")
    options = parser.parse_args(arguments)

    out = Path(options.out)
    found = {
        name: nar.compare(
            TASK,
            model,
            own,
            seeds=1,
            budget=nar.Budget(forwards=5e5 if options.quick else 1e7),
            evaluation_examples=512,
            out=out / name,
            overwrite=True,
            progress=False,
        )
        for name, (model, own) in arms().items()
    }
    Console().print(table(found))
    draw(found).savefig(out / "digits.png", dpi=120)
    print("Drawn into", out / "digits.png")
    return found


def table(found: dict[str, nar.Results]) -> Table:
    """One row an arm: the share of the variance explained, at each number of missing pixels."""
    grid = Table(title="Share of the variance of test digits explained, in %")
    for heading in ("model", "learned by", *(f"{size} missing" for size in TASK.test_sizes)):
        grid.add_column(heading)
    for name, results in found.items():
        for arm in results.names:
            scores = results.arm(arm)["seeds"][0]["scores"]
            grid.add_row(name, arm, *(f"{100 * entry['score']:.1f}" for entry in scores.values()))
    return grid


def draw(found: dict[str, nar.Results], size: int = 16, count: int = 10) -> Figure:
    """Test digits with `size` missing pixels and what each arm makes of them; below, the maps."""
    figure = Figure(figsize=(10, 11), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(6, 5))
    above, below = halves
    batch = TASK.test.sample(jax.random.key(1), size, max_size=size, batch=count)
    shown = np.asarray(batch.inputs.values[:, 0])
    pixels, missing = np.split(shown, 2, axis=-1)
    rows = {"digit": np.asarray(batch.targets[:, 0]), "given": np.where(missing, np.nan, pixels)}
    for name, results in found.items():
        for arm in results.names:
            params = results.parameters(arm, 0)
            outputs = results.model.apply(params, batch.inputs, spec=TASK.spec)
            rows[f"{name}\n{arm}"] = np.asarray(outputs[:, 0])
    axes = above.subplots(len(rows), count)
    for line, (label, pictures) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for place, picture in zip(line, pictures, strict=True):
            _show(place, picture.reshape(SIDE, SIDE))
    above.suptitle(f"{size} of {SIDE * SIDE} pixels missing (blue)")

    results = found["map"]
    for place, arm in zip(below.subplots(1, len(results.names)), results.names, strict=True):
        prototypes = np.asarray(MAP.prototypes(results.parameters(arm, 0)))
        tiles = prototypes.reshape(MAP.rows, MAP.columns, SIDE, SIDE)
        framed = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
        whole = framed.transpose(0, 2, 1, 3).reshape(MAP.rows * (SIDE + 1), -1)
        _show(place, whole[:-1, :-1])
        place.set_title(f"prototypes of the map, learned by {arm}")
    return figure


def _show(axes: Any, picture: np.ndarray) -> None:
    """Grey levels from 0 (white) to 1 (black); what is not there is blue."""
    from matplotlib import colormaps

    axes.imshow(picture, cmap=colormaps["gray_r"].with_extremes(bad="tab:blue"), vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])


if __name__ == "__main__":
    main()
