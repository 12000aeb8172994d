"""Sequences through a region ranker: each by itself, from each place of the padding and each strand, averaged.

Sequences of about one length go together: padding behind the longest of a batch is not computed.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from .region_tokens import TokenLimit, padding_shares
from .segmentation_input import reverse_complement

Predict = Callable[[Sequence[bytes], float, int | None], np.ndarray]
Score = Callable[[Sequence[bytes]], np.ndarray]


class ScoreSettings(NamedTuple):
    """How sequences are scored.

    Attributes:
        limit: what the model takes.
        cell_type: name, where the model's scores depend on it.
        cell_type_id: its number.
        padding_draws: places of the padding whose scores are averaged; 1: at the end.
        reverse_complement: average with the other strand's score.
        batch_size: sequences that go through the model together.
    """

    limit: TokenLimit
    cell_type: str | None
    cell_type_id: int | None
    padding_draws: int
    reverse_complement: bool
    batch_size: int


def score_sequences(
    sequences: Sequence[bytes],
    predict: Predict,
    settings: ScoreSettings,
    *,
    advance: Callable[[int], object] = lambda n_sequences: None,  # noqa: ARG005
) -> np.ndarray:
    """Score each sequence.

    Args:
        sequences: upper-case ACGTN, each within the model's limit.
        predict: sequences, share of the padding in front, number of the cell type -> (sequences,) float32.
        settings: as above.
        advance: is told after each batch how many sequences it had.

    Returns:
        (sequences,) float32.
    """
    strands = [False, True] if settings.reverse_complement else [False]
    views = list(product(padding_shares(settings.padding_draws), strands))
    scores = np.zeros(len(sequences))
    order = np.argsort([len(sequence) for sequence in sequences], kind="stable")
    for first in range(0, len(sequences), settings.batch_size):
        chosen = order[first : first + settings.batch_size]
        batch = [sequences[number] for number in chosen]
        for share, is_reverse in views:
            read = [reverse_complement(sequence) for sequence in batch] if is_reverse else batch
            scores[chosen] += predict(read, share, settings.cell_type_id)
        advance(len(batch))
    return (scores / len(views)).astype(np.float32)
