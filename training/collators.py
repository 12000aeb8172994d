"""Batches of masked cells: padding, masks and donors' DNA.

Source: "Multi-modal single-cell foundation models via dynamic token adaptation", section "Model architecture and
training", with BERT's masking (Devlin et al. 2019): of the masked 15 %, 80 % become <mask>, 10 % another token and 10 %
stay. Deviations: another token is always a gene, never a special token; and what is masked is a hash of seed, epoch,
cell and position in place of a random number generator's state, so that it depends on neither the batch, the number of
processes or data loader workers, nor on whether the run was stopped and resumed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from .cell_block import NO_DONOR, Cell, CellBlock
from .hashed_randomness import hashed, uniform

__all__ = ["IGNORED_LABEL", "NO_DONOR", "Cell", "DonorVariants", "MaskedGeneCollator"]

IGNORED_LABEL = -100  # transformers' own


@dataclass
class DonorVariants:
    """DNA features of the donors' promoters, for the collator.

    Attributes:
        rows: (donors, vocabulary) int32, the row of `features` that a donor has at a token; -1 for the reference.
        features: (variants, dna_feature_size) float32.
    """

    rows: npt.NDArray[np.int32]
    features: torch.Tensor

    def __post_init__(self) -> None:
        if len(self.rows) and self.rows.max(initial=-1) >= len(self.features):
            raise ValueError(f"rows reach {self.rows.max()}, and there are {len(self.features)} rows of features")
        # A last row that is the reference everywhere answers for donor -1.
        self._rows = np.concatenate([self.rows, np.full((1, self.rows.shape[1]), -1, dtype=np.int32)])

    def rows_of(self, donors: npt.NDArray[np.int64], input_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(..., genes) donors of tokens, and the tokens -> (..., genes) rows of `features`, -1 for the reference."""
        return self._rows[donors, input_ids].astype(np.int64)


class MaskedCells(NamedTuple):
    """Cells after masking, one after the other.

    Attributes:
        tokens: (tokens,) int64 as the model sees them.
        lengths: (cells,) int64.
        places: (masked tokens,) int64 where in `tokens` they are, ascending.
        targets: (masked tokens,) int64 what they were.
        cell_of_place: (masked tokens,) int64.
    """

    tokens: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    cell_of_place: npt.NDArray[np.int64]


