"""Memory machines against their equations, written out in loops over examples, heads and slots."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import contracts
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax_nar as nar
from evojax_nar.models.memory import addressing
from evojax_nar.models.memory.dnc import DNC
from evojax_nar.models.memory.ntm import NTM, NTMLSTM
from evojax_nar.types import Field, Sequence, TaskSpec

pytestmark = pytest.mark.usefixtures("quick_compile")

SPEC = TaskSpec("any", (Field("in", "bits", 3),), (Field("out", "bits", 2),), 6, 6)
MACHINES = (NTM, NTMLSTM, DNC)
SMALL: dict[type, Any] = {
    NTM: NTM(hidden=4, slots=5, width=3, heads=2),
    NTMLSTM: NTMLSTM(hidden=4, slots=5, width=3, heads=2),
    DNC: DNC(hidden=4, slots=5, width=3, read_heads=2),
}
every_machine = pytest.mark.parametrize("cls", MACHINES, ids=[cls.name for cls in MACHINES])


def lively(model: Any, seed: int = 0, scale: float = 1.0) -> Any:
    """Parameters all of which matter, biases too; float32 NumPy arrays."""
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), SPEC))
    return jax.tree.map(
        lambda leaf: (scale * random.normal(size=leaf.shape)).astype(np.float32), shapes
    )


def some_inputs(time: int, batch: int = 2) -> Sequence:
    values = np.random.default_rng(1).normal(size=(batch, time, 3)).astype(np.float32)
    return Sequence(jnp.asarray(values), jnp.ones((batch, time), bool))


def inspect(model: Any, params: Any, time: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    run = jax.jit(lambda own, inputs: model.inspect(own, inputs, spec=SPEC))
    return jax.device_get(run(params, some_inputs(time)))


# The equations, one example at a time, in float64.


def sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def softmax(x: Any) -> np.ndarray:
    powers = [math.exp(one) for one in x]
    return np.array(powers) / sum(powers)


def dense(layer: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float64) @ layer["kernel"] + layer["bias"]


def lstm(layer: Any, state: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The next cells and units, with the gates i, f and o and the candidate g."""
    cells, units = state
    i, f, g, o = (
        x @ layer[f"i{gate}"]["kernel"] + dense(layer[f"h{gate}"], units) for gate in "ifgo"
    )
    cells = sigmoid(f) * cells + sigmoid(i) * np.tanh(g)
    return cells, sigmoid(o) * np.tanh(cells)


def by_content(memory: np.ndarray, key: np.ndarray, strength: float) -> np.ndarray:
    alike = []
    for slot in memory:
        lengths = [math.sqrt(sum(v * v for v in vector) + 1e-6) for vector in (key, slot)]
        product = sum(a * b for a, b in zip(key, slot, strict=True))
        alike.append(softplus(strength) * product / (lengths[0] * lengths[1]))
    return softmax(alike)


def written(memory: np.ndarray, writes: Any) -> np.ndarray:
    """After all heads have erased and then all added; `writes` holds weights, erase and add."""
    memory = memory.copy()
    for weights, erase, _ in writes:
        for slot, weight in enumerate(weights):
            memory[slot] *= 1.0 - weight * erase
    for weights, _, add in writes:
        for slot, weight in enumerate(weights):
            memory[slot] += weight * add
    return memory


def ntm_moves(aim: np.ndarray, memory: np.ndarray, last: np.ndarray) -> np.ndarray:
    width, slots = memory.shape[1], len(memory)
    strength, gate, sharpness = aim[width : width + 3]
    moves = softmax(aim[width + 3 :])
    found = by_content(memory, aim[:width], strength)
    mixed = sigmoid(gate) * found + (1 - sigmoid(gate)) * last
    moved = np.zeros(slots)
    for slot in range(slots):
        for by, share in zip((-1, 0, 1), moves, strict=True):
            moved[(slot + by) % slots] += share * mixed[slot]
    powers = moved ** (1 + softplus(sharpness))
    return powers / powers.sum()


