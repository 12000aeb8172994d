"""Tokenised cells streamed from sharded Parquet, for corpora larger than memory and disk.

Each process and data loader worker reads its own cells, buffer by buffer, without end: epoch follows epoch, and
training ends by its steps. The next buffer is read while the last one is trained on; two of them are in memory. As
every batch is a function of its place (see streaming_order.py), a run that was stopped goes on exactly, having read one
buffer again.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .cell_block import CellBlock
from .shard_files import CorruptShardError, ShardFiles
from .streamed_rows import COUNTS, CellPreparation, CellRows, RowReader, concatenated
from .streaming_order import HeldOutShare, StreamOrder, length_grouped_batches, token_budget_batches
from .streaming_state import STREAM_PLACE, StreamPlace, StreamState

logger = logging.getLogger(__name__)

BUFFER_CELLS = 16_384


class StreamedBatch(NamedTuple):
    """Cells for the collator, and where in the stream they are."""

    cells: CellBlock
    place: StreamPlace


class StreamedCells(IterableDataset[StreamedBatch]):
    """The cells of one process, in batches, without end. Give it to a data loader by `data_loader`.

    Args:
        shards: of the corpus.
        preparation: of each cell.
        batch_size: cells a batch at most; or
        token_budget: tokens a batch at most, for packed batches.
        groups_by_length: with `batch_size`, batches are of like lengths; packed batches gain nothing by it.
        buffer_cells: cells that are shuffled, and sorted by length, together.
        rank, world_size: this process, and how many there are.
        workers: data loader workers a process.
        seed: of the order.
        held_out: cells that are not streamed; None to stream all.
        skip_corrupt_shards: go on past row groups that cannot be read; their cells are counted in the report.

    Raises:
        ValueError: where a size is not positive, not one of `batch_size` and `token_budget` is given, the budget does
            not hold the longest cell, or a process or worker would have no cells.
    """

    def __init__(
        self,
        shards: ShardFiles,
        preparation: CellPreparation,
        *,
        batch_size: int | None = None,
        token_budget: int | None = None,
        groups_by_length: bool = True,
        buffer_cells: int = BUFFER_CELLS,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 1,
        seed: int = 0,
        held_out: HeldOutShare | None = None,
        skip_corrupt_shards: bool = False,
    ) -> None:
        _check_sizes(batch_size, token_budget, buffer_cells, preparation.max_length)
        self.shards = shards
        self.preparation = preparation
        self.batch_size = batch_size
        self.token_budget = token_budget
        self.groups_by_length = groups_by_length
        self.rank = rank
        self.held_out = held_out
        self.skip_corrupt_shards = skip_corrupt_shards
        group_cells = shards.group_cells if held_out is None else held_out.streamed_cells(shards.group_cells)
        self.order = StreamOrder(group_cells, buffer_cells, world_size=world_size, workers=workers, seed=seed)
        self.state = StreamState(self.settings())
        # Shared memory: workers count what they read, and the main process reports it.
        self._counts = torch.zeros(workers, len(COUNTS), dtype=torch.int64).share_memory_()
        self._corrupt = torch.zeros(len(shards.shards), dtype=torch.bool).share_memory_()

    def __iter__(self) -> Iterator[StreamedBatch]:
        """The batches of this worker after those that were trained on.

        Raises:
            ValueError: for a data loader with another number of workers; where a cell cannot be used (see
                `CellPreparation`); and where a whole epoch of this worker holds no usable cell.
        """
        worker = self._worker()
        start = self.state.places.get(worker, StreamPlace(worker, 0, 0, -1))
        n_in_epoch, epoch = 0, start.epoch
        for place, rows in self._buffers(start):
            if place.epoch > epoch:
                self._require_cells(n_in_epoch, place)
                n_in_epoch, epoch = 0, place.epoch
            for number, which in enumerate(self._batches(rows, place)):
                n_in_epoch += 1
                if place[:3] != start[:3] or number > start.batch:
                    yield StreamedBatch(rows.block(which, place.epoch), place._replace(batch=number))
            del rows  # before a third buffer is read

    def settings(self) -> dict[str, Any]:
        """All that the order and content of the batches depend on."""
        preparation, held_out = self.preparation, self.held_out or HeldOutShare(0.0)
        return {
            "shards": len(self.shards.shards),
            "cells": self.shards.cells,
            "shards_fingerprint": self.shards.fingerprint(),
            "batch_size": self.batch_size,
            "token_budget": self.token_budget,
            "groups_by_length": self.groups_by_length,
            "buffer_cells": self.order.buffer_cells,
            "world_size": self.order.world_size,
            "workers": self.order.workers,
            "seed": self.order.seed,
            "held_out_share": held_out.share,
            "held_out_seed": held_out.seed,
            "max_length": preparation.max_length,
            "vocabulary_size": _n_kept(preparation),
            "donor_column": preparation.donor_column,
            "missing_donors": preparation.missing_donors,
        }

    def trained_on(self, place: torch.Tensor | StreamPlace) -> None:
        """Note that a batch is done with: iteration, and a state, go on behind it."""
        self.state.trained_on(place)

    def state_dict(self) -> dict[str, Any]:
        """Settings, and the places of the batches trained on, as JSON takes them."""
        return self.state.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; ValueError, naming both values, where settings are others."""
        self.state.load_state_dict(state)

    def report(self) -> dict[str, Any]:
        """Cells of the corpus; and what became of those read so far, each epoch counted anew."""
        counts = self._counts.sum(dim=0).tolist()
        unreadable = [
            shard.name for shard, corrupt in zip(self.shards.shards, self._corrupt.tolist(), strict=True) if corrupt
        ]
        return {
            "cells": self.shards.cells,
            "cells_streamed_an_epoch": self.order.cells,
            **dict(zip(COUNTS, counts, strict=True)),
            "corrupt_shards": [*self.shards.corrupt, *unreadable],
        }

    def _worker(self) -> int:
        info = get_worker_info()
        n_workers = 1 if info is None else info.num_workers
        if n_workers != self.order.workers:
            raise ValueError(
                f"the data loader has {n_workers} workers, and the stream is cut for {self.order.workers}: give both "
                "the same number (at least 1 for the stream)"
            )
        # A data loader begins with its worker 0, which then has to play the one whose turn it is.
        return ((0 if info is None else info.id) + self.state.next_worker) % n_workers

    def _buffers(self, start: StreamPlace) -> Iterator[tuple[StreamPlace, CellRows]]:
        """From the buffer of `start` on; one is read ahead in a thread."""
        reader = RowReader(
            self.shards,
            self.preparation,
            held_out=self.held_out,
            skip_corrupt_shards=self.skip_corrupt_shards,
        )
        places = self._places(start)
        pool = ThreadPoolExecutor(1, thread_name_prefix="stream")
        try:
            place = next(places)
            waiting = pool.submit(self._read, reader, place)
            while True:
                rows = waiting.result()
                following = next(places)
                waiting = pool.submit(self._read, reader, following)
                yield place, rows
                del rows
                place = following
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _places(self, start: StreamPlace) -> Iterator[StreamPlace]:
        place = start._replace(batch=0)
        while True:
            yield place
            is_last = place.buffer + 1 == self.order.buffers
            place = place._replace(epoch=place.epoch + is_last, buffer=0 if is_last else place.buffer + 1)

    def _read(self, reader: RowReader, place: StreamPlace) -> CellRows:
        counts: Counter[str] = Counter()
        parts = [_NO_ROWS]
        for group, start, stop in self.order.segments(self.rank, place.worker, place.epoch, place.buffer):
            rows = reader.read(group, slice(start, stop), counts)
            if isinstance(rows, CorruptShardError):
                self._note_corrupt(group, rows)
            else:
                parts.append(rows)
        self._counts[place.worker] += torch.tensor([counts[name] for name in COUNTS])
        return concatenated(parts[1:] or parts)

    def _batches(self, rows: CellRows, place: StreamPlace) -> list[npt.NDArray[np.int64]]:
        at = (self.rank, *place[:3])
        if self.batch_size is not None:
            lengths = rows.lengths if self.groups_by_length else np.zeros_like(rows.lengths)
            return length_grouped_batches(self.order, lengths, batch_size=self.batch_size, place=at)
        assert self.token_budget is not None
        return token_budget_batches(self.order, rows.lengths, token_budget=self.token_budget, place=at)

    def _note_corrupt(self, group: int, error: CorruptShardError) -> None:
        shard = self.shards.shard_of(group)
        if not self._corrupt[shard]:
            logger.warning("cells that cannot be read are left out: %s", error)
        self._corrupt[shard] = True

    def _require_cells(self, n_batches: int, place: StreamPlace) -> None:
        if not n_batches:
            raise ValueError(
                f"process {self.rank}, data loader worker {place.worker}, found no usable cell in epoch "
                f"{place.epoch - 1}: of its cells, {self._counts_of(place.worker)}. Start fewer processes or "
                "workers, or give more cells"
            )

    def _counts_of(self, worker: int) -> str:
        counts = zip(COUNTS, self._counts[worker].tolist(), strict=True)
        return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts)


