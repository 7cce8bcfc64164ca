"""The step activation, without a gradient and with one that is made up."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from evojax_nar.errors import InputError


@jax.custom_jvp
def step(values: jax.Array) -> jax.Array:
    """1 where a number is above 0, else 0, in the type of `values`.

    Raises:
      InputError: where it is differentiated; its derivative of zero would train nothing.
    """
    return (values > 0).astype(values.dtype)


@step.defjvp
def _refuse(primals: Any, tangents: Any) -> Any:
    raise InputError(
        "straight_through=False leaves the step activation without a gradient; "
        "set straight_through=true, or use a gradient-free strategy"
    )


@jax.custom_jvp
def straight_through_step(values: jax.Array) -> jax.Array:
    """The same, with the derivative of clip(values + 1/2, 0, 1) in place of its own.

    Source: the straight-through estimator of Hinton as in Bengio, Léonard and Courville 2013,
    arXiv:1308.3432, clipped as in Courbariaux et al. 2016, arXiv:1602.02830.
    """
    return (values > 0).astype(values.dtype)


@straight_through_step.defjvp
def _pass(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (values,), (tangent,) = primals, tangents
    return straight_through_step(values), jnp.where(jnp.abs(values) < 0.5, tangent, 0)
