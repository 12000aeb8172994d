"""From probabilities to called segments: runs of bases at or above an element's threshold.

Works on a sequence as a whole or piece after piece, with the same result: a segment may go across pieces. Coordinates
are 0-based, half-open.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_THRESHOLD = 0.5
# Columns of the table of called segments.
COLUMNS = ("contig", "start", "end", "element", "mean_probability", "max_probability")


class SegmentCaller:
    """Calls the segments of one element on one contig.

    Args:
        threshold: a base is called where its probability is this or more.
        minimum_length: shorter segments are dropped, after merging, in bp.
        merge_gap: segments with at most this many bp between them become one; N counts as not called.
    """

    def __init__(self, threshold: float, *, minimum_length: int = 1, merge_gap: int = 0) -> None:
        self._threshold = np.float32(threshold)  # probabilities are float32: 0.3 is not below float32's 0.3
        self._minimum_length = minimum_length
        self._merge_gap = merge_gap
        self._open = np.empty((_FIELDS, 0))
        self._sum = 0.0
        self._count = 0.0
        self.n_dropped = 0

    def add(self, start: int, probabilities: np.ndarray) -> np.ndarray:
        """Take the next piece.

        Args:
            start: where it begins, behind all that came before; what lies between is not called.
            probabilities: (bases,) float32, NaN where unknown.

        Returns:
            Segments that can grow no more, (segments, 4): start, end, mean and maximal probability. The mean is over
            the known bases of the segment, gaps that were merged included.
        """
        runs = np.concatenate((self._open, self._runs(start, probabilities)), axis=1)
        if not runs.size:
            return _NONE
        parts = np.flatnonzero(runs[_START, 1:] - runs[_END, :-1] > self._merge_gap)
        first, last = np.append(0, parts + 1), np.append(parts, runs.shape[1] - 1)
        merged = runs[:, first]
        ending = [_END, _SUM_AT_END, _COUNT_AT_END]
        merged[ending] = runs[ending][:, last]
        merged[_MAX] = np.maximum.reduceat(runs[_MAX], first)
        self._open = merged[:, -1:]
        return self._closed(merged[:, :-1])

    def finish(self) -> np.ndarray:
        """The last segment, if it is open; as `add` returns it. The caller may then begin another contig."""
        closed = self._closed(self._open)
        self._open = np.empty((_FIELDS, 0))
        return closed

    def _runs(self, start: int, probabilities: np.ndarray) -> np.ndarray:
        """Runs of called bases, with the sums of all probabilities so far at their starts and ends."""
        is_called = probabilities >= self._threshold
        edges = np.flatnonzero(np.diff(is_called, prepend=False, append=False))
        is_known = ~np.isnan(probabilities)
        sums = self._sum + np.append(0.0, np.cumsum(np.where(is_known, probabilities, 0), dtype=np.float64))
        counts = self._count + np.append(0, np.cumsum(is_known))
        self._sum, self._count = sums[-1], counts[-1]
        runs = np.empty((_FIELDS, len(edges) // 2))
        if not len(edges):
            return runs
        first, last = edges[::2], edges[1::2]
        runs[[_START, _END]] = first + start, last + start
        runs[[_SUM_AT_START, _SUM_AT_END]] = sums[first], sums[last]
        runs[[_COUNT_AT_START, _COUNT_AT_END]] = counts[first], counts[last]
        # A run that ends with the piece has no index behind it: reduceat then goes to the end by itself.
        runs[_MAX] = np.maximum.reduceat(probabilities, edges[edges < len(probabilities)])[::2]
        return runs

    def _closed(self, runs: np.ndarray) -> np.ndarray:
        is_long = runs[_END] - runs[_START] >= self._minimum_length
        self.n_dropped += int((~is_long).sum())
        kept = runs[:, is_long]
        mean = (kept[_SUM_AT_END] - kept[_SUM_AT_START]) / (kept[_COUNT_AT_END] - kept[_COUNT_AT_START])
        return np.stack((kept[_START], kept[_END], mean, kept[_MAX]), axis=1)


def call_segments(
    probabilities: np.ndarray,
    elements: Sequence[str],
    thresholds: Mapping[str, float],
    *,
    contig: str,
    start: int = 0,
    minimum_length: int = 1,
    merge_gap: int = 0,
) -> "pd.DataFrame":
    """The segments of all elements, ordered by start, end and the elements' order.

    Args:
        probabilities: (bases, elements) float32, NaN where unknown.
        elements: names in the order of the columns.
        thresholds: name -> probability from which a base is called.
        contig, start: where the first base lies.
        minimum_length, merge_gap: as `SegmentCaller`, in bp.

    Returns:
        One row a segment: contig, start, end, element, mean_probability, max_probability.
    """
    import pandas as pd

    found = []
    for number, element in enumerate(elements):
        caller = SegmentCaller(thresholds[element], minimum_length=minimum_length, merge_gap=merge_gap)
        segments = np.concatenate((caller.add(start, np.ascontiguousarray(probabilities[:, number])), caller.finish()))
        found.append(np.column_stack((segments, np.full(len(segments), number))))
    rows = np.concatenate(found)
    rows = rows[np.lexsort((rows[:, 4], rows[:, 1], rows[:, 0]))]
    columns = {
        "contig": np.full(len(rows), contig, dtype=object),
        "start": rows[:, 0].astype(np.int64),
        "end": rows[:, 1].astype(np.int64),
        "element": np.array(elements, dtype=object)[rows[:, 4].astype(np.int64)],
        "mean_probability": rows[:, 2],
        "max_probability": rows[:, 3],
    }
    return pd.DataFrame(columns, columns=list(COLUMNS))


def resolve_thresholds(
    thresholds: float | Mapping[str, float] | Sequence[float] | None,
    elements: Sequence[str],
    learned: Sequence[float] | None = None,
) -> dict[str, float]:
    """A threshold for each element.

    Args:
        thresholds: one number for all, name -> number for some, a number an element, or None.
        elements: names, in order.
        learned: a number an element for those not given, such as the model's own; 0.5 where None.

    Raises:
        ValueError: for unknown names, too few numbers, or numbers outside (0, 1].
    """
    chosen = dict(zip(elements, learned or [DEFAULT_THRESHOLD] * len(elements), strict=True))
    if isinstance(thresholds, Mapping):
        unknown = [name for name in thresholds if name not in chosen]
        if unknown:
            raise ValueError(
                f"thresholds name {', '.join(map(repr, unknown))}, and the model's elements are {', '.join(elements)}"
            )
        chosen.update(thresholds)
    elif isinstance(thresholds, int | float):
        chosen = dict.fromkeys(elements, thresholds)
    elif thresholds is not None:
        if len(thresholds) != len(elements):
            raise ValueError(f"thresholds are {len(thresholds)} numbers for {len(elements)} elements: give one each")
        chosen = dict(zip(elements, thresholds, strict=True))
    wrong = {name: value for name, value in chosen.items() if not 0 < value <= 1}
    if wrong:
        name, value = next(iter(wrong.items()))
        raise ValueError(f"the threshold of {name} is {value}: expected a probability above 0, up to 1")
    return {name: float(value) for name, value in chosen.items()}


def require_call_options(minimum_length: int, merge_gap: int) -> None:
    """Raise ValueError where a length in bp is too small."""
    if minimum_length < 1:
        raise ValueError(f"minimum_length is {minimum_length}: expected 1 bp or more")
    if merge_gap < 0:
        raise ValueError(f"merge_gap is {merge_gap}: expected 0 bp or more")


# Rows of the array of runs.
_START, _END, _SUM_AT_START, _SUM_AT_END, _COUNT_AT_START, _COUNT_AT_END, _MAX = range(7)
_FIELDS = 7
_NONE = np.empty((0, 4))
