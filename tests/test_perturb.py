"""A program on shared weights and thin noise equals the same program on the perturbed weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax_nar as nar
from evojax_nar import factored, perturb
from evojax_nar.noise import Dense, LowRank, Rule, Thin, as_noise, materialise, perturbed, weigh
from evojax_nar.objective import TaskLoss
from evojax_nar.population import GaussianPairs

TOLERANCE = 1e-5
"""Relative, of float32 programs whose sums run in another order."""
KEY = jax.random.key(0)
SEQUENCES = jax.random.normal(jax.random.key(1), (2, 6, 5))


class Tied(nn.Module):
    """A table that is looked up and, at the end, multiplied by."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        table = nn.Embed(11, 8)
        x = nn.LayerNorm()(table(tokens))
        return table.attend(nn.relu(nn.Dense(8)(x)))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return x + nn.gelu(nn.Dense(x.shape[-1])(nn.LayerNorm()(x))), None


class Deep(nn.Module):
    """Layers whose kernels are stacked and scanned over."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scanned = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return scanned()(x, None)[0]


class Thrifty(nn.Module):
    """Recomputes its layer, runs in bfloat16 and back, and uses one kernel twice."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layer = nn.remat(nn.Dense)(x.shape[-1])
        return layer(jnp.tanh(layer(x)))


@jax.custom_vjp
def own_gradient(kernel: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sin(x @ kernel)


own_gradient.defvjp(
    lambda kernel, x: (own_gradient(kernel, x), (kernel, x)), lambda kept, g: (kept[0], g)
)


def by_hand(params: Any, x: jax.Array) -> jax.Array:
    """A plain function of a mapping: loops, a branch, cuts, moves and a derivative of its own."""
    left, right = params["wide"][:, :4], params["wide"][:, 4:]
    x = jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.tanh(c[1] @ left)), (0, x))[
        1
    ]
    x = jax.lax.cond(x.sum() > 0, lambda: x @ right, lambda: x @ right.T)
    x = own_gradient(params["wide"].reshape(4, 2, 4)[:, 1] / 2.0, x)
    return -(x @ params["square"].T) + params["bias"]


HAND_PARAMS = {
    "wide": jax.random.normal(jax.random.key(2), (4, 8)),
    "square": jax.random.normal(jax.random.key(3), (4, 4)),
    "bias": jnp.ones(4),
}


def linen(module: nn.Module, x: jax.Array) -> tuple[Callable[..., Any], Any, jax.Array]:
    return (lambda params, x: module.apply(params, x)), module.init(KEY, x), x


FAMILIES = {
    "dense": lambda: linen(nn.Dense(5), SEQUENCES),
    "lstm": lambda: linen(nn.RNN(nn.OptimizedLSTMCell(11)), SEQUENCES),
    "gru": lambda: linen(nn.RNN(nn.GRUCell(11)), SEQUENCES),
    "attention": lambda: linen(nn.MultiHeadDotProductAttention(2, qkv_features=8), SEQUENCES),
    "convolution": lambda: linen(nn.Conv(6, (3,)), SEQUENCES),
    "dense general": lambda: linen(nn.DenseGeneral((3, 5), axis=(-2, -1)), SEQUENCES),
    "tied embedding": lambda: linen(Tied(), jnp.arange(6).reshape(2, 3)),
    "scanned layers": lambda: linen(Deep(), SEQUENCES),
    "remat, used twice": lambda: linen(Thrifty(), SEQUENCES),
    "a function of a dict": lambda: (by_hand, HAND_PARAMS, SEQUENCES[..., :4]),
}


def close(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * scale)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_unmodified_programs_agree_with_the_formed_parameters(family: str, rank: int) -> None:
    function, params, x = FAMILIES[family]()
    rules = (Rule("kernel|embedding|wide|square", rank=rank),)
    noise = LowRank(rank=rank, rules=rules).draw(jax.random.key(4), params, sigma=0.1)
    assert any(isinstance(n, Thin) for n in jax.tree.leaves(noise, is_leaf=_is_thin))
    with perturb.recording() as found:
        ours = jax.jit(perturbed(function))(params, noise, x)
    assert found == []
    close(ours, function(materialise(params, noise), x))


