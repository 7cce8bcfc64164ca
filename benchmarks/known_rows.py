"""The rows of `known_results.py`: task, model, and the settings of each side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import evojax_nar as nar
from evojax_nar import models, strategies, tasks
from evojax_nar.budget import Arm, Budget


@dataclass(frozen=True)
class Side:
    """How one side is trained, and what is asked of it.

    Args:
      arm: the strategy and its batch.
      budget: of each seed.
      must: the score in percent that is asked at every size that counts; None for a report.
      stop_loss: a seed stops once its validation loss, on training sizes, is at most this.
      model: where it differs from that of the row, in what no parameter depends on, or in size.
      task: where it trains on other sizes than the row.
    """

    arm: Arm
    budget: Budget
    must: float | None = None
    stop_loss: float | None = None
    model: Any = None
    task: Any = None


@dataclass(frozen=True)
class Row:
    """A model and the task that it is known for.

    Args:
      task: what is learned.
      model: what learns it.
      sides: by name.
      counted: the test sizes that count.
      needed: seeds that must reach what is asked, of three.
      averaged: whether the average over the lengths counts, in place of the worst of them.
      official: the algorithm whose published test split counts in place of sizes.
      examples: at each test size.
    """

    task: Any
    model: Any
    sides: Mapping[str, Side]
    counted: tuple[int, ...] = ()
    needed: int = 3
    averaged: bool = False
    official: str | None = None
    examples: int = 1024


def adam(learning_rate: float, clip: float | None = 1.0) -> Any:
    """Adam with a limit on the global norm."""
    return strategies.optimizer("adam", learning_rate=learning_rate, clip=clip)


def gradient(learning_rate: float, batch: int, steps: int, **rest: Any) -> Side:
    """Adam for so many steps."""
    return Side(
        Arm(strategies.Gradient(adam(learning_rate)), batch=batch),
        Budget(generations=steps),
        **rest,
    )


def es(
    population: int, sigma: float, learning_rate: float, batch: int, generations: int, **rest: Any
) -> Side:
    """`ES` with noise of rank 1 and Adam for so many generations."""
    strategy = strategies.ES(
        population=population, sigma=sigma, optimizer=adam(learning_rate, None)
    )
    return Side(Arm(strategy, batch=batch), Budget(generations=generations), **rest)


LENGTHS = (41, 100, 200, 500)
"""Beyond the 40 that the Chomsky tasks are trained on, to the longest that was published."""

ADDITION = tasks.get("formal/serial_addition", train_sizes=range(1, 21), test_sizes=(20, 100, 1000))

ROWS: dict[str, Row] = {
    "parity": Row(
        task=tasks.get("chomsky/parity_check", test_sizes=LENGTHS),
        model=models.RNN(hidden=16),
        counted=LENGTHS,
        averaged=True,
        sides={
            "gradient": gradient(3e-3, 128, 6000, must=100, stop_loss=1e-4),
            "evolution": Side(
                Arm(strategies.SNES(population=256, sigma=0.3, noise=nar.noise.Dense()), batch=64),
                Budget(generations=3000),
                must=100,
                stop_loss=1e-4,
            ),
        },
    ),
    "bucket_sort": Row(
        task=tasks.get("chomsky/bucket_sort", test_sizes=LENGTHS),
        model=models.LSTM(hidden=16),
        counted=LENGTHS,
        averaged=True,
        sides={
            # A small net and large, short steps: it counts, and goes on counting beyond training.
            "gradient": Side(
                Arm(strategies.Gradient(adam(2e-2, 0.1)), batch=64),
                Budget(generations=12000),
                must=95,
            ),
            "evolution": es(512, 0.05, 0.02, 32, 500),
        },
    ),
    "stack_reverse": Row(
        task=tasks.get("chomsky/reverse_string", test_sizes=LENGTHS),
        model=models.StackRNN(hidden=16, cell_width=2, sharpness=5.0),
        counted=LENGTHS,
        averaged=True,
        sides={
            "gradient": gradient(1e-2, 16, 1000, must=99),
            "evolution": Side(
                Arm(strategies.SNES(population=512, sigma=0.3, noise=nar.noise.Dense()), batch=16),
                Budget(generations=2500),
                must=95,
                model=models.StackRNN(hidden=8, cell_width=2),
                task=tasks.get(
                    "chomsky/reverse_string", train_sizes=range(1, 16), test_sizes=LENGTHS
                ),
            ),
        },
        examples=256,
    ),
    "tape_duplicate": Row(
        task=tasks.get("chomsky/duplicate_string", train_sizes=range(1, 21), test_sizes=LENGTHS),
        model=models.TapeRNN(hidden=32, cell_width=8, sharpness=2.0, lag=1),
        counted=LENGTHS,
        averaged=True,
        sides={
            "gradient": gradient(1e-2, 16, 1000, must=95),
            "evolution": Side(
                Arm(strategies.SNES(population=256, sigma=0.3, noise=nar.noise.Dense()), batch=16),
                Budget(generations=1000),
                model=models.TapeRNN(hidden=8, cell_width=2, lag=1),
                task=tasks.get(
                    "chomsky/duplicate_string", train_sizes=range(1, 6), test_sizes=LENGTHS
                ),
            ),
        },
        examples=128,
    ),
    "ntm_copy": Row(
        task=tasks.Copy(width=8, train_sizes=range(1, 21), test_sizes=(20, 30, 50, 80, 120)),
        model=models.NTM(hidden=100, slots=128, width=20),
        counted=(20, 30, 50, 80, 120),
        sides={
            "gradient": gradient(2e-3, 32, 2000, must=99, stop_loss=1e-4),
            "evolution": es(256, 0.05, 0.02, 16, 150),
        },
        examples=256,
    ),
    "dnc_repeat_copy": Row(
        task=tasks.get("memory/repeat_copy_dnc"),
        model=models.DNC(hidden=64, slots=16, width=16, read_heads=4),
        counted=tasks.get("memory/repeat_copy_dnc").test_sizes[:1],
        sides={
            "gradient": gradient(3e-3, 32, 1500, must=99),
            "evolution": es(256, 0.05, 0.02, 16, 300),
        },
    ),
    "nand_adder": Row(
        task=tasks.get("formal/serial_addition", train_sizes=(1, 2, 3, 4), test_sizes=(4, 64)),
        model=models.NandNetwork(gates=1, layers=24, state=1),
        counted=(4, 64),
        sides={
            "gradient": Side(
                Arm(strategies.Relaxation(adam(0.05, 1.0)), batch=64), Budget(generations=6000)
            ),
            "evolution": Side(
                Arm(strategies.CartesianGP(children=63), batch=64),
                Budget(generations=8000),
                must=100,
                stop_loss=1e-3,
            ),
        },
        # Pairs of numbers of 4 bits are 256: in so many examples each of them occurs.
        examples=8192,
    ),
    "step_addition": Row(
        task=ADDITION,
        model=models.StepRNN(hidden=16),
        counted=(20, 100, 1000),
        needed=1,
        sides={
            "gradient": Side(
                Arm(strategies.Gradient(adam(3e-3)), batch=64),
                Budget(generations=6000),
                model=models.StepRNN(hidden=16, straight_through=True),
            ),
            "evolution": Side(
                Arm(
                    strategies.GeneticAlgorithm(population=128, elites=8, sigma=0.1, capacity=4),
                    batch=32,
                ),
                Budget(generations=6000),
                must=100,
                stop_loss=1e-4,
            ),
        },
    ),
    "ternary_addition": Row(
        task=ADDITION,
        model=models.TernaryStepRNN(hidden=8),
        counted=(20, 100, 1000),
        needed=1,
        sides={
            "gradient": Side(
                Arm(strategies.Relaxation(adam(0.05)), batch=64), Budget(generations=4000)
            ),
            "evolution": Side(
                Arm(strategies.CartesianGP(children=63), batch=32),
                Budget(generations=4000),
                must=100,
            ),
        },
    ),
    "universal_copy": Row(
        task=tasks.Copy(width=4, train_sizes=range(1, 11), test_sizes=(10, 12, 15, 20)),
        model=models.UniversalTransformer(width=32, heads=4, max_steps=6, halting_bias=-1.5),
        counted=(10,),
        sides={
            "gradient": gradient(1e-3, 64, 2000, must=99),
            "evolution": es(256, 0.05, 0.02, 16, 300),
        },
        examples=512,
    ),
    "triplet_minimum": Row(
        task=tasks.get("clrs/minimum", test_sizes=(16, 64)),
        model=models.TripletMPNN(hidden=32, hard_hints=True),
        official="minimum",
        sides={
            "gradient": gradient(2e-3, 32, 1600, must=85),
            "evolution": es(64, 0.05, 0.02, 8, 150),
        },
        examples=32,
    ),
    "bfs": Row(
        # Seven frames hold every run of the test split; long paths in training are cut there.
        task=tasks.get("clrs/bfs", test_sizes=(16, 64), max_frames=7),
        model=models.MPNN(hidden=32),
        official="bfs",
        sides={
            "gradient": gradient(2e-3, 32, 400, must=95),
            "evolution": es(64, 0.05, 0.02, 8, 300, must=80),
        },
        examples=32,
    ),
}
