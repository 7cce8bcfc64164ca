"""The strategies of evosax, as strategies of ours: its ask and tell are held inside one step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import optax
from evosax.algorithms import algorithms, population_based_algorithms
from evosax.core.fitness_shaping import (
    centered_rank_fitness_shaping_fn,
    identity_fitness_shaping_fn,
)

from evojax_nar.cost import available_bytes, largest_bytes, readable_bytes, tree_bytes
from evojax_nar.errors import InputError, finite, positive_int, unknown
from evojax_nar.objective import Objective
from evojax_nar.population import Stored
from evojax_nar.spaces import POPULATION, SIGMA, Axis, Choice, Log
from evojax_nar.strategies.base import (
    Base,
    Example,
    Fitness,
    check_fitness,
    float_params,
    keep_if,
    population_info,
    to_minimise,
)
from evojax_nar.strategies.optimizer import (
    FEWER_STEPS,
    Optimizer,
    as_optimizer,
    learning_rate,
    optimizer,
)
from evojax_nar.types import Cost, Info, Key, Params

EXCLUDED = {
    "RandomSearch": "use strategies.RandomSearch, which judges its incumbent on every batch",
    "PersistentES": "use strategies.PES: ask and tell lack the inner states of a truncated unroll",
    "NoiseReuseES": "use strategies.NRES: ask and tell lack the inner states of a truncated unroll",
    "GuidedES": "it needs a gradient from outside, which ask and tell lack",
    "SV_CMA_ES": "it does not accept a pytree of parameters in evosax 0.3.2",
    "SV_Open_ES": "it does not accept a pytree of parameters in evosax 0.3.2",
    "Rm_ES": "it does not descend a quadratic in evosax 0.3.2",
    "iAMaLGaM_Univariate": "it does not descend a quadratic in evosax 0.3.2",
    "DiffusionEvolution": "it diverges once the generations fixed at its construction are over",
}
"""Strategies of evosax that the adapter refuses, each with its reason."""

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "Open_ES": lambda: optax.adam(0.02),
    "ARS": lambda: optax.adam(0.02),
    "PGPE": lambda: optax.adam(0.02),
    "ESMC": lambda: optax.adam(0.02),
    "ASEBO": lambda: optax.adam(0.02),
}
"""Optimisers of the estimate, where evosax's own default (SGD at 1e-3) is poor."""

STANDARD_DEVIATION = 0.1
"""Standard deviation of the first population; evosax's own 1.0 drowns a network's weights."""

_RATES = {"SNES": "lr_std_init", "xNES": "lr_std_init", "DES": "lr_std", "PGPE": "std_lr"}
_RATE = Log(0.005, 0.5)
"""Learning rates of deviations that a strategy of evosax lets one set, and their axis."""


class EvosaxState(NamedTuple):
    """State of `Evosax`."""

    inner: Any
    """evosax's own state, strongly typed."""
    begun: jax.Array
    """False until the first population of a population-based strategy has been evaluated."""
    template: Params
    """The parameters that it started from; evosax takes the tree's shape from them."""
    hyperparameters: dict[str, jax.Array]


