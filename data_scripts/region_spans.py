"""Spans that tile a contig, intervals cut where spans end, and the stretches of a span that nothing covers.

Source: "Region Ranking on scATAC", section 3.2.3. A tiling cuts the contig every `span_bp`; the tilings of one contig
are moved by `span_bp / shift_factor` each. Array work throughout: no step depends on a loop over intervals or spans.
Coordinates are 0-based, half-open.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


class Tiling(NamedTuple):
    """Span i covers [offset + i * span_bp, offset + (i + 1) * span_bp)."""

    number: int
    offset: int
    span_bp: int

    def starts(self, spans: Integers) -> Integers:
        """(spans,) numbers -> (spans,) first bases."""
        return self.offset + spans * self.span_bp

    def whole_spans(self, start: int, end: int) -> tuple[int, int]:
        """The first span that lies wholly within [start, end), and the one behind the last."""
        first = -((self.offset - start) // self.span_bp)
        return first, max(first, (end - self.offset) // self.span_bp)


class Pieces(NamedTuple):
    """Parts of sorted, disjoint intervals, each within one span, in the order of their places.

    Attributes:
        interval: (pieces,) number of the interval that a piece is part of.
        span: (pieces,) number of the span, ascending.
        start, end: (pieces,) of the piece.
    """

    interval: Integers
    span: Integers
    start: Integers
    end: Integers

    def __len__(self) -> int:
        return len(self.interval)

    def within(self, first_span: int, last_span: int) -> "Pieces":
        """Those in spans [first_span, last_span)."""
        chosen = slice(*np.searchsorted(self.span, (first_span, last_span)))
        return Pieces(*(column[chosen] for column in self))


class Gaps(NamedTuple):
    """The longest stretch of each span that nothing covers; of equally long ones the first.

    Attributes:
        span: (spans,) number of the span, ascending; spans that are covered whole are not among them.
        start, end: (spans,) of the stretch.
    """

    span: Integers
    start: Integers
    end: Integers


def tilings(span_bp: int, shift_factor: int) -> list[Tiling]:
    """The shifted tilings of a contig; the first begins at base 0.

    Args:
        span_bp: length of a span.
        shift_factor: number of tilings, each moved by `span_bp / shift_factor`, rounded down to whole bases.

    Raises:
        ValueError: where spans or shifts are shorter than a base.
    """
    if not 1 <= shift_factor <= span_bp:
        raise ValueError(
            f"span_bp is {span_bp} and shift_factor {shift_factor}; expected a span of at least one base, and from 1 "
            "to as many tilings as a span has bases"
        )
    return [Tiling(number, number * span_bp // shift_factor, span_bp) for number in range(shift_factor)]


def cut_into_spans(starts: Integers, ends: Integers, tiling: Tiling) -> Pieces:
    """Cut intervals at the boundaries of spans; together the pieces cover what the intervals do.

    Args:
        starts, ends: (intervals,) int64, sorted and disjoint.
        tiling: of the contig.
    """
    first = (starts - tiling.offset) // tiling.span_bp
    last = (ends - 1 - tiling.offset) // tiling.span_bp
    numbers = last - first + 1
    interval = np.repeat(np.arange(len(starts)), numbers)
    place = np.arange(len(interval)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    span = first[interval] + place
    start = np.maximum(starts[interval], tiling.starts(span))
    end = np.minimum(ends[interval], tiling.starts(span + 1))
    return Pieces(interval, span, start, end)


def longest_gaps(occupied: Pieces, spans: Integers, tiling: Tiling) -> Gaps:
    """The longest uncovered stretch of each span.

    Args:
        occupied: pieces of all that counts as covered, sorted and disjoint.
        spans: (spans,) numbers of the spans asked for, ascending.
        tiling: that both are of.
    """
    is_asked = np.isin(occupied.span, spans)
    span, start, end = (column[is_asked] for column in occupied[1:])
    # Between the borders of a span lie its pieces: each border is a piece without length.
    borders = np.concatenate([tiling.starts(spans), tiling.starts(spans + 1)])
    span = np.concatenate([span, spans, spans])
    start, end = np.concatenate([start, borders]), np.concatenate([end, borders])
    order = np.lexsort((end, start, span))
    span, start, end = span[order], start[order], end[order]
    is_gap = (span[1:] == span[:-1]) & (start[1:] > end[:-1])
    gap_span, gap_start, gap_end = span[1:][is_gap], end[:-1][is_gap], start[1:][is_gap]
    order = np.lexsort((gap_start, gap_start - gap_end, gap_span))
    chosen = order[is_first_of_run(gap_span[order])]
    return Gaps(gap_span[chosen], gap_start[chosen], gap_end[chosen])


def is_first_of_run(values: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """(values,) True where a value differs from the one in front of it."""
    is_first = np.ones(len(values), dtype=np.bool_)
    is_first[1:] = values[1:] != values[:-1]
    return is_first


def place_in_run(values: npt.NDArray[np.generic]) -> Integers:
    """(values,) 0, 1, 2, ... within each run of equal values."""
    firsts = np.flatnonzero(is_first_of_run(values))
    lengths = np.diff(np.append(firsts, len(values)))
    return np.arange(len(values)) - np.repeat(firsts, lengths)
