"""Our models of graphs against those of dm-clrs with the same parameters, number for number.

    python tests/clrs_models_oracle.py bfs:triplet_gmpnn:lstm insertion_sort:gat:hard

prints one JSON object a case: how many parameters there are in both, and the largest difference of
an output and of a hint, relative to the largest number that is not masked out. A case is an
algorithm, a processor, and options: `gated`, `lstm`, `hard` (hints read as decisions), `full`, and
`forced` (all true hints read). Without cases it runs all thirty algorithms with `mpnn`. It exits
with 1 where a difference is larger than what dozens of steps in float32 come to.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import clrs_oracle
import jax
import jax.numpy as jnp
import numpy as np

from evojax_nar import models
from evojax_nar.models import graph as processors
from evojax_nar.models.graph.encoding import FAR
from evojax_nar.models.graph.permutations import fuse
from evojax_nar.tasks import clrs
from evojax_nar.types import Graph, TaskSpec

HIDDEN, SAMPLES, SIZE, SEED = 16, 3, 6, 1
TOLERANCE = 1e-3
MODELS: dict[str, Any] = {
    "mpnn": processors.MPNN,
    "pgn": processors.PGN,
    "deepsets": processors.DeepSets,
    "gat": processors.GAT,
    "gatv2": processors.GATv2,
    "triplet_gmpnn": processors.TripletMPNN,
}
"""Memnet is not among them: that of dm-clrs takes features for the numbers of words."""
PASSED = ("receiver", "sender", "edge", "graph", "node", "heard")
TRIPLETS = ("first", "second", "third", "first_second", "first_third", "second_third", "graph")
GATE = ("gate_node", "gate_heard", "gate")
ATTENTION = ("value", "skip", "query", "key", "edge", "graph")
DYNAMIC = ("value", "skip", "key", "query", "edge", "graph")
"""Linear maps in the order in which dm-clrs makes them."""


def case(text: str) -> tuple[str, str, Any, Any]:
    """The algorithm, the processor's kind in dm-clrs, our model, and further settings of theirs."""
    algorithm, name, *options = text.split(":")
    settings: dict[str, Any] = {"hidden": HIDDEN, "lstm": "lstm" in options}
    settings["hard_hints"] = "hard" in options
    settings["teacher_forcing"] = float("forced" in options)
    kind = name
    if name in ("gat", "gatv2"):
        settings["full"] = "full" in options
        settings["heads"] = 2
        kind += "_full" * settings["full"]
    elif "gated" in options:
        settings["gated"] = True
        kind = {"mpnn": "gmpnn", "pgn": "gpgn"}[name]
    return algorithm, kind, MODELS[name](**settings), options


def draw(samplers: Any, algorithm: str, *, ordered: bool) -> tuple[Any, Any]:
    """The specification and a batch of dm-clrs, as its trainer prepares them.

    Where `ordered`, the order of a list is an input rather than a hint.
    """
    sampler, spec = samplers.build_sampler(algorithm, num_samples=SAMPLES, length=SIZE, seed=SEED)

    def batches() -> Any:
        while True:
            yield sampler.next(SAMPLES)

    found: Any = batches()
    if ordered:
        spec, found = samplers.process_pred_as_input(spec, found)
    spec, found = samplers.process_permutations(spec, found, True)
    return spec, next(found)


def as_graph(spec: TaskSpec, feedback: Any, constants: tuple[str, ...], *, hints: bool) -> Graph:
    """The inputs of dm-clrs as ours."""
    given = {point.name: point.data for point in feedback.features.inputs}
    for name in constants:
        given[name] = given.pop(name.removesuffix("_h"))
    shown = {point.name: point.data for point in feedback.features.hints}

    def convert(field: Any, value: Any) -> jax.Array:
        pointer = field.kind in ("pointer", "permutation")
        return jnp.asarray(value, jnp.int32 if pointer else jnp.float32)

    frames = len(next(iter(shown.values())))
    lengths = np.asarray(feedback.features.lengths)
    running = np.arange(max(1, frames - 1))[:, None] < np.maximum(lengths - 1, 1)
    kept = frames if hints else 1
    return Graph(
        values={field.name: convert(field, given[field.name]) for field in spec.inputs},
        mask=jnp.ones(given["pos"].shape, bool),
        running=jnp.asarray(running),
        hints={f.name: convert(f, shown[f.name][:kept]) for f in spec.hints},
    )


