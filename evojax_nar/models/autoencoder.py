"""The autoencoder: each step through a narrow code and back."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import InputError, positive_int
from evojax_nar.models.linen import LinenModel
from evojax_nar.types import TaskSpec


class AutoencoderModule(nn.Module):
    """Each step (F,) through dense layers to the code and back, with ReLU at hidden layers."""

    hidden: tuple[int, ...]
    code: int
    tied: bool
    outputs: int

    @nn.compact
    def __call__(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        """Outputs (B, T, F of the outputs). The mask is not used; the code is shown."""
        features = values.shape[-1]
        last = features if self.tied else self.outputs
        widths = (features, *self.hidden, self.code)
        back = (self.code, *reversed(self.hidden), last)
        kernels = [
            self._kernel(f"encoder_{layer}", *shape)
            for layer, shape in enumerate(itertools.pairwise(widths))
        ]
        turned = (
            [kernel.T for kernel in reversed(kernels)]
            if self.tied
            else [
                self._kernel(f"decoder_{layer}", *shape)
                for layer, shape in enumerate(itertools.pairwise(back))
            ]
        )
        code = self._layers("encoder", kernels, values)
        self.sow("shown", "code", jnp.swapaxes(code, 0, 1))
        return self._layers("decoder", turned, code)[..., : self.outputs]

    def _kernel(self, name: str, rows: int, columns: int) -> jax.Array:
        return self.param(f"{name}_kernel", nn.initializers.lecun_normal(), (rows, columns))

    def _layers(self, name: str, kernels: list[jax.Array], x: jax.Array) -> jax.Array:
        for layer, kernel in enumerate(kernels):
            bias = self.param(f"{name}_{layer}_bias", nn.initializers.zeros, (kernel.shape[1],))
            x = x @ kernel + bias
            if layer < len(kernels) - 1:
                x = nn.relu(x)
        return x


@final
@dataclass(frozen=True)
class Autoencoder(LinenModel):
    """A dense encoder to a few linear units, the code, and a dense decoder back, step by step.

    Nothing goes from one step to another. Layers between inputs, code and outputs have ReLU; code
    and outputs are linear, so that without hidden layers the best that it can do is to project onto
    the first principal components (Baldi and Hornik 1989). Where inputs lack what the outputs must
    have, as in `tasks.Digits`, it is a denoising autoencoder (Vincent et al. 2008). `inspect` shows
    `code` (T, B, code).

    Source: Hinton and Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural
    Networks", Science 313.

    Args:
      code: units of the code.
      hidden: units of each layer of the encoder before the code, and of the decoder after it in
        reverse; one number for one layer.
      tied: True to decode by the encoder's own matrices, transposed. The outputs are then the first
        F of the inputs that it gives back.

    Raises:
      InputError: for a width below 1; where it is tied and a task wants more outputs than inputs.
    """

    name: ClassVar[str] = "autoencoder"
    memoryless: ClassVar[bool] = True
    """Whether a step is all that it sees, so that it learns no task that takes a memory."""
    code: int = 16
    hidden: tuple[int, ...] = (64,)
    tied: bool = False

    def __post_init__(self) -> None:
        positive_int("code", self.code)
        hidden = self.hidden if isinstance(self.hidden, Iterable) else (self.hidden,)
        object.__setattr__(self, "hidden", tuple(positive_int("hidden", item) for item in hidden))
        if not isinstance(self.tied, bool):
            raise InputError(f"tied={self.tied!r} is not a truth value; give True or False")

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(code=8, hidden=(32,))

    def module(self, spec: TaskSpec) -> nn.Module:
        """The module for any T.

        Raises:
          InputError: where it is tied and a task wants more outputs than it has inputs.
        """
        if self.tied and spec.output_features > spec.input_features:
            raise InputError(
                f"tied=True gives back {spec.input_features} inputs where task={spec.name!r} wants "
                f"{spec.output_features} outputs; give tied=False"
            )
        return AutoencoderModule(self.hidden, self.code, self.tied, spec.output_features)
