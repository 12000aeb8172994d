"""Spans, the pieces they cut intervals into, and the gaps between pieces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.region_spans import (
    Tiling,
    cut_into_spans,
    is_first_of_run,
    longest_gaps,
    place_in_run,
    tilings,
)

CONTIG_BP = 400


@st.composite
def disjoint_intervals(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Sorted, disjoint intervals of a small contig; some touch."""
    ends = sorted(draw(st.sets(st.integers(0, CONTIG_BP), min_size=2, max_size=24)))
    starts, stops = np.array(ends[:-1]), np.array(ends[1:])
    is_kept = np.array(draw(st.lists(st.booleans(), min_size=len(starts), max_size=len(starts))))
    return starts[is_kept].astype(np.int64), stops[is_kept].astype(np.int64)


any_tiling = st.builds(
    lambda span_bp, shift, factor: tilings(span_bp, min(factor, span_bp))[shift % min(factor, span_bp)],
    st.integers(1, 120),
    st.integers(0, 9),
    st.integers(1, 10),
)


@given(any_tiling)
def test_spans_tile_the_contig_at_every_shift(tiling: Tiling) -> None:
    numbers = np.arange(*tiling.whole_spans(0, CONTIG_BP))
    covered = np.zeros(CONTIG_BP, dtype=int)
    for start in tiling.starts(numbers).tolist():
        assert 0 <= start <= CONTIG_BP - tiling.span_bp
        covered[start : start + tiling.span_bp] += 1
    # Every base is in one span, but for less than a span at either end.
    inside = np.flatnonzero(covered)
    assert (covered[inside] == 1).all()
    assert len(inside) == 0 or (np.diff(inside) == 1).all()
    before, behind = (inside[0], CONTIG_BP - 1 - inside[-1]) if len(inside) else (tiling.offset, 0)
    assert before < tiling.span_bp and behind < tiling.span_bp
    assert before == tiling.offset % tiling.span_bp or not len(inside)


def test_ten_tilings_of_the_thesis_are_moved_by_a_tenth_of_a_span() -> None:
    assert [tiling.offset for tiling in tilings(3_000, 10)] == list(range(0, 3_000, 300))


@given(disjoint_intervals(), any_tiling)
def test_every_base_of_a_split_interval_is_in_one_piece_of_its_own_span(
    intervals: tuple[np.ndarray, np.ndarray], tiling: Tiling
) -> None:
    starts, ends = intervals
    pieces = cut_into_spans(starts, ends, tiling)
    assert (pieces.end > pieces.start).all() and (np.diff(pieces.span) >= 0).all()
    assert (pieces.start[1:] >= pieces.end[:-1]).all()
    assert (tiling.starts(pieces.span) <= pieces.start).all() and (pieces.end <= tiling.starts(pieces.span + 1)).all()
    expected = [
        (n, base) for n, (start, end) in enumerate(zip(starts, ends, strict=True)) for base in range(start, end)
    ]
    found = [
        (n, base)
        for n, start, end in zip(pieces.interval, pieces.start, pieces.end, strict=True)
        for base in range(start, end)
    ]
    assert found == expected
    # No span that a piece lies in could have been spared: a piece a span and interval.
    assert len(set(zip(pieces.interval.tolist(), pieces.span.tolist(), strict=True))) == len(pieces)


@given(disjoint_intervals(), any_tiling)
def test_counts_shared_by_length_add_up(intervals: tuple[np.ndarray, np.ndarray], tiling: Tiling) -> None:
    starts, ends = intervals
    pieces = cut_into_spans(starts, ends, tiling)
    counts = np.arange(1.0, len(starts) + 1)
    shared = counts[pieces.interval] * (pieces.end - pieces.start) / (ends - starts)[pieces.interval]
    np.testing.assert_allclose(np.bincount(pieces.interval, shared, minlength=len(starts)), counts)


@given(disjoint_intervals(), any_tiling)
def test_longest_gaps_against_a_loop_over_bases(intervals: tuple[np.ndarray, np.ndarray], tiling: Tiling) -> None:
    spans = np.arange(*tiling.whole_spans(0, CONTIG_BP))
    gaps = longest_gaps(cut_into_spans(*intervals, tiling), spans, tiling)
    covered = np.zeros(CONTIG_BP, dtype=bool)
    for start, end in zip(*intervals, strict=True):
        covered[start:end] = True
    expected = []
    for span, first in zip(spans.tolist(), tiling.starts(spans).tolist(), strict=True):
        runs, run = [], 0
        for base in range(first, first + tiling.span_bp + 1):
            if base < first + tiling.span_bp and not covered[base]:
                run += 1
            elif run:
                runs.append((-run, base - run, base))
                run = 0
        if runs:
            expected.append((span, *min(runs)[1:]))
    assert list(zip(*(column.tolist() for column in gaps), strict=True)) == expected


def test_runs() -> None:
    values = np.array([4, 4, 7, 7, 7, 4])
    assert is_first_of_run(values).tolist() == [True, False, True, False, False, True]
    assert place_in_run(values).tolist() == [0, 1, 0, 1, 2, 0]
    assert is_first_of_run(values[:0]).tolist() == place_in_run(values[:0]).tolist() == []


@pytest.mark.parametrize(("span_bp", "shift_factor"), [(0, 1), (10, 0), (10, 11)])
def test_spans_without_bases_are_refused(span_bp: int, shift_factor: int) -> None:
    with pytest.raises(ValueError, match=f"span_bp is {span_bp} and shift_factor {shift_factor}; expected a span"):
        tilings(span_bp, shift_factor)
