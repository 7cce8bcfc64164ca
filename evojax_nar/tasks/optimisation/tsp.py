"""The travelling salesman in the unit square."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.tasks.clrs.probes import edge, node
from evojax_nar.tasks.graph import GraphTask
from evojax_nar.tasks.optimisation import held_karp, tours
from evojax_nar.tasks.optimisation.two_opt import improved_tour
from evojax_nar.tasks.scoring import decide
from evojax_nar.tasks.sizes import Sizes, per_example
from evojax_nar.types import Batch, Evaluation, Graph, GraphOutputs, Key, TaskSpec

_TOUR = node("tour", "pointer")


@final
@dataclass(frozen=True)
class TravellingSalesman(GraphTask):
    """Find the shortest tour of points in the unit square: the successor of each.

    The size is the number of points n, uniform and independent. Inputs: coordinates `x` and `y`,
    and `distance` between all pairs. Output: the successor of each point on the tour, which runs
    counterclockwise; it has no first point, and is unique but for tours of the same length. To 12
    points the tour is the shortest one, by dynamic programming; beyond, it is what 2-opt makes of a
    walk to nearest neighbours, typically some 5 % longer than the shortest, and can be beaten.
    There are no hints, and an example takes n steps. Sources: Held and Karp 1962; Croes 1958; as a
    task for neural networks Vinyals et al. 2015, arXiv:1506.03134.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
    """

    name: ClassVar[str] = "optimisation/tsp"
    source: ClassVar[str] = "Vinyals et al. 2015, arXiv:1506.03134"
    train_sizes: Sizes = range(5, 13)
    test_sizes: Sizes = (12, 20, 50, 100)

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(train_sizes=(4, 5), test_sizes=(5, 8))

    @property
    def spec(self) -> TaskSpec:
        """Inputs, the output, and the largest training size."""
        largest = max(self.train_sizes)
        return TaskSpec(
            name=self.name,
            inputs=(node("x", "scalar"), node("y", "scalar"), edge("distance", "scalar")),
            outputs=(_TOUR,),
            max_size=largest,
            max_length=largest,
        )

    def length(self, size: int) -> int:
        """V = size."""
        return size

    def sample(self, key: Key, size: Any, *, max_size: int, batch: int) -> Batch:
        """`batch` sets of `size` points (a number, traced or not, or (B,)), padded to `max_size`.

        Raises:
          InputError: for a size that is known on the host and not from 1 to `max_size`.
        """
        sizes = per_example(size, max_size=max_size, batch=batch)
        return self.build(jax.random.uniform(key, (batch, max_size, 2)), sizes)

    def build(self, points: jax.Array, sizes: jax.Array) -> Batch:
        """The batch of the first `sizes` (B,) of points (B, V, 2), each with its tour."""
        nodes = points.shape[1]
        mask = jnp.arange(nodes) < sizes[:, None]
        points = jnp.where(mask[..., None], points, 0.0).astype(jnp.float32)
        x, y = points[..., 0], points[..., 1]
        distance = jax.vmap(distances)(x, y)
        distance = jnp.where(mask[:, :, None] & mask[:, None, :], distance, 0.0)
        tour = jax.vmap(reference_tour)(distance, sizes)
        tour = jax.vmap(tours.counterclockwise)(tour, x, y, mask)
        graph = Graph({"x": x, "y": y, "distance": distance}, mask, mask.T, {})
        return Batch(graph, {"tour": tour}, mask, sizes)

    def evaluate(self, outputs: GraphOutputs, batch: Batch) -> Evaluation:
        """Loss, score and metrics as in `scoring.judge`: the score is the accuracy of successors.

        Further metrics: `gap`, how much longer than the target the tour is that `tours.greedy`
        reads from the logits, as a share of the target; and `valid`, the fraction of examples whose
        most likely successors form one tour as they are. A NaN makes the gap NaN and is not valid.

        Raises:
          InputError: for outputs that lack a field.
        """
        base = super().evaluate(outputs, batch)
        logits, mask = outputs.outputs["tour"], batch.mask
        distance = batch.inputs.values["distance"]
        measure = jax.vmap(tours.length)
        found = measure(jax.vmap(tours.greedy)(logits, mask), distance, mask)
        best = measure(batch.targets["tour"], distance, mask)
        gap = jnp.where(best > 0, found / best - 1.0, 0.0)  # a single point is a tour of length 0
        chosen = decide(_TOUR, logits, mask)
        missing = ((chosen < 0) & mask).any(axis=1)
        valid = jax.vmap(tours.is_tour)(chosen, mask)
        further = {
            "gap": jnp.where(missing, jnp.nan, gap).mean(),
            "valid": valid.mean(dtype=jnp.float32),
        }
        return base._replace(metrics={**base.metrics, **further})


def distances(x: jax.Array, y: jax.Array) -> jax.Array:
    """Between all pairs of points, (V, V)."""
    return jnp.hypot(x[:, None] - x, y[:, None] - y)


def reference_tour(distance: jax.Array, size: jax.Array) -> jax.Array:
    """The shortest tour of up to 12 nodes, whatever V is, else that of 2-opt: see `tours`."""
    nodes = distance.shape[0]
    few = min(nodes, held_karp.LARGEST)
    exact = held_karp.shortest_tour(distance[:few, :few], jnp.minimum(size, few))
    if nodes == few:
        return exact
    exact = jnp.pad(exact, (0, nodes - few))
    return jnp.where(size <= few, exact, improved_tour(distance, size))
