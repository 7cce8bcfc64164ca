"""What a program costs: FLOPs counted from the traced program, bytes predicted and compiled.

XLA's own cost analysis counts the body of a loop once, so FLOPs are counted here by walking the
jaxpr and multiplying by scan lengths.
"""

from __future__ import annotations

import functools
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend import core as jex_core

_FREE = frozenset(
    {
        "broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "slice", "copy",
        "concatenate", "pad", "rev", "iota", "convert_element_type", "bitcast_convert_type",
        "dynamic_slice", "dynamic_update_slice", "gather", "select_n", "stop_gradient",
        "random_wrap", "random_unwrap", "random_fold_in", "random_split", "random_seed",
        "sharding_constraint", "split", "device_put", "copy_p", "optimization_barrier",
    }
)  # fmt: skip
"""Primitives that move numbers and compute none."""


def flops(function: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
    """Floating-point operations of one call: 2 a multiply-add of a contraction, 1 an element else.

    Args:
      function: anything that `jax.make_jaxpr` traces; it is not run.
      *args: its arguments, arrays or `jax.ShapeDtypeStruct`s.
      **kwargs: likewise.

    The body of a scan counts as often as it runs, that of a while loop once (its number of turns
    is not known), and of a conditional the dearest branch.
    """
    return _count(jax.make_jaxpr(function)(*args, **kwargs).jaxpr)


def _count(jaxpr: Any) -> float:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> float:
    name = equation.primitive.name
    if name == "cond":
        return max(_count(branch.jaxpr) for branch in equation.params["branches"])
    if name.startswith("scatter"):  # its subprogram combines two numbers, once an update
        return 0.0 if name == "scatter" else float(equation.invars[2].aval.size)
    inner = list(_subprograms(equation))
    if inner:
        times = 1
        if name == "scan":
            times = equation.params["length"]
        elif name == "shard_map":
            times = math.prod(equation.params["mesh"].shape.values())
        return times * sum(map(_count, inner))
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2.0 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        numbers = equation.params["dimension_numbers"]
        per_output = kernel.size / kernel.shape[numbers.rhs_spec[0]]
        return 2.0 * equation.outvars[0].aval.size * per_output
    if name in _FREE:
        return 0.0
    if name.startswith(("reduce", "arg", "cum")):
        return float(equation.invars[0].aval.size)
    if name == "sort":
        operand = equation.invars[0].aval
        length = operand.shape[equation.params["dimension"]]
        return float(operand.size * math.log2(max(length, 2)))
    return float(sum(getattr(out.aval, "size", 1) for out in equation.outvars))


def _subprograms(equation: Any) -> Iterator[Any]:
    """The jaxprs inside an equation, that of a custom derivative rule excepted."""
    for key, value in equation.params.items():
        if key in ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "jvp_jaxpr_thunk"):
            continue
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, jex_core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, jex_core.Jaxpr):
                yield item


def tree_bytes(tree: Any) -> int:
    """Bytes of all leaves of a tree of arrays, or of their shapes."""
    return sum(leaf.size * itemsize(leaf) for leaf in jax.tree.leaves(tree))


def largest_bytes(function: Callable[..., Any], *args: Any) -> int:
    """Bytes of the largest single operation of a program, operands and results; nothing is run.

    A lower bound on the memory that the program needs beside its arguments.
    """

    def walk(jaxpr: Any) -> int:
        worst = 0
        for equation in jaxpr.eqns:
            avals = [v.aval for v in (*equation.invars, *equation.outvars)]
            here = sum(a.size * itemsize(a) for a in avals if hasattr(a, "shape"))
            worst = max([worst, here, *map(walk, _subprograms(equation))])
        return worst

    return walk(jax.make_jaxpr(function)(*args).jaxpr)


def compiled_bytes(compiled: Any) -> int | None:
    """Peak bytes of a compiled program: arguments, results and temporaries; None where unknown."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    return int(
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        + analysis.temp_size_in_bytes
        - analysis.alias_size_in_bytes
    )


@functools.cache
def flops_per_second() -> float:
    """What a product of two matrices of 1024 x 1024 reaches on the default device, in float32."""
    turns = 4 if jax.default_backend() == "cpu" else 100

    @jax.jit
    def products(matrix: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, turns, lambda _, total: total @ matrix, matrix)

    matrix = jax.block_until_ready(products(jax.numpy.eye(1024)))
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        jax.block_until_ready(products(matrix))
        seconds.append(time.perf_counter() - begin)
    return turns * 2 * 1024**3 / min(seconds)


def available_bytes() -> int:
    """Bytes that the default device has free: of the accelerator, or of the host for a CPU."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    try:
        memory = Path("/proc/meminfo").read_text()
    except OSError:  # not Linux
        memory = ""
    # What only caches files can be had for the asking, and does not count as free pages.
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", memory, re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def readable_bytes(count: float) -> str:
    """`count` bytes with a binary unit: 1536 is '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError  # the loop always returns at its last unit


def itemsize(leaf: Any) -> int:
    """Bytes of one number of an array, or of anything with a `dtype`."""
    try:
        return np.dtype(leaf.dtype).itemsize
    except TypeError:  # a typed key: two words of 32 bits in threefry
        return 8
