"""Table, figures and page: that they say what the results hold, and nothing they do not."""

from __future__ import annotations

import base64
import copy
import html
import io
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console
from rich.text import Span, Text
from sample_results import SIZES, sample_results

from evojax_nar import page, plots, report
from evojax_nar.stats import summarise

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
ATTACK = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def results():
    return summarise(sample_results())


@pytest.fixture(scope="module")
def awkward():
    """Names that are markup, an arm with missing sizes, a diverged seed, and no curve."""
    results = sample_results()
    es, snes, adam, sgd = results["arms"]
    es["name"] = ATTACK
    snes["name"] = "[bold]$x_1$ & $y$[/bold]"
    adam["name"] = "_hidden" + "x" * 60
    for seed in adam["seeds"]:
        seed["scores"]["500"] = None
        for point in seed["curve"]:
            point["scores"]["500"] = None
    sgd["seeds"][1]["scores"]["50"] = {"score": None, "exact": None, "loss": None}
    sgd["seeds"][1]["stopped"] = "unhealthy"
    for point in sgd["seeds"][1]["curve"][3:]:
        point["validation_loss"] = None
    snes["seeds"][0]["curve"] = []
    es["settings"]["rule"] = "</pre>" + ATTACK
    results["notes"] = [f"{ATTACK} & [red]more[/red]"]
    return results


def printed(results, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    report.print_table(results, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100])
def test_table_holds_the_numbers_and_fits(results, width):
    text = printed(results, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for arm in results["arms"]:
        summary = arm["summary"]
        assert arm["name"] in text
        assert report.compact(summary["cost"]["forward_equivalents"]) in text
        for entry in summary["by_size"].values():
            assert report.percent(entry["iqm"]) in text
            assert report.interval(entry) in text
    assert "3/3" in text
    assert "0/3" in text
    assert results["notes"][0] in text
    assert re.search(r"1,250\s+parameters", text)


def test_table_marks_what_uses_gradients_and_what_is_best(results):
    rows = report.table(results)
    names = [str(cell).split("\n")[0] for cell in rows.columns[0].cells]
    assert names == ["es", "snes", "adam *", "sgd *"]
    bold = [
        isinstance(cell, Text) and Span(0, 5, "bold") in cell.spans
        for cell in rows.columns[5].cells
    ]
    assert bold == [True, True, True, False]
    shown = list(rows.columns[5].cells)[3]
    assert isinstance(shown, Text)
    assert not any(span.style == "bold" for span in shown.spans)


def test_table_of_six_arms_and_missing_sizes(awkward):
    results = copy.deepcopy(awkward)
    results["arms"] += [{**results["arms"][3], "name": f"sgd {number}"} for number in (2, 3)]
    text = printed(results, 100)
    assert max(map(len, text.splitlines())) <= 100
    assert "n/a" in text
    assert ATTACK in re.sub(r"\s+", "", text)
    assert "[red]more[/red]" in text
    assert "cannot run size 500" in text
    assert "1 score that was not finite" in text
    assert "stopped in 1 of 3 seeds" in text


def test_headline_says_who_solved_at_which_cost(results):
    first, cost, others = report.headline(results)
    assert first == "es, snes and adam score 100 % at every test size up to 500, in every seed."
    costs = {arm["name"]: arm["summary"]["cost_to_target"] for arm in results["arms"]}
    assert costs["sgd"] is None
    positions = [
        cost.index(f"{name} {report.compact(costs[name])}") for name in ("adam", "snes", "es")
    ]
    assert positions == sorted(positions)
    assert report.spread(results["arms"][3]["summary"]["by_size"]["500"]) in others


def test_headline_without_a_winner_and_with_part_of_one():
    results = sample_results()
    results["arms"] = results["arms"][2:]
    del results["arms"][0]["seeds"][0]["scores"]["20"]
    (sentence,) = report.headline(results)
    assert sentence.startswith("Best at size 500: adam with 100.0 %")
    assert "adam 2 of 3" in sentence
    results["arms"] = results["arms"][1:]
    (sentence,) = report.headline(results)
    assert sentence.startswith("sgd scores 5")
    assert "no arm scores 100 %" in sentence


def test_remarks_are_honest_about_seeds():
    assert any("With 3 seeds" in remark for remark in report.remarks(sample_results(3)))
    assert any("With 1 seed" in remark for remark in report.remarks(sample_results(1)))
    assert not any("seeds an interval" in remark for remark in report.remarks(sample_results(5)))
    results = sample_results(5)
    results["arms"][0]["seeds"].pop()
    first, *_ = report.remarks(results)
    assert first.startswith("Not equal: the arms differ in the model or its initial parameters")


def test_what_is_not_equal_comes_first():
    results = sample_results(5)
    names = [arm["name"] for arm in results["arms"]]
    results["notes"] = ["A note."]
    results["tuning"] = {name: {"trials": 8, "seeds": [1000]} for name in names}
    assert report.remarks(results)[0] == "A note."
    results["tuning"][names[0]]["trials"] = 16
    first, second, *_ = report.remarks(results)
    others = ", ".join(names[1:])
    assert first == (
        "Not equal: the arms differ in the tuning that their settings had "
        f"({names[0]}: trials 16; {others}: trials 8)."
    )
    assert second == "A note."


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100.0"), (0.99999, ">99.9"), (0.9994, "99.9"), (0.5, "50.0"), (None, "n/a")],
)
def test_only_a_perfect_score_is_shown_as_one(share, text):
    assert report.percent(share) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(950, "950"), (9_999.5, "9,999.5"), (12_451_840, "1.2e7"), (9.96e6, "1.0e7"), (None, "n/a")],
)
def test_compact_numbers(number, text):
    assert report.compact(number) == text


