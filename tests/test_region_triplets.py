"""Three regions a span: two with counts, one without."""

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.region_spans import Tiling, cut_into_spans
from omics_transformers.data_scripts.region_triplets import (
    NO_PEAK,
    CutContig,
    TripletRules,
    Triplets,
    choose_triplets,
)

SPAN_BP = 300
TILING = Tiling(0, 0, SPAN_BP)
RULES = TripletRules(mean_bp=60.0, deviation_bp=20.0, minimum_zero_bp=20)


def contig_of(starts: list[int], ends: list[int], blocked: tuple[tuple[int, int], ...] = ()) -> CutContig:
    pieces = cut_into_spans(np.array(starts), np.array(ends), TILING)
    places = np.array(sorted([*zip(starts, ends, strict=True), *blocked]))
    return CutContig(pieces, cut_into_spans(places[:, 0], places[:, 1], TILING), TILING)


def choose(contig: CutContig, counts: list[float], rules: TripletRules = RULES, seed: int = 0) -> tuple:
    account: Counter[str] = Counter()
    chosen = choose_triplets(contig, np.array(counts), rules, np.random.default_rng(seed), account)
    return chosen, account


@given(st.data())
def test_rows_keep_the_rules(data: st.DataObject) -> None:
    borders = sorted(data.draw(st.sets(st.integers(0, 1500), min_size=8, max_size=60)))
    starts, ends = borders[:-1:2], borders[1::2]
    starts = starts[: len(ends)]
    contig = contig_of(starts, ends)
    counts = np.array(data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.5]), min_size=len(contig.pieces))))
    counts = np.resize(counts, len(contig.pieces))
    chosen, account = choose(contig, counts.tolist(), seed=data.draw(st.integers(0, 5)))
    peaks = list(zip(starts, ends, strict=True))
    assert (np.diff(chosen.span) > 0).all(), "one row a span"
    assert (chosen.counts[:, :2] > 0).all() and (chosen.counts[:, 2] == 0).all()
    for row in range(len(chosen.span)):
        first, last = SPAN_BP * chosen.span[row], SPAN_BP * (chosen.span[row] + 1)
        places = sorted(zip(chosen.start[row].tolist(), chosen.end[row].tolist(), strict=True))
        assert first <= places[0][0] and places[-1][1] <= last
        assert all(one[1] <= other[0] for one, other in pairwise(places)), "no base twice"
        for column in range(3):
            peak = int(chosen.interval[row, column])
            start, end = int(chosen.start[row, column]), int(chosen.end[row, column])
            if peak == NO_PEAK:
                assert column == 2 and all(end <= left or right <= start for left, right in peaks)
                assert RULES.minimum_zero_bp <= end - start
            else:
                assert (max(peaks[peak][0], first), min(peaks[peak][1], last)) == (start, end)
    non_zero = Counter(contig.pieces.span[counts > 0].tolist())
    assert account["spans with two non-zero regions"] == sum(number > 1 for number in non_zero.values())
    left_out = account["left out: no room for a zero region"]
    assert account["spans with two non-zero regions"] - left_out == len(chosen.span)
    by_kind = account["zero regions that are peaks"] + account["zero regions placed where no peak is"]
    assert by_kind == len(chosen.span)


def test_every_choice_is_drawn_equally_often() -> None:
    contig = contig_of([10, 60, 110, 160, 210], [40, 90, 140, 190, 240])
    pairs, zeros = Counter(), Counter()
    for seed in range(3000):
        chosen, _ = choose(contig, [1.0, 2.0, 3.0, 0.0, 0.0], seed=seed)
        pairs[frozenset(chosen.interval[0, :2].tolist())] += 1
        zeros[int(chosen.interval[0, 2])] += 1
    assert set(pairs) == {frozenset(pair) for pair in ((0, 1), (0, 2), (1, 2))} and set(zeros) == {3, 4}
    assert all(abs(number - 1000) < 110 for number in pairs.values()), pairs  # four standard deviations
    assert all(abs(number - 1500) < 110 for number in zeros.values()), zeros


def test_placed_zero_regions_have_the_lengths_of_the_truncated_normal() -> None:
    contig = contig_of([0, 270], [30, 300])
    rules = TripletRules(mean_bp=100.0, deviation_bp=60.0, minimum_zero_bp=50)
    placed = [choose(contig, [1.0, 2.0], rules, seed)[0] for seed in range(2000)]
    lengths = np.array([int(chosen.end[0, 2] - chosen.start[0, 2]) for chosen in placed])
    starts = np.array([int(chosen.start[0, 2]) for chosen in placed])
    assert lengths.min() == 50 and lengths.max() == 240
    # a below a, b above b, the normal distribution between: P(x <= 50) = 0.202, P(x >= 240) = 0.010, median 100.
    assert abs((lengths == 50).mean() - 0.202) < 0.04
    assert abs((lengths == 240).mean() - 0.010) < 0.01
    assert abs(np.median(lengths) - 100) < 6
    # Anywhere in the gap: the share of the room in front of the region is uniform.
    room = 240 - lengths
    share = ((starts - 30) / np.maximum(room, 1))[room > 20]
    assert abs(share.mean() - 0.5) < 0.03 and abs(share.std() - 12**-0.5) < 0.02


def test_no_zero_region_is_placed_on_what_is_blocked_and_spans_without_room_are_counted() -> None:
    contig = contig_of([0, 270, 310, 560], [30, 300, 350, 600], blocked=((40, 260), (352, 500)))
    chosen, account = choose(contig, [1.0, 2.0, 1.0, 3.0])
    assert chosen.span.tolist() == [1] and 500 <= chosen.start[0, 2] < chosen.end[0, 2] <= 560
    assert account["left out: no room for a zero region"] == 1


def test_equal_counts_and_short_pieces_may_be_left_out() -> None:
    contig = contig_of([0, 50, 90, 295], [30, 80, 92, 330])
    counts = [1.0, 1.0, 5.0, 0.4, 2.6]  # the last peak is cut: 5 and 30 bp
    rules = TripletRules(60.0, 20.0, 20, minimum_region_bp=6, equal_counts="drop")
    chosen, account = choose(contig, counts, rules)
    assert not len(chosen.span) and account["left out: equal counts"] == 1
    chosen, _ = choose(contig, counts, TripletRules(60.0, 20.0, 20, minimum_region_bp=6))
    assert set(chosen.interval[0, :2].tolist()) == {0, 1}


def test_the_same_generator_gives_the_same_rows_and_nothing_comes_of_nothing() -> None:
    contig = contig_of([10, 60, 110, 160, 400], [40, 90, 140, 190, 500])
    one, other = (choose(contig, [1.0, 2.0, 3.0, 0.5, 1.0], seed=7)[0] for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    nothing, account = choose(contig, [0.0] * 5)
    assert isinstance(nothing, Triplets) and nothing.start.shape == (0, 3)
    assert account["spans with two non-zero regions"] == 0
