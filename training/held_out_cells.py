"""Cells of a streamed corpus in memory: a bounded sample of those held out, for evaluation, or of the others."""

import logging
from collections import Counter

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from .cell_block import Cell, CellBlock
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

    def __getitems__(self, indices: npt.ArrayLike) -> CellBlock:
        return self._rows.block(np.asarray(indices, dtype=np.int64), epoch=0)


def read_cells(
    shards: ShardFiles,
    preparation: CellPreparation,
    held_out: HeldOutShare,
    *,
    is_held_out: bool = True,
    maximum_cells: int,
    skip_corrupt_shards: bool = False,
) -> HeldOutCells | None:
    """The first usable cells, by row groups in random order: those held out, or the others; None where there are none.

    Row groups are read until there are enough: of held-out cells, `maximum_cells` / share cells in all. Every process
    reads the same.

    Raises:
        ValueError: where `maximum_cells` is not positive; and what a stream of the shards would raise.
    """
    if maximum_cells < 1:
        raise ValueError(
            f"maximum_cells is {maximum_cells}: expected at least 1 (--maximum-held-out-cells), or a share of 0 to "
            "hold out none (--test-fraction 0)"
        )
    if is_held_out and not held_out.share:
        return None
    reader = RowReader(
        shards, preparation, held_out=held_out, is_held_out=is_held_out, skip_corrupt_shards=skip_corrupt_shards
    )
    counts: Counter[str] = Counter()
    parts: list[CellRows] = []
    missing = maximum_cells
    for group in np.random.default_rng(held_out.seed).permutation(len(shards.group_cells)).tolist():
        rows = reader.read(group, slice(0, int(shards.group_cells[group])), counts)
        if isinstance(rows, CorruptShardError):
            logger.warning("cells that cannot be read are left out: %s", rows)
            continue
        rows = rows.some(slice(0, missing)).trimmed()
        parts.append(rows)
        missing -= len(rows.numbers)
        if not missing:
            break
    logger.info("%s cells in memory: %s", "held-out" if is_held_out else "training", dict(counts))
    return HeldOutCells(concatenated(parts)) if missing < maximum_cells else None
