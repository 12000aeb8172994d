"""What counts as cells: kinds of input, matching of barcodes, and what is refused."""

from pathlib import Path
from typing import Any

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from omics_transformers.modeling.feature_extraction_multiome import MultiomeFeatureExtractor
from omics_transformers.pipelines.aligned_cells import CountChoice, read_multiome_cells
from omics_transformers.training.multiome_data import read_multiome

GENES = [f"ENSG{gene:011d}" for gene in range(40)]
PEAKS = [f"chr1:{100_000 * gene + 10_000}-{100_000 * gene + 10_400}" for gene in range(40)]


@pytest.fixture(scope="module")
def extractor(toy_multiome: Path) -> MultiomeFeatureExtractor:
    return MultiomeFeatureExtractor(**{**read_multiome(toy_multiome).feature_extractor, "assembly": "GRCh38"})


def make_cells(names: list[str], n_cells: int = 6, **columns: Any) -> anndata.AnnData:
    counts = np.random.default_rng(len(columns)).poisson(2.0, (n_cells, len(names))).astype(np.float32)
    obs = pd.DataFrame(columns, index=[f"c{cell}" for cell in range(n_cells)])
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=names))


def test_modality_is_told_by_var(extractor: MultiomeFeatureExtractor) -> None:
    assert list(read_multiome_cells(make_cells(GENES), extractor).counts) == ["rna"]
    assert list(read_multiome_cells(make_cells(PEAKS), extractor).counts) == ["atac"]
    typed = make_cells(PEAKS)
    typed.var["feature_types"] = "Peaks"
    assert list(read_multiome_cells(typed, extractor).counts) == ["atac"]
    typed.var["feature_types"] = ["Peaks"] * 39 + ["Antibody Capture"]
    assert list(read_multiome_cells(typed, extractor).counts) == ["atac"]
    with pytest.raises(
        ValueError, match=r"no feature of the type 'Gene Expression'; it has \['Antibody Capture', 'Pea"
    ):
        read_multiome_cells(typed, extractor, modality="rna")


def test_all_forms_of_a_pair_are_the_same(extractor: MultiomeFeatureExtractor, tmp_path: Path) -> None:
    rna, atac = make_cells(GENES, kind="k"), make_cells(PEAKS, batch="b", more=1)
    expected = read_multiome_cells({"atac": atac, "rna": rna}, extractor)
    assert list(expected.counts) == ["rna", "atac"] and expected.obs.columns.tolist() == ["kind", "batch", "more"]
    together = anndata.concat([rna, atac], axis=1, merge="first")
    together.var["feature_types"] = ["Gene Expression"] * 40 + ["Peaks"] * 40
    with mudata.set_options(pull_on_update=False):
        both = mudata.MuData({"rna": rna, "atac": atac, "prot": make_cells(["CD4"])})
        both.write_h5mu(tmp_path / "cells.h5mu")
    rna.write_h5ad(tmp_path / "rna.h5ad")
    for cells in (together, both, tmp_path / "cells.h5mu", {"rna": str(tmp_path / "rna.h5ad"), "atac": atac}):
        found = read_multiome_cells(cells, extractor)
        for name in ("rna", "atac"):
            assert (found.counts[name] != expected.counts[name]).nnz == 0
        assert found.obs.index.equals(expected.obs.index)
    only = read_multiome_cells(together, extractor, modality="atac")
    assert list(only.counts) == ["atac"] and (only.counts["atac"] != expected.counts["atac"]).nnz == 0


def test_cells_of_a_pair_are_matched_by_barcode(extractor: MultiomeFeatureExtractor) -> None:
    rna, atac = make_cells(GENES, 6), make_cells(PEAKS, 8)[::-1].copy()
    atac.obs_names = ["x", "c1", "c5", "c3", "c0", "y", "z", "c4"]
    found = read_multiome_cells({"rna": rna, "atac": atac}, extractor)
    assert found.obs.index.tolist() == ["c0", "c1", "c3", "c4", "c5"]
    assert found.report["cells of both"] == 5 and found.report["cells of one only, left out"] == 4
    alone = read_multiome_cells(atac, extractor)
    for row, name in enumerate(found.obs.index):
        place = alone.obs.index.get_loc(name)
        np.testing.assert_array_equal(found.counts["atac"][row].toarray(), alone.counts["atac"][place].toarray())
    assert found.annotated(inplace=False).obs_names.tolist() == found.obs.index.tolist()
    atac.obs_names = [f"{name}-1" for name in atac.obs_names]
    with pytest.raises(ValueError, match=r"of 6 barcodes of rna and 8 of atac, 0 are the same.* 'c0', atac 'x-1'"):
        read_multiome_cells({"rna": rna, "atac": atac}, extractor)


