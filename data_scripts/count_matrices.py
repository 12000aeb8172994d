"""Rows of a cells x genes count matrix on demand, whatever its storage: CSR, dense, or spooled from CSC or text.

Storage that is not ordered by cell (CSC, Matrix Market) is turned into CSR once, in temporary files, and memory stays
bounded by a block of entries: one pass counts the entries of each cell, a second puts them in their places.
"""

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import h5py
import numpy as np
import scipy.sparse as sp
from numba import njit

from .hdf5_vectors import Hdf5Vector

logger = logging.getLogger(__name__)

ENTRIES_PER_BLOCK = 4_000_000


class CountMatrix(Protocol):
    """Counts `(cells, columns)` of one file."""

    shape: tuple[int, int]

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        """Rows `start` to `stop` (exclusive); may be called from several threads."""

    def close(self) -> None:
        """Gives back files and temporary folders."""


class Entries(NamedTuple):
    """A block of stored values, in any order."""

    rows: np.ndarray  # (entries,) int
    columns: np.ndarray  # (entries,) int
    values: np.ndarray  # (entries,) number


class CompressedRows:
    """CSR rows in an HDF5 group (`data`, `indices`, `indptr`), as .h5ad stores them; a 10x .h5 is the same by cell."""

    def __init__(self, group: h5py.Group, shape: tuple[int, int], path: Path) -> None:
        self.shape = shape
        self._indptr = group["indptr"][:].astype(np.int64)
        self._indices = Hdf5Vector(group["indices"], path)
        self._data = Hdf5Vector(group["data"], path)
        require_valid_indptr(self._indptr, shape[0], min(len(self._indices), len(self._data)), f"{path}: {group.name}")

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        indptr = self._indptr[start : stop + 1]
        low, high = int(indptr[0]), int(indptr[-1])
        return _csr(self._data.read(low, high), self._indices.read(low, high), indptr - low, self.shape[1])

    def close(self) -> None:
        self._indices.close()
        self._data.close()


class DenseRows:
    """Rows of a dense HDF5 dataset, read in blocks that bound memory."""

    def __init__(self, dataset: h5py.Dataset, path: Path) -> None:
        if dataset.ndim != 2:
            raise ValueError(f"{path}: {dataset.name} should have two dimensions, found shape {dataset.shape}")
        self.shape = dataset.shape
        self.path = path
        self._dataset = dataset
        self._block = max(1, ENTRIES_PER_BLOCK // max(1, self.shape[1]))

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        try:
            blocks = [
                sp.csr_matrix(self._dataset[low : min(low + self._block, stop)])
                for low in range(start, stop, self._block)
            ]
        except OSError as error:
            raise ValueError(
                f"{self.path}: rows {start} to {stop} cannot be read ({error}): the file is damaged"
            ) from error
        return sp.vstack(blocks, format="csr") if blocks else sp.csr_matrix((0, self.shape[1]))

    def close(self) -> None:
        pass


class SpooledRows:
    """Rows put in order in unnamed temporary files (in TMPDIR) at the first `read`; the system removes them."""

    def __init__(self, blocks: Callable[[], Iterator[Entries]], shape: tuple[int, int], source: str) -> None:
        self.shape = shape
        self._blocks = blocks
        self._source = source
        self._lock = threading.Lock()
        self._rows: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def read(self, start: int, stop: int) -> sp.csr_matrix:
        all_indptr, indices, data = self._spooled()
        indptr = all_indptr[start : stop + 1]
        rows = slice(int(indptr[0]), int(indptr[-1]))
        return _csr(np.array(data[rows]), np.array(indices[rows]), indptr - indptr[0], self.shape[1])

    def close(self) -> None:
        self._rows = None

    def _spooled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with self._lock:
            if self._rows is None:
                logger.info("%s is not stored by cell: putting it in order in temporary files", self._source)
                indptr = _count_entries(self._blocks, self.shape, self._source)
                indices, data = _temporary(np.int32, int(indptr[-1])), _temporary(np.float64, int(indptr[-1]))
                ends = indptr[:-1].copy()
                for block in self._blocks():
                    _place_entries(*_as_kernel_types(block), ends, indices, data)
                self._rows = indptr, indices, data
            return self._rows


def _temporary(dtype: type, length: int) -> np.ndarray:
    """An array on disk; raises OSError now, not a bus error later, where the disk cannot hold it."""
    with tempfile.TemporaryFile() as file:
        if length and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, length * np.dtype(dtype).itemsize)
        return np.memmap(file, dtype, mode="w+", shape=(max(1, length),))


def column_entries(group: h5py.Group, n_columns: int, path: Path) -> Callable[[], Iterator[Entries]]:
    """Blocks of whole columns of a CSC group, at most ENTRIES_PER_BLOCK entries each where columns allow."""
    indptr = group["indptr"][:].astype(np.int64)
    require_valid_indptr(indptr, n_columns, min(len(group["indices"]), len(group["data"])), f"{path}: {group.name}")

    def blocks() -> Iterator[Entries]:
        rows, values = Hdf5Vector(group["indices"], path), Hdf5Vector(group["data"], path)
        start = 0
        while start < n_columns:
            stop = int(np.searchsorted(indptr, indptr[start] + ENTRIES_PER_BLOCK, side="right")) - 1
            stop = min(max(stop, start + 1), n_columns)
            low, high = int(indptr[start]), int(indptr[stop])
            columns = np.repeat(np.arange(start, stop), np.diff(indptr[start : stop + 1]))
            yield Entries(rows.read(low, high), columns, values.read(low, high))
            start = stop
        rows.close()
        values.close()

    return blocks


def require_valid_indptr(indptr: np.ndarray, n_rows: int, n_stored: int, source: str) -> None:
    """Raises ValueError unless `indptr` cuts `n_stored` values into `n_rows` rows."""
    if len(indptr) != n_rows + 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any() or indptr[-1] > n_stored:
        raise ValueError(
            f"{source}: indptr does not describe {n_rows} rows of {n_stored} stored values: the file is damaged; write "
            "it again"
        )


def _csr(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, n_columns: int) -> sp.csr_matrix:
    """The matrix as stored, without scipy's checks: rows may be unsorted and may repeat a column."""
    rows = sp.csr_matrix((len(indptr) - 1, n_columns), dtype=data.dtype)
    rows.data, rows.indices, rows.indptr = data, indices, indptr
    return rows


def _count_entries(blocks: Callable[[], Iterator[Entries]], shape: tuple[int, int], source: str) -> np.ndarray:
    counts = np.zeros(shape[0], np.int64)
    for block in blocks():
        for name, positions, length in (("cell", block.rows, shape[0]), ("gene", block.columns, shape[1])):
            if len(positions) and (positions.min() < 0 or positions.max() >= length):
                raise ValueError(f"{source}: a {name} index lies outside 0..{length - 1}: the file is damaged")
        counts += np.bincount(block.rows, minlength=shape[0])
    return np.concatenate([[0], np.cumsum(counts)])


def _as_kernel_types(block: Entries) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        block.rows.astype(np.int64, copy=False),
        block.columns.astype(np.int64, copy=False),
        block.values.astype(np.float64, copy=False),
    )


@njit(cache=True, nogil=True)
def _place_entries(rows, columns, values, ends, spooled_columns, spooled_values):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        position = ends[rows[i]]
        spooled_columns[position] = columns[i]
        spooled_values[position] = values[i]
        ends[rows[i]] += 1
