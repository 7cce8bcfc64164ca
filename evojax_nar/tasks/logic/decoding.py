"""Autoregressive decoding, for any model that never looks ahead: each answer is fed back."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evojax_nar.errors import InputError, positive_int
from evojax_nar.types import Model, Params, Sequence, TaskSpec


def decode(
    model: Model, params: Params, prompt: jax.Array, *, spec: TaskSpec, count: int
) -> jax.Array:
    """The `count` tokens (B, count), int32, that follow a prompt (B, P), the likeliest each time.

    It knows nothing of the task: tokens are one-hot inputs, and each answer is the next token. The
    model is run on all steps once for each token, with those to come empty and masked.

    Args:
      model: a model built for `spec`, which at no step looks at later ones.
      params: its parameters.
      prompt: whole numbers below the features of the inputs.
      spec: of the task that the model is trained for.
      count: how many tokens to decode.

    Raises:
      InputError: for a prompt of another shape, or `count` below 1.
    """
    positive_int("count", count)
    if prompt.ndim != 2 or prompt.shape[1] == 0:
        raise InputError(f"prompt has the shape {prompt.shape}; give tokens (B, P).")
    rows, start = prompt.shape
    # The last answer is not fed back, so it needs no step of its own.
    known = jnp.pad(jax.nn.one_hot(prompt, spec.input_features), ((0, 0), (0, count - 1), (0, 0)))
    step = jnp.arange(known.shape[1])

    def answer(values: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array]:
        mask = jnp.broadcast_to(step <= at, (rows, len(step)))
        outputs = model.apply(params, Sequence(values, mask), spec=spec)
        token = outputs[:, at].argmax(axis=-1).astype(jnp.int32)
        fed_back = jax.nn.one_hot(token, spec.input_features)[:, None]
        return jnp.where((step == at + 1)[None, :, None], fed_back, values), token

    _, tokens = jax.lax.scan(answer, known, start - 1 + jnp.arange(count))
    return tokens.T
