"""A user's file: reading it, and answers beside what is right."""

import io
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from evojax_nar import predict as prediction
from evojax_nar import readers
from evojax_nar.errors import InputError
from evojax_nar.models import MLP
from evojax_nar.tasks import Copy, Parity, Reverse, Sort, SortLetters, SortWords


class Oracle:
    """A model that is told the rule: outputs as a function of inputs, exact at any size."""

    def __init__(self, rule: Callable, limit: int | None = None) -> None:
        self.rule = rule
        self.limit = limit

    def max_size(self, spec):
        return self.limit

    def init(self, key, spec):
        return {}

    def apply(self, params, inputs, *, spec):
        return self.rule(inputs.values, inputs.mask)


def odd_so_far(values, mask):
    odd = jnp.cumsum(values[..., 1].astype(int), axis=1) % 2
    return jax.nn.one_hot(odd, 2)


def echo(values, mask):
    """Bits of the first half of a copy, moved behind the delimiter."""
    size = values.shape[1] // 2
    vectors = values[:, :size, :-1] - 0.5
    return jnp.concatenate([jnp.zeros_like(values[:, : size + 1, :-1]), vectors], axis=1)


def echo_backwards(values, mask):
    size = values.shape[1] // 2
    vectors = values[:, :size, :-1][:, ::-1] - 0.5
    return jnp.concatenate([jnp.zeros_like(values[:, : size + 1, :-1]), vectors], axis=1)


def rank_by(key):
    """Ranks of the keys, as fractions, in the second pass; `key` orders the features."""

    def rule(values, mask):
        size = values.shape[1] // 2
        order = jnp.argsort(key(values[:, :size, :-2]), axis=1, stable=True)
        ranks = jnp.argsort(order, axis=1) / max(size - 1, 1)
        return jnp.concatenate([jnp.zeros_like(ranks), ranks], axis=1)[..., None]

    return rule


def run(task, rule, path, **options):
    return prediction.predict(task, Oracle(rule), {}, path, **options)


def shown(answers) -> str:
    stream = io.StringIO()
    prediction.print_answers(answers, Console(file=stream, width=100))
    return stream.getvalue()


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("window", [3, 20, 1000])
def test_bits_of_a_file_are_counted_most_significant_first(tmp_path, window):
    content = np.random.default_rng(0).bytes(17)
    path = write(tmp_path / "file.bin", content)
    answers = run(Parity(), odd_so_far, path, window=window, limit=1000)
    text = "".join(f"{byte:08b}" for byte in content)
    pieces = [text[start : start + window] for start in range(0, len(text), window)]
    assert answers.windows == answers.exact == answers.right == len(pieces)
    assert [one.size for one in answers.shown] == [len(piece) for piece in pieces]
    for one, piece in zip(answers.shown, pieces, strict=True):
        assert one.true == one.predicted == ("odd" if piece.count("1") % 2 else "even")
        if len(piece) <= 20:
            assert one.input == piece
        assert one.beyond_training == (len(piece) > 20)


def test_wrong_answers_are_counted_over_all_windows(tmp_path):
    content = np.random.default_rng(1).bytes(50)
    path = write(tmp_path / "file.bin", content)

    def always_even(values, mask):
        return jnp.broadcast_to(jnp.array([1.0, 0.0]), values.shape)

    answers = run(Parity(), always_even, path, window=8, limit=2)
    assert answers.windows == 50
    assert answers.exact == sum(byte.bit_count() % 2 == 0 for byte in content)
    assert len(answers.shown) == 2
    text = shown(answers)
    assert "The first 2 of 50 windows" in text
    assert f"windows right: {answers.exact} of 50" in text


def test_more_windows_than_run_at_once_give_the_same_answers(tmp_path, monkeypatch):
    path = write(tmp_path / "file.bin", np.random.default_rng(2).bytes(100))

    def first_bit(values, mask):
        return jnp.broadcast_to(values[:, :1], values.shape)

    together = run(Parity(), first_bit, path, window=7, limit=200)
    monkeypatch.setattr(prediction, "WINDOWS_AT_ONCE", 10)
    assert run(Parity(), first_bit, path, window=7, limit=200) == together
    assert 0 < together.exact < together.windows


@pytest.mark.parametrize(
    ("task", "rule", "backwards"), [(Copy(), echo, False), (Reverse(), echo_backwards, True)]
)
def test_bytes_of_a_file_are_given_back(tmp_path, task, rule, backwards):
    content = b"hello, world!"
    answers = run(task, rule, write(tmp_path / "text", content), window=5, limit=5)
    assert (answers.windows, answers.exact, answers.positions) == (3, 3, 13 * 8)
    first = content[:5][::-1] if backwards else content[:5]
    assert answers.shown[0].predicted == answers.shown[0].true == first.hex(" ")
    assert answers.shown[0].input == content[:5].hex(" ")
    assert answers.shown[2].size == 3


