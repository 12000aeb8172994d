"""What a data set hands to a collator: single cells, or a block of them as flat arrays.

A block costs one array operation where a list of cells costs one a cell; both mean the same, and a block reads as the
list of its cells.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

NO_DONOR = -1


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


@dataclass(frozen=True)
class CellBlock(Sequence[Cell]):
    """Several cells, as arrays; indexed and iterated it gives `Cell`s.

    Attributes:
        tokens: (tokens,) token ids of any integer dtype, one cell after the other.
        lengths: (cells,) int64 tokens a cell.
        numbers: (cells,) int64, as `Cell.number`; None where any cell has none.
        epochs: (cells,) int64.
        donors: (cells,) int64.
    """

    tokens: npt.NDArray[np.integer[Any]]
    lengths: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64] | None
    epochs: npt.NDArray[np.int64]
    donors: npt.NDArray[np.int64]

    @classmethod
    def of(cls, cells: Sequence[Cell | Mapping[str, Any]]) -> "CellBlock":
        """The same cells as a block; mappings have the fields of `Cell` as keys, and others that are not read.

        Raises:
            ValueError: where a mapping lacks `input_ids`.
        """
        if isinstance(cells, CellBlock):
            return cells
        every = [cell if isinstance(cell, Cell) else _cell_of_columns(cell) for cell in cells]
        arrays = [np.asarray(cell.input_ids) for cell in every]
        numbers = [cell.number for cell in every]
        return cls(
            # An empty list is of floats.
            np.concatenate([array if array.size else array.astype(np.uint8) for array in arrays]),
            np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays)),
            None if None in numbers else np.array(numbers, dtype=np.int64),
            np.array([cell.epoch for cell in every], dtype=np.int64),
            np.array([cell.donor for cell in every], dtype=np.int64),
        )

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """(cells,) place after each cell's last token."""
        return self.lengths.cumsum()

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Cell: ...
    @overload
    def __getitem__(self, index: slice) -> list[Cell]: ...
    def __getitem__(self, index: int | slice) -> Cell | list[Cell]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        end = self.ends[index]
        return Cell(
            self.tokens[end - self.lengths[index] : end],
            None if self.numbers is None else int(self.numbers[index]),
            int(self.epochs[index]),
            int(self.donors[index]),
        )

    def __iter__(self) -> Iterator[Cell]:
        return (self[place] for place in range(len(self)))


def _cell_of_columns(columns: Mapping[str, Any]) -> Cell:
    if "input_ids" not in columns:
        raise ValueError(f"a cell has the columns {', '.join(columns)} and lacks input_ids, its rank tokens")
    return Cell(**{name: columns[name] for name in Cell._fields if name in columns})
