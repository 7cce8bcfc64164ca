"""Encode, process, decode: one step of a processor for each step of an algorithm.

Source: Velickovic et al. 2022, arXiv:2205.15659, section 4; Ibarz et al. 2022, arXiv:2209.11142.
The first step reads the first frame of the hints, which the inputs alone decide; each later one
reads what the step before it said of the hints, in tests always and in training where it is not
told the truth: see `forcing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from evojax_nar.models.graph.decoding import Decoder
from evojax_nar.models.graph.encoding import Encoder, Features, links, read_back, soften
from evojax_nar.models.graph.forcing import forced
from evojax_nar.models.graph.memory import NodeMemory
from evojax_nar.types import Graph, GraphOutputs, TaskSpec

if TYPE_CHECKING:
    from evojax_nar.models.graph.base import Processing


class _Carry(NamedTuple):
    state: jax.Array
    """(B, V, S)."""
    cell: jax.Array | None
    """(B, V, H), of the memory of each node, where it has one."""
    hints: dict[str, jax.Array]
    """Soft probes, to be read by the next step."""
    last: Features
    """What was seen in an example's last step so far, to decode its outputs from."""


class _Turn(NamedTuple):
    running: jax.Array
    """(B,) bool."""
    frames: dict[str, jax.Array] | None
    """True hints, where some of them are read."""
    told: jax.Array | None
    """(B,) bool: which examples read them."""


class _Step(nn.Module):
    model: Processing
    spec: TaskSpec

    @nn.compact
    def __call__(
        self, carry: _Carry, turn: _Turn, inputs: Features, linked: jax.Array, nodes: jax.Array
    ) -> tuple[_Carry, dict[str, jax.Array]]:
        model, fields = self.model, self.spec.hints
        features, hints = inputs, carry.hints
        if turn.frames is not None:
            assert turn.told is not None
            hints = _where(turn.told, soften(fields, turn.frames), hints)
        if fields:
            shown = Encoder(fields, model.hidden, name="encode_hints")(hints, nodes)
            features = jax.tree.map(jnp.add, inputs, shown)
            linked = linked | links(fields, hints, nodes)
        processor: Any = model.processor("processor")
        moved, edges = processor(features, carry.state, linked, nodes)
        cell = carry.cell
        if cell is not None:
            moved, cell = NodeMemory(model.hidden, name="memory")(moved, carry.state, cell)
        seen = features._replace(node=jnp.concatenate([features.node, carry.state, moved], axis=-1))
        if edges is not None:
            seen = seen._replace(edge=jnp.concatenate([seen.edge, edges], axis=-1))
        said = Decoder(fields, model.hidden, name="decode_hints")(seen, nodes)
        read = {f.name: read_back(f, said[f.name], nodes, hard=model.reads_hard) for f in fields}
        last = _where(turn.running, seen, carry.last)
        return _Carry(moved, cell, read, last), said


class EncodeProcessDecode(nn.Module):
    """A processor between the encoders and decoders that a specification asks for."""

    model: Processing
    spec: TaskSpec

    @nn.compact
    def __call__(self, graph: Graph) -> GraphOutputs:
        """Outputs after each example's last step, and hints of every step."""
        model, spec, nodes = self.model, self.spec, graph.mask
        values = soften(spec.inputs, graph.values)
        inputs = Encoder(spec.inputs, model.hidden, name="encode_inputs")(values, nodes)
        first = soften(spec.hints, {name: frames[0] for name, frames in graph.hints.items()})
        state = model.start(nodes)
        cell = jnp.zeros((*nodes.shape, model.hidden)) if model.remembers else None
        seen = model.hidden + 2 * state.shape[-1]
        blank = Features(
            node=jnp.zeros((*nodes.shape, seen)),
            edge=jnp.zeros((*inputs.edge.shape[:-1], model.edge_features)),
            graph=jnp.zeros(inputs.graph.shape),
        )
        axes: Any = (0, nn.broadcast, nn.broadcast, nn.broadcast)
        scan = nn.scan(
            _Step, variable_broadcast="params", split_rngs={"params": False}, in_axes=axes
        )
        step = scan(model, spec, name="step")
        linked = links(spec.inputs, values, nodes)
        carry = _Carry(state, cell, first, blank)
        carry, said = step(carry, self._turns(graph), inputs, linked, nodes)
        outputs = Decoder(spec.outputs, model.hidden, name="decode_outputs")(carry.last, nodes)
        return GraphOutputs(outputs, said)

    def _turns(self, graph: Graph) -> _Turn:
        """What each step is given, with T in front."""
        share, steps = self.model.teacher_forcing, len(graph.running)
        shown = all(len(frames) > 1 for frames in graph.hints.values()) and bool(graph.hints)
        if not share or not shown:
            return _Turn(graph.running, None, None)
        frames = {name: frames[:steps] for name, frames in graph.hints.items()}
        return _Turn(graph.running, frames, forced(graph, share))


def _where(which: jax.Array, one: Any, other: Any) -> Any:
    """Per example (B,), `one` where `which`, else `other`."""

    def choose(one: jax.Array, other: jax.Array) -> jax.Array:
        return jnp.where(which.reshape(-1, *[1] * (one.ndim - 1)), one, other)

    return jax.tree.map(choose, one, other)
