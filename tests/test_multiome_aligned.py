"""Rows on disk come back as they went in, in any order; alignment is a plain matrix product."""

from pathlib import Path

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from omics_transformers.data_scripts.multiome_aligned import AlignedCounts, aligned, chunk_numbers
from omics_transformers.data_scripts.multiome_peaks import ALIGNED, NO_GENE, OTHER_FEATURE


def test_rows_come_back_in_any_order(tmp_path: Path) -> None:
    dense = np.random.default_rng(0).poisson(0.4, (23, 9)).astype(np.float32)
    dense[5] = 0
    counts = AlignedCounts(tmp_path / "rows", 9)
    for rows in chunk_numbers(23, 7):
        counts.append(sp.csr_matrix(dense[rows]))
    counts.finish()
    again = AlignedCounts(tmp_path / "rows", 9)
    for wanted in ([3], [22, 0, 5, 5, 11], list(range(23)), []):
        np.testing.assert_array_equal(again.rows(np.array(wanted, dtype=np.int64)).toarray(), dense[wanted])
    assert again.rows(np.array([5])).nnz == 0
    np.testing.assert_array_equal(np.diff(again.ends), (dense > 0).sum(axis=1))


@given(
    hnp.arrays(np.int64, (6, 5), elements=st.integers(0, 5)),
    hnp.arrays(np.float32, (5, 4), elements=st.sampled_from([0, 0.5, 1.0])),
    hnp.arrays(np.uint8, 5, elements=st.sampled_from([ALIGNED, NO_GENE, OTHER_FEATURE])),
    st.booleans(),
)
def test_alignment_is_a_matrix_product(
    counts: np.ndarray, weights: np.ndarray, fate: np.ndarray, are_reads: bool
) -> None:
    found = aligned(sp.csr_matrix(counts), sp.csr_matrix(weights), fate, are_reads=are_reads)
    values = (counts + 1) // 2 if are_reads else counts
    np.testing.assert_allclose(found.counts.toarray(), values @ weights)
    np.testing.assert_array_equal(found.nonzero_features, (values[:, fate != OTHER_FEATURE] > 0).sum(axis=1))
    expected = [values[:, fate == kind].sum() for kind in range(len(found.by_fate))]
    np.testing.assert_array_equal(found.by_fate, expected)


def test_an_entry_stored_twice_is_one_count() -> None:
    twice = sp.csr_matrix((np.array([1.0, 1.0]), np.array([1, 1]), np.array([0, 2])), shape=(1, 2))
    found = aligned(twice, sp.csr_matrix(np.eye(2)), np.zeros(2, np.uint8), are_reads=True)
    assert found.counts.toarray().tolist() == [[0, 1]] and found.nonzero_features.tolist() == [1]
    assert twice.data.tolist() == [1.0, 1.0]
