"""Blocks, groups and chunks: nothing is lost, everyone sees their own data, and memory is held."""

from __future__ import annotations

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_contracts import mesh

import evojax_nar as nar
from evojax_nar import forecasting, placement
from evojax_nar.cost import compiled_bytes
from evojax_nar.evaluator import Evaluator
from evojax_nar.noise import Dense, LowRank
from evojax_nar.placement import LOCAL, Chunk, Placement, layout
from evojax_nar.population import GaussianPairs, Stored
from evojax_nar.trainer import Group, Settings

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(4)

LAYOUTS = [
    (groups * size, groups, at_once, devices)
    for groups, size, at_once, devices in itertools.product(
        (1, 2, 5, 8), (1, 3, 8, 21), (1, 4, 7, 100), (1, 2, 8)
    )
]


@pytest.mark.parametrize(("units", "groups", "at_once", "devices"), LAYOUTS)
def test_blocks_hold_every_unit_once(units: int, groups: int, at_once: int, devices: int) -> None:
    cut = layout(units, groups, at_once, devices)
    rows = np.arange(units)
    blocks = np.asarray(cut.split(jnp.asarray(rows)))
    assert blocks.shape == (cut.blocks, cut.groups_in_block, cut.units_in_block)
    assert cut.blocks % devices == 0
    assert cut.groups_in_block * cut.units_in_block <= max(at_once, 1)
    np.testing.assert_array_equal(cut.join(jnp.asarray(blocks)), rows)
    # All units of a row of a block are of one group: they share its data.
    of_group = np.asarray(cut.split(jnp.asarray(rows // (units // groups))))
    assert (of_group == of_group[..., :1]).all()


def quadratic(params: Any, data: Any) -> jax.Array:
    inputs, targets = data
    return jnp.mean((jnp.tanh(inputs @ params["w"]) - targets) ** 2)


def grouped(groups: int) -> Any:
    inputs = jax.random.normal(jax.random.key(1), (groups, 5, 3))
    return inputs, jax.random.normal(jax.random.key(2), (groups, 5, 4))


PLACEMENTS = {
    "local": LOCAL,
    "chunk of 2": Placement(chunk=2),
    "chunk of 5": Placement(chunk=5),
    "2 devices, chunk of 3": Placement(mesh=mesh(2), chunk=3),
    "4 devices": Placement(mesh=mesh(4)),
}


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS.keys())
@pytest.mark.parametrize("groups", [2, 6, 12])
@pytest.mark.parametrize("noise", [Dense(), LowRank()], ids=["dense", "low rank"])
def test_groups_see_their_own_data(noise: Any, groups: int, placement: Placement) -> None:
    units, data = 12, grouped(groups)
    members = GaussianPairs({"w": jnp.ones((3, 4))}, KEY, jnp.float32(0.3), units, noise)
    objective = nar.Objective(quadratic, data, placement=placement, groups=groups)
    found = jax.jit(lambda o: o.population(members)[0].loss)(objective)
    expected = []
    for unit in range(units):
        own = jax.tree.map(lambda leaf, unit=unit: leaf[unit * groups // units], data)
        drawn = members.draw(jnp.int32(unit))
        for sign in (1, -1):
            eps = nar.noise.scale(drawn, sign * 0.3)
            expected.append(quadratic(nar.materialise(members.centre, eps), own))
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-5, atol=1e-6)
    # One parameter set is judged by the mean over the groups.
    each = [
        quadratic(members.centre, jax.tree.map(lambda x, g=g: x[g], data)) for g in range(groups)
    ]
    np.testing.assert_allclose(objective(members.centre)[0].loss, np.mean(each), rtol=1e-6)


def test_groups_that_cannot_be_are_refused() -> None:
    members = Stored({"w": jnp.ones((6, 3, 4))}, 6)
    with pytest.raises(nar.InputError, match="groups=4 does not divide 6 members"):
        nar.Objective(quadratic, grouped(4), groups=4).population(members)
    with pytest.raises(nar.InputError, match="groups=2 cannot go with a carry"):
        nar.Objective(quadratic, grouped(2), start=lambda key, data: (), groups=2)
    with pytest.raises(nar.InputError, match="batches=2 is for populations"):
        nar.Arm(nar.strategies.Gradient(), batches=2)


# Memory.


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(64)(x)
        x = x + nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(x))
        return nn.Dense(64)(nn.gelu(nn.Dense(256)(x)))


MODULES = {
    "lstm": nn.RNN(nn.OptimizedLSTMCell(64)),
    "gru": nn.RNN(nn.GRUCell(64)),
    "attention": Attention(),
    "dense": nn.Sequential([nn.Dense(256), nn.tanh, nn.Dense(256), nn.tanh, nn.Dense(8)]),
}


@pytest.mark.parametrize("noise", [Dense(), LowRank()], ids=["dense", "low rank"])
@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES.keys())
def test_predicted_memory_is_near_what_is_compiled(module: nn.Module, noise: Any) -> None:
    x = jnp.ones((4, 16, 8))
    params = module.init(KEY, x)
    members = GaussianPairs(params, KEY, jnp.float32(0.1), 256, noise)

    def loss(params: Any, x: Any) -> jax.Array:
        return jnp.mean(jnp.square(jnp.asarray(module.apply(params, x))))

    objective = nar.Objective(loss, x, placement=Placement(chunk=32))
    with placement.recording() as chunks:
        lowered = jax.jit(lambda: objective.population(members)[0].loss).lower()
    (chunk,) = chunks
    assert (chunk.units, chunk.at_once, chunk.width) == (256, 32, 2)
    compiled = compiled_bytes(lowered.compile())
    assert compiled is not None
    # A prediction from the trace knows nothing of XLA's reuse of buffers, nor of its copies.
    assert 0.5 < chunk.peak_bytes / compiled < 2, (chunk.peak_bytes, compiled)


def test_a_chunk_is_as_large_as_its_memory() -> None:
    place = Placement(memory=1000)
    assert [place.at_once(50, own) for own in (1, 20, 21, 999, 5000)] == [50, 50, 47, 1, 1]
    assert Placement(memory=1000, copies=4).at_once(50, 20) == 12
    assert Placement(mesh=mesh(4), memory=1000).at_once(50, 10) == 13
    assert Placement(chunk=3).at_once(50, 1) == 3
    assert Placement(chunk=None).at_once(50, 10**9) == 50
    with pytest.raises(nar.InputError, match="chunk='atuo' is not known; did you mean 'auto'"):
        Placement(chunk="atuo")  # type: ignore[arg-type]
    with pytest.raises(nar.InputError, match="memory=0 is not allowed"):
        Placement(memory=0)


# Forecasts.


def group(settings: Settings, **arm: Any) -> Group:
    task = nar.tasks.Parity(train_sizes=range(1, 9), test_sizes=(8,))
    es = nar.strategies.ES(population=64, noise=LowRank())
    evaluator = Evaluator(task, nar.models.LSTM(hidden=16))
    return Group("es", nar.Arm(es, batch=8, **arm), evaluator, settings)


def test_a_forecast_says_what_a_step_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(nar.Budget(generations=5))
    whole = group(settings).forecast(1)
    assert whole.members == 64
    (chunk,) = whole.chunks
    assert chunk == Chunk(32, 2, 32, 1, chunk.peak_bytes)
    assert whole.peak_bytes == whole.state_bytes + chunk.peak_bytes
    assert "32 antithetic pairs, 32 at once; about" in str(whole)
    assert 0 < whole.members_per_second() < 1e12
    few = group(Settings(nar.Budget(generations=5), placement=Placement(chunk=4))).forecast(1)
    assert few.chunks[0].peak_bytes < chunk.peak_bytes / 4
    gradient = nar.Arm(nar.strategies.Gradient(), batch=8)
    plain = Group("adam", gradient, group(settings).evaluator, settings).forecast(1)
    assert plain.chunks == ()
    assert str(plain).endswith("FLOPs a step")

    for free, place, remedy in (
        (whole.peak_bytes, Placement(chunk=None), "lower --chunk, or give --chunk auto"),
        (whole.peak_bytes, LOCAL, "lower --set arms.es.batch=B, or --hidden"),
        (1000, LOCAL, "lower --hidden, or --set arms.es.population=N"),
    ):
        monkeypatch.setattr("evojax_nar.cost.available_bytes", lambda free=free: free)
        with pytest.raises(nar.InputError, match=remedy):
            forecasting.check(whole, place)
    monkeypatch.setattr("evojax_nar.cost.available_bytes", lambda: 2 * whole.peak_bytes)
    forecasting.check(whole, LOCAL)


def test_seeds_that_train_together_share_the_memory_of_a_chunk() -> None:
    settings = Settings(nar.Budget(generations=5), placement=Placement(memory=200_000))
    one, four = (group(settings).forecast(count).chunks[0] for count in (1, 4))
    assert one.at_once >= 3 * four.at_once
    assert four.peak_bytes < 1.5 * one.peak_bytes


# Batches and precision.


def test_batches_of_their_own_are_counted_and_learned_from() -> None:
    budget = nar.Budget(examples=4 * 8 * 10)
    own = group(Settings(budget), batches=4)
    assert own.step_limit == 10
    assert own.forecast(1).members == 64
    shared = group(Settings(budget))
    assert shared.step_limit == 40


def test_models_run_in_the_type_that_is_said_and_losses_stay_in_float32() -> None:
    settings = Settings(nar.Budget(generations=5), forward_dtype="bfloat16")
    own = group(settings)
    progress = jax.eval_shape(lambda: own.start([0]))
    key = jax.eval_shape(lambda: jax.random.key(0))
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), progress)
    program = jax.make_jaxpr(lambda *rest: own._step(LOCAL, *rest))(key, one.strategy, (), one.step)
    types = [str(value.aval.dtype) for value in products(program.jaxpr, length=8)]
    assert types == ["bfloat16"] * len(types) != []
    state, _, info = jax.eval_shape(
        lambda *rest: own._step(LOCAL, *rest), key, one.strategy, (), one.step
    )
    assert info.loss.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(state.centre)} == {jnp.dtype("float32")}


def products(jaxpr: Any, length: int, inside: bool = False) -> list[Any]:
    """Results of all products of matrices inside loops of so many turns."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general" and inside:
            found.append(equation.outvars[0])
        within = inside or equation.params.get("length") == length
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    found += products(inner, length, within)
    return found


def test_low_precision_learns_parity_too() -> None:
    task = nar.tasks.Parity(train_sizes=range(1, 4), test_sizes=(3,))
    arm = nar.Arm(nar.strategies.ES(population=128, sigma=0.1, noise=LowRank()), batch=32)
    losses = {}
    for dtype in ("float32", "bfloat16"):
        settings = Settings(nar.Budget(generations=160), forward_dtype=dtype)
        trained = Group("es", arm, Evaluator(task, nar.models.LSTM(hidden=8)), settings)
        program = trained.compile(1).run
        keys, progress = placement_keys(), trained.start([0])
        for _ in range(40):
            progress, (_, info) = program(keys, progress, jnp.asarray([4], jnp.int32))
        losses[dtype] = float(info.loss[0, -1])
    assert losses["float32"] < 0.3
    assert losses["bfloat16"] < 0.35


def placement_keys() -> jax.Array:
    return jax.vmap(jax.random.key)(jnp.asarray([0], jnp.uint32))