def ntm(model: Any, params: Any, values: np.ndarray) -> tuple[Any, Any, Any]:
    """Outputs, read weights and write weights of one example (T, F)."""
    width, heads = model.width, model.heads
    memory, reads = np.zeros((model.slots, width)), np.zeros((heads, width))
    focus = np.array([1.0] + [0.0] * (model.slots - 1))
    read_weights, write_weights = [focus] * heads, [focus] * heads
    state = np.zeros(model.hidden), np.zeros(model.hidden)
    steps = []
    for x in values:
        seen = np.concatenate([x, reads.ravel()])
        if isinstance(model, NTMLSTM):
            state = lstm(params["controller"], state, seen)
            hidden = state[1]
        else:
            hidden = np.tanh(dense(params["controller"]["Dense_0"], seen))
        said = dense(params["write_heads"], hidden).reshape(heads, -1)
        write_weights = [
            ntm_moves(own[2 * width :], memory, last)
            for own, last in zip(said, write_weights, strict=True)
        ]
        memory = written(
            memory,
            [
                (weights, sigmoid(own[:width]), own[width : 2 * width])
                for weights, own in zip(write_weights, said, strict=True)
            ],
        )
        said = dense(params["read_heads"], hidden).reshape(heads, -1)
        read_weights = [
            ntm_moves(own, memory, last) for own, last in zip(said, read_weights, strict=True)
        ]
        reads = np.stack([weights @ memory for weights in read_weights])
        output = dense(params["read_out"], np.concatenate([hidden, reads.ravel()]))
        steps.append((output, read_weights, write_weights))
    outputs, reading, writing = zip(*steps, strict=True)
    return np.array(outputs), np.array(reading), np.array(writing)


def vacancies(usage: Any) -> np.ndarray:
    """The allocation: by usage, what is free of each slot once those before it are full."""
    given, full = np.zeros(len(usage)), 1.0
    for slot in sorted(range(len(usage)), key=lambda slot: usage[slot]):
        given[slot] = full * (1 - usage[slot])
        full *= usage[slot]
    return given


def dnc(model: DNC, params: Any, values: np.ndarray) -> tuple[Any, Any, Any, Any]:
    """Outputs, read weights, write weights and usage of one example (T, F)."""
    slots, width, heads = model.slots, model.width, model.read_heads
    memory, reads = np.zeros((slots, width)), np.zeros((heads, width))
    usage, precedence, links = np.zeros(slots), np.zeros(slots), np.zeros((slots, slots))
    reading, writing = np.zeros((heads, slots)), np.zeros(slots)
    state = np.zeros(model.hidden), np.zeros(model.hidden)
    steps = []
    for x in values:
        cells, hidden = lstm(params["controller"], state, np.concatenate([x, reads.ravel()]))
        state = np.clip(cells, -20, 20), hidden
        said = dense(params["read_heads"], hidden).reshape(heads, -1)
        for slot in range(slots):
            usage[slot] += (1 - usage[slot]) * writing[slot]
            for head in range(heads):
                usage[slot] *= 1 - sigmoid(said[head, -1]) * reading[head, slot]
        own = dense(params["write_head"], hidden)
        erase, add, key = own[:width], own[width : 2 * width], own[2 * width : 3 * width]
        strength, allocate, write = own[3 * width :]
        found = by_content(memory, key, strength)
        share = sigmoid(allocate)
        writing = sigmoid(write) * (share * vacancies(usage) + (1 - share) * found)
        memory = written(memory, [(writing, sigmoid(erase), add)])
        for i in range(slots):
            for j in range(slots):
                old = (1 - writing[i] - writing[j]) * links[i, j]
                links[i, j] = 0.0 if i == j else old + writing[i] * precedence[j]
        precedence = (1 - writing.sum()) * precedence + writing
        last, reading = reading, np.zeros((heads, slots))
        for head in range(heads):
            backward, forward, content = softmax(said[head, width + 1 : width + 4])
            found = by_content(memory, said[head, :width], said[head, width])
            for i in range(slots):
                before = sum(links[j, i] * last[head, j] for j in range(slots))
                after = sum(links[i, j] * last[head, j] for j in range(slots))
                reading[head, i] = backward * before + forward * after + content * found[i]
        reads = reading @ memory
        output = dense(params["read_out"], np.concatenate([hidden, reads.ravel()]))
        steps.append((np.clip(output, -20, 20), reading, [writing], usage.copy()))
    outputs, read, wrote, used = zip(*steps, strict=True)
    return np.array(outputs), np.array(read), np.array(wrote), np.array(used)


