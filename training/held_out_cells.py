"""Held-out cells of a stream: a bounded sample of them, read once, for evaluation."""

import logging
from collections import Counter

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from .collators import Cell
from .shard_files import CorruptShardError, ShardFiles
from .streamed_rows import CellPreparation, CellRows, RowReader, concatenated
from .streaming_order import HeldOutShare

logger = logging.getLogger(__name__)


class HeldOutCells(Dataset[Cell]):
    """Cells in memory, for the collator, with the same masks at every evaluation.

    Attributes:
        lengths: (cells,) int64, tokens a cell.
        numbers: (cells,) int64, of each cell in the corpus.
    """

    def __init__(self, rows: CellRows) -> None:
        self._rows = rows
        self.lengths = rows.lengths
        self.numbers = rows.numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Cell:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: npt.ArrayLike) -> list[Cell]:
        return self._rows.cells(np.asarray(indices, dtype=np.int64), epoch=0)


def read_held_out_cells(
    shards: ShardFiles,
    preparation: CellPreparation,
    held_out: HeldOutShare,
    *,
    maximum_cells: int,
    skip_corrupt_shards: bool = False,
) -> HeldOutCells | None:
    """The first `maximum_cells` usable held-out cells, by row groups in random order; None where there are none.

    Row groups are read until there are enough, `maximum_cells` / share cells in all: on every process the same.

    Raises:
        ValueError: where `maximum_cells` is not positive; and what a stream of the shards would raise.
    """
    if maximum_cells < 1:
        raise ValueError(
            f"maximum_held_out_cells is {maximum_cells}: expected at least 1, or a share of 0 to hold out none"
        )
    if not held_out.share:
        return None
    reader = RowReader(
        shards, preparation, held_out=held_out, is_held_out=True, skip_corrupt_shards=skip_corrupt_shards
    )
    counts: Counter[str] = Counter()
    parts: list[CellRows] = []
    missing = maximum_cells
    for group in np.random.default_rng(held_out.seed).permutation(len(shards.group_cells)).tolist():
        rows = reader.read(group, slice(0, int(shards.group_cells[group])), counts)
        if isinstance(rows, CorruptShardError):
            logger.warning("held-out cells that cannot be read are left out: %s", rows)
            continue
        rows = rows.some(slice(0, missing)).trimmed()
        parts.append(rows)
        missing -= len(rows.numbers)
        if not missing:
            break
    logger.info("held-out cells: %s", dict(counts))
    return HeldOutCells(concatenated(parts)) if missing < maximum_cells else None