@final
@dataclass(frozen=True)
class Evosax(Base):
    """A strategy of the evosax library (Lange 2022, arXiv:2212.04180), by its name there.

    Distribution-based strategies deploy their mean, population-based ones the best member of
    their current population. The first step of a population-based strategy evaluates its first
    population, at the cost of any other step. A step that would make a finite state infinite or NaN
    is not taken, and reported as not healthy.

    Args:
      algorithm: name in evosax, such as "SNES", "CMA_ES", "Sep_CMA_ES" or "SimpleGA".
      population: N.
      std: standard deviation of the first population, in units of the parameters.
      optimizer: for strategies that estimate a gradient; None for our default.
      numbers: further numeric parameters of the strategy, by their evosax names.
      fitness: "loss" or "score".

    Raises:
      InputError: for a name that is unknown or excluded, a parameter that it does not have, a
        population that does not suit it, or a model for which its state would not fit into memory
        (before anything is allocated).
    """

    name: ClassVar[str] = "evosax"
    algorithm: str = "SNES"
    population: int = 256
    std: float = STANDARD_DEVIATION
    optimizer: Optimizer | None = None
    numbers: Any = ()
    fitness: Fitness = "loss"

    def __post_init__(self) -> None:
        if self.algorithm in EXCLUDED:
            raise InputError(
                f"algorithm={self.algorithm!r} is excluded: {EXCLUDED[self.algorithm]}"
            )
        if self.algorithm not in names():
            raise unknown("algorithm", self.algorithm, names())
        positive_int("population", self.population, least=4)
        finite("std", self.std, above=0.0)
        check_fitness(self.fitness)
        pairs = dict(self.numbers)
        for key, value in pairs.items():
            finite(f"numbers.{key}", value)
        object.__setattr__(self, "numbers", tuple(sorted(pairs.items())))
        if self.optimizer is not None:
            object.__setattr__(self, "optimizer", as_optimizer("optimizer", self.optimizer))
            if "optimizer" not in inspect.signature(algorithms[self.algorithm].__init__).parameters:
                raise InputError(
                    f"optimizer={self.optimizer!r} has no place in {self.algorithm}, "
                    "which estimates no gradient; leave it out"
                )
        known = _numeric(self._algorithm(jnp.zeros(4))[1])
        for key in pairs:
            if key not in known:
                raise unknown(f"numbers of {self.algorithm}", key, known)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Which algorithms there are, and why some are not."""
        reasons: dict[str, list[str]] = {}
        for excluded, reason in EXCLUDED.items():
            reasons.setdefault(reason, []).append(excluded)
        refused = "; ".join(f"{', '.join(own)}: {reason}" for reason, own in reasons.items())
        return f"algorithm: {', '.join(names())}", f"excluded: {refused}"

    def settings(self) -> dict[str, Any]:
        """Plain settings, `numbers` as a mapping."""
        return {**super().settings(), "numbers": dict(self.numbers)}

    @property
    def cost(self) -> Cost:
        """N forward passes a step."""
        return Cost(forwards=self.population, backwards=0)

    def init(self, key: Key, params: Params) -> EvosaxState:
        """State with `params` as the mean, or as the middle of the first population."""
        params = float_params(params)
        self._refuse_too_many_members(params)
        self._refuse_what_does_not_fit(params)
        return self._init(key, params)

    def step(self, key: Key, state: EvosaxState, objective: Objective) -> tuple[EvosaxState, Info]:
        """Ask, evaluate, tell."""
        algorithm, defaults = self._algorithm(state.template)
        evosax_params = self._parameters(defaults, state.hyperparameters)
        ask_key, tell_key = jax.random.split(key)
        population, asked = algorithm.ask(ask_key, state.inner, evosax_params)
        if self._evolves_a_population:
            first = algorithm.get_population(state.inner)
            population = keep_if(state.begun, population, first)
        evaluation, _ = objective.population(Stored(population, self.population))
        losses = to_minimise(evaluation, self.fitness)
        ranked = _finite_losses(losses)
        inner, _ = algorithm.tell(tell_key, population, ranked, asked, evosax_params)
        if self._evolves_a_population:
            begun = algorithm.init(tell_key, population, ranked, evosax_params)
            inner = keep_if(state.begun, inner, begun)
        inner = jax.tree.map(
            lambda new, old: jax.lax.convert_element_type(new, old.dtype), inner, state.inner
        )
        info = population_info(evaluation, losses, {})
        info = info._replace(healthy=info.healthy & _stays_finite(state.inner, inner))
        new = state._replace(inner=inner, begun=jnp.asarray(True))
        return keep_if(info.healthy, new, state), info

    def params(self, state: EvosaxState) -> Params:
        """The mean, or the best of the current population."""
        algorithm, _ = self._algorithm(state.template)
        if self._evolves_a_population:
            return algorithm.get_best_solution(state.inner)
        return algorithm.get_mean(state.inner)

    def ensemble(self, key: Key, state: EvosaxState, count: int) -> Params:
        """The best of the current population; or some of the next, drawn about the mean."""
        algorithm, defaults = self._algorithm(state.template)
        if self._evolves_a_population:
            population = algorithm.get_population(state.inner)
            chosen = jnp.argsort(state.inner.fitness)[:count]
        else:
            draw_key, choice_key = jax.random.split(key)
            evosax_params = self._parameters(defaults, state.hyperparameters)
            population, _ = algorithm.ask(draw_key, state.inner, evosax_params)
            # Some lay out mirrored members in two halves, of which a choice has both.
            chosen = jax.random.permutation(choice_key, self.population)[:count]
        return jax.tree.map(lambda leaf: leaf[chosen], population)

    def space(self) -> dict[str, Axis]:
        """The first standard deviation, the rate at which it or the mean is learned, and N.

        Of the rates, those that the strategy has: most of evosax derive theirs from D and N.
        """
        rate = {} if self.algorithm not in _RATES else {f"numbers.{_RATES[self.algorithm]}": _RATE}
        if self.optimizer is not None:
            rate |= learning_rate(self.optimizer, scale=FEWER_STEPS)
        elif self.algorithm in OPTIMIZERS:
            adam = optimizer("adam", learning_rate=0.02)
            rate |= {"optimizer.name": Choice(("adam",)), **learning_rate(adam, scale=FEWER_STEPS)}
        return {"std": SIGMA, **rate, "population": POPULATION}

    @classmethod
    def example(cls) -> Example:
        """Separable natural evolution strategy."""
        return Example(cls("SNES", population=32), steps=60)

    @property
    def _evolves_a_population(self) -> bool:
        return self.algorithm in population_based_algorithms

    def _algorithm(self, params: Params) -> tuple[Any, Any]:
        """The evosax object for parameters of this shape, and its defaults.

        Both look at values when they are made, so they are never traced.
        """
        leaves, structure = jax.tree.flatten(params)
        with jax.ensure_compile_time_eval():
            zeros = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
            algorithm = self._make(jax.tree.unflatten(structure, zeros))
            return algorithm, algorithm.default_params

    def _make(self, params: Params) -> Any:
        maker = algorithms[self.algorithm]
        arguments = inspect.signature(maker.__init__).parameters
        chosen: dict[str, Any] = {}
        if "std_schedule" in arguments:
            chosen["std_schedule"] = optax.constant_schedule(self.std)
        if "optimizer" in arguments:
            shaping = arguments["fitness_shaping_fn"].default
            if shaping is identity_fitness_shaping_fn:
                chosen["fitness_shaping_fn"] = centered_rank_fitness_shaping_fn
            if self.optimizer is not None:
                chosen["optimizer"] = self.optimizer
            elif self.algorithm in OPTIMIZERS:
                chosen["optimizer"] = OPTIMIZERS[self.algorithm]()
        try:
            # The metrics would carry several arrays of D numbers a generation.
            return maker(self.population, params, metrics_fn=_no_metrics, **chosen)
        except AssertionError as error:
            raise InputError(
                f"population={self.population} does not suit {self.algorithm}: {error}"
            ) from error

    def _init(self, key: Key, params: Params) -> EvosaxState:
        algorithm, defaults = self._algorithm(params)
        numbers = self._numbers(defaults)
        evosax_params = self._parameters(defaults, numbers)
        if self._evolves_a_population:
            noise_key, key = jax.random.split(key)
            flat = algorithm._ravel_solution(params)
            noise = jax.random.normal(noise_key, (self.population, flat.size))
            first = jax.vmap(algorithm._unravel_solution)(flat + self.std * noise.at[0].set(0))
            inner = algorithm.init(key, first, jnp.full((self.population,), jnp.inf), evosax_params)
        else:
            inner = algorithm.init(key, params, evosax_params)
        return EvosaxState(
            inner=jax.tree.map(_strongly_typed, inner),
            begun=jnp.asarray(not self._evolves_a_population),
            template=params,
            hyperparameters={n: v for n, v in numbers.items() if not n.endswith("_init")},
        )

    def _numbers(self, defaults: Any) -> dict[str, jax.Array]:
        """The scalar parameters of the strategy, as they were set when this was made."""
        numbers = _numeric(defaults)
        given = {"std_init": self.std} if "std_init" in numbers else {}
        for name, value in (given | dict(self.numbers)).items():
            numbers[name] = jnp.asarray(value, numbers[name].dtype)
        return numbers

    def _parameters(self, defaults: Any, hyperparameters: Mapping[str, jax.Array]) -> Any:
        """evosax's own parameters, with what a sweep may have changed.

        Those whose names end in `_init` are read for the first state alone, or as constants: to
        sweep them in a state would change nothing, so a state does not have them.
        """
        return defaults.replace(**{**self._numbers(defaults), **hyperparameters})

    def _refuse_too_many_members(self, params: Params) -> None:
        """Raise where a rate of LM-MA-ES, N / D, would be 2 or more and its state NaN."""
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        if self.algorithm == "LM_MA_ES" and self.population >= 2 * count:
            raise InputError(
                f"population={self.population} is too large for {self.algorithm} and a model of "
                f"{count} parameters; give fewer than {2 * count} members"
            )

    def _refuse_what_does_not_fit(self, params: Params) -> None:
        """Raise before anything of the state's size is allocated."""
        state = jax.eval_shape(lambda: self._init(jax.random.key(0), params))
        count = sum(leaf.size for leaf in jax.tree.leaves(params))

        def generation(state: EvosaxState, losses: jax.Array) -> Any:
            algorithm, defaults = self._algorithm(state.template)
            evosax_params = self._parameters(defaults, state.hyperparameters)
            key = jax.random.key(0)
            population, inner = algorithm.ask(key, state.inner, evosax_params)
            return algorithm.tell(key, population, losses, inner, evosax_params)

        losses = jax.ShapeDtypeStruct((self.population,), jnp.float32)
        needed = tree_bytes(state) + largest_bytes(generation, state, losses)
        available = available_bytes()
        if needed > available:
            raise InputError(
                f"algorithm={self.algorithm!r} needs about {readable_bytes(needed)} for a model of "
                f"{count} parameters and {readable_bytes(available)} are free; use a strategy "
                "whose memory is linear in the parameters, such as ES or SNES"
            )


