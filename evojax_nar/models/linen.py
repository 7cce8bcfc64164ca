"""Flax linen modules as models: the base of the built-in ones, and `wrap` for the user's own."""

from __future__ import annotations

import abc
import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import flax.errors
import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import InputError, positive_int, reject
from evojax_nar.models.inputs import blank
from evojax_nar.settings import Configurable
from evojax_nar.types import Key, Params, Sequence, TaskSpec


class LinenModel(Configurable, abc.ABC):
    """A model whose parameters are those of a linen module that is called with values and mask."""

    @classmethod
    @abc.abstractmethod
    def example(cls) -> Self:
        """A small one, which learns the small example of a task in seconds."""

    @abc.abstractmethod
    def module(self, spec: TaskSpec) -> nn.Module:
        """The module with the outputs of `spec`, called with values (B, T, F) and mask (B, T)."""

    def max_size(self, spec: TaskSpec) -> int | None:
        """The largest size that the model can run when built for `spec`; None for no limit."""
        return None

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Fresh parameters, float32.

        Raises:
          InputError: for a task of graphs.
        """
        require_sequences(self.name, spec)
        inputs = blank(spec, batch=1)
        return self.module(spec).init(key, inputs.values, inputs.mask)["params"]

    def apply(self, params: Params, inputs: Sequence, *, spec: TaskSpec) -> jax.Array:
        """Outputs (B, T, F of the outputs) of inputs (B, T, F of the inputs), float32."""
        outputs = self.module(spec).apply({"params": params}, inputs.values, inputs.mask)
        return jnp.asarray(outputs, jnp.float32)

    def inspect(
        self, params: Params, inputs: Sequence, *, spec: TaskSpec
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Outputs as `apply` gives them, and what the module shows of its inside, by name.

        A module shows an array by `self.sow("shown", name, array)`, which costs nothing elsewhere.
        What is shown at each step has a leading axis of T.
        """
        outputs, state = self.module(spec).apply(
            {"params": params}, inputs.values, inputs.mask, mutable=["shown"]
        )
        return jnp.asarray(outputs, jnp.float32), shown(state.get("shown") or {})


def shown(collection: Mapping[str, Any]) -> dict[str, jax.Array]:
    """What modules have sown, by its own name, or by its path where several have the same."""
    leaves = jax.tree_util.tree_leaves_with_path(collection)
    # The last entry of a path counts the calls of `sow`, of which there is one.
    paths = [tuple(str(entry.key) for entry in path[:-1]) for path, _ in leaves]
    names = [path[-1] for path in paths]
    return {
        name if names.count(name) == 1 else "/".join(path): leaf
        for name, path, (_, leaf) in zip(names, paths, leaves, strict=True)
    }


def require_sequences(model: str, spec: TaskSpec) -> None:
    """Raise an `InputError` where a task gives graphs, which a model of sequences cannot read."""
    if spec.is_graph:
        raise InputError(
            f"model={model!r} reads sequences, and task={spec.name!r} gives graphs; "
            "choose a model of graphs, such as 'mpnn'"
        )


@final
@dataclass(frozen=True)
class Wrapped(Configurable):
    """A linen module of the user's own: see `wrap`."""

    name: ClassVar[str] = "wrapped"
    module: nn.Module
    limit: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            remedy = "give an instance of a flax.linen.Module"
            raise reject("module", self.module, "is not a linen module", remedy)
        if self.limit is not None:
            positive_int("max_size", self.limit)
        what = f"module={type(self.module).__name__}"
        if not callable(self.module):
            raise InputError(f"{what} has no method __call__; give it one.")
        _check_comparable(what, self.module)

    def __hash__(self) -> int:
        # Not the hash of the module, which has none where a field of it is a list.
        return hash((type(self.module), self.limit))

    def max_size(self, spec: TaskSpec) -> int | None:
        """The `max_size` that `wrap` was given."""
        return self.limit

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Fresh parameters.

        Raises:
          InputError: where the outputs are not (B, T, F of the outputs), or where the module has
            variables other than parameters or draws random numbers.
        """
        self._check(key, spec)
        inputs = blank(spec, batch=1)
        variables = self.module.init(key, inputs.values, **self._mask(inputs))
        return variables.get("params", {})

    def apply(self, params: Params, inputs: Sequence, *, spec: TaskSpec) -> jax.Array:
        """Outputs (B, T, F of the outputs) of inputs (B, T, F of the inputs), float32."""
        outputs = self.module.apply({"params": params}, inputs.values, **self._mask(inputs))
        return jnp.asarray(outputs, jnp.float32)

    def _mask(self, inputs: Sequence) -> dict[str, Any]:
        """The mask by name, where the module has an argument for it after the first."""
        names = list(inspect.signature(self.module.__call__).parameters)
        return {"mask": inputs.mask} if "mask" in names[1:] else {}

    def _check(self, key: Key, spec: TaskSpec) -> None:
        """Run the module on shapes alone, so that what is wrong is said before work is done."""
        require_sequences(self.name, spec)
        what = f"module={type(self.module).__name__}"
        inputs = blank(spec, batch=2)
        rest = self._mask(inputs)
        variables = jax.eval_shape(lambda: self.module.init(key, inputs.values, **rest))
        others = sorted(set(variables) - {"params"})
        if others:
            raise InputError(
                f"{what} has variables in {', '.join(map(repr, others))}, and only parameters are "
                "trained; use layers without them, such as LayerNorm for BatchNorm."
            )
        try:
            outputs = jax.eval_shape(
                lambda own: self.module.apply(own, inputs.values, **rest), variables
            )
        except flax.errors.InvalidRngError:
            raise InputError(
                f"{what} draws random numbers when it is applied; make it deterministic."
            ) from None
        expected = (2, spec.max_length, spec.output_features)
        shape = getattr(outputs, "shape", None)
        if shape != expected:
            found = f"of the shape {shape}" if shape is not None else f"a {type(outputs).__name__}"
            raise InputError(
                f"{what} gives outputs {found} for inputs of the shape {inputs.values.shape}; "
                f"make it give (B, T, F) = {expected}, as task={spec.name!r} asks."
            )


def _check_comparable(what: str, value: Any) -> None:
    """Refuse what cannot be told from its like: a model is static under jit, arrays are not."""
    if isinstance(value, nn.Module):
        for field in dataclasses.fields(value):
            if field.name not in ("parent", "name"):
                _check_comparable(f"{what}.{field.name}", getattr(value, field.name))
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            _check_comparable(f"{what}[{place}]", item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_comparable(f"{what}[{key!r}]", item)
    else:
        try:
            hash(value)
        except TypeError:
            remedy = "give plain values, and make arrays inside the module"
            raise reject(what, value, "cannot be compared", remedy) from None


def wrap(module: nn.Module, *, max_size: int | None = None) -> Wrapped:
    """A linen module as a model, without a change to it.

    Args:
      module: called with values (B, T, F of the inputs), and with the mask (B, T) bool of the
        steps that exist where it has an argument named `mask`; it returns (B, T, F of the outputs).
        It must be deterministic and have parameters alone.
      max_size: the largest size that it can run; None for no limit.

    Raises:
      InputError: for what is not a linen module, or holds arrays. `init` checks it further.
    """
    return Wrapped(module, max_size)


def parameter_count(params: Params) -> int:
    """D, the number of numbers in `params`."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
