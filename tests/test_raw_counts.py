"""Raw counts of any kind become CSR; what cannot be a count is named."""

import numpy as np
import pytest
import scipy.sparse as sp

from omics_transformers.modeling.raw_counts import checked_counts

COUNTS = np.array([[0, 3, 1], [2, 0, 0]])


@pytest.mark.parametrize(
    "counts",
    [
        COUNTS,
        COUNTS.tolist(),
        sp.csr_matrix(COUNTS).todense(),  # numpy.matrix
        COUNTS.astype(np.float32),
        COUNTS.astype(np.uint8),
        sp.csr_matrix(COUNTS),
        sp.csc_array(COUNTS),
        sp.coo_matrix(([1, 2, 1, 2], ([0, 0, 0, 1], [1, 1, 2, 0])), shape=(2, 3)),  # an entry stored twice
    ],
)
def test_counts_of_any_kind_become_csr(counts) -> None:
    checked = checked_counts(counts, what="rna", whole=True, n_columns=3)
    assert checked.format == "csr" and checked.dtype == np.float64 and checked.has_canonical_format
    np.testing.assert_array_equal(checked.toarray(), COUNTS)


def test_a_copy_is_given() -> None:
    given = sp.csr_matrix(COUNTS.astype(np.float64))
    checked_counts(given, what="rna", whole=True).data[:] = 9
    np.testing.assert_array_equal(given.toarray(), COUNTS)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize(
    ("value", "fault"), [(-1, "negative"), (np.nan, "not finite"), (np.inf, "not finite"), (0.5, "no whole numbers")]
)
def test_what_is_no_count_is_named(kind, value: float, fault: str) -> None:
    counts = np.zeros((4, 3))
    counts[0, 0], counts[2, 1], counts[3, 2] = 5, value, value
    with pytest.raises(ValueError, match=rf"2 atac counts are {fault}, the first \S+ in cell 2, column 1: raw counts"):
        checked_counts(kind(counts), what="atac", whole=True)
    with pytest.raises(ValueError, match="in cell 2, peak 1:"):
        checked_counts(kind(counts), what="atac", whole=True, column_name=lambda column: f"peak {column}")


def test_fractions_pass_where_whole_numbers_are_not_asked_for() -> None:
    assert checked_counts(COUNTS / 2, what="atac", whole=False).sum() == 3


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.ones(3), r"rna counts are float64 of shape \(3,\)"),
        (np.array([["a", "b", "c"]]), "expected numbers"),
        (np.ones((2, 4)), "4 columns and 3 names"),
    ],
)
def test_another_shape_is_refused(counts: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_counts(counts, what="rna", whole=True, n_columns=3)