class PlacedCollator:
    """A collator that adds each batch's place in the stream, `stream_place`: (4,) int64.

    The trainer takes it out of the batch, and gives it to `StreamedCells.trained_on` when it trains on the batch.
    """

    def __init__(self, collator: Callable[[CellBlock], dict[str, Any]]) -> None:
        self.collator = collator

    def __call__(self, batch: StreamedBatch) -> dict[str, Any]:
        return {**self.collator(batch.cells), STREAM_PLACE: torch.tensor(batch.place, dtype=torch.int64)}


def data_loader(
    stream: StreamedCells,
    collator: Callable[[CellBlock], dict[str, Any]],
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
    prefetch_factor: int | None = None,
) -> DataLoader[Any]:
    """Batches of a stream, each with its `stream_place`; not to be sharded again, nor shuffled."""
    return DataLoader(
        stream,
        batch_size=None,
        collate_fn=PlacedCollator(collator),  # type: ignore[arg-type] # torch expects it to take lists
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetch_factor=prefetch_factor,
        # Else it draws from torch's global generator, which a resumed run would then have one number ahead.
        generator=torch.Generator(),
    )


_NO_ROWS = CellRows(np.zeros(0, np.int32), *(np.zeros(0, np.int64) for _ in range(4)))


def _check_sizes(batch_size: int | None, token_budget: int | None, buffer_cells: int, max_length: int | None) -> None:
    if (batch_size is None) == (token_budget is None):
        raise ValueError(
            f"batch_size is {batch_size} and token_budget {token_budget}: give one of them, cells a batch or tokens a "
            "packed batch"
        )
    for name, size in (("batch_size", batch_size), ("token_budget", token_budget)):
        if size is not None and size < 1:
            raise ValueError(f"{name} is {size}: it must be at least 1")
    if batch_size is not None and buffer_cells < batch_size:
        raise ValueError(f"buffer_cells is {buffer_cells}: a buffer must hold a batch, and batch_size is {batch_size}")
    if token_budget is not None and max_length is not None and token_budget < max_length:
        raise ValueError(
            f"token_budget is {token_budget:,}: a batch must hold the longest cell, which may have "
            f"{max_length:,} tokens"
        )


def _n_kept(preparation: CellPreparation) -> int:
    return preparation.vocabulary_size if preparation.new_ids is None else int((preparation.new_ids >= 0).sum())
