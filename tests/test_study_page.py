"""The page of a study: it holds what the rows say, marks what it claims, and cannot be injected."""

from __future__ import annotations

import copy
import html
import itertools
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from sample_study import ARMS, MODELS, TASKS, sample_study

from evojax_nar import plots, report, stats
from evojax_nar.errors import InputError
from evojax_nar.study import measures
from evojax_nar.study import page as study_page
from evojax_nar.study import plots as study_plots

ATTACK = "</script><script>alert(1)</script>"
VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Checks that tags are closed in order, and keeps tables, ids, links and images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.styles = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data + " "
        if self.open and self.open[-1] == "style":
            self.styles += data


@pytest.fixture(scope="module")
def study():
    return sample_study()


@pytest.fixture(scope="module")
def text(study):
    return study_page.page(study)


@pytest.fixture(scope="module")
def reader(text):
    return Reader(text)


def test_what_is_unequal_or_missing_comes_before_any_number(study, text):
    first_table = text.index("<table")
    assert text.index(html.escape(study["unequal"][0])) < first_table
    assert text.index("1 of 36 rows are not there yet: sort/stack_rnn/es-score.") < first_table
    equal = study_page.page({**study, "unequal": [], "rows": study["rows"][:1]})
    assert "The arms of each table were run on equal terms." in equal


def test_one_row_for_every_row_with_its_numbers(study, reader):
    head, *body = reader.tables[0]
    assert len(body) == len(study["rows"]) == 35
    place = {name.strip(): index for index, name in enumerate(head)}
    for row, cells in zip(study["rows"], body, strict=True):
        assert len(cells) == len(head)
        assert row["arm"] in cells[0]
        assert cells[place["task"]].strip() == row["task"]
        assert cells[place["model"]].strip() == row["model"]
        largest = str(max(row["test_sizes"]))
        entry = row["summary"]["by_size"][largest]
        assert report.percent(entry["iqm"]) in cells[place["largest"]]
        assert f"at {largest}" in cells[place["largest"]]
        assert cells[place["solved"]].strip() == f"{row['summary']['solved']} of 5"
        assert report.percent(row["floors"][largest]) in cells[place["floor there"]]
    assert "× budget" not in place
    # Sizes up to 64 of tasks that train up to 16 have nothing near 8 and 25 times that.
    assert {cells[place["×25"]].strip() for cells in body[18:]} == {"–"}
    assert all("at 250" in cells[place["×25"]] for cells in body[:18])


def test_several_multiples_of_the_budget_are_kept_apart():
    study = sample_study(multiples=(1, 10), seeds=4, arms=("adam", "es"))
    study["rows"] = [row for row in study["rows"] if row["model"] == "rnn"]
    text = study_page.page(study)
    head, *body = Reader(text).tables[0]
    column = [name.strip() for name in head].index("× budget")
    assert [cells[column].strip() for cells in body] == ["1", "10"] * 4
    titles = re.findall("<h2>([^<]*)</h2>", text)
    assert "Over all tasks and models, at 1 times the budget" in titles
    assert "Over all tasks and models, at 10 times the budget" in titles


def test_every_name_is_escaped_and_nothing_is_loaded(study):
    evil = copy.deepcopy(study)
    evil["title"] = ATTACK
    evil["unequal"] = [f"{ATTACK} is <b>bold</b>"]
    evil["rows"] = [row for row in evil["rows"] if row["task"] == "sort"][:3]
    evil["missing"][0]["task"] = ATTACK
    evil["config"] = {"title": ATTACK}
    evil["environment"] = {"device_kind": ATTACK}
    for row in evil["rows"]:
        row.update(
            arm=f"{row['arm']}{ATTACK}$x_1$", task=f"'{ATTACK}\"", model=ATTACK, task_name=ATTACK
        )
        row["settings"] = {"rule": ATTACK}
        row["budget"]["kind"] = ATTACK
        row["seeds"][0]["stopped"] = ATTACK
    text = study_page.page(evil)
    reader = Reader(text)
    assert text.count("<script>") == 1
    assert "<b>" not in text
    assert ATTACK not in text
    for tag, attributes in reader.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            if name in attributes:
                assert (attributes[name] or "").startswith(("data:image/png;base64,", "#"))
        assert tag not in ("link", "iframe", "object", "base", "form")
    outside = re.findall(r"url\((?!data:)", reader.styles)
    assert outside == []
    assert "default-src 'none'" in str(reader.tags)


