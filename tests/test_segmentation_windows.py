"""Windows, stretches, blocks and blending: properties, and plain loops beside them."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.pipelines import segmentation_windows
from omics_transformers.pipelines.segmentation_windows import (
    Blend,
    Stretch,
    blending_weights,
    blocks_of,
    count_tokens,
    cut_to_tokens,
    find_stretches,
    window_starts,
)

lengths = st.integers(1, 3_000)
windows = st.integers(1, 400)
overlaps = st.floats(0, 0.95)
sequences = st.lists(st.text("AN", min_size=1, max_size=30), max_size=12).map(lambda parts: "".join(parts).encode())


@given(sequences, st.integers(1, 20), st.integers(1, 40), st.integers(0, 10**9))
def test_stretches_are_what_a_regular_expression_finds(
    sequence: bytes, split_at_n: int, chunk: int, start: int
) -> None:
    chunks = [sequence[first : first + chunk] for first in range(0, len(sequence), chunk)]
    found = list(find_stretches(chunks, "1", start, split_at_n=split_at_n))
    pattern = rf"A(?:A|N{{1,{split_at_n - 1}}}(?=A))*" if split_at_n > 1 else "A+"
    expected = [(start + part.start(), start + part.end()) for part in re.finditer(pattern, sequence.decode())]
    assert [(stretch.start, stretch.end) for stretch in found] == expected


@given(lengths, windows, overlaps)
def test_windows_cover_all_and_lie_symmetrically(length: int, window_bp: int, overlap: float) -> None:
    starts = window_starts(length, window_bp, overlap)
    size = min(window_bp, length)
    covered = np.zeros(length, dtype=int)
    for start in starts.tolist():
        covered[start : start + size] += 1
    assert covered.min() >= 1 and len(covered) == length
    assert starts[0] == 0 and starts[-1] == length - size
    np.testing.assert_array_equal(length - size - starts[::-1], starts)
    assert (np.diff(starts) <= max(1, round(window_bp * (1 - overlap)))).all()


@given(lengths, windows, overlaps)
def test_windows_are_no_more_than_needed(length: int, window_bp: int, overlap: float) -> None:
    needed = 1
    while (needed - 1) * max(1, round(window_bp * (1 - overlap))) + window_bp < length:
        needed += 1
    assert needed <= len(window_starts(length, window_bp, overlap)) <= needed + 1


def blended(length: int, window_bp: int, overlap: float, answers: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Each window answers with `answers` of its bases plus its own number times 0.01, as `plain_blend` does."""
    blend = Blend(0, length, answers.shape[1])
    for number, start in enumerate(window_starts(length, window_bp, overlap).tolist()):
        inside = slice(start, start + window_bp)
        blend.add(start, answers[inside] + np.float32(0.01 * number), known[inside])
    return blend.probabilities()


def plain_blend(length: int, window_bp: int, overlap: float, answers: np.ndarray, known: np.ndarray) -> np.ndarray:
    starts = window_starts(length, window_bp, overlap).tolist()
    size = min(window_bp, length)
    expected = np.full(answers.shape, np.nan)
    for base in range(length):
        total, weights = 0.0, 0
        for number, start in enumerate(starts):
            if start <= base < start + size and known[base]:
                weight = min(base - start + 1, start + size - base)
                total = total + weight * (answers[base] + np.float32(0.01 * number)).astype(float)
                weights += weight
        if weights:
            expected[base] = total / weights
    return expected


@pytest.mark.parity
@given(st.integers(1, 150), st.integers(1, 60), st.floats(0, 0.9), st.integers(0, 10**6))
def test_blend_equals_a_plain_weighted_mean(length: int, window_bp: int, overlap: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    answers = generator.random((length, 3), dtype=np.float32)
    known = generator.random(length) < 0.9
    found = blended(length, window_bp, overlap, answers, known)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain_blend(length, window_bp, overlap, answers, known), rtol=1e-6)


@given(lengths, windows, overlaps, st.floats(0, 1, width=32))
def test_a_constant_is_blended_to_itself_exactly(length: int, window_bp: int, overlap: float, constant: float) -> None:
    blend = Blend(0, length, 1)
    for start in window_starts(length, window_bp, overlap).tolist():
        size = min(window_bp, length)
        blend.add(start, np.full((size, 1), constant, np.float32), np.ones(size, dtype=bool))
    assert (blend.probabilities() == np.float32(constant)).all()


