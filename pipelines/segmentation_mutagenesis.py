"""Which bases a SegmentNT's answer rests on: every base changed to the three others, in silico.

Each change replaces the one token that holds the base, so all other k-mers stay as they were cut. There is no estimate
from gradients: a change of one base puts another token's embedding in place of the whole one, too long a step for it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from .segmentation_target import (
    EncodedSequence,
    SegmentationTarget,
    TargetFunction,
    batches,
    encode_sequence,
    evaluating,
)

if TYPE_CHECKING:
    import pandas as pd

BASES = "ACGT"


@dataclass(frozen=True)
class Mutagenesis:
    """Effects of all single changes of the bases [start, end).

    Attributes:
        sequence: all of it, ACGTN.
        target: what is explained.
        start, end: bases of the sequence that were changed, 0-based, half-open.
        effects: (end - start, 4) float64, target with the base changed to A, C, G, T less target without; 0 at the base
            that is there, NaN where that is N.
        target_value: the target without a change.
    """

    sequence: str
    target: SegmentationTarget
    start: int
    end: int
    effects: np.ndarray
    target_value: float

    @property
    def importance(self) -> np.ndarray:
        """(end - start,) minus the mean effect of the three changes: positive where the base supports the target."""
        return -self.effects.sum(1) / 3

    def table(self) -> "pd.DataFrame":
        """One row a base: position, base, importance, and the effects of A, C, G, T."""
        import pandas as pd

        table = pd.DataFrame(
            {
                "position": np.arange(self.start, self.end),
                "base": list(self.sequence[self.start : self.end]),
                "importance": self.importance,
            }
        )
        return table.assign(**{f"effect_{base}": self.effects[:, column] for column, base in enumerate(BASES)})


def saturation_mutagenesis(
    model: Any,
    tokenizer: Any,
    sequence: str | bytes,
    *,
    target: SegmentationTarget,
    start: int,
    end: int,
    batch_size: int = 16,
    progress: bool = False,
) -> Mutagenesis:
    """Change each base of [start, end) to the three others: 3 (end - start) forward passes.

    Args:
        model: SegmentNTForTokenClassification.
        tokenizer: its own.
        sequence: ACGTN.
        target: element, bases and quantity to explain.
        start, end: bases to change, 0-based, half-open. N are left alone.
        batch_size: changed sequences that go through the model together.
        progress: show a progress bar.

    Raises:
        ValueError: on bases or a target outside the sequence, or an unknown element.
    """
    encoded, changes = _prepare(model, tokenizer, sequence, target, start, end)
    function = TargetFunction(model, target)
    effects = _no_effects(encoded, start, end)
    with evaluating(model), torch.inference_mode():
        value = float(function.of_tokens(encoded.input_ids))
        with tqdm(total=len(changes.rows), unit="change", disable=not progress) as bar:
            for numbers in batches(range(len(changes.rows)), batch_size):
                chosen = np.array(numbers)
                changed = encoded.input_ids.repeat(len(chosen), 1)
                places = torch.as_tensor(changes.tokens[chosen])
                changed[torch.arange(len(chosen)), places] = torch.as_tensor(changes.ids[chosen]).to(changed)
                values = function.of_tokens(changed).double().cpu().numpy()
                effects[changes.rows[chosen], changes.columns[chosen]] = values - value
                bar.update(len(chosen))
    return Mutagenesis(encoded.sequence, target, start, end, effects, value)


class _Changes(NamedTuple):
    """One entry a change: row and column among the effects, the token that holds the base, its id when changed."""

    rows: np.ndarray
    columns: np.ndarray
    tokens: np.ndarray
    ids: np.ndarray


def _prepare(
    model: Any, tokenizer: Any, sequence: str | bytes, target: SegmentationTarget, start: int, end: int
) -> tuple[EncodedSequence, _Changes]:
    encoded = encode_sequence(model, tokenizer, sequence)
    target.check(encoded.sequence)
    if not 0 <= start < end <= len(encoded.sequence):
        raise ValueError(
            f"bases {start:,}-{end:,} were to be changed, in a sequence of {len(encoded.sequence):,}: expected "
            "0 <= start < end <= length"
        )
    return encoded, _all_changes(encoded, tokenizer, start, end)


def _all_changes(encoded: EncodedSequence, tokenizer: Any, start: int, end: int) -> _Changes:
    rows, columns, tokens, letters = [], [], [], []
    for token in encoded.tokens_within(start, end).tolist():
        first, last = encoded.spans[token].tolist()
        for position in range(max(first, start), min(last, end)):
            there = encoded.sequence[position]
            for column, base in enumerate(BASES):
                if there in BASES and base != there:
                    rows.append(position - start)
                    columns.append(column)
                    tokens.append(token)
                    letters.append(encoded.sequence[first:position] + base + encoded.sequence[position + 1 : last])
    ids = tokenizer.encode_batch_bases(letters)["input_ids"][:, 1] if letters else []  # behind <cls>
    return _Changes(*(np.array(values, dtype=np.int64) for values in (rows, columns, tokens, ids)))


def _no_effects(encoded: EncodedSequence, start: int, end: int) -> np.ndarray:
    """(end - start, 4) zeros, NaN at N."""
    is_unknown = np.array([base == "N" for base in encoded.sequence[start:end]])
    return np.where(is_unknown[:, None], np.nan, np.zeros((end - start, 4)))