def translate(spec: TaskSpec, constants: tuple[str, ...], ours: Any, name: str) -> dict[str, Any]:
    """Our parameters under the names of dm-clrs."""
    found: dict[str, Any] = {}

    def put(path: str, dense: Any) -> None:
        found[path] = {"w": dense["kernel"], "b": dense["bias"]}

    def numbered(start: str, dense: list[Any]) -> None:
        for place, own in enumerate(dense):
            put(f"{start}_{place}" if place else start, own)

    prefix, step = "net/~_construct_encoders_decoders/algo_0", ours["step"]
    for fields, own in ((spec.inputs, ours["encode_inputs"]), (spec.hints, step["encode_hints"])):
        for field in fields:
            theirs = field.name.removesuffix("_h") if field.name in constants else field.name
            both = [own[key] for key in (field.name, f"{field.name}_receiver") if key in own]
            numbered(f"{prefix}_{theirs}_enc_linear", both)
    for fields, own in ((spec.outputs, ours["decode_outputs"]), (spec.hints, step["decode_hints"])):
        for field in fields:
            places = {"graph": ("node", "graph"), "edge": ("from", "to", "edge", "at", "logit")}
            order = places.get(field.location, ("from", "to", "edge", "logit", "node"))
            dense = [own[key] for p in order if (key := f"{field.name}_{p}") in own]
            numbered(f"{prefix}_{field.name}_dec_linear", dense)
            if field.kind == "permutation":
                put(f"{prefix}_{field.name}_mask_dec_linear", own[f"{field.name}_first"])
    if "memory" in step:
        put("net/processor_lstm/linear", step["memory"]["gates"])
    own = step["processor"]
    if name.startswith("gat"):
        aggregator = f"net/{name.removesuffix('_full')}_aggr_clrs_processor"
        order = DYNAMIC if name.startswith("gatv2") else ATTENTION
        numbered(f"{aggregator}/linear", [own[key] for key in order] + _scores(own))
    else:
        aggregator, triplets = "net/mpnn_aggr_clrs_processor", own.get("triplets")
        own = own.get("messages", own)
        dense = [own[key] for key in PASSED]
        if triplets is not None:
            dense += [triplets[key] for key in (*TRIPLETS, "edge")]
        dense += [own[key] for key in GATE if key in own]
        numbered(f"{aggregator}/linear", dense)
        for layer in (0, 1):
            put(f"{aggregator}/mlp/~/linear_{layer}", own[f"message_{layer}"])
    norm = own["norm"]
    found[f"{aggregator}/layer_norm"] = {"scale": norm["scale"], "offset": norm["bias"]}
    return found


def _scores(own: Any) -> list[Any]:
    return [own[f"score_{head}"] for head in range(2) if f"score_{head}" in own]


def compare(samplers: Any, text: str) -> dict[str, Any]:
    """What differs in one case."""
    import haiku as hk
    from clrs._src import nets  # type: ignore[import-not-found]
    from clrs._src import processors as theirs  # type: ignore[import-not-found]

    algorithm, kind, model, options = case(text)
    task = getattr(clrs, {cls.name: cls.__name__ for cls in clrs.ALL}[f"clrs/{algorithm}"])
    spec, constants = task().spec, task.constants
    their_spec, feedback = draw(samplers, algorithm, ordered=bool(constants))
    points = [*feedback.features.inputs, *feedback.outputs, *feedback.features.hints]
    widths = {point.name: point.data.shape[-1] for point in points}
    factory = theirs.get_processor_factory(kind, use_ln=True, nb_triplet_fts=8, nb_heads=2)
    mode, forced = "hard" if model.hard_hints else "soft", "forced" in options

    def run(features: Any) -> Any:
        net = nets.Net(
            spec=[their_spec], hidden_dim=HIDDEN, encode_hints=True, decode_hints=True,
            processor_factory=factory, use_lstm=model.lstm, encoder_init="default",
            dropout_prob=0.0, hint_teacher_forcing=float(forced), hint_repred_mode=mode,
            nb_dims=[widths],
        )  # fmt: skip
        return net([features], not forced, 0, True, False)

    graph = as_graph(spec, feedback, constants, hints=forced)
    params = jax.jit(lambda: model.init(jax.random.key(SEED), spec))()
    # Biases too: those of a fresh model are zero, and would be equal in any order.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(SEED), len(leaves))
    leaves = [p + 0.1 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    params = jax.tree.unflatten(tree, leaves)
    translated = translate(spec, constants, params, kind)
    network = hk.transform(run)
    their_params = jax.eval_shape(network.init, jax.random.key(0), feedback.features)
    same = {k: {n: x.shape for n, x in v.items()} for k, v in their_params.items()}
    assert same == {k: {n: x.shape for n, x in v.items()} for k, v in translated.items()}
    ours = jax.jit(lambda own, graph: model.apply(own, graph, spec=spec))(params, graph)
    outputs, hints = jax.jit(network.apply)(translated, jax.random.key(0), feedback.features)
    for field in spec.outputs:
        if field.kind == "permutation":
            first = outputs.pop(f"{field.name}_mask")
            outputs[field.name] = fuse(outputs[field.name], first, graph.mask)
    stacked = {name: np.stack([step[name] for step in hints]) for name in hints[0]}
    return {
        "case": text,
        "parameters": models.parameter_count(params),
        "steps": len(graph.running),
        "outputs": worst(ours.outputs, outputs),
        "hints": worst(ours.hints, stacked),
    }


def worst(ours: Any, theirs: Any) -> float:
    """The largest relative difference."""
    assert set(ours) == set(theirs)
    found = [0.0]
    for name, mine in ours.items():
        mine, true = np.asarray(mine), np.asarray(theirs[name])
        assert mine.shape == true.shape
        near = (mine > FAR / 2) & (true > FAR / 2)
        assert (near == (true > FAR / 2)).all()
        largest = max(1.0, np.abs(true[near]).max())
        found.append(float(np.abs(mine - true)[near].max() / largest))
    return max(found)


def main() -> None:
    """Compare what is asked for; exit with 1 where something differs."""
    # Two programs a case that run once: compiled with few optimisations, in half the time.
    jax.config.update("jax_disable_most_optimizations", True)
    samplers, _ = clrs_oracle.load()
    thirty = [f"{cls.name.removeprefix('clrs/')}:mpnn" for cls in clrs.ALL]
    beyond = ("find_maximum_subarray:", "bipartite_matching:")
    wrong = False
    for text in sys.argv[1:] or [text for text in thirty if not text.startswith(beyond)]:
        row = compare(samplers, text)
        wrong |= not max(row["outputs"], row["hints"]) <= TOLERANCE
        print(json.dumps(row), flush=True)
    sys.exit(int(wrong))


if __name__ == "__main__":
    main()
