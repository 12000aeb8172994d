"""Regions of a split, windows laid over them, and labels painted base by base and packed into bits.

Coordinates are 0-based, half-open. Painting is by differences of interval ends over arrays; memory is that of the
stretch painted, whatever the contig's length.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import pandas as pd

from .genome_files import GenomeFiles
from .interval_regions import merge_intervals

SPLITS = ("train", "validation", "test")
Ends = Literal["drop", "keep"]
Place = str | tuple[str, int, int]
_REGION = re.compile(r"(?P<contig>.+):(?P<first>[\d,]+)-(?P<last>[\d,]+)")


@dataclass(frozen=True)
class SplitRegion:
    """A stretch of a contig that belongs to one split."""

    split: str
    contig: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.contig}:{self.start + 1:,}-{self.end:,}"


def split_regions(genome: GenomeFiles, splits: Mapping[str, Sequence[Place]], *, gap_bp: int = 0) -> list[SplitRegion]:
    """Resolve what each split is made of.

    Args:
        genome: whose contigs are meant.
        splits: split -> contigs, and regions of contigs, either as text, `20:1-30,000,000` (1-based, both ends
            included, as samtools writes it), or as (contig, start, end), 0-based half-open.
        gap_bp: bases that must lie between regions of two splits on one contig.

    Returns:
        The regions by split, then contig as the genome names it and start.

    Raises:
        ValueError: for a split without regions everywhere, a contig that the genome lacks, a region beyond its
            contig, one base in two regions, regions of two splits that are too near.
    """
    unknown = set(splits) - set(SPLITS)
    if unknown:
        raise ValueError(f"unknown splits {', '.join(sorted(unknown))}; expected {', '.join(SPLITS)}")
    order = {name: number for number, name in enumerate(genome.contigs)}
    regions = [_region(genome, split, place) for split in SPLITS for place in splits.get(split, ())]
    if not regions:
        raise ValueError("no split has a contig; expected train, validation or test contigs")
    for one, other in pairwise(sorted(regions, key=lambda region: (order[region.contig], region.start))):
        _check_apart(one, other, gap_bp)
    return sorted(regions, key=lambda region: (SPLITS.index(region.split), order[region.contig], region.start))


def lay_windows(
    start: int, end: int, *, window_bp: int, step_bp: int, ends: Ends = "drop"
) -> tuple[np.ndarray, np.ndarray, int]:
    """Windows over a region, from its start on.

    Args:
        start, end: of the region.
        window_bp, step_bp: length of a window, and from the start of one to the start of the next.
        ends: what to do with the bases behind the last whole window: leave them out, or keep a shorter window.

    Returns:
        (windows,) starts and (windows,) ends, both int64, and the number of bases behind the last window.
    """
    if window_bp < 1 or step_bp < 1:
        raise ValueError(f"window_bp is {window_bp} and step_bp {step_bp}; expected positive numbers of bp")
    if ends not in get_args(Ends):
        raise ValueError(f'ends is {ends!r}; expected "drop" or "keep"')
    starts = np.arange(start, end - window_bp + 1, step_bp, dtype=np.int64)
    following = int(starts[-1]) + step_bp if len(starts) else start
    covered = int(starts[-1]) + window_bp if len(starts) else start
    if ends == "keep" and covered < end and following < end:
        starts = np.append(starts, following)
        return starts, np.minimum(starts + window_bp, end), 0
    return starts, starts + window_bp, end - covered


class IntervalTracks:
    """Intervals of several elements, ready to be painted.

    Attributes:
        elements: their names, in order.
    """

    def __init__(self, intervals: Mapping[str, pd.DataFrame]) -> None:
        """`intervals`: element -> contig, start, end; they may overlap."""
        self.elements = list(intervals)
        self._places: list[dict[str, tuple[np.ndarray, np.ndarray]]] = []
        for table in intervals.values():
            merged = merge_intervals(table)
            self._places.append(
                {
                    str(contig): (group["start"].to_numpy(), group["end"].to_numpy())
                    for contig, group in merged.groupby("contig")
                }
            )

    def paint(self, contig: str, start: int, end: int) -> np.ndarray:
        """(elements, end - start) uint8: 1 where an interval of the element covers the base."""
        labels = np.zeros((len(self.elements), end - start), dtype=np.uint8)
        for row, places in zip(labels, self._places, strict=True):
            if contig in places:
                _paint(row, *places[contig], start)
        return labels


def pack_labels(labels: np.ndarray) -> bytes:
    """(elements, bases) of 0 and 1 -> bits, the first base in the highest bit; every row begins with a new byte."""
    return np.packbits(labels, axis=-1).tobytes()


def unpack_labels(packed: bytes, n_elements: int, n_bases: int) -> np.ndarray:
    """What `pack_labels` packed: (elements, bases) uint8.

    Raises:
        ValueError: where the number of bytes is not that of so many elements and bases.
    """
    n_bytes = -(-n_bases // 8)
    if len(packed) != n_elements * n_bytes:
        raise ValueError(
            f"{len(packed):,} bytes of labels; expected {n_elements} elements x {n_bytes:,} bytes ({n_bases:,} bases)"
        )
    rows = np.frombuffer(packed, dtype=np.uint8).reshape(n_elements, n_bytes)
    return np.unpackbits(rows, axis=1, count=n_bases)


def _paint(row: np.ndarray, starts: np.ndarray, ends: np.ndarray, offset: int) -> None:
    """Set the bases of sorted intervals, no two of which share a base; the row begins at `offset`."""
    first, last = np.searchsorted(ends, offset, side="right"), np.searchsorted(starts, offset + len(row))
    if first >= last:
        return
    steps = np.zeros(len(row) + 1, dtype=np.int8)
    # Where one interval ends another may begin: the two add up to no step.
    steps[np.maximum(starts[first:last] - offset, 0)] += 1
    steps[np.minimum(ends[first:last] - offset, len(row))] -= 1
    np.cumsum(steps[:-1], out=row.view(np.int8))


def _region(genome: GenomeFiles, split: str, place: Place) -> SplitRegion:
    name, start, end = _bounds(genome, place)
    contig = genome.resolve(name)
    first, last = genome.starts[contig], genome.contigs[contig]
    start, end = first if start is None else start, last if end is None else end
    if not first <= start < end <= last:
        raise ValueError(
            f"{split} region {contig}:{start + 1:,}-{end:,} (1-based) is not within the contig, which spans "
            f"{first + 1:,}-{last:,} in {genome}"
        )
    return SplitRegion(split, contig, start, end)


def _bounds(genome: GenomeFiles, place: Place) -> tuple[str, int | None, int | None]:
    if not isinstance(place, str):
        return place
    match = _REGION.fullmatch(place)
    if genome.find(place) is not None or match is None:
        return place, None, None
    first, last = (int(match[name].replace(",", "")) for name in ("first", "last"))
    return match["contig"], first - 1, last


def _check_apart(one: SplitRegion, other: SplitRegion, gap_bp: int) -> None:
    if one.contig != other.contig:
        return
    between = other.start - one.end
    if between < 0:
        raise ValueError(
            f"{one.split} {one} and {other.split} {other} (1-based) share bases; expected every base in one "
            "region of one split"
        )
    if one.split != other.split and between < gap_bp:
        raise ValueError(
            f"{between:,} bp lie between {one.split} {one} and {other.split} {other} (1-based); expected at least "
            f"{gap_bp:,} (split_gap_bp)"
        )