def test_weights_fall_off_evenly_to_both_ends() -> None:
    assert blending_weights(5).tolist() == [1, 2, 3, 2, 1]
    assert blending_weights(6).tolist() == [1, 2, 3, 3, 2, 1]
    # Two windows that overlap by half: the one fades out as the other fades in.
    assert (blending_weights(6)[3:] + blending_weights(6)[:3]).tolist() == [4, 4, 4]


def test_what_a_window_does_not_know_is_left_out() -> None:
    blend = Blend(10, 14, 1)
    blend.add(9, np.full((3, 1), 0.5, np.float32), np.array([True, True, False]))
    blend.add(12, np.full((5, 1), 0.25, np.float32), np.array([True, False, True, True, True]))
    np.testing.assert_array_equal(blend.probabilities()[:, 0], np.float32([0.5, np.nan, 0.25, np.nan]))
    blend.add(0, np.full((5, 1), 0.5, np.float32), np.ones(5, dtype=bool))  # all outside
    assert np.isnan(blend.probabilities()).sum() == 2


@given(st.lists(st.integers(1, 2_000), min_size=1, max_size=6), windows, overlaps, st.integers(1, 9))
def test_blocks_hold_each_base_once_and_all_windows_that_reach_it(
    sizes: list[int], window_bp: int, overlap: float, batch_size: int
) -> None:
    stretches, place = [], 0
    for size in sizes:
        stretches.append(Stretch("1", place, place + size))
        place += size + 20
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(segmentation_windows, "BLOCK_BP", 500)
        pieces = [piece for block in blocks_of(stretches, window_bp, overlap, batch_size=batch_size) for piece in block]
    bases = [base for piece in pieces for base in range(piece.start, piece.end)]
    assert bases == [base for stretch in stretches for base in range(stretch.start, stretch.end)]
    every = [
        (stretch.start + start, stretch.start + start + min(window_bp, stretch.end - stretch.start))
        for stretch in stretches
        for start in window_starts(stretch.end - stretch.start, window_bp, overlap).tolist()
    ]
    for piece in pieces:
        reaching = [(start, end) for start, end in every if start < piece.end and end > piece.start]
        assert list(piece.windows) == reaching


def test_blocks_are_of_full_batches() -> None:
    blocks = list(blocks_of([Stretch("1", 0, 10_000_000)], 30_000, 0.5, batch_size=8))
    assert {sum(len(piece.windows) for piece in block) for block in blocks[:-1]} == {32}
    assert len(blocks) > 10


def test_short_stretches_share_a_block() -> None:
    stretches = [Stretch(str(number), 0, 50) for number in range(20)]
    blocks = list(blocks_of(stretches, 30_000, 0.5, batch_size=8))
    assert [len(block) for block in blocks] == [20]


@given(st.text("ACGTN", max_size=300), st.integers(1, 6))
def test_tokens_are_counted_as_a_plain_tokenizer_makes_them(sequence: str, kmer_size: int) -> None:
    tokens, rest = 1, sequence
    while rest:
        step = kmer_size if len(rest) >= kmer_size and "N" not in rest[:kmer_size] else 1
        tokens, rest = tokens + 1, rest[step:]
    # A k-mer is not begun after a letter: within a run of known bases letters come at its end only.
    assert count_tokens(sequence.encode(), kmer_size) == tokens


@given(st.text("ACGTN", min_size=1, max_size=400), st.integers(8, 80), st.floats(0, 0.9))
def test_windows_with_too_many_tokens_are_cut(sequence: str, most_tokens: int, overlap: float) -> None:
    bases = sequence.encode()
    parts = cut_to_tokens(bases, most_tokens, 6, overlap)
    assert all(count_tokens(bases[start:end], 6) <= most_tokens for start, end in parts)
    assert {base for start, end in parts for base in range(start, end)} == set(range(len(bases)))
    mirrored = cut_to_tokens(bases[::-1], most_tokens, 6, overlap)
    assert sorted((len(bases) - end, len(bases) - start) for start, end in mirrored) == sorted(parts)
    if count_tokens(bases, 6) <= most_tokens:
        assert parts == [(0, len(bases))]
