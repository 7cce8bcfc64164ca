"""Maximum flow and minimum cut, each the proof of the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import positive_int, reject
from evojax_nar.tasks.clrs.batches import run_batch
from evojax_nar.tasks.clrs.graph_inputs import ADJACENCY, SOURCE, WEIGHTS
from evojax_nar.tasks.clrs.probes import POS, edge, node
from evojax_nar.tasks.graph import GraphTask
from evojax_nar.tasks.optimisation.augmenting import edmonds_karp
from evojax_nar.tasks.optimisation.networks import TwoHalves
from evojax_nar.tasks.scoring import decide, decide_truth
from evojax_nar.tasks.sizes import Sizes, at_least, per_example
from evojax_nar.types import Batch, Evaluation, GraphOutputs, Key, TaskSpec

_FLOW = edge("flow", "scalar")
_CUT = node("cut", "mask")


@final
@dataclass(frozen=True)
class MaxFlow(GraphTask):
    """Find a maximum flow from a source to a sink, and a minimum cut between them.

    The size is the number of nodes, from 2. Inputs: capacities `A` of directed edges, in steps of 1
    / levels and at most 1, source `s` and sink `t`. Outputs: the flow on each edge, less what goes
    the other way, and the side of each node, 1 for the source's. Hints, a frame for each path along
    which more is sent: the flow so far, the nodes to which the source can still send, and on which
    way.

    The target cut is the one whose source side is what the source can still reach when the flow is
    maximal: of all minimum cuts the one with the fewest nodes, the same for every maximum flow. The
    target flow is the one that Edmonds and Karp's algorithm finds, one of many; the loss asks for
    it, the score does not. Sources: Ford and Fulkerson 1956; Edmonds and Karp 1972; as a task for
    neural networks Numeroso et al. 2023, arXiv:2302.04496.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
      hints: whether batches hold all frames, to learn from, or the first one alone.
      levels: the number of capacities, a power of 2. There are at most levels * (V - 1) paths.
    """

    name: ClassVar[str] = "optimisation/max_flow"
    source: ClassVar[str] = "Numeroso et al. 2023, arXiv:2302.04496; networks of our own"
    train_sizes: Sizes = (4, 7, 11, 13, 16)
    test_sizes: Sizes = (16, 32, 64)
    hints: bool = True
    levels: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument in ("train_sizes", "test_sizes"):
            at_least(argument, getattr(self, argument), 2)
        if positive_int("levels", self.levels).bit_count() != 1:
            raise reject("levels", self.levels, "gives inexact sums", "give a power of 2")

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(train_sizes=(4, 5), test_sizes=(5, 8), levels=2)

    @property
    def validation(self) -> Self:
        """The same task as it is judged: no hints but the first frame."""
        return type(self)(self.train_sizes, self.test_sizes, hints=False, levels=self.levels)

    @property
    def test(self) -> Self:
        """Likewise."""
        return self.validation

    @property
    def spec(self) -> TaskSpec:
        """Inputs, outputs, hints and the largest training size."""
        largest = max(self.train_sizes)
        return TaskSpec(
            name=self.name,
            inputs=(POS, WEIGHTS, ADJACENCY, SOURCE, node("t", "mask_one")),
            outputs=(_FLOW, _CUT),
            max_size=largest,
            max_length=largest,
            hints=(edge("flow_h", "scalar"), node("reach_h", "mask"), node("pi_h", "pointer")),
        )

    def length(self, size: int) -> int:
        """V = size."""
        return size

    def sample(self, key: Key, size: Any, *, max_size: int, batch: int) -> Batch:
        """`batch` networks of `size` (a number, traced or not, or (B,)), padded to `max_size`.

        Raises:
          InputError: for a size that is known on the host and not from 2 to `max_size`.
        """
        at_least("size", size, 2)
        sizes = per_example(size, max_size=max_size, batch=batch)
        networks = TwoHalves(self.levels)
        inputs = jax.vmap(lambda own, n: networks.draw(own, n, max_size))(
            jax.random.split(key, batch), sizes
        )
        return self.build(inputs, sizes)

    def build(self, inputs: dict[str, jax.Array], sizes: jax.Array) -> Batch:
        """The batch of networks: the input fields with B in front, and sizes (B,)."""
        return run_batch(edmonds_karp(self.levels), inputs, sizes, hints=self.hints)

    def guess(self, batch: Batch) -> GraphOutputs:
        """The mean flow, and the side that is more frequent at each node."""
        means = super().guess(batch).outputs
        ones = batch.targets["cut"].sum(axis=0) / jnp.maximum(batch.mask.sum(axis=0), 1)
        return GraphOutputs({**means, "cut": jnp.where(ones > 0.5, 1.0, -1.0)}, {})

    def evaluate(self, outputs: GraphOutputs, batch: Batch) -> Evaluation:
        """Loss as in `scoring.judge`; the score is the mean of `cut_accuracy` and `flow_share`.

        Both are 1 exactly where the target cut and any maximum flow are given. Further metrics:
        `exact`, the fraction of networks with every side right and a flow share that leaves less
        than half a step of 1 / levels to the maximum; `flow_error`, the mean absolute error of the
        flow that leaves the source; `cut_gap` and `violation`, see `Quality`.

        Raises:
          InputError: for outputs that lack a field.
        """
        base = super().evaluate(outputs, batch)
        values = batch.inputs.values
        step = 1.0 / self.levels
        side = decide(_CUT, outputs.outputs["cut"], batch.mask)
        found = jax.vmap(partial(_judge, step))(
            outputs.outputs["flow"],
            side,
            batch.targets["flow"],
            values["A"],
            values["s"] > 0,
            values["t"] > 0,
            batch.mask,
        )
        right = (side == decide_truth(_CUT, batch.targets["cut"])) & batch.mask
        nodes = jnp.maximum(batch.mask.sum(axis=1), 1)
        accuracy = right.sum(axis=1) / nodes
        exact = (right | ~batch.mask).all(axis=1) & found.maximal
        named = {
            "exact": exact,
            "cut_accuracy": accuracy,
            "flow_share": found.share,
            "flow_error": found.error,
            "cut_gap": found.gap,
            "violation": found.violation,
        }
        means = {name: value.mean(dtype=jnp.float32) for name, value in named.items()}
        score = 0.5 * (means["cut_accuracy"] + means["flow_share"])
        return Evaluation(base.loss, score, {**base.metrics, **means})


class Quality(NamedTuple):
    """How good a flow and a cut are for one network, without regard to which optimum they are."""

    share: jax.Array
    """What certainly gets through, over the maximum: the flow that leaves the source when each edge
    is held to its capacity, less what arrives at other nodes and does not leave them. Split into
    paths, at least that much of it runs from source to sink. From 0 to 1, 0 for a NaN."""
    maximal: jax.Array
    """Whether what gets through is within half a step of the maximum, bool."""
    error: jax.Array
    """The flow that leaves the source, against the maximum, absolute."""
    gap: jax.Array
    """The capacity of the cut over the maximum flow, less 1; never negative. Source and sink count
    as on their own sides, whatever is said of them. NaN where a side is."""
    violation: jax.Array
    """What exceeds a capacity or is below 0, and what comes to stay at other nodes than source and
    sink or comes from nowhere, in all, over the maximum flow."""


def _judge(
    step: float,
    flow: jax.Array,
    side: jax.Array,
    best: jax.Array,
    capacity: jax.Array,
    source: jax.Array,
    sink: jax.Array,
    exists: jax.Array,
) -> Quality:
    """See `Quality`; (V, V) and (V,) of one network, with `side` of -1 for a NaN."""
    pairs, inner = exists[:, None] & exists, exists & ~source & ~sink
    flow = jnp.where(pairs, flow, 0.0)
    maximum = _leaving(best, source)
    unit = jnp.maximum(maximum, step)
    held = jnp.clip(flow, 0.0, capacity)
    staying = jnp.where(inner, held.sum(axis=0) - held.sum(axis=1), 0.0)
    through = jnp.maximum(_leaving(held, source) - jnp.maximum(staying, 0.0).sum(), 0.0)
    # No flow at all is all there is where the maximum is 0.
    share = jnp.where(maximum > 0, jnp.minimum(through / unit, 1.0), 1.0)
    broken = jnp.isnan(flow).any()
    unbalanced = jnp.where(inner, flow.sum(axis=0) - flow.sum(axis=1), 0.0)
    here = ((side == 1) | source) & ~sink
    across = jnp.where(here[:, None] & ~here, capacity, 0.0).sum()
    return Quality(
        share=jnp.where(broken, 0.0, share),
        maximal=~broken & (through > maximum - 0.5 * step),
        error=jnp.abs(_leaving(flow, source) - maximum),
        gap=jnp.where((side < 0).any(where=exists), jnp.nan, (across - maximum) / unit),
        violation=(jnp.abs(flow - held).sum() + jnp.abs(unbalanced).sum()) / unit,
    )


def _leaving(flow: jax.Array, source: jax.Array) -> jax.Array:
    return jnp.where(source, flow.sum(axis=1) - flow.sum(axis=0), 0.0).sum()
