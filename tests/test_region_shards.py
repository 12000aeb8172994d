"""Rows of one region of the genome: everything in them can be traced back."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omics_transformers.data_scripts.genome_files import GenomeFiles
from omics_transformers.data_scripts.region_rows import REGION_SCHEMA
from omics_transformers.data_scripts.region_shards import ContigSample, RegionJob, ShardSettings, write_region
from omics_transformers.data_scripts.region_triplets import TripletRules
from omics_transformers.data_scripts.segment_windows import SplitRegion

CONTIG_BP = 20_000
REGION = SplitRegion("train", "chr1", 1_100, 18_950)
BLOCKED = pd.DataFrame({"contig": "chr1", "start": [5_000, 9_000], "end": [5_700, 9_100]})
N_RUNS = ((3_000, 3_400), (7_000, 7_040), (12_345, 12_346))


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenomeFiles]:
    letters = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", dtype=np.uint8), CONTIG_BP)
    for start, end in N_RUNS:
        letters[start:end] = ord("N")
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">chr1\n{letters.tobytes().decode()}\n")
    with GenomeFiles(path) as opened:
        yield opened


def sample(name: str, seed: int, kinds: int) -> ContigSample:
    """Peaks of 20 to 190 bp that touch neither each other nor what is blocked; a third of the means is zero."""
    random = np.random.default_rng(seed)
    start = np.arange(0, CONTIG_BP, 200) + random.integers(0, 10, CONTIG_BP // 200)
    end = start + random.integers(20, 190, len(start))
    is_kept = random.random(len(start)) < 0.8
    for first, last in zip(BLOCKED["start"], BLOCKED["end"], strict=True):
        is_kept &= (end <= first) | (start >= last)
    start, end = start[is_kept], end[is_kept]
    means = random.integers(0, 3, (kinds, len(start))) * random.uniform(0.1, 2, (kinds, len(start)))
    names = pa.array([f"{name}:{one}-{other}" for one, other in zip(start, end, strict=True)])
    rules = TripletRules(100.0, 40.0, minimum_zero_bp=30)
    return ContigSample(name, [f"type{kind}" for kind in range(kinds)], start, end, names, means, rules)


SAMPLES = [sample("one", 1, 2), sample("two", 2, 1)]
SETTINGS = ShardSettings(span_bp=700, shift_factor=5, seed=3)


def write(folder: Path, genome: GenomeFiles, settings: ShardSettings = SETTINGS) -> tuple[pd.DataFrame, RegionJob]:
    job = RegionJob(0, REGION, BLOCKED, SAMPLES, settings, folder / "rows.parquet")
    account = write_region(job, genome)
    table = pq.read_table(job.path)
    assert table.schema.equals(REGION_SCHEMA)
    assert account.n_rows == len(table) > 20
    rows = table.to_pandas()
    assert account.rows == rows.groupby(["sample", "cell_type"]).size().to_dict()
    assert account.region_bp == sum((row.ends - row.starts).sum() for row in rows.itertuples())
    return rows, job


def test_rows_can_be_traced_back(tmp_path: Path, genome: GenomeFiles) -> None:
    rows, _ = write(tmp_path, genome)
    by_name = {one.name: one for one in SAMPLES}
    for row in rows.itertuples():
        own = by_name[row.sample]
        means = own.means[own.cell_types.index(row.cell_type)]
        assert REGION.start <= row.span_start and row.span_end <= REGION.end
        assert (row.span_start - 140 * row.tiling) % 700 == 0 and row.span_end - row.span_start == 700
        names = own.peak_names.to_pylist()
        for column in range(3):
            start, end = int(row.starts[column]), int(row.ends[column])
            assert row.span_start <= start < end <= row.span_end
            assert row.sequences[column].encode() == genome.fetch("chr1", start, end)
            if row.peaks[column]:
                peak = names.index(row.peaks[column])
                first, last = own.start[peak], own.end[peak]
                assert (start, end) == (max(first, row.span_start), min(last, row.span_end))
                assert row.counts[column] == pytest.approx(means[peak] * (end - start) / (last - first), rel=1e-12)
            else:
                assert column == 2 and row.counts[column] == 0
                for starts, ends in ((own.start, own.end), (BLOCKED["start"], BLOCKED["end"])):
                    assert ((ends <= start) | (starts >= end)).all()
        assert row.counts[0] > 0 and row.counts[1] > 0 and row.counts[2] == 0
        assert not any("N" in sequence for sequence in row.sequences)
        assert (row.padding_share == 0).all()
    assert set(rows["tiling"]) == set(range(5)) and "" in {peak for peaks in rows["peaks"] for peak in peaks}
    order = rows[["span_start", "tiling", "sample", "cell_type"]].apply(tuple, axis=1).tolist()
    assert order == sorted(set(order)), "sorted, and a row a span, tiling, sample and cell type"


def test_regions_with_n_are_left_out_and_counted_unless_they_may_be(tmp_path: Path, genome: GenomeFiles) -> None:
    strict, job = write(tmp_path, genome)
    with_n, _ = write(tmp_path, genome, replace(SETTINGS, maximum_n=1.0))
    account = write_region(job, genome)
    has_n = with_n["sequences"].map(lambda sequences: any("N" in sequence for sequence in sequences))
    assert account.spans["left out: N in a region"] == has_n.sum() == len(with_n) - len(strict) > 0
    pd.testing.assert_frame_equal(with_n[~has_n].reset_index(drop=True), strict)


def test_the_second_version_shows_no_base_twice_and_spreads_padding(tmp_path: Path, genome: GenomeFiles) -> None:
    rows, job = write(tmp_path, genome, replace(SETTINGS, duplicates="drop", padding="random"))
    seen = np.zeros(CONTIG_BP, dtype=int)
    for row in rows.itertuples():
        for start, end in zip(row.starts, row.ends, strict=True):
            seen[start:end] += 1
    assert seen.max() == 1
    shares = np.concatenate(rows["padding_share"].to_list())
    assert 0 <= shares.min() < 0.2 < 0.8 < shares.max() < 1
    every, _ = write(tmp_path, genome)
    left_out = write_region(job, genome).spans["left out: a region was seen already"]
    assert len(every) - len(rows) == left_out
    # What was left out would show a base again, so nothing was left out for nothing.
    keys = ["span_start", "tiling", "sample", "cell_type"]
    dropped = every.merge(rows[keys], on=keys, how="left", indicator=True).query("_merge == 'left_only'")
    for row in dropped.itertuples():
        assert any(seen[start:end].any() for start, end in zip(row.starts, row.ends, strict=True))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, genome: GenomeFiles) -> None:
    settings = replace(SETTINGS, duplicates="drop", padding="random")
    contents = []
    for number, seed in enumerate((3, 3, 4)):
        (tmp_path / str(number)).mkdir()
        _, job = write(tmp_path / str(number), genome, replace(settings, seed=seed))
        contents.append(job.path.read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_a_contig_without_peaks_gives_no_rows(tmp_path: Path, genome: GenomeFiles) -> None:
    empty = replace(
        SAMPLES[0], start=np.zeros(0, np.int64), end=np.zeros(0, np.int64), peak_names=pa.array([], pa.string())
    )
    empty = replace(empty, means=np.zeros((2, 0)))
    job = RegionJob(0, REGION, BLOCKED, [empty], SETTINGS, tmp_path / "rows.parquet")
    assert write_region(job, genome).n_rows == 0 and pq.read_metadata(job.path).num_rows == 0