@pytest.mark.parametrize("family", ["lstm", "attention", "tied embedding", "scanned layers"])
def test_no_member_forms_a_matrix_whatever_the_number_of_members(family: str) -> None:
    function, params, x = FAMILIES[family]()
    rule = LowRank(rules=(Rule("kernel|embedding", rank=1),))
    matrices = {
        leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if "kernel" in jax.tree_util.keystr(path) or "embedding" in jax.tree_util.keystr(path)
    }
    for members in (1, 7):
        noise = jax.vmap(lambda key: rule.draw(key, params))(jax.random.split(KEY, members))
        program = jax.make_jaxpr(jax.vmap(lambda own: perturbed(function)(params, own, x)))(noise)
        for aval in _avals(program.jaxpr):
            for shape in matrices:
                assert aval.shape != (members, *shape), f"{shape} formed for {members} members"


def test_the_population_shares_one_product_with_each_matrix() -> None:
    """The base product of a shared batch has no axis of members at all."""
    kernel, x = jnp.ones((16, 32)), jnp.ones((3, 16))
    noise = jax.vmap(lambda key: LowRank().draw(key, {"w": kernel}))(jax.random.split(KEY, 9))

    def run(noise: Any) -> jax.Array:
        return perturbed(lambda params, x: x @ params["w"])({"w": kernel}, noise, x)

    program = jax.make_jaxpr(jax.vmap(run))(noise)
    products = [aval.shape for aval in _results(program.jaxpr, "dot_general")]
    assert (3, 32) in products
    assert (9, 3, 32) not in products


def test_what_cannot_stay_factored_is_added_up_and_said() -> None:
    params = {"w": jax.random.normal(KEY, (8, 6))}
    noise = LowRank().draw(KEY, params)

    def function(params: Any) -> jax.Array:
        return jnp.linalg.norm(jnp.tanh(params["w"]))

    with perturb.recording() as found:
        ours = perturbed(function)(params, noise)
    assert [fallback.shape for fallback in found] == [(8, 6)]
    assert found[0].primitive == "tanh"
    close(ours, function(materialise(params, noise)))
    with pytest.raises(nar.InputError, match=r"strict=True: tanh needs .*\(8, 6\) added up"):
        perturb.refuse(found)


def test_noise_has_the_variance_it_says_and_weighs_as_the_sum_of_draws() -> None:
    params = {"kernel": jnp.zeros((6, 4)), "bias": jnp.zeros(4), "frozen": jnp.zeros((3, 3))}
    rule = LowRank(rank=2, rules=(Rule("frozen", frozen=True), Rule("bias", scale=2.0)))
    assert rule.describe(params) == {"bias": "dense", "frozen": "frozen", "kernel": "rank 2"}
    draws = jax.vmap(lambda key: rule.draw(key, params, sigma=0.5))(jax.random.split(KEY, 20_000))
    formed = jax.vmap(lambda own: materialise(params, own))(draws)
    # The kurtosis of a product of normals makes the variance of 24 x 20,000 numbers good to 2 %.
    assert float(formed["kernel"].var()) == pytest.approx(0.25, rel=0.05)
    assert float(formed["bias"].var()) == pytest.approx(1.0, rel=0.05)
    assert not formed["frozen"].any()
    weights = jax.random.normal(KEY, (20_000,))
    explicit = jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, axes=1), formed)
    total = weigh(params, draws, weights)
    for name in params:  # sums of 20,000 float32 in another order
        np.testing.assert_allclose(total[name], explicit[name], rtol=1e-3, atol=2e-2)


