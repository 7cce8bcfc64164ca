"""Plain Python on graphs, to hold the machines of CLRS-30 against: lists, loops and recursion."""

from __future__ import annotations

from collections import deque

import numpy as np

INFINITY = float("inf")


def edges_of(matrix: np.ndarray) -> list[list[int]]:
    """Where the edges of each node lead, smaller nodes first."""
    return [[int(j) for j in np.flatnonzero(row)] for row in matrix]


def hops(matrix: np.ndarray, source: int) -> list[float]:
    """Edges from a source to each node, by a queue."""
    ahead, far = edges_of(matrix), [INFINITY] * len(matrix)
    far[source], queue = 0, deque([source])
    while queue:
        node = queue.popleft()
        for other in ahead[node]:
            if far[other] == INFINITY:
                far[other] = far[node] + 1
                queue.append(other)
    return far


def distances(matrix: np.ndarray) -> list[list[float]]:
    """Shortest paths between all pairs, by three loops."""
    count = len(matrix)
    far = [[float(w) if w else INFINITY for w in row] for row in matrix]
    for node in range(count):
        far[node][node] = 0.0
    for middle in range(count):
        for one in range(count):
            for two in range(count):
                far[one][two] = min(far[one][two], far[one][middle] + far[middle][two])
    return far


def components(matrix: np.ndarray) -> int:
    """How many, of an undirected graph."""
    left, count = set(range(len(matrix))), 0
    while left:
        reached = hops(matrix, left.pop())
        left -= {node for node, far in enumerate(reached) if far < INFINITY}
        count += 1
    return count


def cut_nodes(matrix: np.ndarray) -> list[int]:
    """Nodes without which the others fall into more components."""
    before = components(matrix)
    return [
        node
        for node in range(len(matrix))
        # Without a node that stands alone there is one less.
        if components(np.delete(np.delete(matrix, node, 0), node, 1))
        > before - (not np.delete(matrix[node], node).any())
    ]


def bridges(matrix: np.ndarray) -> set[tuple[int, int]]:
    """Edges without which there are more components, in both directions."""
    before, found = components(matrix), set()
    for one, two in zip(*np.nonzero(np.triu(matrix, 1)), strict=True):
        without = matrix.copy()
        without[one, two] = without[two, one] = 0
        if components(without) > before:
            found |= {(int(one), int(two)), (int(two), int(one))}
    return found


def depth_first(matrix: np.ndarray) -> list[int]:
    """The parent of each node, by recursion."""
    ahead, parent = edges_of(matrix), list(range(len(matrix)))
    seen: set[int] = set()

    def visit(node: int) -> None:
        seen.add(node)
        for other in ahead[node]:
            if other not in seen:
                parent[other] = node
                visit(other)

    for root in range(len(matrix)):
        if root not in seen:
            visit(root)
    return parent


def spanning_weight(matrix: np.ndarray) -> float:
    """Of a minimum spanning forest: components are merged by their names, lightest edge first."""
    own = list(range(len(matrix)))
    weight = 0.0
    ends = zip(*np.nonzero(np.triu(matrix, 1)), strict=True)
    for one, two in sorted(ends, key=lambda pair: matrix[pair]):
        if own[one] != own[two]:
            weight += float(matrix[one, two])
            own = [own[two] if name == own[one] else name for name in own]
    return weight


def matching_size(between: np.ndarray) -> int:
    """Of a largest matching of rows and columns, by augmenting paths."""
    mate: dict[int, int] = {}

    def match(row: int, tried: set[int]) -> bool:
        for column in np.flatnonzero(between[row]).tolist():
            if column not in tried:
                tried.add(column)
                if column not in mate or match(mate[column], tried):
                    mate[column] = row
                    return True
        return False

    return sum(match(row, set()) for row in range(len(between)))
