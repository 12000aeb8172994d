"""Regions: what intervals of one or several files cover, and in how many of the files each region is present.

Coordinates are 0-based, half-open. Intervals belong to one region where they share at least one base, directly or
through others; those that only touch do not.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

_COLUMNS = ["contig", "start", "end"]


def merge_intervals(intervals: pd.DataFrame) -> pd.DataFrame:
    """The regions that intervals cover.

    Args:
        intervals: columns contig, start, end (int64).

    Returns:
        contig, start, end, sorted; no two regions share a base.
    """
    return cluster_intervals(intervals)[1]


def regions_across(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Regions that the intervals of all tables cover together.

    Returns:
        contig, start, end, n_files: the number of tables with an interval in the region.
    """
    numbered = [table[_COLUMNS].assign(file=number) for number, table in enumerate(tables)]
    joined = pd.concat(numbered, ignore_index=True)
    region, regions = cluster_intervals(joined)
    present = pd.DataFrame({"region": region, "file": joined["file"]}).drop_duplicates()
    counts = np.bincount(present["region"], minlength=len(regions))
    return regions.assign(n_files=counts.astype(np.int64))


def cluster_intervals(intervals: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Which region each interval belongs to.

    Args:
        intervals: columns contig, start, end (int64).

    Returns:
        int64 `(intervals,)`: the row of each interval's region; and the regions, as `merge_intervals` gives them.
    """
    if intervals.empty:
        return np.zeros(0, dtype=np.int64), pd.DataFrame({"contig": [], "start": [], "end": []}).astype(
            {"contig": object, "start": "int64", "end": "int64"}
        )
    codes, contigs = pd.factorize(intervals["contig"], sort=True)
    starts, ends = (intervals[name].to_numpy(dtype=np.int64) for name in ("start", "end"))
    # Contigs are laid behind one another, so that one running maximum serves them all.
    shift = codes.astype(np.int64) * (int(ends.max()) + 1)
    order = np.lexsort((ends, starts, codes))
    starts, ends = (starts + shift)[order], (ends + shift)[order]
    furthest = np.maximum.accumulate(ends)
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = starts[1:] >= furthest[:-1]
    first = np.flatnonzero(is_first)
    last = np.append(first[1:], len(order)) - 1
    region = np.empty(len(order), dtype=np.int64)
    region[order] = np.cumsum(is_first) - 1
    back = shift[order][first]
    regions = pd.DataFrame(
        {"contig": contigs.to_numpy()[codes[order][first]], "start": starts[first] - back, "end": furthest[last] - back}
    )
    return region, regions