def test_members_of_a_population_are_the_formed_ones() -> None:
    task, model = nar.tasks.Parity.example(), nar.models.LSTM(hidden=8)
    params = model.init(KEY, task.spec)
    batch = task.sample(KEY, 3, max_size=4, batch=5)
    loss = TaskLoss(task, model, task.spec)
    members = GaussianPairs(params, KEY, jnp.float32(0.1), 6, LowRank())
    for chunk in (None, 1, 4):
        objective = nar.Objective(loss, batch, placement=nar.Placement(chunk=chunk))
        evaluation, _ = jax.jit(lambda objective: objective.population(members))(objective)
        for pair in range(6):
            noise = members.draw(jnp.asarray(pair))
            for row, sign in enumerate((0.1, -0.1)):
                formed = materialise(params, nar.noise.scale(noise, sign))
                expected = loss(formed, batch).loss
                got = evaluation.loss[2 * pair + row]
                assert float(got) == pytest.approx(float(expected), rel=TOLERANCE)


def test_an_evolution_strategy_learns_with_thin_noise() -> None:
    target = jax.random.normal(jax.random.key(5), (6, 5))
    x = jax.random.normal(jax.random.key(6), (32, 6))
    objective = nar.Objective(_regression, (x, x @ target))
    es = nar.strategies.ES(population=128, noise=LowRank())
    state = es.init(KEY, {"w": jnp.zeros((6, 5))})
    first = float(_regression(es.params(state), objective.data))

    def step(state: Any, key: jax.Array) -> Any:
        state, _ = es.step(key, state, objective)
        return state, None

    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, jax.random.split(KEY, 300)))(state)
    assert float(_regression(es.params(state), objective.data)) < 0.02 * first


def test_noise_is_a_setting_like_any_other() -> None:
    es = nar.strategies.ES(noise=LowRank(rank=2, rules=(Rule("Dense_0", rank=0),)))
    said = es.settings()["noise"]
    assert said == {
        "name": "low_rank",
        "rank": 2,
        "factors": "signs",
        "rules": [{"pattern": "Dense_0", "rank": 0, "scale": 1.0, "frozen": False}],
    }
    assert nar.strategies.get("es", noise=said) == nar.strategies.ES(noise=es.noise)
    assert as_noise("dense") == Dense()
    for bad, message in (
        ({"name": "low_rang"}, "did you mean 'low_rank'"),
        ({"name": "low_rank", "rank": 0}, "rank=0 is not allowed"),
        ({"name": "dense", "rules": [{"pattern": "("}]}, "is no regular expression"),
        (3, "is no noise rule"),
    ):
        with pytest.raises(nar.InputError, match=message):
            nar.strategies.ES(noise=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 4), (24,), (4, 6), (12, 2), (1, 6, 4)])
def test_reshapes_of_factors_are_reshapes_of_their_sum(shape: tuple[int, ...]) -> None:
    base, a, b = (
        jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(6, 4), (6, 2), (4, 2)])
    )
    value = factored.factored(base, a, b)
    moved = factored.reshape(value, shape)
    if moved is None:
        assert shape == (4, 6), "the only one that cuts rows and columns across"
        return
    close(factored.materialise(moved), factored.materialise(value).reshape(shape))
    turned = factored.transpose(moved, range(len(shape))[::-1])
    close(factored.materialise(turned), factored.materialise(moved).T)


def _regression(params: Any, data: Any) -> jax.Array:
    x, y = data
    return jnp.mean((x @ params["w"] - y) ** 2)


def _is_thin(value: Any) -> bool:
    return isinstance(value, Thin)


def _equations(jaxpr: Any) -> Any:
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for item in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(item, "jaxpr", item)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner)


def _avals(jaxpr: Any) -> Any:
    for equation in _equations(jaxpr):
        yield from (out.aval for out in equation.outvars if hasattr(out.aval, "shape"))


def _results(jaxpr: Any, primitive: str) -> Any:
    for equation in _equations(jaxpr):
        if equation.primitive.name == primitive:
            yield from (out.aval for out in equation.outvars)