def test_links_lead_somewhere_and_images_are_described(reader):
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert {f"#{own}" for own in ids} == set(links)
    images = [attributes for tag, attributes in reader.tags if tag == "img"]
    # For each task and model one over size and three over cost; four over everything.
    assert len(images) == 4 * len(TASKS) * len(MODELS) + 4
    assert all(len(own["alt"] or "") > 20 for own in images)


def test_the_colour_of_an_arm_is_the_same_everywhere(reader):
    rules = re.findall(r"\.key-(\d+) \{ background-image: url\(([^)]*)\)", reader.styles)
    assert [int(place) for place, _ in rules] == list(range(len(ARMS)))
    assert len({image for _, image in rules}) == len(ARMS)
    looks = plots.looks(len(ARMS))
    assert len({(look.dash, look.marker) for look in looks}) == len(ARMS), "told apart in grey"


def test_written_whole_and_told_of_another_schema(study, tmp_path):
    small = {**study, "rows": [], "missing": []}
    path = study_page.write(small, tmp_path / "new")
    assert path.name == "report.html"
    assert "No job is finished yet." in path.read_text()
    with pytest.raises(InputError, match=r"schema='else' is not known"):
        study_page.page({**study, "schema": "else"})


def test_a_study_survives_json(study):
    again = json.loads(json.dumps(study))
    few = [row for row in again["rows"] if row["model"] == "rnn" and row["task"] == "sort"]
    assert "sort, trained on sizes 2–16" in study_page.page({**again, "rows": few})


# Measures, against plain ones.


def test_runs_are_over_the_problems_that_all_arms_have(study):
    runs = measures.runs(study["rows"], list(ARMS))
    assert runs is not None
    assert len(runs.problems) == 5
    place = runs.problems.index(measures.Problem("sort", "lstm", 1))
    row = next(
        r for r in study["rows"] if (r["task"], r["model"], r["arm"]) == ("sort", "lstm", "es")
    )
    for seed, own in enumerate(row["seeds"]):
        shares = [(own["scores"][size]["score"] - 0.12) / 0.88 for size in ("16", "32", "64")]
        assert runs.scores["es"][seed, place] == pytest.approx(sum(shares) / 3)
        reached = [point[1] for point in own["curve"] if point[3] >= 0.99]
        assert runs.costs["es"][seed, place, 1] == (reached[0] if reached else math.inf)
    both = measures.runs(study["rows"], ["adam", "es"])
    assert both is not None
    assert len(both.problems) == 6
    assert measures.runs(study["rows"], ["adam", "no such arm"]) is None


def test_improvement_is_the_mean_of_all_pairs():
    generator = np.random.default_rng(3)
    first, second = generator.integers(0, 4, (2, 5, 7)) / 3
    wins = [
        1.0 if one > two else 0.5 if one == two else 0.0
        for place in range(7)
        for one, two in itertools.product(first[:, place], second[:, place])
    ]
    found = measures.improvement(first, second)
    assert found.value == pytest.approx(sum(wins) / len(wins))
    assert found.low <= found.value <= found.high
    assert measures.improvement(first, first - 9) == (1.0, 1.0, 1.0)


def test_gap_and_profile_are_what_they_say():
    scores = np.array([[0.5, 1.0], [-0.5, 1.0], [0.0, 0.25]])
    gap = measures.optimality_gap(scores)
    assert gap.value == pytest.approx((0.5 + 0 + 1.5 + 0 + 1 + 0.75) / 6)
    found = measures.profile(scores, [0.0, 0.25, 1.0])
    assert [own.value for own in found] == pytest.approx([5 / 6, 4 / 6, 2 / 6])
    assert all(own.low <= own.value <= own.high for own in found)


def test_cost_ratios_pair_runs_of_one_problem_and_seed():
    runs = measures.Runs(
        (measures.Problem("a", "b", 1),) * 3,
        {},
        {
            "one": np.array([[[2.0], [8.0], [np.inf]]]),
            "two": np.array([[[4.0], [np.inf], [np.inf]]]),
        },
    )
    found = measures.cost_ratios(runs, 0)
    assert found["one"].tolist() == [[1.0, 1.0, np.inf]]
    assert found["two"].tolist() == [[2.0, np.inf, np.inf]]


