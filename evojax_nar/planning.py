"""Flags to a config: the preset or a file, then what the flags change, then `--set`."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from evojax_nar import config as configs
from evojax_nar import devices, models, overrides, strategies
from evojax_nar.cli import Compare, PlanFlags, Train
from evojax_nar.errors import InputError, reject
from evojax_nar.placement import Placement

_CHANGES = (
    *("config", "task", "model", "hidden", "train_sizes", "test_sizes", "stop_loss"),
    *(
        "evaluation_examples",
        "forward_dtype",
        "set",
        "arms",
        "seeds",
        "strategy",
        "seed",
        *configs.BUDGETS,
    ),
)
"""Flags that say what is run, in contrast to where and how it is shown."""


def resolve(flags: Compare | Train) -> dict[str, Any]:
    """The config that the flags say, checked.

    With `resume`, and where no flag says what is run, it is the one in the folder.

    Raises:
      InputError: for flags that exclude each other, or a value that is not allowed.
    """
    changes = [name for name in _CHANGES if getattr(flags, name, None) not in (None, ())]
    if (flags.resume or flags.overwrite) and flags.out is None:
        name = "resume" if flags.resume else "overwrite"
        raise InputError(f"--{name} needs the folder of the run; add --out DIR")
    if flags.resume and flags.out is not None and not changes:
        kept = Path(flags.out) / "config.yaml"
        if kept.exists():
            return configs.load_yaml(kept)
    config = configs.load_preset() if flags.config is None else configs.load_yaml(flags.config)
    if set(changes) - {"config"}:
        config["replay"] = None  # steps that were realised under other settings
    before = copy.deepcopy(config)
    for kind, name in (("task", flags.task), ("model", flags.model)):
        if name is not None and name != config[kind]["name"]:
            config[kind] = {"name": name}
    if flags.model is None and flags.task is not None:
        config["model"] = _suitable(config)
    _choose(config, flags)
    _set_numbers(config, flags)
    config = overrides.assign(config, [item for group in flags.set for item in group])
    config["tuning"] = _still_tuned(before, config)
    return configs.check(config)


def _still_tuned(before: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """How arms were tuned, of those whose settings are still the ones that were chosen.

    On another task or model they are not: see `notes`.
    """
    if any(before[kind]["name"] != config[kind]["name"] for kind in ("task", "model")):
        return {}
    return {
        name: own
        for name, own in before["tuning"].items()
        if config["arms"].get(name) == before["arms"].get(name)
    }


def notes(config: Mapping[str, Any]) -> list[str]:
    """What a reader should know of where the settings come from."""
    preset = configs.load_preset()
    tuned = {kind: preset[kind]["name"] for kind in ("task", "model")}
    if all(config[kind]["name"] == name for kind, name in tuned.items()):
        return []
    borrowed = [
        name
        for name, arm in preset["arms"].items()
        if arm.items() <= config["arms"].get(name, {}).items()
    ]
    if not borrowed:
        return []
    return [
        f"The settings of {', '.join(borrowed)} were tuned on {tuned['task']} with "
        f"{tuned['model']}, not on {config['task']['name']} with {config['model']['name']}."
    ]


def placement(flags: PlanFlags) -> Placement:
    """Where populations are evaluated: over all accelerators where there are several.

    Raises:
      InputError: for a chunk that is neither a number nor "auto".
    """
    chunk = "auto" if flags.chunk is None else flags.chunk
    if chunk != "auto":
        chunk = overrides.whole("chunk", chunk, least=1)
    # Several devices of a CPU are only pretended, and share its cores.
    if jax.default_backend() == "cpu" or jax.device_count() == 1:
        return Placement(chunk=chunk)
    return devices.placement(chunk)


def repeat(flags: PlanFlags, command: str, folder: Path) -> str:
    """The command that continues an interrupted run."""
    quiet = " --quiet" if flags.quiet else ""
    return f"evojax-nar {command} --out {shlex.quote(str(folder))} --resume{quiet}"


def _suitable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The model of the config, or the first one there is that reads what its task gives."""
    spec = configs.build_task(config).spec
    if config["model"]["name"] not in models.names() or models.suits(config["model"]["name"], spec):
        return config["model"]
    return {"name": next(name for name in models.names() if models.suits(name, spec))}


def _choose(config: dict[str, Any], flags: Compare | Train) -> None:
    """Keep the arms and seeds that the flags name."""
    arms = config["arms"]
    if isinstance(flags, Compare):
        if wanted := [name for group in flags.arms for name in group]:
            config["arms"] = overrides.choose_arms(arms, wanted, strategies.names())
        elif flags.arms:
            raise InputError("arms=() names no arm; give at least one")
        if flags.seeds is not None:
            config["seeds"] = overrides.whole("seeds", flags.seeds, least=1)
        return
    if flags.strategy is not None:
        config["arms"] = overrides.choose_arms(arms, [flags.strategy], strategies.names())
    elif len(arms) > 1:
        problem = f"is needed to choose one of {', '.join(arms)}"
        raise reject("strategy", None, problem, "add --strategy NAME")
    if flags.seed is not None:
        config["seeds"] = [overrides.whole("seed", flags.seed)]
    elif flags.config is None or len(config["seeds"]) > 1:
        config["seeds"] = [0]


def _set_numbers(config: dict[str, Any], flags: PlanFlags) -> None:
    """Put the numbers of the flags into the config."""
    if flags.hidden is not None:
        config["model"]["hidden"] = overrides.whole("hidden", flags.hidden, least=1)
    for kind in ("train_sizes", "test_sizes"):
        if (sizes := getattr(flags, kind)) is not None:
            config["task"][kind] = sizes
    given = {key: getattr(flags, key) for key in configs.BUDGETS}
    given = {key: text for key, text in given.items() if text is not None}
    if len(given) > 1:
        said = " ".join(f"--{key} {text}" for key, text in given.items())
        raise InputError(f"budget={said!r} has {len(given)} limits; give one of them")
    for key, text in given.items():
        config["budget"] = {key: overrides.number(key, text)}
    if flags.stop_loss is not None:
        off = flags.stop_loss.lower() == "none"
        config["stop_loss"] = None if off else overrides.number("stop_loss", flags.stop_loss)
    if flags.forward_dtype is not None:
        config["forward_dtype"] = flags.forward_dtype
    if flags.evaluation_examples is not None:
        config["evaluation_examples"] = overrides.whole(
            "evaluation_examples", flags.evaluation_examples, least=1
        )
