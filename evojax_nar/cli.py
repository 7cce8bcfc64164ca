"""The command line: flags, their help, and how a mistake is said. `commands.py` does the work.

Numbers arrive as text, so that every mistake becomes one sentence that names the flag and what was
written, and so that `1e7` is a whole number. jax is not needed to print the help.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import tyro
from tyro.conf import UseAppendAction, arg

from evojax_nar.errors import InputError

PROGRAM = "evojax-nar"
BAD_INPUT, INTERRUPTED = 2, 130

Name: TypeAlias = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]
Number: TypeAlias = Annotated[str | None, arg(metavar="N", help_behavior_hint="")]
Sizes: TypeAlias = Annotated[str | None, arg(metavar="SIZES", help_behavior_hint="")]
File: TypeAlias = Annotated[str | None, arg(metavar="FILE", help_behavior_hint="")]
Folder: TypeAlias = Annotated[str | None, arg(metavar="DIR", help_behavior_hint="")]
Switch: TypeAlias = Annotated[bool, arg(help_behavior_hint="")]
Run: TypeAlias = Annotated[str, arg(metavar="DIR", help_behavior_hint="(required)")]
Names: TypeAlias = Annotated[
    tuple[tuple[str, ...], ...], UseAppendAction, arg(metavar="NAME", help_behavior_hint="")
]
Assignments: TypeAlias = Annotated[
    tuple[tuple[str, ...], ...], UseAppendAction, arg(metavar="KEY=VALUE", help_behavior_hint="")
]


@dataclass(frozen=True, kw_only=True)
class PlanFlags:
    """What `compare` and `train` have in common. Flags override the config file."""

    config: File = None
    """YAML file that says the whole run, such as the config.yaml of a results folder. Without one
    the settings that were tuned on parity are used."""
    task: Name = None
    """What is learned; see `evojax-nar list tasks`."""
    model: Name = None
    """What learns it; see `evojax-nar list models`."""
    hidden: Number = None
    """Hidden units of the model."""
    train_sizes: Sizes = None
    """Sizes to train on, such as 1-20."""
    test_sizes: Sizes = None
    """Sizes to be judged at, such as 20,50,100."""
    forwards: Number = None
    """Budget in forward-equivalents for each seed of each arm: a forward pass of one example is 1,
    a gradient step 3 an example."""
    examples: Number = None
    """Budget in examples, instead."""
    generations: Number = None
    """Budget in steps of the strategy, instead."""
    seconds: Number = None
    """Budget in device-seconds of training, instead."""
    stop_loss: Number = None
    """Stop a seed once its validation loss, on training sizes, is at most this; "none" to spend
    the whole budget."""
    evaluation_examples: Number = None
    """Fresh examples at each test size, for each seed."""
    forward_dtype: Name = None
    """Type that models run in while they train: float32 or bfloat16."""
    chunk: Number = None
    """Members, or antithetic pairs, that a device evaluates at once; "auto" for as many as its
    memory is good for. It changes no result beyond rounding."""
    set: Assignments = ()
    """Any key of the config, such as arms.es.sigma=0.2 task.width=4; values are YAML."""
    out: Folder = None
    """Results folder; without it a fresh numbered one under results/."""
    resume: Switch = False
    """Continue the run in --out from its checkpoints."""
    overwrite: Switch = False
    """Replace the run in --out."""
    quiet: Switch = False
    """Show warnings alone while training."""
    tensorboard: Switch = False
    """Also log to TensorBoard, in the folder tensorboard of the results."""
    wandb: Annotated[str | None, arg(metavar="PROJECT", help_behavior_hint="")] = None
    """Also log to this project at Weights & Biases."""


@dataclass(frozen=True, kw_only=True)
class Compare(PlanFlags):
    """Train every arm on every seed under one budget, and compare them."""

    arms: Names = ()
    """Arms of the config to keep, or strategies with their defaults; see `evojax-nar list`."""
    seeds: Number = None
    """How many seeds, counted from 0."""


@dataclass(frozen=True, kw_only=True)
class Tune(Compare):
    """Give every arm the same number of trials in its search space, and freeze what is best.

    Trials are judged by the validation loss on training sizes. The folder then holds config.yaml,
    the comparison between the chosen arms, for `evojax-nar compare --config`.
    """

    trials: Number = None
    """Quasi-random points of each arm's space; 8 without it."""
    tuning_seeds: Number = None
    """Seeds of a trial, counted from 1000; 2 without it."""
    share: Number = None
    """Share of the comparison's budget that each seed of a trial may spend; 0.25 without it."""