def test_matrices_and_names(extractor: MultiomeFeatureExtractor) -> None:
    cells = make_cells(GENES)
    expected = read_multiome_cells(cells, extractor).counts["rna"]
    named = cells.copy()
    named.var_names = [f"GENE{gene}" for gene in range(40)]
    assert (read_multiome_cells(named, extractor).counts["rna"] != expected).nnz == 0
    named.var_names = [f"row{gene}" for gene in range(40)]
    named.var["gene_ids"] = [f"{gene}.7" for gene in GENES]
    assert (read_multiome_cells(named, extractor).counts["rna"] != expected).nnz == 0
    logged = cells.copy()
    logged.layers["counts"] = cells.X.copy()
    logged.raw = cells
    logged.X = cells.X.log1p()
    with pytest.raises(ValueError, match=r"rna \(X\): .*There is also layer counts, raw\.X \(counts_layer, use_raw\)"):
        read_multiome_cells(logged, extractor)
    for choice in (CountChoice("counts"), CountChoice({"rna": "counts"}), CountChoice(use_raw=True)):
        assert (read_multiome_cells(logged, extractor, choice=choice).counts["rna"] != expected).nnz == 0
    with pytest.raises(ValueError, match="exclude each other"):
        read_multiome_cells(logged, extractor, choice=CountChoice("counts", use_raw=True))


def test_reads_and_fragments(extractor: MultiomeFeatureExtractor) -> None:
    cells = make_cells(PEAKS)
    fragments = read_multiome_cells(cells, extractor, choice=CountChoice(counts_are="fragments")).counts["atac"]
    np.testing.assert_allclose(fragments.toarray(), cells.X.toarray() / 2)  # in the first ring
    reads = read_multiome_cells(cells, extractor).counts["atac"]
    np.testing.assert_allclose(reads.toarray(), np.ceil(cells.X.toarray() / 2) / 2)


def negative(cells: anndata.AnnData) -> anndata.AnnData:
    cells.X = -cells.X
    return cells


def of_another_build() -> anndata.AnnData:
    cells = make_cells(PEAKS)
    cells.var["genome"] = "hg19"
    return cells


def with_a_barcode_twice() -> anndata.AnnData:
    cells = make_cells(GENES)
    cells.obs_names = ["c0", "c1", "c1", "c3", "c4", "c5"]
    return cells


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (make_cells([f"ENSMUSG{gene:011d}" for gene in range(40)]), r"rna \(X\): 0 of the model's 40 genes"),
        (negative(make_cells(GENES)), r"rna \(X\): .*negative"),
        (of_another_build(), r"atac \(X\): the peaks are of the assembly hg19 .* the model's genes of GRCh38"),
        (make_cells([f"chrUn:{peak}-{peak + 5}" for peak in range(9)]), r"atac \(X\): none of the 9 peaks"),
        (with_a_barcode_twice(), "1 barcodes of rna occur more than once, e.g. 'c1'"),
        (make_cells(GENES)[:0], "the AnnData of rna has no cells"),
        ({"rna": make_cells(GENES), "protein": make_cells(GENES)}, "cells have the modalities 'rna', 'protein'"),
        ({}, "cells have the modalities none"),
        ({"rna": 7}, "the cells' rna is of type int"),
        (7, "cells are of type int"),
        (Path("absent.csv"), "no cells at absent.csv"),
        (Path(__file__), "is neither .h5ad nor .h5mu"),
    ],
)
def test_what_is_refused(extractor: MultiomeFeatureExtractor, cells: Any, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message.replace("e.g.", r"e\.g\.")):
        read_multiome_cells(cells, extractor)


def test_files_that_cannot_be_read(extractor: MultiomeFeatureExtractor, tmp_path: Path) -> None:
    for name in ("cells.h5ad", "cells.h5mu"):
        (tmp_path / name).write_bytes(b"no HDF5")
        with pytest.raises(ValueError, match=f"{name} cannot be read as"):
            read_multiome_cells(tmp_path / name, extractor)
