"""Figures of region ranking: how scores are distributed, and a track of scores along a locus."""

from collections.abc import Sequence

import numpy as np

from .png_figures import BLUE, GREY, ORANGE, STYLE, label_positions, png_bytes, stacked_panels
from .segmentation_tracks import run_starts

LARGEST_TRACK_BP = 2_000_000
_BINS = 40


def draw_scores(scores: np.ndarray) -> bytes:
    """PNG bytes: a histogram of scores, (regions,) with NaN where there is none."""
    import matplotlib

    known = scores[~np.isnan(scores)]
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = stacked_panels([2.6], width=5.0)
        axes.hist(known, bins=_BINS, color=BLUE)
        if len(known):
            axes.axvline(float(np.median(known)), color=ORANGE, linewidth=1.0, label="median")
            axes.legend(frameon=False)
        without = f", {len(scores) - len(known):,} without a score" if len(known) < len(scores) else ""
        axes.set_title(f"{len(known):,} regions{without}")
        axes.set_xlabel("score (higher: more accessible)")
        axes.set_ylabel("regions")
        return png_bytes(figure)


def draw_track(values: np.ndarray, *, contig: str, start: int, intervals: Sequence[tuple[int, int]] = ()) -> bytes:
    """PNG bytes: scores along a locus, and intervals beneath, such as known peaks.

    Args:
        values: (bases,) float32, NaN where there is none.
        contig, start: where the first base lies, 0-based.
        intervals: (start, end), 0-based, half-open; those that reach into the locus are drawn.

    Raises:
        ValueError: for more than `LARGEST_TRACK_BP`.
    """
    import matplotlib

    if len(values) > LARGEST_TRACK_BP:
        raise ValueError(
            f"{len(values):,} bp are too many for a figure: draw at most {LARGEST_TRACK_BP:,}, or open the bigWig in a "
            "genome browser"
        )
    end = start + len(values)
    shown = [(first, last - first) for first, last in intervals if first < end and last > start]
    with matplotlib.rc_context(STYLE):
        figure, panels = stacked_panels([1.8, 0.3] if shown else [1.8])
        begins = run_starts(values)
        panels[0].stairs(
            values[begins], np.append(begins, len(values)) + start, color=BLUE, linewidth=1.0, baseline=None
        )
        panels[0].set_ylabel("score")
        panels[0].set_title(f"{contig}:{start + 1:,}-{end:,}")
        if shown:
            panels[1].broken_barh(shown, (0, 1), color=GREY)
            panels[1].set_yticks([])
            panels[1].set_ylabel("regions", rotation=0, ha="right", va="center")
        panels[-1].set_xlim(start, end)
        label_positions(panels[-1], contig)
        return png_bytes(figure)
