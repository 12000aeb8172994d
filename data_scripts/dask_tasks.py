"""What Dask workers do: tasks that read their part of the inputs themselves, and what a worker keeps between them.

A task carries the numbers of its cells and where they lie; it refuses inputs other than the building process sees. Each
thread of a worker keeps the inputs used last open, until the build ends or another begins.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow as pa

from .cell_inputs import CellInput, OpenInputs
from .cells_plan import AnnotatedInput, CellsPlan, Shard
from .count_files import input_files, located
from .dask_cluster import SHARED_FILES, VERSIONS, require_equal_versions
from .gene_identifiers import ResolvedGenes
from .gene_medians import MedianBounds, ValueHistogram, ValuesWithin, value_histogram, values_within
from .rank_token_folder import finished_shard
from .rank_token_shards import ShardJob, normalised_chunks, write_shard
from .rank_values import CellValues

Held = TypeVar("Held")


class SharedPlan(NamedTuple):
    """What all tasks of one plan have in common."""

    session: str
    key: str
    plan: CellsPlan  # without inputs and given tables
    folder: Path  # that relative paths are taken from
    versions: Mapping[str, str | None]
    threads: int


class ShardPart(NamedTuple):
    """The cells of one shard and the input that has them, but for its genes."""

    shard: Shard
    path: Path
    n_bytes: int  # of the input, as the process that builds sees it
    label: str
    source: str
    n_cells: int
    schema: pa.Schema


def as_it_is(content: Held) -> Held:
    return content


def write_part(shared: SharedPlan, part: ShardPart, genes: ResolvedGenes, path: Path, unfinished_folder: Path) -> int:
    """Writes a shard, unless a worker that was taken for lost has done so; returns its cells."""
    if not unfinished_folder.is_dir():
        raise FileNotFoundError(
            f"Dask worker {_address()} does not see {unfinished_folder}: the build has ended, or the folder is not "
            f"shared ({SHARED_FILES})"
        )
    if finished_shard(path) is None:
        with _reading(shared) as reader:
            job = reader.job(shared, part, genes)
            write_shard(job, path, reader.opened, threads=shared.threads, unfinished_folder=unfinished_folder)
    return part.shard.stop - part.shard.start


def count_values(
    shared: SharedPlan, bounds: MedianBounds, parts: list[ShardPart], genes: list[ResolvedGenes]
) -> ValueHistogram:
    return value_histogram(_values_of(shared, parts, genes), bounds)


def collect_values(
    shared: SharedPlan, bounds: MedianBounds, parts: list[ShardPart], genes: list[ResolvedGenes]
) -> ValuesWithin:
    return values_within(_values_of(shared, parts, genes), bounds)


def _values_of(shared: SharedPlan, parts: list[ShardPart], genes: list[ResolvedGenes]) -> Iterator[CellValues]:
    n_genes = len(shared.plan.ranking.genes)
    with _reading(shared) as reader:
        for part, genes_of_part in zip(parts, genes, strict=True):
            job = reader.job(shared, part, genes_of_part)
            yield from normalised_chunks(job, reader.opened, n_genes=n_genes, threads=shared.threads)


class _Reader:
    """In one thread of a worker: the inputs used last, open, and the annotation of the last one."""

    def __init__(self, shared: SharedPlan) -> None:
        self.session = shared.session
        self.opened = OpenInputs(shared.plan.settings.reading, capacity=4, folder=shared.folder)
        self.busy = threading.Lock()
        self.ended = False
        self._annotated: tuple[tuple[str, str], AnnotatedInput] | None = None

    def job(self, shared: SharedPlan, part: ShardPart, genes: ResolvedGenes) -> ShardJob:
        """The job of a shard, its input's annotation read here."""
        key = shared.key, part.label
        if self._annotated is None or self._annotated[0] != key:
            self._require_same_input(located(part.path, shared.folder), part.n_bytes)
            one = CellInput(part.path, part.label, part.source, part.n_cells, genes, part.schema)
            self._annotated = key, shared.plan.annotated(one, self.opened)
        return shared.plan.job(part.shard, self._annotated[1])

    def _require_same_input(self, path: Path, n_bytes: int) -> None:
        try:
            found = bytes_of_input(path)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"Dask worker {_address()} does not see {path}: {SHARED_FILES}") from error
        if found != n_bytes:
            raise ValueError(
                f"Dask worker {_address()} sees another {path}, of {found} bytes instead of {n_bytes}: "
                f"{SHARED_FILES}, and must not change during a build"
            )


_readers: dict[int, _Reader] = {}  # by thread: open files are not shared between tasks that run side by side


@contextmanager
def _reading(shared: SharedPlan) -> Iterator[_Reader]:
    """This thread's reader, for one task."""
    require_equal_versions(_address(), VERSIONS, shared.versions)
    thread = threading.get_ident()
    if thread in _readers and _readers[thread].session != shared.session:
        _readers.pop(thread).opened.close()
    reader = _readers.setdefault(thread, _Reader(shared))
    with reader.busy:
        try:
            yield reader
        finally:
            if reader.ended:
                reader.opened.close()


def close_readers(session: str) -> None:
    """Closes the inputs of a build that has ended; where a task still reads them, when it is done."""
    for thread in [thread for thread, reader in _readers.items() if reader.session == session]:
        reader = _readers.pop(thread)
        reader.ended = True
        if reader.busy.acquire(blocking=False):
            reader.opened.close()
            reader.busy.release()


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)


def bytes_of_input(path: Path) -> int:
    """Of all its files; 0 where it is read over the network."""
    return sum(file.stat().st_size for file in input_files(path).values())
