"""The stack and the tape of Deletang et al. against lists in plain Python, and programs by hand."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evojax_nar as nar
from evojax_nar.errors import InputError
from evojax_nar.models.memory import stack as stack_file
from evojax_nar.models.memory import tape as tape_file
from evojax_nar.models.memory.stack import StackRNN
from evojax_nar.models.memory.tape import TapeRNN
from evojax_nar.types import Model, Sequence

TASK = nar.tasks.get("chomsky/reverse_string", train_sizes=(1, 2, 3))
SPEC = TASK.spec
"""Inputs of three features (0, 1, empty) and outputs of two (0, 1)."""
BATCH, TIME = 3, 9
STEPS = np.asarray([9, 6, 1])
"""How many there are of the inputs of each example."""
MACHINES: list[Any] = [StackRNN, TapeRNN]
every_machine = pytest.mark.parametrize("machine", MACHINES)
pytestmark = pytest.mark.usefixtures("quick_compile")


def inputs(time: int = TIME, *, ending: int = 3, seed: int = 0) -> Sequence:
    """Random inputs, of which the last `ending` steps of an example are equal where it has more."""
    values = np.random.default_rng(seed).normal(size=(BATCH, time, 3)).astype(np.float32)
    for row, steps in zip(values, STEPS, strict=True):
        row[max(0, steps - ending) :] = (0, 0, 1)
        row[steps:] = 0
    return Sequence(jnp.asarray(values), jnp.asarray(np.arange(time) < STEPS[:, None]))


@functools.partial(jax.jit, static_argnames="model")
def look(model: Any, params: Any, given: Sequence) -> Any:
    return model.inspect(params, given, spec=SPEC)


def fresh(model: Any, seed: int = 0) -> Any:
    """Parameters large enough for actions to be far from even."""
    params = jax.jit(lambda: model.init(jax.random.key(seed), SPEC))()
    return jax.tree.map(lambda leaf: 2 * leaf + 0.1, params)


def dense(params: Any, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params.get("bias", 0.0))


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def mixed(weights: np.ndarray, memories: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The mixture of some memories, each a list of cells."""
    return [
        sum((w * cell for w, cell in zip(weights, cells, strict=True)), np.zeros(2))
        for cells in zip(*memories, strict=True)
    ]


def after_a_stack(cells: list[np.ndarray], weights: np.ndarray, value: np.ndarray) -> Any:
    empty = np.zeros_like(value)
    return mixed(weights, [[value, *cells[:-1]], [*cells[1:], empty], cells])


def turned(cells: list[np.ndarray], by: int) -> list[np.ndarray]:
    """A ring as it lies under a head that has gone `by` cells to the right."""
    return [cells[(place + by) % len(cells)] for place in range(len(cells))]


def after_a_tape(
    cells: list[np.ndarray], weights: np.ndarray, value: np.ndarray, jump: int
) -> list[np.ndarray]:
    written = [value, *cells[1:]]
    return mixed(weights, [turned(written, by) for by in (0, -1, 1, -jump, jump)])


def oracle(
    params: Any, rows: np.ndarray, sharpness: float, memories: int, cells: int, jump: int | None
) -> Any:
    """Outputs, actions and what is read, of one example (T, F) of a stack, or of a tape that jumps.

    One cell after the other, from the equations.
    """
    ((_, cell),) = params.items()
    state = np.zeros(cell["controller"]["h"]["kernel"].shape[0])
    memory = [[np.zeros(2) for _ in range(cells)] for _ in range(memories)]
    said = []
    for x in rows:
        read = np.stack([own[0] for own in memory])
        state = np.tanh(
            dense(cell["controller"]["i"], np.concatenate([x, read.ravel()]))
            + dense(cell["controller"]["h"], state)
        )
        scores = sharpness * dense(cell["scores"], state).reshape(memories, -1)
        actions = np.stack([softmax(own) for own in scores])
        values = dense(cell["value"], state).reshape(memories, 2)
        for place in range(memories):
            given = memory[place], actions[place], values[place]
            memory[place] = after_a_stack(*given) if jump is None else after_a_tape(*given, jump)
        said.append((dense(cell["outputs"], state), actions, read))
    return [np.stack(part) for part in zip(*said, strict=True)]


