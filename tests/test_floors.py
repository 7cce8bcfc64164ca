"""Floors against what is known of the tasks, and the shares that are made of them."""

from __future__ import annotations

import pytest

from evojax_nar import tasks
from evojax_nar.floors import Floor, floor
from evojax_nar.types import Task

pytestmark = pytest.mark.usefixtures("quick_compile")

# Four standard deviations of a mean of 1,024 fair bits or less likely events.
WIDTH = 4 * 0.5 / 1024**0.5


@pytest.mark.parametrize(
    ("task", "size", "score"),
    [
        (tasks.Parity(), 9, 1 / 2),
        (tasks.chomsky.CycleNavigation(), 9, 1 / 5),
        (tasks.clrs.Minimum(), 8, 1 / 8),
        (tasks.logic.GameOfLife(), 1, 372 / 512),
        # Always b after the first one, and so wrong at the end alone.
        (tasks.formal.AnBn(), 10, 9 / 10),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_floor_is_what_chance_or_counting_gives(task: Task, size: int, score: float) -> None:
    found = floor(task, size)
    assert found is not None
    assert abs(found.score - score) < WIDTH


def test_all_of_a_mask_is_a_floor_too() -> None:
    # Uniform deadlines leave most tasks in time, so that all of them is the best constant.
    found = floor(tasks.clrs.TaskScheduling(), 8)
    assert found is not None
    assert 0.6 < found.score < 0.95
    assert found.exact < 0.5


def test_a_task_without_guesses_has_no_floor() -> None:
    class Own:
        train_sizes = test_sizes = (1,)

    assert floor(Own(), 1) is None  # type: ignore[arg-type]


def test_shares_of_the_way_from_the_floor() -> None:
    half = Floor(score=0.5, exact=0.0)
    assert half.normalised(1.0) == 1.0
    assert half.normalised(0.5) == 0.0
    assert half.normalised(0.25) == -0.5
    assert half.normalised(None) is None
    assert Floor(score=1.0, exact=1.0).normalised(1.0) is None
