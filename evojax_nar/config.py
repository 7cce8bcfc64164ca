"""The config: a plain mapping that says a whole comparison, and the way to objects and back."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evojax_nar import yaml_file
from evojax_nar.errors import InputError, finite, positive_int, reject, unknown
from evojax_nar.settings import OPAQUE, plain

if TYPE_CHECKING:
    from evojax_nar.budget import Arm, Budget
    from evojax_nar.readings import Reading
    from evojax_nar.types import Model, Strategy, Task

FORMAT = 1
"""Version of the config, and the value of its key `evojax_nar`."""
DEFAULTS: dict[str, Any] = {
    "evojax_nar": FORMAT,
    "seeds": [0, 1, 2],
    "stop_loss": None,
    "evaluation_examples": 1024,
    "forward_dtype": "float32",
    "replay": None,
    "readings": {},
    "tuning": {},
}
"""What a config need not say."""
KEYS = (
    "evojax_nar",
    "task",
    "model",
    "arms",
    "seeds",
    "budget",
    "stop_loss",
    "evaluation_examples",
    "forward_dtype",
    "replay",
    "readings",
    "tuning",
)
FORWARD_DTYPES = ("float32", "bfloat16")
BUDGETS = ("forwards", "examples", "generations", "seconds")
PRESET = "parity"
_OF_ARM = ("batch", "batches", "truncation")
"""Settings of an arm itself; the others are its strategy's."""
_ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
_MAX_SEED = 2**32 - 1
_MAX_SEEDS = 1000


@dataclass(frozen=True)
class Plan:
    """The objects that a config says: what `compare` is given."""

    task: Task
    model: Model
    arms: Mapping[str, Arm]
    seeds: tuple[int, ...]
    budget: Budget
    stop_loss: float | None = None
    evaluation_examples: int = 1024
    forward_dtype: str = "float32"
    replay: Mapping[str, Sequence[int]] | None = None
    readings: tuple[Reading, ...] = ()
    tuning: Mapping[str, Any] | None = None


def check_arm_name(name: Any) -> str:
    """`name` where it is safe as the name of a folder and in a page, or an `InputError`."""
    if not isinstance(name, str) or not _ARM_NAME.fullmatch(name):
        raise reject(
            "arms",
            name,
            "is not the name of an arm",
            "start with a letter or digit and use at most 64 of A-Z a-z 0-9 _ . + -",
        )
    return name


def load_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The checked config in the file at `path`, with the defaults of what it does not say.

    Raises:
      InputError: for a file that is not plain YAML (see `yaml_file`) or not a config.
    """
    return check(yaml_file.read(path), f"config {str(path)!r}")


def load_preset(name: str = PRESET) -> dict[str, Any]:
    """The checked config that comes with the package under `name`.

    Raises:
      InputError: for a name that no preset has.
    """
    folder = Path(__file__).parent / "presets"
    known = {path.stem: path for path in folder.glob("*.yaml")}
    if name not in known:
        raise unknown("preset", name, known)
    return load_yaml(known[name])


def dump_yaml(config: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write `config` to `path`, whole or not at all, under a line that says how to repeat it."""
    name = Path(path).name
    shown = name if re.fullmatch(r"[\w.+-]+", name) else "config.yaml"
    ordered = {key: config[key] for key in KEYS if key in config}
    yaml_file.write(ordered, path, f"Repeat with: evojax-nar compare --config {shown}")


def check(config: Any, where: str = "config") -> dict[str, Any]:
    """A copy of `config` with every key known, of the right type, and in the order of `KEYS`.

    Task, model and strategy settings are left to their constructors, which `build` calls. `task`
    and `model` may be a bare name, and `seeds` a number of seeds.

    Args:
      config: a mapping, as read from YAML.
      where: what an error calls it.

    Raises:
      InputError: for the first thing that is wrong, in the order of the file.
    """
    if not isinstance(config, Mapping):
        raise InputError(f"{where} is {_kind(config)}; start it with the keys {', '.join(KEYS)}")
    for key in config:
        if key not in KEYS:
            raise unknown(f"{where} key", key, KEYS)
    for key in ("task", "model", "arms", "budget"):
        if key not in config:
            raise InputError(f"{where} has no {key}; add the key {key}")
    full = {**DEFAULTS, **config}
    if full["evojax_nar"] != FORMAT or isinstance(full["evojax_nar"], bool):
        raise reject("evojax_nar", full["evojax_nar"], "is not a known format", f"write {FORMAT}")
    for kind in ("task", "model"):
        full[kind] = _named(kind, full[kind])
    full["arms"] = _arms(full["arms"])
    full["seeds"] = list(check_seeds(full["seeds"]))
    full["budget"] = _budget(full["budget"])
    if full["stop_loss"] is not None:
        finite("stop_loss", full["stop_loss"])
    positive_int("evaluation_examples", full["evaluation_examples"])
    if full["forward_dtype"] not in FORWARD_DTYPES:
        raise unknown("forward_dtype", full["forward_dtype"], FORWARD_DTYPES)
    full["replay"] = _replay(full["replay"], full["arms"], full["seeds"])
    full["readings"] = _readings(full["readings"])
    full["tuning"] = _tuning(full["tuning"], full["arms"], full["seeds"])
    return {key: full[key] for key in KEYS}


