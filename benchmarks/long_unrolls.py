"""How far an LSTM learns to copy, its unroll cut into segments: which estimator sees how far.

Copying L vectors takes 2L + 1 steps, and what is shown at a step is asked for L + 1 steps later. So
with segments of K = 1 no segment holds both. Back-propagation and ES that are truncated credit what
happens within a segment; NRES and PES credit all since the episode began; the two that unroll the
whole stand beside them. Each learns each length from scratch, on several seeds and the same counted
budget, in which a segment costs its share of an unroll. A length is learned by a seed where what it
deploys gets 99 % of the bits right; after the first length that no seed learns, longer ones are not
tried.

Then the estimates themselves, at a centre that does not move, over episodes on the same data: their
variance, relative to the squared length of the gradient, and the share of the gradient that their
mean has, by the number of segments. For a loss that is quadratic in the noise the variance of NRES
is (D + 1) / pairs, whatever that number is.

Source of the experiment: Vicol 2023, "Low-variance gradient estimation in unrolled computation
graphs with ES-Single", with an LSTM of 100 units. What is in the file of `--json` is not run again,
and what was interrupted goes on from its checkpoints.

    python -m benchmarks.long_unrolls --hidden 100 --json benchmarks/results/long_unrolls.json
    python -m benchmarks.long_unrolls --hidden 16 --lengths 1 2 --seeds 1 --forwards 2e5
    python -m benchmarks.long_unrolls --methods NRES "truncated ES" --lengths 1 2 --seeds 1
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

import evojax_nar as nar
from evojax_nar import plots, strategies
from evojax_nar.environment import describe
from evojax_nar.evaluator import sample_mixture
from evojax_nar.files import read_json, write_bytes, write_json
from evojax_nar.models import parameter_count
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.types import Key, Params
from evojax_nar.unroll import FirstCarry, SegmentLoss, cut, whole

METHODS = ("full BPTT", "truncated BPTT", "full ES", "truncated ES", "PES", "NRES")
LEARNED = 0.99
"""Score at its length from which a seed has learned it."""
STOP_LOSS = 0.02
"""Validation loss, in nats a bit, at which a seed has no more to learn."""
SIGMA = 0.1
PAIRS, EXAMPLES, SMALL_SIGMA = 32, 32, 0.01
"""Of the measurement of variance: pairs, examples, and noise so small that the law holds."""
WARM_STEPS = 50
"""Gradient steps to the centre at which variance is measured: there is a past, and a way to go."""


def arms(options: argparse.Namespace) -> dict[str, nar.Arm]:
    """The methods, by name."""
    gradient = strategies.Gradient(strategies.optimizer("adam", learning_rate=3e-3, clip=1.0))
    adam = strategies.optimizer("adam", learning_rate=options.learning_rate)
    population: dict[str, Any] = {"population": options.population, "sigma": SIGMA}
    members = functools.partial(nar.Arm, batch=options.batch)
    cut_at = options.truncation
    es = strategies.ES(optimizer=adam, shaping=strategies.shaping.z_score, **population)
    return {
        "full BPTT": nar.Arm(gradient, batch=64),
        "truncated BPTT": nar.Arm(gradient, batch=64, truncation=cut_at),
        "full ES": members(es),
        "truncated ES": members(es, truncation=cut_at),
        "PES": members(strategies.PES(optimizer=adam, **population), truncation=cut_at),
        "NRES": members(strategies.NRES(optimizer=adam, **population), truncation=cut_at),
    }


def copying(length: int, options: argparse.Namespace) -> nar.tasks.Copy:
    """The task of a length."""
    sizes = range(1, length + 1) if options.mixture else (length,)
    return nar.tasks.Copy(train_sizes=sizes, test_sizes=(length,), width=options.width)


def learn(name: str, arm: nar.Arm, length: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train one method on one length, or go on with it, and say what it reached."""
    key = name.lower().replace(" ", "_")
    path = options.folder / f"{key}-{length}"
    results = nar.compare(
        copying(length, options),
        nar.models.LSTM(hidden=options.hidden),
        {key: arm},
        seeds=options.seeds,
        budget=nar.Budget(forwards=options.forwards),
        stop_loss=STOP_LOSS,
        evaluation_examples=512,
        out=path,
        resume=(path / "config.yaml").exists(),
        progress=False,
    )
    seeds = results.arm(key)["seeds"]
    scores = [seed["scores"][str(length)]["score"] for seed in seeds]
    return {
        "method": name,
        "length": length,
        "scores": scores,
        "learned": sum(score >= LEARNED for score in scores),
        "settings": results.arm(key)["settings"],
        "steps": [seed["steps"] for seed in seeds],
        "forward_equivalents": [seed["cost"]["forward_equivalents"] for seed in seeds],
        "device_seconds": [seed["cost"]["device_seconds"] for seed in seeds],
    }