def test_ranges_of_sizes():
    assert report.ranged(range(1, 21)) == "1–20"
    assert report.ranged([8]) == "8"
    assert report.ranged([40, 10, 20]) == "10, 20, 40"
    assert report.ranged([2**power for power in range(8)]) == "8 sizes from 1 to 128"


def test_generalisation_draws_each_arm_at_its_scores(results):
    figure = plots.generalisation(results)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    for arm in results["arms"]:
        expected = [100 * arm["summary"]["by_size"][str(size)]["iqm"] for size in SIZES]
        np.testing.assert_allclose(np.asarray(lines[arm["name"]].get_ydata()), expected)
        drawn = np.asarray(lines[arm["name"]].get_xdata())
        # Set apart sideways, but never nearer to another size than to their own.
        nearest = [SIZES[int(np.argmin(np.abs(np.log(SIZES) - np.log(x))))] for x in drawn]
        assert nearest == list(SIZES)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["es", "snes", "adam", "sgd"]
    looks = plots.looks(4)
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == 4


def test_equal_curves_stay_apart(results):
    same = copy.deepcopy(sample_results())
    same["arms"] = [{**same["arms"][0], "name": name} for name in "abcd"]
    (axes,) = plots.generalisation(same).axes
    lines = [line for line in axes.get_lines() if str(line.get_label()) in "abcd"]
    assert len({line.get_linewidth() for line in lines}) == 4
    assert len({float(np.asarray(line.get_xdata())[0]) for line in lines}) == 4


def test_curves_draw_the_median_of_the_seeds(results):
    figure = plots.curves(results)
    assert len(figure.axes) == 3
    for axes in figure.axes:
        named = [line.get_label() for line in axes.get_lines()]
        assert {"es", "snes", "adam", "sgd"} <= set(named)
    score, loss, _ = figure.axes
    sgd = results["arms"][3]
    curves = [seed["curve"] for seed in sgd["seeds"]]
    for axes, key, scale in ((score, "validation_score", 100), (loss, "validation_loss", 1)):
        (line,) = [line for line in axes.get_lines() if line.get_label() == "sgd"]
        table = [[point[key] * scale for point in curve] for curve in curves]
        np.testing.assert_allclose(np.asarray(line.get_ydata()), np.median(table, axis=0))


