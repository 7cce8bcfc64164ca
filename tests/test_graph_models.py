"""Models of graphs against what is published of them, and what a wrong pairing says."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import evojax_nar as nar
from evojax_nar.errors import InputError
from evojax_nar.models import MPNN, GraphModel, parameter_count
from evojax_nar.models.graph import TripletMPNN
from evojax_nar.noise import LowRank
from evojax_nar.tasks import clrs

pytestmark = pytest.mark.usefixtures("quick_compile")

# Parameters of the reference implementation, one model an algorithm: MPNN and Triplet-GMPNN with 32
# features, and both with 128.
PARAMETERS = {
    "activity_selector": (12_420, 19_516, 184_836, 262_204),
    "articulation_points": (28_657, 37_801, 421_777, 531_913),
    "bellman_ford": (26_820, 35_964, 414_468, 524_604),
    "bfs": (26_659, 35_803, 413_827, 523_963),
    "binary_search": (12_420, 19_516, 184_836, 262_204),
    "bridges": (28_756, 37_964, 422_164, 532_556),
    "bubble_sort": (26_789, 35_933, 414_341, 524_477),
    "dag_shortest_paths": (42_799, 53_991, 650_383, 793_287),
    "dfs": (35_374, 45_542, 534_670, 661_190),
    "dijkstra": (27_142, 36_286, 415_750, 525_886),
    "find_maximum_subarray_kadane": (13_002, 20_098, 187_146, 264_514),
    "floyd_warshall": (33_449, 42_657, 514_697, 625_089),
    "graham_scan": (20_881, 29_001, 304_657, 398_409),
    "heapsort": (34_990, 45_158, 533_134, 659_654),
    "insertion_sort": (26_789, 35_933, 414_341, 524_477),
    "jarvis_march": (13_098, 20_194, 187_530, 264_898),
    "kmp_matcher": (20_781, 28_901, 304_269, 398_021),
    "lcs_length": (14_203, 21_587, 191_899, 270_419),
    "matrix_chain_order": (33_288, 42_496, 514_056, 624_448),
    "minimum": (12_195, 19_291, 183_939, 261_307),
    "mst_kruskal": (21_139, 29_323, 305_683, 399_691),
    "mst_prim": (27_142, 36_286, 415_750, 525_886),
    "naive_string_matcher": (12_516, 19_612, 185_220, 262_588),
    "optimal_bst": (33_643, 42_883, 515_467, 625_987),
    "quickselect": (20_363, 28_483, 302_603, 396_355),
    "quicksort": (27_111, 36_255, 415_623, 525_759),
    "segments_intersect": (12_711, 19_807, 185_991, 263_359),
    "strongly_connected_components": (35_859, 46_059, 536_595, 663_243),
    "task_scheduling": (12_453, 19_549, 184_965, 262_333),
    "topological_sort": (35_116, 45_284, 533_644, 660_164),
}
LARGE = ("bfs", "bubble_sort", "floyd_warshall", "lcs_length", "segments_intersect")
"""Those that are also counted with 128: between them they have fields of every kind and place."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_published(name: str) -> None:
    spec = nar.tasks.get(f"clrs/{name}").spec

    def count(model: GraphModel) -> int:
        return parameter_count(jax.eval_shape(lambda: model.init(jax.random.key(0), spec)))

    assert count(MPNN(hidden=32)) == PARAMETERS[name][0]
    assert count(TripletMPNN(hidden=32)) == PARAMETERS[name][1]
    if name in LARGE:
        assert count(MPNN(hidden=128)) == PARAMETERS[name][2]
        assert count(TripletMPNN(hidden=128)) == PARAMETERS[name][3]


def test_no_member_forms_a_matrix_of_its_own() -> None:
    task = clrs.BreadthFirstSearch.example()
    model = MPNN.example()
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), task.spec))
    nar.audit(model, params, spec=task.spec, strict=True)


@pytest.mark.parametrize("model", [MPNN.example(), TripletMPNN.example()])
def test_members_are_what_the_formed_parameters_give(model: GraphModel) -> None:
    task = clrs.BreadthFirstSearch.example()
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
