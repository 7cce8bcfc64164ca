"""What happens inside evolution and gradient descent on parity, and what hybrids make of both.

Five arms at one budget of forward-equivalents: `es` and `adam`; each for half of the budget and
the other from there (`es_adam` and `adam_es`); and the gradient step where it helps, else a
generation (`conditional`). Then, of three seeds each:

- the cosine of the evolution strategy's estimate with the gradient on its batch, by layer, along
  its own way and along that of Adam;
- the sharpness of what is deployed: the rise of the loss under relative noise, both ends of the
  spectrum of the Hessian, and its trace, on one batch of the training sizes;
- the expected calibration error in distribution and at each test size, of what is deployed, of the
  ensemble that a strategy's last state gives, and of the three seeds together.

    python -m benchmarks.inside --json benchmarks/results/inside.json --plot docs/images/inside.png

Runs go on where they stopped, and so do the measurements that the file has.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import evojax_nar as nar
from evojax_nar import plots
from evojax_nar.checkpoint import Checkpoints
from evojax_nar.environment import describe
from evojax_nar.evaluator import Evaluator, sample_mixture
from evojax_nar.files import read_json, write_bytes, write_json
from evojax_nar.folder import ArmFolder
from evojax_nar.inside import calibration, cosine, sharpness
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.strategies import ES, ConditionalGradient, Gradient, HandOver, optimizer
from evojax_nar.trainer import Group, Settings

TASK = nar.tasks.Parity(train_sizes=range(1, 9), test_sizes=(8, 16, 32, 64))
MODEL = nar.models.LSTM(hidden=16)
BATCH = 32
EVOLUTION = ES(population=64, sigma=0.0384, optimizer=optimizer("adam", learning_rate=0.0869))
DESCENT = Gradient(optimizer("adam", learning_rate=0.0347, b1=0.8, clip=0.492))
"""Numbers that were found for parity of up to 20 bits: benchmarks/results/tune_parity.json."""

RADII = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
JUDGED = 512
POINTS = 8
REPEATS = 8
MEMBERS = 32


def steps(strategy: Any, budget: float) -> int:
    """How many a budget buys."""
    return max(1, int(budget // strategy.cost.forward_equivalents(BATCH)))


def arms(budget: float) -> dict[str, nar.Arm]:
    """All five; a hand-over is made once half of the budget is spent."""
    chosen = {
        "es": EVOLUTION,
        "adam": DESCENT,
        "es_adam": HandOver(EVOLUTION, DESCENT, after=steps(EVOLUTION, budget / 2)),
        "adam_es": HandOver(DESCENT, EVOLUTION, after=steps(DESCENT, budget / 2)),
        "conditional": ConditionalGradient(DESCENT, EVOLUTION),
    }
    return {name: nar.Arm(strategy, batch=BATCH) for name, strategy in chosen.items()}


def measure_cosines(budget: float, seeds: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """Along the way of `es` with its own estimate, and of `adam` with that of `es`."""
    found = {}
    for name, strategy, probe in (("es", EVOLUTION, None), ("adam", DESCENT, EVOLUTION)):
        total = steps(strategy, budget)
        every = min(-(-total // POINTS), 2000)
        points = cosine.along(
            TASK,
            MODEL,
            nar.Arm(strategy, batch=BATCH),
            seeds=seeds,
            steps=total,
            every=every,
            probe=probe,
            repeats=REPEATS,
        )
        found[name] = [{**point._asdict(), "share": point.step / total} for point in points]
    return found


def measure_sharpness(results: nar.Results, seeds: Sequence[int]) -> dict[str, list[Any]]:
    """Of what each arm deploys, on one batch for all."""
    batch_key, own = jax.random.split(jax.random.key(1))
    batch = jax.jit(lambda key: sample_mixture(TASK, key, JUDGED))(batch_key)
    objective = Objective(TaskLoss(TASK, MODEL, TASK.spec), batch)

    @jax.jit
    def look(params: Any) -> dict[str, Any]:
        noise, first, signs = jax.random.split(own, 3)
        trace = sharpness.trace(signs, objective, params)
        ends = sharpness.spectrum(first, objective, params)
        return {
            "loss": objective(params)[0].loss,
            "rise": sharpness.rise(noise, objective, params, RADII).value,
            "highest": ends.highest,
            "lowest": ends.lowest,
            "trace": trace.value,
            "trace_error": trace.error,
        }

    return {
        name: [
            {"seed": seed, **jax.tree.map(_plain, look(results.parameters(name, seed)))}
            for seed in seeds
        ]
        for name in results.names
    }


def measure_calibration(
    results: nar.Results, budget: float, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """One row an arm, kind of speaker, seed and size; the size is None in distribution."""
    rows = []
    for name, arm in arms(budget).items():
        group = Group(name, arm, Evaluator(TASK, MODEL), Settings(nar.Budget(forwards=budget)))
        folder = ArmFolder(results.folder, name).checkpoints(seeds)
        with Checkpoints(folder, group.start(seeds)) as checkpoints:
            found = checkpoints.latest(print)
        assert found is not None, "a finished run has a last checkpoint"
        speakers: list[tuple[str, int | None, Any]] = []
        for row, seed in enumerate(seeds):
            own = jax.tree.map(lambda leaf, row=row: leaf[row], found[1])
            speakers.append(("deployed", seed, _stack([own.deployed])))
            strategy: Any = arm.strategy
            members = jax.jit(
                lambda state, strategy=strategy: strategy.ensemble(
                    jax.random.key(2), state, MEMBERS
                )
            )(own.strategy)
            if members is not None:
                speakers.append(("ensemble", seed, members))
        everyone = [results.parameters(name, seed) for seed in seeds]
        speakers.append(("seeds together", None, _stack(everyone)))
        for size in (None, *TASK.test_sizes):
            for who, seed, params in speakers:
                said = calibration.calibrate(TASK, MODEL, params, size=size, examples=JUDGED)
                numbers = {k: v for k, v in said.plain().items() if k != "bins"}
                rows.append({"arm": name, "who": who, "seed": seed, "size": size, **numbers})
    return rows


def scores(results: nar.Results) -> dict[str, Any]:
    """Each arm's seeds: steps, what was spent, the loss in distribution, scores by size."""
    found = {}
    for name in results.names:
        found[name] = [
            {
                "seed": seed["seed"],
                "steps": seed["steps"],
                "forward_equivalents": seed["cost"]["forward_equivalents"],
                "loss": seed["in_distribution"]["loss"],
                "score": seed["in_distribution"]["score"],
                "by_size": {size: own["score"] for size, own in seed["scores"].items()},
            }
            for seed in results.arm(name)["seeds"]
        ]
    return found


