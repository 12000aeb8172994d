"""Raw counts of cells, checked: a matrix of any kind becomes CSR, and a value that cannot be a count is named.

Needs numpy and scipy only.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp


def checked_counts(
    counts: Any,
    *,
    what: str,
    whole: bool,
    n_columns: int | None = None,
    column_name: Callable[[int], str] | None = None,
) -> sp.csr_matrix:
    """A copy of the counts as CSR, float64 `(cells, columns)`, indices sorted and no entry stored twice.

    Args:
        counts: (cells, columns) numbers, sparse or dense.
        what: they count, for messages.
        whole: whether they must be whole numbers.
        n_columns: how many columns there are names for.
        column_name: name of a column, asked for only where its count is wrong.

    Raises:
        ValueError: on another shape, and on counts that are no numbers, not finite, negative or, where `whole`,
            no whole numbers.
    """
    given = counts if sp.issparse(counts) else np.asarray(counts)
    if given.ndim != 2 or not (np.issubdtype(given.dtype, np.number) or given.dtype == bool):
        raise ValueError(
            f"the {what} counts are {given.dtype} of shape {given.shape}: expected numbers of shape (cells, columns)"
        )
    if n_columns is not None and given.shape[1] != n_columns:
        raise ValueError(
            f"the {what} counts have {given.shape[1]:,} columns and {n_columns:,} names: give one a column"
        )
    matrix = sp.csr_matrix(given, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    values = matrix.data
    checks = [(~np.isfinite(values), "not finite"), (values < 0, "negative")]
    if whole:
        checks.append((values != np.rint(values), "no whole numbers"))
    for wrong, fault in checks:
        if wrong.any():
            first = int(wrong.argmax())
            cell = int(np.searchsorted(matrix.indptr, first, side="right")) - 1
            column = int(matrix.indices[first])
            raise ValueError(
                f"{int(wrong.sum()):,} {what} counts are {fault}, the first {values[first]:g} in cell {cell}, "
                f"{f'column {column}' if column_name is None else column_name(column)}: raw counts are expected, "
                "perhaps kept in a layer or in `raw`; round estimated counts"
            )
    return matrix
