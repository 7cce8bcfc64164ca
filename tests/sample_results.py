"""Small synthetic results in the form of results.json, for tests and for looking at reports."""

from __future__ import annotations

import math
import random
from typing import Any

SIZES = (20, 50, 100, 200, 500)


def evaluation(score: float, loss: float) -> dict[str, float]:
    return {"score": score, "exact": score, "loss": loss}


def seed_result(
    seed: int,
    *,
    solves_at: float | None,
    batch: int,
    evaluations: int,
    budget: float,
    sizes: tuple[int, ...] = SIZES,
    not_applicable: tuple[int, ...] = (),
) -> dict[str, Any]:
    """One seed of an arm, which learns at `solves_at` forward-equivalents or never."""
    noise = random.Random(seed)
    step_cost = batch * evaluations
    curve = []
    spent, step, done = 0.0, 0, False
    while spent < budget and not done:
        step += max(1, int(0.02 * budget / step_cost))
        spent = step * step_cost
        progress = 0.0 if solves_at is None else 1 / (1 + (solves_at / spent) ** 6)
        train = 0.5 + 0.5 * progress + (1 - progress) * noise.uniform(-0.02, 0.03)
        loss = 0.69 * math.exp(-7 * progress**4) * noise.uniform(0.9, 1.1)
        done = progress > 0.985
        scores: dict[str, float | None] = {
            str(size): 0.5 + max(train - 0.5, 0.0) ** (1 + math.log10(size / 20 + 1))
            for size in sizes
        }
        if done:
            train = 1.0
            scores.update({str(size): 1.0 for size in sizes})
        scores.update({str(size): None for size in not_applicable})
        curve.append(
            {
                "step": step,
                "forward_equivalents": spent,
                "device_seconds": spent / 6e5,
                "examples": step * batch,
                "generations": step,
                "train_loss": loss * 0.97,
                "validation_loss": loss,
                "validation_score": min(train, 1.0),
                "scores": scores,
            }
        )
    final = {
        str(size): evaluation(1.0, 0.0004 * (1 + size / 100))
        if done
        else evaluation(0.5 + noise.uniform(0, 0.6) / math.sqrt(size), 0.693)
        for size in sizes
    }
    last = curve[-1]
    return {
        "seed": seed,
        "scores": {**final, **{str(size): None for size in not_applicable}},
        "in_distribution": evaluation(
            1.0 if done else last["validation_score"], last["validation_loss"]
        ),
        "stopped": "target" if done else "budget",
        "cost": {
            "forward_equivalents": last["forward_equivalents"],
            "flops": last["forward_equivalents"] * 96_000.0,
            "device_seconds": last["device_seconds"],
            "compile_seconds": 3.2,
            "examples": last["examples"],
            "generations": last["generations"],
            "peak_bytes": 123_456_789,
        },
        "curve": curve,
    }


def sample_results(seeds: int = 3, budget: float = 2e7) -> dict[str, Any]:
    """Parity with an LSTM: es, snes and adam solve it, sgd stays near chance."""
    plans = {
        "es": ("es", True, 6e6, 256, {"population": 256, "learning_rate": 0.05, "scale": 0.1}),
        "snes": ("snes", True, 3.2e6, 64, {"population": 64, "scale": 0.3}),
        "adam": ("gradient", False, 1.5e6, 3, {"optimiser": "adam", "learning_rate": 0.003}),
        "sgd": ("gradient", False, None, 3, {"optimiser": "sgd", "learning_rate": 0.1}),
    }
    arms = [
        {
            "name": name,
            "strategy": strategy,
            "settings": settings,
            "batch": 64,
            "gradient_free": gradient_free,
            "seeds": [
                seed_result(
                    seed,
                    solves_at=None if solves_at is None else solves_at * (1 + 0.25 * seed),
                    batch=64,
                    evaluations=evaluations,
                    budget=budget,
                )
                for seed in range(seeds)
            ],
        }
        for name, (strategy, gradient_free, solves_at, evaluations, settings) in plans.items()
    ]
    return {
        "schema": "evojax_nar/results/1",
        "task": {
            "name": "parity",
            "train_sizes": list(range(1, 21)),
            "test_sizes": list(SIZES),
            "settings": {"max_train_size": 20},
        },
        "model": {
            "name": "lstm",
            "parameters": 1250,
            "settings": {"hidden": 16},
            "max_size": None,
        },
        "environment": {
            "evojax_nar": "0.1.0",
            "jax": "0.10.2",
            "python": "3.11.9",
            "device_kind": "cpu",
            "devices": 1,
            "cores": 2,
        },
        "budget": {"kind": "forwards", "amount": budget},
        "evaluation": {"examples": 1024},
        "notes": ["snes was tuned over 4 settings, the other arms over 8."],
        "arms": arms,
        "comparisons": [],
    }