def test_single_bits_count_in_the_total(tmp_path):
    def all_zero(values, mask):
        return jnp.full((*values.shape[:2], 8), -1.0)

    answers = run(Copy(), all_zero, write(tmp_path / "x", b"\x00\x01\x03\x00"), window=2)
    assert (answers.windows, answers.exact, answers.positions, answers.right) == (2, 0, 32, 29)
    assert "single answers right: 29 of 32 (90.6 %)" in shown(answers)


def test_numbers_of_a_column_are_ranked(tmp_path):
    path = write(tmp_path / "data.csv", "id,value\n1,30\n2,-1.5\n3,2e1\n4,7\n5,8\n6,9\n")
    answers = run(Sort(), rank_by(lambda keys: keys[..., 0]), path, window=4, column="value")
    assert [one.input for one in answers.shown] == ["30 -1.5 20 7", "8 9"]
    assert [one.true for one in answers.shown] == ["3 0 2 1", "0 1"]
    assert answers.exact == 2


def test_one_number_that_is_left_over_is_said(tmp_path):
    path = write(tmp_path / "data.csv", "3\n1\n2\n")
    answers = run(Sort(), rank_by(lambda keys: keys[..., 0]), path, window=2)
    assert (answers.windows, answers.left_out) == (1, 1)
    assert "too few for a window: 1" in shown(answers)


def test_letters_and_words_of_a_text_are_ranked(tmp_path):
    path = write(tmp_path / "text.txt", "The cat, a dog; é 12\nBed")
    letters = run(SortLetters(), rank_by(lambda keys: keys.argmax(axis=-1)), path, window=4)
    assert letters.shown[0].input == "thec"
    assert letters.shown[0].true == "3 2 1 0"

    def alphabetical(keys):
        places = keys.reshape(*keys.shape[:2], 4, 27).argmax(axis=-1)
        return (places * 27.0 ** jnp.arange(3, -1, -1)).sum(axis=-1)

    words = run(SortWords(), rank_by(alphabetical), path, window=5)
    assert words.shown[0].input.startswith("the")
    assert words.shown[0].true == "4 2 0 3 1"
    assert words.exact == 1


def test_a_model_of_one_length_gets_padded_windows(tmp_path):
    task, path = Parity(range(1, 6), 5), write(tmp_path / "x", b"abc")
    model = MLP(hidden=(4,))
    params = model.init(jax.random.key(0), task.spec)
    answers = prediction.predict(task, model, params, path, window=3)
    padded = task.encode_windows(np.unpackbits(np.frombuffer(b"abc", np.uint8)).reshape(-1, 3))
    values = jnp.pad(padded.inputs.values, ((0, 0), (0, 2), (0, 0)))
    mask = jnp.pad(padded.inputs.mask, ((0, 0), (0, 2)))
    outputs = model.apply(params, type(padded.inputs)(values, mask), spec=task.spec)
    said = ["odd" if odd else "even" for odd in outputs[:, 2].argmax(axis=-1).tolist()]
    assert [one.predicted for one in answers.shown] == said
    with pytest.raises(InputError, match=r"window=6 .* at most 5"):
        prediction.predict(task, model, params, path, window=6)


def test_missing_answers_are_wrong(tmp_path):
    def nothing(values, mask):
        return jnp.full(values.shape, jnp.nan)

    answers = run(Parity(), nothing, write(tmp_path / "x", b"x"), window=8)
    assert answers.exact == 0
    assert answers.shown[0].predicted == "?"


def test_what_stands_in_a_file_is_not_markup(tmp_path):
    path = write(tmp_path / "x.txt", "bold red")
    answers = run(SortWords(), rank_by(lambda keys: keys.sum(axis=-1)), path, window=2)
    text = shown(prediction.Answers(**{**vars(answers), "shown": (marked(answers),)}))
    assert "[bold]" in text


def marked(answers):
    return prediction.Window(**{**vars(answers.shown[0]), "input": "[bold]"})


@pytest.mark.parametrize(
    ("task", "options", "said"),
    [
        (Parity(), {"window": 0}, "window=0"),
        (Parity(), {"window": 10**6}, "window=1000000"),
        (Parity(), {"limit": -1}, "limit=-1"),
        (Parity(), {"column": "x"}, "column='x'"),
        (Copy(width=4), {}, "width=4"),
        (Sort(), {"window": 1}, "window=1"),
        (SortWords(word_length=2), {}, "word 'abc'"),
    ],
)
def test_options_that_are_refused(tmp_path, task, options, said):
    with pytest.raises(InputError) as caught:
        run(task, odd_so_far, write(tmp_path / "x", "abc abc"), **options)
    assert said in str(caught.value)


class OwnTask:
    """A task that reads no files."""

    name = "own"


def test_a_task_without_a_reader_is_refused(tmp_path):
    with pytest.raises(InputError, match="task='own'"):
        run(OwnTask(), odd_so_far, write(tmp_path / "x", "abc"))


