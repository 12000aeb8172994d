"""Blocks of windows through a model that answers from the bases alone, so that the right answer is known."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.pipelines import segmentation_windows
from omics_transformers.pipelines.segmentation_input import Region, Sequences, reverse_complement, scan_region
from omics_transformers.pipelines.segmentation_run import WindowProbabilities, WindowSettings, segment_block
from omics_transformers.pipelines.segmentation_windows import blocks_of, count_tokens

DNA = st.lists(st.sampled_from(["A", "C", "G", "T", "ACGTTGCA", "N", "N" * 14]), min_size=1, max_size=80).map("".join)


class Answers:
    """Probability of the first element: the base's own number; of the second: its place within the window."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []

    def __call__(self, sequences: Sequence[bytes]) -> WindowProbabilities:
        self.batches.append(list(sequences))
        longest = max(map(len, sequences))
        probabilities = np.full((len(sequences), longest, 2), 0.99, dtype=np.float32)  # wrong behind the ends
        is_known = np.zeros((len(sequences), longest), dtype=bool)
        for number, sequence in enumerate(sequences):
            letters = np.frombuffer(sequence, dtype=np.uint8)
            probabilities[number, : len(letters), 0] = letters / 256
            probabilities[number, : len(letters), 1] = np.arange(len(letters)) / 1_000
            is_known[number, : len(letters)] = letters != ord("N")
        return WindowProbabilities(probabilities, is_known)


def settings_of(**changes: object) -> WindowSettings:
    settings = {"window_bp": 30, "overlap": 0.5, "batch_size": 4, "reverse_complement": False, "split_at_n": 12}
    return WindowSettings(**{**settings, "most_tokens": 12, "kmer_size": 6, **changes})  # type: ignore[arg-type]


def run(sequence: str, settings: WindowSettings, answers: Answers) -> np.ndarray:
    genome = Sequences({"s": sequence})
    stretches = scan_region(genome, Region("s", 0, len(sequence)), split_at_n=settings.split_at_n).stretches
    found = np.full((len(sequence), 2), np.nan, dtype=np.float32)
    for block in blocks_of(stretches, settings.window_bp, settings.overlap, batch_size=settings.batch_size):
        for piece, part in zip(block, segment_block(block, genome, answers, settings, 2), strict=True):
            found[piece.start : piece.end] = part
    return found


@given(DNA, st.integers(6, 60), st.floats(0, 0.9), st.integers(1, 5), st.integers(20, 200))
def test_each_base_gets_its_own_answer(
    sequence: str, window_bp: int, overlap: float, batch_size: int, block_bp: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation_windows, "BLOCK_BP", block_bp)
        answers = Answers()
        found = run(sequence, settings_of(window_bp=window_bp, overlap=overlap, batch_size=batch_size), answers)
    letters = np.frombuffer(sequence.encode(), dtype=np.uint8)
    expected = np.where(letters == ord("N"), np.nan, letters / 256).astype(np.float32)
    np.testing.assert_array_equal(found[:, 0], expected)
    assert all(len(batch) <= batch_size for batch in answers.batches)
    assert all(count_tokens(window, 6) <= 12 for batch in answers.batches for window in batch)


@given(DNA, st.integers(6, 60), st.floats(0, 0.9))
def test_the_blocks_borders_do_not_matter(sequence: str, window_bp: int, overlap: float) -> None:
    settings = settings_of(window_bp=window_bp, overlap=overlap)
    whole = run(sequence, settings, Answers())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation_windows, "BLOCK_BP", 1)
        np.testing.assert_allclose(run(sequence, settings, Answers()), whole, rtol=1e-6)


@given(DNA, st.integers(6, 60), st.floats(0, 0.9))
def test_both_strands_averaged_are_the_same_from_either_end(sequence: str, window_bp: int, overlap: float) -> None:
    settings = settings_of(window_bp=window_bp, overlap=overlap, reverse_complement=True)
    forward = run(sequence, settings, Answers())
    backward = run(reverse_complement(sequence.encode()).decode(), settings, Answers())
    np.testing.assert_allclose(forward, backward[::-1], rtol=1e-5)


def test_both_strands_are_averaged_base_by_base() -> None:
    answers = Answers()
    found = run("AACNG", settings_of(reverse_complement=True), answers)
    assert answers.batches == [[b"AACNG"], [b"CNGTT"]]
    letters = (np.array([65 + 84, 65 + 84, 67 + 71, np.nan, 71 + 67]) / 512).astype(np.float32)
    places = (np.array([0 + 4, 1 + 3, 2 + 2, np.nan, 4 + 0]) / 2_000).astype(np.float32)
    np.testing.assert_array_equal(found, np.column_stack((letters, places)))


def test_equal_windows_share_a_batch() -> None:
    answers = Answers()
    sequence = ("ACGTAC" * 10 + "N" * 12 + "ACGTTT" + "N" * 12) * 6
    run(sequence, settings_of(most_tokens=100), answers)
    lengths = [[len(window) for window in batch] for batch in answers.batches]
    assert sum(len(set(batch)) > 1 for batch in lengths) <= 1
    assert sorted(length for batch in lengths for length in batch) == [6] * 6 + [30] * 18
