"""A result's table, bigWigs, BED and figure, from probabilities that are known."""

from pathlib import Path

import numpy as np
import pytest

from omics_transformers.pipelines.segmentation_result import SegmentationResult
from omics_transformers.pipelines.segmentation_tracks import read_bigwig, rounded


@pytest.fixture
def result() -> SegmentationResult:
    values = np.full((40, 2), 0.1234, dtype=np.float32)
    values[5:15, 0] = 0.9
    values[17:20, 0] = 0.7
    values[10:12] = np.nan
    values[30:, 1] = 0.65
    return SegmentationResult(values, ("exon", "intron"), "chr7", 1_000, 2_000, {"exon": 0.5, "intron": 0.6})


def test_table_and_its_options(result: SegmentationResult) -> None:
    columns = ["start", "end", "element"]
    assert result.table()[columns].to_numpy().tolist() == [
        [1005, 1010, "exon"],
        [1012, 1015, "exon"],
        [1017, 1020, "exon"],
        [1030, 1040, "intron"],
    ]
    merged = result.table(merge_gap=2)
    assert merged[columns].to_numpy().tolist() == [[1005, 1020, "exon"], [1030, 1040, "intron"]]
    known = np.delete(result.probabilities[5:20, 0], [5, 6])
    assert merged["mean_probability"][0] == pytest.approx(known.mean(), abs=1e-6)
    assert result.table(thresholds={"exon": 0.8}, minimum_length=4)[columns].to_numpy().tolist() == [
        [1005, 1010, "exon"],
        [1030, 1040, "intron"],
    ]
    assert result.end == 1_040
    with pytest.raises(ValueError, match="minimum_length is 0"):
        result.table(minimum_length=0)


@pytest.mark.parametrize("decimals", [3, None])
def test_bigwigs_equal_the_array(result: SegmentationResult, tmp_path: Path, decimals: int | None) -> None:
    paths = result.to_bigwig(tmp_path / "new" / "tracks", decimals=decimals)
    assert [path.name for path in paths.values()] == ["exon.bw", "intron.bw"]
    for number, path in enumerate(paths.values()):
        found = read_bigwig(path, "chr7", 1_000, 1_040)
        np.testing.assert_array_equal(found, rounded(result.probabilities[:, number], decimals))
        assert np.isnan(read_bigwig(path, "chr7", 0, 1_000)).all()  # nothing outside
    with pytest.raises(ValueError, match="decimals is 9"):
        result.to_bigwig(tmp_path, decimals=9)


def test_bed_is_the_table(result: SegmentationResult, tmp_path: Path) -> None:
    lines = result.to_bed(tmp_path / "calls.bed", merge_gap=2).read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    assert [row[:6] for row in rows] == [
        ["chr7", "1005", "1020", "exon", "734", "."],
        ["chr7", "1030", "1040", "intron", "650", "."],
    ]
    assert all(row[6:8] == row[1:3] and row[8].count(",") == 2 for row in rows)
    assert [path.name for path in tmp_path.iterdir()] == ["calls.bed"]


def test_plot(result: SegmentationResult, tmp_path: Path) -> None:
    assert result.plot(tmp_path / "locus.svg", merge_gap=2, title="A locus").exists()
    assert "A locus" in (tmp_path / "locus.svg").read_text()
    with pytest.raises(ValueError, match="the ending of a figure's name"):
        result.plot(tmp_path / "locus.txt")
