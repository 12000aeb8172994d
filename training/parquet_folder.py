"""Folders that builders wrote, read through `datasets`, with their Arrow buffers seen as NumPy arrays.

Letters, bits and numbers stay on disk, where Arrow maps them: processes of one machine share them, and a row costs a
slice, never a Python object a value.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa

SPLITS = ("train", "validation", "test")
COMPLEMENT = np.arange(256, dtype=np.uint8)  # letter -> the one opposite, as bytes; others, such as N, themselves
COMPLEMENT[list(b"ACGTacgt")] = list(b"TGCAtgca")


def read_description(folder: Path, name: str, builder: str) -> dict[str, Any]:
    """The JSON file that a builder writes beside its Parquet files.

    Args:
        folder: that the builder wrote.
        name: of the file in it.
        builder: command that writes such folders, and what they hold, for messages: "build segments".

    Raises:
        FileNotFoundError: where there is no such folder, or it lacks the file.
        ValueError: where the file is no JSON.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of {builder.split()[-1]} at {folder}: expected one that `{builder}` wrote")
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {name}: expected a folder that `{builder}` wrote")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON ({error}): `{builder}` again") from error


def load_splits(folder: Path, builder: str) -> Mapping[str, datasets.Dataset]:
    """Split -> its rows.

    Files are named one by one: of a folder, `datasets` caches by its name, and takes another of that name for it.

    Raises:
        ValueError: where there are no Parquet files, or they cannot be read.
    """
    files = {split: sorted(map(str, (folder / "data").glob(f"{split}-*.parquet"))) for split in SPLITS}
    found = {split: paths for split, paths in files.items() if paths}
    if not found:
        raise ValueError(f"{folder} holds no Parquet files: expected a folder that `{builder}` wrote")
    try:
        return datasets.load_dataset("parquet", data_files=found)
    except (pa.ArrowInvalid, datasets.exceptions.DatasetGenerationError) as error:
        if isinstance(error.__cause__, OSError):  # a full disk, for one
            raise error.__cause__ from None
        raise ValueError(f"{folder} cannot be read ({error.__cause__ or error}): `{builder}` again") from error


def require_columns(dataset: datasets.Dataset, columns: tuple[str, ...], *, source: str, builder: str) -> None:
    """Raise ValueError, naming them, where columns are missing."""
    missing = [column for column in columns if column not in dataset.column_names]
    if missing:
        raise ValueError(
            f"{source} lacks the columns {', '.join(missing)} and has {', '.join(dataset.column_names)}: expected "
            f"a folder that `{builder}` wrote"
        )


def encode_names(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], list[str]]:
    """(rows,) numbers of the distinct names, and these."""
    encoded = column.dictionary_encode().combine_chunks()
    names = [str(name) for name in encoded.dictionary.to_pylist()]
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), names


def evenly_spaced(numbers: npt.NDArray[np.int64], most: int | None, *, option: str) -> npt.NDArray[np.int64]:
    """`most` of the numbers, evenly spaced; all where None. `option` is what the user calls `most`.

    Raises:
        ValueError: where `most` is not positive.
    """
    if most is None or not len(numbers):
        return numbers
    if most < 1:
        raise ValueError(f"{option} is {most}: expected a positive number, or none for all {option.split('_')[-1]}")
    return numbers[np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(np.int64)]


class BytesColumn:
    """A column of strings or binaries: row -> (bytes,) uint8.

    Args:
        column: of any string or binary type, without missing values.
        rows: what the rows are called, for messages.
    """

    def __init__(self, column: pa.ChunkedArray, *, rows: str = "windows") -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._chunks = [_bytes_buffers(chunk, rows) for chunk in chunks]
        self._first_rows = _first_rows([len(chunk) for chunk in chunks])

    def __getitem__(self, row: int) -> npt.NDArray[np.uint8]:
        chunk, place = _place(self._first_rows, row)
        offsets, values = self._chunks[chunk]
        return values[offsets[place] : offsets[place + 1]]

    def lengths(self) -> npt.NDArray[np.int64]:
        """(rows,) bytes of each."""
        return _concatenated([np.diff(offsets) for offsets, _ in self._chunks])

    def count_of(self, byte: int) -> npt.NDArray[np.int64]:
        """(rows,) how often each row, none of which is empty, holds a byte."""
        return _concatenated([_count_of(byte, offsets, values) for offsets, values in self._chunks])


