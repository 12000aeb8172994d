"""Spooling puts any order of entries into rows; blocks and damage."""

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from omics_transformers.data_scripts import count_matrices
from omics_transformers.data_scripts.count_matrices import Entries, SpooledRows, column_entries, require_valid_indptr


@given(seed=st.integers(0, 2**32 - 1), block=st.integers(1, 50), start=st.integers(0, 20), length=st.integers(0, 20))
@settings(deadline=None)
def test_spooled_rows_equal_the_matrix_whatever_the_order_of_entries(seed, block, start, length):
    rng = np.random.default_rng(seed)
    counts = sp.random(20, 8, 0.3, rng=rng, format="coo")
    order = rng.permutation(counts.nnz)
    rows, columns, values = counts.row[order], counts.col[order], counts.data[order]

    def blocks():
        for low in range(0, len(rows), block):
            here = slice(low, low + block)
            yield Entries(rows[here], columns[here], values[here])

    matrix = SpooledRows(blocks, (20, 8), "test")
    stop = min(start + length, 20)
    np.testing.assert_array_equal(matrix.read(start, stop).toarray(), counts.toarray()[start:stop])
    matrix.close()


@pytest.mark.parametrize("entries_per_block", [1, 7, 1000])
def test_column_blocks_cover_every_entry_once(tmp_path, monkeypatch, entries_per_block):
    monkeypatch.setattr(count_matrices, "ENTRIES_PER_BLOCK", entries_per_block)
    counts = sp.random(30, 12, 0.2, rng=np.random.default_rng(0), format="csc")
    with h5py.File(tmp_path / "csc.h5", "w") as file:
        for name in ("data", "indices", "indptr"):
            file[f"X/{name}"] = getattr(counts, name)
        blocks = list(column_entries(file["X"], 12, tmp_path / "csc.h5")())
    rebuilt = np.zeros((30, 12))
    for block in blocks:
        np.add.at(rebuilt, (block.rows, block.columns), block.values)
    np.testing.assert_array_equal(rebuilt, counts.toarray())
    assert sum(len(block.values) for block in blocks) == counts.nnz


@pytest.mark.parametrize("indptr", [[0, 2], [1, 2, 3], [0, 3, 2], [0, 2, 9]])
def test_bad_indptr_is_refused(indptr):
    with pytest.raises(ValueError, match="x: indptr does not describe 2 rows of 3 stored values"):
        require_valid_indptr(np.array(indptr), 2, 3, "x")
