"""The config of a study: tasks x models x arms, each on the same terms, and the jobs it means."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evojax_nar import config as configs
from evojax_nar import yaml_file
from evojax_nar.errors import InputError, finite, positive_int, reject, unknown
from evojax_nar.study import controls, spaces

FORMAT = 1
"""Version of a study's config, and the value of its key `evojax_nar_study`."""
DEFAULTS: dict[str, Any] = {
    "evojax_nar_study": FORMAT,
    "seeds": 5,
    "multiples": [1],
    "tuning": None,
    "stop_loss": None,
    "evaluation_examples": 1024,
    "forward_dtype": "float32",
    "skip": {},
}
"""What a config need not say."""
KEYS = (
    "evojax_nar_study",
    "title",
    "tasks",
    "models",
    "arms",
    "seeds",
    "budget",
    "multiples",
    "tuning",
    "stop_loss",
    "evaluation_examples",
    "forward_dtype",
    "skip",
)
CONFIG = "study.yaml"
"""The study's config, in its folder."""
TUNING: dict[str, Any] = {"trials": 8, "seeds": 1, "share": 0.25, "spaces": {}}
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class Job(NamedTuple):
    """One arm on one task with one model, at every multiple of the budget."""

    task: str
    model: str
    arm: str

    @property
    def id(self) -> str:
        """`task/model/arm`, which is its folder too."""
        return "/".join(self)

    @classmethod
    def of(cls, text: str) -> Job:
        """The job with this id."""
        return cls(*text.split("/"))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The checked config in the file at `path`.

    Raises:
      InputError: for a file that is not plain YAML, or not the config of a study.
    """
    return check(yaml_file.read(path), f"study {str(path)!r}")


def check(config: Any, where: str = "study") -> dict[str, Any]:
    """A copy of `config` with every key known and every job of it a comparison that can be built.

    Args:
      config: `title`; `tasks`, `models` and `arms`, each a mapping of short names to what
        a comparison's config says of one; `budget` of a seed of an arm, as there, and `multiples`
        of it; `tuning` or null: `trials`, `seeds`, the `share` of the budget that a trial has, and
        `spaces` such as `{es: {sigma: {log: [0.01, 1]}}}`, where they are not the built-in ones;
        `seeds`, `stop_loss`, `evaluation_examples` and `forward_dtype` as there; `skip`, a mapping
        of patterns such as `sort/mlp/*` to the reason why those jobs are not run.
      where: what an error calls it.

    Raises:
      InputError: for the first thing that is wrong.
    """
    if not isinstance(config, Mapping):
        raise InputError(f"{where} is not a mapping; start it with the keys {', '.join(KEYS)}")
    for key in config:
        if key not in KEYS:
            raise unknown(f"{where} key", key, KEYS)
    for key in ("title", "tasks", "models", "arms", "budget"):
        if key not in config:
            raise InputError(f"{where} has no {key}; add the key {key}")
    full = {**DEFAULTS, **config}
    if full["evojax_nar_study"] != FORMAT or isinstance(full["evojax_nar_study"], bool):
        problem = "is not a known format"
        raise reject("evojax_nar_study", full["evojax_nar_study"], problem, f"write {FORMAT}")
    if not isinstance(full["title"], str):
        raise reject("title", full["title"], "is not text", "write one line")
    for kind in ("tasks", "models", "arms"):
        full[kind] = _named(kind, full[kind])
    full["seeds"] = list(configs.check_seeds(full["seeds"]))
    full["multiples"] = _multiples(full["multiples"])
    full["tuning"] = _tuning(full["tuning"], full["arms"])
    full["skip"] = _skip(full["skip"])
    for job in expand(full):
        try:
            configs.build(comparison(full, job, settings(job.arm, full["arms"])))
        except InputError as error:
            raise InputError(f"{where}, job {job.id}: {error}") from None
    return {key: full[key] for key in KEYS}


def save(config: Mapping[str, Any], out: Path) -> None:
    """Write a checked config to the folder of its study, or hold it to the one that is there.

    Seeds, multiples and what is skipped may not change either: they decide what a table says.

    Raises:
      InputError: where the folder belongs to another study, or cannot be written.
    """
    file = out / CONFIG
    if file.exists():
        before = load(file)
        for key in KEYS:
            if before[key] != config[key]:
                raise InputError(
                    f"out={str(out)!r} holds a study whose {key} is {before[key]!r} and not "
                    f"{config[key]!r}; name another folder, or run with its own {CONFIG}"
                )
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise reject("out", str(out), f"cannot be made ({error})", "name another folder") from error
    shown = f"Repeat with: evojax-nar study --config {CONFIG}"
    yaml_file.write({key: config[key] for key in KEYS}, file, shown)


def expand(config: Mapping[str, Any]) -> list[Job]:
    """The jobs of a checked config, controls among them, without those that it skips.

    Arms change fastest, and tasks last, so that tables fill up one after the other.
    """
    arms = (*config["arms"], *controls.names(config["arms"]))
    every = [
        Job(task, model, arm)
        for task in config["tasks"]
        for model in config["models"]
        for arm in arms
    ]
    return [job for job in every if skipped(config, job) is None]


def jobs(config: Mapping[str, Any], only: Sequence[str] = ()) -> list[str]:
    """Ids of the jobs of a checked config, or of those that match one of the patterns in `only`.

    Raises:
      InputError: for a pattern that no job matches.
    """
    every = [job.id for job in expand(config)]
    for pattern in only:
        if not fnmatch.filter(every, pattern):
            remedy = f"write one such as {every[0]!r} or {every[0].split('/')[0] + '/*'!r}"
            raise reject("only", pattern, "matches no job of the study", remedy)
    return [own for own in every if not only or any(fnmatch.fnmatch(own, one) for one in only)]


def skipped(config: Mapping[str, Any], job: Job) -> str | None:
    """Why a job is not run; None where it is."""
    for pattern, reason in config["skip"].items():
        if fnmatch.fnmatch(job.id, pattern):
            return reason
    return None


def settings(arm: str, arms: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Settings of an arm of a study, or of a control, whose parents are as in `arms`."""
    return arms[arm] if arm in arms else controls.settings(arm, arms)