class BytesListColumn:
    """A column of lists of strings: row -> a list of (bytes,) uint8."""

    def __init__(self, column: pa.ChunkedArray, *, rows: str = "rows") -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._lists = [_list_offsets(chunk, rows) for chunk in chunks]
        self._strings = [_bytes_buffers(chunk.values, rows) for chunk in chunks]
        self._first_rows = _first_rows([len(chunk) for chunk in chunks])

    def __getitem__(self, row: int) -> list[npt.NDArray[np.uint8]]:
        chunk, place = _place(self._first_rows, row)
        (offsets, values), lists = self._strings[chunk], self._lists[chunk]
        strings = range(int(lists[place]), int(lists[place + 1]))
        return [values[offsets[string] : offsets[string + 1]] for string in strings]

    def sizes(self) -> npt.NDArray[np.int64]:
        """(rows,) strings in each list."""
        return _concatenated([np.diff(lists) for lists in self._lists])

    def lengths(self) -> npt.NDArray[np.int64]:
        """(strings of all rows,) bytes of each."""
        return _concatenated([np.diff(self._own_offsets(chunk)) for chunk in range(len(self._lists))])

    def count_of(self, byte: int) -> npt.NDArray[np.int64]:
        """(strings of all rows,) how often each, none of which is empty, holds a byte."""
        chunks = range(len(self._lists))
        return _concatenated([_count_of(byte, self._own_offsets(chunk), self._strings[chunk][1]) for chunk in chunks])

    def _own_offsets(self, chunk: int) -> npt.NDArray[np.int64]:
        """Offsets of the strings that the chunk's rows hold: it may be a slice of a longer one."""
        lists = self._lists[chunk]
        return self._strings[chunk][0][lists[0] : lists[-1] + 1]


class NumberListColumn:
    """A column of lists of numbers: row -> (values,), of the column's own type."""

    def __init__(self, column: pa.ChunkedArray, *, rows: str = "rows") -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._lists = [_list_offsets(chunk, rows) for chunk in chunks]
        self._values = [_numbers(chunk.values, rows) for chunk in chunks]
        self._first_rows = _first_rows([len(chunk) for chunk in chunks])

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        chunk, place = _place(self._first_rows, row)
        lists = self._lists[chunk]
        return self._values[chunk][lists[place] : lists[place + 1]]

    def sizes(self) -> npt.NDArray[np.int64]:
        """(rows,) numbers in each list."""
        return _concatenated([np.diff(lists) for lists in self._lists])

    def values(self) -> npt.NDArray[Any]:
        """(numbers of all rows,), one row behind the other."""
        pieces = zip(self._values, self._lists, strict=True)
        return np.concatenate([values[lists[0] : lists[-1]] for values, lists in pieces])


def _concatenated(parts: list[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)


def _first_rows(lengths: list[int]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *lengths[:-1]])


def _place(first_rows: npt.NDArray[np.int64], row: int) -> tuple[int, int]:
    """The chunk of a row, and its place in it."""
    chunk = int(np.searchsorted(first_rows, row, side="right")) - 1
    return chunk, row - int(first_rows[chunk])


def _count_of(byte: int, offsets: npt.NDArray[np.int64], values: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return np.add.reduceat(values[offsets[0] : offsets[-1]] == byte, offsets[:-1] - offsets[0], dtype=np.int64)


def _bytes_buffers(chunk: pa.Array, rows: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    _require_values(chunk, rows)
    is_large = pa.types.is_large_string(chunk.type) or pa.types.is_large_binary(chunk.type)
    _, offsets, values = chunk.buffers()
    letters = np.zeros(0, dtype=np.uint8) if values is None else np.frombuffer(values, dtype=np.uint8)
    return _offsets(chunk, offsets, is_large=is_large), letters


def _list_offsets(chunk: pa.Array, rows: str) -> npt.NDArray[np.int64]:
    _require_values(chunk, rows)
    return _offsets(chunk, chunk.buffers()[1], is_large=pa.types.is_large_list(chunk.type))


def _numbers(values: pa.Array, rows: str) -> npt.NDArray[Any]:
    _require_values(values, rows)
    return values.to_numpy(zero_copy_only=True)


def _offsets(chunk: pa.Array, buffer: pa.Buffer, *, is_large: bool) -> npt.NDArray[np.int64]:
    places = np.frombuffer(buffer, dtype=np.int64 if is_large else np.int32)
    return places[chunk.offset : chunk.offset + len(chunk) + 1].astype(np.int64)


def _require_values(chunk: pa.Array, rows: str) -> None:
    if chunk.null_count:
        raise ValueError(f"{chunk.null_count} {rows} have no value in a column of type {chunk.type}: build them again")
