"""Results of a comparison: what results.json says, and the ways to look at it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final, overload

import jax

from evojax_nar import config as configs
from evojax_nar import schema
from evojax_nar.errors import InputError, reject, unknown
from evojax_nar.files import load_params, read_json, write_bytes, write_json
from evojax_nar.folder import ArmFolder
from evojax_nar.types import Model, Params, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = "evojax_nar/results/1"
"""Version of results.json."""
_STEPS = 0x57E9
"""Sets the examples apart on which steps are counted."""


@final
class Results:
    """A finished comparison in its folder.

    Args:
      data: the content of results.json.
      folder: the results folder.
      task: what was learned; None to rebuild it from the config.
      model: what learned it, likewise.
    """

    def __init__(
        self,
        data: dict[str, Any],
        folder: Path,
        *,
        task: Task | None = None,
        model: Model | None = None,
    ) -> None:
        self.data = data
        self.folder = folder
        self._task = task
        self._model = model

    def __repr__(self) -> str:
        return f"Results({', '.join(self.names)}; in {str(self.folder)!r})"

    @property
    def names(self) -> list[str]:
        """The arms, in their order."""
        return [arm["name"] for arm in self.data["arms"]]

    def arm(self, name: str) -> dict[str, Any]:
        """One arm's entry.

        Raises:
          InputError: for a name that no arm has.
        """
        for arm in self.data["arms"]:
            if arm["name"] == name:
                return arm
        raise unknown("arm", name, self.names)

    def table(self) -> None:
        """Print the table."""
        from evojax_nar import report

        report.print_table(self.data)

    @overload
    def plot(self) -> list[Figure]: ...

    @overload
    def plot(
        self,
        kind: str,
        *,
        arm: str | None = None,
        seed: int | None = None,
        size: int | None = None,
    ) -> Figure: ...

    def plot(
        self,
        kind: str | None = None,
        *,
        arm: str | None = None,
        seed: int | None = None,
        size: int | None = None,
    ) -> list[Figure] | Figure:
        """Figures, written to the folder and returned.

        Without arguments: learning curves and generalisation curves. With "memory": where one arm's
        model reads and writes its memory, step by step, on one example (memory.png). With "steps":
        how many steps a model takes that decides on them itself, over the size (steps.png).

        Args:
          kind: "memory" or "steps"; None for the curves.
          arm: its name; None for the first.
          seed: one of the arm's; None for the first.
          size: of the example; None for the smallest test size. Steps have all test sizes.

        Raises:
          InputError: for an unknown kind, arm or seed, a model that shows no such thing, or a size
            that it cannot run.
        """
        from evojax_nar import memory_plot, plots, steps_plot

        if kind is None:
            for argument, value in (("arm", arm), ("seed", seed), ("size", size)):
                if value is not None:
                    problem, kinds = "is for one kind of figure", "'memory' or 'steps'"
                    raise reject(argument, value, problem, f"give the kind too, which is {kinds}")
            plots.save(self.data, self.folder)
            return [plots.curves(self.data), plots.generalisation(self.data)]
        if kind not in ("memory", "steps"):
            remedy = "give 'memory' or 'steps', or nothing for the curves"
            raise reject("kind", kind, "is not known", remedy)
        if kind == "steps" and size is not None:
            raise reject(
                "size", size, "is for one example", "leave it out: all test sizes are drawn"
            )
        arm = self.names[0] if arm is None else arm
        chosen: int = self.arm(arm)["seeds"][0]["seed"] if seed is None else seed
        params = self.parameters(arm, chosen)
        if kind == "steps":
            task: Any = self.task
            key = jax.random.fold_in(jax.random.key(chosen), _STEPS)
            figure = steps_plot.draw(
                steps_plot.measure(self.model, params, task, task.test_sizes, key),
                train_sizes=task.train_sizes,
                name=f"{task.name}, {arm}, seed {chosen}",
            )
        else:
            figure = memory_plot.draw(
                self.task,
                self.model,
                params,
                size=min(self.task.test_sizes) if size is None else size,
                arm=arm,
                seed=chosen,
            )
        write_bytes(self.folder / f"{kind}.png", plots.png(figure))
        return figure

    def save(self) -> None:
        """Write results.json, both plots and the page to the folder."""
        from evojax_nar import page, plots

        write_json(self.folder / "results.json", self.data)
        plots.save(self.data, self.folder)
        page.write(self.data, self.folder)

    @property
    def task(self) -> Task:
        """What was learned.

        Raises:
          InputError: where the config says that only a script can make it.
        """
        if self._task is None:
            self._task = configs.build_task(self._config)
        return self._task

    @property
    def model(self) -> Model:
        """What learned it.

        Raises:
          InputError: where the config says that only a script can make it.
        """
        if self._model is None:
            self._model = configs.build_model(self._config)
        return self._model

    @cached_property
    def _config(self) -> dict[str, Any]:
        return configs.load_yaml(self.folder / "config.yaml")

    def parameters(self, arm: str, seed: int) -> Params:
        """What `arm` deployed for `seed`.

        Raises:
          InputError: for an unknown arm or seed, or a file that is damaged or of another model.
        """
        self.arm(arm)
        seeds = [entry["seed"] for entry in self.arm(arm)["seeds"]]
        if seed not in seeds:
            raise reject("seed", seed, "was not trained", f"give one of {seeds}")
        spec = self.task.spec
        template = jax.eval_shape(lambda: self.model.init(jax.random.key(0), spec))
        return load_params(ArmFolder(self.folder, arm).seed(seed) / "deployed.npz", template)


@final
class Run:
    """One arm and seed of a comparison: what `train` returns.

    Args:
      results: the comparison, of this one arm.
      arm: its name.
      seed: its seed.
    """

    def __init__(self, results: Results, arm: str, seed: int) -> None:
        self.results = results
        self.arm = arm
        self.seed = seed

    def __repr__(self) -> str:
        scores = {size: entry and entry["score"] for size, entry in self.scores.items()}
        return f"Run({self.arm}, seed {self.seed}, scores {scores})"

    @property
    def folder(self) -> Path:
        """The results folder."""
        return self.results.folder

    @property
    def entry(self) -> dict[str, Any]:
        """The seed's entry in results.json: scores, cost, curve."""
        return self.results.arm(self.arm)["seeds"][0]

    @property
    def scores(self) -> dict[str, Any]:
        """Test size to score, exact match and loss; None where the model cannot run it."""
        return self.entry["scores"]

    @property
    def cost(self) -> dict[str, Any]:
        """What was spent."""
        return self.entry["cost"]

    @property
    def params(self) -> Params:
        """What is deployed."""
        return self.results.parameters(self.arm, self.seed)


def load(folder: str | Path, *, task: Task | None = None, model: Model | None = None) -> Results:
    """The results in a folder.

    Args:
      folder: that compare or train has finished.
      task: what was learned, where it is not of this package; None to rebuild it from the config.
      model: what learned it, likewise.

    Raises:
      InputError: where it holds none, or of another version.
    """
    path = Path(folder)
    if not (path / "results.json").exists():
        state = (
            "holds a run that is not finished"
            if (path / "config.yaml").exists()
            else ("holds no results")
        )
        raise reject("run", str(path), state, "give a folder that compare or train has finished")
    data = read_json(path / "results.json")
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise InputError(
            f"run={str(path)!r} has a results.json of schema {found!r}, not {SCHEMA!r}; run again "
            "with this version"
        )
    return Results(schema.check_results(data, f"run={str(path)!r}"), path, task=task, model=model)
