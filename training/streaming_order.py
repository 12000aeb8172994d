"""The order of streamed cells: which of them a process reads when, and in which batches, from numbers alone.

An epoch is a random order of the row groups of all shards, laid end to end and cut into one range a process and data
loader worker, equal to a cell; so there may be more processes than shards. A range is read buffer by buffer, and inside
a buffer cells are shuffled, then cut into batches. All of it is a function of seed, epoch, process, worker and buffer,
so a place in the stream is a few integers. Deviation from shuffling whole shards, as webdataset and datasets do: a
shard holds cells of one study, and a buffer of several row groups mixes studies.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .hashed_randomness import keys_of, uniform

# What else random numbers are drawn for, so that no two uses share them.
_GROUPS, _CELLS, _BATCHES, _HELD_OUT = 1, 2, 3, 0x48454C44  # the last is beyond any epoch, of which masks are hashed
_CELLS_HASHED_AT_A_TIME = 1 << 20


class Segment(NamedTuple):
    """The streamed cells `start` to `stop` (exclusive) of a row group; those held out are not counted."""

    group: int
    start: int
    stop: int


@dataclass(frozen=True)
class HeldOutShare:
    """A share of the cells that is never trained on, by a hash of their numbers: it needs no list of them.

    Attributes:
        share: from 0 to below 1.
        seed: which cells.
    """

    share: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"the share of held-out cells is {self.share}: it is from 0 to below 1")

    def held_out(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """(cells,) whether each is held out."""
        return uniform(keys_of(numbers, self.seed, _HELD_OUT)) < self.share

    def streamed_cells(self, group_cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(row groups,) how many cells of each are not held out; cells are numbered throughout."""
        if not self.share:
            return group_cells
        ends = group_cells.cumsum()
        kept = np.zeros(len(group_cells), dtype=np.int64)
        for start in range(0, int(group_cells.sum()), _CELLS_HASHED_AT_A_TIME):
            numbers = np.arange(start, min(start + _CELLS_HASHED_AT_A_TIME, int(ends[-1])))
            groups = np.searchsorted(ends, numbers[~self.held_out(numbers)], side="right")
            kept += np.bincount(groups, minlength=len(kept))
        return kept


@dataclass(frozen=True)
class StreamOrder:
    """Who reads which cells.

    Attributes:
        group_cells: (row groups,) int64, streamed cells of each.
        buffer_cells: cells of a buffer at most; a range is cut into equal ones.
        world_size: processes.
        workers: data loader workers of each.
        seed: of the order.

    Raises:
        ValueError: where a size is not positive, or there are fewer cells than workers of all processes.
    """

    group_cells: npt.NDArray[np.int64]
    buffer_cells: int
    world_size: int = 1
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("buffer_cells", "world_size", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.cells < self.streams:
            raise ValueError(
                f"{self.cells} cells are left to stream, and {self.world_size} processes with {self.workers} data "
                f"loader workers each would share them: {self.streams - self.cells} of them would have no cell; start "
                "fewer"
            )

    @cached_property
    def cells(self) -> int:
        return int(self.group_cells.sum())

    @property
    def streams(self) -> int:
        return self.world_size * self.workers

    @cached_property
    def buffers(self) -> int:
        """Buffers of each worker's range: equally many, so that all processes pass to the next epoch together."""
        return -(-self._longest_range // self.buffer_cells)

    @cached_property
    def most_cells_of_buffer(self) -> int:
        return -(-self._longest_range // self.buffers)

    def segments(self, rank: int, worker: int, epoch: int, buffer: int) -> list[Segment]:
        """What a buffer reads, in order."""
        stream = rank * self.workers + worker
        first, end = self.cells * stream // self.streams, self.cells * (stream + 1) // self.streams
        start = first + (end - first) * buffer // self.buffers
        stop = first + (end - first) * (buffer + 1) // self.buffers
        groups = np.random.default_rng((self.seed, _GROUPS, epoch)).permutation(len(self.group_cells))
        ends = self.group_cells[groups].cumsum()
        starts = ends - self.group_cells[groups]
        here = np.flatnonzero((starts < stop) & (ends > start))
        return [
            Segment(int(groups[at]), int(max(start - starts[at], 0)), int(min(stop, ends[at]) - starts[at]))
            for at in here
        ]

    @property
    def _longest_range(self) -> int:
        return -(-self.cells // self.streams)


def length_grouped_batches(
    order: StreamOrder,
    lengths: npt.NDArray[np.int64],
    *,
    batch_size: int,
    place: tuple[int, int, int, int],
) -> list[npt.NDArray[np.int64]]:
    """Cells of a buffer in batches of like lengths, in random order.

    All processes cut a buffer into equally many batches, and shuffle these alike: as they read their buffers side by
    side, the batches of one step are of like lengths, and no process waits long for another.

    Args:
        order: of the stream.
        lengths: (cells,) tokens a cell of the buffer.
        batch_size: cells a batch at most.
        place: rank, worker, epoch and buffer.

    Returns:
        (cells,) places in the buffer, one array a batch; sizes differ by one cell.
    """
    rank, worker, epoch, buffer = place
    cells = np.random.default_rng((order.seed, _CELLS, rank, worker, epoch, buffer)).permutation(len(lengths))
    cells = cells[np.argsort(-lengths[cells], kind="stable")]
    n_batches = -(-order.most_cells_of_buffer // batch_size)
    batches = np.split(cells, np.arange(1, n_batches) * len(cells) // n_batches)
    shuffled = np.random.default_rng((order.seed, _BATCHES, worker, epoch, buffer)).permutation(n_batches)
    return [batches[number] for number in shuffled if len(batches[number])]


def token_budget_batches(
    order: StreamOrder,
    lengths: npt.NDArray[np.int64],
    *,
    token_budget: int,
    place: tuple[int, int, int, int],
) -> list[npt.NDArray[np.int64]]:
    """Cells of a buffer in random order, cut where the next one would exceed the budget, for packing.

    What is left at the end is shared with the batch before, where that keeps to the budget. Arguments and result are
    those of `length_grouped_batches`.

    Raises:
        ValueError: where a cell is longer than the budget.
    """
    if len(lengths) and lengths.max() > token_budget:
        raise ValueError(
            f"a cell has {lengths.max():,} tokens, and token_budget is {token_budget:,}: a batch must hold the longest "
            "cell; raise it, or cut the cells (max_position_embeddings)"
        )
    cells = np.random.default_rng((order.seed, _CELLS, *place)).permutation(len(lengths))
    ends = lengths[cells].cumsum()
    cuts = [0]
    while cuts[-1] < len(cells):
        before = ends[cuts[-1] - 1] if cuts[-1] else 0
        cuts.append(int(np.searchsorted(ends, before + token_budget, side="right")))
    if len(cuts) > 2:
        before = ends[cuts[-3] - 1] if cuts[-3] else 0
        half = int(np.searchsorted(ends, (before + ends[-1]) // 2, side="right"))
        if cuts[-3] < half and ends[-1] - ends[half - 1] <= token_budget:
            cuts[-2] = half
    return np.split(cells, cuts[1:-1]) if len(cells) else []
