"""One shard of rank tokens: some consecutive cells of one input, ranked chunk by chunk in threads, written to Parquet.

Arrow lists are built from the kernel's buffers, so no cell is touched in Python. Chunks are computed side by side and
written in order: the bytes do not depend on the number of threads or processes, and memory is bounded by a few chunks.
"""

import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .cell_inputs import CellInput, InputReading, OpenInputs, check_counts
from .gene_ranking import GeneRanking
from .rank_token_folder import record_shard
from .rank_values import DROP_REASONS, KEPT, CellValues, normalise_cells, rank_cells

Result = TypeVar("Result")

TOKEN_LEAF = "input_ids.list.element"  # name of the values' column inside Parquet


@dataclass
class Tally:
    """What became of the cells of a shard or of a whole build."""

    n_cells: int = 0
    n_written: int = 0
    n_tokens: int = 0
    n_cells_cut: int = 0  # longer than max_length
    n_tokens_cut: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> cells

    def add(self, other: "Tally") -> None:
        for name in ("n_cells", "n_written", "n_tokens", "n_cells_cut", "n_tokens_cut"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, n_cells in other.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + n_cells


@dataclass(frozen=True)
class ShardJob:
    """The cells `start` to `stop` (exclusive) of one input, and all that is needed to rank them in another process."""

    number: int
    input: CellInput
    reading: InputReading
    start: int
    stop: int
    cells: pa.Table  # (stop - start) rows: cell_id and the carried obs columns
    candidates: np.ndarray  # (stop - start,) bool: not left out by the obs query
    gene_of_column: np.ndarray  # (columns,) int32
    ranking: GeneRanking
    minimum_genes: int
    max_length: int
    chunk_cells: int


class RankedChunk(NamedTuple):
    """A chunk's rows as they are written, its tally, and the cells it dropped by reason."""

    rows: pa.RecordBatch
    tally: Tally
    dropped_cells: dict[str, list[str]]


def output_schema(job: ShardJob) -> pa.Schema:
    """Columns of the output: input_ids, length, cell_id, then the carried obs columns."""
    token_type = pa.from_numpy_dtype(job.ranking.token_of_gene.dtype)
    return pa.schema([("input_ids", pa.list_(token_type)), ("length", pa.int32()), *job.cells.schema])


def ranked_chunks(job: ShardJob, opened: OpenInputs, *, threads: int) -> Iterator[RankedChunk]:
    """Ranks the job's cells; chunks in order, `threads` at a time."""
    file = opened.get(job.input.path)
    schema = output_schema(job)

    def rank_chunk(start: int) -> RankedChunk:
        stop = min(start + job.chunk_cells, job.stop)
        counts = file.read(start, stop)
        here = slice(start - job.start, stop - job.start)
        cells = job.cells.slice(here.start, stop - start)
        check_counts(file, job.reading, counts, cells["cell_id"], job.input.genes)
        ranked = rank_cells(
            counts,
            job.gene_of_column,
            median_of_gene=job.ranking.median_of_gene,
            token_of_gene=job.ranking.token_of_gene,
            candidates=job.candidates[here],
            minimum_genes=job.minimum_genes,
            max_length=job.max_length,
            first_token=job.ranking.first_token,
            last_token=job.ranking.last_token,
        )
        kept = cells.filter(pa.array(ranked.outcome == KEPT)).combine_chunks()
        lengths = np.diff(ranked.offsets)
        input_ids = pa.ListArray.from_arrays(pa.array(ranked.offsets), pa.array(ranked.tokens))
        columns = [input_ids, pa.array(lengths), *(_one_array(column) for column in kept.columns)]
        frame = (job.ranking.first_token >= 0) + (job.ranking.last_token >= 0)
        tally = _tally(ranked.outcome, ranked.detected, lengths, job.max_length - frame)
        return RankedChunk(
            pa.RecordBatch.from_arrays(columns, schema=schema), tally, _dropped_cells(ranked.outcome, cells["cell_id"])
        )

    yield from in_order(rank_chunk, range(job.start, job.stop, job.chunk_cells), threads)


def normalised_chunks(job: ShardJob, opened: OpenInputs, *, n_genes: int, threads: int) -> Iterator[CellValues]:
    """The values that medians are taken over, chunk by chunk; the job's ranking is not used."""
    file = opened.get(job.input.path)

    def normalise_chunk(start: int) -> CellValues:
        stop = min(start + job.chunk_cells, job.stop)
        counts = file.read(start, stop)
        here = slice(start - job.start, stop - job.start)
        check_counts(file, job.reading, counts, job.cells["cell_id"].slice(here.start, stop - start), job.input.genes)
        return normalise_cells(
            counts,
            job.gene_of_column,
            n_genes=n_genes,
            candidates=job.candidates[here],
            minimum_genes=job.minimum_genes,
        )

    yield from in_order(normalise_chunk, range(job.start, job.stop, job.chunk_cells), threads)


def write_shard(
    job: ShardJob, path: Path, opened: OpenInputs, *, threads: int, unfinished_folder: Path
) -> dict[str, Any]:
    """Writes the job's rows to `path`, whole or not at all, and returns the record kept beside it.

    The file grows under a name of its own in `unfinished_folder`, so that several may write one shard at a time.
    """
    unfinished = unfinished_folder / f"{path.stem}-{uuid.uuid4().hex}.unfinished"
    tally = Tally()
    dropped_cells: dict[str, list[str]] = {reason: [] for reason in DROP_REASONS.values()}
    try:
        with pq.ParquetWriter(
            unfinished,
            output_schema(job),
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in job.cells.column_names if name != "cell_id"],
            column_encoding={TOKEN_LEAF: "BYTE_STREAM_SPLIT"},  # two of four bytes are nearly constant: small and fast
        ) as writer:
            for chunk in ranked_chunks(job, opened, threads=threads):
                if chunk.rows.num_rows:
                    writer.write_batch(chunk.rows, row_group_size=job.chunk_cells)
                tally.add(chunk.tally)
                for reason, cell_ids in chunk.dropped_cells.items():
                    dropped_cells[reason] += cell_ids
        unfinished.replace(path)
        record = {"input": str(job.input.path), "tally": vars(tally), "dropped_cells": dropped_cells}
        return record_shard(path, record, unfinished)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} cannot be written ({error}). Finished shards are kept: free space, then run the same build again",
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def in_order(function: Callable[[int], Result], items: Iterable[int], threads: int) -> Iterator[Result]:
    """`map(function, items)` in threads, looking at most `threads` results ahead of the reader."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _tally(outcome: np.ndarray, detected: np.ndarray, lengths: np.ndarray, room: int) -> Tally:
    outcomes = np.bincount(outcome, minlength=len(DROP_REASONS) + 1)
    beyond = np.maximum(detected[outcome == KEPT] - room, 0)
    return Tally(
        n_cells=len(outcome),
        n_written=int(outcomes[KEPT]),
        n_tokens=int(lengths.sum()),
        n_cells_cut=int((beyond > 0).sum()),
        n_tokens_cut=int(beyond.sum()),
        dropped={reason: int(outcomes[code]) for code, reason in DROP_REASONS.items()},
    )


def _dropped_cells(outcome: np.ndarray, cell_ids: pa.ChunkedArray) -> dict[str, list[str]]:
    return {
        reason: cell_ids.filter(pa.array(outcome == code)).to_pylist()
        for code, reason in DROP_REASONS.items()
        if (outcome == code).any()
    }


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
