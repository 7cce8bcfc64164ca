"""What the results say, in words and as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evojax_nar import fairness, stats, votes

FEW_SEEDS = 5
"""With fewer seeds than this the report says how little an interval of theirs means."""

UNITS = {
    "forwards": "forward-equivalents",
    "examples": "examples",
    "generations": "generations",
    "seconds": "device-seconds a seed",
}


def print_table(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints the headline, the remarks and the table of `results`."""
    console = console or Console()
    results = summarised(results)
    for sentence in headline(results):
        console.print(Text(sentence))
    for remark in remarks(results):
        console.print(Text(f"Note: {remark}", style="yellow"))
    console.print(table(results))
    if added := vote_table(results):
        console.print(added)


def table(results: Mapping[str, Any]) -> Table:
    """One row an arm: its score at each test size, how many seeds solved the task, and the cost."""
    results = summarised(results)
    sizes = [str(size) for size in results["task"]["test_sizes"]]
    arms = results["arms"]
    best = {size: best_shown(arms, size) for size in sizes}
    cheapest = _cheapest(arms)
    grid = Table(
        title=Text(subject(results)),
        caption=Text(_caption(results)),
        box=box.SIMPLE_HEAD,
        padding=0,
        title_justify="left",
        caption_justify="left",
    )
    grid.add_column(Text("arm\nstrategy"), overflow="fold", min_width=8)
    for heading in (*sizes, "solved\nseeds", "cost\nseconds"):
        grid.add_column(Text(heading), justify="right", no_wrap=True)
    for arm in arms:
        summary = arm["summary"]
        cost = summary["cost"]
        bold = "bold" if arm["name"] == cheapest else ""
        grid.add_row(
            _stacked(arm["name"] + ("" if arm["gradient_free"] else " *"), arm["strategy"]),
            *(_cell(summary["by_size"].get(size), best[size]) for size in sizes),
            Text(f"{summary['solved']}/{summary['seeds']}"),
            _stacked(
                compact(cost.get("forward_equivalents")),
                f"{seconds(cost.get('device_seconds'))} s",
                bold,
            ),
        )
    if floors := floor_scores(results):
        shown = [Text(percent(floors.get(size)), style="dim") for size in sizes]
        grid.add_row(Text("floor", style="dim"), *shown, Text(""), Text(""))
    return grid


def vote_table(results: Mapping[str, Any]) -> Table | None:
    """One row a vote: the points that it adds at each test size. None where there are no votes."""
    found = votes.votes(results)
    if not found:
        return None
    grid = Table(
        title=Text("What a vote adds, in points"),
        caption=Text(votes.caption(results)),
        box=box.SIMPLE_HEAD,
        padding=0,
        title_justify="left",
        caption_justify="left",
    )
    grid.add_column(Text("arm\nvote"), overflow="fold", min_width=8)
    for size in results["task"]["test_sizes"]:
        grid.add_column(Text(str(size)), justify="right", no_wrap=True)
    for vote in found:
        cells = [_stacked(*votes.points(own)) for own in vote.by_size.values()]
        grid.add_row(_stacked(vote.arm, vote.reading), *cells)
    return grid


def floor_scores(results: Mapping[str, Any]) -> dict[str, float]:
    """What answers score that never look at the input, by size, where that is known."""
    floors = results.get("floors") or {}
    return {size: entry["score"] for size, entry in floors.items() if entry}


def normalised(score: float, floor: float | None) -> float | None:
    """A score as a share of the way from the floor to 1; None where there is no such way."""
    return None if floor is None or floor >= 1 else (score - floor) / (1 - floor)


def summarised(results: Mapping[str, Any]) -> Mapping[str, Any]:
    """`results` with summaries: as they are where every arm has one, else made here."""
    arms = results["arms"]
    if arms and all("summary" in arm for arm in arms) and "comparisons" in results:
        return results
    return stats.summarise(results)


