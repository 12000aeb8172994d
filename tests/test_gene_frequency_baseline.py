"""The baselines against plain counting, and where they must end up."""

import math
from pathlib import Path

import datasets
import numpy as np
import pytest

from omics_transformers.training.collators import MaskedGeneCollator
from omics_transformers.training.gene_frequency_baseline import (
    GeneFrequencies,
    gene_frequency_perplexities,
    rank_bins,
)
from omics_transformers.training.masked_gene_data import MaskedGeneDataset, read_tokenised_cells


def make_dataset(folder: Path, cells: list[list[int]]) -> MaskedGeneDataset:
    datasets.Dataset.from_dict({"input_ids": cells}).save_to_disk(folder)
    return MaskedGeneDataset(read_tokenised_cells(folder), np.arange(len(cells)), fixed_masks=True)


def test_equals_plain_counting(tmp_path: Path) -> None:
    training = make_dataset(tmp_path / "training", [[2, 3, 4], [2, 4], [5, 2, 3]])
    evaluation = make_dataset(tmp_path / "evaluation", [[2, 5, 4, 3], [3, 6]])
    collator = MaskedGeneCollator(vocab_size=7, mlm_probability=0.5)
    probability = {2: 4 / 13, 3: 3 / 13, 4: 3 / 13, 5: 2 / 13, 6: 1 / 13}  # one more than counted, each
    by_gene, unseen, by_rank, masked = 0.0, 0.0, 0.0, 0
    counts = {0: {2: 2, 5: 1}, 1: {3: 1, 4: 1, 2: 1}, 2: {4: 1, 3: 1}, 3: {}}  # of the first ranks, a bin each
    for cell in ([2, 5, 4, 3], [3, 6]):
        number = 0 if len(cell) == 4 else 1
        labels = collator([evaluation[number]])["labels"][0].tolist()
        hidden = [gene for gene, label in zip(cell, labels, strict=True) if label != -100]
        for gene in hidden:
            by_gene -= math.log(probability[gene])
            unseen -= math.log(probability[gene] / (1 - sum(probability[seen] for seen in set(cell) - set(hidden))))
            at_rank = counts[cell.index(gene)]
            smoothed = (at_rank.get(gene, 0) + 5 * probability[gene]) / (sum(at_rank.values()) + 5)
            by_rank -= math.log(smoothed)
            masked += 1
    assert gene_frequency_perplexities(training, evaluation, collator) == pytest.approx(
        {
            "gene_frequency_perplexity": math.exp(by_gene / masked),
            "gene_frequency_by_rank_perplexity": math.exp(by_rank / masked),
            "unseen_gene_frequency_perplexity": math.exp(unseen / masked),
        }
    )


def test_probabilities_sum_to_one_over_genes(toy_corpus: Path) -> None:
    data = MaskedGeneDataset(read_tokenised_cells(toy_corpus), np.arange(100))
    frequencies = GeneFrequencies(data, 42, 2)
    assert frequencies.by_gene[2:].sum() == pytest.approx(1)
    np.testing.assert_allclose(frequencies.by_rank[:, 2:].sum(axis=1), 1)
    assert (frequencies.by_gene[:2] == 0).all()


def test_cells_that_hold_every_gene_leave_only_the_masked_ones_unseen(tmp_path: Path) -> None:
    """Ten equally frequent genes, all in every cell: 10 by frequency, as many as are masked among the unseen."""
    cells = [np.random.default_rng(seed).permutation(10) + 2 for seed in range(300)]
    data = make_dataset(tmp_path / "cells", [cell.tolist() for cell in cells])
    collator = MaskedGeneCollator(vocab_size=12, mlm_probability=0.2)
    found = gene_frequency_perplexities(data, data, collator)
    hidden = (collator(data.__getitems__(range(300)))["labels"] != -100).sum(dim=1).double()
    assert found["gene_frequency_perplexity"] == pytest.approx(10, rel=1e-6)
    assert found["unseen_gene_frequency_perplexity"] == pytest.approx(
        math.exp(float((hidden * hidden.log()).sum() / hidden.sum())), rel=1e-6
    )


def test_rank_bins_are_four_to_a_doubling() -> None:
    assert rank_bins(np.array([0, 1, 3, 7, 15, 2047])).tolist() == [0, 4, 8, 12, 16, 44]