def table(data: Mapping[str, Any]) -> str:
    """Medians of the seeds as text."""
    sizes = [str(size) for size in TASK.test_sizes]
    lines = [f"{'arm':12} {'steps':>7} {'loss':>9} " + " ".join(f"{s:>7}" for s in sizes)]
    for name, rows in data["scores"].items():
        own = [100 * _median(row["by_size"][size] for row in rows) for size in sizes]
        lines.append(
            f"{name:12} {_median(r['steps'] for r in rows):7.0f} "
            f"{_median(r['loss'] for r in rows):9.2e} " + " ".join(f"{s:6.1f}%" for s in own)
        )
    lines.append("\ncosine of the estimate, by layer: at the start, and at the end")
    for name, points in data["cosines"].items():
        for layer in points[0]["cosines"]:
            first, last = (
                _median(p["cosines"][layer] for p in points if p["step"] == at)
                for at in (0, max(p["step"] for p in points))
            )
            lines.append(f"{name:12} {layer:24} {first:6.3f} {last:6.3f}")
    lines.append(f"the law for {data['pairs']} pairs and all parameters: {data['law']:.3f}")
    lines.append(f"\n{'sharpness':12} {'highest':>9} {'lowest':>9} {'trace':>9} rise at 0.1")
    for name, rows in data["sharpness"].items():
        numbers = [_median(row[key] for row in rows) for key in ("highest", "lowest", "trace")]
        rise = _median(row["rise"][RADII.index(0.1)] for row in rows)
        lines.append(f"{name:12} " + " ".join(f"{n:9.2e}" for n in numbers) + f" {rise:.2e}")
    heading = " ".join(f"{s:>7}" for s in ("trained", *sizes))
    lines.append(f"\n{'calibration error':28} {heading}")
    for (name, who), values in _calibration(data).items():
        lines.append(f"{name:12} {who:15} " + " ".join(f"{v:7.4f}" for v in values))
    return "\n".join(lines)


