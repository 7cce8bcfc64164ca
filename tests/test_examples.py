"""The examples run, and learn what they say they learn. Each with its smaller budget."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import nbformat
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOK = EXAMPLES / "head_to_head.ipynb"
BADGE = (
    "https://colab.research.google.com/github/evojax-nar/evojax-nar/blob/main/"
    "examples/head_to_head.ipynb"
)

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Gives the module of an example."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


def scores(results: Any, arm: str) -> dict[str, float]:
    """Size to interquartile mean."""
    by_size = results.arm(arm)["summary"]["by_size"]
    return {size: entry["iqm"] for size, entry in by_size.items()}


def test_every_example_is_here() -> None:
    tested = {"own_model.py", "own_task.py", "bare_strategy.py", "head_to_head.py"}
    tested |= {"multi_host.py", "gpu.py", "tpu.py", "digits.py"}  # the last in test_digits
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_own_model(load: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = load("own_model").main(["--quick", "--out", str(tmp_path / "results")])
    # A memory that multiplies is all that parity needs: both sides find it, for every length.
    for arm in ("es", "adam"):
        assert results.arm(arm)["summary"]["solved"] == 3, scores(results, arm)
    assert "es and adam score 100 % at every test size up to 100" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["gpu", "tpu"])
def test_accelerator(
    name: str, load: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--population", "64", "--hidden", "4", "--generations", "3"]
    results = load(name).main([*small, "--out", str(tmp_path / "results")])
    (seed,) = results.arm("es")["seeds"]
    assert seed["steps"] == 3
    shown = capsys.readouterr().out
    assert f"No {name.upper()} was found" in shown
    assert "32 antithetic pairs, " in shown
    assert "3 generations should take about" in shown


def test_own_task(load: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = load("own_task").main(["--quick", "--out", str(tmp_path / "results")])
    # The better constant answer is "no", which the ties make right in about 62 % of the steps.
    assert scores(results, "snes")["10"] > 0.85
    assert scores(results, "adam")["10"] > 0.95
    assert scores(results, "adam")["40"] > 0.8
    # The metric `exact` of the task is what the results report.
    seed = results.arm("adam")["seeds"][0]["scores"]["40"]
    assert seed["exact"] < seed["score"]
    shown = capsys.readouterr().out
    assert "majority, rnn" in shown
    assert "snes" in shown


def test_own_task_is_what_it_says(load: Any) -> None:
    """Its targets against a count by hand, at a size that is smaller than the padding."""
    import jax
    import numpy as np

    from evojax_nar.types import Task

    task = load("own_task").Majority()
    assert isinstance(task, Task)
    batch = task.sample(jax.random.key(0), 5, max_size=8, batch=64)
    assert not np.asarray(batch.mask)[:, 5:].any()
    assert not np.asarray(batch.inputs.values)[:, 5:].any()
    for bits, targets in zip(batch.inputs.values[..., 0], batch.targets[..., 0], strict=True):
        for step in range(5):
            ones = int(np.asarray(bits)[: step + 1].sum())
            assert bool(targets[step]) == (2 * ones > step + 1)


def test_bare_strategy(load: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = load("bare_strategy").main(["--quick"])
    for arm in ("es", "adam"):
        assert found[arm] < 0.05 * found["start"]
    # Too much noise drowns what is to be learned.
    assert found["sigma 0.01"] < 0.1 * found["sigma 1"]
    assert found["score after"] > found["score before"] + 0.25
    shown = capsys.readouterr().out
    assert "fitness='score' has no gradient" in shown
    assert "What can be swept: sigma, weight_decay" in shown


def test_notebook_and_script_agree() -> None:
    notebook, script = (jupytext.read(path) for path in (NOTEBOOK, NOTEBOOK.with_suffix(".py")))
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in script.cells
    ]
    assert notebook.metadata["jupytext"]["formats"] == "ipynb,py:percent"
    assert script.metadata["jupytext"]["formats"] == "ipynb,py:percent"


def test_notebook_is_stored_without_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert BADGE in "".join(notebook["cells"][0]["source"])
    install = [cell for cell in code if "%pip install -q evojax-nar" in "".join(cell["source"])]
    assert len(install) == 1
    assert "except ImportError" in "".join(install[0]["source"])


def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "EVOJAX_NAR_QUICK": "1",
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        # The notebook trains the same arm more than once: what was compiled is kept for it.
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(tmp_path / "matplotlib")),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    shutil.copy(NOTEBOOK, tmp_path)
    notebook = nbformat.read(tmp_path / NOTEBOOK.name, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "interrupted\n" in printed
    assert "each once: True" in printed
    assert "and should say 0" in printed
    shown = [output["data"] for output in outputs if output.output_type == "display_data"]
    assert sum("image/png" in data for data in shown) == 2
    text = "".join(data.get("text/plain", "") for data in shown)
    for arm in ("es", "snes", "adam", "yours"):
        assert arm in text
    assert (tmp_path / "results" / "parity-001" / "report.html").exists()
    assert (tmp_path / "results" / "parity-001" / "one" / "results.json").exists()
