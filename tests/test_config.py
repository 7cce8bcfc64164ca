"""Configs: what is refused when they are read, and the way to objects and back."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

import evojax_nar
from evojax_nar import config, models, overrides, strategies, tasks, yaml_file
from evojax_nar.errors import InputError
from evojax_nar.types import Cost

SMALL = {
    "evojax_nar": 1,
    "task": {"name": "parity", "train_sizes": [1, 2], "test_sizes": [2, 4]},
    "model": {"name": "lstm", "hidden": 2},
    "arms": {
        "es": {
            "strategy": "es",
            "batch": 8,
            "population": 4,
            "sigma": 0.2,
            "optimizer": {"name": "adam", "learning_rate": 0.02},
        },
        "adam": {
            "strategy": "gradient",
            "batch": 16,
            "optimizer": {"name": "adam", "learning_rate": 0.005},
        },
    },
    "seeds": [0, 3],
    "budget": {"generations": 2},
    "stop_loss": None,
    "evaluation_examples": 8,
    "forward_dtype": "bfloat16",
    "replay": None,
    "readings": {"ensemble": {"members": 8}},
    "tuning": {"es": {"trials": 4, "seeds": [1000]}},
}

NOT_PLAIN = {
    "python tag": ("a: !!python/object/apply:os.system [ls]", "tag"),
    "own tag": ("a: !thing 1", "!thing"),
    "standard tag": ("a: !!str 1", "tag"),
    "anchor": ("a: &x 1", "anchor"),
    "alias bomb": ("a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]", "anchor"),
    "duplicate key": ("a: 1\nb: 2\na: 3", "'a' twice"),
    "nested duplicate": ("a: {b: 1, b: 2}", "'b' twice"),
    "two documents": ("a: 1\n---\nb: 2", "second document"),
    "infinity": ("a: [1, .inf]", ".inf"),
    "minus infinity": ("a: -.Inf", "-.Inf"),
    "not a number": ("a: .nan", ".nan"),
    "overflow": ("a: 1e999", "1e999"),
    "endless digits": ("a: " + "9" * 5000, "5000 digits"),
    "deep nesting": ("[" * 100_000, "deep"),
    "number as key": ("1: 2", "key 1"),
    "list as key": ("? [1]\n: 2", "key [...]"),
    "unclosed quote": ("a: 'x", "not YAML"),
    "unclosed list": ("a: [1, 2", "not YAML"),
    "tab": ("a:\n\t- b", "not YAML"),
    "control character": ("a: \x00", "\\x00"),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_yaml_that_is_not_plain_is_refused(name, tmp_path):
    text, said = NOT_PLAIN[name]
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        yaml_file.read(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_name_the_line(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("a: 1\nb:\n  c: 2\n  c: 3\n")
    with pytest.raises(InputError, match="on line 4"):
        yaml_file.read(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"a: \xff", "not UTF-8 at byte 3"),
        (b"# " + b"x" * yaml_file.MAX_BYTES, "over 1 MiB"),
    ],
)
def test_files_that_are_not_text_are_refused(data, said, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(data)
    with pytest.raises(InputError, match=said):
        yaml_file.read(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        config.load_yaml(tmp_path / "nothing.yaml")
    with pytest.raises(InputError, match="is a folder"):
        config.load_yaml(tmp_path)
    with pytest.raises(InputError, match="not a path"):
        config.load_yaml("a\0b")


def test_scalars_follow_yaml_1_2():
    text = (
        "[1e7, 1.5e-3, 2.5e6, 1_000, 012, 1.0, .5, no, on, 1:30, 2020-01-01, ~, true, '1e7', nan]"
    )
    assert yaml_file.parse(text, "set", "") == [
        *(10**7, 0.0015, 2_500_000, 1000, 12, 1.0, 0.5),
        *("no", "on", "1:30", "2020-01-01", None, True, "1e7", "nan"),
    ]
    assert isinstance(yaml_file.parse("1e7", "set", ""), int)
    assert isinstance(yaml_file.parse("1.0", "set", ""), float)


def test_a_byte_order_mark_is_read_over(tmp_path):
    path = tmp_path / "marked.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + yaml.safe_dump(SMALL).encode())
    assert config.load_yaml(path) == SMALL


def test_written_yaml_reads_the_same_here_and_in_another_reader(tmp_path):
    value = {
        "text": ["1e7", "no", "null", "12", "", "a: b", "é", "1_000", "0x10", "# x"],
        "numbers": [1, -2, 0.1, 1e-7, 1e300, 10**17, True, None],
        "nested": {"empty": [], "mapping": {}, "list": [[1, 2], {"a": 1}]},
    }
    path = tmp_path / "value.yaml"
    yaml_file.write(value, path, "a comment")
    assert yaml_file.read(path) == value
    # PyYAML reads 1_000 by YAML 1.1; written as text it must stay text there too.
    assert yaml.safe_load(path.read_text()) == value


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "value.yaml"
    yaml_file.write({"a": 1}, path, "first")
    before = path.read_bytes()
    with pytest.raises(yaml.YAMLError):
        yaml_file.write({"a": object()}, path, "second")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["value.yaml"]


def test_a_written_config_says_how_to_repeat_it_and_reads_back(tmp_path):
    path = tmp_path / "config.yaml"
    config.dump_yaml(SMALL, path)
    text = path.read_text()
    assert text.splitlines()[0] == "# Repeat with: evojax-nar compare --config config.yaml"
    assert "train_sizes: [1, 2]" in text
    assert config.load_yaml(path) == SMALL
    assert yaml.safe_load(text) == SMALL


def changed(path, value):
    """SMALL with the value at a dotted path replaced, or left out where it is `...`."""
    new = copy.deepcopy(SMALL)
    *parents, last = path.split(".")
    here = new
    for parent in parents:
        here = here[parent]
    if value is ...:
        del here[last]
    else:
        here[last] = value
    return new


WRONG = [
    ("sedes", 1, ["sedes", "'seeds'"]),
    ("evojax_nar", 2, ["evojax_nar=2"]),
    ("task", ..., ["no task"]),
    ("arms", ..., ["no arms"]),
    ("budget", ..., ["no budget"]),
    ("task", 3, ["task=3"]),
    ("task", {"width": 3}, ["task", "width"]),
    ("task.name", "parrity", ["parrity", "'parity'"]),
    ("task.trian_sizes", [1], ["trian_sizes", "'train_sizes'"]),
    ("model.hiden", 3, ["hiden", "'hidden'"]),
    ("model.hidden", True, ["hidden=True"]),
    ("model.hidden", "four", ["hidden='four'"]),
    ("arms", {}, ["arms"]),
    ("arms", ["es"], ["arms"]),
    ("arms.es", None, ["arms.es=None"]),
    ("arms.es.strategy", ..., ["arms.es", "strategy"]),
    ("arms.es.strategy", "ess", ["es", "'ess'"]),
    ("arms.es.sgma", 1, ["arm es", "sgma", "'sigma'"]),
    ("arms.es.sigma", "0.1", ["arm es", "sigma='0.1'"]),
    ("arms.es.sigma", True, ["arm es", "sigma=True"]),
    ("arms.es.population", 4.5, ["arm es", "population=4.5"]),
    ("arms.es.batch", 0, ["arms.es.batch=0"]),
    ("arms.es.name", "x", ["name"]),
    ("arms.es.optimizer.name", "addam", ["addam", "'adam'"]),
    ("arms.es.optimizer.learning_rte", 1, ["learning_rte", "'learning_rate'"]),
    ("arms.es.optimizer.learning_rate", "big", ["learning_rate='big'"]),
    ("seeds", [], ["seeds=[]"]),
    ("seeds", [1, 1], ["seeds=[1, 1]"]),
    ("seeds", [-1], ["seeds=-1"]),
    ("seeds", [True], ["seeds=True"]),
    ("seeds", 0, ["seeds=0"]),
    ("seeds", 10**9, ["seeds=1000000000"]),
    ("seeds", [2**32], ["seeds=4294967296"]),
    ("seeds", "3", ["seeds='3'"]),
    ("budget", {}, ["budget"]),
    ("tuning", [], ["tuning=[]"]),
    ("tuning", {"nobody": {"trials": 1}}, ["tuning", "nobody"]),
    ("tuning", {"es": {}}, ["tuning.es={}", "trials"]),
    ("tuning", {"es": {"trials": 0}}, ["tuning.es.trials=0"]),
    ("tuning", {"es": {"trials": 1, "seeds": [3, 9]}}, ["tuning.es.seeds=[3]", "fresh"]),
    ("budget", 5, ["budget=5"]),
    ("budget", {"forwards": 1, "seconds": 1}, ["2 limits"]),
    ("budget", {"forward": 1}, ["forward", "'forwards'"]),
    ("budget", {"forwards": 0}, ["budget.forwards=0"]),
    ("budget", {"forwards": -1.5}, ["budget.forwards=-1.5"]),
    ("budget", {"forwards": "many"}, ["budget.forwards='many'"]),
    ("budget", {"seconds": True}, ["budget.seconds=True"]),
    ("stop_loss", "low", ["stop_loss='low'"]),
    ("stop_loss", True, ["stop_loss=True"]),
    ("evaluation_examples", 0, ["evaluation_examples=0"]),
    ("evaluation_examples", 1.5, ["evaluation_examples=1.5"]),
    ("forward_dtype", "bfloat61", ["forward_dtype='bfloat61'", "'bfloat16'"]),
    ("arms", {"es": {"strategy": "es", "batches": 0}}, ["arms.es.batches=0"]),
    ("replay", {"ess": [1, 2]}, ["ess", "'es'"]),
    ("replay", {"es": [1]}, ["replay.es=[1]"]),
    ("replay", {"es": [1, True]}, ["replay.es=True"]),
    ("replay", {"es": [1, 0]}, ["replay.es=0"]),
    ("replay", [1, 2], ["replay"]),
]


@pytest.mark.parametrize(("path", "value", "said"), WRONG)
def test_a_wrong_config_is_refused_in_one_sentence(path, value, said):
    with pytest.raises(InputError) as caught:
        config.build(changed(path, value))
    sentence = str(caught.value)
    assert "\n" not in sentence
    for part in said:
        assert part in sentence


@pytest.mark.parametrize("value", [None, [], "parity", 3])
def test_what_is_not_a_mapping_is_refused(value):
    with pytest.raises(InputError, match=r"mapping|empty"):
        config.check(value)


@pytest.mark.parametrize("name", ["es", "ES-2", "a.b", "cma_es", "x+y", "0", "a" * 64])
def test_arm_names(name):
    assert config.check_arm_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", "a\0", "a\n", "<b>", "é", " a", "-a", "a" * 65, 1, None],
)
def test_arm_names_that_would_leave_the_folder_or_the_page(name):
    with pytest.raises(InputError, match="arms="):
        config.check_arm_name(name)
    with pytest.raises(InputError, match="arms="):
        config.check({**SMALL, "arms": {name: {"strategy": "es"}}})


def test_arm_names_that_differ_in_case_alone_are_refused():
    with pytest.raises(InputError, match="case"):
        config.check({**SMALL, "arms": {"es": {"strategy": "es"}, "ES": {"strategy": "es"}}})


def test_what_is_not_said_has_a_default():
    short = {"task": "parity", "model": "lstm", "arms": SMALL["arms"], "budget": {"seconds": 1.5}}
    full = config.check(short)
    assert full["task"] == {"name": "parity"}
    assert full["seeds"] == [0, 1, 2]
    assert full["evaluation_examples"] == 1024
    assert list(full) == list(config.KEYS)
    assert config.check(full) == full


def test_config_to_objects_and_back():
    plan = config.build(SMALL)
    assert plan.task.train_sizes == (1, 2)
    assert plan.seeds == (0, 3)
    assert plan.arms["adam"].batch == 16
    described = config.describe(
        plan.task,
        plan.model,
        plan.arms,
        seeds=plan.seeds,
        budget=plan.budget,
        evaluation_examples=8,
        forward_dtype="bfloat16",
        readings=plan.readings,
        tuning=plan.tuning,
    )
    json.dumps(described, allow_nan=False)
    for name, arm in SMALL["arms"].items():
        assert arm.items() <= described["arms"][name].items()
    assert SMALL["task"].items() <= described["task"].items()
    again = config.build(described)
    assert again == plan
    assert config.check(described) == described


@pytest.mark.parametrize("name", strategies.names())
def test_every_strategy_survives_the_round_trip(name, tmp_path):
    arms = {"one": strategies.get(name)}
    plan = config.build(SMALL)
    said = config.describe(plan.task, plan.model, arms, seeds=1, budget=plan.budget)
    config.dump_yaml(said, tmp_path / "config.yaml")
    assert config.load_yaml(tmp_path / "config.yaml") == said
    assert config.build(said).arms["one"].strategy == arms["one"]


@pytest.mark.parametrize(("kind", "known"), [("tasks", tasks), ("models", models)])
def test_every_task_and_model_survives_the_round_trip(kind, known):
    for name in known.names():
        plan = config.build({**SMALL, kind[:-1]: name})
        said = config.describe(plan.task, plan.model, plan.arms, seeds=1, budget=plan.budget)
        assert getattr(config.build(said), kind[:-1]) == known.get(name)


class OwnStrategy:
    """A user's strategy, as far as a config sees it."""

    cost = Cost(forwards=1, backwards=0)

    def init(self, key, params):
        return params

    def step(self, key, state, objective):
        raise AssertionError("a config never steps a strategy")

    def params(self, state):
        return state