def figure(data: Mapping[str, Any]) -> Figure:
    """Cosines, rises, calibration and scores, four panels."""
    drawn = Figure(figsize=(9.4, 7.6), layout="constrained")
    panels = drawn.subplots(2, 2)
    names = list(data["scores"])
    looks = dict(zip(names, plots.looks(len(names)), strict=True))
    _draw_cosines(panels[0, 0], data, looks)
    rises = panels[0, 1]
    for name, rows in data["sharpness"].items():
        rise = np.median(np.array([row["rise"] for row in rows], float), axis=0)
        style = {**plots._line(looks[name], 1.8), **plots._marker(looks[name])}
        rises.plot(RADII, np.where(rise > 0, rise, np.nan), **style)
    rises.set(xscale="log", yscale="log", xlabel="noise, relative to each leaf's length")
    rises.set_title("Rise of the loss around what is deployed", loc="left", fontsize=10)
    sizes = TASK.test_sizes
    errors = panels[1, 0]
    dashes = {"deployed": "-", "ensemble": (0, (5, 1.5)), "seeds together": (0, (1.2, 1.2))}
    for (name, who), values in _calibration(data).items():
        if name in ("es", "adam"):
            look = looks[name]
            style = {"color": look.colour, "linestyle": dashes[who], **plots._marker(look)}
            errors.plot(sizes, values[1:], **style)
    handles = [Line2D([], [], color=plots.GREY, ls=d, label=who) for who, d in dashes.items()]
    errors.legend(handles=handles, frameon=False, fontsize=9)
    errors.set_title("Calibration error of es and adam over size", loc="left", fontsize=10)
    far = panels[1, 1]
    for name, rows in data["scores"].items():
        own = [[row["by_size"][str(size)] for size in sizes] for row in rows]
        style = {**plots._line(looks[name], 1.8), **plots._marker(looks[name])}
        far.plot(sizes, 100 * np.min(np.array(own, float), axis=0), **style)
    far.set_ylim(min(far.get_ylim()[0], 88), 101)
    far.set_title("Score (%) over size, of the worst seed", loc="left", fontsize=10)
    for axes in (errors, far):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xlabel(f"size (trained up to {max(TASK.train_sizes)})")
    for axes in panels.flat:
        plots._plain_frame(axes)
    handles = [
        Line2D([], [], label=name, **plots._line(look, 1.8), **plots._marker(look))
        for name, look in looks.items()
    ]
    drawn.legend(handles=handles, loc="outside lower center", ncols=len(names), frameon=False)
    drawn.suptitle(
        f"Inside evolution and gradients on parity: medians of {data['settings']['seeds']} seeds",
        x=0.012,
        ha="left",
        fontsize=11.5,
        fontweight="bold",
    )
    return drawn


def _draw_cosines(axes: Axes, data: Mapping[str, Any], looks: Mapping[str, Any]) -> None:
    """Of all parameters as strong lines with markers, of the layers as faint ones."""
    for name, points in data["cosines"].items():
        shares = sorted({point["share"] for point in points})
        for layer in points[0]["cosines"]:
            own = [_median(p["cosines"][layer] for p in points if p["share"] == s) for s in shares]
            if layer == cosine.TOTAL:
                axes.plot(
                    shares, own, **plots._line(looks[name], 1.8), **plots._marker(looks[name])
                )
            else:
                axes.plot(shares, own, color=looks[name].colour, lw=1.0, ls=":", alpha=0.8)
                axes.annotate(layer, (0.0, own[0]), va="bottom", color=plots.GREY, fontsize=9)
    axes.axhline(data["law"], color="black", lw=1.2)
    axes.annotate("the law", (1.0, data["law"]), ha="right", va="bottom", fontsize=9)
    axes.set_xlabel("share of the budget (dotted: layers)")
    axes.set_title("Cosine of the evolution estimate with the gradient", loc="left", fontsize=10)


def _calibration(data: Mapping[str, Any]) -> dict[tuple[str, str], list[float]]:
    """Errors in distribution and at each size, medians of the seeds, by arm and speaker."""
    rows = data["calibration"]
    keys = dict.fromkeys((row["arm"], row["who"]) for row in rows)
    return {
        key: [
            _median(r["error"] for r in rows if (r["arm"], r["who"], r["size"]) == (*key, size))
            for size in (None, *TASK.test_sizes)
        ]
        for key in keys
    }


def _median(values: Any) -> float:
    return float(np.median([np.nan if value is None else value for value in values]))


def _plain(leaf: jax.Array) -> Any:
    return np.asarray(leaf, np.float64).tolist()


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def main() -> None:
    """Train, measure what is missing, print, and write what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=4e5, help="forward-equivalents a seed")
    parser.add_argument("--out", type=Path, default=Path("results/inside"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    seeds, budget = list(range(options.seeds)), options.budget
    settings = {"seeds": options.seeds, "budget": budget, "batch": BATCH, "repeats": REPEATS}
    data: dict[str, Any] = {}
    if options.json and options.json.exists():
        data = read_json(options.json)
        data = data if data["settings"] == settings else {}
    results = nar.compare(
        TASK,
        MODEL,
        arms(budget),
        seeds=seeds,
        budget=nar.Budget(forwards=budget),
        out=options.out,
        resume=(options.out / "config.yaml").exists(),
    )
    data |= {"benchmark": "inside", "environment": describe(), "settings": settings}
    data["scores"] = scores(results)
    data["pairs"] = EVOLUTION.population // 2
    data["law"] = float(cosine.expected(results.data["model"]["parameters"], data["pairs"]))
    parts: dict[str, Callable[[], Any]] = {
        "sharpness": lambda: measure_sharpness(results, seeds),
        "calibration": lambda: measure_calibration(results, budget, seeds),
        "cosines": lambda: measure_cosines(budget, seeds),
    }
    for name, part in parts.items():
        if name not in data:
            data[name] = part()
        if options.json:
            write_json(options.json, data)
    print(table(data))
    if options.plot:
        write_bytes(options.plot, plots.png(figure(data)))


if __name__ == "__main__":
    main()
