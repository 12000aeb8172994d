"""Every matrix is read once, and what its counts became adds up."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from omics_transformers.data_scripts.multiome_aligned import AlignedCounts, Aligner
from omics_transformers.data_scripts.multiome_alignments import Dataset, DatasetAlignments
from omics_transformers.data_scripts.multiome_cells import pair_and_label
from omics_transformers.data_scripts.multiome_fragments import CellReading
from omics_transformers.data_scripts.multiome_genes import ChosenGenes, GeneNaming, resolve_columns
from omics_transformers.data_scripts.multiome_input import OpenMatrices
from omics_transformers.data_scripts.multiome_inputs import open_inputs
from omics_transformers.data_scripts.multiome_jobs import start_workers
from omics_transformers.data_scripts.multiome_peaks import PeakRules
from omics_transformers.data_scripts.multiome_sources import MultiomeSource
from omics_transformers.modeling.peak_gene_rings import Rings

GENES = ["a", "b", "c"]


@pytest.fixture
def counts(tmp_path: Path) -> np.ndarray:
    """Of genes a, x, c and a again; the last three cells lack the gene c, and cell 4 has none of a, b, c."""
    counts = np.random.default_rng(0).integers(1, 5, (11, 4))
    counts[-3:, 2] = 0
    counts[4, [0, 2, 3]] = 0
    cells = anndata.AnnData(sp.csr_matrix(counts.astype(np.float32)))
    cells.obs_names, cells.var_names = [f"cell{number}" for number in range(11)], ["a", "x", "c", "a.copy"]
    cells.var["gene_ids"] = ["a", "x", "c", "a"]
    cells.write_h5ad(tmp_path / "rna.h5ad")
    return counts


def test_counts_are_aligned_and_add_up(counts: np.ndarray, tmp_path: Path) -> None:
    source, opened = MultiomeSource(tmp_path / "rna.h5ad"), OpenMatrices()
    inputs = open_inputs(source, opened, CellReading())
    dataset = Dataset(source, inputs, pair_and_label(source, inputs))
    assert inputs["rna"].features is not None
    dataset.columns = resolve_columns(inputs["rna"].features, GeneNaming(), vocabulary=GENES, source="rna")
    genes = ChosenGenes(GENES, [""] * 3)
    (tmp_path / "scratch").mkdir()
    done = DatasetAlignments([dataset], genes, PeakRules(Rings()), tmp_path / "scratch", 4)
    with start_workers(1) as workers:
        done.run(workers, Aligner(opened), progress=False, serial=True)
    opened.close()
    expected = np.stack([counts[:, 0] + counts[:, 3], np.zeros(11), counts[:, 2]], axis=1)
    found = AlignedCounts(done.folders[0]["rna"], 3).rows(np.arange(11)).toarray()
    np.testing.assert_array_equal(found, expected)
    assert dataset.report is not None
    report = dataset.report["rna"]
    assert report["counts in columns of genes"] == expected.sum()
    assert report["counts in columns of no gene of the build"] == counts[:, 1].sum()
    assert report["share of counts lost"] == round(counts[:, 1].sum() / counts.sum(), 6)
    done.filter(0.5, 0.0)
    assert list(done.cells()["cell"]) == [f"cell{number}" for number in range(8) if number != 4]
    assert dataset.cells.report["cells without a non-zero value, left out"] == 1
    assert pd.unique(done.cells()["dataset"]).tolist() == [0]