def subject(results: Mapping[str, Any]) -> str:
    """Task, model, budget and seeds in one line."""
    model, budget = results["model"], results["budget"]
    counts = sorted({arm["summary"]["seeds"] for arm in results["arms"]})
    seeds = counted(counts[0], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    return (
        f"{results['task']['name']}, {model['name']} ({model['parameters']:,} parameters), "
        f"budget {compact(budget['amount'])} {UNITS.get(budget['kind'], budget['kind'])}, {seeds}"
    )


def headline(results: Mapping[str, Any]) -> list[str]:
    """What the data say, in one to three sentences, the most important one first."""
    results = summarised(results)
    arms = results["arms"]
    largest = str(max(results["task"]["test_sizes"]))
    full = [arm for arm in arms if _everywhere(arm)]
    sentences = [_who_solves(arms, full, largest)]
    if costs := _cost_sentence(full):
        sentences.append(costs)
    others = [arm for arm in arms if arm not in full and arm["summary"]["by_size"][largest]]
    if full and others:
        ends = {arm["name"]: arm["summary"]["by_size"][largest] for arm in others}
        ranked = sorted(ends, key=lambda name: -ends[name]["iqm"])
        shown = [f"{name} {spread(ends[name])}" for name in ranked]
        sentences.append(f"The others at size {largest}: {listed(_few(shown))}.")
    return sentences


def remarks(results: Mapping[str, Any]) -> list[str]:
    """What is not equal, the notes, and what a reader must know before believing the numbers."""
    results = summarised(results)
    found = [*fairness.of_results(results), *(results.get("notes") or [])]
    fewest = min(arm["summary"]["seeds"] for arm in results["arms"])
    if fewest < FEW_SEEDS:
        found.append(
            "With 1 seed there is no interval: how far another seed would differ is not known."
            if fewest == 1
            else f"With {fewest} seeds an interval shows how far the seeds lie apart, and hardly "
            "more; one without width says only that they agree."
        )
    for arm in results["arms"]:
        summary, name = arm["summary"], arm["name"]
        if missing := [size for size, entry in summary["by_size"].items() if entry is None]:
            found.append(
                f"{name} cannot run {'size' if len(missing) == 1 else 'sizes'} {listed(missing)}: "
                "its mean score is over the other sizes."
            )
        if summary["not_finite"]:
            found.append(
                f"{name} gave {counted(summary['not_finite'], 'score')} that "
                f"{'was' if summary['not_finite'] == 1 else 'were'} not finite, counted as 0."
            )
        if ill := sum(seed.get("stopped") == "unhealthy" for seed in arm["seeds"]):
            found.append(
                f"{name} stopped in {ill} of {counted(summary['seeds'], 'seed')} because nothing "
                "it evaluated was finite any more."
            )
    return found


def best_shown(arms: Sequence[Mapping[str, Any]], size: str) -> str | None:
    """The best score at `size` as it is shown; None where all arms show the same one."""
    found = [arm["summary"]["by_size"].get(size) for arm in arms]
    values = [entry["iqm"] for entry in found if entry]
    shown = {percent(value) for value in values}
    return percent(max(values)) if len(shown) > 1 else None


def percent(share: float | None) -> str:
    """A share as a percentage with one decimal; only a perfect score is shown as 100.0."""
    if share is None:
        return "n/a"
    text = f"{100 * share:.1f}"
    return ">99.9" if text == "100.0" and share < stats.PERFECT else text


def interval(entry: Mapping[str, Any], dash: str = "–") -> str:
    """The interval of an entry of a summary, empty where it has no width."""
    low, high = (percent(entry[end]).replace("100.0", "100") for end in ("low", "high"))
    return "" if low == high else f"{low}{dash}{high}"


def spread(entry: Mapping[str, Any] | None) -> str:
    """An interquartile mean in percent, and its interval where that has width."""
    if entry is None:
        return "n/a"
    between = interval(entry, ", ")
    return f"{percent(entry['iqm'])} %" + (f" [{between}]" if between else "")


def compact(number: float | None) -> str:
    """A count or cost in few characters: 950, 1.2e7; n/a where there is none."""
    if number is None:
        return "n/a"
    if abs(number) < 10_000:
        return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def seconds(number: float | None) -> str:
    """Seconds without their unit, with a decimal below a hundred."""
    if number is None:
        return "n/a"
    return f"{number:.1f}" if number < 100 else f"{number:,.0f}"


def ranged(sizes: Sequence[int]) -> str:
    """Sizes in few words: 1–20 where they follow each other, else a list or the two ends."""
    numbers = sorted(sizes)
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}–{numbers[-1]}"
    if len(numbers) > 6:
        return f"{len(numbers)} sizes from {numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def counted(number: int, thing: str) -> str:
    """`number` of `thing`, with its plural."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _who_solves(
    arms: Sequence[Mapping[str, Any]], full: Sequence[Mapping[str, Any]], largest: str
) -> str:
    if full:
        names = [arm["name"] for arm in full]
        seeds = "in every seed" if full[0]["summary"]["seeds"] > 1 else "in its only seed"
        return (
            f"{listed(names)} {_verb('score', names)} 100 % at every test size up to {largest}, "
            f"{seeds}."
        )
    partly = [
        f"{arm['name']} {arm['summary']['solved']} of {arm['summary']['seeds']}"
        for arm in arms
        if arm["summary"]["solved"] and None not in arm["summary"]["by_size"].values()
    ]
    solved = (
        f"seeds that score 100 % at every test size: {listed(partly)}"
        if partly
        else "no arm scores 100 % at every test size"
    )
    able = [arm for arm in arms if arm["summary"]["by_size"][largest]]
    if not able:
        return f"No arm can run size {largest}; {solved}."
    ranked = sorted(able, key=lambda arm: -arm["summary"]["by_size"][largest]["iqm"])
    top = ranked[0]["summary"]["by_size"][largest]
    equal = [
        arm["name"]
        for arm in ranked
        if percent(arm["summary"]["by_size"][largest]["iqm"]) == percent(top["iqm"])
    ]
    if len(arms) == 1:
        return f"{equal[0]} scores {spread(top)} at size {largest}; {solved}."
    return f"Best at size {largest}: {listed(equal)} with {spread(top)}; {solved}."


def _cost_sentence(full: Sequence[Mapping[str, Any]]) -> str | None:
    """What the arms that solved the task spent until they had learned the training sizes."""
    known = [arm for arm in full if arm["summary"]["cost_to_target"] is not None]
    if not known:
        return None
    ranked = sorted(known, key=lambda arm: arm["summary"]["cost_to_target"])
    costs = [f"{arm['name']} {compact(arm['summary']['cost_to_target'])}" for arm in ranked]
    return (
        f"Mean cost to {100 * stats.TARGET:g} % at the training sizes, in forward-equivalents: "
        f"{listed(_few(costs))}."
    )


def _everywhere(arm: Mapping[str, Any]) -> bool:
    summary = arm["summary"]
    return summary["solved"] == summary["seeds"] and None not in summary["by_size"].values()


def _cheapest(arms: Sequence[Mapping[str, Any]]) -> str | None:
    """Of the arms that solved the task in most seeds, the one that spent the least."""
    able = [arm for arm in arms if None not in arm["summary"]["by_size"].values()]
    most = max((arm["summary"]["solved"] for arm in able), default=0)
    costs = {
        arm["name"]: cost
        for arm in able
        if most
        and arm["summary"]["solved"] == most
        and (cost := arm["summary"]["cost"].get("forward_equivalents")) is not None
    }
    return min(costs, key=costs.__getitem__) if len(costs) > 1 else None


def _caption(results: Mapping[str, Any]) -> str:
    task = results["task"]
    return (
        f"Score in % at each test size ({results['evaluation']['examples']:,} examples; trained on "
        f"{ranged(task['train_sizes'])}): interquartile mean of the seeds, below it the 95 % "
        "interval. Cost in forward-equivalents, mean of the seeds. * trained with gradients."
    )


def _cell(entry: Mapping[str, Any] | None, best: str | None) -> Text:
    if entry is None:
        return Text("n/a", style="dim")
    shown = percent(entry["iqm"])
    return _stacked(shown, interval(entry), "bold" if shown == best else "")


def _stacked(first: str, second: str, style: str = "") -> Text:
    """Two lines of a cell, the second one fainter."""
    text = Text(first, style="")
    text.stylize(style)
    return text.append(f"\n{second}", style="not bold dim") if second else text


def _few(items: Sequence[str], most: int = 4) -> list[str]:
    """At most `most` items, the rest counted."""
    return [*items[:most], f"{len(items) - most} more"] if len(items) > most else list(items)


def _verb(verb: str, subjects: Sequence[str]) -> str:
    return verb if len(subjects) > 1 else f"{verb}s"
