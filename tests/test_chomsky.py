"""The fifteen Chomsky tasks against plain Python, which reads the strings that models see."""

from __future__ import annotations

import collections
import functools
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from evojax_nar.tasks import chomsky
from evojax_nar.tasks.chomsky import digits, expressions
from evojax_nar.tasks.chomsky.base import StringTask
from evojax_nar.tasks.chomsky.draws import above_zero, below
from evojax_nar.types import Batch

pytestmark = pytest.mark.usefixtures("quick_compile")

CLASSES: Any = chomsky.ALL
TASKS = [cls() for cls in CLASSES]
every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


@functools.partial(jax.jit, static_argnames=("task", "max_size"))
def sample(task: StringTask, key: jax.Array, sizes: np.ndarray, max_size: int) -> Batch:
    return task.sample(key, sizes, max_size=max_size, batch=len(sizes))


def read(task: StringTask, batch: Batch) -> Iterator[tuple[int, list[int], list[int], int]]:
    """Size, string, answer and judged steps of each example, out of what a model sees."""
    inputs, exists, judged, sizes = jax.device_get(
        (batch.inputs.values, batch.inputs.mask, batch.mask, batch.size)
    )
    truths = task.truths(batch)
    for row, size in enumerate(sizes):
        given = inputs[row][exists[row]]
        assert given.shape == (task.length(int(size)), task.symbols + 1)
        assert (given.sum(axis=1) == 1).all(), "one-hot"
        empty = given[:, -1].astype(bool)
        shown = int((~empty).sum())
        assert empty[shown:].all(), "nothing is shown once the empty steps begin"
        asked = judged[row].nonzero()[0]
        assert asked[0] == shown, "the first empty step is the first one judged"
        assert (np.diff(asked) == 1).all()
        tokens = given[:shown, :-1].argmax(axis=1).tolist()
        yield int(size), tokens, truths[row][asked].tolist(), int(empty.sum())


# The oracles: string to answer, in plain Python. Each checks what a string of its size may be.


def to_number(bits: list[int]) -> int:
    """Least significant bit first."""
    return int("".join(map(str, reversed(bits))) or "0", 2)


def to_tokens(number: int) -> list[int]:
    """Least significant bit first, without zeros at the end, and the end token."""
    return [*map(int, reversed(f"{number:b}")), 2]


def even_pairs(size: int, tokens: list[int]) -> list[int]:
    text = "".join(map(str, tokens))
    changes = sum(text[i : i + 2] in ("01", "10") for i in range(len(text)))
    return [changes % 2]


def modular_arithmetic(size: int, tokens: list[int]) -> list[int]:
    assert len(tokens) == (size if size % 2 else size - 1)
    assert all(token < 5 if i % 2 == 0 else 5 <= token <= 7 for i, token in enumerate(tokens))
    total, factors, sign = 0, [tokens[0]], 1
    for operator, digit in zip(tokens[1::2], tokens[2::2], strict=True):
        if operator == 7:
            factors.append(digit)
        else:
            total += sign * math.prod(factors)
            factors, sign = [digit], 1 if operator == 5 else -1
    return [(total + sign * math.prod(factors)) % 5]


def stack_manipulation(size: int, tokens: list[int]) -> list[int]:
    first_action = next((i for i, token in enumerate(tokens) if token >= 2), len(tokens))
    assert 1 <= first_action < max(size, 2)
    assert all(token >= 2 for token in tokens[first_action:])
    stack = tokens[:first_action]
    for action in tokens[first_action:]:
        stack = stack[:-1] if action == 2 else [*stack, action - 3]
    return [*stack[::-1], 2]


def missing_duplicate(size: int, tokens: list[int]) -> list[int]:
    if size == 1:
        assert tokens == [1]
        return [1]
    half = size // 2
    assert tokens[2 * half :] == [3] * (size % 2)
    [hidden] = [i for i, token in enumerate(tokens) if token == 2]
    whole = list(tokens[: 2 * half])
    whole[hidden] = tokens[(hidden + half) % (2 * half)]
    assert whole[:half] == whole[half:]
    return [whole[hidden]]


def two_numbers(size: int, tokens: list[int]) -> tuple[int, int]:
    assert tokens.count(2) == 1
    sign = tokens.index(2)
    first, second = to_number(tokens[:sign]), to_number(tokens[sign + 1 :])
    assert 1 <= sign <= size - 2
    assert min(first, second) >= 1
    return first, second