@every_machine
@pytest.mark.parametrize("time", [1, 6])
def test_a_machine_is_its_equations(cls: type, time: int) -> None:
    model = SMALL[cls]
    params = lively(model)
    (cell,) = params.values()
    outputs, shown = inspect(model, params, time)
    for row, values in enumerate(np.asarray(some_inputs(time).values, np.float64)):
        expected = dict(
            zip(
                ("outputs", "read_weights", "write_weights", "usage"),
                (dnc if cls is DNC else ntm)(model, cell, values),
                strict=False,
            )
        )
        np.testing.assert_allclose(outputs[row], expected.pop("outputs"), atol=1e-5, rtol=1e-5)
        for name, array in expected.items():
            np.testing.assert_allclose(shown[name][:, row], array, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("cls", [NTM, NTMLSTM])
def test_what_a_turing_machine_shows(cls: type) -> None:
    _, shown = inspect(SMALL[cls], lively(SMALL[cls], scale=3.0), 6)
    assert {name: array.shape for name, array in shown.items()} == {
        "read_weights": (6, 2, 2, 5),
        "write_weights": (6, 2, 2, 5),
        "erased": (6, 2, 2, 3),
        "added": (6, 2, 2, 3),
    }
    for name in ("read_weights", "write_weights"):
        assert (shown[name] >= 0).all()
        np.testing.assert_allclose(shown[name].sum(axis=-1), 1.0, atol=1e-5)
    assert ((shown["erased"] >= 0) & (shown["erased"] <= 1)).all()


def test_what_a_differentiable_computer_shows() -> None:
    _, shown = inspect(SMALL[DNC], lively(SMALL[DNC], scale=3.0), 6)
    assert {name: array.shape for name, array in shown.items()} == {
        "read_weights": (6, 2, 2, 5),
        "write_weights": (6, 2, 1, 5),
        "usage": (6, 2, 5),
        "free": (6, 2, 2),
        "allocation": (6, 2, 1),
        "write": (6, 2, 1),
    }
    for array in shown.values():
        assert ((array >= 0) & (array <= 1 + 1e-6)).all()
    for name in ("read_weights", "write_weights"):
        assert (shown[name].sum(axis=-1) <= 1 + 1e-5).all()
    assert (shown["write_weights"].sum(axis=-1) <= shown["write"] + 1e-6).all()


def test_outputs_are_cut_off_at_twenty() -> None:
    model = SMALL[DNC]
    params = lively(model)
    (cell,) = params.values()
    cell["read_out"]["bias"][:] = [100.0, -100.0]
    outputs, _ = inspect(model, params, 3)
    np.testing.assert_array_equal(outputs, np.broadcast_to([20.0, -20.0], outputs.shape))


# Addressing.


def test_a_machine_set_by_hand_steps_from_slot_to_slot() -> None:
    """With the gate shut and one move wanted, heads walk around the ring: writes on, reads back."""
    model = NTM(hidden=2, slots=4, width=2)
    params = jax.tree.map(np.zeros_like, lively(model))
    (cell,) = params.values()
    for layer, skipped, wanted in (("write_heads", 3 * 2, 2), ("read_heads", 2, 0)):
        place = cell[layer]["bias"][skipped:]
        place[1] = -40.0
        place[3 + wanted] = 40.0
    _, shown = inspect(model, params, 6)
    walk = np.eye(4)
    np.testing.assert_allclose(shown["write_weights"][:, 0, 0], walk[[1, 2, 3, 0, 1, 2]], atol=1e-6)
    np.testing.assert_allclose(shown["read_weights"][:, 0, 0], walk[[3, 2, 1, 0, 3, 2]], atol=1e-6)


def test_sharpening_is_a_power_and_has_a_slope_at_zero() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(6), size=3).astype(np.float32)
    for gamma in (1.0, 1.7, 6.0):
        powers = weights.astype(np.float64) ** gamma
        ours = addressing.sharpen(jnp.asarray(weights), jnp.full(3, gamma))
        np.testing.assert_allclose(ours, powers / powers.sum(axis=-1, keepdims=True), atol=1e-6)
    focus = jnp.eye(4)[0]
    np.testing.assert_allclose(addressing.sharpen(focus, jnp.array(1.0)), focus, atol=1e-7)
    slopes = jax.grad(lambda w, g: addressing.sharpen(w, g)[1], argnums=(0, 1))(focus, 2.0)
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_content_is_found_however_long_the_vectors_are() -> None:
    memory = jnp.asarray([[0.0, 0.0], [3.0, 0.0], [0.0, 5.0], [-1.0, 0.0]])
    keys = jnp.asarray([[0.1, 0.0], [20.0, 20.0]])
    weights = addressing.content_weights(memory, keys, jnp.asarray([50.0, 50.0]))
    np.testing.assert_allclose(weights, [[0, 1, 0, 0], [0, 0.5, 0.5, 0]], atol=1e-3)
    equal = addressing.content_weights(memory, keys, jnp.zeros(2))
    np.testing.assert_allclose(equal, 0.25, atol=1e-7)


