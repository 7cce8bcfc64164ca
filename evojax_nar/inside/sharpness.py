"""How sharp a solution is: the loss under noise around it, and the curvature there.

None of the numbers is a judgement by itself: Dinh et al. 2017, arXiv:1703.04933, change the
curvature of a network at will without changing what it computes. Noise relative to the parameters'
own size is proof against the simplest of that, the scaling of a layer that the next one undoes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from evojax_nar.errors import finite, positive_int
from evojax_nar.noise import standard_normal
from evojax_nar.objective import Objective
from evojax_nar.strategies.base import float_params
from evojax_nar.types import Key, Params


class Mean(NamedTuple):
    """An estimate and its standard error, NaN of a single draw."""

    value: jax.Array
    error: jax.Array


class Spectrum(NamedTuple):
    """Ends of the spectrum of a Hessian."""

    lowest: jax.Array
    highest: jax.Array


def rise(
    key: Key, objective: Objective, params: Params, radii: Sequence[float], *, draws: int = 32
) -> Mean:
    """By how much the loss rises at a relative distance from the parameters.

    A leaf w is moved by r |w| u, with u of uniform direction and length 1: filter normalisation (Li
    et al. 2018, arXiv:1712.09913, section 4) with a leaf for a filter. The mean of the losses on
    both sides less the loss between them, so a slope counts for nothing; of a quadratic it is
    r^2 / 2 times the sum over leaves of |w|^2 trace(H of the leaf) / (numbers in it).

    Args:
      key: of the directions, which all radii share.
      objective: its loss need not be differentiable.
      params: a solution, floating-point.
      radii: R relative distances.
      draws: directions.

    Returns:
      (R,) each; NaN at a radius where a loss is not finite.

    Raises:
      InputError: for radii that are not above 0, or no draws.
    """
    for radius in radii:
        finite("radii", radius, above=0.0)
    positive_int("draws", draws)
    params = float_params(params)
    middle = objective(params)[0].loss

    def one(key: Key) -> jax.Array:
        noise = jax.tree.map(_relative, params, standard_normal(key, params))

        def at(radius: jax.Array) -> jax.Array:
            moved = jax.tree.map(lambda leaf, eps: leaf + radius * eps, params, noise)
            return objective(moved)[0].loss

        near = jnp.asarray(radii, jnp.float32)
        return (jax.lax.map(at, near) + jax.lax.map(at, -near)) / 2 - middle

    return _mean(jax.lax.map(one, jax.random.split(key, draws)))


def spectrum(key: Key, objective: Objective, params: Params, *, steps: int = 32) -> Spectrum:
    """The lowest and highest eigenvalue of the Hessian of the loss, by the method of Lanczos.

    Products of the Hessian with a vector are those of Pearlmutter 1994, forward over reverse. Every
    direction is made orthogonal to all before it, twice, as rounding needs (Parlett 1998, "The
    Symmetric Eigenvalue Problem", section 6.9). Both ends are reached from inside, the sooner the
    farther they lie from the rest; with D steps they are exact.

    Args:
      key: of the first direction.
      objective: its loss, differentiable twice.
      params: a solution of D parameters.
      steps: products with the Hessian, D at most; as many vectors of D numbers are held.

    Raises:
      InputError: for steps below 1.
    """
    params = float_params(params)
    flat, unravel = ravel_pytree(params)
    steps = min(positive_int("steps", steps), flat.size)

    def product(vector: jax.Array) -> jax.Array:
        return ravel_pytree(_product(objective, params, unravel(vector)))[0]

    def step(carry: Any, place: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        basis, vector, alive, first = carry
        basis = basis.at[place].set(vector)
        image = product(vector)
        along = jnp.vdot(vector, image)
        first = jnp.where(place == 0, along, first)
        scale = jnp.linalg.norm(image)
        for _ in range(2):
            image = image - basis.T @ (basis @ image)
        length = jnp.linalg.norm(image)
        # What is left of an image in an invariant space is rounding: the rest adds nothing. A Ritz
        # value that is there already, the first one's, is repeated in place of it.
        goes_on = alive & (length > 1e-5 * scale)
        image = jnp.where(goes_on, image / jnp.maximum(length, jnp.finfo(flat.dtype).tiny), 0.0)
        out = (jnp.where(alive, along, first), jnp.where(goes_on, length, 0.0))
        return (basis, image, goes_on, first), out

    start = jax.random.normal(key, flat.shape, flat.dtype)
    begin = (jnp.zeros((steps, flat.size), flat.dtype), start / jnp.linalg.norm(start))
    _, (diagonal, beside) = jax.lax.scan(
        step, (*begin, jnp.asarray(True), jnp.zeros((), flat.dtype)), jnp.arange(steps)
    )
    matrix = jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1)
    values = jnp.linalg.eigvalsh(matrix)
    return Spectrum(values[0], values[-1])


def trace(key: Key, objective: Objective, params: Params, *, probes: int = 64) -> Mean:
    """The trace of the Hessian of the loss: the mean of v^T H v over vectors v of random signs.

    Hutchinson 1990, Communications in Statistics 19; its variance is 2 (|H|^2 - sum of H_ii^2), so
    of a diagonal Hessian one probe is exact.

    Args:
      key: of the signs.
      objective: its loss, differentiable twice.
      params: a solution.
      probes: vectors.

    Raises:
      InputError: for no probes.
    """
    params = float_params(params)
    leaves, structure = jax.tree.flatten(params)

    def one(key: Key) -> jax.Array:
        keys = jax.random.split(key, len(leaves))
        signs = jax.tree.unflatten(
            structure,
            [
                jax.random.rademacher(own, leaf.shape, leaf.dtype)
                for own, leaf in zip(keys, leaves, strict=True)
            ],
        )
        return jnp.asarray(optax.tree.vdot(signs, _product(objective, params, signs)))

    keys = jax.random.split(key, positive_int("probes", probes))
    return _mean(jax.lax.map(one, keys))


def _product(objective: Objective, params: Params, vector: Params) -> Params:
    """The Hessian of the loss times a vector, both trees like the parameters."""
    slope = jax.grad(lambda own: objective(own)[0].loss)
    return jax.jvp(slope, (params,), (vector,))[1]


def _relative(leaf: jax.Array, noise: jax.Array) -> jax.Array:
    """Noise of the length of the leaf; none where that is zero."""
    return noise * jnp.linalg.norm(leaf.ravel()) / jnp.linalg.norm(noise.ravel())


def _mean(values: jax.Array) -> Mean:
    """Over the first axis."""
    count = values.shape[0]
    error = values.std(axis=0, ddof=1) / math.sqrt(count) if count > 1 else jnp.nan * values[0]
    return Mean(values.mean(axis=0), error)
