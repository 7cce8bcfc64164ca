"""The base of the tasks of SALSA-CLRS: algorithms on sparse connected graphs of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from evojax_nar.errors import reject
from evojax_nar.settings import build
from evojax_nar.tasks.clrs.batches import run_batch
from evojax_nar.tasks.clrs.machine import Machine
from evojax_nar.tasks.clrs.probes import Specification
from evojax_nar.tasks.graph import GraphTask
from evojax_nar.tasks.salsa.delaunay import Delaunay
from evojax_nar.tasks.salsa.erdos_renyi import ErdosRenyi
from evojax_nar.tasks.salsa.families import Family
from evojax_nar.tasks.salsa.watts_strogatz import WattsStrogatz
from evojax_nar.tasks.scoring import decide, decide_truth, where_judged
from evojax_nar.tasks.sizes import Sizes, per_example
from evojax_nar.types import Batch, Evaluation, GraphOutputs, Key, TaskSpec

FAMILIES: tuple[type[Family], ...] = (Delaunay, ErdosRenyi, WattsStrogatz)
"""What a config may name, as in `graphs: {name: delaunay}`."""
_SPARSE = ErdosRenyi()


@dataclass(frozen=True)
class SalsaTask(GraphTask):
    """An algorithm on sparse connected graphs, to be learned from small ones.

    Each of the sets that the benchmark tests on is a task with other `graphs`. Its test sizes are
    16, 80, 160, 800 and 1600; the two largest must be asked for. Batches of them must be small,
    since arrays of pairs are dense: at 1600 nodes an example holds 21 MB, or up to 358 MB with its
    hints, and its making takes some 60 MB beside that.

    Source: Minder et al. 2023, arXiv:2309.12253.

    Args:
      train_sizes: numbers of nodes to train on.
      test_sizes: numbers of nodes to be judged at.
      hints: whether batches hold what the algorithm shows on its way, to learn from. Those that a
        model is judged on hold the first frame alone.
      graphs: the family that graphs are drawn from, or its settings with its `name`.
    """

    specification: ClassVar[Specification]
    machine: ClassVar[Machine]
    source: ClassVar[str] = "SALSA-CLRS, Minder et al. 2023, arXiv:2309.12253"
    train_sizes: Sizes = (4, 7, 11, 13, 16)
    test_sizes: Sizes = (16, 80, 160)
    hints: bool = True
    graphs: Any = _SPARSE

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.graphs, Mapping):
            settings = dict(self.graphs)
            known = {family.name: family for family in FAMILIES}
            found = build("graphs", known, settings.pop("name", None), settings)
            object.__setattr__(self, "graphs", found)
        if not isinstance(self.graphs, Family):
            raise reject("graphs", self.graphs, "is no family of graphs", "give ErdosRenyi()")

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(train_sizes=(4, 5), test_sizes=(5, 8))

    @property
    def validation(self) -> Self:
        """The same task as it is judged: no hints but the first frame."""
        return replace(self, hints=False)

    @property
    def test(self) -> Self:
        """Likewise."""
        return self.validation

    @property
    def spec(self) -> TaskSpec:
        """Inputs, outputs, hints and the largest training size."""
        largest = max(self.train_sizes)
        return TaskSpec(
            self.name,
            self.specification.inputs,
            self.specification.outputs,
            largest,
            largest,
            self.specification.hints,
        )

    def length(self, size: int) -> int:
        """V = size."""
        return size

    def sample(self, key: Key, size: Any, *, max_size: int, batch: int) -> Batch:
        """`batch` examples of `size` (a number, traced or not, or (B,)), padded to `max_size`.

        Raises:
          InputError: for a size that is known on the host and not from 1 to `max_size`.
        """
        sizes = per_example(size, max_size=max_size, batch=batch)
        draw = jax.vmap(lambda own, n: self.draw(own, n, max_size))
        return self.build(draw(jax.random.split(key, batch), sizes), sizes)

    def draw(self, key: Key, size: jax.Array, nodes: int) -> dict[str, jax.Array]:
        """The inputs of one example: `size` is traced, `nodes` the static V to pad to."""
        graph_key, other_key = jax.random.split(key)
        edges = self.graphs.draw(graph_key, size, nodes)
        index = jnp.arange(nodes)
        exists = index < size
        inputs = {
            "pos": jnp.where(exists, index / jnp.maximum(size, 1), 0.0),
            "adj": edges | (jnp.eye(nodes, dtype=bool) & exists),
            **self.draw_other(other_key, edges, exists),
        }
        return {name: value.astype(jnp.float32) for name, value in inputs.items()}

    def draw_other(self, key: Key, edges: jax.Array, exists: jax.Array) -> dict[str, jax.Array]:
        """The inputs besides `pos` and `adj`, from the edges (V, V) and the nodes (V,) bool."""
        del key, exists
        return {"A": edges}

    def build(self, inputs: Mapping[str, jax.Array], sizes: jax.Array) -> Batch:
        """The batch of graphs: the input fields with B in front, and sizes (B,)."""
        return run_batch(self.machine, inputs, sizes, hints=self.hints)

    def evaluate(self, outputs: GraphOutputs, batch: Batch) -> Evaluation:
        """Loss as in `scoring.judge`; the score is that of the benchmark, its node accuracy.

        It is the share of nodes whose output is right, averaged over graphs; where the answer is
        one number of the graph, the share of graphs where it is right when rounded. Metrics:
        `exact`, the share of graphs with everything right, the benchmark's graph accuracy; and what
        `judge` gives of each output. A NaN is never right.

        Raises:
          InputError: for outputs that lack a field.
        """
        base = super().evaluate(outputs, batch)
        (field,) = self.spec.outputs
        truth = batch.targets[field.name]
        said = decide(field, outputs.outputs[field.name], batch.mask)
        said = jnp.round(said) if field.kind == "scalar" else said
        count = truth.shape[0]
        judged = where_judged(field, truth, batch.mask).reshape(count, -1)
        right = (said == decide_truth(field, truth)).reshape(count, -1) & judged
        score = (right.sum(axis=1) / jnp.maximum(judged.sum(axis=1), 1)).mean(dtype=jnp.float32)
        exact = (right | ~judged).all(axis=1).mean(dtype=jnp.float32)
        return Evaluation(base.loss, score, {**base.metrics, "exact": exact})

    def guess(self, batch: Batch) -> GraphOutputs:
        """What is most frequent: at each node, or among the graphs."""
        (field,) = self.spec.outputs
        truth = batch.targets[field.name]
        if field.kind == "mask":
            ones = jnp.where(batch.mask, truth, 0.0).sum(axis=0)
            common = jnp.where(2 * ones > batch.mask.sum(axis=0), 1.0, -1.0)
            return GraphOutputs({field.name: common}, {})
        if field.kind == "scalar":
            often = (truth[:, None] == truth).sum(axis=1)
            return GraphOutputs({field.name: truth[often.argmax()]}, {})
        return super().guess(batch)


def uniform_source(key: Key, exists: jax.Array) -> jax.Array:
    """A uniform node of those that exist, which come first, (V,) bool."""
    return jnp.arange(exists.shape[0]) == jax.random.randint(key, (), 0, exists.sum())
