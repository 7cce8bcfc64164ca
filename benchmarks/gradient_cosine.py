"""How well does a population see the gradient? Dense and low-rank noise against one law.

The estimate from K antithetic pairs, g = 1/K sum_k (L(p + s E_k) - L(p - s E_k)) / (2 s) E_k, tends
to 1/K sum_k <G, E_k> E_k for a smooth loss with gradient G and small s. Its mean is G. For dense
noise E[<G, E>^2 |E|^2] = (D + 2) |G|^2, so E|g|^2 = |G|^2 (1 + (D + 1) / K), and the cosine of g
and G is about

    1 / sqrt(1 + (D + 1) / K).

For low-rank noise a b^T / sqrt(r) of a leaf with m rows and n columns the fourth moment depends on
the factors. Where they are random signs, directions hardly differ in length, and it is

    E[<G, E>^2 |E|^2] = |G|^2 (m n + 2 - 2 / r),

with m n |G|^2 from the mean of |E|^2 and 2 (r - 1) / r |G|^2 from products of two lines of rank.
The D of the law shrinks by 2 / r times the leaf's share of |G|^2: nothing that could be seen. Where
the factors are standard normal it is larger,

    E[<G, E>^2 |E|^2] = |G|^2 (m n + 2 + 2 (m + n + 1) / r),

with m n (r - 1) / r from pairs of lines of rank that differ, (m + 2)(n + 2) / r from those that do
not, and 2 (r - 1) / r from both. The D of the law grows by 2 (m + n + 1) / r times the leaf's share
of |G|^2, and the pairs that a cosine needs by as much: 4 / (r m) of them for one square matrix.

The model is a smooth one, a tanh network with its data from another such network; every seed draws
both, the parameters and the noise anew. Estimates of blocks of pairs are averaged, which is the
estimate of all their pairs.

    python -m benchmarks.gradient_cosine --json benchmarks/results/gradient_cosine.json \
        --plot docs/images/gradient_cosine.png
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from evojax_nar import plots
from evojax_nar.environment import describe
from evojax_nar.files import write_bytes, write_json
from evojax_nar.noise import Dense, LowRank, Noise, Thin, normal
from evojax_nar.objective import Objective
from evojax_nar.population import GaussianPairs
from evojax_nar.types import Key, Params

SIGMA = 0.01
SIZES = (16, 48, 48, 4)
EXAMPLES = 32
WITHIN = 0.1
RULES: dict[str, Noise] = {
    "dense": Dense(),
    "rank 1": LowRank(),
    "rank 4": LowRank(rank=4),
    "rank 1, normal": LowRank(factors=normal),
}


def network(params: Params, inputs: jax.Array) -> jax.Array:
    """A tanh network, (B, F) to (B, outputs)."""
    for layer in params[:-1]:
        inputs = jnp.tanh(inputs @ layer["kernel"] + layer["bias"])
    return inputs @ params[-1]["kernel"] + params[-1]["bias"]


def loss(params: Params, data: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Mean squared error."""
    inputs, targets = data
    return jnp.mean((network(params, inputs) - targets) ** 2)


def draw_params(key: Key, sizes: Sequence[int]) -> Params:
    """Kernels of variance 1 / fan-in, and biases a tenth as wide."""
    layers = []
    for rows, columns in itertools.pairwise(sizes):
        key, kernel, bias = jax.random.split(key, 3)
        layers.append(
            {
                "kernel": jax.random.normal(kernel, (rows, columns)) / rows**0.5,
                "bias": 0.1 * jax.random.normal(bias, (columns,)),
            }
        )
    return layers


def problem(key: Key, sizes: Sequence[int]) -> tuple[Params, Objective]:
    """Parameters, and the objective of meeting another network's outputs."""
    own, other, points = jax.random.split(key, 3)
    inputs = jax.random.normal(points, (EXAMPLES, sizes[0]))
    return draw_params(own, sizes), Objective(
        loss, (inputs, network(draw_params(other, sizes), inputs))
    )


