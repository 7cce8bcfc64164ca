"""Elementary cellular automata: a row of bits, each of which looks at its two neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp

from evojax_nar.errors import InputError, reject
from evojax_nar.tasks.logic.table import bits_of
from evojax_nar.tasks.sequence import SequenceTask, assemble, gather, predictions
from evojax_nar.tasks.sizes import Sizes
from evojax_nar.types import Batch, Field, Key, Model, Params

RULES = 256


def elementary_step(rule: Any, row: jax.Array) -> jax.Array:
    """The row (..., W) of bits after `row` on a ring, int32, by a rule from 0 to 255.

    Bit 4 * left + 2 * own + right of the rule is the next state, as Wolfram numbers them. `rule`
    may be traced; it is one number, or (..., 1) of them.
    """
    row = jnp.asarray(row, jnp.int32)
    return _follow(rule, jnp.roll(row, 1, axis=-1), row, jnp.roll(row, -1, axis=-1))


def _follow(rule: Any, left: jax.Array, own: jax.Array, right: jax.Array) -> jax.Array:
    return (jnp.asarray(rule, jnp.int32) >> (4 * left + 2 * own + right)) & 1


@final
@dataclass(frozen=True)
class ElementaryAutomaton(SequenceTask):
    """Say what each cell of a ring becomes by an elementary cellular automaton.

    The size is the width of the ring, and T = size: each step shows one cell. Inputs (B, T, 3): the
    left neighbour, the cell and the right neighbour. Where no rule is fixed, the example has one of
    its own, uniform among the 256, and its 8 bits follow, bit 0 first: (B, T, 11). Output (B, T,
    1): the next state of the cell. Cells are fair bits. `next_row` is for rolling a learned rule
    out. Source: Wolfram 1983, "Statistical mechanics of cellular automata", Reviews of Modern
    Physics 55.

    Args:
      train_sizes: sizes to train on.
      test_sizes: sizes to be judged at.
      rule: the rule of all examples, from 0 to 255; None for one of its own for each.
    """

    name: ClassVar[str] = "logic/elementary_automaton"
    source: ClassVar[str] = "Wolfram 1983, Reviews of Modern Physics 55"
    train_sizes: Sizes = range(16, 33)
    test_sizes: Sizes = (32, 100, 1000)
    rule: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number = self.rule
        if number is None:
            return
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < RULES:
            remedy = f"give a whole number from 0 to {RULES - 1}, or none"
            raise reject("rule", number, "is not a rule", remedy)

    @classmethod
    def example(cls) -> Self:
        """One rule, which makes as many ones as zeros."""
        return cls(train_sizes=(3, 4, 5), test_sizes=(5, 10), rule=30)

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The neighbourhood, and the rule where it is not fixed."""
        neighbourhood = Field("neighbourhood", "bits", 3)
        return (neighbourhood, Field("rule", "bits", 8)) if self.rule is None else (neighbourhood,)

    @property
    def output(self) -> Field:
        """The next state of the cell."""
        return Field("next", "bits", 1)

    def length(self, size: int) -> int:
        """T = size."""
        return size

    def draw(self, key: Key, *, max_size: int, batch: int) -> jax.Array:
        """Cells and rules (B, max_size, 2), int32: fair bits, and the rule beside each of them."""
        cell_key, rule_key = jax.random.split(key)
        cells = jax.random.bernoulli(cell_key, shape=(batch, max_size)).astype(jnp.int32)
        rules = jax.random.randint(rule_key, (batch, 1), 0, RULES, jnp.int32)
        if self.rule is not None:
            rules = jnp.full_like(rules, self.rule)
        return jnp.stack([cells, jnp.broadcast_to(rules, cells.shape)], axis=-1)

    def build(self, content: jax.Array, size: jax.Array) -> Batch:
        """The batch of the first `size` (B,) of the cells, with rules: (B, max_size, 2)."""
        (own, rule), size_column = jnp.moveaxis(content, -1, 0), size[:, None]
        step = jnp.arange(content.shape[1])[None]
        # The ring closes where the example ends, not where the padding does.
        left = gather(own, jnp.where(step == 0, size_column, step) - 1)
        right = gather(own, jnp.where(step == size_column - 1, 0, step + 1))
        values = jnp.stack([left, own, right], axis=-1)
        if self.rule is None:
            values = jnp.concatenate([values, bits_of(rule, 8)[..., ::-1]], axis=-1)
        exists = step < size_column
        return assemble(
            values=values,
            exists=exists,
            targets=_follow(rule, left, own, right)[..., None].astype(jnp.float32),
            mask=exists,
            size=size,
            max_size=content.shape[1],
        )

    def next_row(self, model: Model, params: Params, row: jax.Array, rule: Any = None) -> jax.Array:
        """The row (W,) that `model` says comes after `row` (W,), int32, for `roll_out`.

        A cell whose output is NaN becomes -1, which is never right.

        Args:
          model: a model built for this task.
          params: its parameters.
          row: cells, of any width W.
          rule: which rule to follow, traced or not, where the task does not fix it.

        Raises:
          InputError: where the rule is given twice, or not at all.
        """
        if (rule is None) == (self.rule is None):
            remedy = "give next_row a rule" if rule is None else "leave it to the task"
            raise InputError(f"rule={rule} does not go with a task of rule={self.rule}; {remedy}.")
        row, chosen = jnp.asarray(row, jnp.int32), self.rule if rule is None else rule
        rules = jnp.broadcast_to(jnp.asarray(chosen, jnp.int32), row.shape)
        batch = self.build(jnp.stack([row, rules], axis=-1)[None], jnp.asarray([len(row)]))
        outputs = model.apply(params, batch.inputs, spec=self.spec)
        return predictions(self.output, outputs, batch)[0, :, 0]
