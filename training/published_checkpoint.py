"""A published PyTorch checkpoint, from a local folder or the Hub: its configuration, its files and all its tensors.

No code of the checkpoint is run, and no pickle is unpacked beyond tensors (`torch.load(weights_only=True)`).
"""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file

_WEIGHTS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
_SMALL_FILES = ["config.json", "vocab.txt", "README.md"]


@dataclass(frozen=True)
class PublishedCheckpoint:
    """Where a checkpoint lies, and what its config.json says.

    Attributes:
        source: as the user named it.
        folder: that holds the files.
        config: the content of config.json.
    """

    source: str
    folder: Path
    config: dict[str, Any]


def open_checkpoint(source: str | Path, *, revision: str | None = None) -> PublishedCheckpoint:
    """Find a checkpoint and read its config.json.

    Args:
        source: a folder, or the id of a repository on the Hub, of which configuration, vocabulary and weights are
            downloaded: safetensors where there are any, else pytorch_model.bin.
        revision: branch, tag or commit on the Hub.

    Raises:
        FileNotFoundError: where there is no such folder or repository, no config.json, or no weights.
        ValueError: where config.json is no JSON object.
    """
    folder = Path(source) if Path(source).exists() else _downloaded(str(source), revision)
    if not folder.is_dir():
        raise FileNotFoundError(f"{source} is a file: give the folder that holds config.json, vocab.txt and weights")
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no config.json in {folder}: it must lie beside the weights, as published")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no whole JSON file: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds a JSON {type(config).__name__}, expected one object")
    return PublishedCheckpoint(str(source), folder, config)


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint on the CPU: safetensors or PyTorch files, whole or in shards.

    Raises:
        FileNotFoundError: where weights, or a shard that the index names, are missing.
        ValueError: where a file cannot be read, or holds anything but tensors by name.
    """
    found = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        held = sorted(path.name for path in folder.iterdir())
        raise FileNotFoundError(
            f"no weights in {folder}: expected one of {', '.join(_WEIGHTS)}, found {', '.join(held) or 'nothing'}"
        )
    tensors: dict[str, torch.Tensor] = {}
    for path in _shards(found):
        tensors |= _read_file(path)
    return tensors


def _downloaded(source: str, revision: str | None) -> Path:
    try:
        patterns = [*_SMALL_FILES, "*.safetensors", "*.safetensors.index.json"]
        folder = Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
        if not any((folder / name).is_file() for name in _WEIGHTS):
            patterns = [*_SMALL_FILES, "pytorch_model*.bin", "pytorch_model.bin.index.json"]
            folder = Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{source} is no folder here, and could not be had from the Hub"
            f"{f' at revision {revision}' if revision else ''} ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "Without a connection, give a folder that holds config.json, vocab.txt and model.safetensors or "
            "pytorch_model.bin"
        ) from error
    return folder


def _shards(path: Path) -> list[Path]:
    if not path.name.endswith(".index.json"):
        return [path]
    try:
        names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f'{path} is no index of shards: expected a JSON object with "weight_map"') from error
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{path} names shards that are not there: {', '.join(missing)}; download them too")
    return [path.parent / name for name in names]


def _read_file(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as a file of tensors ({error}): download it anew") from error
    is_state = isinstance(content, dict) and all(torch.is_tensor(value) for value in content.values())
    if not is_state:
        held = ", ".join(map(str, list(content)[:3])) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} holds {held}: expected tensors by name, as state_dict() gives them")
    return content
