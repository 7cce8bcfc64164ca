"""The published splits of CLRS-30, number for number, and scores on them."""

from __future__ import annotations

from typing import Any

import clrs_official
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evojax_nar.errors import InputError
from evojax_nar.tasks import clrs
from evojax_nar.tasks.clrs.official import official, score
from evojax_nar.types import Batch, GraphOutputs

pytestmark = pytest.mark.usefixtures("quick_compile")

ROWS = clrs_official.rows()
FEW = ("bfs", "insertion_sort", "minimum", "topological_sort")
"""Those of which all splits are solved here; the command solves all of all."""


def labelled(rows: list[dict[str, str]]) -> Any:
    names = [f"{row['algorithm']}-{row['split']}-{row['size']}" for row in rows]
    return pytest.mark.parametrize("row", rows, ids=names)


def test_all_thirty_have_three_splits() -> None:
    splits = {(row["algorithm"], row["split"]) for row in ROWS}
    names = {name for name, _ in splits}
    assert len(names) == 30
    assert len(splits) == 90
    assert set(clrs.names()) == names | {"bipartite_matching", "find_maximum_subarray"}


@labelled([row for row in ROWS if row["split"] != "val"])
def test_inputs_are_the_published_ones(row: dict[str, str]) -> None:
    task, inputs = clrs_official.replayed(row)
    assert len(inputs["pos"]) == int(row["samples"])
    assert clrs_official.fingerprint(task.specification.inputs, inputs) == row["inputs"]


@labelled([row for row in ROWS if row["split"] == "val" or row["algorithm"] in FEW])
def test_answers_are_the_published_ones(row: dict[str, str]) -> None:
    found = clrs_official.found_for(row)
    assert found == {key: row[key] for key in found}


@pytest.fixture(scope="module")
def bridges() -> Batch:
    return official("bridges", "val")


def test_a_split_is_a_batch_in_float32(bridges: Batch) -> None:
    assert bridges.inputs.values["A"].shape == (32, 16, 16)
    assert bridges.mask.all()
    assert bridges.size.tolist() == [16] * 32
    types = {str(leaf.dtype) for leaf in jax.tree.leaves(bridges)}
    assert types == {"float32", "int32", "bool"}
    assert all(len(frames) == 1 for frames in bridges.inputs.hints.values())
    assert jnp.ones(1).dtype == jnp.float32, "float64 is over"


def test_a_split_can_have_all_frames() -> None:
    batch = official("bfs", "val", hints=True)
    steps = np.asarray(batch.inputs.running).sum(axis=0)
    reached = np.asarray(batch.inputs.hints["reach_h"]).sum(axis=2)
    assert reached.shape == (16, 32)
    for example, count in enumerate(steps):
        own = reached[: count + 1, example]
        assert (np.diff(own) > 0).all(), "each distance has new nodes"
        assert not reached[count + 1 :, example].any()


def test_the_score_is_pooled_over_the_split(bridges: Batch) -> None:
    truth = np.asarray(bridges.targets["is_bridge"])
    assert score("bridges", says(2 * truth - 1), bridges) == 1.0
    said = np.random.RandomState(0).uniform(size=truth.shape) < 0.3
    hits, judged = (said & (truth == 1)).sum(), truth >= 0
    expected = 2 * hits / ((said & judged).sum() + (truth == 1).sum())
    logits = np.where(said, 1.0, -1.0)
    assert score("bridges", says(logits), bridges) == pytest.approx(expected, abs=1e-6)
    parts = []
    for part in (slice(0, 16), slice(16, 32)):
        half = bridges._replace(targets={"is_bridge": truth[part]}, mask=bridges.mask[part])
        parts.append(score("bridges", says(logits[part]), half))
    assert np.mean(parts) != pytest.approx(expected, abs=1e-6), "so give all of it at once"


def says(logits: np.ndarray) -> GraphOutputs:
    return GraphOutputs({"is_bridge": jnp.asarray(logits, jnp.float32)}, {})


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("bsf", "val", "did you mean 'bfs'"),
        ("bfs", "valid", "did you mean 'val'"),
        ("bipartite_matching", "val", "has no published splits"),
    ],
)
def test_what_is_not_published_is_named(name: str, split: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        official(name, split)
