"""The files of a published Geneformer: its checkpoint, on disk or on the Hub, and its dictionaries as JSON.

Geneformer publishes its dictionaries as pickles, which run code when they are opened: they are refused, with the
command that writes them as JSON where they are trusted.
"""

import gzip
import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from .published_checkpoint import PublishedCheckpoint, open_checkpoint

logger = logging.getLogger(__name__)

_FILES = ("config.json", "README.md")
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors")
_PYTORCH = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin")
_PICKLES = (".pkl", ".pickle")
_TO_JSON = (
    "python -c \"import json, pickle, sys; content = pickle.load(open(sys.argv[1], 'rb')); "
    "json.dump({k: v if isinstance(v, (int, str)) else float(v) for k, v in content.items()}, open(sys.argv[2], 'w'))\""
)

Source = str | Path | Mapping[str, Any]


@dataclass(frozen=True)
class Dictionaries:
    """What the tokenizer is made of.

    Attributes:
        tokens: (vocabulary,) the token of each id.
        gene_medians: gene id -> median; empty where unknown.
        gene_symbols: gene id of the vocabulary -> symbol; empty where unknown.
    """

    tokens: list[str]
    gene_medians: dict[str, float]
    gene_symbols: dict[str, str]


def open_geneformer(
    source: str | Path, *, subfolder: str | None = None, revision: str | None = None
) -> PublishedCheckpoint:
    """Find a checkpoint; of a repository on the Hub, only the files of this model are downloaded.

    Raises:
        FileNotFoundError: where there is no such folder or repository, no config.json, or no weights.
    """
    local = Path(source)
    root = local if local.exists() else _downloaded(str(source), subfolder, revision)
    folder = root / subfolder if subfolder else root
    if not folder.is_dir():
        held = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) if root.is_dir() else "nothing"
        raise FileNotFoundError(f"{source} has no folder {subfolder}; it has {held or 'none'}")
    name = f"{source}/{subfolder}" if subfolder and not local.exists() else str(source)
    return replace(open_checkpoint(folder), source=name)


def read_dictionaries(
    folder: Path,
    *,
    token_dictionary: Source | None = None,
    gene_medians: Source | None = None,
    gene_symbols: Source | None = None,
) -> Dictionaries:
    """The dictionaries that are given, or lie in the checkpoint's folder as NAME.json or NAME.json.gz.

    Raises:
        FileNotFoundError: where there is no token dictionary.
        ValueError: where one is a pickle, no JSON object, or does not fit the others.
    """
    given = {"token_dictionary": token_dictionary, "gene_medians": gene_medians, "gene_symbols": gene_symbols}
    found = {name: source if source is not None else _beside(folder, name) for name, source in given.items()}
    if found["token_dictionary"] is None:
        _refuse_pickles_of(folder)
        raise FileNotFoundError(
            f"no token_dictionary.json in {folder}: give the token dictionary of this model (token_dictionary), a JSON "
            "of gene id: token id"
        )
    read = {name: {} if source is None else _read(source, name) for name, source in found.items()}
    tokens = _tokens(read["token_dictionary"])
    return Dictionaries(tokens, read["gene_medians"], _symbols_by_gene(read["gene_symbols"], set(tokens)))


def _downloaded(source: str, subfolder: str | None, revision: str | None) -> Path:
    prefix = f"{subfolder}/" if subfolder else ""
    try:
        for weights in (_SAFETENSORS, _PYTORCH):
            patterns = [prefix + name for name in (*_FILES, *weights)]
            root = Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
            if any((root / prefix / name).is_file() for name in weights[:2]):
                break
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{source} is no folder here, and could not be had from the Hub"
            f"{f' at revision {revision}' if revision else ''} ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "Without a connection, give a folder that holds config.json and model.safetensors or pytorch_model.bin"
        ) from error
    return root


def _beside(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.json", folder / f"{name}.json.gz") if path.is_file()), None)


def _refuse_pickles_of(folder: Path) -> None:
    pickles = sorted(path for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles:
        _refuse_pickle(pickles[0])


def _refuse_pickle(path: Path) -> None:
    raise ValueError(
        f"{path} is a pickle, which may run any code when it is opened, and is not read. Where you trust it, write it "
        f"as JSON, and give that: {_TO_JSON} {path.name} {path.stem}.json"
    )


def _read(source: Source, name: str) -> dict[str, Any]:
    if isinstance(source, Mapping):
        return dict(source)
    path = Path(source)
    if path.suffix in _PICKLES:
        _refuse_pickle(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {name.replace('_', ' ')} at {path}: expected a JSON or JSON.gz file")
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            content = json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole JSON file ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__}, expected one object")
    return content


def _tokens(token_dictionary: Mapping[str, Any]) -> list[str]:
    ids = list(token_dictionary.values())
    if any(type(number) is not int for number in ids) or sorted(ids) != list(range(len(ids))):
        raise ValueError(
            f"the ids of the token dictionary must be 0 to {len(ids) - 1:,}, each once; found e.g. "
            + ", ".join(f"{token}: {number!r}" for token, number in list(token_dictionary.items())[:3])
        )
    missing = [token for token in ("<pad>", "<mask>") if token not in token_dictionary]
    if missing:
        raise ValueError(f"the token dictionary has no {' and no '.join(missing)}: it is no dictionary of Geneformer")
    return sorted(token_dictionary, key=token_dictionary.__getitem__)


def _symbols_by_gene(symbols: Mapping[str, str], tokens: set[str]) -> dict[str, str]:
    """Gene id -> symbol, whichever way it was given; of several symbols of a gene the first."""
    if not symbols:
        return {}
    by_gene = {gene: symbol for gene, symbol in symbols.items() if gene in tokens}
    if by_gene:
        return by_gene
    turned: dict[str, str] = {}
    aliases = 0
    for symbol, gene in symbols.items():
        if gene in tokens:
            aliases += gene in turned
            turned.setdefault(gene, symbol)
    if not turned:
        raise ValueError(
            f"none of the {len(symbols):,} gene symbols belongs to a gene of the vocabulary, e.g. "
            + ", ".join(f"{name}: {other}" for name, other in list(symbols.items())[:2])
            + ": give gene id: symbol, or symbol: gene id"
        )
    if aliases:
        logger.info("%d symbols are further names of genes that have one already, and are not known as names", aliases)
    return turned
