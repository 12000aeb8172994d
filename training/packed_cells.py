"""Batches of masked cells without padding: the cells of a batch end to end in one row.

The keys are those of transformers' `DataCollatorWithFlattening`, which FlashAttention's variable-length path takes.
Deviation: labels are masked genes, as in the padded batch of the same cells, and arrays are made without a loop over
tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from .cell_block import Cell, CellBlock
from .collators import IGNORED_LABEL, MaskedGeneCollator


@dataclass
class PackedGeneCollator(MaskedGeneCollator):
    """Lays cells end to end, and masks the very genes that `MaskedGeneCollator` masks; its fields are the same.

    Raises:
        ValueError: as `MaskedGeneCollator`, and with `pad_to_multiple_of`: here nothing is padded.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pad_to_multiple_of is not None:
            raise ValueError(
                f"pad_to_multiple_of is {self.pad_to_multiple_of}, and packed batches have no padding: leave it out, "
                "or train on padded batches"
            )

    def __call__(self, features: CellBlock | Sequence[Cell | Mapping[str, Any]]) -> dict[str, Any]:
        """Cells to tensors.

        Returns:
            `input_ids`, `position_ids` (from 0 in each cell) and `labels`, (1, tokens) int64; `cu_seq_lens_q` and
            `cu_seq_lens_k`, both (cells + 1,) int32, where cells begin, and the end; `max_length_q` and `max_length_k`,
            Python integers, the longest cell; and what the fields ask for, shaped as `input_ids`.
        """
        block = CellBlock.of(features)
        masked = self._masked(block)
        input_ids, labels = masked.tokens[None], np.full((1, len(masked.tokens)), IGNORED_LABEL)
        labels[0, masked.places] = masked.targets
        position_ids = np.arange(len(masked.tokens)) - np.repeat(block.ends - block.lengths, block.lengths)
        boundaries = torch.from_numpy(np.concatenate([[0], block.ends]).astype(np.int32))
        longest = int(block.lengths.max(initial=0))
        batch: dict[str, Any] = {
            "input_ids": torch.from_numpy(input_ids),
            "position_ids": torch.from_numpy(position_ids[None]),
            "labels": torch.from_numpy(labels),
            "cu_seq_lens_q": boundaries,
            "cu_seq_lens_k": boundaries,
            "max_length_q": longest,
            "max_length_k": longest,
        }
        if self.precompute_places:
            batch |= self._places(input_ids, masked.places)
        if self.donor_variants is not None:
            donors = np.repeat(block.donors, block.lengths)[None]
            batch |= self._variants(self.donor_variants, donors, input_ids)
        return batch

    def padded(self) -> MaskedGeneCollator:
        """The collator of padded batches with the same masks, e.g. for an evaluation cell by cell."""
        return MaskedGeneCollator(**{field.name: getattr(self, field.name) for field in fields(self)})
