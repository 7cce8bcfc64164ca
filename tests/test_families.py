"""Model families of four libraries run on shared weights that no member ever forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from evojax_nar.noise import LowRank, Rule, Thin, materialise, perturbed, scale
from evojax_nar.objective import Objective
from evojax_nar.placement import Placement
from evojax_nar.population import GaussianPairs

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(0)
WIDTH = 16
"""Features of everything, so that the smallest matrix has 256 numbers and no activation has."""
STEPS = jax.random.normal(jax.random.key(1), (1, 4, WIDTH))
TOLERANCE = 1e-5

Family = tuple[Callable[..., Any], Any, tuple[Any, ...]]


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(WIDTH)(nn.relu(nn.Dense(2 * WIDTH)(x)))


class Block(nn.Module):
    """One of a Transformer: attention and a dense layer of two matrices."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
        return x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(2 * WIDTH)(nn.LayerNorm()(x))))


class Convolutional(nn.Module):
    """Strides, dilation, a transposed layer and pooling."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(WIDTH, (3,), kernel_dilation=2)(x))
        x = nn.relu(nn.Conv(WIDTH, (3,), strides=2)(x))
        x = nn.ConvTranspose(WIDTH, (3,), strides=(2,), transpose_kernel=True)(x)
        return nn.avg_pool(x, (2,))


class Graph(nn.Module):
    """Two rounds of messages along the edges, with the same weights at every node and round."""

    @nn.compact
    def __call__(self, nodes: jax.Array, senders: jax.Array, receivers: jax.Array) -> jax.Array:
        message, update = nn.Dense(WIDTH), nn.Dense(WIDTH)
        for _ in range(2):
            pairs = jnp.concatenate([nodes[senders], nodes[receivers]], axis=-1)
            sums = jax.ops.segment_sum(nn.relu(message(pairs)), receivers, len(nodes))
            nodes = nn.LayerNorm()(jnp.tanh(update(jnp.concatenate([nodes, sums], axis=-1))))
        return nodes


def machine(params: Any, x: jax.Array) -> jax.Array:
    """A controller that reads and writes a memory by content, and thinks until it says stop.

    A plain function of a dict: x (T, F), memory (slots, F).
    """

    def address(memory: jax.Array, key: jax.Array) -> jax.Array:
        norms = jnp.linalg.norm(memory, axis=-1) * jnp.linalg.norm(key)
        return jax.nn.softmax(5.0 * memory @ key / (norms + 1e-6))

    def think(state: Any) -> Any:
        turn, hidden, memory = state
        weights = address(memory, hidden @ params["read_key"])
        both = jnp.concatenate([hidden, weights @ memory])
        return turn + 1, jnp.tanh(both @ params["think"] + params["bias"]), memory

    def going(state: Any) -> jax.Array:
        return (state[0] < 4) & (state[1] @ params["stop"] < 0.5)

    def step(carry: Any, value: jax.Array) -> Any:
        hidden, memory = carry
        hidden = jnp.tanh(value @ params["read"] + hidden)
        _, hidden, memory = lax.while_loop(going, think, (0, hidden, memory))
        weights = address(memory, hidden @ params["write_key"])[:, None]
        erase = jax.nn.sigmoid(hidden @ params["erase"])
        memory = memory * (1 - weights * erase) + weights * (hidden @ params["write"])
        return (hidden, memory), hidden

    start = jnp.zeros(WIDTH), jnp.full((6, WIDTH), 1e-3)
    return lax.scan(step, start, x)[1]


def machine_params() -> Any:
    names = ("read", "read_key", "write_key", "erase", "write")
    shapes = {**dict.fromkeys(names, (WIDTH, WIDTH)), "think": (2 * WIDTH, WIDTH)}
    keys = jax.random.split(KEY, len(shapes))
    matrices = {
        name: jax.random.normal(key, shape) / 4
        for (name, shape), key in zip(shapes.items(), keys, strict=True)
    }
    return {**matrices, "bias": jnp.zeros(WIDTH), "stop": jnp.ones(WIDTH) / WIDTH}


def of_linen(module: nn.Module, *args: jax.Array) -> Family:
    # The shapes of a linen module do not depend on the jit that compiles its initialiser.
    return module.apply, jax.jit(module.init)(KEY, *args), args


def of_nnx(module: nnx.Module, x: jax.Array) -> Family:
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    return (
        (lambda params, rest, x: nnx.merge(graph, params, rest)(x)),
        params,
        (rest, x),
    )


def of_equinox(module: eqx.Module, call: Callable[..., Any], x: jax.Array) -> Family:
    params, static = eqx.partition(module, eqx.is_array)
    return (
        (lambda params, x: jax.vmap(lambda x: call(eqx.combine(params, static), x))(x)),
        params,
        (x,),
    )


def of_haiku(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> Family:
    pure = hk.without_apply_rng(hk.transform(function))
    return pure.apply, pure.init(KEY, x), (x,)


class Stack(nnx.Module):
    """Attention, a convolution and a dense layer of flax nnx."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.attention = nnx.MultiHeadAttention(2, WIDTH, WIDTH, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.convolution = nnx.Conv(WIDTH, WIDTH, (3,), rngs=rngs)
        self.out = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(nnx.relu(self.convolution(self.norm(self.attention(x)))))


