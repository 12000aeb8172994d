"""Tokenised cells as a torch data set: flat token arrays that Arrow maps from disk, without decoding rows in Python.

A folder that `build cells` wrote is read through `datasets`; its Arrow buffers are then viewed as NumPy arrays, so a
corpus larger than memory stays on disk, processes of one machine share it, and a cell costs a slice.
"""

import logging
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch.utils.data import Dataset

from .cell_block import NO_DONOR, Cell, CellBlock

logger = logging.getLogger(__name__)

INPUT_IDS = "input_ids"


class MaskedGeneDataset(Dataset[Cell]):
    """Cells for the collator, with what their masks depend on.

    Args:
        cells: all cells of a folder.
        numbers: (cells of this set,) int64, which of them; also what each cell's masks depend on.
        donors: (all cells,) rows of the donors' table, -1 for the reference; None for the reference throughout.
        fixed_masks: the same masks each epoch, for evaluation.
    """

    def __init__(
        self,
        cells: "TokenisedCells",
        numbers: npt.NDArray[np.int64],
        *,
        donors: npt.NDArray[np.int64] | None = None,
        fixed_masks: bool = False,
    ) -> None:
        self.cells = cells
        self.numbers = numbers
        self.donors = donors
        self.fixed_masks = fixed_masks
        # Shared memory: data loader workers that outlive an epoch see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(cells,) tokens a cell."""
        return self.cells.lengths[self.numbers]

    def set_epoch(self, epoch: int) -> None:
        if not self.fixed_masks:
            self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Cell:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: npt.ArrayLike) -> CellBlock:
        numbers = self.numbers[np.asarray(indices, dtype=np.int64)]
        donors = np.full(len(numbers), NO_DONOR) if self.donors is None else self.donors[numbers]
        epochs = np.full(len(numbers), int(self._epoch))
        return CellBlock(*self.cells.tokens_and_lengths(numbers), numbers, epochs, donors)


