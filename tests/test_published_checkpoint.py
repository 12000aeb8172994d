"""Checkpoints in folders and in the Hub's cache: whole, in shards, as PyTorch files, and broken ones."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from omics_transformers.training.published_checkpoint import open_checkpoint, read_tensors

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b.weight": torch.ones(4, dtype=torch.float16), "c": torch.zeros(())}


def write(folder: Path, kind: str) -> None:
    """All tensors in the files of a kind."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"hidden_size": 8}')
    stem, suffix = ("model", ".safetensors") if "safetensors" in kind else ("pytorch_model", ".bin")
    parts = [TENSORS] if "shards" not in kind else [{"a": TENSORS["a"]}, {"b.weight": TENSORS["b.weight"]}]
    if len(parts) > 1:
        parts[1]["c"] = TENSORS["c"]
        weight_map = {name: f"{stem}-{number}{suffix}" for number, part in enumerate(parts) for name in part}
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for number, part in enumerate(parts):
        path = folder / (f"{stem}-{number}{suffix}" if len(parts) > 1 else f"{stem}{suffix}")
        if suffix == ".bin":
            torch.save(part, path)
        else:
            save_file(part, path)


@pytest.mark.parametrize("kind", ["safetensors", "safetensors in shards", "bin", "bin in shards"])
def test_all_kinds_of_files(tmp_path: Path, kind: str) -> None:
    write(tmp_path, kind)
    assert open_checkpoint(tmp_path).config == {"hidden_size": 8}
    found = read_tensors(tmp_path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_safetensors_come_before_pickles(tmp_path: Path) -> None:
    write(tmp_path, "safetensors")
    torch.save({"other": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    assert read_tensors(tmp_path).keys() == TENSORS.keys()


@pytest.mark.parametrize("kind", ["safetensors", "bin in shards"])
def test_a_repository_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    repository = tmp_path / "models--org--nt"
    write(repository / "snapshots" / ("0" * 40), kind)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    checkpoint = open_checkpoint("org/nt")
    assert checkpoint.source == "org/nt" and checkpoint.folder.is_relative_to(repository)
    assert read_tensors(checkpoint.folder).keys() == TENSORS.keys()
    with pytest.raises(
        FileNotFoundError, match=r"org/nt is no folder here.*at revision v2.*Without a connection, give"
    ):
        open_checkpoint("org/nt", revision="v2")
    with pytest.raises(FileNotFoundError, match="org/other is no folder here"):
        open_checkpoint("org/other")
    with pytest.raises(FileNotFoundError, match=r"no such folder is no folder here.*HFValidationError"):
        open_checkpoint("no such folder")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config\.json in"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"config\.json is a file: give the folder"):
        open_checkpoint(tmp_path / "config.json")
    with pytest.raises(FileNotFoundError, match=r"no weights in .*expected one of .*found config\.json"):
        read_tensors(tmp_path)
    write(tmp_path, "safetensors in shards")
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"names shards that are not there: model-1\.safetensors"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(("text", "message"), [("{", "no whole JSON file"), ("[]", "holds a JSON list")])
def test_broken_configurations_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_checkpoint(tmp_path)


class Stranger:
    """What no file of weights may hold."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": TENSORS}, "holds state_dict: expected tensors by name"),
        ([1], "holds list"),
        (Stranger(), r"pytorch_model\.bin cannot be read as a file of tensors"),
    ],
)
def test_files_of_other_things_are_named(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=message):
        read_tensors(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_half_files_are_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, name.partition(".")[2])
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:200])
    with pytest.raises(ValueError, match=rf"{name} cannot be read as a file of tensors.*download it anew"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", "{"])
def test_a_broken_index_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match="is no index of shards"):
        read_tensors(tmp_path)
