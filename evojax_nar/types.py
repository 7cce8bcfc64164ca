"""The words of the package: small data types and the protocols that everything else meets.

Shape letters used in every docstring: B batch, T time steps, V nodes, F features, D parameters,
N population, S seeds, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax

if TYPE_CHECKING:
    from evojax_nar.objective import Objective

Params: TypeAlias = Any
"""A pytree of arrays: the parameters of one model, D numbers in all."""
Carry: TypeAlias = Any
"""What one segment of a long unroll hands to the next; `()` where nothing is carried."""
State: TypeAlias = Any
"""What a strategy needs for its next step, and nothing else: a pytree of static shapes."""
Key: TypeAlias = jax.Array
"""A typed random key, as made by `jax.random.key`; consumed once."""


class Evaluation(NamedTuple):
    """How good one parameter set is on one batch.

    `loss` is always minimised and is what a gradient can follow; `score` is always maximised and
    need not be differentiable; `metrics` are further named numbers for people to read. Every leaf
    is a float32 scalar, or has a leading axis of N where a population was evaluated.
    """

    loss: jax.Array
    score: jax.Array
    metrics: Mapping[str, jax.Array] = {}


class Info(NamedTuple):
    """What one `Strategy.step` reports; nothing in it is needed by the next step."""

    loss: jax.Array
    """Loss of the step: the mean over the finite members, or of the one parameter set. float32."""
    score: jax.Array
    """Score of the step, likewise. float32."""
    forwards: jax.Array
    """Evaluations of the objective that were a forward pass, with or without a gradient. int32."""
    backwards: jax.Array
    """Evaluations of the objective that also ran the backward pass. int32."""
    healthy: jax.Array
    """False where nothing was finite, or the state would not be; it is then unchanged. bool."""
    diagnostics: Mapping[str, jax.Array]
    """Named scalars for logs."""


class Cost(NamedTuple):
    """What one `Strategy.step` spends, in evaluations of the objective: see `Info`."""

    forwards: int
    backwards: int

    def forward_equivalents(self, examples: int) -> int:
        """Cost of the step on a batch of `examples`: forward 1 and backward 2, per example."""
        return examples * (self.forwards + BACKWARD_COST * self.backwards)


BACKWARD_COST = 2
"""A backward pass counts as two forward passes, so that a gradient step costs 3 an example."""


@dataclass(frozen=True)
class Field:
    """One array that a task hands to a model or expects from it.

    `kind` is how its numbers are read: `bits` (independent, 0 or 1, sigmoid logits),
    `categorical` (one of `features` classes, softmax logits) or `scalar` (real numbers); the fields
    of graphs have the kinds of `tasks/clrs/probes.py` besides. `location` says what there is one of
    them for: `sequence` is one a time step, `node`, `edge` and `graph` one of those.
    """

    name: str
    kind: str
    features: int
    location: str = "sequence"


@dataclass(frozen=True)
class TaskSpec:
    """What a model must know of a task to be built for it.

    `max_size` is the largest training size and `max_length` the time steps T, or the nodes V, of a
    batch padded to it. Models that are built for one fixed length are built for that one. `hints`
    are what an algorithm shows on its way.
    """

    name: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    max_size: int
    max_length: int
    hints: tuple[Field, ...] = ()

    @property
    def is_graph(self) -> bool:
        """Whether inputs are a `Graph`, and outputs `GraphOutputs`; else they are sequences."""
        return self.inputs[0].location != "sequence"

    @property
    def input_features(self) -> int:
        """F of the inputs, all fields side by side."""
        return sum(field.features for field in self.inputs)

    @property
    def output_features(self) -> int:
        """F of the outputs, all fields side by side."""
        return sum(field.features for field in self.outputs)


class Sequence(NamedTuple):
    """Model inputs in time. Padding is zero in both."""

    values: jax.Array
    """(B, T, F) float32."""
    mask: jax.Array
    """(B, T) bool: the steps that exist."""


class Graph(NamedTuple):
    """Model inputs on nodes, their pairs and the whole, by field name. Padding is zero in all."""

    values: Mapping[str, jax.Array]
    """One array a field of `TaskSpec.inputs`: (B, V), (B, V, V) or (B,), then (k,) for classes."""
    mask: jax.Array
    """(B, V) bool: the nodes that exist."""
    running: jax.Array
    """(T, B) bool: the steps that an example takes; its outputs are read after its last."""
    hints: Mapping[str, jax.Array]
    """One array a field of `TaskSpec.hints` with T + 1 frames in front, (T + 1, B, ...): frame t is
    what the algorithm shows before step t. Only frame 0 where a model is judged."""


class GraphOutputs(NamedTuple):
    """What a model says of a `Graph`, by field name, as logits where it is not scalar.

    Pointers, and one of the nodes, have a last axis of V. Logits that point at nodes that do not
    exist are -inf or as good as that.
    """

    outputs: Mapping[str, jax.Array]
    """One array a field of `TaskSpec.outputs`, of an example's last step."""
    hints: Mapping[str, jax.Array]
    """One array a field of `TaskSpec.hints`, (T, B, ...): step t says frame t + 1. May be empty."""


