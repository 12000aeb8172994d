"""Peaks in order, and none over another: what counting and cutting by spans rest on.

Coordinates are 0-based, half-open. Peaks overlap where they share at least one base; those that only touch do not, and
a peak that is there twice overlaps itself.
"""

import re
from typing import Literal

import numpy as np
import pandas as pd

from .interval_regions import cluster_intervals
from .peak_names import PEAK_COLUMNS

Overlapping = Literal["error", "merge", "drop"]
OVERLAPPING = ("error", "merge", "drop")
NAMES_SHOWN = 3  # of the peaks merged into one, in its name


def make_disjoint(
    peaks: pd.DataFrame, means: np.ndarray, *, overlapping: Overlapping = "error", source: str = "the peaks"
) -> tuple[pd.DataFrame, np.ndarray, dict]:
    """Sort peaks by contig (chr2 before chr10) and start, and see to those that overlap.

    Args:
        peaks: contig, start, end (int64), name; in any order.
        means: `(types, peaks)` values that go with them; `(0, peaks)` where there are none yet.
        overlapping: "error"; "merge" makes one peak of those that overlap, directly or through others, with the sum of
            their means and the names of the first three, joined by `;`; "drop" leaves out every one that overlaps
            another.
        source: for messages.

    Returns:
        Peaks `contig, start, end, name` and their means, float64 `(types, peaks left)`; and a report: peaks that stood
        before their place, peaks that overlap, and what became of them.

    Raises:
        ValueError: where peaks overlap and `overlapping` is "error", naming the first two.
    """
    if overlapping not in OVERLAPPING:
        raise ValueError(f"overlapping is {overlapping!r}; expected one of {', '.join(OVERLAPPING)}")
    if means.shape[1:] != (len(peaks),):
        raise ValueError(f"means has the shape {means.shape}; expected (types, {len(peaks)}), a column a peak")
    order, n_unsorted = _order(peaks)
    peaks, means = peaks.iloc[order][PEAK_COLUMNS].reset_index(drop=True), means[:, order].astype(np.float64)
    region = pd.factorize(cluster_intervals(peaks)[0])[0]  # numbered in the peaks' own order
    sizes = np.bincount(region)
    is_overlapping = sizes[region] > 1
    report = {"peaks out of order, sorted": n_unsorted, "peaks that overlap": int(is_overlapping.sum())}
    if not is_overlapping.any():
        return peaks, means, report
    if overlapping == "error":
        first = peaks.iloc[int(np.flatnonzero(is_overlapping)[0]) :][:2]
        shown = " and ".join(
            f"{row.name!r} ({row.contig}:{row.start:,}-{row.end:,})" for row in first.itertuples(index=False)
        )
        raise ValueError(
            f"{source}: {is_overlapping.sum():,} of {len(peaks):,} peaks overlap another, the first {shown}; expected "
            "peaks that share no base. Merge them (overlapping='merge') or leave them out (overlapping='drop')"
        )
    if overlapping == "drop":
        report["peaks that overlap, left out"] = report["peaks that overlap"]
        return peaks[~is_overlapping].reset_index(drop=True), means[:, ~is_overlapping], report
    merged, added = _merge(peaks, means, sizes)
    report["peaks made of several"] = int((sizes > 1).sum())
    return merged, added, report


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts contigs as people do: chr2 before chr10, numbers before X and Y."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _order(peaks: pd.DataFrame) -> tuple[np.ndarray, int]:
    """int64 `(peaks,)`: the rows in order; and how many begin before the one in front of them on their contig."""
    codes, contigs = pd.factorize(peaks["contig"])
    rank = np.empty(len(contigs), dtype=np.int64)
    rank[sorted(range(len(contigs)), key=lambda number: natural_key(str(contigs[number])))] = np.arange(len(contigs))
    ranks, starts, ends = rank[codes], peaks["start"].to_numpy(), peaks["end"].to_numpy()
    by_contig = np.argsort(ranks, kind="stable")
    is_backward = (np.diff(starts[by_contig]) < 0) & (np.diff(ranks[by_contig]) == 0)
    return np.lexsort((ends, starts, ranks)), int(is_backward.sum())


def _merge(peaks: pd.DataFrame, means: np.ndarray, sizes: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Of sorted peaks, one for each region of `sizes (regions,)` peaks in a row."""
    first = np.append(0, np.cumsum(sizes)[:-1])
    names = peaks["name"].astype(str).to_numpy(object)
    joined = names[first]
    for number in range(1, NAMES_SHOWN):
        has_more = sizes > number
        joined[has_more] = joined[has_more] + ";" + names[first[has_more] + number]
    has_more = sizes > NAMES_SHOWN
    joined[has_more] = joined[has_more] + ";..."
    merged = pd.DataFrame(
        {
            "contig": peaks["contig"].to_numpy()[first],
            "start": peaks["start"].to_numpy()[first],
            "end": np.maximum.reduceat(peaks["end"].to_numpy(), first),
            "name": joined,
        }
    )
    return merged, np.add.reduceat(means, first, axis=1)
