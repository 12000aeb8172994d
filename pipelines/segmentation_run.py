"""One block of windows through the model, blended to a probability a base.

The reverse complement, where asked for, goes through the model too: its probabilities are read backwards and averaged
with the forward ones. The published elements carry no strand, so both strands answer the same question; for elements
that do (a splice donor of the plus strand only) the average would mix two answers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .segmentation_input import GenomeLike, reverse_complement
from .segmentation_windows import Blend, Piece, count_tokens, cut_to_tokens


class WindowProbabilities(NamedTuple):
    """What the model says of a batch of windows.

    Attributes:
        probabilities: (windows, bases of the longest, elements) float32.
        is_known: (windows, bases) bool, False at N and behind a window's end.
    """

    probabilities: np.ndarray
    is_known: np.ndarray


Predict = Callable[[Sequence[bytes]], WindowProbabilities]


@dataclass(frozen=True)
class WindowSettings:
    """How windows are laid and run.

    Attributes:
        window_bp: length of a window.
        overlap: share of a window that the next one holds too, at least.
        batch_size: windows that go through the model together.
        reverse_complement: average with the reverse complement.
        split_at_n: runs of N this long or longer part a sequence into stretches.
        most_tokens: the model's limit; windows that exceed it, by N, are cut shorter.
        kmer_size: bases of a k-mer token.
    """

    window_bp: int
    overlap: float
    batch_size: int
    reverse_complement: bool
    split_at_n: int
    most_tokens: int
    kmer_size: int


class _Window(NamedTuple):
    piece: int
    start: int
    bases: bytes


def segment_block(
    block: Sequence[Piece], genome: GenomeLike, predict: Predict, settings: WindowSettings, n_elements: int
) -> list[np.ndarray]:
    """Probabilities of all pieces of a block.

    Args:
        block: as `blocks_of` yields it.
        genome: that holds the pieces.
        predict: upper-case ACGTN sequences -> probabilities.
        settings: as the block was made with.
        n_elements: numbers a base.

    Returns:
        One (bases, elements) float32 a piece, NaN at N.
    """
    blends = [Blend(piece.start, piece.end, n_elements) for piece in block]
    for batch in _batches(block, genome, settings):
        answers = _predict_batch([window.bases for window in batch], predict, settings.reverse_complement)
        for window, probabilities, is_known in zip(batch, *answers, strict=True):
            n_bases = len(window.bases)
            blends[window.piece].add(window.start, probabilities[:n_bases], is_known[:n_bases])
    return [blend.probabilities() for blend in blends]


def _batches(block: Sequence[Piece], genome: GenomeLike, settings: WindowSettings) -> Iterator[list[_Window]]:
    """Windows with equally many tokens together, so that there is next to no padding."""
    windows = [window for number, piece in enumerate(block) for window in _windows(number, piece, genome, settings)]
    windows.sort(key=lambda window: count_tokens(window.bases, settings.kmer_size))
    for first in range(0, len(windows), settings.batch_size):
        yield windows[first : first + settings.batch_size]


def _windows(number: int, piece: Piece, genome: GenomeLike, settings: WindowSettings) -> Iterator[_Window]:
    begin, end = piece.windows[0][0], piece.windows[-1][1]
    bases = genome.fetch(piece.contig, begin, end)
    for start, stop in piece.windows:
        window = bases[start - begin : stop - begin]
        for first, last in cut_to_tokens(window, settings.most_tokens, settings.kmer_size, settings.overlap):
            yield _Window(number, start + first, window[first:last])


def _predict_batch(sequences: list[bytes], predict: Predict, both_strands: bool) -> WindowProbabilities:
    forward = predict(sequences)
    if not both_strands:
        return forward
    backward = predict([reverse_complement(sequence) for sequence in sequences])
    probabilities = forward.probabilities.copy()
    for number, sequence in enumerate(sequences):
        n_bases = len(sequence)
        probabilities[number, :n_bases] += backward.probabilities[number, :n_bases][::-1]
    return WindowProbabilities(probabilities / 2, forward.is_known)
