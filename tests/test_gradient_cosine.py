"""The law of the cosine, and what thin noise adds to it, measured on a small network."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax_nar.noise import Dense, LowRank, Noise, Thin, normal, signs

pytestmark = pytest.mark.usefixtures("quick_compile")

FILE = Path(__file__).parent.parent / "benchmarks" / "gradient_cosine.py"
benchmark: Any = runpy.run_path(str(FILE), run_name="gradient_cosine")
SIZES = (12, 14, 3)


@pytest.mark.parametrize(
    "rule",
    [
        Dense(),
        *(LowRank(rank=rank, factors=kind) for kind in (normal, signs) for rank in (1, 2, 3)),
    ],
    ids=["dense", *(f"{kind}, rank {r}" for kind in ("normal", "signs") for r in (1, 2, 3))],
)
def test_the_fourth_moment_is_the_written_one(rule: Noise) -> None:
    """E[<G, E>^2 |E|^2] / |G|^2 is D + 2 and the excess, on noise that is formed."""
    gradient = {"kernel": jnp.linspace(-1, 2, 42).reshape(7, 6), "bias": jnp.asarray([0.5, 1.0])}
    draw = jax.jit(jax.vmap(lambda key: rule.draw(key, gradient)))
    noise = draw(jax.random.split(jax.random.key(1), 100_000))
    bias, kernel = (np.asarray(noise["bias"]), noise["kernel"])
    formed = isinstance(kernel, Thin)
    kernel = np.einsum("nir,njr->nij", kernel.a, kernel.b) if formed else np.asarray(kernel)
    slope = kernel.reshape(len(bias), -1) @ np.ravel(gradient["kernel"])
    slope = slope + bias @ np.asarray(gradient["bias"])
    square = (kernel**2).sum(axis=(1, 2)) + (bias**2).sum(axis=1)
    moment = (slope**2 * square).mean() / sum(float((leaf**2).sum()) for leaf in gradient.values())
    expected = 44 + 2 + benchmark["excess"](rule, gradient)
    # Heavy tails: the mean of 100,000 is good to about 2 % at rank 1.
    assert moment == pytest.approx(expected, rel=0.05)
    more = 0 if isinstance(rule, Dense) else 1 if rule.factors is normal else -1
    assert np.sign(benchmark["excess"](rule, gradient)) == more


@pytest.mark.parametrize("name", ["dense", "rank 1", "rank 1, normal"])
def test_estimates_follow_the_law(name: str) -> None:
    """At K = D / 4, D, 4 D and 16 D; a fixed seed, so what is found does not change."""
    rows = benchmark["measure"](name, benchmark["RULES"][name], SIZES, 3, 56, 64)
    assert [row["pairs"] for row in rows] == [56, 224, 896, 3584]
    for row in rows:
        assert row["parameters"] == 227
        assert row["law"] == pytest.approx((1 + 228 / row["pairs"]) ** -0.5)
        # Three standard errors, and 1 / K for the curve of the square root that means are taken of.
        error = 3 * row["deviation"] / row["estimates"] ** 0.5 + row["cosine"] / row["pairs"]
        assert abs(row["cosine"] - row["law_at_rank"]) < error
        assert row["deviation"] < 0.2
        assert row["ratio"] == pytest.approx(1, abs=0.1)
    assert "within 10% of the law" in benchmark["table"](rows)
