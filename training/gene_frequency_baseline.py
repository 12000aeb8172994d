"""What gene frequencies alone achieve on the masked genes that a model is evaluated on: the perplexities to beat.

Three baselines, all counted on the training cells: how often a gene occurs; how often it occurs at about this rank; and
how often it occurs, among the genes not seen elsewhere in the cell (a cell holds each gene once, so a model that has
learned nothing else can know this much).
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .collators import IGNORED_LABEL, MaskedGeneCollator
from .held_out_cells import HeldOutCells
from .masked_gene_data import MaskedGeneDataset
from .packed_cells import PackedGeneCollator

Cells = MaskedGeneDataset | HeldOutCells

_CELLS_AT_A_TIME = 1024
MOST_TRAINING_CELLS = 200_000  # more would not change the frequencies of genes that matter


def gene_frequency_perplexities(training: Cells, evaluation: Cells, collator: MaskedGeneCollator) -> dict[str, float]:
    """Perplexities of the masked tokens of `evaluation`, with the very masks that the collator gives the model.

    Returns:
        `gene_frequency_perplexity`, `gene_frequency_by_rank_perplexity` and `unseen_gene_frequency_perplexity`.
    """
    if isinstance(collator, PackedGeneCollator):
        collator = collator.padded()
    collator = replace(collator, donor_variants=None, precompute_places=False)
    frequencies = GeneFrequencies(training, collator.vocab_size, collator.num_special_tokens)
    sums, masked = np.zeros(3), 0
    for start in range(0, len(evaluation), _CELLS_AT_A_TIME):
        indices = range(start, min(start + _CELLS_AT_A_TIME, len(evaluation)))
        batch = {name: tensor.numpy() for name, tensor in collator(evaluation.__getitems__(list(indices))).items()}
        sums += frequencies.negative_log_likelihoods(batch["input_ids"], batch["labels"])
        masked += int((batch["labels"] != IGNORED_LABEL).sum())
    names = ("gene_frequency", "gene_frequency_by_rank", "unseen_gene_frequency")
    return {
        f"{name}_perplexity": float(np.exp(total / max(masked, 1))) for name, total in zip(names, sums, strict=True)
    }


class GeneFrequencies:
    """Gene frequencies over cells, and over cells and bins of ranks, smoothed by one occurrence a gene."""

    def __init__(self, cells: Cells, vocab_size: int, num_special_tokens: int) -> None:
        counts = np.zeros((rank_bins(np.array([2**20]))[0] + 1, vocab_size))
        for tokens, bins in _tokens_and_rank_bins(cells):
            counts += np.bincount(bins * vocab_size + tokens, minlength=counts.size).reshape(counts.shape)
        counts[:, :num_special_tokens] = 0
        total = counts.sum(axis=0)
        total[num_special_tokens:] += 1
        self.by_gene = total / total.sum()  # (vocabulary,)
        # A bin with few tokens falls back on the frequencies of all ranks.
        weight = vocab_size - num_special_tokens
        self.by_rank = (counts + weight * self.by_gene) / (counts.sum(axis=1, keepdims=True) + weight)

    def negative_log_likelihoods(
        self, input_ids: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """(cells, genes) inputs and labels -> (3,) sums over masked tokens: by gene, by rank, by gene if unseen."""
        is_masked = labels != IGNORED_LABEL
        cell, rank = np.nonzero(is_masked)
        genes = labels[is_masked]
        seen = np.where(is_masked, 0.0, self.by_gene[input_ids]).sum(axis=1)  # (cells,), special tokens have 0
        # At least the masked genes themselves are unseen; the difference alone could round to zero.
        masked_share = np.bincount(cell, weights=self.by_gene[genes], minlength=len(labels))
        unseen = np.maximum(1 - seen, masked_share)
        by_gene = -np.log(self.by_gene[genes])
        by_rank = -np.log(self.by_rank[rank_bins(rank), genes])
        return np.array([by_gene.sum(), by_rank.sum(), (by_gene + np.log(unseen[cell])).sum()])


def rank_bins(ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bins of ranks counted from 0, four to a doubling: the first ranks say more about a gene than the last."""
    return np.floor(4 * np.log2(ranks + 1.0)).astype(np.int64)


def _tokens_and_rank_bins(cells: Cells) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Tokens of some cells at a time, and the bins of their ranks; evenly spaced cells where there are very many."""
    chosen = np.arange(0, len(cells), max(1, len(cells) // MOST_TRAINING_CELLS))
    for start in range(0, len(chosen), _CELLS_AT_A_TIME):
        block = cells.__getitems__(chosen[start : start + _CELLS_AT_A_TIME])
        ranks = np.arange(len(block.tokens)) - np.repeat(block.ends - block.lengths, block.lengths)
        yield block.tokens.astype(np.int64), rank_bins(ranks)