class TokenisedCells:
    """All cells of a folder.

    Attributes:
        dataset: as `datasets` reads it, with all its columns.
        lengths: (cells,) int64, tokens a cell after what is left out.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        self.dataset = dataset
        self._new_ids: npt.NDArray[np.int64] | None = None
        self._max_length: int | None = None
        self._view()
        self.lengths = np.concatenate([np.diff(offsets) for offsets in self._offsets]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.dataset)

    def tokens(self, number: int) -> npt.NDArray[np.integer[Any]]:
        """(genes,) token ids of a cell."""
        return self.tokens_and_lengths(np.array([number]))[0]

    def tokens_and_lengths(
        self, numbers: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.int64]]:
        """(tokens,) of some cells, one cell after the other, and (cells,) int64 how many each has."""
        chunks = np.searchsorted(self._first_cells, numbers, side="right") - 1
        rows = (numbers - self._first_cells[chunks]).tolist()
        cells = [
            self._values[chunk][self._offsets[chunk][row] : self._offsets[chunk][row + 1]]
            for chunk, row in zip(chunks.tolist(), rows, strict=True)
        ]
        if self._max_length is not None and self._new_ids is None:
            cells = [tokens[: self._max_length] for tokens in cells]
        flat = np.concatenate(cells) if cells else np.empty(0, dtype=np.uint8)
        if self._new_ids is None:
            return flat, self.lengths[numbers]
        new_ids = self._new_ids[flat]
        is_kept = new_ids >= 0
        if self._max_length is not None:
            is_kept &= _ranks_among(is_kept, np.fromiter(map(len, cells), dtype=np.int64)) < self._max_length
        return new_ids[is_kept], self.lengths[numbers]

    def occurrences(self, vocab_size: int) -> npt.NDArray[np.int64]:
        """(vocabulary,) how many tokens of all cells each id has, before anything is left out.

        Raises:
            ValueError: where cells hold ids outside the vocabulary.
        """
        counts = np.zeros(vocab_size, dtype=np.int64)
        for values, offsets in zip(self._values, self._offsets, strict=True):
            found = np.bincount(values[offsets[0] : offsets[-1]], minlength=vocab_size)
            if len(found) > vocab_size:
                raise ValueError(
                    f"the cells hold token ids up to {len(found) - 1:,}, and their token dictionary has "
                    f"{vocab_size:,} tokens: it is not the dictionary that they were made with"
                )
            counts += found
        return counts

    def renumber(self, new_ids: npt.NDArray[np.int64]) -> None:
        """Give tokens their new ids (old vocabulary,), and leave out those whose new id is -1."""
        lengths = []
        for values, offsets in zip(self._values, self._offsets, strict=True):
            kept = np.concatenate([[0], (new_ids[values[: offsets[-1]]] >= 0).cumsum()])
            lengths.append(np.diff(kept[offsets]))
        self._new_ids = new_ids
        self.lengths = np.concatenate(lengths).astype(np.int64)

    def cut(self, max_length: int) -> int:
        """Keep the first `max_length` tokens of a cell, its highest ranks; how many cells were longer."""
        longer = int((self.lengths > max_length).sum())
        if longer:
            logger.warning("%d of %d cells are cut to their %d highest ranks", longer, len(self), max_length)
            self._max_length = max_length
            self.lengths = np.minimum(self.lengths, max_length)
        return longer

    def categories(self, column: str) -> tuple[list[str], npt.NDArray[np.int64]]:
        """The distinct values of a column as strings, and (cells,) which of them a cell has; -1 where it has none.

        Raises:
            ValueError: where there is no such column.
        """
        if column not in self.dataset.column_names:
            raise ValueError(
                f"the cells have no column {column!r}; they have {', '.join(self.dataset.column_names)}: carry it "
                "along when the cells are built"
            )
        encoded = self.dataset.data.table.column(column).dictionary_encode().combine_chunks()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return [str(value) for value in encoded.dictionary.to_pylist()], codes

    def _view(self) -> None:
        """See the Arrow buffers of `input_ids` as arrays: for each chunk the tokens, and where each cell begins."""
        chunks = [chunk for chunk in self.dataset.data.table.column(INPUT_IDS).chunks if len(chunk)]
        self._values = [chunk.values.to_numpy(zero_copy_only=True) for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy(zero_copy_only=True) for chunk in chunks]
        self._first_cells = np.cumsum([0, *map(len, chunks[:-1])])

    def __getstate__(self) -> dict[str, Any]:
        # Data loader workers that are not forked get the paths of the mapped files, not the arrays.
        return {name: value for name, value in self.__dict__.items() if name not in ("_values", "_offsets")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._view()


def _ranks_among(is_kept: npt.NDArray[np.bool_], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(tokens,) how many of the tokens before, in the same cell, are kept."""
    before = np.concatenate([[0], is_kept.cumsum()])
    return before[:-1] - np.repeat(before[lengths.cumsum() - lengths], lengths)


def read_tokenised_cells(folder: str | Path) -> TokenisedCells:
    """Read a folder that `build cells` or `Dataset.save_to_disk` wrote.

    Raises:
        FileNotFoundError: where there is no such folder.
        ValueError: where it holds no cells, or they have no column `input_ids` of integer lists.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of tokenised cells at {folder}: expected one that `build cells` wrote")
    dataset = _load(folder)
    if INPUT_IDS not in dataset.column_names:
        raise ValueError(
            f"{folder} has the columns {', '.join(dataset.column_names)} and lacks {INPUT_IDS}: it is not a folder of "
            "tokenised cells"
        )
    if not len(dataset):
        raise ValueError(f"{folder} holds no cells: see its report.json for why they were left out")
    arrow_type = dataset.data.table.schema.field(INPUT_IDS).type
    if not (pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)) or not pa.types.is_integer(
        arrow_type.value_type
    ):
        raise ValueError(f"{folder}: {INPUT_IDS} is of type {arrow_type}, expected lists of integers")
    return TokenisedCells(dataset)


def _load(folder: Path) -> datasets.Dataset:
    if (folder / "state.json").is_file():
        return datasets.load_from_disk(str(folder)).flatten_indices()
    try:
        splits = datasets.load_dataset(str(folder))
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder} holds no Parquet files of cells: expected a folder that `build cells` wrote"
        ) from error
    except (pa.ArrowInvalid, datasets.exceptions.DatasetGenerationError) as error:
        if isinstance(error.__cause__, OSError):  # a full disk, for one
            raise error.__cause__ from None
        raise ValueError(
            f"{folder} holds no cells, or they cannot be read ({error.__cause__ or error}): build them again"
        ) from error
    if set(splits) != {"train"}:
        raise ValueError(f"{folder} has the splits {', '.join(splits)}: expected the one split `train`")
    return splits["train"]
