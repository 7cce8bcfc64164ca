"""The convolutional network against its equations in plain NumPy, and what it can see."""

from __future__ import annotations

import functools
from typing import Any

import chex
import contracts
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import evojax_nar as nar
from evojax_nar.errors import InputError
from evojax_nar.models.cnn import CNN, Convolution
from evojax_nar.noise import LowRank, materialise, perturbed
from evojax_nar.tasks import Copy
from evojax_nar.types import Sequence

pytestmark = pytest.mark.usefixtures("quick_compile")

SPEC = Copy(train_sizes=(1, 3), width=2).spec
BATCH, TIME = 4, 9
LENGTHS = np.array([3, TIME, 1, 5])
EXISTS = np.arange(TIME) < LENGTHS[:, None]
MODEL = CNN(channels=6, layers=2, kernel=3)


@jax.jit
def apply(params: Any, values: Any, mask: Any) -> jax.Array:
    return MODEL.apply(params, Sequence(values, mask), spec=SPEC)


@functools.lru_cache
def some_params() -> Any:
    random = np.random.default_rng(0)
    fresh = MODEL.init(jax.random.key(0), SPEC)
    return jax.tree.map(lambda x: x + 0.3 * random.normal(size=x.shape).astype(np.float32), fresh)


def values(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(BATCH, TIME, SPEC.input_features)).astype(np.float32)


def wide(x: Any) -> np.ndarray:
    return np.asarray(x, np.float64)


def dense(p: Any, x: np.ndarray) -> np.ndarray:
    return x @ wide(p["kernel"]) + wide(p["bias"])


def normalise(p: Any, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return centred / deviation * wide(p["scale"]) + wide(p["bias"])


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def oracle(p: Any, x: np.ndarray) -> np.ndarray:
    """Outputs of one example (T, F), beyond which there is nothing."""
    x = dense(p["Dense_0"], x)
    for layer in range(MODEL.layers):
        y = gelu(normalise(p[f"LayerNorm_{layer}"], x))
        kernel, bias = (wide(p[f"Convolution_{layer}"][name]) for name in ("kernel", "bias"))
        for step in range(len(x)):
            x[step] += bias
            for offset in range(MODEL.kernel):
                seen = step + offset - MODEL.kernel // 2
                if 0 <= seen < len(x):
                    x[step] += y[seen] @ kernel[offset]
    return dense(p["Dense_1"], normalise(p[f"LayerNorm_{MODEL.layers}"], x))


def test_each_example_is_its_equations_at_its_own_length() -> None:
    params = jax.device_get(some_params())
    garbage = np.where(EXISTS[..., None], values(), 100 * values(1))
    outputs = np.asarray(apply(params, garbage, EXISTS))
    assert np.isfinite(outputs).all()
    for row, length in enumerate(LENGTHS):
        wanted = oracle(params, wide(values()[row, :length]))
        np.testing.assert_allclose(outputs[row, :length], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [(5,), (3, 5), (1, 3)])
def test_a_convolution_is_that_of_flax(window: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    shape = (2, *(4, 6)[: len(window)], 3)
    x = jnp.asarray(random.normal(size=shape), jnp.float32)
    ours: nn.Module = Convolution(7, window)
    theirs: nn.Module = nn.Conv(7, window)
    key = jax.random.key(0)
    fresh = [jax.jit(module.init)(key, x) for module in (ours, theirs)]
    assert jax.tree.map(jnp.shape, fresh[0]) == jax.tree.map(jnp.shape, fresh[1])
    np.testing.assert_array_equal(*(own["params"]["kernel"] for own in fresh))
    params = jax.tree.map(lambda leaf: leaf + 0.1, fresh[0])

    def judged(module: Any) -> Any:
        total = lambda params, x: jnp.sin(module.apply(params, x)).sum()  # noqa: E731
        return jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(params, x)

    chex.assert_trees_all_close(judged(ours), judged(theirs), rtol=1e-5, atol=1e-5)


def test_a_step_sees_as_far_as_said() -> None:
    """2 layers of 3 steps see 2 steps to each side."""
    whole = np.ones((BATCH, TIME), bool)
    changed = values()
    changed[:, 4] += 1
    before, after = (np.asarray(apply(some_params(), x, whole)) for x in (values(), changed))
    moved = (np.abs(after - before) > 1e-5).any(axis=(0, 2))
    assert np.flatnonzero(moved).tolist() == [2, 3, 4, 5, 6]


def test_gradients_are_finite() -> None:
    """Also where an example has no step at all."""
    mask = np.where(np.arange(BATCH)[:, None] == 2, False, EXISTS)
    slope = jax.jit(jax.grad(lambda params: apply(params, values(), mask).sum()))
    leaves = jax.tree.leaves(slope(some_params()))
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in leaves)


def test_low_rank_noise_is_never_added_up() -> None:
    params = some_params()
    audit = nar.audit(MODEL, params, spec=SPEC, strict=True)
    assert audit.fallback_bytes == 0
    kinds = {row.path: row.kind for row in audit.rows}
    assert kinds["Convolution_0/kernel"] == "shared + rank 1"
    assert kinds["Convolution_0/bias"] == "dense"
    noise = LowRank().draw(contracts.KEY, params, 0.05)
    inputs = Sequence(jnp.asarray(values()), jnp.asarray(EXISTS))
    run = jax.jit(perturbed(lambda p, x: MODEL.apply(p, x, spec=SPEC), strict=True))
    wanted = apply(materialise(params, noise), values(), EXISTS)
    np.testing.assert_allclose(run(params, noise, inputs), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": 4}, "kernel=4 has no middle; give an odd number"),
        ({"channels": 0}, "channels=0 is not allowed; give a whole number of at least 1"),
        ({"layers": 1.5}, "layers=1.5 is not allowed"),
    ],
)
def test_bad_settings_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CNN(**settings)
