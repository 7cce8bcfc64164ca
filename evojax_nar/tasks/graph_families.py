"""Other families of graphs for the algorithms on graphs, in place of those of their samplers.

Grids, communities and trees are here, random and geometric graphs in `salsa`. Source of the idea to
judge algorithms on several families: Minder et al. 2023, "SALSA-CLRS", arXiv:2309.12253.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import finite, positive_int, reject
from evojax_nar.settings import build
from evojax_nar.tasks import salsa
from evojax_nar.tasks.clrs.graph_inputs import LEAST_WEIGHT
from evojax_nar.tasks.graph_problems import NEEDS, Needs, needs
from evojax_nar.tasks.perturbations import Perturbation
from evojax_nar.tasks.salsa.families import Family, until_connected
from evojax_nar.types import Key


@final
@dataclass(frozen=True)
class Grid(Family):
    """A rectangle of streets, as square as can be; its last row may be shorter."""

    name: ClassVar[str] = "grid"

    def draw(self, key: Key, size: jax.Array, nodes: int) -> jax.Array:
        """See `Family`. Nothing is drawn."""
        del key
        index = jnp.arange(nodes)
        exists = index < size
        columns = jnp.maximum((index**2 < size).sum(), 1)  # the root of the size, rounded up
        row, column = index // columns, index % columns
        near = jnp.abs(row[:, None] - row) + jnp.abs(column[:, None] - column) == 1
        return near & exists[:, None] & exists


@final
@dataclass(frozen=True)
class Communities(Family):
    """Groups with many edges inside and few between them, in a connected graph.

    Graphs are drawn until one is connected, and after many tries made so: see `until_connected`.
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

    def draw(self, key: Key, size: jax.Array, nodes: int) -> jax.Array:
        """See `Family`."""
        group = jnp.arange(nodes) % self.count
        chance = jnp.where(group[:, None] == group, self.inside, self.between)

        def pairs(own: Key) -> jax.Array:
            upper = jnp.triu(jax.random.bernoulli(own, chance, (nodes, nodes)), k=1)
            return upper | upper.T

        return until_connected(key, size, nodes, pairs)


@final
@dataclass(frozen=True)
class Tree(Family):
    """A tree that grows: each node is tied to one before it, each as likely as the others."""

    name: ClassVar[str] = "tree"

    def draw(self, key: Key, size: jax.Array, nodes: int) -> jax.Array:
        """See `Family`."""
        index = jnp.arange(nodes)
        parent = jax.random.randint(key, (nodes,), 0, jnp.maximum(index, 1))
        tied = (parent[:, None] == index) & ((index > 0) & (index < size))[:, None]
        return tied | tied.T


FAMILIES: dict[str, type[Family]] = {
    family.name: family for family in (*salsa.FAMILIES, Grid, Communities, Tree)
}
"""Those that a config can name."""
_SMALL_WORLDS = salsa.WattsStrogatz()


@final
@dataclass(frozen=True)
class OtherGraphs(Perturbation):
    """Other edges, and weights, between the nodes that were drawn.

    Families are of undirected graphs. An algorithm is given them in the form that it needs: an edge
    has both directions, or one of the two at random, or the one that goes forward in a random order
    of the nodes; weights are drawn as the algorithm's sampler draws them. Which node stands where
    in the list of nodes is random, and the node to start from is kept.

    Args:
      graphs: the family, or its settings with its `name`.
    """

    name: ClassVar[str] = "other_graphs"
    graphs: Any = _SMALL_WORLDS

    def __post_init__(self) -> None:
        if isinstance(self.graphs, Mapping):
            settings = dict(self.graphs)
            found = build("graphs", FAMILIES, settings.pop("name", None), settings)
            object.__setattr__(self, "graphs", found)
        if not isinstance(self.graphs, Family):
            raise reject("graphs", self.graphs, "is no family of graphs", "give Grid() or another")

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
        place = permutation(place_key, size, nodes)
        drawn = self.graphs.draw(edge_key, size, nodes)[place][:, place]
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


def permutation(key: Key, size: jax.Array, nodes: int) -> jax.Array:
    """(V,) int32: the first n of V nodes in a random order, then the others in theirs."""
    drawn = jnp.where(jnp.arange(nodes) < size, jax.random.uniform(key, (nodes,)), 2.0)
    return jnp.argsort(drawn, stable=True).astype(jnp.int32)


def _check_chance(argument: str, value: float) -> None:
    if not 0 <= finite(argument, value) <= 1:
        raise reject(argument, value, "is no chance", "give a number from 0 to 1")
