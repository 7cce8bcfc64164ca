"""Votes: what outputs become where several of them decide together, entry by entry.

A deployed parameter set is read by the largest of its logits. Beside that an output can be read by
the majority of an ensemble, by the majority of the last loops of one model, or from the best member
of an ensemble; what each adds is measured on the same examples.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar.errors import InputError, positive_int
from evojax_nar.models.inputs import blank
from evojax_nar.settings import Configurable, build
from evojax_nar.tasks.scoring import decide
from evojax_nar.types import Field, GraphOutputs, Key, Model, Params, State, Strategy, TaskSpec

Judge = Callable[[Params], np.ndarray]
"""Parameters (C, ...) to their losses (C,) on the validation data, of training sizes alone."""


class Reading(Configurable, abc.ABC):
    """A way to read a model's outputs, other than by the largest logit of what is deployed."""

    @abc.abstractmethod
    def voters(self, key: Key, strategy: Strategy, state: State, deployed: Params) -> Params | None:
        """The parameters that are read, of one seed; None where there is no such reading.

        Args:
          key: of the reading.
          strategy: what has trained.
          state: its last one.
          deployed: what is deployed, the best so far by validation loss.
        """

    def choose(self, voters: Params, judge: Judge) -> Params:
        """Those of the voters that are read: all, unless a reading says otherwise.

        Args:
          voters: of this reading.
          judge: gives validation losses, by which what is deployed was chosen too.
        """
        del judge
        return voters

    @abc.abstractmethod
    def suits(self, model: Model, spec: TaskSpec) -> bool:
        """Whether outputs of `model` can be read so."""

    @abc.abstractmethod
    def outputs(self, model: Model, voters: Params, inputs: Any, *, spec: TaskSpec) -> Any:
        """The votes of `voters`, as outputs that a task judges: see `elect`."""


@final
@dataclass(frozen=True)
class Ensemble(Reading):
    """The majority of an ensemble that the strategy's last state gives.

    Gaussian strategies draw it from their search distribution, a population gives its best members:
    see `ensemble` of each strategy. Strategies with one parameter set have none. What is deployed
    may be of an earlier state, so a difference between the two holds that as well. Members are
    evaluated one after another; the parameters of all are held.

    Args:
      members: how many at most.
    """

    name: ClassVar[str] = "ensemble"
    members: int = 32

    def __post_init__(self) -> None:
        positive_int("members", self.members)

    def voters(self, key: Key, strategy: Strategy, state: State, deployed: Params) -> Params | None:
        """The ensemble, stacked (C, ...) with C at most `members`."""
        if not hasattr(strategy, "ensemble"):
            return None
        return _ensemble(strategy, key, state, self.members)

    def suits(self, model: Model, spec: TaskSpec) -> bool:
        """Always."""
        return True

    def outputs(self, model: Model, voters: Params, inputs: Any, *, spec: TaskSpec) -> Any:
        """The votes of the members (C, ...)."""

        def vote(votes: Votes, member: Params) -> tuple[Votes, None]:
            return count(votes, spec, model.apply(member, inputs, spec=spec), inputs.mask), None

        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), voters)
        shape = jax.eval_shape(lambda own: model.apply(own, inputs, spec=spec), one)
        votes, _ = jax.lax.scan(vote, begin(spec, shape), voters)
        return elect(votes, spec)


@partial(jax.jit, static_argnums=(0, 3))
def _ensemble(strategy: Any, key: Key, state: State, members: int) -> Params | None:
    return strategy.ensemble(key, state, members)


