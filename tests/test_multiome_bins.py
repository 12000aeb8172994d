"""Edges do not depend on chunks; the strategies' bins are as full as numpy says."""

import numpy as np
import pytest
import scipy.sparse as sp

from omics_transformers.data_scripts.multiome_bins import compare_strategies, fit_bins
from omics_transformers.modeling.value_bins import STRATEGIES

COUNTS = sp.csr_matrix(np.random.default_rng(0).poisson(0.8, (57, 30)).astype(np.float32))


def rows(numbers: np.ndarray) -> sp.csr_matrix:
    return COUNTS[numbers]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_edges_do_not_depend_on_chunks(strategy: str) -> None:
    found = [fit_bins(rows, 57, 30, strategy, num_bins=5, chunk_cells=chunk, seed=0).to_dict() for chunk in (10, 100)]
    assert found[0] == found[1] and found[0]["values_seen"] == COUNTS.nnz


def test_strategies_are_compared_on_the_same_cells() -> None:
    chosen = fit_bins(rows, 57, 30, "quartile", num_bins=5, chunk_cells=100, seed=0)
    compared = compare_strategies(rows, 57, chosen, seed=0)
    assert compared["cells"] == 57 and compared["non-zero counts"] == COUNTS.nnz
    binned = chosen.bin(COUNTS)
    expected = [(binned[COUNTS.toarray() > 0] == number).mean() for number in range(6)]
    np.testing.assert_allclose(compared["quartile"]["share of each bin"], expected, atol=1e-6)
    for strategy in STRATEGIES:
        assert sum(compared[strategy]["share of each bin"]) == pytest.approx(1, abs=1e-5)
    assert compared["quartile"]["edges"] == [round(edge, 6) for edge in chosen.edges]