@pytest.mark.parametrize("depth", [None, 1, 3])
def test_stack_is_its_equation(depth: int | None) -> None:
    model = StackRNN(hidden=5, cell_width=2, depth=depth, stacks=2, sharpness=1.5)
    params, given = fresh(model), inputs()
    outputs, shown = look(model, params, given)
    assert shown["actions"].shape == (TIME, BATCH, 2, 3)
    # Without a bottom no oracle of fewer than T cells is right, unless nothing of it is seen.
    cells = TIME if depth is None else depth
    for row in range(BATCH):
        wanted = oracle(params, np.asarray(given.values)[row], 1.5, 2, cells, jump=None)
        for ours, theirs in zip(
            (outputs[row], shown["actions"][:, row], shown["top"][:, row]), wanted, strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    # Actions are neither even nor hard, so that the mixture is tried.
    assert 0.4 < np.asarray(shown["actions"]).max(axis=-1).mean() < 0.95


@pytest.mark.parametrize(("cells", "lag"), [(None, 0), (None, 1), (1, 0), (4, 1), (30, 0)])
def test_tape_is_its_equation(cells: int | None, lag: int) -> None:
    model = TapeRNN(hidden=5, cell_width=2, tape=cells, tapes=2, lag=lag, sharpness=1.5)
    params, given = fresh(model), inputs()
    outputs, shown = look(model, params, given)
    assert shown["actions"].shape == (TIME, BATCH, 2, 5)
    for row, (steps, length) in enumerate(zip(STEPS, (6, 3, 0), strict=True)):
        own = slice(0, steps)
        rows = np.asarray(given.values)[row, own]
        wanted = oracle(
            params, rows, 1.5, 2, steps if cells is None else cells, max(length - lag, 0)
        )
        for ours, theirs in zip(
            (outputs[row, own], shown["actions"][own, row], shown["cell"][own, row]),
            wanted,
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert 0.25 < np.asarray(shown["actions"]).max(axis=-1).mean() < 0.95


# Hard actions: a stack, and a tape, as everybody knows them.


def hard(actions: np.ndarray, count: int) -> jax.Array:
    return jnp.asarray(np.eye(count, dtype=np.float32)[actions])


def test_hard_actions_are_a_stack() -> None:
    random = np.random.default_rng(1)
    actions = random.choice(3, p=[0.4, 0.4, 0.2], size=(200, BATCH, 2))
    values = random.normal(size=(200, BATCH, 2, 4)).astype(np.float32)
    step = jax.jit(stack_file.updated)
    given: Any = np.zeros((BATCH, 8, 2, 4), np.float32)
    lists: list[list[np.ndarray]] = [[] for _ in range(2 * BATCH)]
    empty_pops = lost = 0
    for action, value in zip(actions, values, strict=True):
        given = step(given, hard(action, 3), value)
        for own, what, new in zip(lists, action.ravel(), value.reshape(-1, 4), strict=True):
            if what == 0:
                own.append(new)
                lost += len(own) > 8
                del own[:-8]
            elif what == 1 and own:
                own.pop()
            elif what == 1:
                empty_pops += 1
        for own, cells in zip(lists, np.moveaxis(given, 1, 2).reshape(-1, 8, 4), strict=True):
            wanted = np.zeros((8, 4), np.float32)
            wanted[: len(own)] = own[::-1] or 0
            np.testing.assert_array_equal(cells, wanted)
    assert empty_pops > 10
    assert lost > 0


def test_hard_actions_are_a_tape() -> None:
    random = np.random.default_rng(2)
    ring, jump = np.asarray([12, 7, 1]), np.asarray([5, 6, 0])
    actions = random.integers(5, size=(200, BATCH, 2))
    step = jax.jit(tape_file.moved)
    # What is not on the ring must never be read.
    content = random.normal(size=(BATCH, 12, 2, 4)).astype(np.float32)
    tapes = [[content[row, : ring[row], own] for own in range(2)] for row in range(BATCH)]
    heads = np.zeros((BATCH, 2), int)
    given: Any = content
    for action in actions:
        given = step(given, hard(action, 5), ring, jump)
        moves = np.asarray([[0, -1, 1, -far, far] for far in jump])
        heads = heads + np.take_along_axis(moves, action, axis=1)
        for row in range(BATCH):
            for own in range(2):
                places = (heads[row, own] + np.arange(ring[row])) % ring[row]
                cells = np.asarray(given)[row, : ring[row], own]
                np.testing.assert_array_equal(cells, tapes[row][own][places])


def test_digits_are_exact_in_every_type() -> None:
    whole = np.asarray([0, 1, 255, 256, 257, 999, 1500, 65_535])
    for kind in (jnp.float32, jnp.bfloat16, jnp.float16):
        given = tape_file.digits(jnp.asarray(whole)).astype(kind)
        np.testing.assert_array_equal(tape_file.number(given), whole)


def test_input_length_is_what_comes_before_the_last_run() -> None:
    letters = ["abcc", "abab", "aaaa", "abbb..", "a", "aba..", "......"]
    codes = {"a": (1, 0), "b": (0, 1), "c": (1, 1)}
    values = np.zeros((len(letters), 6, 2), np.float32)
    mask = np.zeros((len(letters), 6), bool)
    for row, word in enumerate(letters):
        for place, letter in enumerate(word.rstrip(".")):
            values[row, place], mask[row, place] = codes[letter], True
    given = jax.jit(tape_file.input_length)(Sequence(jnp.asarray(values), jnp.asarray(mask)))
    assert given.tolist() == [2, 3, 0, 1, 0, 2, 0]
    sample = jax.jit(lambda key: TASK.sample(key, jnp.asarray([7, 12]), max_size=12, batch=2))
    assert tape_file.input_length(sample(jax.random.key(0)).inputs).tolist() == [7, 12]


# Programs by hand.

SURE = 50.0
"""What makes a tanh, or a softmax, as good as hard in float32."""


def test_a_stack_reverses_strings_of_any_length() -> None:
    """Units: the bit (0 where empty), whether it is empty, and the top, all as signs."""
    model = StackRNN(hidden=3, cell_width=1)
    from_input = [[-1, -1, 0], [1, -1, 0], [0, 1, 0], [0, 0, 1]]  # 0, 1, empty, top
    params = program(
        "StackCell_0",
        from_input=from_input,
        bias=[0, 0, 0],
        scores=([[0, 0, 0], [-1, 1, 0], [0, 0, 0]], [0, 0, -2]),
        value=[[1], [0], [0]],
        outputs=[[0, 0], [0, 0], [-1, 1]],
    )
    like(params, model)
    for size, batch in ((50, 16), (500, 2)):
        bits = np.random.default_rng(size).integers(2, size=(batch, size))
        given = strings(bits, 2 * size)
        outputs, shown = look(model, params, given)
        np.testing.assert_array_equal(np.asarray(outputs)[:, size:].argmax(-1), bits[:, ::-1])
        wanted = [0] * size + [1] * size
        assert np.asarray(shown["actions"])[:, 0, 0].argmax(axis=-1).tolist() == wanted


@pytest.mark.parametrize("lag", [0, 1])
def test_a_tape_repeats_strings_of_any_length(lag: int) -> None:
    """It writes bits to the right, jumps back from the first blank, and reads them; and so on.

    Units: the bit (0 where empty), whether it is empty, the cell as a sign (0 where blank), whether
    the cell is 1, and is -1, and the first bit, which holds itself up.
    """
    model = TapeRNN(hidden=6, cell_width=1, lag=lag)
    from_input = [
        [-1, -1, 0, 0, 0, -1],  # 0
        [1, -1, 0, 0, 0, 1],  # 1
        [0, 1, 0, 0, 0, 0],  # empty
        [0, 0, 1, 1, -1, 0],  # the cell
    ]
    jump_left = [0, 1, 0, -1, -1, 0]  # 3 where empty and blank, else at most 1
    params = program(
        "TapeCell_0",
        from_input=from_input,
        bias=[0, 0, 0, -0.5, -0.5, 0],
        holds=[0, 0, 0, 0, 0, 2],
        scores=([[0, 0, 0, by, 0] for by in jump_left], [-4, -4, 0, -2, -4]),
        value=[[1], [0], [1], [0], [0], [0]],
        outputs=[[0, 0], [0, 0], [-2, 2], [0, 0], [0, 0], [-1, 1]],
    )
    like(params, model)
    random = np.random.default_rng(3)
    sizes, time = (50, 13), 400
    bits = [random.integers(2, size=size) for size in sizes]
    outputs, shown = look(model, params, strings(bits, time))
    for row, own in enumerate(bits):
        # A jump takes a step, at which the first bit is said: too early by one without a lag.
        period = own if lag else [own[0], *own]
        said = np.asarray(outputs)[row, len(own) :].argmax(axis=-1)
        np.testing.assert_array_equal(said, np.resize(period, time - len(own)))
        jumps = np.asarray(shown["actions"])[len(own) :, row, 0, 3]
        wanted = np.arange(time - len(own)) % len(period) == 0
        np.testing.assert_allclose(jumps, wanted, atol=1e-9)


def strings(bits: Any, time: int) -> Sequence:
    """Strings of bits, each followed by empty steps up to T = `time`, as inputs."""
    tokens = np.full((len(bits), time), 2)
    for row, own in enumerate(bits):
        tokens[row, : len(own)] = own
    mask = jnp.ones(tokens.shape, bool)
    return Sequence(jnp.asarray(np.eye(3, dtype=np.float32)[tokens]), mask)


def program(
    name: str, *, from_input: Any, bias: Any, scores: Any, holds: Any = 0, **layers: Any
) -> Any:
    """A tree of parameters, all of it scaled to be sure; `holds` is what a unit gives to itself."""
    sure = lambda numbers: SURE * jnp.asarray(numbers, jnp.float32)  # noqa: E731
    hidden = len(bias)
    return {
        name: {
            "controller": {
                "i": {"kernel": sure(from_input), "bias": sure(bias)},
                "h": {"kernel": sure(np.eye(hidden) * holds)},
            },
            "scores": {"kernel": 4 * sure(scores[0]), "bias": 4 * sure(scores[1])},
            # Values are written as they are, so that a cell is -1, 0 or 1.
            "value": {"kernel": jnp.asarray(layers["value"], jnp.float32), "bias": jnp.zeros(1)},
            "outputs": {"kernel": sure(layers["outputs"]), "bias": jnp.zeros(2)},
        }
    }


def like(params: Any, model: Any) -> None:
    """The tree has the names and shapes that the model makes."""
    made = jax.eval_shape(lambda: model.init(jax.random.key(0), SPEC))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, made)


# Sizes that grow, gradients, settings.


def test_more_memory_changes_nothing_where_it_is_not_needed() -> None:
    given = inputs()
    for few, many in (
        (StackRNN(hidden=5, cell_width=2), StackRNN(hidden=5, cell_width=2, depth=40)),
        (TapeRNN(hidden=5, cell_width=2, tape=TIME), TapeRNN(hidden=5, cell_width=2)),
    ):
        params = fresh(few)
        ours, theirs = look(few, params, given)[0][:1], look(many, params, given)[0][:1]
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
        assert jax.tree.map(jnp.shape, fresh(many)) == jax.tree.map(jnp.shape, params)
    # Where it is needed, it is.
    shallow = StackRNN(hidden=5, cell_width=2, depth=2)
    params = fresh(shallow)
    deep = look(StackRNN(hidden=5, cell_width=2), params, given)[0]
    assert not np.allclose(look(shallow, params, given)[0], deep, atol=1e-4)


@every_machine
def test_padding_is_not_seen(machine: Any) -> None:
    model, given = machine.example(), inputs()
    params = fresh(model)
    longer = Sequence(
        jnp.pad(given.values, [(0, 0), (0, 20), (0, 0)], constant_values=7.0),
        jnp.pad(given.mask, [(0, 0), (0, 20)]),
    )
    mask = np.asarray(given.mask)
    ours = np.asarray(look(model, params, longer)[0])[:, :TIME][mask]
    np.testing.assert_allclose(ours, look(model, params, given)[0][mask], rtol=1e-5, atol=1e-6)


@every_machine
def test_sharpness_leaves_fresh_actions_as_they_are(machine: Any) -> None:
    given, seeds = inputs(), jax.random.split(jax.random.key(1), 64)

    def spread(sharpness: float) -> float:
        model = machine(hidden=16, sharpness=sharpness)
        each = jax.vmap(lambda key: model.inspect(model.init(key, SPEC), given, spec=SPEC)[1])
        return float(jnp.log(jax.jit(each)(seeds)["actions"]).std(axis=-1).mean())

    assert spread(5.0) == pytest.approx(spread(1.0), rel=0.15)
    assert spread(1.0) > 0.1


@every_machine
def test_gradients_are_finite(machine: Any) -> None:
    model = machine.example()

    @jax.jit
    def slope(params: Any, given: Sequence) -> Any:
        return jax.grad(lambda own: (model.apply(own, given, spec=SPEC) ** 2).mean())(params)

    given = inputs()
    nothing = Sequence(jnp.zeros_like(given.values), jnp.zeros_like(given.mask))
    for scale in (0.0, 1.0, 100.0):
        params = jax.tree.map(lambda leaf, scale=scale: scale * leaf, fresh(model))
        for own in (given, nothing):
            leaves = jax.tree.leaves(slope(params, own))
            assert all(np.isfinite(leaf).all() for leaf in leaves)
    # Memory is reached by it: of a loss at the last step, through what is done before.
    leaves = slope(fresh(model), given)
    ((_, cell),) = leaves.items()
    assert np.abs(cell["value"]["kernel"]).max() > 1e-6
    assert np.abs(cell["scores"]["kernel"]).max() > 1e-6


@every_machine
def test_members_are_evolved_without_fallback(machine: Any) -> None:
    model = machine()
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), SPEC))
    audit = nar.audit(model, params, spec=SPEC, strict=True)
    assert audit.fallback_bytes == 0
    assert {row.kind for row in audit.rows} == {"shared + rank 1", "dense"}


@pytest.mark.parametrize(
    ("machine", "settings"),
    [
        (StackRNN, {"hidden": 0}),
        (StackRNN, {"cell_width": 1.5}),
        (StackRNN, {"depth": 0}),
        (StackRNN, {"stacks": True}),
        (TapeRNN, {"hidden": "8"}),
        (TapeRNN, {"cell_width": -1}),
        (TapeRNN, {"tape": 0}),
        (TapeRNN, {"tapes": 0}),
        (TapeRNN, {"lag": -1}),
        (StackRNN, {"sharpness": 0.0}),
        (TapeRNN, {"sharpness": float("nan")}),
    ],
)
def test_settings_are_refused(machine: Any, settings: Any) -> None:
    with pytest.raises(
        InputError, match=f"^{next(iter(settings))}=.*; give a (whole|finite) number"
    ):
        machine(**settings)


@every_machine
def test_settings_build_an_equal_machine(machine: Any) -> None:
    for model in (machine(), machine.example()):
        twin = machine(**model.settings())
        assert twin == model
        assert hash(twin) == hash(model)
        assert isinstance(model, Model)