def names() -> list[str]:
    """The strategies of evosax that the adapter runs."""
    return sorted(set(algorithms) - set(EXCLUDED))


def _no_metrics(*_: Any) -> dict[str, Any]:
    return {}


def _strongly_typed(leaf: Any) -> jax.Array:
    array = jnp.asarray(leaf)
    return jax.lax.convert_element_type(array, array.dtype)


def _numeric(evosax_params: Any) -> dict[str, jax.Array]:
    """The scalar parameters of a strategy, strongly typed; learned weights stay where they are."""
    fields = {name: value for name, value in vars(evosax_params).items() if name != "params"}
    scalars = {name: value for name, value in fields.items() if jnp.ndim(value) == 0}
    return {
        name: _strongly_typed(value)
        for name, value in scalars.items()
        if jnp.asarray(value).dtype != jnp.bool_
    }


def _stays_finite(old: Any, new: Any) -> jax.Array:
    """Whether every number of the state that was finite still is; infinite archives may stay so."""
    broken = [
        (jnp.isfinite(before) & ~jnp.isfinite(after)).any()
        for before, after in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
    ]
    return ~jnp.stack(broken).any()


def _finite_losses(losses: jax.Array) -> jax.Array:
    """Losses (N,) with each non-finite one a little worse than the worst finite one.

    Strategies that standardise losses would otherwise turn one broken member into a broken state.
    """
    ok = jnp.isfinite(losses)
    worst = jnp.max(jnp.where(ok, losses, -jnp.inf))
    best = jnp.min(jnp.where(ok, losses, jnp.inf))
    replacement = jnp.where(ok.any(), worst + 1e-3 * (worst - best) + 1e-6 * jnp.abs(worst), 0.0)
    return jnp.where(ok, losses, jnp.minimum(replacement, jnp.finfo(losses.dtype).max))