@pytest.mark.parametrize(
    "usage",
    [
        [0.3, 0.9, 0.1, 0.6],
        [0.0, 0.0, 0.0, 0.0],
        [1.0, 1.0, 1.0, 1.0],
        [1.0, 0.5, 0.5, 0.0],
    ],
)
def test_the_least_used_slots_are_given_first(usage: list[float]) -> None:
    given = addressing.allocation(jnp.asarray(usage, jnp.float32))
    np.testing.assert_allclose(given, vacancies(usage), atol=1e-6)
    assert 0 <= float(given.sum()) <= 1 + 1e-6
    slope = jax.jacobian(addressing.allocation)(jnp.asarray(usage, jnp.float32))
    assert np.isfinite(slope).all()
    if len(set(usage)) == len(usage):  # no ties, so that a small change keeps the order
        small = 1e-6 * np.eye(4)
        for slot in range(4):
            up, down = vacancies(usage + small[slot]), vacancies(usage - small[slot])
            np.testing.assert_allclose(slope[:, slot], (up - down) / 2e-6, atol=1e-5)


def test_usage_grows_by_writes_and_falls_by_freed_reads() -> None:
    usage, write = jnp.asarray([0.5, 0.0, 1.0]), jnp.asarray([0.5, 1.0, 0.0])
    reads, free = jnp.asarray([[0.0, 0.5, 1.0], [0.0, 0.5, 0.0]]), jnp.asarray([1.0, 0.5])
    after = addressing.next_usage(usage, write, reads, free)
    np.testing.assert_allclose(after, [0.75, 0.5 * 0.75, 0.0], atol=1e-7)
    slope = jax.grad(lambda write: addressing.next_usage(usage, write, reads, free).sum())(write)
    np.testing.assert_array_equal(slope, 0.0)


def test_links_stay_a_chain() -> None:
    """No slot follows itself, and each row and column is shared out at most once."""

    @jax.jit
    def step(links: jax.Array, precedence: jax.Array, weights: jax.Array) -> Any:
        after = addressing.next_links(links, precedence, weights)
        return after, addressing.next_precedence(precedence, weights)

    random = np.random.default_rng(0)
    links, precedence = np.zeros((5, 5), np.float32), np.zeros(5, np.float32)
    for total in random.uniform(0, 1, size=20):
        weights = (total * random.dirichlet(0.3 * np.ones(5))).astype(np.float32)
        links, precedence = jax.device_get(step(links, precedence, weights))
        assert (links >= -1e-6).all()
        np.testing.assert_array_equal(np.diag(links), 0.0)
        for axis in (0, 1):
            assert (links.sum(axis=axis) <= 1 + 1e-5).all()
        assert float(precedence.sum()) <= 1 + 1e-5
    links, precedence = np.zeros((3, 3), np.float32), np.zeros(3, np.float32)
    for slot in (2, 0, 1):  # whole slots, one after the other
        links, precedence = step(links, precedence, np.eye(3, dtype=np.float32)[slot])
    np.testing.assert_array_equal(links, [[0, 0, 1], [1, 0, 0], [0, 0, 0]])


