"""Builds agree with plain loops and numpy; nothing depends on chunks or processes; bad input is named."""

import json
import re
import shutil
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from datasets import load_dataset

from omics_transformers.data_scripts.multiome import MultiomeReport, build_multiome
from omics_transformers.data_scripts.multiome_sources import MultiomeSource
from omics_transformers.training.multiome_data import read_multiome

N_GENES, N_PEAKS, N_CELLS = 24, 90, 30
IDS = [f"ENSG{number:011d}" for number in range(N_GENES)]
SYMBOLS = [f"GENE{number}" for number in range(N_GENES)]
OPTIONS: dict = {"minimum_gene_share": 0.0, "minimum_peak_share": 0.0}


class World:
    """Genes every 30 kb on two contigs, RNA and ATAC of the same cells in another order, RNA of other cells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        random = np.random.default_rng(0)
        self.contig = np.array([f"chr{1 + number % 2}" for number in range(N_GENES)])
        self.start = 60_000 + 30_000 * np.arange(N_GENES) + random.integers(0, 5_000, N_GENES)
        self.end = self.start + random.integers(500, 40_000, N_GENES)
        self.strand = np.where(random.random(N_GENES) < 0.5, "+", "-")
        self.genes = folder / "genes.gtf"
        lines = [
            f'{contig}\tx\t{kind}\t{start + 1}\t{end}\t.\t{strand}\t.\tgene_id "{gene}.4"; transcript_id "T{gene}"; '
            f'gene_name "{symbol}";'
            for contig, start, end, strand, gene, symbol in zip(
                self.contig, self.start, self.end, self.strand, IDS, SYMBOLS, strict=True
            )
            for kind in ("transcript", "exon")
        ]
        self.genes.write_text("\n".join(lines) + "\n")
        at = np.sort(random.integers(10_000, 900_000, N_PEAKS))
        self.peaks = [(f"chr{1 + n % 2}", int(a), int(a + random.integers(200, 3_000))) for n, a in enumerate(at)]
        barcodes = np.array([f"cell{number:02d}-1" for number in range(N_CELLS)])
        self.rna = pd.DataFrame(random.poisson(1.0, (N_CELLS, N_GENES)), barcodes, IDS)
        self.atac = pd.DataFrame(random.poisson(0.6, (N_CELLS, N_PEAKS)), random.permutation(barcodes))
        self.other = pd.DataFrame(random.poisson(0.5, (12, N_GENES)), [f"other{n}" for n in range(12)], SYMBOLS)
        self.types = ["T", "B", "T"] * (N_CELLS // 3)

    def write(self) -> None:
        var = pd.DataFrame({"gene_ids": IDS}, index=SYMBOLS)
        self.save("rna", self.rna, var, pd.DataFrame({"cell_type": self.types, "who": "d1"}, index=self.rna.index))
        self.save("atac", self.atac, pd.DataFrame(index=[f"{c}-{s}-{e}" for c, s, e in self.peaks]))
        self.save("other", self.other, pd.DataFrame(index=SYMBOLS))

    def save_repeated(self, name: str, counts: pd.DataFrame, var: pd.DataFrame) -> Path:
        """The first two cells under one barcode, which anndata warns of."""
        path = self.save(name, counts, var)
        with h5py.File(path, "r+") as file:
            file["obs/_index"][1] = file["obs/_index"][0]
        return path

    def save(self, name: str, counts: pd.DataFrame, var: pd.DataFrame, obs: pd.DataFrame | None = None) -> Path:
        obs = pd.DataFrame(index=counts.index) if obs is None else obs
        cells = anndata.AnnData(sp.csr_matrix(counts.to_numpy().astype(np.float32)), obs=obs, var=var)
        path = self.folder / f"{name}.h5ad"
        cells.write_h5ad(path)
        return path

    @property
    def sources(self) -> list[MultiomeSource]:
        pair = MultiomeSource(self.folder / "rna.h5ad", atac=self.folder / "atac.h5ad", donor_column="who", name="pair")
        return [pair, MultiomeSource(self.folder / "other.h5ad")]

    def build(self, name: str = "built", **options: object) -> MultiomeReport:
        chosen = {"genes": self.genes, "gene_symbols": dict(zip(SYMBOLS, IDS, strict=True)), **OPTIONS, **options}
        return build_multiome(chosen.pop("sources", self.sources), self.folder / name, **chosen)  # type: ignore[arg-type]

    def naive_atac(self) -> pd.DataFrame:
        """Weighted sums of fragments by a double loop."""
        fragments = (self.atac + 1) // 2
        sums = pd.DataFrame(0.0, self.atac.index, IDS)
        for gene, contig, start, end, strand in zip(IDS, self.contig, self.start, self.end, self.strand, strict=True):
            tss = start if strand == "+" else end - 1
            for column, (name, first, last) in enumerate(self.peaks):
                distance = max(first - tss, tss - (last - 1), 0)
                rings = [weight for bound, weight in ((10e3, 1 / 2), (20e3, 1 / 3), (50e3, 1 / 6)) if distance < bound]
                if first < end and last > start:
                    rings = [1 / 2]
                if name == contig and rings:
                    sums[gene] += np.float32(rings[0]) * fragments[column]
        return sums


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("world"))
    made.write()
    made.build()
    return made


def naive_bins(counts: np.ndarray) -> np.ndarray:
    """Gene-normalised, by numpy alone."""
    values = np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-300) * 10_000)
    values[:, :] = np.where(counts > 0, values, np.nan)
    scaled = values / np.nanmedian(values, axis=0)
    edges = np.percentile(scaled[~np.isnan(scaled)], [20, 40, 60, 80])
    return np.where(counts > 0, np.digitize(scaled, edges) + 1, 0)


@pytest.mark.parity
def test_a_build_is_what_plain_loops_give(world: World) -> None:
    folder = read_multiome(world.folder / "built")
    assert folder.gene_ids == IDS and folder.gene_symbols == SYMBOLS
    cells = folder.cells
    assert cells.dataset_names == ["pair", "other"] and len(cells) == N_CELLS + 12
    rna = np.concatenate([world.rna.to_numpy(), world.other.to_numpy()])
    np.testing.assert_array_equal(cells.counts(np.arange(42), "rna").toarray(), rna)
    np.testing.assert_array_equal(cells.values(np.arange(42), "rna"), naive_bins(rna.astype(float)))
    pairs = np.arange(N_CELLS)
    assert list(cells.cell_names[pairs]) == list(world.rna.index)
    expected = world.naive_atac().loc[world.rna.index].to_numpy()
    found = cells.counts(pairs, "atac").toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(cells.values(pairs, "atac"), naive_bins(found.astype(float)))
    assert not cells.has_atac[N_CELLS:].any() and cells.has_rna.all()
    codes, names = cells.labels("cell_type")
    assert names == ["B", "T"] and [names[code] for code in codes[:30]] == world.types and (codes[30:] == -1).all()
    assert cells.labels("donor")[1] == ["d1"] and cells.labels("batch")[1] == []


def test_the_folder_says_what_it_holds(world: World) -> None:
    folder = world.folder / "built"
    described = json.loads((folder / "multiome.json").read_text())
    assert described["datasets"] == [
        {"name": "pair", "modality": "both", "cells": 30},
        {"name": "other", "modality": "rna", "cells": 12},
    ]
    assert described["cell_types"] == ["B", "T"]
    rows = load_dataset(str(folder), split="train")
    assert rows.column_names == [
        "dataset", "cell", "rna_values", "rna_total", "rna_genes", "rna_counts",
        "atac_values", "atac_total", "atac_genes", "atac_counts", "cell_type", "donor", "batch",
    ]  # fmt: skip
    last = rows[41]
    assert last["atac_values"] is None and last["atac_total"] is None and last["atac_counts"] is None
    assert last["rna_total"] == world.other.iloc[-1].sum()
    report = json.loads((folder / "report.json").read_text())
    pair = report["data sets"]["pair"]
    fragments = float(((world.atac + 1) // 2).to_numpy().sum())
    kept, lost = (pair["atac"].get(f"fragments in peaks linked to {what} gene", 0) for what in ("a", "no"))
    assert kept + lost == fragments and pair["atac"]["share of fragments lost"] == round(lost / fragments, 6)
    values = np.bincount(np.concatenate(list(rows["rna_values"])), minlength=6)
    assert report["bins"]["rna"]["values in each bin"] == values.tolist()
    assert (folder / "figures" / "peak_gene_links.png").stat().st_size > 1000
    assert (folder / "figures" / "value_bins.png").stat().st_size > 1000


def test_bytes_depend_neither_on_processes_nor_on_chunks_nor_on_the_time(world: World) -> None:
    for name, options in (("again", {}), ("small", {"chunk_cells": 7}), ("two", {"processes": 2, "chunk_cells": 11})):
        world.build("trial", **options)
        shutil.rmtree(world.folder / name, ignore_errors=True)
        (world.folder / "trial").rename(world.folder / name)
        for path in sorted((world.folder / "built").rglob("*")):
            if path.is_file():
                twin = world.folder / name / path.relative_to(world.folder / "built")
                assert twin.read_bytes() == path.read_bytes(), (name, path.name)


def test_edges_do_not_depend_on_the_order_of_the_sources(world: World) -> None:
    world.build("turned", sources=world.sources[::-1])
    folders = [read_multiome(world.folder / name) for name in ("built", "turned")]
    assert folders[0].feature_extractor["rna_bins"]["edges"] == folders[1].feature_extractor["rna_bins"]["edges"]
    assert folders[1].cells.dataset_names == ["other", "pair"]


def test_new_cells_are_binned_as_an_earlier_build_was(world: World) -> None:
    world.build("few", sources=world.sources[1:], bins_from=world.folder / "built", genes=None)
    few, all_cells = (read_multiome(world.folder / name) for name in ("few", "built"))
    assert few.feature_extractor == all_cells.feature_extractor
    np.testing.assert_array_equal(
        few.cells.values(np.arange(12), "rna"), all_cells.cells.values(np.arange(30, 42), "rna")
    )
    with pytest.raises(ValueError, match="fitted on other genes: 24 there, 3 listed"):
        world.build("bad", bins_from=world.folder / "built", gene_list=IDS[:3], gene_symbols=None)
    with pytest.raises(ValueError, match=r"binning is 'scbert', .* was made with 'gene_normalized'"):
        world.build("bad", bins_from=world.folder / "built", binning="scbert")


def test_a_list_of_genes_leaves_those_that_are_missing_zero(world: World) -> None:
    listed = [IDS[5], "ENSG00000099999", IDS[2]]
    report = world.build("listed", gene_list=listed, sources=world.sources[1:], keep_counts=False)
    assert report.n_genes == 3 and report.content["genes"]["missing in a data set"] == {"other": 1}
    folder = read_multiome(world.folder / "listed")
    assert folder.gene_ids == listed and not folder.cells.has_counts
    assert not folder.cells.values(np.arange(report.n_cells), "rna")[:, 1].any()


def test_symbols_can_name_the_genes(world: World) -> None:
    report = world.build("symbols", gene_names="symbols", gene_symbols=None)
    folder = read_multiome(world.folder / "symbols")
    assert report.n_genes == N_GENES and folder.gene_ids == sorted(SYMBOLS)
    order = [SYMBOLS.index(name) for name in folder.gene_ids]
    twin = read_multiome(world.folder / "built")
    values = [one.cells.values(np.arange(N_CELLS), "atac") for one in (folder, twin)]
    np.testing.assert_array_equal(values[0], values[1][:, order])


def test_cells_that_show_too_little_are_counted(world: World) -> None:
    empty = world.rna.copy()
    empty.iloc[3] = 0
    world.save("empty", empty, pd.DataFrame({"gene_ids": IDS}, index=SYMBOLS))
    shown = (empty > 0).sum(axis=1)
    report = world.build("filtered", sources=[world.folder / "empty.h5ad"], minimum_gene_share=0.6)
    cells = report.content["data sets"]["empty"]["cells"]
    assert cells["cells without a non-zero value, left out"] == 1
    assert cells["cells with less than 0.6 of the genes, left out"] == ((shown < 0.6 * N_GENES) & (shown > 0)).sum()
    assert report.n_cells == (shown >= 0.6 * N_GENES).sum()
    with pytest.raises(ValueError, match="empty: none of 30 cells is left"):
        world.build("bad", sources=[world.folder / "empty.h5ad"], minimum_gene_share=1.0)
    assert not (world.folder / "bad").exists() and not list(world.folder.glob("bad*"))


def test_bad_input_is_refused_with_the_remedy(world: World) -> None:
    folder = world.folder
    others = pd.DataFrame(index=[f"ENSMUSG{number:011d}" for number in range(N_GENES)])
    mouse = world.save("mouse", world.other, others)
    negative, fractional = world.other.copy(), world.other + 0.25
    negative.iloc[2, 4] = -1
    symbols = pd.DataFrame(index=SYMBOLS)
    moved = world.atac.set_axis([f"{name[:-2]}-2" for name in world.atac.index])
    world.save("moved", moved, pd.DataFrame(index=[f"{c}-{s}-{e}" for c, s, e in world.peaks]))
    repeated = world.save_repeated("repeated", world.other, symbols)
    cases: list[tuple[dict, str]] = [
        ({"sources": [world.sources[1], mouse]}, "no gene is in all of 2 data sets (other: ENSG"),
        (
            {"sources": [folder / "rna.h5ad", folder / "other.h5ad"], "gene_symbols": None},
            "names genes by Ensembl ids, ",
        ),
        ({"genes": None}, "pair has ATAC, and no annotation says where genes lie"),
        ({"sources": [folder / "atac.h5ad"], "genes": None}, "atac has ATAC, and no annotation"),
        (
            {"sources": [MultiomeSource(folder / "rna.h5ad", atac=folder / "moved.h5ad")]},
            "0 barcodes are in both of the paired files, of 30 of the RNA (cell00-1, cell01-1, cell02-1, ... (",
        ),
        ({"sources": [world.save("negative", negative, symbols)]}, "values are negative (first: -1 at cell 'other2'"),
        ({"sources": [world.save("fractional", fractional, symbols)]}, "are not whole numbers"),
        ({"sources": [repeated]}, "1 barcodes occur more than once, e.g. other0"),
        ({"sources": world.sources[1:] * 2}, "two sources are called other"),
        ({"sources": []}, "no source is given"),
        ({"binning": "median"}, "binning is 'median'; expected one of gene_normalized"),
        ({"minimum_gene_share": 2}, "minimum_gene_share is 2; expected a share"),
        ({"processes": 0}, "processes is 0"),
        ({"assembly": "hg77"}, "assembly is 'hg77'; known are"),
        ({"gene_names": "symbols"}, "gene_names is 'symbols' and a table"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            world.build("bad", **options)
        assert not list(folder.glob("bad*")), message
    with pytest.raises(FileExistsError, match="--overwrite"):
        world.build("built")


def test_peaks_beyond_the_named_assembly_are_refused(world: World) -> None:
    var = pd.DataFrame(index=[*(f"{c}-{s}-{e}" for c, s, e in world.peaks[1:]), "chr2-250000000-250000500"])
    world.save("beyond", world.atac, var)
    with pytest.raises(ValueError, match=r"1 of 90 end beyond their contig in hg38, the first chr2:250,000,000"):
        world.build("bad", sources=[world.folder / "beyond.h5ad"], assembly="hg38")


@pytest.mark.real_data
def test_peaks_of_another_build_are_refused_and_lifted_ones_taken(data_folder: Path, tmp_path: Path) -> None:
    path = data_folder / "atac" / "chromVAR_GM12878_H1_50x29269.hg19.h5ad"
    genes = data_folder / "annotation" / "ncbiRefSeq_genePred.hg38.txt.gz"
    with pytest.raises(ValueError, match="look like those of another assembly"):
        build_multiome([MultiomeSource(path, name="lines")], tmp_path / "built", genes=genes)
    chain = data_folder / "annotation" / "hg19ToHg38.over.chain.gz"
    source = MultiomeSource(path, name="lines", chain=chain, label_column="Cell_Type", counts="fragments")
    report = build_multiome([source], tmp_path / "built", genes=genes, gene_list=["GATA4", "TP53", "GAPDH", "SPI1"])
    assert report.n_genes == 4 and report.content["data sets"]["lines"]["atac"]["lift"]["lifted"] > 29_000


@pytest.mark.real_data
def test_real_files_of_all_kinds(data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rna, atac, multiome = (data_folder / name for name in ("rna", "atac", "multiome"))
    heart = "heart_AVN_HCAHeartST10773171"
    fragments, peaks = (atac / f"MAESTRO_test.chr22.GRCh38.{name}.gz" for name in ("fragments.tsv", "narrowPeak"))
    pair = multiome / "mosim_pbmc_multiome_rna.h5ad"
    sources = [
        MultiomeSource(pair, atac=multiome / "mosim_pbmc_multiome_atac.h5ad", name="mosim"),
        MultiomeSource(rna / "pbmc3k_raw_500labelled.h5ad", label_column="seurat_annotations", name="pbmc3k"),
        MultiomeSource(
            rna / "zheng68k_reduced_700x765_counts_recovered.h5ad", label_column="bulk_labels", name="zheng"
        ),
        MultiomeSource(
            atac / f"{heart}.fragments.hg38.tsv.gz", labels=atac / f"{heart}.metadata.csv", tile_bp=5000, name="heart",
            label_column="cell_type", donor_column="sample",
        ),
        MultiomeSource(fragments, peaks=peaks, name="maestro"),
    ]  # fmt: skip
    report = build_multiome(
        sources,
        tmp_path / "built",
        genes=data_folder / "annotation" / "ncbiRefSeq_genePred.hg38.txt.gz",
        gene_symbols=data_folder / "annotation" / "tss_table.GRCh38.DERIVED.tsv.gz",
        assembly="hg38",
        blacklist=data_folder / "annotation" / "hg38-blacklist.v2.bed",
        minimum_peak_share=0.005,
        minimum_fragments=100,
    )
    with capsys.disabled():
        print(f"\n{report.n_genes} genes; cells {report.cells_of_dataset}")
    assert report.n_genes > 650
    assert report.cells_of_dataset["mosim"] == 40 and report.cells_of_dataset["pbmc3k"] == 2700
    assert report.cells_of_dataset["heart"] > 10 and report.cells_of_dataset["maestro"] > 80
    folder = read_multiome(tmp_path / "built")
    _, types = folder.cells.labels("cell_type")
    assert {"Treg", "CD14+ Monocyte", "Lymphoid"} <= set(types)
    assert report.content["data sets"]["mosim"]["atac"]["assembly check"]["share of TSSs in peaks"] > 0.5
    raw = anndata.read_h5ad(pair)
    symbol = folder.gene_symbols.index("LYZ")
    np.testing.assert_array_equal(
        folder.cells.counts(np.arange(40), "rna")[:, symbol].toarray().ravel(), raw[:, "LYZ"].X.toarray().ravel()
    )
