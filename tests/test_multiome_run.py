"""Batches of cells by the modalities that they have values of."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from omics_transformers.pipelines import multiome_run
from omics_transformers.pipelines.aligned_cells import MultiomeCells
from omics_transformers.pipelines.multiome_run import cells_by_modalities, count_cells, gather, value_batches


def make_cells(**counts: np.ndarray) -> MultiomeCells:
    n_cells = len(next(iter(counts.values())))
    matrices = {name: sparse.csr_matrix(array, dtype=np.float32) for name, array in counts.items()}
    return MultiomeCells(matrices, pd.DataFrame(index=map(str, range(n_cells))), {}, {}, {})


def as_values(**counts: Any) -> dict[str, np.ndarray]:
    """Stands for a feature extractor: counts are their own bins."""
    return {f"{name}_values": matrix.toarray().astype(np.uint8) for name, matrix in counts.items()}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20), st.integers(1, 6))
def test_each_cell_goes_once_with_what_it_has(values: list[tuple[int, int]], batch_size: int) -> None:
    rna, atac = (np.array(column)[:, None] * [1, 0, 2] for column in zip(*values, strict=True))
    cells = make_cells(rna=rna, atac=atac)
    seen: list[int] = []
    for places, batch in value_batches(cells, as_values, batch_size=batch_size):
        assert 1 <= len(places) <= batch_size and batch
        for name, counts in (("rna", rna), ("atac", atac)):
            if f"{name}_values" in batch:
                np.testing.assert_array_equal(batch[f"{name}_values"], counts[places])
            assert counts[places].any(1).all() == (f"{name}_values" in batch)
        seen += places.tolist()
    assert sorted(seen) == [cell for cell, pair in enumerate(values) if any(pair)]
    counted = count_cells(cells)
    assert counted["cells_without_any_value"] == len(values) - len(seen)
    assert sum(counted["cells_with_values_of"].values()) == len(seen)


def test_blocks_and_one_modality(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiome_run, "CELLS_A_BLOCK", 4)
    counts = np.arange(1, 12)[:, None] * np.ones((1, 3))
    cells = make_cells(rna=counts, atac=counts * 0)
    batches = list(value_batches(cells, as_values, batch_size=3, modalities=("rna",)))
    assert [len(places) for places, _ in batches] == [3, 1, 3, 1, 3]
    found = gather(cells, iter(batches), lambda values: values["rna_values"].sum(1, keepdims=True), 1)
    np.testing.assert_array_equal(found[:, 0], counts.sum(1))
    assert found.dtype == np.float32
    assert cells_by_modalities(cells, ("atac",)) == {}
