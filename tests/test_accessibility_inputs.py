"""Samples of every format give the means of plain numpy, and every loss is accounted for."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from omics_transformers.data_scripts.accessibility_inputs import (
    AccessibilityReading,
    PeakAccessibility,
    read_accessibility,
)
from omics_transformers.data_scripts.accessibility_sources import AccessibilitySource
from omics_transformers.data_scripts.cell_clusters import LeidenOptions

N_CELLS, N_PEAKS = 60, 40
NAMES = [f"chr{1 + number % 2}:{100 * number}-{100 * number + 50}" for number in range(N_PEAKS)]
TYPES = np.array(["T", "B", "T", None] * (N_CELLS // 4), dtype=object)


@pytest.fixture
def cells() -> anndata.AnnData:
    """Reads: peak 5 is closed, peak 6 is detected in one cell of 60, an unlabelled one."""
    counts = np.random.default_rng(0).poisson(0.8, (N_CELLS, N_PEAKS))
    counts[:, 5:7] = 0
    counts[3, 6] = 3
    obs = pd.DataFrame({"cell_type": TYPES, "depth": counts.sum(axis=1)}, index=[f"c{i}-1" for i in range(N_CELLS)])
    return anndata.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs=obs, var=pd.DataFrame(index=NAMES))


def in_order() -> list[int]:
    return [*range(0, N_PEAKS, 2), *range(1, N_PEAKS, 2)]


def check(found: PeakAccessibility, fragments: np.ndarray, labels: np.ndarray, kept: list[int]) -> None:
    assert found.cell_types == ["B", "T"]
    assert found.peaks["name"].tolist() == [NAMES[number] for number in kept]
    assert found.n_cells == {name: int((labels == name).sum()) for name in ("B", "T")}
    expected = [fragments[labels == name][:, kept].mean(axis=0) for name in ("B", "T")]
    np.testing.assert_allclose(found.means, expected, rtol=1e-12)
    assert found.means.dtype == np.float64


@pytest.mark.parametrize("counts", ["reads", "fragments"])
@pytest.mark.parametrize("chunk_cells", [7, 1000])
def test_means_are_over_all_cells_of_a_type(cells, tmp_path, counts, chunk_cells):
    cells.write_h5ad(tmp_path / "pbmc.h5ad")
    found = read_accessibility(
        tmp_path / "pbmc.h5ad", AccessibilityReading(counts=counts, chunk_cells=chunk_cells, minimum_cell_share=0.02)
    )
    values = cells.X.toarray().astype(float)
    fragments = np.ceil(values / 2) if counts == "reads" else values
    check(found, fragments, TYPES, [number for number in in_order() if number not in (5, 6)])
    assert found.sample == "pbmc"
    assert found.report == {
        "file": "pbmc.h5ad",
        "sample": "pbmc",
        "counts": counts,
        "cells in the file": 60,
        "labels": "column cell_type of obs",
        "cells without a label, left out": 15,
        "types with too few cells, left out": {},
        "cells of these types, left out": 0,
        "cells of each type": {"B": 15, "T": 30},
        "columns in the file": 40,
        "peaks in the file": 40,
        "minimum share of cells": 0.02,
        "peaks detected in fewer cells, left out": 2,
        "peaks out of order, sorted": 0,
        "peaks that overlap": 0,
        "peaks kept": 38,
    }


@pytest.mark.parametrize(("share", "is_kept"), [(1 / 60, True), (0.0167, False), (0.0, True)])
def test_a_peak_counts_as_detected_in_cells_without_a_label(cells, tmp_path, share, is_kept):
    cells.write_h5ad(tmp_path / "a.h5ad")
    found = read_accessibility(tmp_path / "a.h5ad", AccessibilityReading(minimum_cell_share=share))
    assert (NAMES[6] in found.peaks["name"].tolist()) == is_kept


def write_formats(cells: anndata.AnnData, folder: Path) -> dict[str, Path]:
    """The same sample as 10x .h5 with genes, .h5mu, mtx with peaks.bed, CSC, layer; labels in labels.csv."""
    counts, path = sp.csr_matrix(cells.X), {name: folder / name for name in ("ten.h5", "a.h5mu", "mtx", "csc.h5ad")}
    pd.DataFrame({"barcode": cells.obs_names, "cell_type": TYPES}).to_csv(folder / "labels.csv", index=False)
    with_genes = sp.hstack([sp.csr_matrix(np.full((N_CELLS, 2), 7)), counts], format="csr").astype("i4")
    with h5py.File(path["ten.h5"], "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = cells.obs_names.to_numpy().astype("S")
        group["data"], group["indices"], group["indptr"] = with_genes.data, with_genes.indices, with_genes.indptr
        group["shape"] = np.array([N_PEAKS + 2, N_CELLS])
        group["features/id"] = group["features/name"] = np.array(["ENSG1", "ENSG2", *NAMES]).astype("S")
        group["features/feature_type"] = np.array([b"Gene Expression"] * 2 + [b"Peaks"] * N_PEAKS)
    with h5py.File(path["a.h5mu"], "w") as file:
        anndata.io.write_elem(file, "mod/atac", cells)
        anndata.io.write_elem(file, "obs", cells.obs)
    path["mtx"].mkdir()
    scipy.io.mmwrite(path["mtx"] / "matrix.mtx", counts.T.tocoo().astype(int))
    (path["mtx"] / "barcodes.tsv").write_text("".join(f"{name}\n" for name in cells.obs_names))
    (path["mtx"] / "peaks.bed").write_text("".join(re.sub("[:-]", "\t", name) + "\n" for name in NAMES))
    in_columns = cells.copy()
    in_columns.X, in_columns.layers["counts"] = sp.csc_matrix(cells.X) * 0.5, sp.csc_matrix(cells.X)
    in_columns.write_h5ad(path["csc.h5ad"])
    return path


def test_every_format_gives_the_same(cells, tmp_path):
    cells.write_h5ad(tmp_path / "pbmc.h5ad")
    expected = read_accessibility(tmp_path / "pbmc.h5ad")
    for name, path in write_formats(cells, tmp_path).items():
        labels = tmp_path / "labels.csv" if name in ("ten.h5", "mtx") else None
        layer = "counts" if name == "csc.h5ad" else None
        found = read_accessibility(AccessibilitySource(path, labels=labels, layer=layer))
        assert found.peaks.equals(expected.peaks), name
        np.testing.assert_array_equal(found.means, expected.means)
        assert found.n_cells == expected.n_cells
        if name == "ten.h5":
            assert found.report["columns that are no peaks, left out"] == 2
        assert found.report["peaks in the file"] == N_PEAKS


def test_rows_that_are_unsorted_or_store_an_entry_twice_are_summed(cells, tmp_path):
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        anndata.io.write_elem(file, "/", cells[:2])
        del file["X/data"], file["X/indices"], file["X/indptr"]
        file["X/data"], file["X/indices"], file["X/indptr"] = np.array([1.0, 2, 2, 4]), [3, 0, 3, 3], [0, 3, 4]
    found = read_accessibility(tmp_path / "a.h5ad", AccessibilityReading(minimum_cell_share=1.0))
    assert found.peaks["name"].tolist() == [NAMES[3]]
    assert found.means.tolist() == [[2], [2]]


def fragments_of(values: np.ndarray, barcodes: pd.Index) -> list[str]:
    lines = []
    for cell, peak in zip(*np.nonzero(values), strict=True):
        contig, start, _ = re.split("[:-]", NAMES[peak])
        lines += [f"{contig}\t{int(start) + 5}\t{int(start) + 30}\t{barcodes[cell]}\t2\n"] * int(values[cell, peak])
    return [*lines, "chr1\t75\t90\tc0-1\t1\n", "chrM\t1\t9\tc1-1\t1\n", "chr1\t1\t9\tempty\t1\n"]


@pytest.fixture
def fragments(cells, tmp_path):
    """A fragments file of the same sample, its values being fragments; peaks and labels beside it."""
    lines = fragments_of(cells.X.toarray(), cells.obs_names)
    np.random.default_rng(1).shuffle(lines)
    path = tmp_path / "heart.tsv"
    path.write_text("# header\n" + "".join(lines))
    bed = tmp_path / "peaks.bed"
    bed.write_text("".join(re.sub("[:-]", "\t", NAMES[number]) + "\n" for number in in_order()))
    labels = pd.DataFrame({"barcode": [*cells.obs_names, "of-another"], "cell_type": [*TYPES, "T"]})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    return AccessibilitySource(path, peaks=bed, labels=tmp_path / "labels.csv")


def test_fragments_in_peaks(cells, fragments):
    found = read_accessibility(fragments, AccessibilityReading(minimum_cell_share=0.02, chunk_cells=7))
    check(found, cells.X.toarray().astype(float), TYPES, [number for number in in_order() if number not in (5, 6)])
    n_fragments = int(cells.X.sum()) + 3
    assert found.report["fragments in the file"] == n_fragments
    assert found.report["fragments of other barcodes, left out"] == 1
    assert found.report["fragments on contigs without an interval, left out"] == 1
    assert found.report["fragments outside the intervals, left out"] == 1
    assert found.report["barcodes of the labels that are not at hand"] == 1
    assert found.report["cells"] == N_CELLS
    assert found.report["cells without a label, left out"] == 15


def test_insertions_are_two_a_fragment(fragments):
    whole = read_accessibility(fragments)
    ends = read_accessibility(fragments, AccessibilityReading(fragment_rule="insertion"))
    np.testing.assert_allclose(ends.means, 2 * whole.means, rtol=1e-12)


def test_fragments_in_tiles(cells, fragments, caplog):
    source = replace(fragments, peaks=None, tile_bp=100)
    reading = AccessibilityReading(minimum_cell_share=0.02)
    found = read_accessibility(source, reading)
    n_fragments = sum(found.means[row].sum() * found.n_cells[name] for row, name in enumerate(found.cell_types))
    is_labelled = [label is not None for label in TYPES]
    kept = [number for number in range(N_PEAKS) if number not in (5, 6)]
    # and the fragment between peaks of c0-1, a T cell
    assert n_fragments == pytest.approx(cells.X.toarray()[is_labelled][:, kept].sum() + 1)
    assert found.report["tiles"] == 39 + 40 + 1
    caplog.set_level(logging.WARNING)
    shorter = read_accessibility(source, reading, contig_lengths={"2": 1000, "1": 5000})
    assert set(shorter.peaks["contig"]) == {"1", "2"}
    assert shorter.report["end of fragments on contigs that end before"] == {"chr2": 3930}
    assert "fragments beyond the end of chr2" in caplog.text


def planted(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Counts and groups of cells, also as planted.h5ad and planted.tsv, a fragment a count."""
    generator = np.random.default_rng(0)
    groups = generator.permutation(np.repeat([0, 1], [40, 20]))
    counts = generator.poisson(np.where(np.arange(N_PEAKS) % 2 == groups[:, None], 4.0, 0.1))
    obs = pd.DataFrame({"depth": counts.sum(axis=1)}, index=[f"c{i}-1" for i in range(N_CELLS)])
    sample = anndata.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs=obs, var=pd.DataFrame(index=NAMES))
    sample.write_h5ad(folder / "planted.h5ad")
    (folder / "planted.tsv").write_text("".join(fragments_of(counts, obs.index)))
    return counts, groups


