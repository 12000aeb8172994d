"""Leaves out spans that hold a base of a region already seen.

Source: "Region Ranking on scATAC", section 3.3.4 ("no duplicating sequences"). Several cell types and shifted tilings
show one piece of DNA many times. Here a region counts as seen as soon as one of its bases is, not only where the whole
of it is the same: regions that two tilings cut from one peak are nearly equal.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from .region_spans import Integers


def first_seen(starts: Integers, ends: Integers, order: Integers) -> npt.NDArray[np.bool_]:
    """Which rows to keep so that no base is in regions of two of them.

    Args:
        starts, ends: (rows, regions) int64 of one contig, 0-based, half-open.
        order: (rows,) numbers of the rows: of two rows that share a base the one further in front is kept.

    Returns:
        (rows,) bool.
    """
    is_kept = np.zeros(len(starts), dtype=np.bool_)
    if len(starts):
        first, last = int(starts.min()), int(ends.max())
        seen = np.zeros((last - first + 7) // 8, dtype=np.uint8)  # a bit a base
        _keep_unseen(starts - first, ends - first, order, seen, is_kept)
    return is_kept


@njit(cache=True, nogil=True)
def _keep_unseen(starts, ends, order, seen, is_kept):  # type: ignore[no-untyped-def]
    for row in order:
        if _is_any_seen(starts[row], ends[row], seen):
            continue
        is_kept[row] = True
        for region in range(starts.shape[1]):
            for base in range(starts[row, region], ends[row, region]):
                seen[base >> 3] |= np.uint8(1 << (base & 7))


@njit(cache=True, nogil=True)
def _is_any_seen(starts, ends, seen):  # type: ignore[no-untyped-def]
    for region in range(len(starts)):
        for base in range(starts[region], ends[region]):
            if seen[base >> 3] & np.uint8(1 << (base & 7)):
                return True
    return False