def equinox_lstm(cell: eqx.nn.LSTMCell, x: jax.Array) -> jax.Array:
    def step(state: Any, value: jax.Array) -> Any:
        state = cell(value, state)
        return state, state[0]

    return lax.scan(step, (jnp.zeros(WIDTH), jnp.zeros(WIDTH)), x)[1]


def haiku_gru(x: jax.Array) -> Any:
    core = hk.GRU(WIDTH)
    hidden, _ = hk.dynamic_unroll(core, x, core.initial_state(1), time_major=False)
    return hidden


def haiku_attention(x: jax.Array) -> jax.Array:
    start = hk.initializers.VarianceScaling(1.0)
    x = hk.MultiHeadAttention(2, 8, w_init=start)(x, x, x)
    return hk.LayerNorm(-1, True, True)(hk.Conv1D(WIDTH, 3)(x))


EDGES = jnp.array([0, 1, 2, 3, 4, 0]), jnp.array([1, 2, 3, 4, 0, 2])

FAMILIES: dict[str, Callable[[], Family]] = {
    "mlp": lambda: of_linen(MLP(), STEPS),
    "lstm": lambda: of_linen(nn.RNN(nn.OptimizedLSTMCell(WIDTH)), STEPS),
    "gru": lambda: of_linen(nn.RNN(nn.GRUCell(WIDTH)), STEPS),
    "transformer": lambda: of_linen(Block(), STEPS),
    "convolution": lambda: of_linen(Convolutional(), STEPS),
    "graph": lambda: of_linen(Graph(), jnp.ones((5, WIDTH)) * jnp.arange(5.0)[:, None], *EDGES),
    "memory machine": lambda: (machine, machine_params(), (STEPS[0],)),
    "nnx lstm": lambda: of_nnx(
        nnx.RNN(nnx.OptimizedLSTMCell(WIDTH, WIDTH, rngs=nnx.Rngs(0))), STEPS
    ),
    "nnx stack": lambda: of_nnx(Stack(nnx.Rngs(0)), STEPS),
    "equinox mlp": lambda: of_equinox(
        eqx.nn.MLP(WIDTH, WIDTH, WIDTH, 2, key=KEY), lambda m, x: m(x), STEPS[0]
    ),
    "equinox lstm": lambda: of_equinox(eqx.nn.LSTMCell(WIDTH, WIDTH, key=KEY), equinox_lstm, STEPS),
    "equinox attention": lambda: of_equinox(
        eqx.nn.MultiheadAttention(2, WIDTH, key=KEY), lambda m, x: m(x, x, x), STEPS
    ),
    "equinox convolution": lambda: of_equinox(
        eqx.nn.Conv2d(WIDTH, 8, 3, stride=2, padding=1, key=KEY),
        lambda m, x: m(jnp.stack([x.T, 2 * x.T, x.T], axis=-1)),
        STEPS,
    ),
    "haiku mlp": lambda: of_haiku(lambda x: hk.nets.MLP([2 * WIDTH, WIDTH])(x), STEPS),
    "haiku gru": lambda: of_haiku(haiku_gru, STEPS),
    "haiku attention": lambda: of_haiku(haiku_attention, STEPS),
}
"""Name to function, parameters and inputs."""


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_runs_on_shared_weights(name: str) -> None:
    function, params, args = FAMILIES[name]()
    noise = LowRank(rank=2).draw(jax.random.key(4), params, sigma=0.1)
    smallest = min(size for size in _thin_sizes(params, noise))
    assert smallest >= WIDTH * WIDTH
    _agree(function, params, noise, *args)
    formed = _largest_of_a_member(lambda own: perturbed(function)(params, own, *args), params)
    assert formed < smallest, f"a member forms {formed} numbers at once"


def test_the_check_sees_what_is_formed() -> None:
    params = {"w": jnp.ones((WIDTH, WIDTH))}
    for function in (lambda p: jnp.tanh(p["w"]).sum(), lambda p: lax.map(jnp.tanh, p["w"][None])):
        formed = _largest_of_a_member(lambda own, f=function: perturbed(f)(params, own), params)
        assert formed >= WIDTH * WIDTH


