"""The code in the documents runs as it stands there, and their links lead somewhere.

A block under the line `<!-- not run -->` is passed over.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import evosax
import pytest
from evosax.learned_evolution import les_tools
from scipy.stats import mannwhitneyu

from evojax_nar import stats, strategies
from evojax_nar.strategies import evosax_adapter

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXTENDING = ROOT / "docs" / "extending.md"
SKIP = "<!-- not run -->"
_BLOCK = re.compile(r"(?P<before>[^\n]*\n)?\n?^```python\n(?P<code>.*?)^```$", re.M | re.S)

SMALLER = [
    (r"Budget\(forwards=[^)]+\)", "Budget(forwards=6e3)"),
    (r"Budget\(seconds=[^)]+\)", "Budget(seconds=0.1)"),
    (r"population=\d+", "population=16"),
    (r"hidden=\d+", "hidden=4"),
    (r"train_sizes=range\(1, \d+\)", "train_sizes=range(1, 5)"),
    (r"test_sizes=\([^)]+\)", "test_sizes=(4, 8)"),
]
"""What makes the code of the README end in seconds. It is run as it stands but for these."""

CONTRACTS = [
    "test_contracts.py::test_every_file_and_component_is_listed",
    "test_contracts.py::test_settings_build_an_equal_component",
    "test_contracts.py::test_strategy_learns[weighted_mean]",
    "test_contracts.py::test_strategy_keeps_its_types[weighted_mean]",
    "test_contracts.py::test_strategy_counts_its_cost[weighted_mean]",
    "test_contracts_of_tasks.py::test_batches_are_well_formed[cycle_navigation]",
    "test_contracts_of_tasks.py::test_outputs_are_judged[cycle_navigation]",
    "test_contracts_of_models.py::test_model_knows_its_limit[convolution]",
]
"""Contracts for the components of extending.md: those that take no time."""


def blocks(page: Path) -> list[str]:
    """The Python blocks of a page, in order, without those that are not to be run."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [match["code"] for match in found if (match["before"] or "").strip() != SKIP]


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert ROOT in linked.parents, f"{page.name} links to {target}, outside of the project"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), flags=re.M)
            assert anchor in map(slug, headings), f"{page.name} links to {target}"


def test_blocks_are_found_and_passed_over(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    fence = "```"
    page.write_text(
        f"{fence}python\na = 1\n{fence}\n\n{SKIP}\n{fence}python\nraise\n{fence}\n"
        f"text\n\n{fence}python\nb = 2\n{fence}\n{fence}\nnot python\n{fence}\n"
    )
    assert blocks(page) == ["a = 1\n", "b = 2\n"]


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page != EXTENDING and blocks(page)],
    ids=lambda page: page.name,
)
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for code in blocks(page):
        for pattern, smaller in SMALLER if page.name == "README.md" else ():
            code = re.sub(pattern, smaller, code)
        exec(compile(code, str(page), "exec"), namespace)


def test_what_is_added_as_extending_says_keeps_the_contracts(tmp_path: Path) -> None:
    """In a copy of the project, with the files written and the lines added that the page shows."""
    for folder in ("evojax_nar", "tests"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    script = []
    for code in blocks(EXTENDING):
        named = re.match(r"# ((?:evojax_nar|tests)/\S+\.py)\n", code)
        if named is None:
            script.append(code)
        elif named[1].endswith("__init__.py"):
            list_component(tmp_path / named[1], code.partition("\n")[2])
        else:
            assert not (tmp_path / named[1]).exists(), named[1]
            (tmp_path / named[1]).write_text(code.partition("\n")[2], encoding="utf-8")
    (tmp_path / "script.py").write_text("\n".join(script), encoding="utf-8")
    (tmp_path / "tests" / "test_script.py").write_text(
        "import runpy\n\n\ndef test_script(monkeypatch, tmp_path):\n"
        "    monkeypatch.chdir(tmp_path)\n"
        f"    found = runpy.run_path({str(tmp_path / 'script.py')!r})\n"
        "    results = found['results']\n"
        "    assert results.names == ['mine', 'adam']\n"
        "    assert results.data['arms'][0]['summary']['in_distribution']['iqm'] > 0.6\n"
        "    assert (results.folder / 'report.html').exists()\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    chosen = ["tests/test_script.py", "tests/test_cycle_navigation.py"]
    chosen += [f"tests/{name}" for name in CONTRACTS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *chosen],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    # Two of the contracts run once for each of the three folders, and the two tests are the page's.
    assert f"{len(CONTRACTS) + 6} passed" in done.stdout


def list_component(file: Path, line: str) -> None:
    """Add an import to a folder's `__init__.py`, and what it imports to `ALL` and `__all__`."""
    text = file.read_text(encoding="utf-8")
    name = line.split()[-1]
    text = text.replace("\nfrom evojax_nar.", f"\n{line.strip()}\nfrom evojax_nar.", 1)
    text, all_count = re.subn(r"^(ALL\b[^=]*= \([^)]*?),?\s*\)", rf"\1, {name})", text, flags=re.M)
    text, public_count = re.subn(r"^__all__ = \[", f'__all__ = [\n    "{name}",', text, flags=re.M)
    assert (all_count, public_count) == (1, 1), file
    file.write_text(text, encoding="utf-8")


def test_what_concepts_says_of_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making any other strategy of evosax reads no pickle."""
    read: set[str] = set()
    original = les_tools._CheckpointUnpickler

    def recorded(name: str) -> Any:
        return lambda file: read.add(name) or original(file)

    for name in evosax_adapter.names():
        monkeypatch.setattr(les_tools, "_CheckpointUnpickler", recorded(name))
        strategies.Evosax(name, population=16)
    text = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\w+)` \| `.*\.pkl`", text, flags=re.M)
    assert read == set(table)
    shipped = Path(evosax.__file__).parent / "algorithms" / "ckpt"
    for file in re.findall(r"`([\w/]+\.pkl)`", text):
        assert (shipped / file).exists(), file


def test_what_concepts_says_of_three_seeds() -> None:
    """The numbers of the section on what three seeds cannot say."""
    runs = [0.2, 0.7, 0.9]
    estimate = stats.stratified_bootstrap(runs, lambda x: stats.interquartile_mean(x, (-2, -1)))
    assert (estimate.low, estimate.high) == pytest.approx((min(runs), max(runs)))
    assert 1 - 2 * 0.5**3 == 0.75
    apart = {n: mannwhitneyu(range(n), range(n, 2 * n), method="exact").pvalue for n in (3, 5)}
    assert apart[3] == pytest.approx(0.1)
    assert apart[5] == pytest.approx(0.008, abs=5e-4)
    assert math.cbrt(0.05) == pytest.approx(0.37, abs=5e-3)
