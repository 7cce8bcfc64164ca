"""Encode, process, decode: one step of a processor for each step of an algorithm.

Source: Velickovic et al. 2022, arXiv:2205.15659, section 4; Ibarz et al. 2022, arXiv:2209.11142.
The first step reads the first frame of the hints, which the inputs alone decide; each later one
reads what the step before it said of the hints, softly, in training and in tests alike.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.models.graph.decoding import Decoder
from evojax_nar.models.graph.encoding import Encoder, Features, read_back, soften
from evojax_nar.types import Graph, GraphOutputs, TaskSpec


class _Step(nn.Module):
    spec: TaskSpec
    hidden: int
    processor: type[nn.Module]

    @nn.compact
    def __call__(
        self, carry: Any, running: jax.Array, inputs: Features, nodes: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        state, hints, last = carry
        features = inputs
        if self.spec.hints:
            shown = Encoder(self.spec.hints, self.hidden, name="encode_hints")(hints, nodes)
            features = jax.tree.map(jnp.add, inputs, shown)
        processor: Any = self.processor(self.hidden, name="processor")  # type: ignore[call-arg]
        moved = processor(features, state, nodes)
        seen = features._replace(node=jnp.concatenate([features.node, state, moved], axis=-1))
        said = Decoder(self.spec.hints, self.hidden, name="decode_hints")(seen, nodes)
        fields = {field.name: field for field in self.spec.hints}
        hints = {name: read_back(fields[name], logits, nodes) for name, logits in said.items()}
        return (moved, hints, _where(running, seen, last)), said


class EncodeProcessDecode(nn.Module):
    """A processor between the encoders and decoders that a specification asks for."""

    spec: TaskSpec
    hidden: int
    processor: type[nn.Module]

    @nn.compact
    def __call__(self, graph: Graph) -> GraphOutputs:
        """Outputs after each example's last step, and hints of every step."""
        nodes = graph.mask
        values = soften(self.spec.inputs, graph.values)
        inputs = Encoder(self.spec.inputs, self.hidden, name="encode_inputs")(values, nodes)
        hints = {name: frames[0] for name, frames in graph.hints.items()}
        state = jnp.zeros((*nodes.shape, self.hidden), inputs.node.dtype)
        blank = inputs._replace(node=jnp.zeros((*nodes.shape, 3 * self.hidden), state.dtype))
        axes: Any = (0, nn.broadcast, nn.broadcast)
        scan = nn.scan(
            _Step, variable_broadcast="params", split_rngs={"params": False}, in_axes=axes
        )
        step = scan(self.spec, self.hidden, self.processor, name="step")
        carry = (state, soften(self.spec.hints, hints), blank)
        (_, _, last), said = step(carry, graph.running, inputs, nodes)
        outputs = Decoder(self.spec.outputs, self.hidden, name="decode_outputs")(last, nodes)
        return GraphOutputs(outputs, said)


def _where(running: jax.Array, new: Features, old: Features) -> Features:
    """Per example, `new` where it is still running."""

    def choose(one: jax.Array, other: jax.Array) -> jax.Array:
        return jnp.where(running.reshape(-1, *[1] * (one.ndim - 1)), one, other)

    return jax.tree.map(choose, new, old)