def test_what_was_made_in_a_script_is_named_and_not_built():
    plan = config.build(SMALL)
    said = config.describe(
        plan.task, plan.model, {"own": OwnStrategy()}, seeds=1, budget=plan.budget
    )
    assert said["arms"]["own"]["strategy"] == "OwnStrategy"
    with pytest.raises(InputError, match=r"arm own.*made in a script"):
        config.build(said)


def test_presets():
    plan = config.build(config.load_preset("parity"))
    assert set(plan.arms) == {"es", "snes", "adam", "sgd"}
    with pytest.raises(InputError, match="'parity'"):
        config.load_preset("parrity")


def test_seeds_are_plain_even_from_numpy():
    assert config.check_seeds([int(seed) for seed in np.arange(2)]) == (0, 1)
    assert config.check_seeds(2) == config.check_seeds(range(2)) == (0, 1)


@pytest.mark.parametrize("text", ["", "a", "nan", ".inf", "[1]", "true", "1 2", "1e999", "'1'"])
def test_numbers_that_are_refused(text):
    with pytest.raises(InputError, match="forwards="):
        overrides.number("forwards", text)


def test_assignments():
    new = overrides.assign(
        SMALL,
        ["arms.es.sigma=0.5", "model.hidden=8", "task.test_sizes=[5, 6]", "arms.es.noise.name=x=y"],
    )
    assert new["arms"]["es"]["sigma"] == 0.5
    assert new["model"]["hidden"] == 8
    assert new["task"]["test_sizes"] == [5, 6]
    assert new["arms"]["es"]["noise"] == {"name": "x=y"}
    assert SMALL["arms"]["es"]["sigma"] == 0.2


def test_assignments_to_an_arm_with_a_dot_in_its_name():
    arms = {"arms": {"es": {"sigma": 1}, "es.2": {"sigma": 2}}}
    assert overrides.assign(arms, ["arms.es.2.sigma=3"]) == {
        "arms": {"es": {"sigma": 1}, "es.2": {"sigma": 3}}
    }


@pytest.mark.parametrize("text", ["arms", "=1", "a..b=1", "seeds.x=1", "a=[", "a=!!x 1", ".=1"])
def test_assignments_that_are_refused(text):
    with pytest.raises(InputError, match="set="):
        overrides.assign(SMALL, [text])


def test_arms_are_chosen_from_the_config_and_from_the_strategies():
    arms = overrides.choose_arms(SMALL["arms"], ["adam", "snes"], ["es", "snes"])
    assert arms == {"adam": SMALL["arms"]["adam"], "snes": {"strategy": "snes"}}
    with pytest.raises(InputError, match="'adam'"):
        overrides.choose_arms(SMALL["arms"], ["addam"], ["es"])


def test_presets_are_part_of_the_package():
    assert (Path(evojax_nar.__file__).parent / "presets" / "parity.yaml").is_file()