def test_a_window_beyond_the_memory_is_refused_before_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction.cost, "available_bytes", lambda: 1000)
    with pytest.raises(InputError, match=r"window=400 needs at least .* 1000 B are free"):
        run(Parity(), odd_so_far, write(tmp_path / "x", b"x" * 50), window=400)


CSV = {
    "one column": ("1\n2\n3\n", None, [1, 2, 3]),
    "header": ("value\n1\n2\n", None, [1, 2]),
    "name": ("a,b\n1,2\n3,4\n", "b", [2, 4]),
    "place": ("a,b\n1,2\n3,4\n", "0", [1, 3]),
    "numbers as header": ("2020,2021\n1,2\n", "2021", [2]),
    "place in a header of numbers": ("1,0\n5,6\n", "0", [1, 5]),
    "no header": ("1,2\n3,4\n", "1", [2, 4]),
    "byte-order mark": (b"\xef\xbb\xbfvalue\n1\n", None, [1]),
    "byte-order mark before a name": (b"\xef\xbb\xbfvalue,b\n1,2\n", "value", [1]),
    "windows lines": ("v\r\n1\r\n2\r\n", None, [1, 2]),
    "blank lines": ("v\n\n1\n\n2\n\n", None, [1, 2]),
    "quotes": ('"a","b"\n"1","2"\n', "b", [2]),
    "semicolons": ("a;b\n1;2\n", "b", [2]),
    "tabs": ("a\tb\n1\t2\n", "b", [2]),
    "spaces": (" a , b \n 1 , 2 \n", "b", [2]),
    "text beside": ("name,n\nx,1\ny,2\n", "n", [1, 2]),
    "forms": ("v\n-1.5e3\n.5\n+2\n7.\n1e39\n", None, [-1500, 0.5, 2, 7, 1e39]),
}


@pytest.mark.parametrize("name", CSV)
def test_columns(name, tmp_path):
    content, column, expected = CSV[name]
    path = write(tmp_path / "data.csv", content)
    assert readers.read_column(path, column).tolist() == expected


BAD_CSV = {
    "empty": ("", None, ["is empty"]),
    "blank": ("\n\n", None, ["no rows"]),
    "header alone": ("value\n", None, ["header and no rows"]),
    "ragged": ("a,b\n1,2\n3\n", "a", ["line 3", "1 cells", "2"]),
    "too long": ("a,b\n1,2\n3,4,5\n", "a", ["line 3", "3 cells"]),
    "word": ("v\n1\napple\n", None, ["line 3", "'apple'"]),
    "not a number": ("v\n1\nNaN\n", None, ["line 3", "'NaN'"]),
    "infinite": ("v\n1\n-inf\n", None, ["line 3", "'-inf'"]),
    "first is not a number": ("nan\n1\n", None, ["line 1", "'nan'"]),
    "overflow": ("v\n1e999\n", None, ["line 2", "'1e999'"]),
    "underscore": ("v\n1_000\n", None, ["line 2", "'1_000'"]),
    "hexadecimal": ("v\n0x10\n", None, ["line 2", "'0x10'"]),
    "decimal comma": ("a;b\n1,5;2\n", "a", ["'1,5'"]),
    "empty cell": ("a,b\n1,\n", "b", ["line 2", "empty cell"]),
    "no column": ("a,b\n1,2\n", None, ["column", "'a', 'b'"]),
    "unknown column": ("price,size\n1,2\n", "prize", ["'prize'", "'price'"]),
    "unknown place": ("a,b\n1,2\n", "2", ["column='2'", "0 to 1"]),
    "negative place": ("a,b\n1,2\n", "-1", ["'-1'"]),
    "name without header": ("1,2\n3,4\n", "b", ["column='b'", "no header"]),
    "twice": ("a,a\n1,2\n", "a", ["column='a'", "two"]),
    "not text": (b"v\n\xff\xfe\n", None, ["not UTF-8 at byte 2"]),
    "open quote": ('v\n"1\n', None, ["line", "not CSV"]),
    "long cell": ("v\n" + "1" * 200_000 + "\n", None, ["line 2"]),
    "control characters": ("v\n\x1b[31m\n", None, ["line 2", "\\x1b"]),
}


@pytest.mark.parametrize("name", BAD_CSV)
def test_columns_that_are_refused(name, tmp_path):
    content, column, said = BAD_CSV[name]
    path = write(tmp_path / "data.csv", content)
    with pytest.raises(InputError) as caught:
        readers.read_column(path, column)
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert len(sentence) < 400
    for part in said:
        assert part in sentence


@pytest.mark.parametrize("read", [readers.read_bits, readers.read_column, readers.read_words])
def test_files_that_are_not_there(read, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "nothing")
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(InputError, match="is empty"):
        read(write(tmp_path / "empty", b""))
    monkeypatch.setattr(readers, "MAX_BYTES", 4)
    with pytest.raises(InputError, match="is over"):
        read(write(tmp_path / "large", b"12345"))


def test_a_text_without_letters_is_refused(tmp_path):
    with pytest.raises(InputError, match="no letter"):
        readers.read_words(write(tmp_path / "x", "123"))
