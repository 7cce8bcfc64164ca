"""FLOPs against counts by hand, and bytes against those of the compiled program."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from strategy_contracts import mesh

from evojax_nar.cost import (
    available_bytes,
    compiled_bytes,
    flops,
    largest_bytes,
    readable_bytes,
    tree_bytes,
)
from evojax_nar.models import GRU
from evojax_nar.objective import Objective, TaskLoss
from evojax_nar.placement import Placement
from evojax_nar.population import Stored
from evojax_nar.tasks import Parity

M, K, N, BATCH, STEPS = 5, 7, 3, 4, 11
MATMUL = 2 * M * K * N


def shape(*sizes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


A, B = shape(M, K), shape(K, N)


def test_contractions() -> None:
    assert flops(jnp.dot, A, B) == MATMUL
    assert flops(jax.jit(jnp.dot), A, B) == MATMUL
    assert flops(jax.vmap(jnp.dot, (None, 0)), A, shape(BATCH, K, N)) == BATCH * MATMUL
    assert flops(jax.vmap(jnp.dot), shape(BATCH, M, K), shape(BATCH, K, N)) == BATCH * MATMUL
    attention = functools.partial(jnp.einsum, "bthd,bshd->bhts")
    both = shape(BATCH, 6, 2, 8)
    assert flops(attention, both, both) == BATCH * 2 * 6 * 6 * 2 * 8
    assert flops(jnp.dot, shape(K), shape(K)) == 2 * K


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution(groups: int) -> None:
    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images,
            kernel,
            (1, 1),
            "VALID",
            dimension_numbers=numbers,
            feature_group_count=groups,
        )

    images, kernel = shape(BATCH, 10, 8, 6), shape(3, 3, 6 // groups, 12)
    outputs = BATCH * 8 * 6 * 12
    assert flops(convolve, images, kernel) == outputs * 2 * 3 * 3 * 6 // groups


def test_loops_and_branches() -> None:
    def scan(a: jax.Array, b: jax.Array) -> Any:
        return jax.lax.scan(lambda x, _: (x, x @ b), a, length=STEPS)

    assert flops(scan, A, B) == STEPS * MATMUL
    outer = lambda a, b: jax.lax.map(lambda _: scan(a, b), jnp.arange(2))  # noqa: E731
    assert flops(outer, A, B) == 2 * STEPS * MATMUL

    def branch(which: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        branches = (lambda: jnp.zeros((M, N)), lambda: a @ b, lambda: (a @ b) + 1)
        return jax.lax.switch(which, branches)

    clamp = 1  # of the index, to a branch that there is
    assert flops(branch, shape(dtype=jnp.int32), A, B) == MATMUL + M * N + clamp

    def forever(a: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda x: x[0, 0] < 3, lambda x: x @ x, a)

    assert flops(forever, shape(K, K)) == 2 * K**3 + 1, "one turn, and one comparison"
    with_checkpoint = jax.checkpoint(jnp.dot)
    assert flops(with_checkpoint, A, B) == MATMUL


def test_elements_and_reductions() -> None:
    assert flops(jnp.exp, A) == M * K
    assert flops(lambda a: a.sum(), A) == M * K
    assert flops(lambda a: a.argmax(axis=1), A) == M * K
    assert flops(lambda a: jnp.concatenate([a.T, a.T])[2:5][None], A) == 0
    assert flops(jax.lax.cumsum, A) == M * K
    assert flops(jnp.sort, shape(6, 8)) == 6 * 8 * 3
    rows = np.zeros(K, np.int32)
    add = functools.partial(jax.lax.scatter_add, indices_are_sorted=True)
    numbers = jax.lax.ScatterDimensionNumbers((1,), (0,), (0,))
    updates = shape(K, N)
    assert flops(lambda a, u: add(a, rows[:, None], u, numbers), shape(M, N), updates) == K * N


def test_rules_of_derivatives_count_once() -> None:
    @jax.custom_vjp
    def doubled(x: jax.Array) -> jax.Array:
        return x * 2

    doubled.defvjp(lambda x: (x * 2, None), lambda _, g: (g * 2,))
    assert flops(doubled, A) == M * K
    assert flops(jax.nn.relu, A) == M * K


def test_a_gradient_of_contractions_costs_three_times_their_value() -> None:
    def chain(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        return (a @ b) @ c

    args = (A, B, shape(N, 6))
    forward = flops(chain, *args)
    assert forward == MATMUL + 2 * M * N * 6

    def pull_back(cotangent: jax.Array, *args: jax.Array) -> Any:
        value, back = jax.vjp(chain, *args)
        return value, back(cotangent)

    assert flops(pull_back, shape(M, 6), *args) == 3 * forward


def test_devices_and_members_multiply() -> None:
    spec = PartitionSpec("members")
    spread = jax.shard_map(jnp.exp, mesh=mesh(4), in_specs=spec, out_specs=spec)
    assert flops(spread, shape(8, 3)) == 24

    task, model = Parity.example(), GRU(hidden=32)
    loss = TaskLoss(task, model, task.spec)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), task.spec))
    batch = jax.eval_shape(lambda: task.sample(jax.random.key(0), 4, max_size=4, batch=8))
    one = flops(loss, params, batch)
    hidden, time = 32, 4
    by_hand = 2 * 8 * time * (3 * 2 * hidden + 3 * hidden * hidden + 2 * hidden)
    assert by_hand < one < 1.15 * by_hand

    many = jax.tree.map(lambda leaf: shape(12, *leaf.shape), params)
    for placement in (Placement(), Placement(chunk=3), Placement(mesh=mesh(4))):
        evaluate = lambda stack, batch, placement=placement: Objective(  # noqa: E731
            loss, batch, placement=placement
        ).population(Stored(stack, 12))
        assert flops(evaluate, many, batch) == pytest.approx(12 * one, rel=0.01)


def test_bytes_of_trees() -> None:
    tree = {"a": shape(3, 4), "b": [jnp.zeros(5, jnp.bfloat16), np.zeros(2, np.int8)]}
    assert tree_bytes(tree) == 3 * 4 * 4 + 5 * 2 + 2
    assert tree_bytes(jax.random.split(jax.random.key(0), 3)) == 24
    assert tree_bytes(()) == 0


def test_bytes_of_the_largest_operation() -> None:
    operation = 4 * (M * K + K * N + M * N)
    assert largest_bytes(jnp.dot, A, B) == operation
    scan = lambda a, b: jax.lax.scan(lambda x, _: (x, (x @ b).sum()), a, length=2)  # noqa: E731
    assert largest_bytes(scan, A, B) == operation
    assert largest_bytes(lambda a: jnp.zeros((1000, 1000)) + a[0, 0], A) >= 4_000_000


def test_predicted_bytes_are_of_the_order_of_compiled_ones() -> None:
    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.tanh(a @ b).sum()

    args = (shape(300, 400), shape(400, 500))
    compiled = compiled_bytes(jax.jit(product).lower(*args).compile())
    assert compiled is not None
    assert tree_bytes(args) < compiled <= tree_bytes(args) + largest_bytes(product, *args)


def test_available_bytes() -> None:
    free = available_bytes()
    assert isinstance(free, int)
    assert 2**20 < free < 2**50


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2.5 * 2**20, "2.5 MiB"),
        (3 * 2**30, "3.0 GiB"),
        (2**40, "1.0 TiB"),
        (5000 * 2**40, "5000.0 TiB"),
    ],
)
def test_readable_bytes(count: float, text: str) -> None:
    assert readable_bytes(count) == text