def test_cells_without_labels_are_clustered(tmp_path, caplog):
    pytest.importorskip("igraph")
    counts, groups = planted(tmp_path)
    (tmp_path / "peaks.bed").write_text("".join(re.sub("[:-]", "\t", name) + "\n" for name in NAMES))
    reading = AccessibilityReading(counts="fragments", leiden=LeidenOptions(resolution=0.3), minimum_fragments=2)
    caplog.set_level(logging.WARNING)
    for source in (tmp_path / "planted.h5ad", AccessibilitySource(tmp_path / "planted.tsv", tmp_path / "peaks.bed")):
        found = read_accessibility(source, reading)
        assert found.n_cells == {"cluster_0": 40, "cluster_1": 20}
        columns = [NAMES.index(name) for name in found.peaks["name"]]
        expected = [counts[groups == group][:, columns].mean(axis=0) for group in (0, 1)]
        np.testing.assert_allclose(found.means, expected, rtol=1e-12)
        assert found.report["labels"] == "Leiden clusters"
    assert found.report["barcodes with fewer fragments, left out"] == 1
    assert "no column of obs tells the types of cells (depth): clustering them" in caplog.text


def test_overlapping_peaks(cells, tmp_path, fragments):
    names = NAMES.copy()
    names[2] = "chr1:140-250"
    names[4] = "chr1:240-450"
    cells.var_names = names
    cells.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match=r"a\.h5ad: X: 2 of 40 peaks overlap another, the first 'chr1:140-250'"):
        read_accessibility(tmp_path / "a.h5ad")
    plain = read_accessibility(tmp_path / "a.h5ad", AccessibilityReading(overlapping="drop"))
    assert plain.report["peaks that overlap, left out"] == 2
    merged = read_accessibility(tmp_path / "a.h5ad", AccessibilityReading(overlapping="merge"))
    row = merged.peaks["name"].tolist().index("chr1:140-250;chr1:240-450")
    is_b = TYPES == "B"
    assert merged.means[0, row] == pytest.approx(np.ceil(cells.X.toarray()[is_b][:, [2, 4]] / 2).sum(axis=1).mean())
    assert merged.report["peaks kept"] == plain.report["peaks kept"] + 1
    bed = Path(fragments.peaks)
    bed.write_text("chr1\t0\t150\nchr1\t0\t35\n")
    with pytest.raises(ValueError, match=r"peaks\.bed: 2 of 2 peaks overlap"):
        read_accessibility(fragments)
    counted = read_accessibility(fragments, AccessibilityReading(overlapping="merge"))
    # A fragment in both counts once.
    assert counted.means[0, 0] == pytest.approx(cells.X.toarray()[is_b][:, 0].mean())


