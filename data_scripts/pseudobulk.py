"""Pseudobulk: the mean accessibility of each peak over the cells of each type, added up in chunks of cells.

Reads to fragments after Martens et al. 2024 (https://doi.org/10.1038/s41592-023-02112-6): both ends of a fragment are
read, so reads are rounded up to the next even number and halved: 1 -> 1, 2 -> 1, 3 -> 2.
"""

import numpy as np
import scipy.sparse as sp


def fragments_of_reads(counts: sp.csr_matrix) -> sp.csr_matrix:
    """`(cells, peaks)` whole numbers of reads -> estimated fragments, float64."""
    counts = sp.csr_matrix(counts, dtype=np.float64, copy=True)
    counts.data = np.ceil(counts.data / 2)
    return counts


class Pseudobulk:
    """Sums over cells, exact whatever the chunks: whole numbers below 2 ** 53.

    Attributes:
        sums: float64 `(types, peaks)`: fragments of the cells of a type.
        detected: int64 `(peaks,)`: cells, with a type or without, that have a fragment in the peak.
    """

    def __init__(self, codes: np.ndarray, *, n_types: int, n_peaks: int) -> None:
        """`codes (cells,)`: the type of each cell, -1 for none."""
        self.sums = np.zeros((n_types, n_peaks))
        self.detected = np.zeros(n_peaks, dtype=np.int64)
        self._codes = codes

    def add(self, first_cell: int, fragments: sp.csr_matrix) -> None:
        """Add the cells `first_cell` onwards, `(cells of the chunk, peaks)`, no entry stored twice."""
        codes = self._codes[first_cell : first_cell + fragments.shape[0]]
        has_fragment = fragments.data > 0
        self.detected += np.bincount(fragments.indices[has_fragment], minlength=len(self.detected))
        cells = np.flatnonzero(codes >= 0)
        membership = sp.csr_matrix(
            (np.ones(len(cells)), (codes[cells], cells)), shape=(len(self.sums), fragments.shape[0])
        )
        added = (membership @ fragments).tocoo()
        self.sums[added.row, added.col] += added.data

    def means(self) -> np.ndarray:
        """float64 `(types, peaks)`: fragments a cell, over all cells of the type, those without one included."""
        n_cells = np.bincount(self._codes[self._codes >= 0], minlength=len(self.sums))
        return self.sums / n_cells[:, None]
