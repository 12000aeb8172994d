"""Shards of tokenised cells: Parquet files of a folder, of the Hub or of any fsspec file system, checked by footers.

A footer says how many cells and tokens a shard holds, of which type, and (as a rule) its largest token: so all shards
are checked before training begins, and only footers are kept in memory. Cells are read by row group, the piece that
Parquet reads on its own. Layout on the Hub: https://huggingface.co/docs/hub/datasets-file-names-and-splits.
"""

import logging
import re
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import fsspec  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from .masked_gene_data import INPUT_IDS

logger = logging.getLogger(__name__)

SHARDS = "data/train-*.parquet"
_FOOTERS_AT_A_TIME = 16  # of distant files, each of which takes a few requests
_WHOLE_SHARD = "copy it anew, or leave corrupt shards out with skip_corrupt_shards (--skip-corrupt-shards)"


class CorruptShardError(ValueError):
    """A shard that cannot be read, named in the message."""


class Shard(NamedTuple):
    """A file of cells, as its footer describes it.

    Attributes:
        name: below the folder.
        path: inside the file system.
        tokens: of all its cells.
        largest_token: None where the footer does not say.
        footer: of the file.
    """

    name: str
    path: str
    tokens: int
    largest_token: int | None
    footer: Any

    @property
    def cells(self) -> int:
        return int(self.footer.num_rows)


class ShardFiles:
    """All shards of a corpus, in the order of their names; cells are numbered throughout.

    Attributes:
        pattern: path or URL of the files.
        shards: those that can be read.
        corrupt: names of those that were left out, and why.
        group_cells: (row groups of all shards,) int64, cells of each.
        first_cells: (row groups,) int64, the number of the first cell of each.
    """

    def __init__(self, pattern: str, shards: Sequence[Shard], corrupt: Mapping[str, str]) -> None:
        self.pattern = pattern
        self.shards = list(shards)
        self.corrupt = dict(corrupt)
        groups = [
            (number, group, shard.footer.row_group(group).num_rows)
            for number, shard in enumerate(self.shards)
            for group in range(shard.footer.num_row_groups)
        ]
        table = np.array(groups, dtype=np.int64).reshape(-1, 3)
        self._groups = table[:, :2]  # shard, row group of the shard
        self.group_cells: npt.NDArray[np.int64] = table[:, 2]
        self.first_cells: npt.NDArray[np.int64] = table[:, 2].cumsum() - table[:, 2]

    @property
    def cells(self) -> int:
        return int(self.group_cells.sum())

    @property
    def tokens(self) -> int:
        return sum(shard.tokens for shard in self.shards)

    def fingerprint(self) -> int:
        """A checksum of the shards' names, cells, tokens and compressed sizes."""
        return zlib.crc32(repr([(one.name, one.cells, one.tokens, _bytes(one)) for one in self.shards]).encode())

    def shard_of(self, group: int) -> int:
        """The number of the shard that a row group is of."""
        return int(self._groups[group, 0])

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """The cells of a row group.

        Raises:
            CorruptShardError: where they cannot be read, naming the shard.
        """
        number, group_of_shard = self._groups[group].tolist()
        shard = self.shards[number]
        file_system, _ = fsspec.core.url_to_fs(self.pattern)  # fsspec's own cache knows it, in each process anew
        try:
            with _opened(file_system, shard.path, footer=shard.footer) as file:
                return file.read_row_group(group_of_shard, columns=list(columns), use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            if _is_of_the_machine(error):
                raise
            raise CorruptShardError(
                f"{shard.name} of {self.pattern} is corrupt in its row group {group_of_shard} ({error}): {_WHOLE_SHARD}"
            ) from error


def open_shards(
    source: str | Path,
    *,
    vocabulary_size: int,
    columns: Sequence[str] = (),
    skip_corrupt_shards: bool = False,
) -> ShardFiles:
    """Find the shards of a corpus and check them all by their footers.

    Args:
        source: folder that `build cells` wrote; `org/dataset` of the Hub; a URL of such a folder, or of the files with
            `*`, that fsspec knows (hf://, s3://, ...).
        vocabulary_size: tokens of the dictionary that the cells were made with.
        columns: that every shard must have besides `input_ids`.
        skip_corrupt_shards: leave out shards whose footer cannot be read. Later cells then get lower numbers.

    Raises:
        FileNotFoundError: where there are no shards.
        ValueError: naming the shard, where one is corrupt, lacks a column, or holds tokens outside the vocabulary; and
            where no cell is left.
    """
    pattern = shard_pattern(source)
    file_system, path = fsspec.core.url_to_fs(pattern)
    paths = sorted(file_system.glob(path))
    if not paths:
        raise FileNotFoundError(
            f"no shards at {pattern}: expected the Parquet files of a folder that `build cells` wrote"
        )
    folder = path.split("*", 1)[0].rpartition("/")[0] + "/"
    corrupt: dict[str, str] = {}
    shards = []
    with ThreadPoolExecutor(_FOOTERS_AT_A_TIME) as pool:
        for at, footer in zip(paths, pool.map(lambda at: _footer(file_system, at), paths), strict=True):
            name = at.removeprefix(folder)
            if isinstance(footer, Exception):
                corrupt[name] = str(footer)
            else:
                shards.append(_checked(name, at, footer, vocabulary_size, columns))
    if corrupt and not skip_corrupt_shards:
        raise CorruptShardError(
            f"{len(corrupt)} of the {len(paths)} shards of {pattern} are corrupt: "
            f"{'; '.join(f'{name} ({why})' for name, why in list(corrupt.items())[:3])}: {_WHOLE_SHARD}"
        )
    for name, why in corrupt.items():
        logger.warning("corrupt shard %s is left out: %s", name, why)
    files = ShardFiles(pattern, shards, corrupt)
    if not files.cells:
        raise ValueError(f"the {len(paths)} shards of {pattern} hold no cells that can be read")
    return files


def shard_pattern(source: str | Path) -> str:
    """Path or URL of the shards, with `*`, that a name of a corpus stands for.

    Raises:
        FileNotFoundError: where it is neither a folder, nor a URL, nor like a name on the Hub.
    """
    name = str(source).rstrip("/")
    if "*" in name:
        return name
    if "://" in name:
        return f"{name}/{SHARDS}"
    if Path(name).is_dir():
        return f"{name}/{SHARDS}"
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?", name) and not isinstance(source, Path):
        return f"hf://datasets/{name}/{SHARDS}"
    raise FileNotFoundError(
        f"no folder of tokenised cells at {name}: expected one that `build cells` wrote, org/dataset on the Hub, or a "
        "URL"
    )


def _footer(file_system: Any, path: str) -> Any:
    """The footer of a file, or the error that a corrupt one gives."""
    try:
        with _opened(file_system, path) as file:
            return file.metadata
    except (pa.ArrowInvalid, OSError) as error:
        if _is_of_the_machine(error):
            raise
        return error


def _opened(file_system: Any, path: str, *, footer: Any = None) -> pq.ParquetFile:
    if isinstance(file_system, fsspec.implementations.local.LocalFileSystem):
        return pq.ParquetFile(path, metadata=footer, memory_map=True)
    return pq.ParquetFile(file_system.open(path, "rb"), metadata=footer, pre_buffer=True)


def _is_of_the_machine(error: Exception) -> bool:
    """Whether disk or network are at fault, not what the file holds: Arrow's own OSErrors have no number."""
    return isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None)


