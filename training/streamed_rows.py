"""Row groups of shards as flat arrays: the cells of a buffer, as the model is to have them.

What is done to each cell is what `TokenisedCells` does to a whole folder: tokens get their new ids, cells are cut to
their highest ranks, and a column's names become rows of the donors' table. What is left out is counted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .cell_block import NO_DONOR, CellBlock
from .masked_gene_data import INPUT_IDS
from .shard_files import CorruptShardError, ShardFiles, require_tokens_of_vocabulary
from .streaming_order import HeldOutShare

CELLS_READ = "cells_read"
CELLS_CUT = "cells_cut"
CELLS_WITHOUT_GENES = "cells_without_genes"
CELLS_OF_UNKNOWN_DONORS = "cells_of_donors_without_dna_features"
CELLS_OF_CORRUPT_SHARDS = "cells_of_corrupt_shards"
COUNTS = (CELLS_READ, CELLS_CUT, CELLS_WITHOUT_GENES, CELLS_OF_UNKNOWN_DONORS, CELLS_OF_CORRUPT_SHARDS)


class CellRows(NamedTuple):
    """Some cells; their tokens lie one cell behind the other, maybe with gaps.

    Attributes:
        tokens: (tokens,) of any integer type.
        starts, lengths: (cells,) int64, where a cell's tokens begin and how many there are.
        numbers: (cells,) int64, of each cell in the corpus.
        donors: (cells,) int64, rows of the donors' table.
    """

    tokens: npt.NDArray[np.integer[Any]]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    donors: npt.NDArray[np.int64]

    def some(self, which: Any) -> "CellRows":
        """The cells that a mask, a slice or places choose."""
        return CellRows(self.tokens, *(column[which] for column in self[1:]))

    def block(self, which: npt.NDArray[np.int64], epoch: int) -> CellBlock:
        """The cells at these places, for the collator."""
        lengths = self.lengths[which]
        bounds = zip(self.starts[which].tolist(), (self.starts[which] + lengths).tolist(), strict=True)
        tokens = [self.tokens[start:stop] for start, stop in bounds]
        epochs = np.full(len(which), epoch)
        flat = np.concatenate(tokens) if tokens else self.tokens[:0]
        return CellBlock(flat, lengths, self.numbers[which], epochs, self.donors[which])

    def trimmed(self) -> "CellRows":
        """The same cells, without tokens before and behind them, and without gaps where these are most of it."""
        if not len(self.starts):
            return self._replace(tokens=self.tokens[:0])
        first, total = int(self.starts[0]), int(self.lengths.sum())
        rows = self._replace(
            tokens=self.tokens[first : int(self.starts[-1] + self.lengths[-1])], starts=self.starts - first
        )
        if total > len(rows.tokens) // 2:
            return rows
        starts = self.lengths.cumsum() - self.lengths
        places = np.repeat(rows.starts - starts, rows.lengths) + np.arange(total)
        return rows._replace(tokens=rows.tokens[places], starts=starts)


@dataclass(frozen=True)
class CellPreparation:
    """What is done to every cell that is read.

    Attributes:
        vocabulary_size: tokens of the dictionary that the cells were made with.
        new_ids: (vocabulary,) int64, the new id of each token, -1 for those to leave out; None to keep all.
        max_length: keep so many tokens, the highest ranks; None for all.
        donor_column: names each cell's donor; None for the reference genome throughout.
        donor_rows: donor -> row of the donors' table.
        missing_donors: of other donors' cells: raise, give them the reference's DNA, or leave them out.
    """

    vocabulary_size: int
    new_ids: npt.NDArray[np.int64] | None = None
    max_length: int | None = None
    donor_column: str | None = None
    donor_rows: Mapping[str, int] | None = None
    missing_donors: Literal["error", "reference", "drop"] = "error"

    @property
    def columns(self) -> list[str]:
        return [INPUT_IDS, *([self.donor_column] if self.donor_column else [])]

    def prepared(self, rows: CellRows, counts: Counter[str]) -> CellRows:
        """The cells that have genes, with new ids and cut."""
        if self.new_ids is not None:
            rows = _renumbered(rows, self.new_ids)
        if self.donor_column and self.missing_donors == "drop":
            rows = rows.some(rows.donors != NO_DONOR)
        counts[CELLS_WITHOUT_GENES] += int((rows.lengths == 0).sum())
        rows = rows.some(rows.lengths > 0)
        if self.max_length is not None:
            counts[CELLS_CUT] += int((rows.lengths > self.max_length).sum())
            rows = rows._replace(lengths=np.minimum(rows.lengths, self.max_length))
        return rows


class RowReader:
    """Reads row groups; the last one is kept, since the next buffer begins where one ended.

    Args:
        shards: of the corpus.
        preparation: of the cells.
        held_out: cells to leave out; with `is_held_out`, those to read instead.
        skip_corrupt_shards: count the cells of row groups that cannot be read, in place of an error.
    """

    def __init__(
        self,
        shards: ShardFiles,
        preparation: CellPreparation,
        *,
        held_out: HeldOutShare | None = None,
        is_held_out: bool = False,
        skip_corrupt_shards: bool = False,
    ) -> None:
        self._shards = shards
        self._preparation = preparation
        self._held_out = held_out
        self._is_held_out = is_held_out
        self._skip_corrupt_shards = skip_corrupt_shards
        self._last: tuple[int, CellRows | CorruptShardError] | None = None

    def read(self, group: int, cells: slice, counts: Counter[str]) -> CellRows | CorruptShardError:
        """Some of the cells of a row group that are not held out; or, if they may be skipped, why they are.

        Raises:
            CorruptShardError: where the row group cannot be read.
            ValueError: naming the shard, where tokens are outside the vocabulary or a donor has no DNA.
        """
        if self._last is None or self._last[0] != group:
            self._last = None  # so that no third row group is in memory
            self._last = group, self._read_group(group)
        rows = self._last[1]
        if isinstance(rows, CorruptShardError):
            counts[CELLS_OF_CORRUPT_SHARDS] += cells.stop - cells.start
            return rows
        rows = rows.some(cells).trimmed()
        counts[CELLS_READ] += len(rows.numbers)
        if self._preparation.donor_column:
            counts[CELLS_OF_UNKNOWN_DONORS] += int((rows.donors == NO_DONOR).sum())
        return self._preparation.prepared(rows, counts)

    def _read_group(self, group: int) -> CellRows | CorruptShardError:
        try:
            table = self._shards.read(group, self._preparation.columns)
        except CorruptShardError as error:
            if not self._skip_corrupt_shards:
                raise
            return error
        shard = self._shards.shards[self._shards.shard_of(group)].name
        tokens, offsets = _flat(table.column(INPUT_IDS), shard)
        if len(tokens):
            require_tokens_of_vocabulary(shard, int(tokens.min()), int(tokens.max()), self._preparation.vocabulary_size)
        first = int(self._shards.first_cells[group])
        numbers = np.arange(first, first + len(offsets) - 1)
        rows = CellRows(tokens, offsets[:-1], np.diff(offsets), numbers, self._donors(table, shard))
        if self._held_out is None:
            return rows
        return rows.some(self._held_out.held_out(numbers) == self._is_held_out)

    def _donors(self, table: pa.Table, shard: str) -> npt.NDArray[np.int64]:
        column = self._preparation.donor_column
        if column is None:
            return np.full(len(table), NO_DONOR)
        known = self._preparation.donor_rows or {}
        encoded = table.column(column).combine_chunks().dictionary_encode()
        names = encoded.dictionary.to_pylist()
        rows = np.array([*(known.get(str(name), NO_DONOR) for name in names), NO_DONOR])  # the last is for no name
        donors = rows[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)]
        if self._preparation.missing_donors == "error" and (donors == NO_DONOR).any():
            unknown = sorted({str(name) for name in names} - known.keys())
            raise ValueError(
                f"{shard} has cells of donors without DNA features ({', '.join(unknown[:5]) or 'no name'}); the "
                f"features' donors are e.g. {', '.join(list(known)[:3])}. Embed them too, or set missing_donors to "
                "reference or drop"
            )
        return donors


def concatenated(parts: Sequence[CellRows]) -> CellRows:
    """All cells of several parts, in order."""
    sizes = [len(part.tokens) for part in parts]
    moved = [
        part._replace(starts=part.starts + before)
        for part, before in zip(parts, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True)
    ]
    return CellRows(*(np.concatenate(column) for column in zip(*moved, strict=True)))


def _flat(column: pa.ChunkedArray, shard: str) -> tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.int64]]:
    """The tokens of a column of lists, and (cells + 1,) where each cell begins."""
    lists = column.combine_chunks()
    if lists.null_count or lists.values.null_count:
        raise ValueError(f"{shard} has cells or tokens without a value in {INPUT_IDS}: build the cells again")
    offsets = lists.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    return lists.values.to_numpy(zero_copy_only=True)[: offsets[-1]], offsets


def _renumbered(rows: CellRows, new_ids: npt.NDArray[np.int64]) -> CellRows:
    """Tokens of new ids, without those that have none."""
    tokens = new_ids.astype(np.int32)[rows.tokens]
    kept = tokens >= 0
    before = np.concatenate([[0], kept.cumsum()])
    starts = before[rows.starts]
    return rows._replace(tokens=tokens[kept], starts=starts, lengths=before[rows.starts + rows.lengths] - starts)