@dataclass
class MaskedGeneCollator:
    """Pads cells to the longest of the batch, and masks genes; special tokens are never masked.

    Attributes:
        vocab_size: number of tokens, special ones included.
        num_special_tokens: how many ids at the start are special.
        mlm_probability: share of the genes that is masked.
        mask_replace_prob: share of those that becomes <mask>.
        random_replace_prob: share of those that becomes a random gene; the rest stays as it is.
        mask_at_least_one: mask one gene, at random, in a cell where chance would mask none.
        pad_to_multiple_of: round the padded length up to a multiple.
        pad_token_id, mask_token_id: ids of <pad> and <mask>.
        seed: seed of the masks.
        donor_variants: adds `variant_ids` and `variant_features` to the batch. A donor's DNA is looked up for the
            tokens as the model sees them, so a masked gene's DNA cannot leak.
        gather_variants: hand over only the rows of features that the batch needs. Without, `variant_features` is the
            whole table, which costs nothing where it is already in the memory that the model computes in.
        precompute_places: add what a model would else find out with data-dependent shapes, which GPUs wait for and
            compilers break at: `masked_positions` (masked tokens,), places of labels in the flattened batch, ascending;
            `distinct_token_ids` (distinct tokens,), ascending; and `token_places`, shaped as `input_ids`, such that
            `distinct_token_ids[token_places]` is `input_ids`.

    Raises:
        ValueError: where a share is not one, or where a token is outside the vocabulary.
    """

    vocab_size: int
    num_special_tokens: int = 2
    mlm_probability: float = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1
    mask_at_least_one: bool = True
    pad_to_multiple_of: int | None = None
    pad_token_id: int = 0
    mask_token_id: int = 1
    seed: int = 0
    donor_variants: DonorVariants | None = None
    gather_variants: bool = True
    precompute_places: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.mlm_probability <= 1:
            raise ValueError(
                f"mlm_probability is {self.mlm_probability}: the share of masked genes is above 0, up to 1"
            )
        if min(self.mask_replace_prob, self.random_replace_prob) < 0 or (
            self.mask_replace_prob + self.random_replace_prob > 1 + 1e-9
        ):
            raise ValueError(
                f"mask_replace_prob is {self.mask_replace_prob} and random_replace_prob {self.random_replace_prob}: "
                "neither is below 0, nor their sum above 1"
            )

    def __call__(self, features: CellBlock | Sequence[Cell | Mapping[str, Any]]) -> dict[str, Any]:
        """Cells to tensors: `input_ids`, `attention_mask`, `labels` (cells, genes) int64, and donors' variants."""
        block = CellBlock.of(features)
        masked = self._masked(block)
        shape = (len(block), self._padded_length(masked.lengths))
        filled = np.arange(shape[1]) < masked.lengths[:, None]  # (cells, genes)
        input_ids, labels = np.full(shape, self.pad_token_id), np.full(shape, IGNORED_LABEL)
        input_ids[filled] = masked.tokens
        starts = np.arange(len(block)) * shape[1]
        masked_positions = masked.places + (starts - (block.ends - block.lengths))[masked.cell_of_place]
        labels.ravel()[masked_positions] = masked.targets
        batch = {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(filled.astype(np.int64)),
            "labels": torch.from_numpy(labels),
        }
        if self.precompute_places:
            batch |= self._places(input_ids, masked_positions)
        if self.donor_variants is not None:
            batch |= self._variants(self.donor_variants, block.donors[:, None], input_ids)
        return batch

    def _masked(self, block: CellBlock) -> MaskedCells:
        self._check_tokens(block.tokens)
        starts = block.ends - block.lengths
        # Each token's position in its cell is added to the cell's key; unsigned integers wrap around.
        first_keys = np.repeat(_cell_keys(block, self.seed) - starts.astype(np.uint64), block.lengths)
        keys = hashed(first_keys + np.arange(len(block.tokens)).astype(np.uint64))
        is_gene = block.tokens >= self.num_special_tokens
        # uniform(keys) < mlm_probability, in integers.
        selected = (keys >> np.uint64(11)) < np.uint64(math.ceil(self.mlm_probability * 2.0**53))
        selected &= is_gene
        places, cell_of_place = _places_and_cells(selected, block.ends)
        if self.mask_at_least_one and np.bincount(cell_of_place, minlength=len(block)).min(initial=1) == 0:
            draw = np.where(is_gene, uniform(keys), np.inf)
            selected |= self._lowest_of_cells_without(selected, draw, starts, block.lengths)
            places, cell_of_place = _places_and_cells(selected, block.ends)
        tokens = block.tokens.astype(np.int64)
        targets = tokens[places]
        tokens[places] = self._replacements(targets, hashed(keys[places]))
        return MaskedCells(tokens, block.lengths, places, targets, cell_of_place)

    def _check_tokens(self, tokens: npt.NDArray[np.integer[Any]]) -> None:
        if len(tokens) and (tokens.max() >= self.vocab_size or tokens.min() < 0):
            raise ValueError(
                f"cells hold the token ids {tokens.min()} to {tokens.max():,}, and the vocabulary has "
                f"{self.vocab_size:,}: cells and vocabulary must come from the same token dictionary"
            )

    def _lowest_of_cells_without(
        self,
        selected: npt.NDArray[np.bool_],
        draw: npt.NDArray[np.float64],
        starts: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.bool_]:
        """Where the lowest draw of each cell is that has genes and none selected: (tokens,)."""
        if not len(draw):
            return selected
        full = lengths > 0
        lowest = np.full(len(lengths), np.inf)
        lowest[full] = np.minimum.reduceat(draw, starts[full])
        lowest[lowest < self.mlm_probability] = np.inf
        return (draw == np.repeat(lowest, lengths)) & np.isfinite(draw)

    def _replacements(self, tokens: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """What the model sees in place of masked tokens."""
        draw = uniform(keys)
        genes = self.vocab_size - self.num_special_tokens
        random_genes = (hashed(keys) % np.uint64(genes)).astype(np.int64) + self.num_special_tokens
        kept_or_random = np.where(draw < self.mask_replace_prob + self.random_replace_prob, random_genes, tokens)
        return np.where(draw < self.mask_replace_prob, self.mask_token_id, kept_or_random)

    def _places(
        self, input_ids: npt.NDArray[np.int64], masked_positions: npt.NDArray[np.int64]
    ) -> dict[str, torch.Tensor]:
        present = np.zeros(self.vocab_size, dtype=bool)
        present[input_ids] = True
        return {
            "masked_positions": torch.from_numpy(masked_positions),
            "distinct_token_ids": torch.from_numpy(np.flatnonzero(present)),
            "token_places": torch.from_numpy((present.cumsum() - 1)[input_ids]),
        }

    def _variants(
        self, variants: DonorVariants, donors: npt.NDArray[np.int64], input_ids: npt.NDArray[np.int64]
    ) -> dict[str, torch.Tensor]:
        """`donors` broadcast to `input_ids`."""
        rows = variants.rows_of(donors, input_ids)
        if not self.gather_variants:
            return {"variant_ids": torch.from_numpy(rows), "variant_features": variants.features}
        differs = rows >= 0
        distinct, rows[differs] = np.unique(rows[differs], return_inverse=True)
        return {
            "variant_ids": torch.from_numpy(rows),
            "variant_features": variants.features[torch.from_numpy(distinct)],
        }

    def _padded_length(self, lengths: npt.NDArray[np.int64]) -> int:
        multiple = self.pad_to_multiple_of or 1
        return -(-int(lengths.max()) // multiple) * multiple


def _places_and_cells(
    selected: npt.NDArray[np.bool_], ends: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(tokens,) which are selected, and (cells,) where cells end -> (selected,) their places and their cells."""
    places = np.flatnonzero(selected)
    return places, np.searchsorted(ends, places, side="right")


def _cell_keys(block: CellBlock, seed: int) -> npt.NDArray[np.uint64]:
    """(cells,) what each cell's masks are hashed from; far apart, so that positions can be added to them."""
    if block.numbers is None:
        # torch's generator: seeded and saved by the Trainer, and another one in each data loader worker.
        return torch.randint(2**62, (len(block),)).numpy().astype(np.uint64)
    key = np.zeros(len(block), dtype=np.uint64)
    for column in (np.full(len(block), seed, dtype=np.int64), block.epochs, block.numbers):
        key = hashed(key ^ column.astype(np.uint64))
    return key
