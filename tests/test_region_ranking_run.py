"""The average over batches, places of the padding, and strands, with scores that can be counted by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.pipelines.region_ranking_run import ScoreSettings, score_sequences
from omics_transformers.pipelines.region_tokens import TokenLimit

LIMIT = TokenLimit(51, 6)


def settings(**changes: object) -> ScoreSettings:
    return ScoreSettings(LIMIT, None, None, 1, False, 3)._replace(**changes)


@given(st.lists(st.text("ACGTN", min_size=1, max_size=30).map(str.encode), max_size=12), st.integers(1, 5))
def test_each_sequence_has_its_own_score(sequences: list[bytes], batch_size: int) -> None:
    seen: list[int] = []

    def predict(batch: Sequence[bytes], share: float, cell_type: int | None) -> np.ndarray:
        assert len(batch) <= batch_size and share == 0 and cell_type is None
        return np.float32([one.count(b"G") for one in batch])

    found = score_sequences(sequences, predict, settings(batch_size=batch_size), advance=seen.append)
    assert found.dtype == np.float32 and found.tolist() == [one.count(b"G") for one in sequences]
    assert sum(seen) == len(sequences)


def test_lengths_are_batched_together() -> None:
    spans = []

    def predict(batch: Sequence[bytes], share: float, cell_type: int | None) -> np.ndarray:
        spans.append(np.ptp([len(one) for one in batch]))
        return np.zeros(len(batch), dtype=np.float32)

    score_sequences([b"A" * (1 + 7 * number % 12) for number in range(12)], predict, settings(batch_size=4))
    assert spans == [3, 3, 3]


@pytest.mark.parametrize("both", [False, True])
def test_strands_and_places_of_the_padding_are_averaged(both: bool) -> None:
    def predict(batch: Sequence[bytes], share: float, cell_type: int | None) -> np.ndarray:
        assert cell_type == 2
        return np.float32([100 * share + one.startswith(b"AAC") for one in batch])

    chosen = settings(padding_draws=3, reverse_complement=both, cell_type_id=2)
    found = score_sequences([b"AACGT", b"ACGTT", b"CCCCC"], predict, chosen)
    expected = np.array([0.5, 0.5, 0.0]) if both else np.array([1.0, 0.0, 0.0])  # ACGTT is the reverse of AACGT
    np.testing.assert_allclose(found, 50 + expected)
