"""The self-organising map: a grid of prototypes that learns without an error at its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from evojax_nar.errors import InputError, finite, positive_int, reject
from evojax_nar.models.linen import LinenModel, shown
from evojax_nar.types import Params, Sequence, TaskSpec

MISSING = "missing"
"""An input field of this name says by a 1 which of the inputs before it are not known."""


class MapModule(nn.Module):
    """The prototypes, and how far each step is from each of them."""

    units: int
    features: int
    has_missing: bool

    @nn.compact
    def __call__(self, values: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The prototypes that are nearest (B, T, F), and half the squared distances (B, T, U)."""
        shape = (self.units, self.features)
        prototypes = self.param("prototypes", nn.initializers.normal(0.1), shape)
        x, known = values[..., : self.features], jnp.ones((), values.dtype)
        if self.has_missing:
            known = 1.0 - values[..., self.features :].mean(axis=-1, keepdims=True)
        # As the diagonal of a product of matrices the norms, too, go through thin noise as
        # products do: the squares themselves would need each member's prototypes formed.
        products = prototypes @ prototypes.T
        norms = jnp.einsum("uv,uv->u", products, jnp.eye(self.units, dtype=products.dtype))
        own = jnp.square(x).sum(axis=-1, keepdims=True)
        distances = 0.5 * (own + known * norms) - x @ prototypes.T
        winners = distances.argmin(axis=-1)
        self.sow("shown", "winner", winners.T)
        chosen = jax.nn.one_hot(winners, self.units, dtype=values.dtype)
        return chosen @ prototypes, distances


@final
@dataclass(frozen=True)
class SelfOrganisingMap(LinenModel):
    """A grid of prototypes; what it says of a step is the prototype nearest to its inputs.

    With prototypes w_j at places r_j of the grid, and c the unit nearest to the inputs x, the
    winner, it learns from its inputs alone: outputs carry no gradient, and what is added to the
    loss in training is the mean over the steps of

        energy = sum_j h(c, j) |x - w_j|^2 / 2,   h(c, j) = exp(-|r_c - r_j|^2 / (2 radius^2))

    with c held fixed. Its gradient is -sum h(c, j) (x - w_j), so one step of plain gradient descent
    is Kohonen's rule, w_j <- w_j + rate h(c, j) (x - w_j), averaged over the steps of the batch. A
    strategy without gradients minimises the task's loss, which on reconstruction is the
    quantisation error, plus the same energy; with `fitness="score"` the former alone. The winner is
    the first of the nearest units. `inspect` shows `winner` (T, B), the number of the unit, row by
    row.

    An input field called "missing" is not compared: of the fields before it, which it must match,
    it says what is not known. With known share p, |x - w_j|^2 is then estimated by |x|^2 - 2 x w_j
    + p |w_j|^2, unbiased where which are missing does not depend on what they are, as in
    `tasks.Digits`.

    Source: Kohonen 1982, "Self-Organized Formation of Topologically Correct Feature Maps",
    Biological Cybernetics 43. Missing inputs: after Samad and Harp 1992, "Self-organization with
    partial data", Network 3.

    Args:
      rows: of the grid.
      columns: of the grid.
      radius: of the neighbourhood h, in steps of the grid; 0 moves the winner alone, which is
        online k-means.

    Raises:
      InputError: for a number out of range; for a task with more outputs than inputs.
    """

    name: ClassVar[str] = "self_organising_map"
    memoryless: ClassVar[bool] = True
    """Whether a step is all that it sees, so that it learns no task that takes a memory."""
    rows: int = 8
    columns: int = 8
    radius: float = 1.0

    def __post_init__(self) -> None:
        positive_int("rows", self.rows)
        positive_int("columns", self.columns)
        if finite("radius", self.radius) < 0:
            raise reject("radius", self.radius, "is below 0", "give 0 or more")

    @classmethod
    def example(cls) -> Self:
        """A small one, whose units move almost by themselves."""
        return cls(rows=6, columns=6, radius=0.5)

    @property
    def neighbourhood(self) -> np.ndarray:
        """h of each two units, (U, U) float32, U = rows * columns."""
        places = np.indices((self.rows, self.columns)).reshape(2, -1)
        squares = np.square(places[:, :, None] - places[:, None]).sum(axis=0)
        if self.radius == 0:
            return np.eye(len(squares), dtype=np.float32)
        return np.exp(-squares / (2 * self.radius**2)).astype(np.float32)

    def prototypes(self, params: Params) -> jax.Array:
        """The prototypes in their places, (rows, columns, F)."""
        return params["prototypes"].reshape(self.rows, self.columns, -1)

    def module(self, spec: TaskSpec) -> MapModule:
        """The module for any T.

        Raises:
          InputError: for a task with more outputs than inputs, or with a field "missing" that is
            not the last and as wide as all before it.
        """
        widths = [field.features for field in spec.inputs if field.name != MISSING]
        features = sum(widths)
        has_missing = len(widths) < len(spec.inputs)
        fits = spec.inputs[-1].name == MISSING and spec.input_features == 2 * features
        if has_missing and not fits:
            raise InputError(
                f"task={spec.name!r} has an input field 'missing' that is not the last and as wide "
                "as those before it; put it there, or call it otherwise"
            )
        if spec.output_features > features:
            raise InputError(
                f"model={self.name!r} gives back {features} inputs where task={spec.name!r} wants "
                f"{spec.output_features} outputs; take another model, such as 'mlp'"
            )
        return MapModule(self.rows * self.columns, features, has_missing)

    def apply(self, params: Params, inputs: Sequence, *, spec: TaskSpec) -> jax.Array:
        """Outputs (B, T, F of the outputs): the first F of the prototype nearest to each step."""
        return self.inspect(params, inputs, spec=spec)[0]

    def apply_with_penalty(
        self, params: Params, inputs: Sequence, *, spec: TaskSpec
    ) -> tuple[jax.Array, jax.Array]:
        """Outputs as `apply` gives them, without a gradient, and the mean energy of the steps."""
        (nearest, distances), _ = self._run(params, inputs, spec)
        winners = distances.argmin(axis=-1)
        weights = jnp.asarray(self.neighbourhood, distances.dtype)[winners]
        energy = (weights * distances).sum(axis=-1)
        steps = jnp.maximum(inputs.mask.sum(), 1)
        outputs = jax.lax.stop_gradient(nearest[..., : spec.output_features])
        return outputs, jnp.where(inputs.mask, energy, 0.0).sum() / steps

    def inspect(
        self, params: Params, inputs: Sequence, *, spec: TaskSpec
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Outputs as `apply` gives them, and `winner` (T, B), int32."""
        (nearest, _), state = self._run(params, inputs, spec)
        outputs = jnp.asarray(nearest[..., : spec.output_features], jnp.float32)
        return outputs, shown(state["shown"])

    def _run(self, params: Params, inputs: Sequence, spec: TaskSpec) -> Any:
        """What the module gives, and what it shows."""
        return self.module(spec).apply(
            {"params": params}, inputs.values, inputs.mask, mutable=["shown"]
        )