def bad(cells: anndata.AnnData, path: Path, **changes: object) -> Path:
    sample = cells.copy()
    for name, value in changes.items():
        setattr(sample, name, value)
    sample.write_h5ad(path)
    return path


def test_values_that_are_no_counts_are_named(cells, tmp_path):
    values = cells.X.toarray()
    values[8, 9] = -1
    where = f"a.h5ad: X does not hold counts: 1 values are negative (first: -1 at cell 'c8-1', peak '{NAMES[9]}')"
    with pytest.raises(ValueError, match=re.escape(where)):
        read_accessibility(
            bad(cells, tmp_path / "a.h5ad", X=sp.csr_matrix(values)), AccessibilityReading(chunk_cells=5)
        )
    values[8, 9] = np.nan
    with pytest.raises(ValueError, match="1 values are NaN or infinite"):
        read_accessibility(bad(cells, tmp_path / "a.h5ad", X=sp.csr_matrix(values)))
    values[8, 9] = 0.5
    with pytest.raises(
        ValueError, match=r"1 of \d+ values are not whole numbers .*peak 'chr2:900-950'.*round them if so"
    ):
        read_accessibility(bad(cells, tmp_path / "a.h5ad", X=sp.csr_matrix(values)))


def test_samples_that_do_not_serve_are_refused(cells, tmp_path):
    path = tmp_path / "a.h5ad"
    cells.write_h5ad(path)
    with pytest.raises(ValueError, match="obs has no column 'kind'; it has cell_type, depth"):
        read_accessibility(AccessibilitySource(path, label_column="kind"))
    with pytest.raises(ValueError, match=r"gives 1 types of cells of at least 20 cells \(found: B \(15\), T \(30\)"):
        read_accessibility(path, AccessibilityReading(minimum_cells=20))
    with pytest.raises(
        ValueError, match=r"no peak is detected in 100.00% of the 60 cells or more; the widest is in \d+"
    ):
        read_accessibility(path, AccessibilityReading(minimum_cell_share=1.0))
    with pytest.raises(ValueError, match="holds counts of its own peaks; tiles are for fragments"):
        read_accessibility(AccessibilitySource(path, tile_bp=500))
    both = cells.obs.assign(CellType="x")
    with pytest.raises(ValueError, match=r"a\.h5ad: X: the columns 'cell_type' and 'CellType' may both"):
        read_accessibility(bad(cells, path, obs=both))
    with pytest.raises(ValueError, match=r"1 of 40 peaks have a name that tells no place, the first 'GATA4' \(row 1\)"):
        read_accessibility(bad(cells, path, var=pd.DataFrame(index=["GATA4", *NAMES[1:]])))
    with pytest.raises(ValueError, match=r"no column of the feature type 'Peaks'; it has Gene Expression \(40\)"):
        read_accessibility(bad(cells, path, var=pd.DataFrame({"feature_types": "Gene Expression"}, index=NAMES)))
    with pytest.raises(ValueError, match="holds no cell"):
        cells[:0].copy().write_h5ad(path)
        read_accessibility(path)


