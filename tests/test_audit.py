"""The audit says leaf by leaf what a member forms, and strict programs refuse what falls back."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax import lax

import evojax_nar as nar
from evojax_nar.noise import LowRank, Rule, perturbed

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(0)
PARAMS = {
    "shared": jnp.ones((8, 6)),
    "bias": jnp.zeros(6),
    "table": jnp.ones((6, 6)),
    "frozen": jnp.ones((6, 6)),
    "idle": jnp.ones((6, 7)),
    "squashed": jnp.ones((6, 5)),
}
RULE = LowRank(rank=2, rules=(Rule("table", rank=0), Rule("frozen", frozen=True)))


def function(params: Any, x: jax.Array) -> jax.Array:
    """Reads all but one of its leaves, and two of them in a loop."""
    x = jax.jit(lambda p, x: jnp.tanh(x @ p["shared"] + p["bias"]))(params, x)
    x, _ = lax.scan(lambda x, _: (x @ params["table"] @ params["frozen"], None), x, length=3)
    return lax.fori_loop(0, 2, lambda _, y: y + x @ jnp.tanh(params["squashed"]), jnp.zeros((3, 5)))


def test_every_kind_of_leaf_is_told() -> None:
    audit = nar.audit(function, PARAMS, jnp.ones((3, 8)), noise=RULE)
    said = {row.path: (row.shape, row.kind, row.drawn, row.formed) for row in audit.rows}
    assert said == {
        "shared": ((8, 6), "shared + rank 2", 28, 0),
        "bias": ((6,), "dense", 6, 24),
        "table": ((6, 6), "dense", 36, 144),
        "frozen": ((6, 6), "frozen", 0, 0),
        "idle": ((6, 7), "unused", 26, 0),
        "squashed": ((6, 5), "fallback", 22, 120),
    }
    assert [row.path for row in audit.rows if row.forced_by] == ["squashed"]
    assert audit.fallback_bytes == 120
    drawn = jax.tree.leaves(RULE.draw(KEY, PARAMS))
    assert sum(row.drawn for row in audit.rows) == sum(part.size for part in drawn)


def test_the_table_is_aligned() -> None:
    lines = str(nar.audit(function, PARAMS, jnp.ones((3, 8)), noise=RULE)).splitlines()
    assert lines[0].split() == ["leaf", "shape", "noise", "drawn", "formed", "forced", "by"]
    row = next(line for line in lines if line.startswith("squashed"))
    assert re.split(r"\s{2,}", row) == ["squashed", "(6, 5)", "fallback", "22", "120 B", "tanh"]
    for column in ("shape", "noise", "forced by"):
        place = lines[0].index(column)
        assert all(line[place - 1] == " " for line in lines[:-1] if len(line) > place)
    assert lines[-1] == "A member draws 118 numbers and forms 288 B, of it 120 B by fallback."


def test_nothing_is_run() -> None:
    shape = jax.ShapeDtypeStruct((1_000_000, 1_000_000), jnp.float32)
    x = jax.ShapeDtypeStruct((1, 1_000_000), jnp.float32)
    (row,) = nar.audit(lambda params, x: x @ params["w"], {"w": shape}, x).rows
    assert (row.kind, row.drawn) == ("shared + rank 1", 2_000_000)


DISCRETE = [cls.name for cls in nar.models.ALL if issubclass(cls, nar.models.DiscreteModel)]
FLOAT = [name for name in nar.models.names() if name not in DISCRETE]


@pytest.mark.parametrize("name", DISCRETE)
def test_choices_are_drawn_and_nothing_falls_back(name: str) -> None:
    spec, model = nar.tasks.get("parity").spec, nar.models.get(name)
    params = jax.eval_shape(lambda: model.init(KEY, spec))
    audit = nar.audit(model, params, spec=spec, strict=True)
    assert {row.kind for row in audit.rows} == {"choices"}
    assert sum(row.drawn for row in audit.rows) == nar.models.parameter_count(params)
    assert audit.fallback_bytes == 0


@pytest.mark.parametrize("name", FLOAT)
def test_built_in_models_fall_back_nowhere(name: str) -> None:
    specs = [nar.tasks.get(task).spec for task in ("parity", "clrs/bfs")]
    spec = next(spec for spec in specs if nar.models.suits(name, spec))
    model = nar.models.get(name)
    params = jax.eval_shape(lambda: model.init(KEY, spec))
    audit = nar.audit(model, params, spec=spec, strict=True)
    assert audit.fallback_bytes == 0
    kinds = {row.kind for row in audit.rows}
    assert kinds <= {"shared + rank 1", "dense"}
    assert "shared + rank 1" in kinds


def _concatenated(params: Any) -> jax.Array:
    return jnp.exp(jnp.concatenate([params["one"], params["two"]], axis=1)).sum()


def _by_a_member(params: Any) -> jax.Array:
    """Scaled by a number that each member has of its own, so that the base is not shared."""
    return jnp.ones((2, 8)) @ (params["one"] * params["bias"][0]) @ params["two"].T


def _as_a_carry(params: Any) -> jax.Array:
    step = lambda memory, _: (memory * 0.5, memory.sum())  # noqa: E731
    return (
        lax.scan(step, params["one"] @ jnp.eye(8), length=3)[1]
        + lax.while_loop(
            lambda memory: memory.sum() < 3.0, lambda memory: memory + 1.0, params["two"]
        ).sum()
    )


@pytest.mark.parametrize(
    ("function", "forced"),
    [
        (_concatenated, dict.fromkeys(("one", "two"), ("exp", 256))),
        (_by_a_member, {"one": ("mul", 256)}),
        (_as_a_carry, {"two": ("while carry", 256)}),
        (lambda params: params["two"], {"two": ("output", 256)}),
        (
            lambda params: jnp.tanh(params["one"] @ params["two"]),
            dict.fromkeys(("one", "two"), ("tanh", 128)),
        ),
    ],
    ids=["several leaves", "a member's scale", "a carry", "a result", "a product of two"],
)
def test_a_fallback_names_its_leaves_and_its_cause(
    function: Callable[[Any], Any], forced: dict[str, tuple[str, int]]
) -> None:
    params = {"one": jnp.ones((8, 8)), "two": jnp.ones((8, 8)), "bias": jnp.ones(3)}
    audit = nar.audit(function, params)
    said = {row.path: (*row.forced_by, row.formed) for row in audit.rows if row.kind == "fallback"}
    assert said == forced
    assert audit.fallback_bytes == sum(size for _, size in forced.values())
    with pytest.raises(nar.InputError, match="strict=True: ") as refused:
        nar.audit(function, params, strict=True)
    assert all(repr(leaf) in str(refused.value) for leaf in forced)


def test_strict_says_the_remedy() -> None:
    params = {"params": {"w": jnp.ones((8, 6)), "a.w": jnp.ones((8, 6))}}

    def model(params: Any, x: jax.Array) -> jax.Array:
        return x @ jnp.tanh(params["params"]["w"]) + x @ params["params"]["a.w"]

    x = jnp.ones((2, 8))
    noise = LowRank().draw(KEY, params)
    with pytest.raises(nar.InputError) as refused:
        perturbed(model, strict=True)(params, noise, x)
    message = str(refused.value)
    assert "tanh needs 'params/w' of shape (8, 6) added up for each member" in message
    assert perturbed(model)(params, noise, x).shape == (2, 6)
    pattern = message.split("Rule(")[1].split(", rank=0")[0].strip("'")
    rule = LowRank(rules=(Rule(pattern.encode().decode("unicode_escape"), rank=0),))
    kinds = {
        row.path: row.kind for row in nar.audit(model, params, x, noise=rule, strict=True).rows
    }
    assert kinds == {"params/w": "dense", "params/a.w": "shared + rank 1"}
    assert perturbed(model, strict=True)(params, rule.draw(KEY, params), x).shape == (2, 6)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (nn.Dense(3), "function=Dense is a linen module; give its method apply"),
        (nar.models.LSTM(), "function=LSTM is no function; give its spec"),
        (3, "function=int is no function; give one of parameters and arrays"),
    ],
)
def test_what_cannot_be_audited_is_refused(what: Any, message: str) -> None:
    with pytest.raises(nar.InputError, match=message):
        nar.audit(what, PARAMS)


def test_what_the_engine_page_shows() -> None:
    """Its table is what is printed, and the blocks for libraries that few have installed run."""
    page = (Path(__file__).parent.parent / "docs" / "engine.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S)
    assert sum("equinox" in block or "haiku" in block for block in blocks) == 2
    for block in blocks:
        exec(compile(block, "engine.md", "exec"), names)
    shown = str(nar.audit(names["gated"], names["mixed"], jnp.ones((3, 8))))
    assert f"```\n{shown}\n```" in page
