"""Every task draws what it drew before, and answers what it answered."""

from __future__ import annotations

import json
from typing import Any

import golden
import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.mark.parametrize("name", golden.names())
def test_a_task_draws_its_golden_example(name: str) -> None:
    kept = json.loads(golden.path(name).read_text(encoding="utf-8"))
    _same(json.loads(json.dumps(golden.example(name))), kept, name)


def test_no_golden_example_is_left_over() -> None:
    kept = {path.relative_to(golden.FOLDER) for path in golden.FOLDER.rglob("*.json")}
    assert kept == {golden.path(name).relative_to(golden.FOLDER) for name in golden.names()}


def _same(ours: Any, kept: Any, where: str) -> None:
    if isinstance(kept, dict):
        assert list(ours) == list(kept), where
        for key, value in kept.items():
            _same(ours[key], value, f"{where}.{key}")
    elif isinstance(kept, list) and kept and not isinstance(kept[0], str):
        # Rounded to 5 digits, a number may fall to either side of the middle.
        np.testing.assert_allclose(np.asarray(ours), np.asarray(kept), atol=2e-5, err_msg=where)
    else:
        assert ours == kept, where
