"""Batches of masked cells: padding, masks and donors' DNA.

Source: "Multi-modal single-cell foundation models via dynamic token adaptation", section "Model architecture and
training", with BERT's masking (Devlin et al. 2019): of the masked 15 %, 80 % become <mask>, 10 % another token and 10 %
stay. Deviations: another token is always a gene, never a special token; and what is masked is a hash of seed, epoch,
cell and position in place of a random number generator's state, so that it depends on neither the batch, the number of
processes or data loader workers, nor on whether the run was stopped and resumed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from .hashed_randomness import hashed, uniform

NO_DONOR = -1
IGNORED_LABEL = -100  # transformers' own


class Cell(NamedTuple):
    """What a data set hands to the collator for one cell; the fields' names are the columns' names elsewhere.

    Attributes:
        input_ids: (genes,) token ids of any integer dtype.
        number: the cell's number in its data set, on which its masks depend; None for masks drawn from torch's global
            generator.
        epoch: another epoch, other masks.
        donor: row of the donors' table; -1 for the reference genome.
    """

    input_ids: npt.ArrayLike
    number: int | None = None
    epoch: int = 0
    donor: int = NO_DONOR


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
        """(cells,) donors and (cells, genes) tokens -> (cells, genes) rows of `features`, -1 for the reference."""
        return self._rows[donors[:, None], input_ids].astype(np.int64)


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

    def __call__(self, features: Sequence[Cell | Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Cells to tensors: `input_ids`, `attention_mask`, `labels` (cells, genes) int64, and donors' variants."""
        cells = [cell if isinstance(cell, Cell) else _cell_of_columns(cell) for cell in features]
        tokens, lengths = self._flattened(cells)
        masked, labels = self._mask(tokens, lengths, _cell_keys(cells, self.seed))
        filled = np.arange(self._padded_length(lengths)) < lengths[:, None]  # (cells, genes)
        input_ids = _filled(filled, masked, self.pad_token_id)
        batch = {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(filled.astype(np.int64)),
            "labels": torch.from_numpy(_filled(filled, labels, IGNORED_LABEL)),
        }
        if self.donor_variants is not None:
            donors = np.fromiter((cell.donor for cell in cells), dtype=np.int64, count=len(cells))
            batch |= self._variants(self.donor_variants, donors, input_ids)
        return batch

    def _flattened(self, cells: list[Cell]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The tokens of all cells, one cell after the other, and the cells' lengths."""
        arrays = [np.asarray(cell.input_ids) for cell in cells]
        tokens = np.concatenate(arrays).astype(np.int64)
        if len(tokens) and (tokens.min() < 0 or tokens.max() >= self.vocab_size):
            raise ValueError(
                f"cells hold the token ids {tokens.min()} to {tokens.max():,}, and the vocabulary has "
                f"{self.vocab_size:,}: cells and vocabulary must come from the same token dictionary"
            )
        return tokens, np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))

    def _mask(
        self, tokens: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], cell_keys: npt.NDArray[np.uint64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(tokens,) of all cells -> the tokens that the model sees, and the labels."""
        starts = lengths.cumsum() - lengths
        position = np.arange(len(tokens)) - np.repeat(starts, lengths)
        keys = hashed(np.repeat(cell_keys, lengths) + position.astype(np.uint64))
        draw = np.where(tokens < self.num_special_tokens, np.inf, uniform(keys))
        selected = draw < self.mlm_probability
        if self.mask_at_least_one:
            selected |= self._lowest_of_cells_without(selected, draw, starts, lengths)
        places = np.flatnonzero(selected)
        labels = np.full(len(tokens), IGNORED_LABEL, dtype=np.int64)
        labels[places] = tokens[places]
        masked = tokens.copy()
        masked[places] = self._replacements(tokens[places], hashed(keys[places]))
        return masked, labels

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

    def _variants(
        self, variants: DonorVariants, donors: npt.NDArray[np.int64], input_ids: npt.NDArray[np.int64]
    ) -> dict[str, torch.Tensor]:
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


def _cell_of_columns(columns: Mapping[str, Any]) -> Cell:
    if "input_ids" not in columns:
        raise ValueError(f"a cell has the columns {', '.join(columns)} and lacks input_ids, its rank tokens")
    return Cell(**{name: columns[name] for name in Cell._fields if name in columns})


def _filled(filled: npt.NDArray[np.bool_], values: npt.NDArray[np.int64], padding: int) -> npt.NDArray[np.int64]:
    """Lay flat values out in rows: (cells, genes)."""
    rows = np.full(filled.shape, padding, dtype=np.int64)
    rows[filled] = values
    return rows


def _cell_keys(cells: list[Cell], seed: int) -> npt.NDArray[np.uint64]:
    """(cells,) what each cell's masks are hashed from; far apart, so that positions can be added to them."""
    if any(cell.number is None for cell in cells):
        # torch's generator: seeded and saved by the Trainer, and another one in each data loader worker.
        return torch.randint(2**62, (len(cells),)).numpy().astype(np.uint64)
    numbers = np.array([(seed, cell.epoch, cell.number) for cell in cells], dtype=np.int64).astype(np.uint64)
    key = np.zeros(len(cells), dtype=np.uint64)
    for column in numbers.T:
        key = hashed(key ^ column)
    return key
