"""Overlapping windows over long sequences, grouped into blocks, and the blend of what a model says of them.

SegmentNT's own demonstrations segment one window at a time, whose ends lack context. Here windows overlap and each
base's probability is the weighted mean over the windows that hold it, weights falling off evenly from a window's
middle to its ends. Windows lie symmetrically in each stretch, so that a sequence read backwards has the same windows.
Coordinates are 0-based, half-open, in bp.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

N = ord("N")
LARGEST_OVERLAP = 0.95
BLOCK_BP = 500_000


class Stretch(NamedTuple):
    """A part of a contig that is segmented on its own."""

    contig: str
    start: int
    end: int


class Piece(NamedTuple):
    """A part of a stretch, and all windows (start, end) that reach into it, in order."""

    contig: str
    start: int
    end: int
    windows: tuple[tuple[int, int], ...]


def find_stretches(chunks: Iterable[bytes], contig: str, start: int, *, split_at_n: int) -> Iterator[Stretch]:
    """Cut a sequence at its long runs of N.

    Args:
        chunks: the sequence, upper-case ACGTN, piece after piece; runs of N may go across pieces.
        contig, start: where its first base lies.
        split_at_n: runs of N this long or longer part two stretches; shorter ones stay within.

    Yields:
        Stretches in order; none begins or ends with N.
    """
    pending = np.empty((2, 0), dtype=np.int64)  # starts and ends of runs without N that may yet go on
    for chunk in chunks:
        is_known = np.frombuffer(chunk, dtype=np.uint8) != N
        edges = np.flatnonzero(np.diff(is_known, prepend=False, append=False)) + start
        runs = np.concatenate((pending, edges.reshape(-1, 2).T), axis=1)
        parts = np.flatnonzero(runs[0, 1:] - runs[1, :-1] >= split_at_n)
        first, last = np.append(0, parts + 1), np.append(parts, -1)
        merged = np.stack((runs[0, first], runs[1, last])) if runs.size else runs
        yield from (Stretch(contig, *run) for run in merged[:, :-1].T.tolist())
        pending = merged[:, -1:]
        start += len(chunk)
    yield from (Stretch(contig, *run) for run in pending.T.tolist())


def window_starts(length: int, window_bp: int, overlap: float) -> np.ndarray:
    """Where windows begin that cover a sequence.

    They are spread evenly, overlap by `overlap` of their length or more, and lie symmetrically: window i of the
    sequence read backwards is the last but i.

    Args:
        length: of the sequence, in bp.
        window_bp: of each window; a shorter sequence is one window, as long as itself.
        overlap: share of a window that the next one holds too, at least.

    Returns:
        (windows,) int64, from 0 to length - window_bp.
    """
    if length <= window_bp:
        return np.zeros(1, dtype=np.int64)
    room = length - window_bp
    count = -(-room // _stride(window_bp, overlap)) + 1
    count += room % 2 and count % 2  # a window in the middle would lie half a base off
    number = np.arange(count // 2 + count % 2, dtype=np.int64)
    front = (2 * number * room + count - 1) // (2 * (count - 1))  # rounded to the nearest base
    return np.concatenate((front, room - front[: count // 2][::-1]))


def blending_weights(length: int) -> np.ndarray:
    """(length,) float64: 1 at both ends of a window, growing by 1 a base to its middle.

    Where two windows overlap by half or less, one fades into the other linearly. The weights are integers, so that
    windows which agree exactly are blended exactly.
    """
    places = np.arange(1, length + 1, dtype=np.float64)
    return np.minimum(places, places[::-1])


class Blend:
    """Weighted mean of overlapping windows over a range of bases.

    Args:
        start, end: the range; what windows say of bases outside it is left out.
        n_elements: numbers a base.
    """

    def __init__(self, start: int, end: int, n_elements: int) -> None:
        self._start = start
        self._sums = np.zeros((end - start, n_elements))
        self._weights = np.zeros(end - start)

    def add(self, start: int, probabilities: np.ndarray, is_known: np.ndarray) -> None:
        """Add a window.

        Args:
            start: where it begins.
            probabilities: (bases, elements).
            is_known: (bases,) bool; other bases are left out.
        """
        end = start + len(probabilities)
        low, high = max(start, self._start), min(end, self._start + len(self._weights))
        if low >= high:
            return
        inside, here = slice(low - start, high - start), slice(low - self._start, high - self._start)
        known = is_known[inside]
        weights = blending_weights(len(probabilities))[inside] * known
        values = np.where(known[:, None], probabilities[inside], 0)
        self._sums[here] += weights[:, None] * values
        self._weights[here] += weights

    def probabilities(self) -> np.ndarray:
        """(bases, elements) float32, NaN where no window knew the base."""
        weights = np.where(self._weights > 0, self._weights, np.nan)
        blended = np.empty(self._sums.shape, dtype=np.float32)
        return np.divide(self._sums, weights[:, None], out=blended, casting="same_kind")  # divided in float64


def blocks_of(
    stretches: Iterable[Stretch], window_bp: int, overlap: float, *, batch_size: int
) -> Iterator[list[Piece]]:
    """Cut stretches into blocks that can each be segmented alone, in any order.

    A window across the border of two blocks goes through the model for each of them. A block holds windows for about
    `BLOCK_BP` bases, in full batches where it can.

    Args:
        stretches: in the order of the genome.
        window_bp, overlap: as `window_starts`.
        batch_size: windows that go through the model together.

    Yields:
        The pieces of each block; over all blocks, each base of each stretch lies in one piece.
    """
    windows_a_block = batch_size * max(1, round(BLOCK_BP / _stride(window_bp, overlap) / batch_size))
    block: list[Piece] = []
    n_windows = 0
    for stretch in stretches:
        for piece in _pieces(stretch, window_bp, overlap, windows_a_block):
            if block and n_windows + len(piece.windows) > windows_a_block:
                yield block
                block, n_windows = [], 0
            block.append(piece)
            n_windows += len(piece.windows)
    if block:
        yield block


def count_tokens(sequence: bytes, kmer_size: int) -> int:
    """Tokens of a sequence, <cls> included: k-mers, a letter each for what is left over before each N and at the end,
    and each N."""
    runs = [len(run) for run in sequence.split(b"N")]
    return len(runs) + sum(run // kmer_size + run % kmer_size for run in runs)


def cut_to_tokens(sequence: bytes, most_tokens: int, kmer_size: int, overlap: float) -> list[tuple[int, int]]:
    """Cut a window that has too many tokens into shorter overlapping ones, symmetrically.

    Args:
        sequence: the window's bases.
        most_tokens: <cls> included.
        kmer_size: bases of a k-mer token.
        overlap: as `window_starts`.

    Returns:
        (start, end) within the window, in order; the whole window where it has no more tokens than that.
    """
    if len(sequence) == 1 or count_tokens(sequence, kmer_size) <= most_tokens:
        return [(0, len(sequence))]
    half = -(-len(sequence) // 2)
    found = []
    for start in window_starts(len(sequence), half, overlap).tolist():
        parts = cut_to_tokens(sequence[start : start + half], most_tokens, kmer_size, overlap)
        found += [(start + first, start + last) for first, last in parts]
    return found


def _stride(window_bp: int, overlap: float) -> int:
    return max(1, round(window_bp * (1 - overlap)))


def _pieces(stretch: Stretch, window_bp: int, overlap: float, windows_a_block: int) -> Iterator[Piece]:
    """A stretch cut where windows begin, so that each piece needs about `windows_a_block` windows."""
    length = stretch.end - stretch.start
    starts = window_starts(length, window_bp, overlap) + stretch.start
    ends = starts + min(window_bp, length)
    first = 0
    while first < len(starts):
        start = int(starts[first])
        reaching = int(np.searchsorted(ends, start, side="right"))  # the first window with bases behind the border
        behind = min(max(first + 1, reaching + windows_a_block), len(starts))
        end = stretch.end if behind == len(starts) else int(starts[behind])
        windows = zip(starts[reaching:behind].tolist(), ends[reaching:behind].tolist(), strict=True)
        yield Piece(stretch.contig, start, end, tuple(windows))
        first = behind