def test_no_chunk_of_a_population_forms_a_matrix() -> None:
    """With the draws inside: chunks of 1 and 3 pairs, and every fitness that of formed weights."""
    width = 8 * WIDTH
    x, hidden = jnp.ones((1, width)), jax.random.normal(KEY, (width, width)) / width
    params = {"one": hidden, "two": hidden.T, "bias": jnp.zeros(width)}
    members = GaussianPairs(params, KEY, jnp.float32(0.1), 6, LowRank())

    def run(chunk: int) -> Callable[..., Any]:
        placement = Placement(chunk=chunk)
        return lambda members: Objective(_two_layers, x, placement=placement).population(members)

    programs = [jax.make_jaxpr(run(chunk))(members).jaxpr for chunk in (1, 3)]
    assert max(_member_sizes(*programs)) < width * width
    for chunk in (1, 6):
        evaluation, _ = jax.jit(run(chunk))(members)
        for pair in range(6):
            for row, sign in enumerate((0.1, -0.1)):
                own = scale(members.draw(jnp.asarray(pair)), sign)
                expected = _two_layers(materialise(params, own), x)
                assert float(evaluation.loss[2 * pair + row]) == pytest.approx(
                    float(expected), rel=TOLERANCE
                )


def _two_layers(params: Any, x: jax.Array) -> jax.Array:
    return jnp.mean((jnp.tanh(x @ params["one"]) @ params["two"] + params["bias"] - 1.0) ** 2)


WEIGHTS = {
    "w": jax.random.normal(jax.random.key(5), (8, 12)),
    "heads": jax.random.normal(jax.random.key(6), (3, 8, 4)),
    "stack": jax.random.normal(jax.random.key(7), (3, 8, 8)),
    "bias": jnp.ones(12),
}
ROW = jax.random.normal(jax.random.key(8), (5, 8))
HEADED = jax.random.normal(jax.random.key(9), (5, 3, 8))


