"""From cells to the data set of region ranking: thesis' steps, determinism, accounts, bad input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from omics_transformers.data_scripts.accessibility_inputs import AccessibilityReading
from omics_transformers.data_scripts.accessibility_sources import AccessibilitySource
from omics_transformers.data_scripts.bed_files import BedSource
from omics_transformers.data_scripts.regions import build_regions

CONTIGS = {"chr1": 60_000, "chr2": 30_000, "chr20": 30_000, "chr22": 30_000}
SPLITS = {"train": ["chr1", "chr2"], "validation": ["22"], "test": ["chr20"]}
N_CELLS = 40


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("genome") / "genome.fa"
    with path.open("w") as file:
        for name, length in CONTIGS.items():
            letters = random.choice(np.frombuffer(b"ACGT", dtype=np.uint8), length)
            file.write(f">{name}\n{letters.tobytes().decode()}\n")
    return path


def peak_table(seed: int = 1) -> pd.DataFrame:
    """Peaks of 50 to 250 bp, one in 300 bp, on every contig."""
    random, tables = np.random.default_rng(seed), []
    for contig, length in CONTIGS.items():
        start = np.arange(0, length - 300, 300) + random.integers(0, 50, (length - 300 + 299) // 300)
        tables.append(
            pd.DataFrame({"contig": contig, "start": start, "end": start + random.integers(50, 250, len(start))})
        )
    return pd.concat(tables, ignore_index=True)


def names_of(peaks: pd.DataFrame) -> list[str]:
    return (peaks["contig"] + ":" + peaks["start"].astype(str) + "-" + peaks["end"].astype(str)).tolist()


def count_matrix(n_peaks: int, seed: int = 2) -> sp.csr_matrix:
    random = np.random.default_rng(seed)
    return sp.csr_matrix(random.integers(1, 7, (N_CELLS, n_peaks)) * (random.random((N_CELLS, n_peaks)) < 0.12))


def write_cells(path: Path, peaks: list[str], counts: sp.csr_matrix, labels: list[str] | None = None) -> Path:
    labels = labels or ["alpha", "beta"] * (N_CELLS // 2)
    obs = pd.DataFrame({"cell_type": labels}, index=[f"cell{number}" for number in range(N_CELLS)])
    anndata.AnnData(counts.astype(np.float32), obs, pd.DataFrame(index=peaks)).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    peaks = peak_table()
    return write_cells(tmp_path_factory.mktemp("cells") / "pbmc.h5ad", names_of(peaks), count_matrix(len(peaks)))


def build(genome: Path, cells: Path | list, output: Path, **options: Any) -> dict:
    sources = cells if isinstance(cells, list) else [cells]
    return build_regions(genome, sources, output, **{**SPLITS, "span_bp": 1_000, **options})


def rows_of(folder: Path) -> pd.DataFrame:
    return pd.concat([pq.read_table(path).to_pandas() for path in sorted(folder.glob("data/*.parquet"))])


def test_load_dataset_reads_rows_whose_counts_come_from_the_cells(genome: Path, cells: Path, tmp_path: Path) -> None:
    report = build(genome, cells, tmp_path / "regions")
    read = datasets.load_dataset(str(tmp_path / "regions"))
    assert {split: len(rows) for split, rows in read.items()} == report["rows"]
    assert {split: set(rows["contig"]) for split, rows in read.items()} == {
        "train": {"chr1", "chr2"},
        "validation": {"chr22"},
        "test": {"chr20"},
    }
    file = anndata.read_h5ad(cells)
    fragments = np.ceil(file.X.toarray() / 2)
    detected = (file.X.toarray() > 0).mean(axis=0) >= 0.01
    is_type = {kind: (file.obs["cell_type"] == kind).to_numpy() for kind in ("alpha", "beta")}
    means = {kind: fragments[rows].mean(axis=0) for kind, rows in is_type.items()}
    column = {name: number for number, name in enumerate(file.var_names)}
    for row in read["train"]:
        assert row["sample"] == "pbmc" and row["counts"][2] == 0 < min(row["counts"][:2])
        for name, start, end, count in zip(row["peaks"], row["starts"], row["ends"], row["counts"], strict=True):
            if name:
                first, last = map(int, name.split(":")[1].split("-"))
                mean = means[row["cell_type"]][column[name]]
                assert detected[column[name]]
                expected = 0 if mean < 0.1 else mean * (end - start) / (last - first)
                assert count == pytest.approx(expected)
    settings = json.loads((tmp_path / "regions" / "regions.json").read_text())
    assert settings["cell_types"] == ["alpha", "beta"] and settings["span_bp"] == 1_000
    assert json.loads((tmp_path / "regions" / "report.json").read_text()) == json.loads(json.dumps(report))


def test_the_same_bytes_from_one_process_and_from_two(genome: Path, cells: Path, tmp_path: Path) -> None:
    contents = []
    for name, processes, seed in (("one", 1, 5), ("two", 2, 5), ("other", 1, 6)):
        options = {"padding": "random", "duplicates": "drop", "processes": processes, "seed": seed}
        build(genome, cells, tmp_path / name, **options)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert contents[0].keys() == contents[2].keys() and contents[0] != contents[2]
    assert [name for name in contents[0] if name.endswith("parquet")] == [
        "data/test-00000-of-00001.parquet",
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "data/validation-00000-of-00001.parquet",
    ]


def test_splits_on_one_contig_share_no_base(genome: Path, cells: Path, tmp_path: Path) -> None:
    splits = {"train": ["chr1:1-30,000"], "validation": ["chr1:31,001-45,000"], "test": [("chr1", 46_000, 60_000)]}
    build(genome, cells, tmp_path / "regions", **splits, other_contigs="drop")
    read = datasets.load_dataset(str(tmp_path / "regions"))
    bounds = {"train": (0, 30_000), "validation": (31_000, 45_000), "test": (46_000, 60_000)}
    for split, rows in read.items():
        for row in rows:
            assert bounds[split][0] <= min(row["span_start"], *row["starts"])
            assert max(row["span_end"], *row["ends"]) <= bounds[split][1]


def test_the_second_version_has_no_base_in_two_rows(genome: Path, cells: Path, tmp_path: Path) -> None:
    second = write_cells(tmp_path / "second.h5ad", names_of(peak_table(7)), count_matrix(len(peak_table(7)), 8))
    build(genome, [cells, second], tmp_path / "regions", duplicates="drop", padding="random")
    rows = rows_of(tmp_path / "regions")
    assert set(rows["sample"]) == {"pbmc", "second"}
    seen = {name: np.zeros(length, dtype=int) for name, length in CONTIGS.items()}
    for row in rows.itertuples():
        for start, end in zip(row.starts, row.ends, strict=True):
            seen[row.contig][start:end] += 1
    assert max(bases.max() for bases in seen.values()) == 1


def test_every_loss_is_in_the_report(genome: Path, tmp_path: Path) -> None:
    peaks = peak_table()
    names, counts = names_of(peaks), count_matrix(len(peaks)).tolil()
    counts[:, :3] = 0  # seen in no cell
    extra = ["chr7:100-200", "chr7:300-400", "chrUn_KI270742v1:5-90", "chr20:29990-30010"]
    counts = sp.hstack([counts.tocsr(), sp.csr_matrix(np.ones((N_CELLS, len(extra))))], format="csr")
    labels = ["alpha", "beta"] * 18 + ["gamma"] + [""] * 3
    path = write_cells(tmp_path / "cells.h5ad", names + extra, counts, labels)
    blacklist = tmp_path / "blacklist.bed"
    blacklist.write_text("1\t600\t1500\n")
    options = {"blacklist": blacklist, "other_contigs": "drop", "beyond_contig": "drop", "equal_counts": "drop"}
    reading = AccessibilityReading(minimum_cells=2)
    report = build(genome, path, tmp_path / "regions", reading=reading, **options)
    sample = report["samples"]["cells"]
    assert sample["input"]["peaks detected in fewer cells, left out"] == 3
    assert sample["input"]["cells without a label, left out"] == 3
    assert sample["input"]["cells of these types, left out"] == 1
    placed = sample["on the genome"]
    assert placed["on chromosomes in no split"] == {"chr7": 2} and placed["on scaffolds in no split"] == 1
    assert placed["across the end of the sequence at hand"] == 1
    is_black = (peaks["contig"] == "chr1") & (peaks["start"] < 1500) & (peaks["end"] > 600)
    assert placed["blacklisted"] == is_black[3:].sum() > 0
    assert placed["kept"] == len(peaks) - 3 - placed["blacklisted"]
    for split, number in report["rows"].items():
        spans = report["spans"][split]
        left_out = sum(count for reason, count in spans.items() if reason.startswith("left out"))
        assert spans["spans with two non-zero regions"] - left_out == number
        assert number == sum(report["rows by sample and cell type"][split]["cells"].values())
    counts_of_rows = np.stack(rows_of(tmp_path / "regions")["counts"])
    assert (counts_of_rows[:, 0] != counts_of_rows[:, 1]).all()
    for row in rows_of(tmp_path / "regions").itertuples():
        assert row.contig != "chr1" or ((row.ends <= 600) | (row.starts >= 1_500)).all()


def test_floor_and_share_are_options(genome: Path, cells: Path, tmp_path: Path) -> None:
    few = build(genome, cells, tmp_path / "few", floor=0.3)
    many = build(genome, cells, tmp_path / "many", floor=0.0)
    assert sum(few["rows"].values()) < sum(many["rows"].values())
    assert np.stack(rows_of(tmp_path / "many")["counts"])[:, :2].min() < 0.1
    none = build(genome, cells, tmp_path / "one", shift_factor=1)
    assert set(rows_of(tmp_path / "one")["tiling"]) == {0} and sum(none["rows"].values()) > 0


def lift_chain(tmp_path: Path) -> Path:
    """chr1 of another assembly: 100 bases more in front, and a hole from 20,000 to 21,000."""
    path = tmp_path / "other.chain"
    blocks = "20000\t1000\t1000\n39000\n"
    path.write_text(f"chain 1000 chr1 60100 + 100 60100 chr1 60000 + 0 60000 1\n{blocks}\n")
    return path


def test_lifted_peaks_keep_their_names(genome: Path, tmp_path: Path) -> None:
    peaks = peak_table().query("contig == 'chr1'").reset_index(drop=True)
    moved = peaks.assign(start=peaks["start"] + 100, end=peaks["end"] + 100)
    path = write_cells(tmp_path / "old.h5ad", names_of(moved), count_matrix(len(moved)))
    source = AccessibilitySource(path, chain=lift_chain(tmp_path))
    report = build(genome, [source], tmp_path / "regions", train=["chr1"], validation=None, test=None)
    lost = report["samples"]["old"]["on the genome"]["lift"]["lost"]
    in_hole = ((peaks["end"] > 20_000) & (peaks["start"] < 21_000)).sum()
    assert sum(lost.values()) == in_hole > 0
    for row in rows_of(tmp_path / "regions").itertuples():
        for name, start, end in zip(row.peaks, row.starts, row.ends, strict=True):
            if name:
                first, last = map(int, name.split(":")[1].split("-"))
                assert first - 100 <= start < end <= last - 100


BAD_INPUT: dict[str, tuple[dict, str]] = {
    "chromosome in no split": ({"train": ["chr1"], "validation": None}, "peaks on chromosomes in no split: chr2"),
    "split without rows": ({"floor": 50.0}, "no row is left in train"),
    "span shorter than regions": (
        {"span_bp": 60, "minimum_zero_bp": 20},
        "longer than a span of 60 bp.*give a longer span_bp",
    ),
    "no such contig": ({"test": ["chr9"]}, "no contig 'chr9'"),
    "two splits of one contig": ({"test": ["chr1"]}, "share bases"),
    "padding": ({"padding": "front"}, "padding is 'front'; expected one of end, random"),
    "duplicates": ({"duplicates": "some"}, "duplicates is 'some'; expected one of keep, drop"),
    "equal counts": ({"equal_counts": "no"}, "equal_counts is 'no'"),
    "long peaks": ({"long_peaks": "cut"}, "long_peaks is 'cut'"),
    "maximum n": ({"maximum_n": 2.0}, "maximum_n is 2.0"),
    "zero regions": ({"minimum_zero_bp": 2_000}, "minimum_zero_bp is 2000"),
    "seed": ({"seed": -1}, "seed is -1"),
}


@pytest.mark.parametrize(("options", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_settings(genome: Path, cells: Path, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(genome, cells, tmp_path / "regions", **options)
    assert not list(tmp_path.iterdir())


def test_no_source_and_one_name_twice(genome: Path, cells: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no source is given"):
        build(genome, [], tmp_path / "regions")
    with pytest.raises(ValueError, match="two sources are called 'pbmc'"):
        build(genome, [cells, AccessibilitySource(cells)], tmp_path / "regions")
    (tmp_path / "regions").mkdir()
    with pytest.raises(FileExistsError, match="pass overwrite"):
        build(genome, cells, tmp_path / "regions")


def bad_cells(tmp_path: Path, change: Callable[[pd.DataFrame, sp.lil_matrix], list[str] | None]) -> Path:
    peaks = peak_table()
    counts = count_matrix(len(peaks)).astype(float).tolil()
    labels = change(peaks, counts)
    return write_cells(tmp_path / "bad.h5ad", names_of(peaks), counts.tocsr(), labels)


def _negative(_: pd.DataFrame, counts: sp.lil_matrix) -> None:
    counts[3, 5] = -1


def _fractional(_: pd.DataFrame, counts: sp.lil_matrix) -> None:
    counts[3, 5] = 0.5


def _overlapping(peaks: pd.DataFrame, _: sp.lil_matrix) -> None:
    peaks.loc[5, "end"] = peaks.loc[6, "start"] + 10


def _one_type(_: pd.DataFrame, __: sp.lil_matrix) -> list[str]:
    return ["alpha"] * N_CELLS


def _beyond(peaks: pd.DataFrame, _: sp.lil_matrix) -> None:
    last = peaks.index[peaks["contig"] == "chr1"][-1]
    peaks.loc[last, ["start", "end"]] = 60_100, 60_300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_negative, "cell3.*chr1:"),
        (_fractional, "cell3.*chr1:"),
        (_overlapping, "overlap another, the first 'chr1:"),
        (_one_type, "1 type|one type|alpha"),
        (_beyond, "chr1:60100-60300.*ends beyond the contig, which has 60,000 bp"),
    ],
)
def test_bad_cells(genome: Path, tmp_path: Path, change: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(genome, bad_cells(tmp_path, change), tmp_path / "regions")


def test_overlapping_peaks_may_be_merged_or_dropped(genome: Path, tmp_path: Path) -> None:
    path = bad_cells(tmp_path, _overlapping)
    merged = build(genome, path, tmp_path / "merged", reading=AccessibilityReading(overlapping="merge"))["samples"][
        "bad"
    ]
    dropped = build(genome, path, tmp_path / "dropped", reading=AccessibilityReading(overlapping="drop"))["samples"][
        "bad"
    ]
    n_peaks = len(peak_table())
    assert merged["on the genome"]["kept"] == n_peaks - 1 and dropped["on the genome"]["kept"] == n_peaks - 2


def test_another_assembly_is_recognised(genome: Path, cells: Path, tmp_path: Path) -> None:
    blacklist = tmp_path / "blacklist.bed"
    blacklist.write_text("chr1\t3000\t20000\n")
    with pytest.raises(ValueError, match=r"are blacklisted \(\d+.\d%\); expected at most 3.0%.*one assembly"):
        build(genome, cells, tmp_path / "regions", blacklist=blacklist)
    text = genome.read_text().split("\n")
    text[1] = text[1][:9_000] + "N" * 2_000 + text[1][11_000:]
    with_n = tmp_path / "with_n.fa"
    with_n.write_text("\n".join(text))
    with pytest.raises(ValueError, match="peaks of sample pbmc are N for a half or more"):
        build(with_n, cells, tmp_path / "regions")
    report = build(with_n, cells, tmp_path / "regions", maximum_n_peaks=1.0)
    assert report["samples"]["pbmc"]["on the genome"]["of them N for a half or more"] > 0
    lifted = BedSource(blacklist)
    assert build(genome, cells, tmp_path / "kept", blacklist=lifted, maximum_blacklisted=1.0)["rows"]["train"] > 0


def test_without_splits_the_thesis_chromosomes(genome: Path, cells: Path, tmp_path: Path) -> None:
    report = build_regions(genome, [cells], tmp_path / "regions", span_bp=1_000)
    assert set(report["rows"]) == {"train", "validation", "test"}
    places = json.loads((tmp_path / "regions" / "regions.json").read_text())["places"]
    assert places["train"] == ["chr1:1-60,000", "chr2:1-30,000"] and places["test"] == ["chr20:1-30,000"]


@pytest.mark.real_data
def test_real_cells_of_two_assemblies(data_folder: Path, tmp_path: Path) -> None:
    chain = data_folder / "annotation" / "hg38ToHg19.over.chain.gz"
    heart = data_folder / "atac" / "heart_AVN_HCAHeartST10773171"
    sources = [
        AccessibilitySource(data_folder / "multiome" / "mosim_pbmc_multiome_atac.h5ad", chain=chain, name="pbmc"),
        AccessibilitySource(
            f"{heart}.fragments.hg38.tsv.gz",
            peaks=data_folder / "annotation" / "ensembl100_regulatory_build.hg38.bed.gz",
            labels=f"{heart}.metadata.csv",
            label_column="cell_type",
            barcode_column="barcode",
            chain=chain,
            name="heart",
        ),
        AccessibilitySource(data_folder / "atac" / "chromVAR_GM12878_H1_50x29269.hg19.h5ad", name="lines"),
    ]
    report = build_regions(
        data_folder / "genome" / "chr22_20000000-21000000.GRCh37.fa.gz",
        sources,
        tmp_path / "regions",
        train=["22:20,000,001-20,700,000"],
        test=["22:20,710,001-21,000,000"],
        offsets={"22": 20_000_000},
        blacklist=data_folder / "annotation" / "hg19-blacklist.v2.bed",
        other_contigs="drop",
    )
    assert report["rows"]["train"] > 100 and report["rows"]["test"] > 20
    for name in ("pbmc", "heart"):
        placed = report["samples"][name]["on the genome"]
        assert 0 < placed["lift"]["share lost"] < 0.01 and placed["of them N for a half or more"] == 0
    assert "lift" not in report["samples"]["lines"]["on the genome"]
