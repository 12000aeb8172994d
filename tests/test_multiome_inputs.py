"""Files are told by their content, whatever their names; pairs and fragments give the cells that are meant."""

import re
from pathlib import Path

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from omics_transformers.data_scripts.multiome_fragments import CellReading
from omics_transformers.data_scripts.multiome_input import Input, OpenMatrices
from omics_transformers.data_scripts.multiome_inputs import open_inputs
from omics_transformers.data_scripts.multiome_sources import Modality, MultiomeSource

PEAKS = ["chr1:100-200", "chr1:300-400", "chr2:5-9"]


def cells(columns: list[str], barcodes: list[str], **var: list) -> anndata.AnnData:
    counts = np.arange(len(barcodes) * len(columns)).reshape(len(barcodes), -1) % 4
    frame = pd.DataFrame(var, index=pd.Index(columns))
    matrix = sp.csr_matrix(counts.astype(np.float32))
    return anndata.AnnData(matrix, obs=pd.DataFrame(index=pd.Index(barcodes)), var=frame)


def write_tenx(path: Path) -> None:
    """10x .h5 of two genes, two peaks and an antibody."""
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        counts = sp.csr_matrix(np.array([[1, 0, 2, 4, 7], [0, 3, 0, 1, 7]]))
        group["barcodes"] = [b"c1", b"c2"]
        group["data"], group["indices"], group["indptr"] = counts.data, counts.indices, counts.indptr
        group["shape"] = [5, 2]
        group["features/id"] = [b"ENSG00000000001", b"ENSG00000000002", b"chr1:5-9", b"chr1:20-30", b"CD3"]
        group["features/name"] = [b"A", b"B", b"chr1:5-9", b"chr1:20-30", b"CD3"]
        group["features/feature_type"] = [b"Gene Expression"] * 2 + [b"Peaks"] * 2 + [b"Antibody Capture"]


def write_mudata(path: Path, parts: dict[str, anndata.AnnData]) -> None:
    with mudata.set_options(pull_on_update=False):
        mudata.MuData(parts).write(path)


def opened(source: MultiomeSource, **options: float) -> dict[Modality, Input]:
    files = OpenMatrices()
    try:
        return open_inputs(source, files, CellReading(**options))  # type: ignore[arg-type]
    finally:
        files.close()


def test_matrices_are_told_by_their_columns(tmp_path: Path) -> None:
    cells(["A", "B"], ["c1", "c2"], chrom=["chr1"] * 2, start=[5, 6], end=[7, 8]).write_h5ad(tmp_path / "genes.h5ad")
    cells(PEAKS, ["c1", "c2"]).write_h5ad(tmp_path / "peaks.h5ad")
    cells(["p1", "p2", "p3"], ["c1"], interval=PEAKS).write_h5ad(tmp_path / "column.h5ad")
    assert list(opened(MultiomeSource(tmp_path / "genes.h5ad"))) == ["rna"]
    assert list(opened(MultiomeSource(tmp_path / "genes.h5ad", modality="atac"))) == ["atac"]
    for name in ("peaks", "column"):
        found = opened(MultiomeSource(tmp_path / f"{name}.h5ad"))
        assert list(found) == ["atac"] and found["atac"].peaks is not None
        assert found["atac"].peaks["start"].tolist() == [100, 300, 5]
    with pytest.raises(ValueError, match="holds atac only; asked for is both"):
        opened(MultiomeSource(tmp_path / "column.h5ad", modality="both"))


def test_files_of_both_modalities(tmp_path: Path) -> None:
    write_tenx(tmp_path / "tenx.h5")
    found = opened(MultiomeSource(tmp_path / "tenx.h5"))
    assert list(found) == ["rna", "atac"] and found["atac"].peaks is not None
    assert found["atac"].peaks["column"].tolist() == [2, 3]
    assert found["rna"].is_feature.tolist() == [True, True, False, False, False]
    assert list(opened(MultiomeSource(tmp_path / "tenx.h5", modality="rna"))) == ["rna"]
    parts = {"rna": cells(["A"], ["c1", "c2", "c3"]), "atac": cells(PEAKS, ["c2", "c3", "c1"])}
    write_mudata(tmp_path / "pair.h5mu", parts)
    found = opened(MultiomeSource(tmp_path / "pair.h5mu"))
    assert list(found["atac"].barcodes) == ["c2", "c3", "c1"] and list(found["rna"].barcodes) == ["c1", "c2", "c3"]
    write_mudata(tmp_path / "protein.h5mu", {"protein": parts["rna"]})
    with pytest.raises(ValueError, match="has the modalities protein; expected rna, atac or both"):
        opened(MultiomeSource(tmp_path / "protein.h5mu"))
    cells(["A"], ["c1"]).write_h5ad(tmp_path / "rna.h5ad")
    with pytest.raises(ValueError, match=re.escape("holds rna only; asked for is both: name the ATAC's file (:atac=")):
        opened(MultiomeSource(tmp_path / "rna.h5ad", modality="both"))


def test_fragments_are_atac(tmp_path: Path) -> None:
    path = tmp_path / "f.tsv"
    path.write_text("chr1\t5\t9\tc1\t1\n")
    assert list(opened(MultiomeSource(path, tile_bp=10), minimum_fragments=1)) == ["atac"]
    cells(["A"], ["c1", "c7"]).write_h5ad(tmp_path / "rna.h5ad")
    pair = opened(MultiomeSource(tmp_path / "rna.h5ad", atac=path, tile_bp=10))
    assert list(pair) == ["rna", "atac"] and list(pair["atac"].barcodes) == ["c1"]
    with pytest.raises(ValueError, match="holds fragments, which are ATAC; asked for is 'rna'"):
        opened(MultiomeSource(path, tile_bp=9, modality="rna"))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="is neither a matrix of counts nor a fragments file"):
        opened(MultiomeSource(tmp_path / "text.csv"))
    with pytest.raises(FileNotFoundError, match=r"nowhere.h5ad does not exist"):
        opened(MultiomeSource(tmp_path / "nowhere.h5ad"))
    cells(["A"], ["c1"]).write_h5ad(tmp_path / "rna.h5ad")
    with pytest.raises(ValueError, match=r"holds counts of its own columns; tiles are for fragments.tsv only"):
        opened(MultiomeSource(tmp_path / "rna.h5ad", tile_bp=5))
