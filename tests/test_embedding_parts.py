"""Parts of an unfinished embedding: resumed, refused, discarded, mended."""

from pathlib import Path

import numpy as np
import pytest

from omics_transformers.training.embedding_parts import EmbeddingParts

METADATA = {"layer": "transformer", "content_hash": "1"}


def open_parts(folder: Path, **changes: str) -> EmbeddingParts:
    parts = EmbeddingParts(folder / "f.safetensors", {**METADATA, **changes}, n_windows=7, part_size=3)
    parts.check(overwrite=False)
    parts.open()
    return parts


def features_of(part: range) -> np.ndarray:
    return np.array([[number, -number] for number in part], dtype=np.float32)


def test_a_stopped_run_goes_on_and_the_parts_join_in_order(tmp_path: Path) -> None:
    parts = open_parts(tmp_path)
    assert parts.all == parts.missing() == [range(0, 3), range(3, 6), range(6, 7)]
    parts.write(parts.all[1], features_of(parts.all[1]))
    again = open_parts(tmp_path)
    assert again.missing() == [range(0, 3), range(6, 7)]
    for part in again.missing():
        again.write(part, features_of(part))
    np.testing.assert_array_equal(again.read_all(), features_of(range(7)))
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_parts_of_something_else_are_refused_by_name_and_discarded_on_request(tmp_path: Path) -> None:
    parts = open_parts(tmp_path)
    parts.write(parts.all[0], features_of(parts.all[0]))
    with pytest.raises(FileExistsError, match="layer 'transformer', now 'conv_tower'"):
        open_parts(tmp_path, layer="conv_tower", content_hash="2")
    with pytest.raises(FileExistsError, match="other weights or sequences"):
        open_parts(tmp_path, content_hash="2")
    other = EmbeddingParts(tmp_path / "f.safetensors", {**METADATA, "content_hash": "2"}, n_windows=7, part_size=3)
    other.check(overwrite=True)
    other.open()
    assert other.missing() == other.all


def test_a_damaged_part_is_removed_and_made_again(tmp_path: Path) -> None:
    parts = open_parts(tmp_path)
    for part in parts.all:
        parts.write(part, features_of(part))
    path = sorted(parts.folder.glob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="was damaged"):
        parts.read_all()
    assert parts.missing() == [range(3, 6)]


def test_a_failed_write_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = open_parts(tmp_path)

    def full_disk(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        parts.write(parts.all[0], features_of(parts.all[0]))
    assert parts.missing() == parts.all
