"""The parts of an unfinished embedding: a folder of small safetensors files, so that a stopped run can go on.

Each part holds the features of a range of windows and is written whole or not at all. settings.json says what the parts
were made from; parts of anything else are never mixed in.
"""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

logger = logging.getLogger(__name__)

SETTINGS = "settings.json"


class EmbeddingParts:
    """The folder `<output>.parts`.

    Attributes:
        folder: where the parts are.
        all: the ranges of windows, one a part.
    """

    def __init__(self, output: Path, metadata: dict[str, str], n_windows: int, part_size: int) -> None:
        self.folder = output.with_name(output.name + ".parts")
        self.all = [range(first, min(first + part_size, n_windows)) for first in range(0, n_windows, part_size)]
        self._metadata = metadata

    def check(self, *, overwrite: bool) -> None:
        """Refuse parts that were made from something else, unless they may be overwritten.

        Raises:
            FileExistsError: naming the settings that differ.
        """
        found = self._found_settings()
        if found is None or found.get("content_hash") == self._metadata["content_hash"] or overwrite:
            return
        differing = [name for name in self._metadata if found.get(name) != self._metadata[name]]
        settings = [f"{name} {found.get(name)!r}, now {self._metadata[name]!r}" for name in differing]
        named = "; ".join(setting for setting in settings if not setting.startswith("content_hash"))
        raise FileExistsError(
            f"{self.folder} holds an unfinished embedding made from something else "
            f"({named or 'other weights or sequences'}). Finish it with the same input, name another output, or pass "
            "overwrite (--overwrite) to discard it"
        )

    def open(self) -> None:
        """Make the folder, and discard parts that were made from something else."""
        found = self._found_settings()
        if found is None or found.get("content_hash") != self._metadata["content_hash"]:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_whole(self.folder / SETTINGS, json.dumps(self._metadata, indent=1).encode())
        done = len(self.all) - len(self.missing())
        if done:
            logger.info("%s: %d of %d parts are done already", self.folder, done, len(self.all))

    def missing(self) -> list[range]:
        """The parts still to be made."""
        return [part for part in self.all if not self._path(part).exists()]

    def write(self, part: range, features: np.ndarray) -> None:
        """Features (windows of the part, size) float32."""
        assert features.shape[0] == len(part)
        _write_whole(self._path(part), save({"features": np.ascontiguousarray(features, dtype=np.float32)}))

    def read_all(self) -> np.ndarray:
        """(windows, size) float32, all parts in order.

        Raises:
            ValueError: where a part is damaged; it is removed, so that the next run makes it again.
        """
        return np.concatenate([self._read(part) for part in self.all])

    def remove(self) -> None:
        """Remove the folder, when its content is safe elsewhere."""
        shutil.rmtree(self.folder)

    def _read(self, part: range) -> np.ndarray:
        path = self._path(part)
        try:
            with safe_open(path, framework="numpy") as file:
                return file.get_tensor("features")
        except SafetensorError as error:
            path.unlink()
            raise ValueError(f"{path} was damaged ({error}) and is removed: run again to make it anew") from error

    def _path(self, part: range) -> Path:
        return self.folder / f"{part.start:09d}-{part.stop:09d}.safetensors"

    def _found_settings(self) -> dict[str, str] | None:
        path = self.folder / SETTINGS
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text())
        except json.JSONDecodeError:
            return {}


def _write_whole(path: Path, data: bytes) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
