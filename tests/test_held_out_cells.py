"""The held-out cells of a stream: a bounded sample, disjoint from what is streamed, with fixed masks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from omics_transformers.training.collators import MaskedGeneCollator
from omics_transformers.training.held_out_cells import HeldOutCells, read_cells
from omics_transformers.training.masked_gene_data import MaskedGeneDataset, read_tokenised_cells
from omics_transformers.training.shard_files import open_shards
from omics_transformers.training.streamed_rows import CellPreparation
from omics_transformers.training.streaming_order import HeldOutShare

SHARE = HeldOutShare(0.2, seed=1)


def read(folder: Path, maximum_cells: int) -> HeldOutCells:
    shards = open_shards(folder, vocabulary_size=42)
    cells = read_cells(shards, CellPreparation(42), SHARE, maximum_cells=maximum_cells)
    assert cells is not None
    return cells


def test_holds_all_of_the_share_or_as_many_as_wanted(toy_corpus: Path) -> None:
    expected = np.flatnonzero(SHARE.held_out(np.arange(240)))
    every = read(toy_corpus, 1000)
    assert sorted(every.numbers.tolist()) == expected.tolist()
    some = read(toy_corpus, 7)
    assert len(some) == 7
    assert some.numbers.tolist() == every.numbers[:7].tolist()
    assert len(some._rows.tokens) == some.lengths.sum()  # not the row groups that they are of


def test_the_others_are_those_that_are_streamed(toy_corpus: Path) -> None:
    shards = open_shards(toy_corpus, vocabulary_size=42)
    others = read_cells(shards, CellPreparation(42), SHARE, is_held_out=False, maximum_cells=1000)
    assert others is not None
    assert sorted(others.numbers.tolist()) == np.flatnonzero(~SHARE.held_out(np.arange(240))).tolist()


def test_batches_are_those_of_a_set_in_memory(toy_corpus: Path) -> None:
    held_out = read(toy_corpus, 20)
    in_memory = MaskedGeneDataset(read_tokenised_cells(toy_corpus), held_out.numbers, fixed_masks=True)
    assert held_out.lengths.tolist() == in_memory.lengths.tolist()
    collator = MaskedGeneCollator(vocab_size=42)
    one, other = (collator(cells.__getitems__([3, 0, 19])) for cells in (held_out, in_memory))
    for name, values in one.items():
        assert torch.equal(values, other[name])
    assert held_out[3].number == held_out.numbers[3]


def test_no_share_is_no_set_and_no_cells_is_an_error(toy_corpus: Path) -> None:
    shards = open_shards(toy_corpus, vocabulary_size=42)
    assert read_cells(shards, CellPreparation(42), HeldOutShare(0.0), maximum_cells=5) is None
    with pytest.raises(ValueError, match="maximum_cells is 0: expected at least 1"):
        read_cells(shards, CellPreparation(42), SHARE, maximum_cells=0)
