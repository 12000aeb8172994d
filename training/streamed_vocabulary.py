"""The vocabulary of a corpus that is streamed: the dictionaries beside its shards, wherever these are."""

import tempfile
from pathlib import Path

import fsspec  # type: ignore[import-untyped]

from .gene_vocabulary import GENE_MEDIANS, GENE_SYMBOLS, TOKEN_DICTIONARY, GeneVocabulary, read_gene_vocabulary
from .shard_files import SHARDS, shard_pattern


def read_streamed_vocabulary(source: str | Path) -> GeneVocabulary:
    """Read the dictionaries of a corpus.

    Args:
        source: as `open_shards` takes it.

    Raises:
        FileNotFoundError: where there is no such corpus, or it lacks token_dictionary.json.
        ValueError: where the dictionaries cannot be used; see `read_gene_vocabulary`.
    """
    pattern = shard_pattern(source)
    folder = pattern.removesuffix(f"/{SHARDS}") if pattern.endswith(f"/{SHARDS}") else pattern.rpartition("/")[0]
    if Path(folder).is_dir():
        return read_gene_vocabulary(folder)
    file_system, path = fsspec.core.url_to_fs(folder)
    if not file_system.exists(f"{path}/{TOKEN_DICTIONARY}"):
        raise FileNotFoundError(
            f"{folder} has no {TOKEN_DICTIONARY} (gene id -> token id): expected a corpus that `build cells` wrote"
        )
    with tempfile.TemporaryDirectory() as copies:
        for name in (TOKEN_DICTIONARY, GENE_MEDIANS, GENE_SYMBOLS):
            if file_system.exists(f"{path}/{name}"):
                file_system.get_file(f"{path}/{name}", str(Path(copies, name)))
        try:
            return read_gene_vocabulary(copies)
        except ValueError as error:
            raise ValueError(str(error).replace(copies, folder)) from error