def binary_addition(size: int, tokens: list[int]) -> list[int]:
    if size <= 2:
        assert to_number(tokens) < 2**size - 1
        return to_tokens(to_number(tokens))
    return to_tokens(sum(two_numbers(size, tokens)))


def binary_multiplication(size: int, tokens: list[int]) -> list[int]:
    if size <= 2:
        return [[2], [0, 2]][size - 1]
    return to_tokens(math.prod(two_numbers(size, tokens)))


def compute_sqrt(size: int, tokens: list[int]) -> list[int]:
    number = to_number(tokens[::-1])
    assert number >= 1
    return [int(digit) for digit in f"{math.isqrt(number):0{(size + 1) // 2}b}"]


def parse(text: str) -> tuple[int, str]:
    """Value modulo 5 of the expression that `text` begins with, and the rest of the text."""
    if text[0] == "-":
        value, rest = int(text[1]), text[2:]
        return -value % 5, rest
    if text[0] != "(":
        return int(text[0]), text[1:]
    left, rest = parse(text[1:])
    if rest[0] == ")":
        return left, rest[1:]
    right, after = parse(rest[1:])
    assert after[0] == ")"
    whole = {"+": left + right, "-": left - right, "*": left * right}[rest[0]]
    return whole % 5, after[1:]


def expression(tokens: list[int], symbols: str = "01234+-*()") -> str:
    return "".join(symbols[token] for token in tokens)


def brackets(size: int, tokens: list[int]) -> list[int]:
    value, rest = parse(expression(tokens))
    assert rest == ""
    return [value]


def solve_equation(size: int, tokens: list[int]) -> list[int]:
    if size < 3:
        assert tokens == [0] * size
        return [0]
    text = expression(tokens, "01234+-()x=")
    assert (text.count("x"), text.count("="), text[-2]) == (1, 1, "=")
    solutions = []
    for digit in "01234":
        value, rest = parse(text[:-2].replace("x", digit))
        assert rest == ""
        solutions += [int(digit)] * (value == int(text[-1]))
    assert len(solutions) == 1, "one solution alone"
    return solutions


ORACLES: dict[str, Callable[[int, list[int]], list[int]]] = {
    "even_pairs": even_pairs,
    "modular_arithmetic": modular_arithmetic,
    "parity_check": lambda size, tokens: [tokens.count(1) % 2],
    "cycle_navigation": lambda size, tokens: [(tokens.count(2) - tokens.count(0)) % 5],
    "stack_manipulation": stack_manipulation,
    "reverse_string": lambda size, tokens: tokens[::-1],
    "modular_arithmetic_brackets": brackets,
    "solve_equation": solve_equation,
    "duplicate_string": lambda size, tokens: tokens + tokens,
    "missing_duplicate_string": missing_duplicate,
    "odds_first": lambda size, tokens: tokens[1::2] + tokens[::2],
    "binary_addition": binary_addition,
    "binary_multiplication": binary_multiplication,
    "compute_sqrt": compute_sqrt,
    "bucket_sort": lambda size, tokens: sorted(tokens),
}
OUTPUT_LENGTHS: dict[str, Callable[[int], int]] = {
    "stack_manipulation": lambda n: n + 1,
    "reverse_string": lambda n: n,
    "duplicate_string": lambda n: 2 * n,
    "odds_first": lambda n: n,
    "binary_addition": lambda n: n + 1,
    "binary_multiplication": lambda n: n,
    "compute_sqrt": lambda n: math.ceil(n / 2),
    "bucket_sort": lambda n: n,
}


def check(task: StringTask, batch: Batch) -> None:
    name = task.name.removeprefix("chomsky/")
    for size, tokens, answer, empty in read(task, batch):
        assert len(tokens) == (size - 1 + size % 2 if name == "modular_arithmetic" else size)
        assert empty == OUTPUT_LENGTHS.get(name, lambda n: 1)(size)
        assert answer == ORACLES[name](size, tokens)


@every_task
def test_answers_are_right_at_every_small_size(task: StringTask) -> None:
    sizes = np.repeat(np.arange(1, 14, dtype=np.int32), 16)
    check(task, sample(task, jax.random.key(0), sizes, 13))


@every_task
def test_answers_are_right_at_the_largest_sizes(task: StringTask) -> None:
    sizes = np.asarray([500, 499, 100, 41], np.int32)
    check(task, sample(task, jax.random.key(1), sizes, 500))


# What is drawn: every string of a small size, with its probability by the definition.