# As models.


def counted(model: Any, inputs: int, outputs: int) -> int:
    """Parameters by the equations: weights and a bias for everything that is emitted."""
    hidden, width = model.hidden, model.width
    heads = model.read_heads if isinstance(model, DNC) else model.heads
    seen, known = inputs + heads * width, hidden + heads * width
    lstm = 4 * hidden * (seen + hidden + 1)
    read_out = outputs * (known + 1)
    if isinstance(model, DNC):
        write = width + 1 + width + width + 1 + 1  # key, strength, erase, add, two gates
        read = width + 1 + 3 + 1  # key, strength, modes, free gate
        return lstm + (hidden + 1) * (write + heads * read) + read_out
    place = width + 1 + 1 + 3 + 1  # key, strength, gate, moves, sharpness
    controller = lstm if isinstance(model, NTMLSTM) else hidden * (seen + 1)
    return controller + (hidden + 1) * heads * (place + place + 2 * width) + read_out


@every_machine
def test_parameters_are_those_of_the_equations(cls: Any) -> None:
    for model, task in (
        (SMALL[cls], nar.tasks.Copy(width=3)),
        (cls(), nar.tasks.Copy()),
        (cls(), nar.tasks.get("memory/repeat_copy_dnc")),
    ):
        params = jax.eval_shape(lambda: model.init(jax.random.key(0), task.spec))  # noqa: B023
        spec = task.spec
        expected = counted(model, spec.input_features, spec.output_features)
        assert nar.models.parameter_count(params) == expected


def test_counts_are_as_the_documentation_says() -> None:
    """8-bit copy with the sizes of the paper, beside the 17,162 and 67,561 that it gives."""
    for model, published, said in ((NTM(), 17_162, "22.7 %"), (NTMLSTM(), 67_561, "7.8 %")):
        ours = counted(model, 9, 8)
        text = " ".join((type(model).__doc__ or "").split())
        assert all(part in text for part in (f"{ours:,}", f"{published:,}", f"{said} fewer"))
        assert f"{100 * (1 - ours / published):.1f} %" == said


@every_machine
def test_more_slots_take_the_same_parameters(cls: Any) -> None:
    model = SMALL[cls]
    larger = dataclasses.replace(model, slots=9)
    params = lively(model)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, lively(larger))
    outputs, shown = inspect(larger, params, 6)
    assert shown["read_weights"].shape[-1] == 9
    assert np.isfinite(outputs).all()


@every_machine
def test_gradients_are_finite(cls: Any) -> None:
    """At usual parameters and at large ones, from a memory in which all slots are alike."""
    model, inputs = SMALL[cls], some_inputs(12)

    @jax.jit
    def slopes(params: Any) -> Any:
        return jax.grad(lambda own: jnp.square(model.apply(own, inputs, spec=SPEC)).sum())(params)

    for params in (contracts.fresh(model, contracts.KEY, SPEC), lively(model, 2, 4.0)):
        leaves = jax.tree.leaves(slopes(params))
        assert all(np.isfinite(leaf).all() for leaf in leaves)
        assert all(np.asarray(leaf).any() for leaf in leaves)


@every_machine
def test_no_noise_falls_back(cls: Any) -> None:
    model = cls.example()
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), SPEC))
    audit = nar.audit(model, params, spec=SPEC, strict=True)
    assert audit.fallback_bytes == 0
    assert {row.kind for row in audit.rows} == {"shared + rank 1", "dense"}


@every_machine
def test_bad_settings_are_refused(cls: Any) -> None:
    for field in dataclasses.fields(cls):
        for bad in (0, 2.5, True):
            with pytest.raises(nar.InputError, match=f"{field.name}={bad}.*whole number"):
                cls(**{field.name: bad})
