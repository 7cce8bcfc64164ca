"""Other families of graphs for the algorithms of CLRS-30, in place of those of their samplers.

A family draws undirected graphs without edges from a node to itself. Each algorithm is given them
in the form that it needs: an edge keeps both directions, or one of the two at random, or the one
that goes forward in a random order of the nodes; and weights are drawn as its sampler draws them.
Source of the choice of families: Minder et al. 2023, "SALSA-CLRS", arXiv:2309.12253.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import finite, positive_int, reject
from evojax_nar.tasks.clrs.graph_inputs import LEAST_WEIGHT
from evojax_nar.tasks.graph_problems import NEEDS, Needs, needs
from evojax_nar.tasks.perturbations import Perturbation
from evojax_nar.types import Key


@dataclass(frozen=True)
class GraphFamily(Perturbation):
    """The base of families: other edges and weights between the nodes that were drawn.

    Which node stands where in the list of nodes is random, and the node to start from is kept.
    """

    @abc.abstractmethod
    def edges(self, key: Key, size: jax.Array, nodes: int) -> jax.Array:
        """Edges (V, V) bool between the first `size` of V nodes, each in one direction at least.

        What stands past the size, or on the diagonal, is ignored.
        """

    @property
    def applies_to(self) -> str:
        """Algorithms on graphs."""
        return f"the algorithms on graphs: {', '.join(NEEDS)}"

    def fits(self, task: Any) -> bool:
        """See `applies_to`."""
        return needs(task) is not None

    def change(self, key: Key, task: Any, content: Any, size: jax.Array) -> Any:
        """See `Perturbation`."""
        need, nodes = NEEDS[task.name], content["A"].shape[1]
        keys = jax.random.split(key, len(size))
        matrix = jax.vmap(lambda own, n: self._matrix(own, need, n, nodes))(keys, size)
        exists = jnp.arange(nodes) < size[:, None]
        own = jnp.eye(nodes, dtype=bool) & exists[:, None]
        return {**content, "A": matrix, "adj": ((matrix != 0) | own).astype(jnp.float32)}

    def _matrix(self, key: Key, need: Needs, size: jax.Array, nodes: int) -> jax.Array:
        edge_key, place_key, direction_key, weight_key = jax.random.split(key, 4)
        exists = jnp.arange(nodes) < size
        drawn = self.edges(edge_key, size, nodes) & exists[:, None] & exists
        drawn = (drawn | drawn.T) & ~jnp.eye(nodes, dtype=bool)
        place = permutation(place_key, size, nodes)
        drawn = drawn[place][:, place]
        if need.acyclic:
            order = permutation(direction_key, size, nodes)
            drawn &= order[:, None] < order
        elif need.directed:
            coins = jnp.triu(jax.random.bernoulli(direction_key, 0.5, (nodes, nodes)), k=1)
            drawn &= coins | jnp.triu(~coins, k=1).T
        if not need.weighted:
            return drawn.astype(jnp.float32)
        # From 0 on without 1, turned round: no weight is 0, which would be no edge.
        weights = 1.0 - jax.random.uniform(weight_key, (nodes, nodes))
        if not need.directed:
            weights = jnp.sqrt(weights * weights.T + LEAST_WEIGHT)
        return jnp.where(drawn, weights, 0.0)


@final
@dataclass(frozen=True)
class ErdosRenyi(GraphFamily):
    """Every pair of nodes has an edge with the same chance.

    Args:
      probability: of a pair; graphs of the samplers that are undirected have 0.25, or 0.04.
    """

    name: ClassVar[str] = "erdos_renyi"
    probability: float = 0.1

    def __post_init__(self) -> None:
        _check_chance("probability", self.probability)

    def edges(self, key: Key, size: jax.Array, nodes: int) -> jax.Array:
        """See `GraphFamily`."""
        return jnp.triu(jax.random.bernoulli(key, self.probability, (nodes, nodes)), k=1)


@final
@dataclass(frozen=True)
class WattsStrogatz(GraphFamily):
    """A ring in which each node has edges to its nearest ones, some of them led elsewhere.

    Node by node on the ring, and the nearest neighbours first, the far end of an edge moves with
    some chance to a node that is drawn uniformly among those without an edge to its near end.
    Source: Watts and Strogatz 1998, with the sizes of Minder et al. 2023, arXiv:2309.12253.

    Args:
      neighbours: nearest nodes of each, even; in a smaller graph, all there are.
      rewired: the chance of an edge to be led elsewhere.
    """

    name: ClassVar[str] = "watts_strogatz"
    neighbours: int = 4
    rewired: float = 0.1

    def __post_init__(self) -> None:
        if positive_int("neighbours", self.neighbours, least=2) % 2:
            raise reject("neighbours", self.neighbours, "is odd", "give an even number")
        _check_chance("rewired", self.rewired)

    def edges(self, key: Key, size: jax.Array, nodes: int) -> jax.Array:
        """See `GraphFamily`."""
        index, half = jnp.arange(nodes), self.neighbours // 2
        apart = jnp.abs(index[:, None] - index)
        apart = jnp.minimum(apart, size - apart)
        exists = index < size
        ring = (apart <= half) & (apart > 0) & exists[:, None] & exists

        def rewire(place: jax.Array, edges: jax.Array) -> jax.Array:
            near, distance = place % nodes, place // nodes + 1
            chance_key, end_key = jax.random.split(jax.random.fold_in(key, place))
            far = (near + distance) % jnp.maximum(size, 1)
            row = edges[near]
            free = ~row & exists & (index != near)
            chosen = jnp.where(free, jax.random.uniform(end_key, (nodes,)), -1.0).argmax()
            moves = jax.random.bernoulli(chance_key, self.rewired) & free.any() & (near < size)
            # Of two nodes, or where the ring closes on itself, an edge may have been moved already.
            moves &= row[far]
            old = (index == near)[:, None] & (index == far)
            new = (index == near)[:, None] & (index == chosen)
            moved = (edges & ~(old | old.T)) | new | new.T
            return jnp.where(moves, moved, edges)

        return jax.lax.fori_loop(0, half * nodes, rewire, ring)


@final
@dataclass(frozen=True)
class Grid(GraphFamily):
    """A rectangle of streets, as square as can be; its last row may be shorter."""

    name: ClassVar[str] = "grid"

    def edges(self, key: Key, size: jax.Array, nodes: int) -> jax.Array:
        """See `GraphFamily`. Nothing is drawn."""
        del key
        index = jnp.arange(nodes)
        columns = jnp.maximum((index**2 < size).sum(), 1)  # the root of the size, rounded up
        row, column = index // columns, index % columns
        return jnp.abs(row[:, None] - row) + jnp.abs(column[:, None] - column) == 1


@final
@dataclass(frozen=True)
class Communities(GraphFamily):
    """Groups with many edges inside and few between them.

    Source: Girvan and Newman 2002, "Community structure in social and biological networks".

    Args:
      count: groups, whose sizes differ by 1 at most.
      inside: the chance of an edge between two nodes of a group.
      between: and of two groups.
    """

    name: ClassVar[str] = "communities"
    count: int = 4
    inside: float = 0.5
    between: float = 0.02

    def __post_init__(self) -> None:
        positive_int("count", self.count)
        _check_chance("inside", self.inside)
        _check_chance("between", self.between)

    def edges(self, key: Key, size: jax.Array, nodes: int) -> jax.Array:
        """See `GraphFamily`."""
        group = jnp.arange(nodes) % self.count
        chance = jnp.where(group[:, None] == group, self.inside, self.between)
        return jnp.triu(jax.random.bernoulli(key, chance, (nodes, nodes)), k=1)


@final
@dataclass(frozen=True)
class Tree(GraphFamily):
    """A tree that grows: each node is tied to one before it, each as likely as the others."""

    name: ClassVar[str] = "tree"

    def edges(self, key: Key, size: jax.Array, nodes: int) -> jax.Array:
        """See `GraphFamily`."""
        index = jnp.arange(nodes)
        parent = jax.random.randint(key, (nodes,), 0, jnp.maximum(index, 1))
        return parent[:, None] == index


FAMILIES: tuple[type[GraphFamily], ...] = (ErdosRenyi, WattsStrogatz, Grid, Communities, Tree)


def permutation(key: Key, size: jax.Array, nodes: int) -> jax.Array:
    """(V,) int32: the first n of V nodes in a random order, then the others in theirs."""
    drawn = jnp.where(jnp.arange(nodes) < size, jax.random.uniform(key, (nodes,)), 2.0)
    return jnp.argsort(drawn, stable=True).astype(jnp.int32)


def _check_chance(argument: str, value: float) -> None:
    if not 0 <= finite(argument, value) <= 1:
        raise reject(argument, value, "is no chance", "give a number from 0 to 1")