def episode(strategy: Any, loss: TaskLoss, steps: int, state: Any, batch: Any, key: Key) -> Any:
    """The sum (D,) of the estimates of an episode's segments, whose centre does not move.

    Args:
      strategy: one whose optimiser is plain gradient descent with a step of 1.
      loss: of the whole.
      steps: K of a segment.
      state: of the strategy.
      batch: the data of the episode.
      key: of its noise.
    """
    time = loss.spec.max_length
    segments = -(-time // steps)
    fn, start = SegmentLoss(loss, time), FirstCarry(loss)
    begin, segment = jax.random.split(key)
    carry = strategy.begin(begin, state, Objective(fn, whole(batch), start))
    centre = ravel_pytree(strategy.params(state))[0]

    def turn(carry: Any, index: jax.Array) -> tuple[Any, jax.Array]:
        objective = Objective(fn, cut(batch, index, steps), start)
        own = jax.random.fold_in(segment, index)
        after, carry, _ = strategy.segment(own, state, carry, objective)
        return carry, centre - ravel_pytree(strategy.params(after))[0]

    _, found = jax.lax.scan(turn, carry, jnp.arange(segments, dtype=jnp.int32))
    return found.sum(axis=0)


def unshaped(losses: jax.Array) -> jax.Array:
    """Losses as they are."""
    return losses


def estimators() -> dict[str, Any]:
    """What is measured: dense noise for all, so that they differ in nothing else."""
    own: dict[str, Any] = {"population": 2 * PAIRS, "sigma": SMALL_SIGMA}
    own["optimizer"] = optax.sgd(1.0)
    own["noise"] = nar.noise.Dense()
    return {
        "truncated ES": strategies.ES(shaping=unshaped, **own),
        "PES": strategies.PES(**own),
        "NRES": strategies.NRES(**own),
    }


def warmed(task: nar.tasks.Copy, loss: TaskLoss, params: Params) -> Params:
    """`params` after some steps of a gradient, where there is something to learn from the past."""
    strategy = strategies.Gradient(optax.adam(3e-3))

    def body(state: Any, key: Key) -> tuple[Any, None]:
        return strategy.step(key, state, Objective(loss, sample_mixture(task, key, 64)))[0], None

    keys = jax.random.split(jax.random.key(1), WARM_STEPS)
    train = jax.jit(functools.partial(jax.lax.scan, body))
    return strategy.params(train(strategy.init(keys[0], params), keys)[0])


def spread(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Variance and mean of an estimate of an episode, by the steps of its segments."""
    length, count = options.variance_length, options.episodes
    task = copying(length, options)
    model = nar.models.LSTM(hidden=options.hidden)
    loss = TaskLoss(task, model, task.spec)
    params = warmed(task, loss, model.init(jax.random.key(0), task.spec))
    batch = sample_mixture(task, jax.random.key(2), EXAMPLES)
    slope = ravel_pytree(jax.grad(lambda own: loss(own, batch).loss)(params))[0]
    gradient = np.asarray(slope, np.float64)
    squared = float(gradient @ gradient)
    strategy = estimators()[name]
    state = strategy.init(jax.random.key(0), params)
    time = task.spec.max_length
    rows = []
    for segments in sorted({1, 2, -(-time // 4), -(-time // 2), time}):
        steps = -(-time // segments)
        one = functools.partial(episode, strategy, loss, steps, state, batch)
        keys = jax.random.split(jax.random.key(3), count)
        every = jax.jit(functools.partial(jax.lax.map, one, batch_size=8))
        found = np.asarray(every(keys), np.float64)
        share = found @ gradient / squared
        rows.append(
            {
                "method": name,
                "length": length,
                "segments": -(-time // steps),
                "variance": float(found.var(axis=0, ddof=1).sum() / squared),
                "share": float(share.mean()),
                "share_error": float(share.std(ddof=1) / np.sqrt(count)),
                "law": (parameter_count(params) + 1) / PAIRS,
            }
        )
    return rows


def said(row: Mapping[str, Any]) -> str:
    """One line of either table."""
    if "variance" in row:
        return (
            f"{row['method']:15} length {row['length']:3} in {row['segments']:3} segments: "
            f"variance {row['variance']:10.1f} (law {row['law']:.1f}), "
            f"share of the gradient {row['share']:6.3f} +- {row['share_error']:.3f}"
        )
    return (
        f"{row['method']:15} length {row['length']:3}: {row['learned']} of {len(row['scores'])} "
        f"seeds, scores {' '.join(f'{score:.3f}' for score in row['scores'])}"
    )


def longest(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The longest length that at least half of the seeds of a method learned; 0 for none."""
    found: dict[str, int] = {}
    for row in rows:
        reached = row["length"] if 2 * row["learned"] >= len(row["scores"]) else 0
        found[row["method"]] = max(found.get(row["method"], 0), reached)
    return found


def figure(learned: Sequence[Mapping[str, Any]], spreads: Sequence[Mapping[str, Any]]) -> Figure:
    """Scores over the length, and variance over the number of segments."""
    present = {row["method"] for row in (*learned, *spreads)}
    names = [name for name in METHODS if name in present]
    drawn = Figure(figsize=(6.6, 6.4), layout="constrained")
    upper, lower = drawn.subplots(2, 1)
    handles = []
    for name, look in zip(names, plots.looks(len(names)), strict=True):
        style = {**plots._line(look), **plots._marker(look), "zorder": look.order}
        style["markersize"] = 9.5 - 3 * look.shift
        own = [row for row in learned if row["method"] == name]
        if own:
            middle = [float(np.median(row["scores"])) for row in own]
            upper.plot([row["length"] for row in own], middle, **style)
        own = [row for row in spreads if row["method"] == name]
        if own:
            lower.plot([row["segments"] for row in own], [r["variance"] for r in own], **style)
        handles.append(Line2D([], [], label=name, **plots._line(look, 1.6), **plots._marker(look)))
    if spreads:
        lower.axhline(spreads[0]["law"], color="black", lw=1.0, ls=":", zorder=1)
    upper.set_xlabel("vectors to copy")
    upper.set_ylabel("score, median of the seeds")
    upper.axhline(LEARNED, color="black", lw=1.0, ls=":", zorder=1)
    lower.set_xlabel("segments of an episode (dotted: (D + 1) / pairs)")
    lower.set_ylabel("variance / |gradient|²")
    lower.set_xscale("log")
    lower.set_yscale("log")
    lower.xaxis.set_major_locator(FixedLocator(sorted({row["segments"] for row in spreads})))
    upper.xaxis.set_major_locator(FixedLocator(sorted({row["length"] for row in learned})))
    for axis in (lower.xaxis, lower.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    lower.xaxis.set_minor_locator(NullLocator())
    lower.yaxis.set_minor_formatter(NullFormatter())
    for axes in (upper, lower):
        plots._plain_frame(axes)
    best = ", ".join(f"{name} {length}" for name, length in longest(learned).items())
    title = f"Longest copy learned: {best}" if learned else "Estimates of segments"
    plots._dress(drawn, upper, handles, title, "An LSTM that copies, its unroll cut in segments")
    return drawn


def measure(options: argparse.Namespace, kept: dict[str, Any], settings: Any) -> dict[str, Any]:
    """Everything that is not in `kept` yet; written whenever there is more."""
    found = {"learned": kept.get("learned", []), "spread": kept.get("spread", [])}

    def save() -> None:
        if options.json:
            head = {"benchmark": "long_unrolls", "environment": describe(), "settings": settings}
            write_json(options.json, {**head, "longest": longest(found["learned"]), **found})

    for name, arm in arms(options).items():
        if name not in options.methods:
            continue
        for length in sorted(options.lengths):
            row = next(
                (r for r in found["learned"] if (r["method"], r["length"]) == (name, length)), None
            )
            if row is None:
                row = learn(name, arm, length, options)
                found["learned"].append(row)
                save()
            print(said(row), flush=True)
            if not row["learned"]:
                break
    for name in estimators():
        here = (name, options.variance_length)
        known = any((row["method"], row["length"]) == here for row in found["spread"])
        if name in options.methods and not known:
            found["spread"] += spread(name, options)
            save()
    for row in found["spread"]:
        print(said(row))
    return found


def main() -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--width", type=int, default=2, help="bits of a vector")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6, 8, 10, 15, 20])
    parser.add_argument("--mixture", action="store_true", help="train on all lengths up to it")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--truncation", type=int, default=1, help="K, the steps of a segment")
    parser.add_argument("--population", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16, help="examples of a member")
    parser.add_argument("--learning-rate", type=float, default=1e-2, help="of populations")
    parser.add_argument("--forwards", type=float, default=3e7, help="for each seed and length")
    parser.add_argument("--variance-length", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=256, help="estimates of a variance")
    parser.add_argument("--folder", type=Path, default=Path("results/long_unrolls"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    named = ("hidden", "width", "mixture", "seeds", "truncation", "population", "batch")
    named += ("learning_rate", "forwards")
    settings = {name: getattr(options, name) for name in named}
    kept = read_json(options.json) if options.json and options.json.exists() else {}
    if kept and kept["settings"] != settings:
        parser.error(f"{options.json} holds other settings; give another --json and --folder")
    found = measure(options, kept, settings)
    for name, length in longest(found["learned"]).items():
        print(f"{name:15} learns {length}")
    if options.plot:
        write_bytes(options.plot, plots.png(figure(found["learned"], found["spread"])))


if __name__ == "__main__":
    main()