def test_barcodes_twice_are_refused(cells, tmp_path):
    cells.obs.index = ["c0-1", *cells.obs_names[:-1]]
    cells.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match=r"a\.h5ad \(column cell_type of obs\): 1 barcodes occur more than once"):
        read_accessibility(tmp_path / "a.h5ad")


def test_fragments_that_do_not_serve_are_refused(fragments, tmp_path):
    for changes, message in (
        ({"peaks": None}, r"holds fragments: name the intervals to count them in.*:tile=5000\)"),
        ({"layer": "counts"}, "holds fragments, which have no layer 'counts'"),
        ({"labels": None, "label_column": "kind"}, "holds fragments and no types of cells: name the table"),
        ({"labels": None}, r"none of 61 barcodes has 1,000 fragments or more; the most is \d+\. Lower"),
        ({"peaks": tmp_path / "none.bed"}, "no BED file"),
        ({"path": tmp_path / "none.tsv"}, "does not exist; expected .h5ad"),
        ({"path": fragments.labels}, "is neither a matrix of counts nor a fragments file"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            read_accessibility(replace(fragments, **changes))


@pytest.mark.parametrize(
    "setting",
    [
        {"counts": "binary"},
        {"fragment_rule": "reads"},
        {"overlapping": "join"},
        {"minimum_cell_share": 1.5},
        {"minimum_cells": 0},
        {"chunk_cells": 0},
    ],
)
def test_settings_are_checked(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))} is "):
        AccessibilityReading(**setting)