@dataclass(frozen=True, kw_only=True)
class Train(PlanFlags):
    """Train one arm on one seed."""

    strategy: Name = None
    """Arm of the config, or a strategy with its defaults; see `evojax-nar list strategies`."""
    seed: Number = None
    """Seed of the initial parameters, the data and the strategy."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Judge what was deployed at any sizes, with as many examples as wanted."""

    run: Run
    """Results folder."""
    arm: Name = None
    """One arm; without it all of them."""
    sizes: Sizes = None
    """Sizes such as 20,1000; without them the test sizes of the run."""
    examples: Number = None
    """Examples at each size; without it as many as in the run."""
    seed: Number = None
    """Seed of the examples; without it those that the run was judged by."""
    json: File = None
    """Write the numbers here too, one entry a seed and size."""


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Run a trained model on a file of your own, and show its answers beside the right ones.

    Parity reads the bits of any file, copy and reverse its bytes, sort and the tasks of clrs/ on
    keys a column of a CSV file, and sort_letters and sort_words a text. The tasks of clrs/ on
    graphs read an edge list (lines "u v" or "u v weight"), a CSV file with the columns source,
    target and perhaps weight, or GraphML.
    """

    run: Run
    """Results folder."""
    input: Annotated[str, arg(metavar="FILE", help_behavior_hint="(required)")]
    """File to read; nothing in it is executed."""
    arm: Name = None
    """Arm to use; without it the one that did best."""
    seed: Number = None
    """Seed to use; without it the one with the lowest loss at the training sizes."""
    window: Number = None
    """Bits, bytes, numbers, letters or words a window; without it the largest training size."""
    limit: Number = None
    """Windows or nodes to show; without it 10 windows, or all nodes. The totals are over all."""
    column: Name = None
    """Column of a CSV file: its name, or its place counted from 0."""
    source: Name = None
    """Node that an algorithm on a graph starts from; without it the first of the file."""
    json: File = None
    """Write what is shown and the totals here too."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Run every job of a study: tasks x models x arms, tuned alike, with controls beside them.

    Repeated, it goes on where it was. The folder then holds study.json, all that was found, and
    report.html, one page over all runs.
    """

    config: File = None
    """YAML file that says the study; without it the one in --out."""
    out: Annotated[str, arg(metavar="DIR", help_behavior_hint="(required)")]
    """Folder of the study, which its workers share."""
    only: Names = ()
    """Patterns of jobs, such as parity/lstm/* or */*/adam; without them all jobs."""
    workers: Number = None
    """Start so many workers on this machine, by Dask, each with an accelerator of its own."""
    cluster: Annotated[str | None, arg(metavar="ADDRESS", help_behavior_hint="")] = None
    """Run on the workers of this Dask scheduler, such as tcp://10.0.0.1:8786."""
    jobs: Switch = False
    """List the jobs, and which are finished, and run none."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Print the table of a results folder, and make its plots and page again.

    Of a folder with several runs in it, or with a study, one page over all of them.
    """

    run: Run
    """Results folder, or one with several in it."""


@dataclass(frozen=True, kw_only=True)
class List:
    """List tasks, models and strategies with their settings."""

    kind: Annotated[
        Literal["tasks", "models", "strategies"] | None,
        tyro.conf.Positional,
        arg(metavar="{tasks,models,strategies}", help_behavior_hint="(without it all three)"),
    ] = None
    """What to list."""


COMMANDS = {
    "compare": Compare,
    "tune": Tune,
    "train": Train,
    "evaluate": Evaluate,
    "predict": Predict,
    "study": Study,
    "report": Report,
    "list": List,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for bad input, 130 where interrupted.

    Args:
      argv: arguments without the program's name; None for those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"{PROGRAM} {importlib.metadata.version('evojax-nar')}")
        return 0
    try:
        flags = tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog=PROGRAM,
            description="Evolution against gradients: the same model, the same task, the same "
            "counted cost. Begin with `evojax-nar compare`; --version prints the version.",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
        )
    except SystemExit as stop:  # tyro has printed the help, or what it could not parse
        return stop.code if isinstance(stop.code, int) else 0
    try:
        from evojax_nar import commands  # imports jax

        return commands.run(flags)
    except InputError as error:
        return fail(str(error))
    except OSError as error:
        where = f"{str(error.filename)!r} " if error.filename is not None else "a file "
        return fail(f"{where}cannot be read or written ({error.strerror or error})")
    except MemoryError:
        return fail("the memory is full; lower the population, the batch or the sizes")
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)


def fail(sentence: str, code: int = BAD_INPUT) -> int:
    """Print one line to standard error; what could steer a terminal is escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in sentence)
    print(f"{PROGRAM}: {shown}", file=sys.stderr)
    return code
