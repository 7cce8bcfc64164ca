"""One of two programs, and only that one, even where seeds run together under vmap.

`jax.lax.cond` under vmap becomes a select: both sides are computed for every row. Here the rule of
vmap looks whether the rows agree, and where they do one side is run for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from evojax_nar.strategies.base import keep_if

_FIRST, _SECOND, _BOTH = 0, 1, 2


def either(
    predicate: jax.Array,
    on_true: Callable[..., Any],
    on_false: Callable[..., Any],
    *operands: Any,
) -> Any:
    """`on_true(*operands)` where the predicate holds, else `on_false(*operands)`.

    Under vmap one side alone is run where all rows agree, however many vmaps there are; where they
    do not, both are run for every row and each takes its own.

    Args:
      predicate: bool scalar.
      on_true: a function that closes over nothing traced.
      on_false: likewise, with results of the same structure, shapes and types.
      *operands: pytrees of arrays.
    """
    leaves, structure = jax.tree.flatten(operands)

    def first(*given: Any) -> Any:
        return on_true(*jax.tree.unflatten(structure, given))

    def second(*given: Any) -> Any:
        return on_false(*jax.tree.unflatten(structure, given))

    @jax.custom_batching.custom_vmap
    def alone(predicate: jax.Array, *given: Any) -> Any:
        return jax.lax.cond(predicate, first, second, *given)

    @alone.def_vmap
    def rows(size: int, batched: Sequence[bool], predicate: jax.Array, *given: Any) -> Any:
        branches = (
            lambda _, *own: first(*own),
            lambda _, *own: second(*own),
            lambda chosen, *own: keep_if(chosen, first(*own), second(*own)),
        )
        which = jnp.where(predicate, _FIRST, _SECOND)
        return _rows(size, [batched[0], *batched], which, branches, (predicate, *given))

    return alone(predicate, *leaves)


def _rows(
    size: int, batched: Sequence[bool], which: jax.Array, branches: Any, given: Sequence[Any]
) -> tuple[Any, Any]:
    """One branch for all rows: the one that they agree on, or that which is right for any."""
    axes = [0 if own else None for own in batched[1:]]
    mapped = [jax.vmap(branch, in_axes=axes, axis_size=size) for branch in branches]
    if batched[0]:
        which = jnp.where((which == which[0]).all(), which[0], _BOTH)

    @jax.custom_batching.custom_vmap
    def switch(which: jax.Array, *given: Any) -> Any:
        return jax.lax.switch(which, mapped, *given)

    @switch.def_vmap
    def outer(size: int, batched: Sequence[bool], which: jax.Array, *given: Any) -> Any:
        return _rows(size, batched, which, mapped, given)

    results = switch(which, *given)
    return results, jax.tree.map(lambda _: True, results)
