"""Of each span two regions with a non-zero count and one without: what region ranking compares.

Source: "Region Ranking on scATAC", section 3.2.4. Two non-zero regions and one zero region, drawn where there are more.
Where a span has no zero region, one is placed in the longest stretch that nothing covers, with a length from the normal
distribution of region lengths, held between `minimum_zero_bp` and the stretch's length. Array work throughout.
Coordinates are 0-based, half-open.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .region_spans import Gaps, Integers, Pieces, Tiling, is_first_of_run, longest_gaps, place_in_run

NO_PEAK = -1  # interval of a zero region that is no peak


@dataclass(frozen=True)
class TripletRules:
    """How the regions of a span are chosen.

    Attributes:
        mean_bp, deviation_bp: of the lengths of all regions, by which placed zero regions are as long as others.
        minimum_zero_bp: shortest placed zero region; spans without room for it are left out.
        minimum_region_bp: shorter pieces of peaks are not chosen, and do not count as non-zero regions.
        equal_counts: `keep` spans whose two non-zero regions have one count, or `drop` them: they have no order.
    """

    mean_bp: float
    deviation_bp: float
    minimum_zero_bp: int = 100
    minimum_region_bp: int = 1
    equal_counts: str = "keep"


class Triplets(NamedTuple):
    """Chosen regions; R rows, ascending by span. The third region is the zero region.

    Attributes:
        span: (R,) number of the span.
        interval: (R, 3) number of the peak, NO_PEAK for placed zero regions.
        start, end: (R, 3) of the regions.
        counts: (R, 3) float64, 0 for the third.
    """

    span: Integers
    interval: Integers
    start: Integers
    end: Integers
    counts: npt.NDArray[np.float64]

    def take(self, rows: npt.NDArray[Any]) -> "Triplets":
        """Those rows, by number or by mask."""
        columns: list[Any] = [column[rows] for column in self]
        return Triplets(*columns)


@dataclass(frozen=True)
class CutContig:
    """What of one contig does not depend on the cell type.

    Attributes:
        pieces: of the peaks, in whole spans only.
        occupied: pieces of all that no zero region may be placed on: peaks, blacklist, runs of N.
        tiling: that both are of.
    """

    pieces: Pieces
    occupied: Pieces
    tiling: Tiling


def choose_triplets(
    contig: CutContig,
    counts: npt.NDArray[np.float64],
    rules: TripletRules,
    random: np.random.Generator,
    account: Counter[str],
) -> Triplets:
    """Choose three regions of each span that has them.

    Args:
        contig: pieces and what is covered.
        counts: (pieces,) float64 of one cell type, already shared by length.
        rules: see there.
        random: of the draws.
        account: gains how many spans were looked at, left out and why, and how the zero regions came about.
    """
    pieces = contig.pieces
    is_long = pieces.end - pieces.start >= rules.minimum_region_bp
    key = random.random(len(pieces))
    first, second = _first_two(pieces.span, key, (counts > 0) & is_long)
    spans = pieces.span[first]
    zero = _drawn_zero(pieces.span, key, (counts == 0) & is_long, spans)
    account["spans with a region"] += len(np.unique(pieces.span))
    account["spans with two non-zero regions"] += len(spans)
    start, end = pieces.start[zero], pieces.end[zero]  # of a wrong piece where there is none, replaced below
    interval = np.where(zero >= 0, pieces.interval[zero], NO_PEAK)
    lacking = np.flatnonzero(zero < 0)
    placed, has_room = _place_zero(contig, spans[lacking], rules, random)
    start[lacking[has_room]], end[lacking[has_room]] = placed
    is_kept = np.ones(len(spans), dtype=np.bool_)
    is_kept[lacking[~has_room]] = False
    account["left out: no room for a zero region"] += int((~has_room).sum())
    if rules.equal_counts == "drop":
        is_equal = is_kept & (counts[first] == counts[second])
        account["left out: equal counts"] += int(is_equal.sum())
        is_kept &= ~is_equal
    account["zero regions that are peaks"] += int((is_kept & (interval != NO_PEAK)).sum())
    account["zero regions placed where no peak is"] += int((is_kept & (interval == NO_PEAK)).sum())
    chosen = Triplets(
        spans,
        np.stack([pieces.interval[first], pieces.interval[second], interval], axis=1),
        np.stack([pieces.start[first], pieces.start[second], start], axis=1),
        np.stack([pieces.end[first], pieces.end[second], end], axis=1),
        np.stack([counts[first], counts[second], np.zeros(len(spans))], axis=1),
    )
    return chosen.take(is_kept)


def _first_two(
    span: Integers, key: npt.NDArray[np.float64], is_candidate: npt.NDArray[np.bool_]
) -> tuple[Integers, Integers]:
    """Of each span with two candidates or more, the two with the smallest keys: numbers of the pieces."""
    candidates = np.flatnonzero(is_candidate)
    order = candidates[np.lexsort((key[candidates], span[candidates]))]
    seconds = np.flatnonzero(place_in_run(span[order]) == 1)
    return order[seconds - 1], order[seconds]


def _drawn_zero(
    span: Integers, key: npt.NDArray[np.float64], is_candidate: npt.NDArray[np.bool_], wanted: Integers
) -> Integers:
    """(wanted spans,) the candidate with the smallest key, -1 where a span has none."""
    candidates = np.flatnonzero(is_candidate)
    order = candidates[np.lexsort((key[candidates], span[candidates]))]
    firsts = order[is_first_of_run(span[order])]
    if not len(firsts):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(span[firsts], wanted), len(firsts) - 1)
    return np.where(span[firsts][place] == wanted, firsts[place], -1)


def _place_zero(
    contig: CutContig, spans: Integers, rules: TripletRules, random: np.random.Generator
) -> tuple[tuple[Integers, Integers], npt.NDArray[np.bool_]]:
    """Starts and ends of zero regions in the spans that have room for one, and (spans,) which have."""
    gaps = longest_gaps(contig.occupied, spans, contig.tiling)
    room = gaps.end - gaps.start
    is_wide = room >= rules.minimum_zero_bp
    gaps = Gaps(*(column[is_wide] for column in gaps))
    room = room[is_wide]
    drawn = random.normal(rules.mean_bp, rules.deviation_bp, len(room))
    length = np.clip(drawn, rules.minimum_zero_bp, room).astype(np.int64)
    start = gaps.start + random.integers(0, room - length + 1)
    return (start, start + length), np.isin(spans, gaps.span)