def _checked(name: str, path: str, footer: Any, vocabulary_size: int, columns: Sequence[str]) -> Shard:
    schema = footer.schema.to_arrow_schema()
    missing = [column for column in (INPUT_IDS, *columns) if column not in schema.names]
    if missing:
        raise ValueError(
            f"{name} has the columns {', '.join(schema.names)} and lacks {', '.join(missing)}: it is not a shard of "
            "tokenised cells, or the column was not carried along when they were built"
        )
    kind = schema.field(INPUT_IDS).type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_integer(kind.value_type):
        raise ValueError(f"{name}: {INPUT_IDS} is of type {kind}, expected lists of integers")
    chunks = _token_chunks(footer)
    statistics = [chunk.statistics for chunk in chunks]
    tokens = sum(
        chunk.num_values - (found.null_count if found is not None and found.has_null_count else 0)
        for chunk, found in zip(chunks, statistics, strict=True)
    )
    known = [found for found in statistics if found is not None and found.has_min_max]
    largest = max((int(found.max) for found in known), default=None)
    require_tokens_of_vocabulary(name, min((int(found.min) for found in known), default=0), largest, vocabulary_size)
    return Shard(name, path, tokens, largest if len(known) == len(chunks) else None, footer)


def require_tokens_of_vocabulary(name: str, smallest: int, largest: int | None, vocabulary_size: int) -> None:
    """Raise ValueError, naming the shard, where tokens are outside the vocabulary."""
    if largest is not None and (largest >= vocabulary_size or smallest < 0):
        token = largest if largest >= vocabulary_size else smallest
        raise ValueError(
            f"{name} holds the token {token}, and the vocabulary has {vocabulary_size:,} tokens: the shard was made "
            "with another token dictionary"
        )


def _token_chunks(footer: Any) -> list[Any]:
    """Of each row group, what the footer says of its tokens."""
    names = [footer.schema.column(number).path for number in range(footer.num_columns)]
    column = next(number for number, name in enumerate(names) if name.split(".")[0] == INPUT_IDS)
    return [footer.row_group(group).column(column) for group in range(footer.num_row_groups)]


def _bytes(shard: Shard) -> int:
    return sum(chunk.total_compressed_size for chunk in _token_chunks(shard.footer))
