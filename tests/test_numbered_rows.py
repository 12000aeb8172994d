"""Shares of processes: every row counted once, and as many rows on each process."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from omics_transformers.training.numbered_rows import NOT_COUNTED, NumberedRows


class Letters(NumberedRows[tuple[str, int, Any]]):
    def __getitem__(self, index: int) -> tuple[str, int, Any]:
        return self.rows[int(self.numbers[index])], self.epoch, self.block_at(index)


@given(st.integers(1, 40), st.integers(1, 7))
def test_each_row_is_counted_once(rows: int, processes: int) -> None:
    numbers = np.arange(rows) * 2
    dataset = Letters("x" * 2 * rows, numbers, block_of=np.arange(rows))
    shares = [dataset.share_of(rank, processes) for rank in range(processes)]
    assert {len(share) for share in shares} == {-(-rows // processes)}
    counted = [
        (int(share.numbers[place]), share.block_at(place))
        for share in shares
        for place in range(len(share))
        if share.block_at(place) != NOT_COUNTED
    ]
    assert sorted(counted) == [(2 * row, row) for row in range(rows)]


def test_some_rows_keep_their_blocks() -> None:
    dataset = Letters("abcdef", np.array([5, 3, 1]), block_of=np.array([7, 8, 9]))
    assert [*dataset.some_of(np.array([2, 0]))] == [("b", 0, 9), ("f", 0, 7)]
    assert Letters("abc")[1] == ("b", 0, None) and len(Letters("abc")) == 3


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_that_outlive_an_epoch_see_the_next() -> None:
    dataset = Letters("abcd")
    loader = DataLoader(dataset, num_workers=1, persistent_workers=True, collate_fn=list)
    for epoch in (0, 3):
        dataset.set_epoch(epoch)
        assert [row[1] for batch in loader for row in batch] == [epoch] * 4
    assert torch.is_tensor(dataset._epoch)