def _layer_by_layer(p: Any, x: jax.Array) -> jax.Array:
    return lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ p["stack"][i]), x)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "weights of each head": lambda p, x: jnp.einsum("bhi,hij->bhj", HEADED, p["heads"]),
    "weights of each head, turned": lambda p, x: jnp.einsum(
        "hij,bhj->ihb", p["heads"], HEADED[..., :4]
    ),
    "two axes at once": lambda p, x: jnp.einsum("bhi,hij->bj", HEADED, p["heads"]),
    "first operand": lambda p, x: p["w"].T @ x.T,
    "vmapped matrices": lambda p, x: jax.vmap(jnp.dot)(jnp.moveaxis(HEADED, 1, 0), p["heads"]),
    "vmapped vectors": lambda p, x: jax.vmap(lambda row: p["w"].T @ row)(x),
    "layers by a counter": _layer_by_layer,
    "split": lambda p, x: [x @ part for part in jnp.split(p["w"], [4, 7], axis=1)],
    "flip": lambda p, x: x @ jnp.flip(p["w"], (0, 1)),
    "pad": lambda p, x: x @ jnp.pad(p["w"], ((0, 0), (2, 3)), constant_values=2.0),
    "expand and squeeze": lambda p, x: x @ jnp.expand_dims(p["w"], (0, 2)).squeeze((0, 2)),
    "unequal blocks": lambda p, x: x @ jnp.concatenate([p["w"], p["w"][:, :5]], 1),
    "blocks beside zeros": lambda p, x: x @ jnp.concatenate([p["w"], jnp.zeros((8, 2))], 1),
    "stacked": lambda p, x: jnp.einsum("bi,kij->kbj", x, jnp.stack([p["w"], p["w"]])),
    "sum of weights": lambda p, x: x @ (p["w"][:, :8] + p["stack"][0] - p["stack"][1].T),
    "moved by a constant": lambda p, x: x @ (jnp.eye(8) - p["stack"][0] + 1.0),
    "scaled by a constant": lambda p, x: x @ (p["w"] * jnp.sqrt(2.0) / jnp.float32(3)),
    "barrier": lambda p, x: x @ lax.optimization_barrier((p["w"], x))[0],
    "remat": lambda p, x: jax.checkpoint(lambda w, x: jnp.sin(x @ w))(p["w"], x),
    "preferred type": lambda p, x: jnp.dot(x, p["w"], preferred_element_type=jnp.float32),
    "a branch by what a member computes": lambda p, x: lax.cond(
        (x @ p["w"]).sum() > 0, lambda w: x @ w, lambda w: -x @ jnp.flip(w, 1), p["w"]
    ),
    "a branch of three by a counter": lambda p, x: lax.fori_loop(
        0, 3, lambda i, y: lax.switch(i, [lambda k=k: y @ p["stack"][k] for k in range(3)]), x
    ),
    "layers of scan": lambda p, x: lax.scan(lambda x, w: (x @ w, x.sum()), x, p["stack"]),
    "looked up across": lambda p, x: p["w"].T[jnp.array([3, 1])],
    "product of two": lambda p, x: x @ (p["stack"][2] @ p["w"]) @ (p["w"].T @ p["stack"][0].T),
    "device put": lambda p, x: x @ jax.device_put(p["w"]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_keeps_its_leaves_factored(name: str) -> None:
    function = OPERATIONS[name]
    noise = LowRank(rules=(Rule("w|heads|stack", rank=2),)).draw(KEY, WEIGHTS, sigma=0.3)
    _agree(function, WEIGHTS, noise, ROW)


@pytest.mark.parametrize("groups", [2, 8])
@pytest.mark.parametrize("spec", ["HWIO", "HWOI", "OIHW"])
def test_grouped_convolutions_of_any_layout(spec: str, groups: int) -> None:
    """Depthwise ones among them; strides, padding and dilation differ from axis to axis."""
    sizes = {"H": 3, "W": 4, "I": 8 // groups, "O": 16}
    params = {"kernel": jax.random.normal(KEY, tuple(sizes[letter] for letter in spec))}
    data = "NCHW" if spec == "OIHW" else "NHWC"
    x = jax.random.normal(KEY, (2, 8, 9, 10) if spec == "OIHW" else (2, 9, 10, 8))

    def function(params: Any, x: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            params["kernel"],
            (2, 1),
            ((1, 0), (2, 1)),
            lhs_dilation=(1, 2),
            rhs_dilation=(2, 1),
            dimension_numbers=(data, spec, data),
            feature_group_count=groups,
        )

    noise = LowRank(rules=(Rule("kernel", rank=2),)).draw(KEY, params)
    _agree(function, params, noise, x)


def test_a_branch_of_a_member_copies_no_matrix() -> None:
    params = {"w": jnp.ones((WIDTH, WIDTH))}

    def function(params: Any) -> jax.Array:
        x = jnp.ones(WIDTH) @ params["w"]
        return lax.cond(x.sum() > 0, lambda w: x @ w, lambda w: w @ x, params["w"])

    formed = _largest_of_a_member(lambda own: perturbed(function)(params, own), params)
    assert formed < WIDTH * WIDTH


def test_bfloat16_stays_factored() -> None:
    noise = LowRank().draw(KEY, WEIGHTS, sigma=0.1)

    def function(params: Any, x: jax.Array) -> jax.Array:
        return jnp.dot(x.astype(jnp.bfloat16), params["w"].astype(jnp.bfloat16))

    ours = perturbed(function, strict=True)(WEIGHTS, noise, ROW)
    assert ours.dtype == jnp.bfloat16
    expected = function(materialise(WEIGHTS, noise), ROW)
    # Eight bits of each of eight summands.
    np.testing.assert_allclose(
        ours.astype(jnp.float32), expected.astype(jnp.float32), rtol=0.03, atol=0.1
    )


def _thin_sizes(params: Any, noise: Any) -> Iterator[int]:
    leaves, structure = jax.tree.flatten(params)
    for leaf, own in zip(leaves, structure.flatten_up_to(noise), strict=True):
        if isinstance(own, Thin):
            yield leaf.size


def _largest_of_a_member(run: Callable[[Any], Any], params: Any) -> int:
    """Numbers of the largest value of one member, in chunks of 1 and of 7 members."""

    def program(members: int) -> Any:
        keys = jax.random.split(KEY, members)
        noise = jax.vmap(lambda key: LowRank(rank=1).draw(key, params))(keys)
        return jax.make_jaxpr(jax.vmap(run))(noise).jaxpr

    return max(_member_sizes(program(1), program(7)))


def _member_sizes(one: Any, more: Any) -> Iterator[int]:
    """Sizes, per member, of the values that members have of their own.

    The two programs differ in the number of members alone, so what differs in size is theirs: a
    chunk of one member is not mistaken for what is shared.
    """
    assert [e.primitive for e in one.eqns] == [e.primitive for e in more.eqns]
    for a, b in zip(one.eqns, more.eqns, strict=True):
        for out, other in zip(a.outvars, b.outvars, strict=True):
            if out.aval.shape != other.aval.shape:
                yield out.aval.size
        for inner, other in zip(_programs(a), _programs(b), strict=True):
            yield from _member_sizes(inner, other)


def _programs(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            inner = getattr(item, "jaxpr", item)
            if hasattr(inner, "eqns"):
                yield inner


def _agree(function: Callable[..., Any], params: Any, noise: Any, *args: Any) -> None:
    """The perturbed function without any fallback equals the function of formed parameters."""

    @jax.jit  # both at once, to compile once
    def both(params: Any, noise: Any, *args: Any) -> Any:
        ours = perturbed(function, strict=True)(params, noise, *args)
        return ours, function(materialise(params, noise), *args)

    ours, formed = both(params, noise, *args)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(formed), strict=True):
        largest = float(jnp.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * largest)
