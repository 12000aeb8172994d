"""The output appears whole or not at all; an unfinished build is resumed only by the same one."""

import json

import pytest

from omics_transformers.data_scripts.rank_token_folder import RankTokenFolder, record_shard


def stage(output, shard=b"rows", fingerprint=None, **options):
    """A build that is broken off after one shard."""
    with RankTokenFolder(output, fingerprint or {"max_length": 1}, **options) as folder:
        path = folder.shard_path(0, 2)
        path.write_bytes(shard)
        record_shard(path, {"input": "a.h5ad", "dropped_cells": {"no counts": ["x"]}})
    return folder


def test_an_unfinished_build_keeps_its_shards_beside_the_output(tmp_path):
    folder = stage(tmp_path / "out")
    assert not folder.output.exists()
    with RankTokenFolder(tmp_path / "out", {"max_length": 1}) as again:
        assert again.finished_shard(again.shard_path(0, 2)) is not None
        assert again.finished_shard(again.shard_path(1, 2)) is None


def test_a_shard_of_another_size_than_recorded_is_not_finished(tmp_path):
    folder = stage(tmp_path / "out")
    folder.shard_path(0, 2).write_bytes(b"")
    assert folder.finished_shard(folder.shard_path(0, 2)) is None


def test_another_build_refuses_or_discards_the_unfinished_one(tmp_path):
    stage(tmp_path / "out")
    with pytest.raises(ValueError, match="unfinished build that differs in max_length: repeat that build"):
        RankTokenFolder(tmp_path / "out", {"max_length": 2}).__enter__()
    with RankTokenFolder(tmp_path / "out", {"max_length": 2}, overwrite=True) as folder:
        assert folder.finished_shard(folder.shard_path(0, 2)) is None


def test_publishing_shows_the_whole_folder_and_leaves_nothing_else(tmp_path):
    stage(tmp_path / "out")
    with RankTokenFolder(tmp_path / "out", {"max_length": 1}) as folder:
        folder.write_json("report.json", {"cells": 1})
        folder.write_dropped_cells([folder.shard_path(0, 2)])
        assert not (tmp_path / "out").exists()
        folder.publish()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == {"cells": 1}
    assert (tmp_path / "out" / "dropped_cells.tsv").read_text() == "input\tcell_id\treason\na.h5ad\tx\tno counts\n"
    assert (tmp_path / "out" / "data" / "train-00000-of-00002.parquet").read_bytes() == b"rows"


def test_a_build_that_made_nothing_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), RankTokenFolder(tmp_path / "out", {}):
        raise KeyError("bad input")
    assert not list(tmp_path.iterdir())


def test_two_builds_at_once_are_refused(tmp_path):
    with RankTokenFolder(tmp_path / "out", {}), pytest.raises(ValueError, match="another process is building"):
        RankTokenFolder(tmp_path / "out", {}).__enter__()


def test_an_empty_folder_may_be_the_output(tmp_path):
    (tmp_path / "out").mkdir()
    with RankTokenFolder(tmp_path / "out", {}) as folder:
        folder.write_json("report.json", {})
        folder.publish()
    assert (tmp_path / "out" / "report.json").exists()
