"""Plain Python on lists, to hold the machines of CLRS-30 against: loops, recursion and search."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np


def best_sum(keys: Sequence[float]) -> float:
    """The largest sum of a subarray, of all that there are."""
    ends = itertools.combinations(range(len(keys) + 1), 2)
    return max(sum(keys[low:high]) for low, high in ends)


def most_activities(starts: Sequence[float], finishes: Sequence[float]) -> int:
    """How many activities can be attended, of all sets of them."""
    count = len(starts)
    return max(
        len(chosen)
        for size in range(count + 1)
        for chosen in itertools.combinations(range(count), size)
        if disjoint(starts, finishes, chosen)
    )


def disjoint(starts: Sequence[float], finishes: Sequence[float], chosen: Sequence[int]) -> bool:
    """Whether of any two activities one is over when the other starts."""
    return all(
        finishes[one] <= starts[two] or finishes[two] <= starts[one]
        for one, two in itertools.combinations(chosen, 2)
    )


def tasks_by_weight(deadlines: Sequence[float], weights: Sequence[float]) -> list[int]:
    """The tasks that get the next free slot, in order of weight, where that is early enough."""
    chosen: list[int] = []
    for task in sorted(range(len(weights)), key=lambda task: -weights[task]):
        if len(chosen) < deadlines[task]:
            chosen.append(task)
    return sorted(chosen)


def chain_costs(sides: Sequence[float]) -> dict[tuple[int, int], float]:
    """The least cost of the product of matrices i to j, counted from 1."""

    @functools.cache
    def cost(first: int, last: int) -> float:
        if first == last:
            return 0.0
        return min(
            cost(first, k) + cost(k + 1, last) + sides[first - 1] * sides[k] * sides[last]
            for k in range(first, last)
        )

    count = len(sides)
    return {(i, j): cost(i, j) for i in range(1, count) for j in range(i, count)}


def tree_costs(p: Sequence[float], q: Sequence[float]) -> dict[tuple[int, int], float]:
    """The least cost of a tree of the keys i to j - 1: its weight at each level."""

    def weight(i: int, j: int) -> float:
        return sum(p[i:j]) + sum(q[i : j + 1])

    @functools.cache
    def cost(i: int, j: int) -> float:
        if i == j:
            return q[i]
        return min(cost(i, root) + cost(root + 1, j) for root in range(i, j)) + weight(i, j)

    return {(i, j): cost(i, j) for i in range(len(q)) for j in range(i, len(q))}


def common_length(one: Sequence[int], two: Sequence[int]) -> int:
    """The length of the longest common subsequence."""

    @functools.cache
    def longest(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return 0
        if one[i - 1] == two[j - 1]:
            return longest(i - 1, j - 1) + 1
        return max(longest(i - 1, j), longest(i, j - 1))

    return longest(len(one), len(two))


def corners(points: np.ndarray) -> list[int]:
    """The points (n, 2) that are in no triangle of others."""
    count = len(points)
    others = lambda i: (k for k in range(count) if k != i)  # noqa: E731
    return [
        i
        for i in range(count)
        if not any(
            _inside(points[i], *points[list(triple)])
            for triple in itertools.combinations(others(i), 3)
        )
    ]


def _inside(point: np.ndarray, *triangle: np.ndarray) -> bool:
    """By coordinates in which the corners are 0, 1 and 1."""
    first, second, third = triangle
    shares = np.linalg.solve(np.stack([second - first, third - first], axis=1), point - first)
    return bool((shares >= 0).all() and shares.sum() <= 1)


def segments_meet(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether the lines meet within both segments."""
    ends = np.stack([x, y], axis=1)
    ways = np.stack([ends[1] - ends[0], ends[2] - ends[3]], axis=1)
    shares = np.linalg.solve(ways, ends[2] - ends[0])
    return bool(((shares >= 0) & (shares <= 1)).all())
