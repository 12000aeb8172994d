"""Rows of one split as a torch data set that knows the epoch and, for evaluation, the block that each counts in."""

from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

NOT_COUNTED = -1  # block of a row that an evaluation computes but does not count

Row = TypeVar("Row")


class NumberedRows(Dataset[Row]):
    """Some of the rows of a split; subclasses say how a row is read.

    Args:
        rows: all rows of the split.
        numbers: (rows of this set,) int64, which of them; all where None.
        block_of: (rows of this set,) int64, what rows are counted in; None in training.
    """

    def __init__(
        self,
        rows: Any,
        numbers: npt.NDArray[np.int64] | None = None,
        *,
        block_of: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.rows = rows
        self.numbers = np.arange(len(rows)) if numbers is None else numbers
        self.block_of = block_of
        # Shared memory: data loader workers that outlive an epoch see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def share_of(self, rank: int, processes: int) -> Self:
        """Every `processes`-th row, equally many on each process: where they do not divide, some are not counted."""
        assert self.block_of is not None
        places = np.arange(rank, -(-len(self) // processes) * processes, processes)
        block_of = np.where(places < len(self), self.block_of[places % len(self)], NOT_COUNTED)
        return type(self)(self.rows, self.numbers[places % len(self)], block_of=block_of)

    def some_of(self, places: npt.NDArray[np.int64]) -> Self:
        """The rows at these places of this set."""
        block_of = None if self.block_of is None else self.block_of[places]
        return type(self)(self.rows, self.numbers[places], block_of=block_of)

    def block_at(self, index: int) -> int | None:
        return None if self.block_of is None else int(self.block_of[index])

    def __len__(self) -> int:
        return len(self.numbers)