@final
@dataclass(frozen=True)
class Steps(Reading):
    """The majority over the last loops of a looped model, with the deployed parameters.

    Only models that show `step_outputs` (loops, B, T, F) have it: see `LinenModel.inspect`. Where
    they show `steps` (B, T) too, the loops that a position took, its last ones are counted.

    Args:
      last: how many loops; of fewer, all.
    """

    name: ClassVar[str] = "steps"
    last: int = 5

    def __post_init__(self) -> None:
        positive_int("last", self.last)

    def voters(self, key: Key, strategy: Strategy, state: State, deployed: Params) -> Params | None:
        """What is deployed."""
        return deployed

    def suits(self, model: Model, spec: TaskSpec) -> bool:
        """Whether the model shows the outputs of its loops."""
        inspect = getattr(model, "inspect", None)
        if inspect is None or spec.is_graph:
            return False

        def look(key: Key) -> Any:
            return inspect(model.init(key, spec), blank(spec, batch=1), spec=spec)[1]

        return "step_outputs" in jax.eval_shape(look, jax.random.key(0))

    def outputs(self, model: Model, voters: Params, inputs: Any, *, spec: TaskSpec) -> Any:
        """The votes of the last loops."""
        own: Any = model
        final, shown = own.inspect(voters, inputs, spec=spec)
        answers = shown["step_outputs"]
        steps = shown.get("steps")
        if steps is None or steps.shape != inputs.mask.shape:
            steps = jnp.full(inputs.mask.shape, len(answers), jnp.int32)

        def vote(votes: Votes, turn: tuple[jax.Array, jax.Array]) -> tuple[Votes, None]:
            answer, index = turn
            counted = (index < steps) & (index >= steps - self.last)
            answer = jnp.where(counted[..., None], answer, jnp.nan)
            return count(votes, spec, answer, inputs.mask), None

        turns = (answers, jnp.arange(len(answers)))
        votes, _ = jax.lax.scan(vote, begin(spec, final), turns)
        return elect(votes, spec)


@final
@dataclass(frozen=True)
class Best(Reading):
    """The member of an ensemble with the lowest validation loss, by itself.

    What is deployed of a Gaussian strategy is the centre of its search distribution: this is the
    best of some draws around it, and of a population the best of its best. Both are chosen on
    training sizes alone, so the difference at test sizes is what the choice of a member adds.

    Args:
      members: how many are judged at most.
    """

    name: ClassVar[str] = "best"
    members: int = 32

    def __post_init__(self) -> None:
        positive_int("members", self.members)

    def voters(self, key: Key, strategy: Strategy, state: State, deployed: Params) -> Params | None:
        """The ensemble, stacked (C, ...) with C at most `members`."""
        return Ensemble(self.members).voters(key, strategy, state, deployed)

    def choose(self, voters: Params, judge: Judge) -> Params:
        """The best member (...); a loss that is not finite is worse than any other."""
        losses = judge(voters)
        best = int(np.where(np.isfinite(losses), losses, np.inf).argmin())
        return jax.tree.map(lambda leaf: leaf[best], voters)

    def suits(self, model: Model, spec: TaskSpec) -> bool:
        """Always."""
        return True

    def outputs(self, model: Model, voters: Params, inputs: Any, *, spec: TaskSpec) -> Any:
        """What the member says."""
        return model.apply(voters, inputs, spec=spec)


READINGS: dict[str, type[Reading]] = {"ensemble": Ensemble, "steps": Steps, "best": Best}
"""What a config may name."""


def get(name: str, **settings: Any) -> Reading:
    """The reading called `name`, made from plain settings.

    Raises:
      InputError: for an unknown name or setting, naming the nearest one.
    """
    return build("reading", READINGS, name, settings)


def check(readings: Sequence[Any]) -> tuple[Reading, ...]:
    """`readings` as a tuple, where they are readings of different names.

    Raises:
      InputError: for anything else.
    """
    names = set()
    for reading in readings:
        if not isinstance(reading, Reading):
            raise InputError(
                f"readings holds {reading!r}, which is none; give one such as Ensemble()"
            )
        if reading.name in names:
            raise InputError(f"readings holds two called {reading.name!r}; give one of each")
        names.add(reading.name)
    return tuple(readings)


class Ballot(NamedTuple):
    """The votes on one field, entry by entry."""

    votes: jax.Array
    """Of classes or nodes, how many for each; of bits, those for 1 less those for 0."""
    mean: jax.Array
    """The mean of what was said, which decides where bits tie, and is all that scalars have."""
    cast: jax.Array
    """How many voted: a NaN is no vote. int32."""


