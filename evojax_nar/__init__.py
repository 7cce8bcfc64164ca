"""Evolution against gradients on neural algorithmic reasoning tasks, at one counted cost.

Lower loss is better, everywhere: every strategy minimises, whatever it is handed.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evojax_nar import (
        devices,
        discrete,
        loggers,
        models,
        noise,
        readings,
        spaces,
        strategies,
        tasks,
        types,
    )
    from evojax_nar.auditing import Audit, audit
    from evojax_nar.budget import Arm, Budget
    from evojax_nar.comparison import compare, train
    from evojax_nar.errors import InputError
    from evojax_nar.forecasting import forecast
    from evojax_nar.noise import materialise, perturbed
    from evojax_nar.objective import Objective
    from evojax_nar.placement import Placement
    from evojax_nar.results import Results, Run, load
    from evojax_nar.tuned import Tuned
    from evojax_nar.tuning import tune
    from evojax_nar.types import Evaluation, Info

__all__ = [
    "Arm",
    "Audit",
    "Budget",
    "Evaluation",
    "Info",
    "InputError",
    "Objective",
    "Placement",
    "Results",
    "Run",
    "Tuned",
    "audit",
    "compare",
    "devices",
    "discrete",
    "forecast",
    "load",
    "loggers",
    "materialise",
    "models",
    "noise",
    "perturbed",
    "readings",
    "spaces",
    "strategies",
    "tasks",
    "train",
    "tune",
    "types",
]

_WHERE = {
    "Arm": "budget",
    "Audit": "auditing",
    "Budget": "budget",
    "Evaluation": "types",
    "Info": "types",
    "InputError": "errors",
    "Objective": "objective",
    "Placement": "placement",
    "Results": "results",
    "Run": "results",
    "Tuned": "tuned",
    "audit": "auditing",
    "compare": "comparison",
    "forecast": "forecasting",
    "load": "results",
    "materialise": "noise",
    "perturbed": "noise",
    "train": "comparison",
    "tune": "tuning",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `evojax-nar --help` needs no jax."""
    if name not in __all__:
        raise AttributeError(f"module 'evojax_nar' has no attribute {name!r}")
    module = importlib.import_module(f"evojax_nar.{_WHERE.get(name, name)}")
    value = getattr(module, name) if name in _WHERE else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