def check_seeds(seeds: Any) -> tuple[int, ...]:
    """Seeds from a number of them, counted from 0, or from a list of different whole numbers.

    Raises:
      InputError: for anything else, or a seed outside 0 to 2**32 - 1.
    """
    if not isinstance(seeds, (list, tuple, range)):
        count = positive_int("seeds", seeds)
        if count > _MAX_SEEDS:
            raise reject("seeds", seeds, "are too many", f"give at most {_MAX_SEEDS}")
        return tuple(range(count))
    for seed in seeds:
        if positive_int("seeds", seed, least=0) > _MAX_SEED:
            raise reject("seeds", seed, "is too large", f"give seeds up to {_MAX_SEED}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise reject("seeds", list(seeds), "is not allowed", "give one or more different seeds")
    return tuple(seeds)


def build(config: Mapping[str, Any]) -> Plan:
    """The objects that `config` says; the inverse of `describe`.

    Raises:
      InputError: for an unknown name or setting, naming the nearest one, or a value that a
        constructor refuses.
    """
    # These import jax, which a reader of configs can do without.
    from evojax_nar import readings, strategies
    from evojax_nar.budget import Arm, Budget

    full = check(config)
    arms = {}
    for name, arm in full["arms"].items():
        own = ("strategy", *_OF_ARM)
        said = {key: value for key, value in arm.items() if key not in own}
        sizes = {key: arm[key] for key in _OF_ARM if key in arm}
        try:
            arms[name] = Arm(_get("strategy", strategies.get, arm["strategy"], said), **sizes)
        except InputError as error:
            raise InputError(f"arm {name}: {error}") from None
    return Plan(
        task=build_task(full),
        model=build_model(full),
        arms=arms,
        seeds=tuple(full["seeds"]),
        budget=Budget(**full["budget"]),
        stop_loss=full["stop_loss"],
        evaluation_examples=full["evaluation_examples"],
        forward_dtype=full["forward_dtype"],
        replay=full["replay"],
        readings=tuple(
            _get("readings", readings.get, name, own) for name, own in full["readings"].items()
        ),
        tuning=full["tuning"],
    )


def build_task(config: Mapping[str, Any]) -> Task:
    """The task that a checked config says.

    Raises:
      InputError: as `build`.
    """
    from evojax_nar import tasks

    return _get("task", tasks.get, **_split(config["task"]))


def build_model(config: Mapping[str, Any]) -> Model:
    """The model that a checked config says.

    Raises:
      InputError: as `build`.
    """
    from evojax_nar import models

    return _get("model", models.get, **_split(config["model"]))


def describe(
    task: Task,
    model: Model,
    arms: Mapping[str, Arm | Strategy],
    *,
    seeds: int | Sequence[int],
    budget: Budget,
    stop_loss: float | None = None,
    evaluation_examples: int = 1024,
    forward_dtype: str = "float32",
    replay: Mapping[str, Sequence[int]] | None = None,
    readings: Sequence[Reading] = (),
    tuning: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The config that says these objects; what only a script can say becomes a fingerprint.

    Raises:
      InputError: where the arms' names, the seeds or a number are not allowed.
    """
    from evojax_nar import readings as kinds
    from evojax_nar.budget import as_arm

    described = {name: describe_arm(as_arm(name, value)) for name, value in arms.items()}
    return check(
        {
            "task": _component(task),
            "model": _component(model),
            "arms": described,
            "seeds": seeds,
            "budget": budget.settings(),
            "stop_loss": stop_loss,
            "evaluation_examples": evaluation_examples,
            "forward_dtype": forward_dtype,
            "replay": plain(replay),
            "readings": {one.name: one.settings() for one in kinds.check(readings)},
            "tuning": plain(tuning or {}),
        }
    )


def describe_arm(arm: Arm) -> dict[str, Any]:
    """One arm as a config says it: its strategy, its batch and the strategy's settings."""
    settings = _component(arm.strategy)
    batches = {} if arm.batches == 1 else {"batches": arm.batches}
    truncation = {} if arm.truncation is None else {"truncation": arm.truncation}
    of_arm = {"batch": arm.batch, **batches, **truncation}
    return {"strategy": settings.pop("name"), **of_arm, **settings}


def _component(component: Any) -> dict[str, Any]:
    """A component's name and settings; one that is not of this package is a fingerprint."""
    said = plain(component)
    return said if "name" in said else {"name": type(component).__name__, **said}


def _split(said: Mapping[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in said.items() if key != "name"}
    return {"name": said["name"], "settings": settings}


def _get(kind: str, get: Any, name: str, settings: Mapping[str, Any]) -> Any:
    if OPAQUE in settings:
        raise InputError(f"{kind}={name!r} was made in a script; run that script again")
    if "name" in settings:
        raise InputError(f"{kind}={name!r} has no setting 'name'; leave it out")
    return get(name, **settings)


def _kind(value: Any) -> str:
    return "empty" if value is None else f"a {type(value).__name__} and not a mapping"


def _named(kind: str, value: Any) -> dict[str, Any]:
    said = {"name": value} if isinstance(value, str) else value
    if not isinstance(said, Mapping) or not isinstance(said.get("name"), str):
        raise reject(kind, value, "has no name", f"write {kind}: {{name: ...}}")
    return dict(said)


def _arms(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        raise reject("arms", value, "names no arms", "write one key an arm, with its strategy")
    folded: dict[str, str] = {}
    for name, arm in value.items():
        check_arm_name(name)
        twin = folded.setdefault(name.lower(), name)
        if twin != name:
            # Their folders would be one on a file system that ignores case.
            raise reject("arms", name, f"differs from {twin!r} in case alone", "rename one of them")
        if not isinstance(arm, Mapping) or not isinstance(arm.get("strategy"), str):
            raise reject(f"arms.{name}", arm, "has no strategy", "write strategy: and a name")
        for key in _OF_ARM:
            if key in arm and not (key == "truncation" and arm[key] is None):
                positive_int(f"arms.{name}.{key}", arm[key])
    return {name: dict(arm) for name, arm in value.items()}


def _budget(value: Any) -> dict[str, Any]:
    one = f"write one of {', '.join(BUDGETS)}"
    if not isinstance(value, Mapping):
        raise reject("budget", value, "is not a mapping", one)
    for key in value:
        if key not in BUDGETS:
            raise unknown("budget", key, BUDGETS)
    if len(value) != 1:
        raise reject("budget", dict(value), f"has {len(value)} limits", one)
    amounts = {key: finite(f"budget.{key}", amount, above=0.0) for key, amount in value.items()}
    return {key: int(amount) if amount.is_integer() else amount for key, amount in amounts.items()}


def _replay(
    value: Any, arms: Mapping[str, Any], seeds: Sequence[int]
) -> dict[str, list[int]] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise reject("replay", value, "is not a mapping", "write the steps of each seed by arm")
    for name in value:
        if name not in arms:
            raise unknown("replay", name, arms)
    for name in arms:
        steps = value.get(name)
        if not isinstance(steps, (list, tuple)) or len(steps) != len(seeds):
            raise reject(
                f"replay.{name}", steps, "is not a list", "give one number of steps a seed"
            )
        for count in steps:
            positive_int(f"replay.{name}", count)
    return {name: list(steps) for name, steps in value.items()}


def _readings(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, Mapping):
        remedy = "write readings: {ensemble: {members: 32}}"
        raise reject("readings", value, "is not a mapping", remedy)
    for name, settings in value.items():
        if settings is not None and not isinstance(settings, Mapping):
            raise reject(f"readings.{name}", settings, "is not a mapping", "write its settings")
    return {str(name): dict(settings or {}) for name, settings in value.items()}


def _tuning(value: Any, arms: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """How the settings of arms were found, by arm; what is not said there is not known."""
    if not isinstance(value, Mapping):
        raise reject("tuning", value, "is not a mapping", "write trials and seeds of each arm")
    for name, own in value.items():
        if name not in arms:
            raise unknown("tuning", name, arms)
        if not isinstance(own, Mapping) or "trials" not in own:
            raise reject(f"tuning.{name}", own, "has no trials", "write trials: and how many")
        positive_int(f"tuning.{name}.trials", own["trials"])
        if both := set(check_seeds(own.get("seeds", [_MAX_SEED]))) & set(seeds):
            problem = "are seeds of the comparison too"
            raise reject(f"tuning.{name}.seeds", sorted(both), problem, "compare on fresh ones")
    return {name: dict(own) for name, own in value.items()}
