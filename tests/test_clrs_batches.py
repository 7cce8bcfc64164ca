"""Batches of algorithms: with all frames, with fewer, and with the first one alone."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from evojax_nar.errors import InputError
from evojax_nar.tasks import clrs
from evojax_nar.tasks.clrs import ClrsTask
from evojax_nar.types import Batch

pytestmark = pytest.mark.usefixtures("quick_compile")


def draw(task: ClrsTask) -> Batch:
    sample = jax.jit(lambda key: task.sample(key, 8, max_size=8, batch=6))
    return jax.device_get(sample(jax.random.key(3)))


@pytest.mark.parametrize("algorithm", [clrs.JarvisMarch, clrs.Kruskal, clrs.Minimum])
def test_fewer_frames_are_the_first_ones(algorithm: type[ClrsTask]) -> None:
    whole, cut = draw(algorithm()), draw(algorithm(max_frames=6))
    for ours, theirs in zip(
        jax.tree.leaves((cut.targets, cut.inputs.values)),
        jax.tree.leaves((whole.targets, whole.inputs.values)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert cut.inputs.hints.keys() == whole.inputs.hints.keys()
    for name, frames in cut.inputs.hints.items():
        assert len(frames) == 6
        np.testing.assert_array_equal(frames, whole.inputs.hints[name][:6])
    np.testing.assert_array_equal(cut.inputs.running, whole.inputs.running[:5])


def test_a_batch_to_be_judged_on_has_the_first_frame_alone() -> None:
    task = clrs.Kruskal(varied=False)
    whole, judged = draw(task), draw(task.test)
    np.testing.assert_array_equal(judged.inputs.running, whole.inputs.running)
    for name, frames in judged.inputs.hints.items():
        np.testing.assert_array_equal(frames, whole.inputs.hints[name][:1])
    for name, answer in judged.targets.items():
        np.testing.assert_array_equal(answer, whole.targets[name])


def test_one_frame_is_too_few() -> None:
    with pytest.raises(InputError, match="max_frames=1"):
        clrs.Minimum(max_frames=1)
