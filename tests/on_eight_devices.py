"""What `test_devices.py` runs with eight pretended devices. Prints one line of JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import evojax_nar as nar
from evojax_nar.evaluator import sample_mixture
from evojax_nar.objective import TaskLoss
from evojax_nar.population import GaussianPairs

TASK = nar.tasks.Parity(train_sizes=range(1, 4), test_sizes=(3,))
EVERY = [(devices, chunk) for devices in (1, 2, 4, 8) for chunk in (None, 1, 3)]
CASES = {
    "low rank": (nar.noise.LowRank(), EVERY),
    "dense": (nar.noise.Dense(), [(2, 1), (8, 3)]),
}
UNITS = 25  # neither devices nor chunks divide it
OPERATIONS = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "reduce-scatter",
)


def objective(model: Any, placement: nar.Placement) -> nar.Objective:
    batch = sample_mixture(TASK, jax.random.key(1), 4)
    return nar.Objective(TaskLoss(TASK, model, TASK.spec), batch, placement=placement)


@jax.jit
def both(objective: nar.Objective, members: Any, weights: jax.Array) -> Any:
    evaluation, _ = objective.population(members)
    return evaluation, objective.combine(members, weights)


def differences() -> list[dict[str, Any]]:
    """Largest differences from one device and one chunk, relative to the largest number."""
    model = nar.models.LSTM(hidden=4)
    params = model.init(jax.random.key(0), TASK.spec)
    weights = jax.random.normal(jax.random.key(3), (2 * UNITS,))
    rows = []
    for name, (noise, cases) in CASES.items():
        members = GaussianPairs(params, jax.random.key(2), jnp.float32(0.2), UNITS, noise)

        def run(placement: nar.Placement, members: Any = members) -> Any:
            # To its end: programs of one and of several devices in flight at once can wait for
            # each other.
            return jax.device_get(both(objective(model, placement), members, weights))

        expected = run(nar.Placement())
        for devices, chunk in cases:
            found = run(nar.devices.placement(chunk, count=devices))
            fitness, estimate = (
                max(jax.tree.leaves(jax.tree.map(relative, found[i], expected[i])))
                for i in range(2)
            )
            row = {"noise": name, "devices": devices, "chunk": chunk}
            rows.append({**row, "fitness": fitness, "estimate": estimate})
        losses = expected[0].loss
        assert losses.std() > 0.01 * losses.mean(), "members should differ"
    return rows


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def exchanged(population: int, chunk: int | None) -> dict[str, Any]:
    """Numbers in every exchange of one compiled generation of ES on eight devices."""
    model = nar.models.LSTM(hidden=8)
    params = model.init(jax.random.key(0), TASK.spec)
    strategy = nar.strategies.ES(population=population, noise=nar.noise.LowRank())
    state = strategy.init(jax.random.key(0), params)
    placed = objective(model, nar.devices.placement(chunk))
    program = jax.jit(strategy.step).lower(jax.random.key(4), state, placed).compile()
    found = [
        (operation, size)
        for line in (program.as_text() or "").splitlines()
        for operation in OPERATIONS
        for size in sizes(line, operation)
    ]
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    return {
        "population": population,
        "chunk": chunk,
        "parameters": parameters,
        "exchanged": found,
        "whole": all(s.is_fully_replicated for s in jax.tree.leaves(program.output_shardings)),
    }


def sizes(line: str, operation: str) -> list[int]:
    """Numbers in each result of a collective, in one line of a compiled program."""
    made = re.search(rf"= (.*?) {operation}(?:-start)?\(", line)
    if made is None:
        return []
    shapes = re.findall(r"\[([\d,]*)\]", made[1])
    return [int(np.prod([int(n) for n in s.split(",") if n], dtype=int)) for s in shapes]


if __name__ == "__main__":
    # The exchanges are those of the program as users run it; the numbers need no optimisation.
    generation = exchanged(36, 3)
    jax.config.update("jax_disable_most_optimizations", True)
    result = {"devices": jax.device_count(), "generation": generation}
    print(json.dumps({**result, "differences": differences()}))