def product(*alphabets: Iterable[int]) -> dict[tuple[int, ...], Fraction]:
    strings = list(itertools.product(*alphabets))
    return {string: Fraction(1, len(strings)) for string in strings}


def mixture(
    parts: Iterable[dict[tuple[int, ...], Fraction]],
) -> dict[tuple[int, ...], Fraction]:
    parts = list(parts)
    total: dict[tuple[int, ...], Fraction] = collections.defaultdict(Fraction)
    for part in parts:
        for string, chance in part.items():
            total[string] += chance / len(parts)
    return dict(total)


def all_expressions(length: int, operators: str, digits: str) -> dict[str, Fraction]:
    if length <= 4:
        form = ["{}", "-{}", "({})", "(-{})"][length - 1]
        return {form.format(digit): Fraction(1, len(digits)) for digit in digits}
    total: dict[str, Fraction] = collections.defaultdict(Fraction)
    for left in range(1, length - 3):
        heads = all_expressions(left, operators, digits).items()
        tails = all_expressions(length - left - 3, operators, digits).items()
        for (head, p), operator, (tail, q) in itertools.product(heads, operators, tails):
            total[f"({head}{operator}{tail})"] += p * q / (len(operators) * (length - 4))
    return dict(total)


def all_equations(size: int) -> dict[tuple[int, ...], Fraction]:
    total: dict[tuple[int, ...], Fraction] = collections.defaultdict(Fraction)
    for text, chance in all_expressions(size - 2, "+-", "01234").items():
        for place in range(len(text)):
            around = [*range(place, len(text)), *range(place)]
            unknown = next(at for at in around if text[at].isdigit())
            whole = f"{text[:unknown]}x{text[unknown + 1 :]}={parse(text)[0]}"
            total[tuple(map("01234+-()x=".index, whole))] += chance / len(text)
    return dict(total)


def all_sums(size: int) -> dict[tuple[int, ...], Fraction]:
    parts = []
    for length in range(1, size - 1):
        numbers = (
            [bits for bits in itertools.product((0, 1), repeat=count) if any(bits)]
            for count in (length, size - 1 - length)
        )
        pairs = [(*first, 2, *second) for first, second in itertools.product(*numbers)]
        parts.append({pair: Fraction(1, len(pairs)) for pair in pairs})
    return mixture(parts)


def all_hidden(size: int) -> dict[tuple[int, ...], Fraction]:
    half = size // 2
    return mixture(
        {
            (*whole[:place], 2, *whole[place + 1 :], *[3] * (size % 2)): chance
            for whole, chance in (
                ((*bits, *bits), chance) for bits, chance in product(*[(0, 1)] * half).items()
            )
        }
        for place in range(2 * half)
    )


BITS = product(*[(0, 1)] * 4)
DISTRIBUTIONS: dict[str, dict[tuple[int, ...], Fraction]] = {
    "even_pairs": BITS,
    "modular_arithmetic": product(range(5), (5, 6, 7), range(5)),
    "parity_check": BITS,
    "cycle_navigation": product(*[range(3)] * 3),
    "stack_manipulation": mixture(
        product(*[(0, 1)] * first, *[(2, 3, 4)] * (4 - first)) for first in (1, 2, 3)
    ),
    "reverse_string": BITS,
    "modular_arithmetic_brackets": {
        tuple(map("01234+-*()".index, text)): chance
        for text, chance in all_expressions(6, "+-*", "01234").items()
    },
    "solve_equation": all_equations(7),
    "duplicate_string": BITS,
    "missing_duplicate_string": all_hidden(5),
    "odds_first": BITS,
    "binary_addition": all_sums(5),
    "binary_multiplication": all_sums(5),
    "compute_sqrt": {bits: Fraction(1, 7) for bits in product(*[(0, 1)] * 3) if any(bits)},
    "bucket_sort": product(*[range(5)] * 2),
}


def assert_drawn(counts: collections.Counter[Any], expected: dict[Any, Fraction]) -> None:
    assert sum(expected.values()) == 1
    assert set(counts) <= set(expected)
    total = sum(counts.values())
    observed = [counts[string] for string in expected]
    chances = [float(chance) * total for chance in expected.values()]
    assert min(chances) >= 5, "enough of each for the statistic to be what it should"
    # With seeds fixed, a right sampler fails once in a thousand when somebody changes the draws.
    assert stats.chisquare(observed, chances).pvalue > 1e-3


