"""The folder of finished blocks: what is written is read, damage and other settings are found."""

import json
from pathlib import Path

import numpy as np
import pytest

from omics_transformers.pipelines.segmentation_windows import Piece
from omics_transformers.segmentation_blocks import SegmentationBlocks, read_block

SETTINGS = {"model_sha256": "m" * 64, "window_bp": 120, "regions": ["chr1:1-9"]}
PIECES = [Piece("chr1", 5, 25, ()), Piece("chr2", 0, 7, ())]


@pytest.fixture
def arrays() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    found = [generator.random((piece.end - piece.start, 3), dtype=np.float32) for piece in PIECES]
    found[0][3:5] = np.nan
    return found


@pytest.fixture
def blocks(tmp_path: Path) -> SegmentationBlocks:
    found = SegmentationBlocks(tmp_path / "out", SETTINGS)
    found.check(overwrite=False)
    found.open()
    return found


def test_what_is_written_is_read(blocks: SegmentationBlocks, arrays: list[np.ndarray]) -> None:
    assert blocks.folder.name == "out.partial" and not blocks.has(7)
    blocks.write(7, PIECES, arrays)
    assert blocks.has(7)
    for element in range(3):
        found = list(read_block(blocks.folder, 7, element))
        assert [(piece.contig, piece.start) for piece in found] == [("chr1", 5), ("chr2", 0)]
        for piece, array in zip(found, arrays, strict=True):
            np.testing.assert_array_equal(piece.values, array[:, element])
            assert piece.values.dtype == np.float32
    blocks.close()
    blocks.remove()
    assert not blocks.folder.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "other"])
def test_damaged_blocks_are_found_and_removed(
    blocks: SegmentationBlocks, arrays: list[np.ndarray], damage: str
) -> None:
    blocks.write(0, PIECES, arrays)
    (path,) = (blocks.folder / "blocks").iterdir()
    data = bytearray(path.read_bytes())
    if damage == "flipped":  # bits of the column itself, which is stored as it is: random numbers do not compress
        place = bytes(data).index(arrays[0][10:18, 0].tobytes())
        data[place] ^= 1
    path.write_bytes({"cut": data[:-40], "empty": b"", "flipped": data, "other": b"ARROW1" * 40}[damage])
    with pytest.raises(ValueError, match=r"000000.arrow was damaged and is removed: run again"):
        list(read_block(blocks.folder, 0, 0))
    assert not blocks.has(0)


def test_other_settings_are_refused_and_discarded_only_on_request(tmp_path: Path, arrays: list[np.ndarray]) -> None:
    first = SegmentationBlocks(tmp_path / "out", SETTINGS)
    first.open()
    first.write(0, PIECES, arrays)
    first.close()
    same = SegmentationBlocks(tmp_path / "out", dict(SETTINGS))
    same.check(overwrite=False)
    same.open()
    assert same.has(0)
    same.close()
    other = SegmentationBlocks(tmp_path / "out", {**SETTINGS, "window_bp": 240, "model_sha256": "n" * 64})
    with pytest.raises(FileExistsError, match=r"model_sha256 was .*; window_bp was 120 and is 240.*--overwrite"):
        other.check(overwrite=False)
    assert same.has(0)
    other.check(overwrite=True)
    other.open()
    assert not other.has(0)
    assert json.loads((other.folder / "settings.json").read_text())["window_bp"] == 240
    other.close()


def test_unreadable_settings_count_as_others(tmp_path: Path) -> None:
    blocks = SegmentationBlocks(tmp_path / "out", SETTINGS)
    blocks.folder.mkdir()
    (blocks.folder / "settings.json").write_text("{")
    with pytest.raises(FileExistsError, match="window_bp was null and is 120"):
        blocks.check(overwrite=False)


def test_one_process_at_a_time(blocks: SegmentationBlocks, tmp_path: Path) -> None:
    second = SegmentationBlocks(tmp_path / "out", SETTINGS)
    with pytest.raises(OSError, match=r"another process is writing to .*out\.partial"):
        second.open()
    blocks.close()
    second.open()
    second.close()
