"""Called segments against a plain loop over bases, in one piece and in many."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.pipelines.segmentation_calls import (
    COLUMNS,
    SegmentCaller,
    call_segments,
    require_call_options,
    resolve_thresholds,
)

levels = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0, float("nan")])
tracks = st.lists(levels, max_size=60).map(lambda values: np.array(values, dtype=np.float32))


def plain_segments(values: np.ndarray, threshold: float, minimum: int, gap: int) -> list[tuple[int, int, float, float]]:
    runs: list[list[int]] = []
    for base, value in enumerate(values):
        if value >= np.float32(threshold):
            if runs and base - runs[-1][1] <= gap:
                runs[-1][1] = base + 1
            else:
                runs.append([base, base + 1])
    found = []
    for start, end in runs:
        known = [float(value) for value in values[start:end] if not np.isnan(value)]
        if end - start >= minimum:
            found.append((start, end, sum(known) / len(known), max(known)))
    return found


@pytest.mark.parity
@given(
    tracks, st.sampled_from([0.3, 0.5, 1.0]), st.integers(1, 5), st.integers(0, 4), st.lists(st.integers(0, 60)),
    st.integers(0, 10**9),
)  # fmt: skip
def test_segments_equal_a_plain_loop_in_pieces_too(
    values: np.ndarray, threshold: float, minimum: int, gap: int, cuts: list[int], start: int
) -> None:
    expected = plain_segments(values, threshold, minimum, gap)
    caller = SegmentCaller(threshold, minimum_length=minimum, merge_gap=gap)
    places = [0, *sorted(cut for cut in cuts if cut < len(values)), len(values)]
    parts = [caller.add(start + one, values[one:two]) for one, two in pairwise(places)]
    found = np.concatenate([*parts, caller.finish()])
    np.testing.assert_allclose(found[:, :2] - start, np.array([row[:2] for row in expected]).reshape(-1, 2))
    np.testing.assert_allclose(found[:, 2:], np.array([row[2:] for row in expected]).reshape(-1, 2), atol=1e-9)
    assert caller.n_dropped == len(plain_segments(values, threshold, 1, gap)) - len(expected)


def test_a_caller_takes_one_contig_after_another() -> None:
    caller = SegmentCaller(0.5, merge_gap=10)
    high = np.full(4, 0.75, np.float32)
    assert caller.add(100, high).size == 0
    np.testing.assert_array_equal(caller.finish(), [[100, 104, 0.75, 0.75]])
    assert caller.add(0, high).size == 0
    np.testing.assert_array_equal(caller.finish(), [[0, 4, 0.75, 0.75]])
    assert caller.finish().size == 0


def test_stretches_apart_are_not_called_in_between() -> None:
    caller = SegmentCaller(0.5, merge_gap=3)
    high = np.full(4, 0.75, np.float32)
    caller.add(0, high)
    caller.add(7, high)  # 3 bp of N between
    np.testing.assert_array_equal(caller.add(15, high), [[0, 11, 0.75, 0.75]])  # 4 bp


def test_table_of_all_elements() -> None:
    values = np.array([[0.9, 0.1], [0.9, 0.6], [0.1, 0.6], [np.nan, np.nan], [0.2, 0.8]], dtype=np.float32)
    table = call_segments(values, ("exon", "intron"), {"exon": 0.5, "intron": 0.6}, contig="7", start=100)
    assert tuple(table.columns) == COLUMNS
    assert table[["contig", "start", "end", "element"]].to_numpy().tolist() == [
        ["7", 100, 102, "exon"],
        ["7", 101, 103, "intron"],
        ["7", 104, 105, "intron"],
    ]
    np.testing.assert_allclose(table["mean_probability"], [0.9, 0.6, 0.8], rtol=1e-6)
    assert table.dtypes[["start", "end"]].tolist() == [np.int64, np.int64]
    assert len(call_segments(values[:0], ("exon", "intron"), {"exon": 0.5, "intron": 0.6}, contig="7")) == 0


def test_a_threshold_is_reached_in_the_precision_of_the_probabilities() -> None:
    values = np.float32([[0.3]])
    assert float(values[0, 0]) > 0.3 > np.nextafter(values[0, 0], np.float32(0))
    assert len(call_segments(values, ("a",), {"a": 0.3}, contig="1")) == 1
    assert len(call_segments(np.float32([[0.7]]), ("a",), {"a": 0.7}, contig="1")) == 1


@pytest.mark.parametrize(
    ("given", "learned", "expected"),
    [
        (None, None, [0.5, 0.5]),
        (None, [0.2, 0.7], [0.2, 0.7]),
        (0.3, [0.2, 0.7], [0.3, 0.3]),
        (1, None, [1.0, 1.0]),
        ({"b": 0.9}, [0.2, 0.7], [0.2, 0.9]),
        ([0.1, 0.6], [0.2, 0.7], [0.1, 0.6]),
    ],
)
def test_thresholds(given: object, learned: list[float] | None, expected: list[float]) -> None:
    assert list(resolve_thresholds(given, ("a", "b"), learned).values()) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"c": 0.5}, "thresholds name 'c', and the model's elements are a, b"),
        ([0.5], "1 numbers for 2 elements"),
        (0.0, "the threshold of a is 0.0: expected a probability above 0, up to 1"),
        ({"b": 1.5}, "the threshold of b is 1.5"),
        (float("nan"), "the threshold of a is nan"),
    ],
)
def test_thresholds_that_are_none(given: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_thresholds(given, ("a", "b"))  # type: ignore[arg-type]


def test_lengths_out_of_range() -> None:
    require_call_options(1, 0)
    with pytest.raises(ValueError, match="minimum_length is 0: expected 1 bp or more"):
        require_call_options(0, 0)
    with pytest.raises(ValueError, match="merge_gap is -1"):
        require_call_options(1, -1)