def test_few_seeds_are_never_told_apart():
    # With three against three the rarest order has probability 2 / 20; with four, 2 / 70.
    assert not measures.told_apart([0.9] * 3, [0.1] * 3)
    assert measures.told_apart([0.9] * 4, [0.1] * 4)
    assert not measures.told_apart([0.9] * 4, [0.9] * 4)
    # One seed each on six problems: 2 / 2 ** 6.
    assert not measures.too_few(1, 1, 6)
    assert measures.too_few(1, 1, 5)


def test_marks_of_the_best_and_of_what_may_be_as_good():
    high = [0.9, 0.91, 0.92, 0.93, 0.94]
    near = [0.89, 0.9, 0.91, 0.935, 0.93]
    low = [0.1, 0.2, 0.3, 0.2, 0.1]
    assert measures.marks({"a": low, "b": near, "c": high}) == {"c": "best", "b": "tied"}
    assert measures.marks({"a": [1.0] * 5, "b": [1.0] * 5, "c": low}) == {"a": "best", "b": "best"}
    assert measures.marks({"a": high, "b": high}) == {}


@pytest.mark.parametrize(
    ("sizes", "train", "multiple", "expected"),
    [
        ([20, 50, 100, 500], 20, 2, "50"),
        ([20, 50, 100, 500], 20, 4, "100"),
        ([20, 50, 100, 500], 20, 8, None),
        ([20, 50, 100, 500], 20, 25, "500"),
        ([16, 17, 64], 16, 2, None),
        ([16], 16, 2, None),
    ],
)
def test_the_size_that_stands_for_a_multiple(sizes, train, multiple, expected):
    row = {"train_sizes": [1, train], "test_sizes": sizes}
    assert measures.size_near(row, multiple) == expected


def test_what_is_not_finite_is_the_worst_and_what_does_not_apply_is_nothing(study):
    row = copy.deepcopy(study["rows"][0])
    row["seeds"][1]["scores"]["40"] = {"score": None, "loss": None, "exact": None}
    assert measures.seed_scores(row, "40")[1] == 0.0
    for seed in row["seeds"]:
        seed["scores"]["80"] = None
    assert measures.seed_scores(row, "80") == []


@pytest.mark.parametrize(("low", "high"), [(1, 1.3), (1, 40), (3e4, 2e6), (0.06, 2.5), (1, 1e15)])
def test_axes_of_cost_have_a_few_ticks_that_can_be_read(low, high):
    figure, axes = study_plots._panel()
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    study_plots._decades(axes)
    figure.canvas.draw()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert 2 <= len(ticks) <= 6
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert [float(label) for label in labels] == pytest.approx(list(axes.get_xticks()))


def test_a_cost_profile_begins_with_the_cheapest_and_ends_with_those_that_got_there():
    ratios = {"a": np.array([[1.0, 1.0], [3.0, np.inf]]), "b": np.array([[2.0, np.inf]] * 2)}
    looks = dict(zip(ratios, plots.looks(2), strict=True))
    lines = study_plots.cost_profiles(ratios, looks, 0).axes[0].get_lines()
    x, y = np.asarray(lines[0].get_xdata()), np.asarray(lines[0].get_ydata())
    assert y[x == 1.0].max() == 50.0
    assert y[-1] == 75.0
    assert np.asarray(lines[1].get_ydata())[-1] == 50.0
    nowhere = {"a": np.full((2, 1), np.inf), "b": np.full((2, 1), np.inf)}
    flat = study_plots.cost_profiles(nowhere, looks, 0).axes[0].get_lines()
    assert {float(own) for line in flat for own in np.asarray(line.get_ydata())} == {0.0}


def test_the_summary_of_a_row_is_that_of_stats(study):
    row = study["rows"][0]
    largest = [seed["scores"]["250"]["score"] for seed in row["seeds"]]
    assert row["summary"]["by_size"]["250"]["iqm"] == pytest.approx(
        stats.interquartile_mean(largest)
    )
