"""The most frequent bins, beside plain counting."""

from pathlib import Path

import numpy as np
import pytest

from omics_transformers.training import multiome_bin_baseline
from omics_transformers.training.multiome_bin_baseline import count_bins, most_frequent_bins
from omics_transformers.training.multiome_data import read_multiome


def test_counts_are_those_of_all_chunks(toy_multiome: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiome_bin_baseline, "_ROWS_AT_A_TIME", 7)
    cells = read_multiome(toy_multiome).cells
    rows = np.flatnonzero(cells.has_atac)[3:90]
    counts, empty = count_bins(cells, rows, "atac", num_bins=5)
    values = cells.values(rows, "atac")
    assert counts.tolist() == [np.bincount(column, minlength=6).tolist() for column in values.T]
    assert empty == 0
    with pytest.raises(ValueError, match="values of ATAC reach 3: expected 0 to 2"):
        count_bins(cells, rows, "atac", num_bins=2)


def test_bins_most_frequent_among_labels() -> None:
    counts = np.array([[9, 1, 2], [0, 5, 5], [7, 0, 0], [2, 3, 0]])
    masked = most_frequent_bins(counts, np.array([0.0, 0.15, 0.15]))
    assert masked.of_gene.tolist() == [2, 1, 1, 1] and masked.of_all == 1  # the third never has a label
    zeros_too = most_frequent_bins(counts, np.array([1.0, 1.0, 1.0]))
    assert zeros_too.of_gene.tolist() == [0, 1, 0, 1] and zeros_too.of_all == 0