def test_median_holds_what_a_stopped_seed_had_and_counts_divergence_as_worst():
    short = (np.array([1.0, 2.0]), np.array([5.0, 1.0]))
    long = (np.array([1.0, 2.0, 4.0]), np.array([6.0, 7.0, 8.0]))
    lost = (np.array([2.0, 4.0]), np.array([9.0, np.inf]))
    x, y = plots._median([short, long, lost])
    np.testing.assert_array_equal(x, [2.0, 4.0])
    np.testing.assert_array_equal(y, [7.0, 8.0])
    assert np.isinf(plots._median([long, lost])[1][-1])


def test_figures_of_awkward_results_still_name_every_arm(awkward):
    for figure in (plots.curves(awkward), plots.generalisation(awkward)):
        assert plots.png(figure).startswith(PNG_MAGIC)
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert len(texts) == 4
        assert texts[0] == ATTACK
        assert "(n/a at 500)" in texts[2]


def test_figures_without_curves():
    results = sample_results(seeds=1)
    for arm in results["arms"]:
        for seed in arm["seeds"]:
            seed["curve"] = []
    figure = plots.curves(results)
    assert plots.png(figure).startswith(PNG_MAGIC)
    assert all("no curve" in text.get_text() for text in figure.legends[0].get_texts())


def test_saved_figures_are_images_and_pyplot_is_not_used(results, tmp_path):
    paths = plots.save(results, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["curves.png", "generalisation.png"]
    for path in paths:
        assert path.read_bytes().startswith(PNG_MAGIC)
        assert path.stat().st_size > 10_000
    assert sorted(path.name for path in paths[0].parent.iterdir()) == [
        "curves.png",
        "generalisation.png",
    ]
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        assert pyplot.get_fignums() == []


class Reader(HTMLParser):
    """Collects tags and text, and checks that what is opened is closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_page_is_whole_and_says_what_the_results_say(results):
    text = page.render(results)
    reader = Reader(text)
    assert reader.open == []
    words = " ".join(reader.text)
    for sentence in [*report.headline(results), *report.remarks(results)]:
        assert sentence in words
    for arm in results["arms"]:
        for entry in arm["summary"]["by_size"].values():
            assert report.percent(entry["iqm"]) in words
            assert report.interval(entry) in words
    assert "evojax-nar compare --config config.yaml" in words
    assert "device_kind: cpu" in words
    pair = results["comparisons"][2]
    assert f"{pair['probability_of_improvement']:.2f}" in words
    assert text == page.render(json.loads(json.dumps(results)))


def test_page_loads_nothing_and_describes_its_images(results):
    text = page.render(results)
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", re.sub(r"base64,[^\"]*", "", text))
    reader = Reader(text)
    images = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert len(images) == 2
    for attributes in images:
        source = attributes["src"] or ""
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")).startswith(PNG_MAGIC)
        assert len(attributes["alt"] or "") > 40
    assert not [tag for tag, attributes in reader.tags if tag == "link" or "href" in attributes]


def test_page_escapes_every_name(awkward):
    text = page.render(awkward)
    assert ATTACK not in text
    assert html.escape(ATTACK) in text
    assert [tag for tag, _ in Reader(text).tags].count("script") == 1
    assert "n/a" in text
    assert "not finite" in text


def test_page_of_one_arm_and_one_seed():
    results = sample_results(seeds=1)
    results["arms"] = results["arms"][:1]
    text = page.render(results)
    assert Reader(text).open == []
    assert "likelier" not in text


def test_page_is_written_whole(results, tmp_path):
    path = page.write(results, tmp_path)
    assert path.name == "report.html"
    assert path.read_text(encoding="utf-8") == page.render(results)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
