"""Our algorithms against dm-clrs, value for value, in a process of its own with float64.

    python tests/clrs_oracle.py --sizes 5,16 --samples 4 bfs minimum

prints one JSON object a line: the algorithm, the size, the samples compared, and what differs. With
`--float32` it counts the samples that differ there instead, which is no failure.
dm-clrs asks for TensorFlow at import and uses it nowhere that matters here; an empty stand-in does.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

SINGLE_TOLERANCE = 1e-4
"""Sums of a few hundred numbers in float32."""
FLOAT_TOLERANCE = 1e-9
"""float64 sums in another order; everything discrete must be equal."""
POINTERS = ("pointer", "should_be_permutation")


def load() -> tuple[Any, Any]:
    """The samplers and the specifications of dm-clrs, without its package's own imports."""
    tensorflow: Any = types.ModuleType("tensorflow")
    tensorflow.Tensor = type("Tensor", (), {})
    sys.modules["tensorflow"] = tensorflow
    found = importlib.util.find_spec("clrs")
    if found is None or found.origin is None:
        raise SystemExit("dm-clrs is not installed: pip install --no-deps dm-clrs==2.0.3")
    package: Any = types.ModuleType("clrs")
    package.__path__ = [str(Path(found.origin).parent)]
    sys.modules["clrs"] = package
    from clrs._src import samplers, specs  # type: ignore[import-not-found]

    return samplers, specs


def theirs(samplers: Any, name: str, samples: int, size: int, seed: int, **settings: Any) -> Any:
    """A batch of dm-clrs: inputs, outputs and hints by name, and lengths."""
    sampler, _ = samplers.build_sampler(
        name, num_samples=samples, length=size, seed=seed, **settings
    )
    feedback = sampler.next()
    by_name = [
        {point.name: np.asarray(point.data) for point in points}
        for points in (feedback.features.inputs, feedback.outputs, feedback.features.hints)
    ]
    kinds = {point.name: point.type_ for point in (*feedback.outputs, *feedback.features.hints)}
    return *by_name, np.asarray(feedback.features.lengths, int), kinds


def compare(samplers: Any, name: str, samples: int, size: int, seed: int) -> dict[str, Any]:
    """What differs between ours and theirs on the same inputs."""
    import jax
    import jax.numpy as jnp

    from evojax_nar.tasks import clrs

    inputs, outputs, hints, lengths, kinds = theirs(samplers, name, samples, size, seed)
    ours = jax.jit(jax.vmap(lambda own: clrs.run(name, own)))
    found_outputs, found_hints, found_lengths = jax.tree.map(
        np.asarray, ours({key: jnp.asarray(value) for key, value in inputs.items()})
    )
    differing: dict[str, Any] = {}
    if (found_lengths != lengths).any():
        differing["length"] = [found_lengths.tolist(), lengths.tolist()]
    if set(found_outputs) != set(outputs) or set(found_hints) != set(hints):
        differing["names"] = sorted(
            set(found_outputs) ^ set(outputs) | set(found_hints) ^ set(hints)
        )
    for key in set(outputs) & set(found_outputs):
        _note(differing, key, kinds[key], found_outputs[key], outputs[key])
    for key in set(hints) & set(found_hints):
        mine = np.moveaxis(found_hints[key], 0, 1)
        frames = len(hints[key])
        if mine[frames:].any():
            differing[f"{key} after the end"] = True
        _note(differing, key, kinds[key], mine[:frames], hints[key])
    return {"algorithm": name, "size": size, "samples": samples, "differing": differing}


def _note(differing: dict[str, Any], key: str, kind: str, mine: Any, true: Any) -> None:
    if mine.shape != true.shape:
        differing[key] = f"shapes {mine.shape} and {true.shape}"
        return
    if kind == "scalar":
        wrong = ~np.isclose(mine, true, rtol=FLOAT_TOLERANCE, atol=FLOAT_TOLERANCE)
    else:
        wrong = mine != true
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        differing[key] = f"{int(wrong.sum())} of {wrong.size}, first at {first}: " + (
            f"{mine[first]} for {true[first]}"
        )


def disagreements(samplers: Any, name: str, samples: int, size: int, seed: int) -> dict[str, Any]:
    """How many samples differ where ours is in float32: near-ties may then go the other way."""
    import jax
    import jax.numpy as jnp

    from evojax_nar.tasks import clrs

    inputs, outputs, hints, lengths, kinds = theirs(samplers, name, samples, size, seed)
    ours = jax.jit(jax.vmap(lambda own: clrs.run(name, own)))
    given = {key: jnp.asarray(value, jnp.float32) for key, value in inputs.items()}
    found_outputs, found_hints, found_lengths = jax.tree.map(np.asarray, ours(given))

    def differ(key: str, mine: Any, true: Any) -> Any:
        if kinds[key] == "scalar":
            wrong = ~np.isclose(mine, true, rtol=SINGLE_TOLERANCE, atol=SINGLE_TOLERANCE)
        else:
            wrong = mine != true
        return wrong.reshape(samples, -1).any(axis=1)

    answers, trails = np.zeros(samples, bool), found_lengths != lengths
    for key, true in outputs.items():
        answers |= differ(key, found_outputs[key], true)
    for key, true in hints.items():
        mine = found_hints[key][:, : len(true)]
        trails |= differ(key, mine, np.moveaxis(true, 0, 1))
    return {
        "algorithm": name,
        "size": size,
        "samples": samples,
        "other_answers": int(answers.sum()),
        "other_hints": int(trails.sum()),
    }


def main() -> None:
    """Compare what is asked for; exit with 1 where anything differs, but for float32."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="algorithms; all where none is named")
    parser.add_argument("--sizes", default="5,16")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--brief", action="store_true", help="print only what differs, and the sum")
    parser.add_argument(
        "--float32", action="store_true", help="count the samples that differ in float32 instead"
    )
    options = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", not options.float32)
    samplers, _ = load()
    from evojax_nar.tasks import clrs

    wrong, compared = False, 0
    for name in options.names or clrs.names():
        if options.float32:
            for size in map(int, options.sizes.split(",")):
                row = disagreements(samplers, name, options.samples, size, options.seed)
                print(json.dumps(row), flush=True)
            continue
        for size in map(int, options.sizes.split(",")):
            row = compare(samplers, name, options.samples, size, options.seed)
            wrong |= bool(row["differing"])
            compared += row["samples"]
            if row["differing"] or not options.brief:
                print(json.dumps(row), flush=True)
    if options.float32:
        return
    names = options.names or clrs.names()
    print(f"{len(names)} algorithms, sizes {options.sizes}, {compared} samples: ", end="")
    print("differences" if wrong else "equal")
    sys.exit(int(wrong))


if __name__ == "__main__":
    main()
