"""The figure of a memory shows what the model did, on an example that fits the task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sample_results import sample_results

from evojax_nar import models, stats, tasks
from evojax_nar.errors import InputError
from evojax_nar.files import save_params
from evojax_nar.folder import ArmFolder
from evojax_nar.models.memory.dnc import DNC
from evojax_nar.models.memory.ntm import NTM
from evojax_nar.results import Results
from evojax_nar.types import Sequence

pytestmark = pytest.mark.usefixtures("quick_compile")

COPY = tasks.Copy(width=3, train_sizes=(1, 2), test_sizes=(4, 6))
ONE_HOT = tasks.Parity(train_sizes=(1, 2), test_sizes=(4,))


def results(folder: Path, task: Any, model: Any) -> Results:
    """Two arms, the second with the seeds 3 and 4, whose parameters all differ."""
    arms: dict[str, list[int]] = {"adam": [0], "es $x$": [3, 4]}
    init = jax.jit(lambda key: model.init(key, task.spec))
    for place, (arm, seeds) in enumerate(arms.items()):
        for seed in seeds:
            params = init(jax.random.key(10 * place + seed))
            target = ArmFolder(folder, arm).seed(seed)
            target.mkdir(parents=True, exist_ok=True)
            save_params(target / "deployed.npz", params)
    data = {"arms": [{"name": n, "seeds": [{"seed": s} for s in own]} for n, own in arms.items()]}
    return Results(data, folder, task=task, model=model)


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(loc="left").partition(" (")[0]: axes for axes in figure.axes}


def image(axes: Axes) -> np.ndarray:
    """(rows, T), NaN where nothing is drawn."""
    (drawn,) = axes.get_images()
    return np.ma.filled(np.ma.asarray(drawn.get_array(), np.float64), np.nan)


def title(figure: Figure) -> str:
    return " ".join(figure.get_suptitle().split())


def test_panels_are_the_example_and_the_weights(tmp_path: Path) -> None:
    found = results(tmp_path, COPY, NTM(hidden=4, slots=7, width=2))
    figure = found.plot("memory", size=5)
    drawn = panels(figure)
    assert list(drawn) == ["inputs", "targets", "outputs", "read weights", "write weights"]
    images = {name: image(axes) for name, axes in drawn.items()}
    bits = images["inputs"][:3, :5]
    assert set(bits.ravel()) == {0.0, 1.0}
    np.testing.assert_array_equal(images["inputs"][3], np.arange(11) == 5)
    assert np.isnan(images["targets"][:, :6]).all()
    np.testing.assert_array_equal(images["targets"][:, 6:], bits)
    outputs = images["outputs"][:, 6:]
    assert ((outputs > 0) & (outputs < 1)).all()
    assert f"score {100 * ((outputs > 0.5) == bits).mean():.1f} %" in title(figure)
    for name in ("read weights", "write weights"):
        assert images[name].shape == (7, 11)
        np.testing.assert_allclose(images[name].sum(axis=0), 1.0, atol=1e-5)
    assert not np.array_equal(images["read weights"], images["write weights"])
    for axes in drawn.values():
        (picture,) = axes.get_images()
        assert picture.origin == "lower", "slots from bottom to top"
        assert axes.get_xlim() == (-0.5, 10.5), "time axes are aligned"
        assert axes.get_ylabel()
    assert drawn["write weights"].get_xlabel() == "step"
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_arm_seed_and_size_are_those_that_were_asked_for(tmp_path: Path) -> None:
    model = NTM(hidden=4, slots=7, width=2)
    found = results(tmp_path, COPY, model)
    assert title(found.plot("memory")).startswith("copy, ntm, adam, seed 0: size 4, score ")
    figure = found.plot("memory", arm="es $x$", seed=4, size=6)
    assert title(figure).startswith(r"copy, ntm, es \$x\$, seed 4: size 6, score ")
    drawn = panels(figure)
    inputs = jnp.asarray(np.nan_to_num(image(drawn["inputs"]).T)[None], jnp.float32)
    given = Sequence(inputs, jnp.ones(inputs.shape[:2], bool))
    _, shown = model.inspect(found.parameters("es $x$", 4), given, spec=COPY.spec)
    np.testing.assert_allclose(
        image(drawn["read weights"]), shown["read_weights"][:, 0, 0].T, atol=1e-5
    )
    default = panels(found.plot("memory", arm="es $x$", size=6))
    assert not np.allclose(image(default["outputs"])[:, 7:], image(drawn["outputs"])[:, 7:])


def test_each_head_has_a_panel_and_classes_are_probabilities(tmp_path: Path) -> None:
    figure = results(tmp_path, ONE_HOT, DNC(hidden=4, slots=3, width=2, read_heads=2)).plot(
        "memory"
    )
    drawn = panels(figure)
    assert list(drawn)[3:] == [
        "read weights, head 1 of 2",
        "read weights, head 2 of 2",
        "write weights",
    ]
    said, wanted = image(drawn["outputs"]), image(drawn["targets"])
    judged = ~np.isnan(wanted[0])
    np.testing.assert_allclose(said.sum(axis=0)[judged], 1.0, atol=1e-6)
    np.testing.assert_array_equal(wanted[:, judged].sum(axis=0), 1.0)
    right = (said.argmax(axis=0) == wanted.argmax(axis=0))[judged].mean()
    assert f"score {100 * right:.1f} %" in title(figure)


class Own:
    """Not of this package: one head in each of two modules, a fixed length, and a broken output."""

    name = "own"

    def max_size(self, spec: Any) -> int:
        return 4

    def init(self, key: Any, spec: Any) -> Any:
        return {"w": jax.random.normal(key, (2,))}

    def inspect(self, params: Any, inputs: Any, *, spec: Any) -> Any:
        batch, time = inputs.mask.shape
        weights = jnp.broadcast_to(jnp.eye(time)[:, None], (time, batch, time))
        outputs = jnp.full((batch, time, spec.output_features), jnp.nan)
        return outputs, {"lower/read_weights": weights, "upper/read_weights": 2 * weights}


def test_what_any_model_shows_is_drawn(tmp_path: Path) -> None:
    task = tasks.Copy(width=3, train_sizes=(1, 4), test_sizes=(2,))
    figure = results(tmp_path, task, Own()).plot("memory")
    drawn = panels(figure)
    assert list(drawn)[3:] == ["read weights of lower", "read weights of upper"]
    np.testing.assert_array_equal(image(drawn["read weights of upper"]), 2 * np.eye(9))
    assert "black 2" in drawn["read weights of upper"].get_title(loc="left")
    assert np.isnan(image(drawn["outputs"])).all()
    assert np.isnan(image(drawn["inputs"])[:, 5:]).all(), "padded to the length of the model"
    assert "score 0.0 %" in title(figure)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    lstm = results(tmp_path / "lstm", COPY, models.LSTM(hidden=2))
    with pytest.raises(InputError, match="model='lstm' shows no read_weights or write_weights"):
        lstm.plot("memory")
    wrapped = results(tmp_path / "wrapped", COPY, models.wrap(nn.Dense(3)))
    with pytest.raises(InputError, match="model='wrapped' shows no read_weights"):
        wrapped.plot("memory")
    ntm = results(tmp_path / "ntm", COPY, NTM(hidden=2, slots=2, width=2))
    with pytest.raises(InputError, match="kind='memroy' is not known; give 'memory'"):
        ntm.plot("memroy")
    with pytest.raises(InputError, match="model='ntm' shows no steps"):
        ntm.plot("steps")
    with pytest.raises(InputError, match="size=3 is for one example; leave it out"):
        ntm.plot("steps", size=3)
    with pytest.raises(InputError, match="arm='eva' is not known"):
        ntm.plot("memory", arm="eva")
    with pytest.raises(InputError, match="seed=9 was not trained"):
        ntm.plot("memory", seed=9)
    with pytest.raises(InputError, match="size=0 is not allowed"):
        ntm.plot("memory", size=0)
    with pytest.raises(InputError, match="size=5 is more than the model can run; give at most 4"):
        results(tmp_path / "own", COPY, Own()).plot("memory", size=5)
    ask: Any = ntm.plot
    with pytest.raises(InputError, match="size=3 is for one kind of figure"):
        ask(size=3)
    assert not list(tmp_path.rglob("*.png"))


def test_steps_of_an_arm_are_drawn(tmp_path: Path) -> None:
    model = models.UniversalTransformer(width=4, heads=1, max_steps=3, halting_bias=-1.0)
    figure = results(tmp_path, COPY, model).plot("steps", arm="es $x$", seed=4)
    assert title(figure).startswith("copy, es \\$x\\$, seed 4: ")
    (axes,) = figure.axes
    [line] = [line for line in axes.get_lines() if line.get_marker() not in ("None", None, "")]
    sizes, steps = np.asarray(line.get_xydata()).T
    assert sizes.tolist() == [4, 6]
    assert (steps >= 1).all()
    assert (steps <= 3).all()
    assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_kind_the_curves_are_drawn(tmp_path: Path) -> None:
    data = stats.summarise(sample_results(seeds=2))
    assert [type(figure) for figure in Results(dict(data), tmp_path).plot()] == [Figure, Figure]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "generalisation.png"]