class Batch(NamedTuple):
    """B examples of a task, padded to a static maximum."""

    inputs: Any
    """A `Sequence` or a `Graph`."""
    targets: Any
    """(B, T) int32 for categorical outputs, else (B, T, F) float32; by field name for graphs."""
    mask: jax.Array
    """(B, T) or (B, V) bool: the steps or nodes at which an output is judged."""
    size: jax.Array
    """(B,) int32: the size of each example."""


@runtime_checkable
class Task(Protocol):
    """Makes batches of any size on the device, and judges a model's outputs."""

    @property
    def train_sizes(self) -> Any:
        """Sizes trained on, a tuple of ints. Any: a dataclass may declare what it converts from."""
        ...

    @property
    def test_sizes(self) -> Any:
        """Sizes judged at, a tuple of ints."""
        ...

    @property
    def spec(self) -> TaskSpec:
        """Inputs, outputs and the largest training size."""
        ...

    def length(self, size: int) -> int:
        """Time steps T of a batch padded to `size`."""
        ...

    def sample(self, key: Key, size: Any, *, max_size: int, batch: int) -> Batch:
        """`batch` examples of `size` (a number, traced or not, or (B,)), padded to `max_size`."""
        ...

    def evaluate(self, outputs: Any, batch: Batch) -> Evaluation:
        """Loss, score and metrics of `outputs` (B, T, F of the outputs), means over the batch."""
        ...


@runtime_checkable
class Model(Protocol):
    """A pure function with parameters. Built-in ones hold a flax linen module."""

    def max_size(self, spec: TaskSpec) -> int | None:
        """The largest size that the model can run when built for `spec`; None for no limit."""
        ...

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Fresh parameters, float32."""
        ...

    def apply(self, params: Params, inputs: Any, *, spec: TaskSpec) -> Any:
        """Outputs (B, T, F of the outputs), as logits where they are bits or classes.

        `GraphOutputs` where the inputs are a `Graph`.
        """
        ...


@runtime_checkable
class Penalised(Protocol):
    """A model with a cost of its own, such as the steps that it takes, which training minimises."""

    def apply_with_penalty(
        self, params: Params, inputs: Any, *, spec: TaskSpec
    ) -> tuple[Any, jax.Array]:
        """Outputs as `apply` gives them, and a scalar that is added to the loss in training."""
        ...


@runtime_checkable
class Recurrent(Protocol):
    """A model of sequences that can be run in segments: its carry holds all that a step leaves."""

    def initial_carry(self, inputs: Sequence, *, spec: TaskSpec) -> Carry:
        """The carry before the first step of inputs (B, T, F), which are all of the unroll.

        Arrays (B, ...) of the type of the inputs, without parameters.
        """
        ...

    def apply_segment(
        self, params: Params, carry: Carry, inputs: Sequence, *, spec: TaskSpec, time: int
    ) -> tuple[Carry, jax.Array]:
        """The next carry, and outputs (B, K, F of the outputs) as `Model.apply` gives them.

        One segment after another they are those of `apply` on the whole. `inputs` are K of the
        `time` steps of an unroll; a carry keeps shapes and types.
        """
        ...


@runtime_checkable
class Strategy(Protocol):
    """A training algorithm, with or without gradients. Frozen and hashable: sizes are static."""

    @property
    def cost(self) -> Cost:
        """What one step spends. The trainer plans with it and counts what `Info` reports."""
        ...

    def init(self, key: Key, params: Params) -> State:
        """The state before the first step; numeric hyperparameters are copied into it."""
        ...

    def step(self, key: Key, state: State, objective: Objective) -> tuple[State, Info]:
        """One generation, or one gradient step."""
        ...

    def params(self, state: State) -> Params:
        """What is deployed: shaped like the `params` that `init` was given."""
        ...


@runtime_checkable
class Unrolling(Protocol):
    """A strategy that learns of an unroll segment by segment, and keeps a carry between them.

    An episode is one unroll of all members on one batch. Its objective has a `start`; the harness
    that hands it over calls `begin` once an episode and owns what is carried: see `unroll`.
    """

    def begin(self, key: Key, state: State, objective: Objective) -> Carry:
        """What is carried into the first segment; `objective` holds the whole unroll."""
        ...

    def segment(
        self, key: Key, state: State, carry: Carry, objective: Objective
    ) -> tuple[State, Carry, Info]:
        """One update, from one segment; `objective` holds that segment.

        `Info` counts evaluations of the segment. The carry keeps shapes and types.
        """
        ...


ObjectiveFunction: TypeAlias = Callable[..., Any]
