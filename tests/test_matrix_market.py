"""10x folders: streamed text, compressed or not, in any order; damage is named."""

import gzip

import numpy as np
import pytest

from omics_transformers.data_scripts.matrix_market import open_matrix_folder, read_header

HEADER = "%%MatrixMarket matrix coordinate integer general\n%metadata\n"
ENTRIES = "3 2 4\n1 2 5\n3 1 1\n2 1 7\n"  # not in any order; gene, cell, count


def write_folder(folder, *, entries=ENTRIES, sizes="3 2 4\n", compressed=False, genes="genes.tsv", header=HEADER):
    texts = {"matrix.mtx": header + sizes + entries, "barcodes.tsv": "AAA-1\nCCC-1\n", genes: "E1\tA\nE2\tB\nE3\tC\n"}
    for name, text in texts.items():
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_text(text)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("genes", ["genes.tsv", "features.tsv"])
def test_counts_genes_and_barcodes(tmp_path, compressed, genes):
    write_folder(tmp_path, compressed=compressed, genes=genes)
    matrix, gene_table, barcodes = open_matrix_folder(tmp_path)
    np.testing.assert_array_equal(matrix.read(0, 2).toarray(), [[0, 7, 1], [5, 0, 4]])
    np.testing.assert_array_equal(matrix.read(1, 2).toarray(), [[5, 0, 4]])
    assert gene_table.index.tolist() == ["E1", "E2", "E3"]
    assert gene_table["gene_symbols"].tolist() == ["A", "B", "C"]
    assert barcodes.tolist() == ["AAA-1", "CCC-1"]


@pytest.mark.parametrize("compressed", [False, True])
def test_peaks_of_cell_ranger_atac(tmp_path, compressed):
    write_folder(tmp_path, compressed=compressed)
    for path in tmp_path.glob("genes.tsv*"):
        path.unlink()
    (tmp_path / "peaks.bed").write_text("chr1\t5\t9\nchr1\t20\t30\nGL000194.1\t0\t7\n")
    matrix, peaks, _ = open_matrix_folder(tmp_path)
    np.testing.assert_array_equal(matrix.read(0, 2).toarray(), [[0, 7, 1], [5, 0, 4]])
    assert peaks.index.tolist() == ["chr1:5-9", "chr1:20-30", "GL000194.1:0-7"]
    assert peaks["feature_types"].tolist() == ["Peaks"] * 3


def test_a_matrix_without_entries(tmp_path):
    write_folder(tmp_path, entries="", sizes="3 2 0\n")
    assert open_matrix_folder(tmp_path)[0].read(0, 2).nnz == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entries": ENTRIES[:12]}, "states 4 entries and holds 2"),
        ({"entries": "3 2 four\n" * 4}, "cannot be read as Matrix Market entries"),
        ({"entries": "3 2\n" * 4}, "cannot be read as Matrix Market entries"),
        ({"entries": "4 2 1\n" * 4}, r"gene index lies outside 0\.\.2"),
        ({"entries": "1 0 1\n" * 4}, r"cell index lies outside 0\.\.1"),
        ({"sizes": "5 2 4\n"}, "states 5 genes x 2 cells, but the folder lists 3 genes and 2 barcodes"),
    ],
)
def test_damage_is_named(tmp_path, changes, message):
    write_folder(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        open_matrix_folder(tmp_path)[0].read(0, 2)


def test_a_compressed_file_cut_short_is_named(tmp_path):
    entries = "".join(f"{1 + i % 3} {1 + i // 3 % 2} {i}\n" for i in range(20_000))
    write_folder(tmp_path, entries=entries, sizes="3 2 20000\n", compressed=True)
    path = tmp_path / "matrix.mtx.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"matrix\.mtx\.gz"):
        open_matrix_folder(tmp_path)[0].read(0, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%%MatrixMarket matrix array real general\n2 2\n", "expected '%%MatrixMarket matrix coordinate"),
        ("%%MatrixMarket matrix coordinate pattern general\n2 2 1\n", "expected '%%MatrixMarket matrix coordinate"),
        (HEADER, "ends before the line of sizes"),
        (HEADER + "3 two 1\n", "line 3: expected rows, columns and entries"),
    ],
)
def test_other_headers_are_refused(tmp_path, text, message):
    (tmp_path / "matrix.mtx").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_header(tmp_path / "matrix.mtx")


def test_a_missing_file_is_named(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "barcodes.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no barcodes\.tsv"):
        open_matrix_folder(tmp_path)