@partial(jax.jit, static_argnames=("rule", "block", "blocks"))
def estimates(
    key: Key, params: Params, objective: Objective, *, rule: Noise, block: int, blocks: int
) -> jax.Array:
    """The estimate of each block of pairs, (blocks, D)."""

    def one(key: Key) -> jax.Array:
        members = GaussianPairs(params, key, jnp.float32(SIGMA), block, rule)
        losses = objective.population(members)[0].loss
        weights = (losses - losses.mean()) / (members.size * SIGMA)
        return ravel_pytree(objective.combine(members, weights))[0]

    return jax.lax.map(one, jax.random.split(key, blocks))


def cosines(found: np.ndarray, gradient: np.ndarray, together: int) -> np.ndarray:
    """Of the gradient (D,) and the mean of each group of `together` estimates (blocks, D)."""
    groups = found.reshape(-1, together, found.shape[1]).mean(axis=1)
    lengths = np.linalg.norm(groups, axis=1) * np.linalg.norm(gradient)
    return groups @ gradient / lengths


def law(parameters: float, pairs: Any) -> Any:
    """The cosine that K pairs reach with D parameters."""
    return 1 / np.sqrt(1 + (parameters + 1) / pairs)


def excess(rule: Noise, gradient: Params) -> float:
    """What the fourth moment of thin noise adds to the D of the law, by the gradient's leaves."""
    drawn = jax.eval_shape(rule.draw, jax.random.key(0), gradient)
    leaves = jax.tree.leaves(drawn, is_leaf=lambda leaf: isinstance(leaf, Thin))
    slopes = [float((slope**2).sum()) for slope in jax.tree.leaves(gradient)]
    added = 0.0
    for own, square in zip(leaves, slopes, strict=True):
        if isinstance(own, Thin):
            rows, columns, rank = own.a.shape[0], own.b.shape[0], own.a.shape[1]
            more = 2 * (rows + columns + 1) / rank if rule.factors is normal else -2 / rank
            added += more * square / sum(slopes)
    return added


