"""Folders of one base name and different content are read as what they hold."""

from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omics_transformers.data_scripts.configuration_name import configuration_name


def write_folder(folder: Path, values: list[int]) -> Path:
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"value": values}), folder / "part.parquet")
    name = configuration_name([folder / "part.parquet"])
    card = f"---\nconfigs:\n- config_name: {name}\n  data_files:\n  - split: train\n    path: part.parquet\n---\n"
    (folder / "README.md").write_text(card)
    return folder


def test_folders_of_one_name_are_not_mistaken_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {tmp_path / parent / "cells": [number] * 3 for number, parent in enumerate("ab")}
    for folder, values in folders.items():
        write_folder(folder, values)
    for folder, values in folders.items():
        read = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
        assert list(read["value"]) == values


def test_the_name_depends_on_content_and_order_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    name = configuration_name([first, second])
    assert name == configuration_name([first.rename(tmp_path / "renamed"), second])
    assert name != configuration_name([second, tmp_path / "renamed"])
    second.write_bytes(b"too")
    assert name != configuration_name([tmp_path / "renamed", second])
