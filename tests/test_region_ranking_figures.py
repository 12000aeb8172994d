"""Histograms of scores and tracks along a locus: PNG, the same bytes again, and any values."""

import numpy as np
import pytest

from omics_transformers.pipelines.region_ranking_figures import LARGEST_TRACK_BP, draw_scores, draw_track


@pytest.mark.parametrize("scores", [[], [np.nan], [1.0], [-1.0, 0.5, np.nan, 0.5]])
def test_scores(scores: list[float]) -> None:
    drawn = draw_scores(np.float32(scores))
    assert drawn.startswith(b"\x89PNG") and drawn == draw_scores(np.float32(scores))


@pytest.mark.parametrize("intervals", [[], [(0, 5)], [(1_010, 1_020), (1_050, 3_000)]])
def test_track(intervals: list[tuple[int, int]]) -> None:
    values = np.repeat(np.float32([np.nan, -2.0, 1.0, 1.0, np.nan, 3.0]), 25)
    drawn = draw_track(values, contig="chr1", start=1_000, intervals=intervals)
    assert drawn.startswith(b"\x89PNG") and drawn == draw_track(values, contig="chr1", start=1_000, intervals=intervals)


def test_intervals_and_values_change_the_figure() -> None:
    values = np.float32([1.0, 2.0, 3.0])
    figures = {
        draw_track(values, contig="chr1", start=0),
        draw_track(values, contig="chr1", start=0, intervals=[(1, 2)]),
        draw_track(-values, contig="chr1", start=0),
    }
    assert len(figures) == 3
    assert draw_track(values, contig="chr1", start=0, intervals=[(3, 9)]) in figures  # beyond the locus


def test_too_much_for_a_figure() -> None:
    with pytest.raises(ValueError, match="2,000,001 bp are too many for a figure: draw at most 2,000,000"):
        draw_track(np.zeros(LARGEST_TRACK_BP + 1, dtype=np.float32), contig="chr1", start=0)
