"""Random graphs: on the device, and replayed in NumPy.

A[i, j] is the weight of the edge from i to j, and 0 where there is none. Probabilities are those of
one ordered pair; an undirected edge must be drawn in both directions, so its own is the square.
Source: Velickovic et al. 2022, arXiv:2205.15659, appendix; varied ones as in the generalist recipe
of Ibarz et al. 2022, arXiv:2209.11142.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.tasks.clrs import inputs
from evojax_nar.tasks.clrs.probes import edge, node
from evojax_nar.types import Key

WEIGHTS = edge("A", "scalar")
ADJACENCY = edge("adj", "mask")
"""Where there is an edge, and from every node to itself."""
SOURCE = node("s", "mask_one")
"""The node to start from."""

LEAST_WEIGHT = 1e-3
"""Added to the product of two uniform numbers before its root is taken as an undirected weight."""
COMMUNITIES = 4
FLIPPED = 0.01
"""Probability with which a pair of nodes in a graph of communities is not as it would be."""


@dataclass(frozen=True)
class Graphs(abc.ABC):
    """A distribution of graphs.

    Args:
      density: probability of an ordered pair.
      scale: of the densities 0.1 to 0.9, one of which a varied graph has.
    """

    density: float = 0.5
    scale: float = 1.0

    @abc.abstractmethod
    def matrix(self, key: Key, size: jax.Array, nodes: int, density: jax.Array) -> jax.Array:
        """A, (V, V) float32; what is in rows and columns past the size is ignored."""

    @abc.abstractmethod
    def replay_matrix(self, random: np.random.RandomState, size: int, density: float) -> np.ndarray:
        """A as the published generator draws it, (n, n)."""

    def draw(self, key: Key, size: jax.Array, nodes: int, *, varied: bool) -> dict[str, jax.Array]:
        """Probes `pos`, `A` and `adj`, which holds every node's edge to itself too."""
        at_key, density_key, matrix_key = jax.random.split(key, 3)
        density = jnp.float32(self.density)
        if varied:
            density = self.scale * jax.random.randint(density_key, (), 1, 10) / 10
        exists = jnp.arange(nodes) < size
        both = exists[:, None] & exists
        matrix = jnp.where(both, self.matrix(matrix_key, size, nodes, density), 0.0)
        return {
            "pos": inputs.positions(at_key, size, nodes, varied=varied),
            "A": matrix,
            "adj": (both & ((matrix != 0) | jnp.eye(nodes, dtype=bool))).astype(jnp.float32),
        }

    def replay(self, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """The same probes, as the published generator draws them, float64."""
        # Its own choice among one density: that draws nothing from the stream today, but might.
        density = random.choice((self.density,))
        matrix = self.replay_matrix(random, size, density).astype(np.float64)
        return {
            "pos": inputs.replay_positions(size),
            "A": matrix,
            "adj": ((matrix != 0) | np.eye(size, dtype=bool)).astype(np.float64),
        }

    def draw_with_source(
        self, key: Key, size: jax.Array, nodes: int, *, varied: bool
    ) -> dict[str, jax.Array]:
        """`draw`, and a uniform node `s` to start from."""
        source_key, graph_key = jax.random.split(key)
        probes = self.draw(graph_key, size, nodes, varied=varied)
        source = jax.random.randint(source_key, (), 0, size)
        return probes | {"s": (jnp.arange(nodes) == source).astype(jnp.float32)}

    def replay_with_source(self, random: np.random.RandomState, size: int) -> dict[str, np.ndarray]:
        """`replay`, and a uniform node `s` to start from."""
        probes = self.replay(random, size)
        return probes | {"s": np.eye(size)[random.choice(size)]}


@final
@dataclass(frozen=True)
class Undirected(Graphs):
    """Erdos-Renyi graphs without weights; a node may have an edge to itself."""

    def matrix(self, key: Key, size: jax.Array, nodes: int, density: jax.Array) -> jax.Array:
        """See `Graphs`."""
        drawn = jax.random.bernoulli(key, density, (nodes, nodes))
        return (drawn & drawn.T).astype(jnp.float32)

    def replay_matrix(self, random: np.random.RandomState, size: int, density: float) -> np.ndarray:
        """See `Graphs`."""
        drawn = random.binomial(1, density, size=(size, size))
        return drawn * drawn.T


@final
@dataclass(frozen=True)
class WeightedUndirected(Graphs):
    """`Undirected`, with weights from 0.03 to 1, the same in both directions."""

    def matrix(self, key: Key, size: jax.Array, nodes: int, density: jax.Array) -> jax.Array:
        """See `Graphs`."""
        drawn, weights = _drawn_with_weights(key, nodes, density)
        return jnp.where(drawn & drawn.T, jnp.sqrt(weights * weights.T + LEAST_WEIGHT), 0.0)

    def replay_matrix(self, random: np.random.RandomState, size: int, density: float) -> np.ndarray:
        """See `Graphs`."""
        drawn = random.binomial(1, density, size=(size, size))
        weights = random.uniform(low=0.0, high=1.0, size=(size, size))
        return drawn * drawn.T * np.sqrt(weights * weights.T + LEAST_WEIGHT)


@final
@dataclass(frozen=True)
class Directed(Graphs):
    """Directed Erdos-Renyi graphs; a node may have an edge to itself."""

    def matrix(self, key: Key, size: jax.Array, nodes: int, density: jax.Array) -> jax.Array:
        """See `Graphs`."""
        return jax.random.bernoulli(key, density, (nodes, nodes)).astype(jnp.float32)

    def replay_matrix(self, random: np.random.RandomState, size: int, density: float) -> np.ndarray:
        """See `Graphs`."""
        return random.binomial(1, density, size=(size, size))


@final
@dataclass(frozen=True)
class Acyclic(Graphs):
    """Directed graphs whose edges all go forward in a hidden random order of the nodes."""

    def matrix(self, key: Key, size: jax.Array, nodes: int, density: jax.Array) -> jax.Array:
        """See `Graphs`."""
        edge_key, order_key = jax.random.split(key)
        drawn = jax.random.bernoulli(edge_key, density, (nodes, nodes))
        return (drawn & _forward(order_key, nodes)).astype(jnp.float32)

    def replay_matrix(self, random: np.random.RandomState, size: int, density: float) -> np.ndarray:
        """See `Graphs`."""
        return _replay_forward(random, size, density)


@final
@dataclass(frozen=True)
class WeightedAcyclic(Graphs):
    """`Acyclic`, with weights uniform in [0, 1)."""

    def matrix(self, key: Key, size: jax.Array, nodes: int, density: jax.Array) -> jax.Array:
        """See `Graphs`."""
        edge_key, order_key = jax.random.split(key)
        drawn, weights = _drawn_with_weights(edge_key, nodes, density)
        return jnp.where(drawn & _forward(order_key, nodes), weights, 0.0)

    def replay_matrix(self, random: np.random.RandomState, size: int, density: float) -> np.ndarray:
        """See `Graphs`."""
        drawn = _replay_forward(random, size, density)
        return drawn * random.uniform(low=0.0, high=1.0, size=(size, size))


@final
@dataclass(frozen=True)
class Communities(Graphs):
    """Four directed communities without edges between them, then some pairs flipped.

    Communities have n // 4 nodes, and the last one what remains. No edge leads from a later one to
    an earlier one, flipped or not, so no two of them become one strong component. Of fewer than
    four nodes all are in the last.
    """

    def matrix(self, key: Key, size: jax.Array, nodes: int, density: jax.Array) -> jax.Array:
        """See `Graphs`."""
        edge_key, order_key = jax.random.split(key)
        each = size // COMMUNITIES
        order = _order(order_key, size, nodes)
        own = jnp.minimum(order // jnp.maximum(each, 1), COMMUNITIES - 1)
        own = jnp.where(each > 0, own, COMMUNITIES - 1)
        one = own[:, None]
        # Of an edge, or none, that is flipped or not.
        inside = density * (1 - FLIPPED) + (1 - density) * FLIPPED
        probability = jnp.where(one == own, inside, jnp.where(one < own, FLIPPED, 0.0))
        return jax.random.bernoulli(edge_key, probability).astype(jnp.float32)

    def replay_matrix(self, random: np.random.RandomState, size: int, density: float) -> np.ndarray:
        """See `Graphs`."""
        own = np.minimum(np.arange(size) // (size // COMMUNITIES), COMMUNITIES - 1)
        drawn = np.zeros((size, size), int)
        for members in (np.flatnonzero(own == one) for one in range(COMMUNITIES)):
            block = random.binomial(1, density, size=(len(members), len(members)))
            drawn[np.ix_(members, members)] = block
        flip = random.binomial(1, FLIPPED, size=(size, size)) * (own[:, None] <= own)
        order = random.permutation(size)
        return (drawn ^ flip)[np.ix_(order, order)]


def _drawn_with_weights(key: Key, nodes: int, density: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(V, V) bool, true with a probability; and where it is true, independent weights in [0, 1).

    A uniform number that is below the probability, divided by it, is uniform again.
    """
    number = jax.random.uniform(key, (nodes, nodes))
    return number < density, number / density


def _forward(key: Key, nodes: int) -> jax.Array:
    """(V, V) bool: pairs whose first node has the smaller random number.

    The order of independent numbers is a uniform one, of any of the nodes too.
    """
    place = jax.random.uniform(key, (nodes,))
    return place[:, None] < place


def _replay_forward(random: np.random.RandomState, size: int, density: float) -> np.ndarray:
    drawn = np.triu(random.binomial(1, density, size=(size, size)), k=1)
    order = random.permutation(size)
    return drawn[np.ix_(order, order)]


def _order(key: Key, size: jax.Array, nodes: int) -> jax.Array:
    """A uniform permutation of 0 to n - 1 in the first n of (V,) int32."""
    drawn = jnp.where(jnp.arange(nodes) < size, jax.random.uniform(key, (nodes,)), jnp.inf)
    before = jnp.tri(nodes, k=-1, dtype=bool)
    smaller = (drawn < drawn[:, None]) | ((drawn == drawn[:, None]) & before)
    return smaller.sum(axis=1, dtype=jnp.int32)