@every_task
def test_strings_are_drawn_as_defined_for_their_own_size(task: StringTask) -> None:
    expected = DISTRIBUTIONS[task.name.removeprefix("chomsky/")]
    size = len(next(iter(expected)))
    # Padded to more than the size, beside examples of another size.
    sizes = np.where(np.arange(6000) % 3 == 0, 9, size).astype(np.int32)
    batch = sample(task, jax.random.key(2), sizes, 9)
    tokens = np.asarray(batch.inputs.values)[sizes == size, :size].argmax(axis=2)
    assert_drawn(collections.Counter(map(tuple, tokens.tolist())), expected)


@pytest.mark.parametrize("operators", ["+-", "+-*"])
def test_longer_expressions_have_the_shapes_of_the_recursive_definition(operators: str) -> None:
    length, examples = 11, 6000
    words = jax.random.bits(jax.random.key(3), (examples, 16, 2), jnp.uint32)
    generate = jax.jit(functools.partial(expressions.generate, operators=len(operators)))
    made = jax.device_get(generate(words, jnp.full(examples, length)))
    assert not made.tokens[:, length:].any()
    shapes = ["".join("ddddd+-*()"[token] for token in row) for row in made.tokens[:, :length]]
    expected = all_expressions(length, operators, "d")
    assert len(expected) > 40
    assert_drawn(collections.Counter(shapes), expected)
    places = made.tokens[:, :length]
    drawn = collections.Counter(places[places < 5].tolist())
    assert_drawn(drawn, {digit: Fraction(1, 5) for digit in range(5)})


# The arithmetic underneath.


def to_bits(numbers: list[int], length: int) -> jax.Array:
    return jnp.asarray([[number >> place & 1 for place in range(length)] for number in numbers])


def to_numbers(bits: jax.Array) -> list[int]:
    return [to_number(row) for row in np.asarray(bits).tolist()]


def test_digits_agree_with_whole_numbers_of_python() -> None:
    length = 300
    generator = random.Random(4)
    ones = 2**150 - 1
    first = [0, 1, ones, ones, 2**149, *(generator.getrandbits(150) for _ in range(11))]
    second = [0, ones, ones, 1, 2**149, *(generator.getrandbits(150) for _ in range(11))]
    a, b = to_bits(first, length), to_bits(second, length)
    pairs = list(zip(first, second, strict=True))
    assert to_numbers(jax.jit(digits.add)(a, b)) == [x + y for x, y in pairs]
    assert to_numbers(jax.jit(digits.multiply)(a, b)) == [x * y for x, y in pairs]
    less, negative = jax.jit(digits.subtract)(a, b)
    assert negative.tolist() == [x < y for x, y in pairs]
    assert to_numbers(less) == [(x - y) % 2**length for x, y in pairs]
    # Squares and their neighbours, where a root is easily one too small or too large.
    squares = [number**2 + change for number in first[1:] for change in (-1, 0, 1)]
    backwards = to_bits(squares, length)[:, ::-1].reshape(len(squares), length // 2, 2)
    roots = jax.jit(digits.square_root)(backwards)
    assert to_numbers(roots[:, ::-1]) == [math.isqrt(number) for number in squares]


def test_a_word_below_a_bound_is_the_upper_half_of_their_product() -> None:
    generator = random.Random(5)
    words = [0, 1, 2**32 - 1, 2**31, 2**16 - 1, *(generator.getrandbits(32) for _ in range(95))]
    bounds = [1, 2, 5, 497, 65_536, 65_537, 200_000, 2**30, 2**31 - 1]
    for bound in bounds:
        found = below(jnp.asarray(words, jnp.uint32), bound)
        assert found.tolist() == [word * bound >> 32 for word in words]
    assert below(jnp.asarray(words[2:3], jnp.uint32), -3).tolist() == [0]


def test_a_number_is_above_zero_even_where_all_its_bits_are_zero() -> None:
    lengths = [1, 2, 7, 30, 31, 40, 0]
    word = [0, 2**32 - 1, 2**31, 2**32 - 1, 12_345, 2**32 - 1, 7]
    bits = jnp.zeros((len(lengths), 40), jnp.int32).at[2, 7:].set(1)
    arguments = jnp.asarray(lengths), jnp.asarray(word, jnp.uint32)
    found = to_numbers(above_zero(bits, *arguments))
    expected = [
        1 + (draw * (2 ** min(length, 30) - 1) >> 32) if length else 0
        for length, draw in zip(lengths, word, strict=True)
    ]
    assert found == expected
    kept = to_numbers(above_zero(jnp.ones_like(bits), *arguments))
    assert kept == [2**length - 1 for length in lengths]
