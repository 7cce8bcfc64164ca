"""Models of graphs against what is published of them, and what a wrong pairing says."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import evojax_nar as nar
from evojax_nar.errors import InputError
from evojax_nar.models import MPNN, parameter_count
from evojax_nar.noise import LowRank
from evojax_nar.tasks import clrs

# Parameters of the reference implementation of MPNN with 32 features, one model an algorithm.
PARAMETERS = {
    "activity_selector": 12_420,
    "articulation_points": 28_657,
    "bellman_ford": 26_820,
    "bfs": 26_659,
    "binary_search": 12_420,
    "bridges": 28_756,
    "dag_shortest_paths": 42_799,
    "dfs": 35_374,
    "dijkstra": 27_142,
    "find_maximum_subarray_kadane": 13_002,
    "floyd_warshall": 33_449,
    "kmp_matcher": 20_781,
    "lcs_length": 14_203,
    "minimum": 12_195,
    "mst_kruskal": 21_139,
    "mst_prim": 27_142,
    "naive_string_matcher": 12_516,
    "quickselect": 20_363,
    "strongly_connected_components": 35_859,
    "task_scheduling": 12_453,
    "topological_sort": 35_116,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_published(name: str) -> None:
    task = nar.tasks.get(f"clrs/{name}")
    shapes = jax.eval_shape(lambda: MPNN(hidden=32).init(jax.random.key(0), task.spec))
    assert parameter_count(shapes) == PARAMETERS[name]


def test_no_member_forms_a_matrix_of_its_own() -> None:
    task = clrs.BreadthFirstSearch.example()
    model = MPNN.example()
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), task.spec))
    nar.audit(model, params, spec=task.spec, strict=True)


def test_members_are_what_the_formed_parameters_give() -> None:
    task, model = clrs.BreadthFirstSearch.example(), MPNN.example()
    spec = task.spec

    @jax.jit
    def both(key: jax.Array) -> Any:
        params = model.init(key, spec)
        batch = task.sample(key, 5, max_size=5, batch=2)
        noise = LowRank(rank=1).draw(key, params, sigma=0.1)

        def outputs(own: Any) -> Any:
            return model.apply(own, batch.inputs, spec=spec).outputs

        return nar.perturbed(outputs)(params, noise), outputs(nar.materialise(params, noise))

    ours, theirs = both(jax.random.key(0))
    for own, formed in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(own, formed, rtol=1e-4, atol=1e-4)


def test_models_and_tasks_of_different_forms_are_refused() -> None:
    with pytest.raises(InputError, match="reads graphs, and task='parity' gives sequences"):
        MPNN().init(jax.random.key(0), nar.tasks.Parity().spec)
    with pytest.raises(InputError, match="reads sequences, and task='clrs/bfs' gives graphs"):
        nar.models.LSTM().init(jax.random.key(0), nar.tasks.get("clrs/bfs").spec)
