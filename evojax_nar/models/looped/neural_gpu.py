"""The Neural GPU: gated convolutions over an image, as many times as the example is long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.errors import positive_int, reject
from evojax_nar.models.cnn import Convolution
from evojax_nar.models.linen import LinenModel
from evojax_nar.types import TaskSpec

GATE_BIAS = 1.0
"""Of a fresh gate, which is then more open than closed, so that gradients last through the steps,
as the authors have it."""


class ConvolutionalGRU(nn.Module):
    """s' = u s + (1 - u) tanh(U * (r s) + B), with gates u and r that are convolutions of s."""

    kernel: int

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """The next image (B, T, width, maps)."""
        maps, window = image.shape[-1], (self.kernel, self.kernel)
        opened = nn.initializers.constant(GATE_BIAS)
        keep = nn.sigmoid(Convolution(maps, window, bias_init=opened, name="update")(image))
        reset = nn.sigmoid(Convolution(maps, window, bias_init=opened, name="reset")(image))
        candidate = jnp.tanh(Convolution(maps, window, name="candidate")(reset * image))
        return keep * image + (1.0 - keep) * candidate


class NeuralGPUModule(nn.Module):
    """The layers in a scan over steps; an example that has had all of its steps stays as it is."""

    maps: int
    width: int
    layers: int
    kernel: int
    outputs: int

    def setup(self) -> None:
        """The layers."""
        self.embed = nn.Dense(self.maps)
        self.gates = [ConvolutionalGRU(self.kernel) for _ in range(self.layers)]
        self.read = nn.Dense(self.outputs)

    def __call__(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        """Outputs (B, T, F of the outputs) of values (B, T, F); `mask` (B, T) bool."""
        exists = mask[:, :, None, None]
        # Inputs stand in the first column, and nothing does in the others.
        columns = ((0, 0), (0, 0), (0, self.width - 1), (0, 0))
        image = jnp.where(exists, jnp.pad(self.embed(values)[:, :, None], columns), 0.0)
        wanted = mask.sum(axis=1)
        is_shown = self.is_mutable_collection("shown")

        def turn(module: Any, image: jax.Array, index: jax.Array) -> tuple[jax.Array, Any]:
            new = image
            for gates in module.gates:
                # What is outside of an example is as empty as what is beyond the image.
                new = jnp.where(exists, gates(new), 0.0)
            image = jnp.where((index < wanted)[:, None, None, None], new, image)
            return image, module.read(image[:, :, 0]) if is_shown else None

        loop = nn.scan(turn, variable_broadcast="params", split_rngs={"params": False})
        image, answers = loop(self, image, jnp.arange(values.shape[1]))
        if is_shown:
            self.sow("shown", "steps", jnp.where(mask, wanted[:, None], 0).astype(jnp.int32))
            self.sow("shown", "step_outputs", answers)
        return self.read(image[:, :, 0])


@final
@dataclass(frozen=True)
class NeuralGPU(LinenModel):
    """Convolutional gated recurrent units, run for as many steps as the example has, for any T.

    The state is an image (B, T, width, maps), with the embedded inputs in its first column, from
    which the outputs are read. Each example takes as many steps as it is long, and what is outside
    of it is zero at every one, so padding changes nothing.

    `inspect` shows `steps` (B, T), and `step_outputs` (T, B, T, F), the read-out after each step,
    where an example that has had all of its steps keeps the last.

    Source: Kaiser and Sutskever 2016, "Neural GPUs Learn Algorithms", arXiv:1511.08228, section 2.
    Gates and candidates are plain sigmoid and tanh. What the paper adds to train it is left out:
    gates that are cut off, parameters that differ at first and are drawn together, dropout, noise
    on gradients, and the curriculum.

    Args:
      maps: features of a place in the image.
      width: columns of the image.
      layers: gated units in a row, which make up one step.
      kernel: length of both sides of the convolutions, odd.
    """

    name: ClassVar[str] = "neural_gpu"
    maps: int = 24
    width: int = 4
    layers: int = 2
    kernel: int = 3

    def __post_init__(self) -> None:
        for argument in ("maps", "width", "layers", "kernel"):
            positive_int(argument, getattr(self, argument))
        if self.kernel % 2 == 0:
            raise reject("kernel", self.kernel, "has no middle", "give an odd number")

    @classmethod
    def example(cls) -> Self:
        """A small one."""
        return cls(maps=8, width=2, layers=1)

    def module(self, spec: TaskSpec) -> nn.Module:
        """The module with the outputs of `spec`, for any T."""
        return NeuralGPUModule(
            self.maps, self.width, self.layers, self.kernel, spec.output_features
        )