def comparison(
    config: Mapping[str, Any], job: Job, arm: Mapping[str, Any], multiple: float = 1
) -> dict[str, Any]:
    """The config of the comparison that a job is: one arm, at a multiple of the budget.

    Args:
      config: of the study, checked.
      job: which.
      arm: settings of the arm.
      multiple: of the base budget.
    """
    kind, amount = next(iter(dict(config["budget"]).items()))
    return configs.check(
        {
            "task": config["tasks"][job.task],
            "model": config["models"][job.model],
            "arms": {job.arm: arm},
            "seeds": config["seeds"],
            "budget": {kind: amount * multiple},
            "stop_loss": config["stop_loss"],
            "evaluation_examples": config["evaluation_examples"],
            "forward_dtype": config["forward_dtype"],
            "readings": controls.READINGS,
        }
    )


def _named(kind: str, value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        raise reject(kind, value, "is not a mapping", "write one short name a line, with settings")
    for name in value:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            remedy = "start with a letter or digit and use at most 40 of a-z 0-9 _ -"
            raise reject(kind, name, "is not a short name", remedy)
    first = "strategy" if kind == "arms" else "name"
    said = {
        name: {first: own} if isinstance(own, str) else own or {} for name, own in value.items()
    }
    for name, own in said.items():
        if not isinstance(own, Mapping) or not isinstance(own.get(first), str):
            raise reject(f"{kind}.{name}", own, f"has no {first}", f"write {first}: and a name")
        if kind == "arms" and controls.is_control(name):
            problem = "is the name of a control, which every study has"
            raise reject(f"{kind}.{name}", own, problem, "call it something else")
    return {name: dict(own) for name, own in said.items()}


def _multiples(value: Any) -> list[float]:
    if not isinstance(value, (list, tuple)) or not value:
        raise reject("multiples", value, "is not a list", "write one such as [1, 10]")
    found = [finite("multiples", one, above=0.0) for one in value]
    if len(set(found)) < len(found):
        raise reject("multiples", value, "says one twice", "say each once")
    return [int(one) if float(one).is_integer() else one for one in found]


def _tuning(value: Any, arms: Mapping[str, Any]) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise reject("tuning", value, "is not a mapping", "write trials, seeds and share, or null")
    for key in value:
        if key not in TUNING:
            raise unknown("tuning", key, TUNING)
    full = {**TUNING, **value}
    positive_int("tuning.trials", full["trials"])
    positive_int("tuning.seeds", full["seeds"])
    if finite("tuning.share", full["share"], above=0.0) > 1:
        raise reject("tuning.share", full["share"], "is above 1", "give a share of the budget")
    spaces.spaces(full["spaces"], arms)
    return full


def _skip(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise reject("skip", value, "is not a mapping", "write a pattern and its reason a line")
    for pattern, reason in value.items():
        if not isinstance(reason, str) or not reason:
            raise reject(f"skip.{pattern}", reason, "is not a reason", "say why in a few words")
    return {str(pattern): reason for pattern, reason in value.items()}