def measure(
    name: str, rule: Noise, sizes: Sequence[int], seeds: int, block: int, blocks: int
) -> list[dict[str, Any]]:
    """One row for each number of pairs: block, 4 block, 16 block, and so on to all blocks."""
    found: dict[int, list[np.ndarray]] = {}
    added, parameters = [], 0
    for seed in range(seeds):
        key, noise = jax.random.split(jax.random.key(seed))
        params, objective = problem(key, sizes)
        gradient = jax.grad(loss)(params, objective.data)
        flat = np.asarray(ravel_pytree(gradient)[0], np.float64)
        own = estimates(noise, params, objective, rule=rule, block=block, blocks=blocks)
        own = np.asarray(own, np.float64)
        parameters = flat.size
        added.append(excess(rule, gradient))
        together = 1
        while together <= blocks:
            found.setdefault(together, []).append(cosines(own, flat, together))
            together *= 4
    rows = []
    for together, values in found.items():
        pairs, value = together * block, np.concatenate(values)
        expected = law(parameters, pairs)
        at_rank = law(parameters + float(np.mean(added)), pairs)
        rows.append(
            {
                "noise": name,
                "parameters": parameters,
                "pairs": pairs,
                "estimates": value.size,
                "cosine": float(value.mean()),
                "deviation": float(value.std(ddof=1)),
                "law": float(expected),
                "ratio": float(value.mean() / expected),
                "law_at_rank": float(at_rank),
                "ratio_at_rank": float(value.mean() / at_rank),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text, and a sentence for each kind of noise."""
    lines = [
        f"{'noise':14} {'K':>7} {'K / D':>7} {'estimates':>9} {'cosine':>7} {'+-':>6} {'law':>6} "
        f"{'ratio':>6} {'law at rank':>11} {'ratio':>6}"
    ]
    lines += [
        f"{row['noise']:14} {row['pairs']:7d} {row['pairs'] / row['parameters']:7.3f} "
        f"{row['estimates']:9d} {row['cosine']:7.4f} {row['deviation']:6.4f} {row['law']:6.4f} "
        f"{row['ratio']:6.3f} {row['law_at_rank']:11.4f} {row['ratio_at_rank']:6.3f}"
        for row in rows
    ]
    for name in dict.fromkeys(row["noise"] for row in rows):
        worst = max(
            (row for row in rows if row["noise"] == name), key=lambda r: abs(r["ratio"] - 1)
        )
        inside = "within" if abs(worst["ratio"] - 1) <= WITHIN else "NOT within"
        lines.append(
            f"{name}: {inside} {WITHIN:.0%} of the law; farthest {worst['ratio']:.3f} of it, "
            f"at K = {worst['pairs']}"
        )
    return "\n".join(lines)


def figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """The cosine over K with the law, and its ratio to the law."""
    names = list(dict.fromkeys(row["noise"] for row in rows))
    parameters = rows[0]["parameters"]
    farthest = max(abs(row["ratio"] - 1) for row in rows)
    drawn = Figure(figsize=(6.6, 5.6), layout="constrained")
    upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    pairs = np.array(sorted({row["pairs"] for row in rows}))
    fine = np.geomspace(pairs[0] / 1.6, pairs[-1] * 1.6, 200)
    upper.plot(fine, law(parameters, fine), color="black", lw=1.4, zorder=1.5)
    upper.annotate("line: 1 / √(1 + (D + 1) / K)", (0.03, 0.9), xycoords="axes fraction")
    lower.axhspan(1 - WITHIN, 1 + WITHIN, color="black", alpha=0.07, lw=0, zorder=0)
    lower.axhline(1, color="black", lw=1.4, zorder=1.5)
    handles = []
    for name, look in zip(names, plots.looks(len(names)), strict=True):
        own = [row for row in rows if row["noise"] == name]
        x, value, expected, spread = (
            np.array([row[key] for row in own]) for key in ("pairs", "cosine", "law", "deviation")
        )
        style = {**plots._line(look, 1.6), **plots._marker(look), "zorder": look.order}
        # Means lie on each other above, so a later one is smaller; below they are set apart.
        nested = {"linestyle": "none", "markersize": 9.5 - 5 * look.shift}
        upper.plot(x, value, **{**style, **nested})
        apart = x * np.exp(0.22 * look.shift)
        low, high = (value - spread) / expected, (value + spread) / expected
        lower.vlines(apart, low, high, color=look.colour, lw=1.4, zorder=look.order)
        lower.plot(apart, value / expected, **style)
        handles.append(Line2D([], [], label=name, **plots._line(look, 1.6), **plots._marker(look)))
    upper.set_ylabel("cosine with the gradient")
    upper.set_ylim(0, 1.03)
    lower.set_ylabel("share of the law")
    lower.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    lower.set_ylim(0.82, 1.18)
    lower.set_xscale("log")
    lower.set_xlim(fine[0], fine[-1])
    lower.set_xlabel(f"antithetic pairs K (D = {parameters:,} parameters; side by side below)")
    lower.axvline(parameters, color=plots.GREY, lw=1.0, ls=":", zorder=1)
    upper.axvline(parameters, color=plots.GREY, lw=1.0, ls=":", zorder=1)
    upper.annotate(
        "K = D ", (parameters, 0.03), ha="right", va="bottom", color=plots.GREY, fontsize=9
    )
    lower.annotate(
        "within 10 %", (0.985, 0.24), xycoords="axes fraction", ha="right", color=plots.GREY
    )
    for axes in (upper, lower):
        plots._plain_frame(axes)
    plots._dress(
        drawn,
        upper,
        handles,
        f"Dense or low rank: every mean lies within {np.ceil(100 * farthest):.0f} % of the law",
        "Cosine of estimate and gradient: means above, with the spread of estimates below",
    )
    return drawn


def main() -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--blocks", type=int, default=1024, help="a power of four")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    params, _ = problem(jax.random.key(0), options.sizes)
    block = ravel_pytree(params)[0].size // 64
    rows = []
    for name, rule in RULES.items():
        rows += measure(name, rule, options.sizes, options.seeds, block, options.blocks)
    print(table(rows))
    if options.json:
        settings = {"sizes": options.sizes, "seeds": options.seeds, "sigma": SIGMA}
        settings |= {"examples": EXAMPLES, "block": block}
        write_json(
            options.json,
            {
                "benchmark": "gradient_cosine",
                "environment": describe(),
                "settings": settings,
                "rows": rows,
            },
        )
    if options.plot:
        write_bytes(options.plot, plots.png(figure(rows)))


if __name__ == "__main__":
    main()
