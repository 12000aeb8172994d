"""Planted groups are found, the same every time; TF-IDF is that of its formula."""

import random
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

from omics_transformers.data_scripts.cell_clusters import LeidenOptions, leiden_clusters, tf_idf

igraph = pytest.importorskip("igraph")


def planted(sizes: tuple[int, ...] = (40, 25), n_peaks: int = 300) -> tuple[sp.csr_matrix, np.ndarray]:
    """Counts, and the group of each cell, in mixed order: of each group's own peaks cells have ten times as many."""
    generator = np.random.default_rng(0)
    groups = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rates = np.where(np.arange(n_peaks) % len(sizes) == groups[:, None], 1.0, 0.1)
    depth = generator.uniform(0.3, 3, (len(groups), 1))
    return sp.csr_matrix(generator.poisson(rates * depth)), groups


@pytest.mark.parametrize("sizes", [(40, 25), (30, 30, 30)])
@pytest.mark.parametrize("drop_first", [True, False])
def test_planted_groups_are_found_exactly(sizes: tuple[int, ...], drop_first: bool) -> None:
    counts, groups = planted(sizes)
    clusters = leiden_clusters(counts, LeidenOptions(drop_first=drop_first, resolution=0.5))
    assert adjusted_rand_score(groups, clusters) == 1
    assert sorted(set(clusters)) == [f"cluster_{number}" for number in range(len(sizes))]
    numbers = [clusters.count(f"cluster_{number}") for number in range(len(sizes))]
    assert numbers == sorted(sizes, reverse=True)


def test_the_same_seed_gives_the_same_clusters_and_leaves_other_draws_alone() -> None:
    counts, _ = planted()
    counts = sp.csr_matrix(np.random.default_rng(1).permuted(counts.toarray(), axis=1))  # no groups: a hard choice
    options = LeidenOptions(n_neighbours=4, seed=3)
    random.seed(5)
    state = random.getstate()
    first = leiden_clusters(counts, options)
    assert random.getstate() == state
    igraph.Graph.Erdos_Renyi(20, 0.5)  # draws of others
    assert random.getstate() != state, "igraph draws from Python's own generator again"
    assert leiden_clusters(counts, options) == first
    others = [leiden_clusters(counts, LeidenOptions(n_neighbours=4, seed=seed)) for seed in range(5)]
    assert any(other != first for other in others)


def test_cells_without_a_count_get_no_cluster() -> None:
    counts, groups = planted()
    counts = sp.vstack([counts[:3], sp.csr_matrix((1, counts.shape[1])), counts[3:]], format="csr")
    clusters = leiden_clusters(counts, LeidenOptions(resolution=0.5))
    assert clusters[3] is None
    assert adjusted_rand_score(groups, clusters[:3] + clusters[4:]) == 1


def test_tf_idf_is_that_of_its_formula() -> None:
    counts = np.array([[1.0, 0, 3], [2, 2, 0]])
    share, rarity = counts / counts.sum(axis=1, keepdims=True), 2 / counts.sum(axis=0)
    np.testing.assert_allclose(tf_idf(sp.csr_matrix(counts)).toarray(), np.log1p(share * rarity * 10_000), rtol=1e-12)


@pytest.mark.parametrize("shape", [(3, 50), (50, 2), (50, 0)])
def test_too_little_to_cluster(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"have a count; expected 4 cells and 3 peaks, or more.*Give labels"):
        leiden_clusters(sp.csr_matrix(np.ones(shape)))


def test_few_cells_get_fewer_components_and_neighbours() -> None:
    counts, _ = planted((3, 2))
    assert all(leiden_clusters(counts))


@pytest.mark.parametrize("options", [{"n_components": 1}, {"n_neighbours": 0}, {"resolution": 0.0}, {"seed": -1}])
def test_options_are_checked(options: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} is "):
        LeidenOptions(**options)


def test_without_igraph_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(ImportError, match=r"pip install 'omics-transformers\[atac\]'"):
        leiden_clusters(planted()[0])