Votes = Mapping[str, Ballot]
"""By field name."""

_HUGE = 1e30
"""Logits are cut to it before their mean is taken, which infinite ones of both signs lack."""


def begin(spec: TaskSpec, outputs: Any) -> Votes:
    """No votes yet, for outputs of these shapes."""
    given = jax.eval_shape(partial(_by_field, spec), outputs)
    found = {}
    for field in spec.outputs:
        shape = given[field.name].shape
        entries = shape[:-1] if _is_choice(field) else shape
        zeros = jnp.zeros(shape, jnp.float32)
        found[field.name] = Ballot(zeros, zeros, jnp.zeros(entries, jnp.int32))
    return found


def count(votes: Votes, spec: TaskSpec, outputs: Any, mask: jax.Array) -> Votes:
    """`votes` and one more on each entry, from `outputs` of a model.

    Args:
      votes: so far.
      spec: of the task.
      outputs: (B, T, F), or `GraphOutputs`.
      mask: (B, T) or (B, V), the steps or nodes that exist.
    """
    given = _by_field(spec, outputs)
    return {
        field.name: _count(field, votes[field.name], given[field.name], mask)
        for field in spec.outputs
    }


def elect(votes: Votes, spec: TaskSpec) -> Any:
    """What was voted for, as outputs (B, T, F) or `GraphOutputs`; NaN where nobody voted.

    Classes and nodes have their votes as logits, the lowest of those that tie half a vote more.
    Bits have the lead of 1 over 0, or the mean of what was said where they tie. Scalars have their
    mean.
    """
    found = {field.name: _elect(field, votes[field.name]) for field in spec.outputs}
    if spec.is_graph:
        return GraphOutputs(found, {})
    return jnp.concatenate([found[field.name] for field in spec.outputs], axis=-1)


def _by_field(spec: TaskSpec, outputs: Any) -> dict[str, jax.Array]:
    """Outputs by the name of their field, float32."""
    if spec.is_graph:
        given = {field.name: outputs.outputs[field.name] for field in spec.outputs}
    else:
        ends = list(accumulate(field.features for field in spec.outputs))
        parts = jnp.split(outputs, ends[:-1], axis=-1)
        given = {field.name: part for field, part in zip(spec.outputs, parts, strict=True)}
    return {name: jnp.asarray(array, jnp.float32) for name, array in given.items()}


def _count(field: Field, ballot: Ballot, given: jax.Array, mask: jax.Array) -> Ballot:
    if _is_choice(field):
        chosen = decide(field, given, mask)
        votes = ballot.votes + jax.nn.one_hot(chosen, given.shape[-1])  # of -1: no vote
        return ballot._replace(votes=votes, cast=ballot.cast + (chosen >= 0))
    said = ~jnp.isnan(given)
    cast = ballot.cast + said
    if _is_bit(field):
        given = jnp.clip(given, -_HUGE, _HUGE)
    # In steps from the mean so far: of equal numbers it is that number, without rounding.
    moved = ballot.mean + (given - ballot.mean) / jnp.maximum(cast, 1)
    votes = ballot.votes + jnp.where(said, jnp.where(given > 0, 1.0, -1.0), 0.0)
    return Ballot(votes, jnp.where(said, moved, ballot.mean), cast)


def _elect(field: Field, ballot: Ballot) -> jax.Array:
    if _is_choice(field):
        winner = ballot.votes.argmax(axis=-1)
        votes = ballot.votes + 0.5 * jax.nn.one_hot(winner, ballot.votes.shape[-1])
        return jnp.where(ballot.cast[..., None] > 0, votes, jnp.nan)
    decided = jnp.where(ballot.votes != 0, ballot.votes, ballot.mean)
    return jnp.where(ballot.cast > 0, decided if _is_bit(field) else ballot.mean, jnp.nan)


def _is_bit(field: Field) -> bool:
    return field.kind in ("bits", "mask")


def _is_choice(field: Field) -> bool:
    """Whether logits are of one of several: a class, or a node."""
    return field.kind != "scalar" and not _is_bit(field)
