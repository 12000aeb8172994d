"""Slices of one-dimensional HDF5 datasets, decompressed outside HDF5's global lock so that threads run side by side.

Gzip chunks (with or without byte shuffle) are read at their place in the file and inflated with zlib, which releases
the GIL. Everything else (lzf, plug-in filters, contiguous storage, a user block) goes through h5py: slower in threads,
same values. Chunk layout: https://support.hdfgroup.org/documentation/hdf5/latest/_h5_d__u_g.html
"""

import os
import weakref
import zlib
from pathlib import Path

import h5py
import numpy as np

_SHUFFLE, _DEFLATE = h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE


class Hdf5Vector:
    """A one-dimensional numeric dataset of an open file; `read` may be called from several threads."""

    def __init__(self, dataset: h5py.Dataset, path: Path) -> None:
        if dataset.ndim != 1 or dataset.dtype.kind not in "biuf":
            raise ValueError(f"{path}: {dataset.name} should be a vector of numbers, found {dataset}")
        self.path = path
        self.dtype = dataset.dtype
        self._dataset = dataset
        self._chunk_offsets, self._chunk_sizes = _chunk_places(dataset)
        self._shuffled = bool(dataset.shuffle)
        self._descriptor = os.open(path, os.O_RDONLY) if len(self._chunk_offsets) else -1
        self._finalizer = weakref.finalize(self, os.close, self._descriptor) if self._descriptor >= 0 else None

    def __len__(self) -> int:
        return int(self._dataset.shape[0])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Values `start` to `stop` (exclusive); ValueError, naming the file, where it is damaged."""
        try:
            if self._descriptor < 0 or start >= stop:
                return self._dataset[start:stop]
            return self._read_chunks(start, stop)
        except (OSError, zlib.error) as error:
            raise ValueError(
                f"{self.path}: {self._dataset.name} cannot be read between {start} and {stop} ({error}): the file is "
                "damaged or was cut short; copy or write it again"
            ) from error

    def close(self) -> None:
        """Closes the descriptor; done as well when the vector is collected."""
        if self._finalizer is not None:
            self._finalizer()

    def _read_chunks(self, start: int, stop: int) -> np.ndarray:
        length = self._dataset.chunks[0]
        values = np.empty(stop - start, self.dtype)
        for chunk in range(start // length, -(-stop // length)):
            begin = chunk * length
            low, high = max(start, begin), min(stop, begin + length)
            values[low - start : high - start] = self._inflate(chunk, length)[low - begin : high - begin]
        return values

    def _inflate(self, chunk: int, length: int) -> np.ndarray:
        size = int(self._chunk_sizes[chunk])
        packed = os.pread(self._descriptor, size, int(self._chunk_offsets[chunk]))
        if len(packed) != size:
            raise OSError(f"chunk {chunk} is cut short")
        n_bytes = length * self.dtype.itemsize
        unpacked = zlib.decompress(packed, bufsize=n_bytes)
        if len(unpacked) != n_bytes:
            raise OSError(f"chunk {chunk} holds {len(unpacked)} bytes instead of {n_bytes}")
        if not self._shuffled:
            return np.frombuffer(unpacked, self.dtype)
        planes = np.frombuffer(unpacked, np.uint8).reshape(self.dtype.itemsize, length)
        return np.ascontiguousarray(planes.T).view(self.dtype).ravel()


def _chunk_places(dataset: h5py.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """File offset and stored size of every chunk, by chunk number; empty where chunks cannot be read directly."""
    none = np.empty(0, np.int64), np.empty(0, np.int64)
    if (
        dataset.chunks is None
        or not hasattr(os, "pread")
        or dataset.file.userblock_size
        or dataset.file.driver != "sec2"
    ):
        return none
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if filters not in ([_DEFLATE], [_SHUFFLE, _DEFLATE]):
        return none
    n_chunks = -(-dataset.shape[0] // dataset.chunks[0])
    offsets, sizes = np.full(n_chunks, -1, np.int64), np.zeros(n_chunks, np.int64)
    unfiltered: list[int] = []

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        number = chunk.chunk_offset[0] // dataset.chunks[0]
        if number < n_chunks:
            offsets[number], sizes[number] = chunk.byte_offset, chunk.size
        if chunk.filter_mask:
            unfiltered.append(number)

    dataset.id.chunk_iter(note)
    return none if unfiltered or (offsets < 0).any() else (offsets, sizes)
