"""Fragments beside RNA: cells that the fragments lack, and peaks that overlap."""

import logging
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from omics_transformers.multiome_files import CellFiles, ReadCells, read_cell_files


@pytest.fixture
def files(tmp_path: Path) -> Path:
    counts = sparse.csr_matrix(np.ones((3, 2), dtype=np.float32))
    obs = pd.DataFrame({"kind": ["x", "y", "z"]}, index=["a-1", "b-1", "c-1"])
    anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=["G1", "G2"])).write_h5ad(tmp_path / "rna.h5ad")
    (tmp_path / "peaks.bed").write_text("chr1\t100\t200\nchr1\t150\t300\nchr2\t0\t50\n")
    lines = ["chr1\t110\t180\ta-1\t1", "chr1\t160\t190\ta-1\t1", "chr2\t10\t40\tb-1\t2", "chr1\t120\t130\tother-1\t1"]
    (tmp_path / "fragments.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_fragments_beside_rna(files: Path) -> None:
    found = read_cell_files(CellFiles(files / "rna.h5ad", files / "fragments.tsv", files / "peaks.bed"))
    assert found.counts_are == "fragments" and found.modality is None
    atac = found.cells["atac"]
    assert atac.obs_names.tolist() == ["a-1", "b-1"]  # c-1 was not measured
    assert atac.var_names.tolist() == ["chr1:100-300", "chr2:0-50"]
    np.testing.assert_array_equal(atac.X.toarray(), [[2, 0], [0, 1]])
    assert found.report["fragments"]["fragments of other barcodes, left out"] == 1


def test_fragments_alone(files: Path) -> None:
    found = read_cell_files(CellFiles(files / "fragments.tsv", peaks=files / "peaks.bed", minimum_fragments=2))
    assert found.modality == "atac" and found.cells.obs_names.tolist() == ["a-1"]
    assert found.report["fragments"]["barcodes with fewer fragments, left out"] == 2


def test_columns_are_looked_up_in_all_parts(files: Path) -> None:
    found = read_cell_files(CellFiles(files / "rna.h5ad"))
    assert isinstance(found, ReadCells) and found.cells.n_obs == 3
    found.require_column("kind")
    with pytest.raises(ValueError, match="no column 'type'; its columns are: kind"):
        ReadCells({"rna": found.cells}, None, "reads", {}).require_column("type")


def test_ten_x_columns_of_other_kinds_stay_out_of_a_pair(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    cells = anndata.read_h5ad(files / "rna.h5ad")
    cells.var["feature_types"] = ["Gene Expression", "Antibody Capture"]
    cells.write_h5ad(files / "rna.h5ad")
    with caplog.at_level(logging.INFO):
        found = read_cell_files(CellFiles(files / "rna.h5ad", files / "fragments.tsv", files / "peaks.bed"))
    assert found.cells["rna"].var_names.tolist() == ["G1"] and "3 cells, 2 columns" in caplog.text
