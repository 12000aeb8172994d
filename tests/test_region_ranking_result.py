"""Ranks, ties, regions without a score, and BED."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.pipelines.region_ranking_input import NamedRegion, ScoredParts
from omics_transformers.pipelines.region_ranking_result import RegionRanking, make_ranking
from omics_transformers.pipelines.segmentation_input import Region


def ranking(scores: list[float], contigs: str = "chr1") -> RegionRanking:
    """Regions of 100 bp, each 1,000 bp in front of the one before."""
    names = contigs.split() * len(scores)
    starts = 1_000 * np.arange(len(scores), 0, -1)
    regions = [
        NamedRegion(Region(names[at], start, start + 100), f"peak {at}" if at % 2 else "")
        for at, start in enumerate(starts.tolist())
    ]
    unknown = np.where(np.isnan(scores), 100, 3)
    parts = ScoredParts(starts, starts + 100, unknown, np.arange(len(scores)))
    return make_ranking(regions, parts, np.float32(scores), {"model": "m"})


@given(st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(float("nan"))), min_size=1, max_size=20))
def test_ranks(scores: list[float]) -> None:
    table = ranking(scores).regions
    np.testing.assert_array_equal(table["score"].sort_index(), np.float32(scores))
    known = table.dropna(subset="score")
    assert known["rank"].tolist() == [1 + sum(other > score for other in scores) for score in known["score"]]
    assert (known["score"].diff().dropna() <= 0).all()
    for _, tied in known.groupby("score"):
        assert tied.index.is_monotonic_increasing
    assert table["rank"].iloc[len(known) :].isna().all()
    assert str(table["rank"].dtype) == "Int64" and table["score"].dtype == np.float32


def test_columns_and_summary() -> None:
    made = ranking([0.5, float("nan"), -2.0, 0.5])
    columns = ["contig", "start", "end", "name", "score", "rank", "scored_start", "scored_end", "unknown_bases"]
    assert list(made.regions.columns) == columns
    assert made.regions.index.tolist() == [0, 3, 2, 1] and made.regions["rank"].tolist()[:3] == [1, 1, 3]
    assert made.summary == {
        "model": "m", "regions": 4, "scored": 3, "nothing_but_n": 1, "shortened": 0, "unknown_bases": 109
    }  # fmt: skip
    np.testing.assert_array_equal(made.scores, np.float32([0.5, np.nan, -2.0, 0.5]))


def test_shortened_regions_are_counted() -> None:
    regions = [NamedRegion(Region("chr1", 0, 500), ""), NamedRegion(Region("chr1", 0, 100), "")]
    parts = ScoredParts(np.array([190, 0]), np.array([310, 100]), np.array([0, 0]), np.arange(2))
    made = make_ranking(regions, parts, np.float32([1, 2]), {})
    assert made.summary["shortened"] == 1 and made.regions["scored_end"].tolist() == [100, 310]


def test_bed_is_sorted_and_scores_are_shares(tmp_path: Path) -> None:
    ranking([0.5, 1.5, -1.0, 0.5, float("nan")], "chr2 chr1").to_bed(tmp_path / "regions.bed")
    assert (tmp_path / "regions.bed").read_text().splitlines() == [
        "chr2\t1000\t1100\tchr2:1001-1100\t0\t.",
        "chr2\t3000\t3100\tchr2:3001-3100\t0\t.",
        "chr2\t5000\t5100\tchr2:5001-5100\t667\t.",
        "chr1\t2000\t2100\tpeak_3\t667\t.",
        "chr1\t4000\t4100\tpeak_1\t1000\t.",
    ]
    ranking([3.0]).to_bed(tmp_path / "one.bed")
    assert (tmp_path / "one.bed").read_text() == "chr1\t1000\t1100\tchr1:1001-1100\t1000\t.\n"
    assert {path.name for path in tmp_path.iterdir()} == {"regions.bed", "one.bed"}


@pytest.mark.parametrize("scores", [[float("nan")], [1.0], [1.0, 1.0, 2.0]])
def test_figure(scores: list[float]) -> None:
    assert ranking(scores).figure().startswith(b"\x89PNG")
