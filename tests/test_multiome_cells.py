"""Cells of paired files, with labels, less those that show too little."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omics_transformers.data_scripts.multiome_cells import DatasetCells, filter_cells, pair_and_label
from omics_transformers.data_scripts.multiome_input import Input, MatrixKey
from omics_transformers.data_scripts.multiome_sources import Modality, MultiomeSource


def one(modality: Modality, barcodes: list[str], **obs: list) -> Input:
    index = pd.Index(barcodes)
    frame = pd.DataFrame(obs, index=index)
    key = MatrixKey(Path("x.h5ad"), None, modality)
    return Input(modality, "x.h5ad: X", index, None, np.ones(1, bool), frame, key, None, None, False, {}, index)


PAIR: dict[Modality, Input] = {
    "rna": one("rna", ["c", "a", "b", "x"], kind=["T", "B", None, "T"]),
    "atac": one("atac", ["a", "y", "b", "c"], donor=[1.0, 2.0, np.nan, 3.0]),
}


def test_pairs_in_the_order_of_the_rna_with_labels_of_either_file() -> None:
    source = MultiomeSource("x.h5ad", atac="y.h5ad", label_column="kind", donor_column="donor", name="pair")
    found = pair_and_label(source, PAIR)
    assert found.modality == "both" and found.name == "pair"
    assert found.table["cell"].tolist() == ["c", "a", "b"]
    assert found.table["rna_row"].tolist() == [0, 1, 2] and found.table["atac_row"].tolist() == [3, 0, 2]
    assert found.table["cell_type"].tolist() == ["T", "B", None]
    assert found.table["donor"].tolist() == ["3", "1", None]
    assert found.table["batch"].tolist() == [None] * 3
    assert found.report["cells in one of the paired files only, left out"] == {"RNA": 1, "ATAC": 1}
    assert found.report["labels"]["donor"] == "column donor of obs of the ATAC"


def test_labels_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "labels.tsv"
    table.write_text("cell\tkind\tlane\nb\tT\tL1\na\tB\t\n")
    source = MultiomeSource("x.h5ad", labels=table, label_column="kind", batch_column="lane")
    found = pair_and_label(source, {"rna": PAIR["rna"]})
    assert found.modality == "rna" and found.table["atac_row"].tolist() == [-1] * 4
    assert found.table["cell_type"].tolist() == [None, "B", "T", None]
    assert found.table["batch"].tolist() == [None, None, "L1", None]


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"x.h5ad: obs has no column 'lane'; it has kind"):
        pair_and_label(MultiomeSource("x.h5ad", batch_column="lane"), {"rna": PAIR["rna"]})


def test_both_modalities_of_a_pair_must_show_enough() -> None:
    table = pd.DataFrame({"cell": [*"abcdef"], "rna_row": range(6), "atac_row": [5, 4, 3, 2, 1, 0]})
    cells = DatasetCells("pair", "both", table, {})
    shown: dict[Modality, np.ndarray] = {
        "rna": np.array([7, 6, 0, 100, 100, 100]),
        "atac": np.array([1, 1, 1, 1, 0, 1]),
    }
    options = {"n_genes": 100, "n_peaks": 100, "minimum_gene_share": 0.07, "minimum_peak_share": 0.02}
    peaks = np.array([1, 2, 9, 9, 9, 9])
    found = filter_cells(cells, genes_shown=shown, peaks_shown=peaks, **options)  # type: ignore[arg-type]
    # b lacks ATAC values, c lacks RNA, f has one peak of 100; a passes with exactly 7 %.
    assert found.table["cell"].tolist() == ["a", "d", "e"]
    assert found.report["cells without a non-zero value, left out"] == 2
    assert found.report["cells with less than 0.07 of the genes, left out"] == 0
    assert found.report["cells with less than 0.02 of the peaks, left out"] == 1
    options["minimum_gene_share"] = options["minimum_peak_share"] = 1
    with pytest.raises(ValueError, match="pair: none of 6 cells is left"):
        filter_cells(cells, genes_shown=shown, peaks_shown=peaks, **options)  # type: ignore[arg-type]
