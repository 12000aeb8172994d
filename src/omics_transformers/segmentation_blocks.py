"""Finished blocks of an unfinished segmentation: a folder of Arrow files, so that a stopped run can go on.

Each file holds the probabilities of some stretches of sequence, a column an element, compressed, with a SHA-256 of each
column. It is written whole or not at all. settings.json says what they were made from; blocks of anything else are
never mixed in.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pyarrow as pa

from .pipelines.segmentation_tracks import TrackPiece
from .pipelines.segmentation_windows import Piece

logger = logging.getLogger(__name__)

_SETTINGS = "settings.json"
_LOCK = ".lock"
_PIECES = b"pieces"


class SegmentationBlocks:
    """The folder `<output>.partial`.

    Attributes:
        folder: where the blocks are.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self.folder = output.with_name(output.name + ".partial")
        self._settings = dict(settings)
        self._lock = filelock.FileLock(self.folder / _LOCK, timeout=0)

    def check(self, *, overwrite: bool) -> None:
        """Refuse blocks that were made from something else, unless they may be discarded.

        Raises:
            FileExistsError: naming the settings that differ.
        """
        found = self._found_settings()
        if found is None or found == self._settings or overwrite:
            return
        names = [name for name in self._settings if found.get(name) != self._settings[name]]
        differing = "; ".join(
            f"{name} was {_short(found.get(name))} and is {_short(self._settings[name])}" for name in names
        )
        raise FileExistsError(
            f"{self.folder} holds an unfinished segmentation made from something else ({differing}): finish it with "
            "the same input and options, name another output, or pass overwrite (--overwrite) to discard it"
        )

    def open(self) -> None:
        """Make the folder, keep other processes out, and discard blocks that were made from something else.

        Raises:
            OSError: where another process is at work in it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except filelock.Timeout as error:
            raise OSError(
                f"another process is writing to {self.folder}: wait for it, or name another output"
            ) from error
        if self._found_settings() != self._settings:
            self._discard()
        _write_whole(self.folder / _SETTINGS, json.dumps(self._settings, indent=1).encode())

    def close(self) -> None:
        """Let other processes in; what is finished stays."""
        self._lock.release()

    def remove(self) -> None:
        """Remove the folder, when its content is safe elsewhere and it is closed."""
        shutil.rmtree(self.folder)

    def has(self, number: int) -> bool:
        """Whether the block is finished."""
        return self._path(number).exists()

    def write(self, number: int, pieces: Sequence[Piece], probabilities: Sequence[np.ndarray]) -> None:
        """Keep a block.

        Args:
            number: of the block, from 0.
            pieces: of the block.
            probabilities: (bases, elements) float32 a piece.
        """
        elements = range(probabilities[0].shape[1])
        columns = {str(element): np.concatenate([part[:, element] for part in probabilities]) for element in elements}
        metadata = {name.encode(): _sha256(column).encode() for name, column in columns.items()}
        metadata[_PIECES] = json.dumps([[piece.contig, piece.start, piece.end] for piece in pieces]).encode()
        table = pa.table(columns).replace_schema_metadata(metadata)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)
        _write_whole(self._path(number), memoryview(sink.getvalue()))

    def _path(self, number: int) -> Path:
        return block_path(self.folder, number)

    def _discard(self) -> None:
        """All but the lock, which is held."""
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != _LOCK:
                entry.unlink()

    def _found_settings(self) -> dict[str, Any] | None:
        path = self.folder / _SETTINGS
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            return {}


def read_block(folder: Path, number: int, element: int) -> Iterator[TrackPiece]:
    """One element's probabilities, piece after piece.

    Args:
        folder: of the blocks.
        number: of the block, from 0.
        element: column of its probabilities.

    Raises:
        ValueError: where the block is damaged; it is removed, so that the next run makes it again.
    """
    path = block_path(folder, number)
    try:
        table = _read_column(path, element)
        values = table.column(0).to_numpy()
        metadata = table.schema.metadata
        is_whole = metadata[str(element).encode()].decode() == _sha256(values)
        pieces = json.loads(metadata[_PIECES])
    except (pa.ArrowException, KeyError, OSError, json.JSONDecodeError) as error:
        raise _damaged(path) from error
    if not is_whole:
        raise _damaged(path)
    first = 0
    for contig, start, end in pieces:
        yield TrackPiece(contig, start, values[first : first + end - start])
        first += end - start


def block_path(folder: Path, number: int) -> Path:
    """Where a block lies."""
    return folder / "blocks" / f"{number:06d}.arrow"


def _read_column(path: Path, element: int) -> pa.Table:
    options = pa.ipc.IpcReadOptions(included_fields=[element])
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source, options=options) as reader:
        return reader.read_all()


def _damaged(path: Path) -> ValueError:
    path.unlink(missing_ok=True)
    return ValueError(f"{path} was damaged and is removed: run again to make it anew; the other blocks are kept")


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _write_whole(path: Path, data: bytes | memoryview) -> None:
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
