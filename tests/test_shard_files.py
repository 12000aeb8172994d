"""Shards found, checked by their footers and read, on disk and through fsspec."""

from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omics_transformers.training.shard_files import CorruptShardError, open_shards, shard_pattern

CELLS = [[2, 5, 3], [4], [], [6, 7, 2, 3, 5], [7, 2]]


def write_shards(folder: Path, cells: list[list[int]] = CELLS, *, first: int = 2, **options: Any) -> list[Path]:
    """Two shards: the first cells, and the others."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    paths = []
    for number, part in enumerate((cells[:first], cells[first:])):
        table = pa.table({"input_ids": pa.array(part, pa.list_(pa.uint16())), "length": pa.array(map(len, part))})
        paths.append(folder / "data" / f"train-{number:05d}-of-00002.parquet")
        pq.write_table(table, paths[-1], row_group_size=2, **options)
    return paths


def test_footers_say_what_there_is(tmp_path: Path) -> None:
    write_shards(tmp_path)
    files = open_shards(tmp_path, vocabulary_size=8)
    assert [shard.name for shard in files.shards] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert [(shard.cells, shard.tokens, shard.largest_token) for shard in files.shards] == [(2, 4, 5), (3, 7, 7)]
    assert (files.cells, files.tokens) == (5, 11)
    assert files.group_cells.tolist() == [2, 2, 1]
    assert files.first_cells.tolist() == [0, 2, 4]
    assert [files.shard_of(group) for group in range(3)] == [0, 1, 1]
    read = [files.read(group, ["input_ids"]).column("input_ids").to_pylist() for group in range(3)]
    assert read == [CELLS[:2], CELLS[2:4], CELLS[4:]]


def test_any_file_system_is_read_alike(tmp_path: Path) -> None:
    write_shards(tmp_path)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "data"), "/shards_of_a_test/data", recursive=True)
    try:
        distant = open_shards("memory://shards_of_a_test", vocabulary_size=8)
        local = open_shards(str(tmp_path), vocabulary_size=8)
        assert distant.fingerprint() == local.fingerprint()
        for group in range(3):
            assert distant.read(group, ["input_ids"]).equals(local.read(group, ["input_ids"]))
    finally:
        memory.rm("/shards_of_a_test", recursive=True)


def test_other_content_has_another_fingerprint(tmp_path: Path) -> None:
    write_shards(tmp_path / "one")
    write_shards(tmp_path / "same")
    write_shards(tmp_path / "other", [*CELLS, [3]])
    one, same, other = (
        open_shards(tmp_path / name, vocabulary_size=8).fingerprint() for name in ("one", "same", "other")
    )
    assert one == same != other


def test_names_of_the_hub_and_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shard_pattern("org/cells") == "hf://datasets/org/cells/data/train-*.parquet"
    assert shard_pattern("org/cells@v1.0") == "hf://datasets/org/cells@v1.0/data/train-*.parquet"
    assert shard_pattern("hf://datasets/org/cells/") == "hf://datasets/org/cells/data/train-*.parquet"
    assert shard_pattern("s3://bucket/x/*.parquet") == "s3://bucket/x/*.parquet"
    file_system, path = fsspec.core.url_to_fs(shard_pattern("org/cells"))
    assert type(file_system).__name__ == "HfFileSystem"
    assert path == "datasets/org/cells/data/train-*.parquet"
    monkeypatch.chdir(tmp_path)
    Path("org/cells").mkdir(parents=True)
    assert shard_pattern("org/cells") == "org/cells/data/train-*.parquet"  # a folder goes first
    with pytest.raises(FileNotFoundError, match="no folder of tokenised cells at /no/such/folder"):
        shard_pattern("/no/such/folder")
    with pytest.raises(FileNotFoundError, match=r"no shards at org/cells/data/train-\*\.parquet"):
        open_shards("org/cells", vocabulary_size=8)


def test_tokens_of_another_vocabulary_are_refused_by_the_footer(tmp_path: Path) -> None:
    write_shards(tmp_path)
    with pytest.raises(ValueError, match=r"train-00001-of-00002\.parquet holds the token 7, and the vocabulary has 7"):
        open_shards(tmp_path, vocabulary_size=7)


def test_footers_without_statistics_are_taken(tmp_path: Path) -> None:
    write_shards(tmp_path, write_statistics=False)
    assert [shard.largest_token for shard in open_shards(tmp_path, vocabulary_size=2).shards] == [None, None]


def test_shards_of_another_schema_are_named(tmp_path: Path) -> None:
    paths = write_shards(tmp_path)
    with pytest.raises(
        ValueError, match=r"train-00000-of-00002\.parquet has the columns input_ids, length and lacks donor"
    ):
        open_shards(tmp_path, vocabulary_size=8, columns=["donor"])
    pq.write_table(pa.table({"tokens": [[1]]}), paths[1])
    with pytest.raises(ValueError, match=r"train-00001-of-00002\.parquet has the columns tokens and lacks input_ids"):
        open_shards(tmp_path, vocabulary_size=8)
    pq.write_table(pa.table({"input_ids": [[1.5]]}), paths[1])
    with pytest.raises(ValueError, match=r"train-00001.*is of type list<element: double>, expected lists of integers"):
        open_shards(tmp_path, vocabulary_size=8)


def test_corrupt_footers_are_named_and_skipped_on_request_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = write_shards(tmp_path)
    paths[0].write_bytes(paths[0].read_bytes()[:-20])
    with pytest.raises(CorruptShardError, match=r"1 of the 2 shards .* are corrupt: train-00000-of-00002\.parquet"):
        open_shards(tmp_path, vocabulary_size=8)
    files = open_shards(tmp_path, vocabulary_size=8, skip_corrupt_shards=True)
    assert [shard.name for shard in files.shards] == ["train-00001-of-00002.parquet"]
    assert list(files.corrupt) == ["train-00000-of-00002.parquet"]
    assert "corrupt shard train-00000-of-00002.parquet is left out" in caplog.text
    paths[1].write_bytes(b"")
    with pytest.raises(ValueError, match=r"the 2 shards of .* hold no cells"):
        open_shards(tmp_path, vocabulary_size=8, skip_corrupt_shards=True)


def test_corrupt_pages_are_named_when_read(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, compression="zstd")
    files = open_shards(tmp_path, vocabulary_size=8)
    content = bytearray(paths[1].read_bytes())
    content[4:60] = bytes(56)  # behind the magic number lie the first row group's pages
    paths[1].write_bytes(content)
    with pytest.raises(CorruptShardError, match=r"train-00001-of-00002\.parquet of .* is corrupt in its row group 0"):
        files.read(1, ["input_ids"])
    assert files.read(0, ["input_ids"]).num_rows == 2


def test_a_shard_that_vanished_is_not_called_corrupt(tmp_path: Path) -> None:
    paths = write_shards(tmp_path)
    files = open_shards(tmp_path, vocabulary_size=8)
    paths[0].unlink()
    with pytest.raises(FileNotFoundError):
        files.read(0, ["input_ids"])
