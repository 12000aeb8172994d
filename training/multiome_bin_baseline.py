"""What a model must beat: the most frequent bin of each gene, and of all genes, in the cells that it was trained on."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .multiome_data import Modality, MultiomeCells

_ROWS_AT_A_TIME = 4096


class BinCounts(NamedTuple):
    """Bins of training cells.

    Attributes:
        counts: (genes, bins + 1) int64, how many cells have a gene in each bin; bin 0 is zero.
        empty_cells: cells without any non-zero value.
    """

    counts: npt.NDArray[np.int64]
    empty_cells: int


class MostFrequentBins(NamedTuple):
    """What is predicted without looking at the cell.

    Attributes:
        of_gene: (genes,) int64.
        of_all: the same bin for every gene.
    """

    of_gene: npt.NDArray[np.int64]
    of_all: int


def count_bins(cells: MultiomeCells, rows: npt.NDArray[np.int64], modality: Modality, *, num_bins: int) -> BinCounts:
    """Count the bins of some cells, gene by gene, a chunk of cells at a time.

    Raises:
        ValueError: where a value is above `num_bins`.
    """
    counts, empty = np.zeros((cells.n_genes, num_bins + 1), dtype=np.int64), 0
    for chunk in _chunks(rows):
        values = cells.values(chunk, modality)
        if values.max(initial=0) > num_bins:
            raise ValueError(f"values of {modality.upper()} reach {values.max()}: expected 0 to {num_bins}")
        for value in range(num_bins + 1):
            counts[:, value] += np.count_nonzero(values == value, axis=0)
        empty += int((~values.any(axis=1)).sum())
    return BinCounts(counts, empty)


def most_frequent_bins(counts: npt.NDArray[np.int64], label_rates: npt.NDArray[np.float64]) -> MostFrequentBins:
    """The most frequent bins among values that are labels.

    Args:
        counts: (genes, bins + 1).
        label_rates: (bins + 1,) how likely a value of each bin is a label. The lowest of bins that are as frequent is
            taken; of a gene without a label in the training cells, that of all genes.
    """
    labels = counts * label_rates
    of_all = int(labels.sum(axis=0).argmax())
    return MostFrequentBins(np.where(labels.any(axis=1), labels.argmax(axis=1), of_all), of_all)


def _chunks(rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        yield rows[start : start + _ROWS_AT_A_TIME]
