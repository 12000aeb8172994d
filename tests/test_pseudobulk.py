"""Sums over cells against numpy, whatever the chunks; reads to fragments by the thesis' own examples."""

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.pseudobulk import Pseudobulk, fragments_of_reads


def test_reads_are_rounded_up_to_even_and_halved() -> None:
    reads = sp.csr_matrix([[0, 1, 2, 3, 4, 5]], dtype=np.float32)
    assert fragments_of_reads(reads).toarray().tolist() == [[0, 1, 1, 2, 2, 3]]
    assert reads.toarray().tolist() == [[0, 1, 2, 3, 4, 5]]


@given(st.integers(0, 2**32), st.integers(3, 30), st.integers(1, 7))
def test_sums_and_means_are_those_of_numpy(seed: int, n_cells: int, chunk: int) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.poisson(0.5, (n_cells, 6)).astype(float)
    codes = generator.permutation(np.append([0, 1, 2], generator.integers(-1, 3, n_cells - 3)))
    pseudobulk = Pseudobulk(codes, n_types=3, n_peaks=6)
    for start in range(0, n_cells, chunk):
        pseudobulk.add(start, sp.csr_matrix(counts[start : start + chunk]))
    np.testing.assert_array_equal(pseudobulk.detected, (counts > 0).sum(axis=0))
    by_type = [counts[codes == code] for code in range(3)]
    np.testing.assert_array_equal(pseudobulk.sums, [cells.sum(axis=0) for cells in by_type])
    np.testing.assert_allclose(pseudobulk.means(), [cells.mean(axis=0) for cells in by_type], rtol=1e-12)


def test_stored_zeros_are_not_detected() -> None:
    stored = sp.csr_matrix((np.array([0.0, 2.0]), np.array([0, 1]), np.array([0, 2])), shape=(1, 3))
    pseudobulk = Pseudobulk(np.array([0]), n_types=1, n_peaks=3)
    pseudobulk.add(0, stored)
    assert pseudobulk.detected.tolist() == [0, 1, 0]