@pytest.mark.real_data
def test_real_samples(data_folder):
    multiome = data_folder / "multiome" / "mosim_pbmc_multiome_atac.h5ad"
    found = read_accessibility(multiome)
    assert found.n_cells == {"CD4 TEM": 10, "Memory B": 10, "Treg": 10, "cDC": 10}
    sample = anndata.read_h5ad(multiome)
    fragments = np.ceil(sample.X.toarray().astype(float) / 2)
    fragments = fragments[:, sample.var_names.get_indexer(found.peaks["name"])]
    np.testing.assert_allclose(found.means[0], fragments[sample.obs["cell_type"] == "CD4 TEM"].mean(axis=0), rtol=1e-12)
    assert found.report["peaks kept"] == int(((sample.X > 0).sum(axis=0) >= 0.4).sum())
    lines = found.report["peaks kept"] + found.report["peaks detected in fewer cells, left out"]
    assert lines == found.report["peaks in the file"] == 108_377


@pytest.mark.real_data
def test_real_fragments(data_folder):
    path = data_folder / "atac" / "MAESTRO_test.chr22.GRCh38.fragments.tsv.gz"
    source = AccessibilitySource(path, peaks=data_folder / "atac" / "MAESTRO_test.chr22.GRCh38.narrowPeak.gz")
    pytest.importorskip("igraph")
    found = read_accessibility(source, AccessibilityReading(minimum_fragments=100))
    assert found.peaks["name"].str.startswith("scatac_all_peak_").all()
    assert found.report["fragments in the file"] == 57_115
    assert sum(found.n_cells.values()) == found.report["cells"]
