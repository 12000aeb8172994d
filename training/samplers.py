"""A sampler that groups cells of like length without giving up the randomness of their order.

Source: "Multi-modal single-cell foundation models via dynamic token adaptation", appendix A.1: a random megabatch is
sorted by length and cut into mini-batches, and the mini-batches are shuffled. Samplers that leave out the shuffle feed
lengths in descending order again and again; the authors saw perplexity 60 times worse.
Where others move the longest mini-batch to the front of an epoch, to run out of memory early or not at all, this one
does not: it would be the same kind of order by length. To try the memory, train a step on the longest cells instead.
"""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .resumable_sampler import ResumableSampler, checksum_of


class ShuffledLengthGroupedSampler(ResumableSampler[int]):
    """Indices of an epoch, such that consecutive mini-batches hold cells of like length, in random order.

    An epoch: shuffle all cells; cut them into megabatches; sort each by length, descending; cut it into groups of
    `length_group` cells; shuffle the groups of each megabatch. Cut into batches of `batch_size` and dealt out in turn
    (batch i to process i % world_size, as accelerate does without `split_batches`), the processes see neighbours in
    length at the same time, and accumulated batches are of other lengths each: a step whose cells are all alike follows
    one type of cell where length tells the type. The cells that fill no whole group come last in the epoch. With
    several processes accelerate completes their last batches with cells from the epoch's start; `complete_last_step`
    completes the whole step so, however it is split.

    The order depends on `seed`, the epoch, `length_group` and `megabatch_size` only. So it is the same on every
    process, and each step has the same cells for any number of processes, batch size and accumulation whose product is
    `cells_per_step`: a run that was saved on two processes goes on as it would have on one.

    Args:
        lengths: (cells,) tokens a cell.
        batch_size: cells a mini-batch of one process.
        megabatch_size: cells that are sorted together; rounded down to whole groups, at least one. More of them: less
            padding, and mini-batches that are less random.
        world_size: number of processes.
        cells_per_step: cells of one optimizer step: `batch_size * world_size`, times the batches that are accumulated;
            without accumulation where None.
        length_group: neighbours in length that stay together; `batch_size * world_size` where None.
        complete_last_step: fill an epoch's last step with the epoch's first cells, which then come twice.
        seed: seed of the order.

    Raises:
        ValueError: where a size is not positive, `cells_per_step` is not whole batches of all processes, or there are
            no cells.
    """

    keep_alike: ClassVar[str] = (
        "cells, megabatch size, length group, seed and cells a step (batch size * processes * accumulated batches; how "
        "they are split may change)"
    )

    def __init__(
        self,
        lengths: npt.ArrayLike,
        batch_size: int,
        *,
        megabatch_size: int,
        world_size: int = 1,
        cells_per_step: int | None = None,
        length_group: int | None = None,
        complete_last_step: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.lengths = np.asarray(lengths)
        if self.lengths.ndim != 1 or not len(self.lengths):
            raise ValueError(
                f"lengths have shape {self.lengths.shape}: expected one length a cell, and at least a cell"
            )
        sizes = {"batch_size": batch_size, "megabatch_size": megabatch_size, "world_size": world_size}
        sizes |= {} if length_group is None else {"length_group": length_group}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}: it must be at least 1")
        block = batch_size * world_size
        if cells_per_step is not None and (cells_per_step < 1 or cells_per_step % block):
            raise ValueError(
                f"cells_per_step is {cells_per_step}: it must be a multiple of batch_size * world_size, {batch_size} * "
                f"{world_size}, the cells of one micro-batch of every process"
            )
        self.batch_size = batch_size
        self.megabatch_size = megabatch_size
        self.world_size = world_size
        self.cells_per_step = cells_per_step or block
        self.length_group = length_group or block
        self.complete_last_step = complete_last_step
        self.seed = seed

    def __len__(self) -> int:
        if not self.complete_last_step:
            return len(self.lengths)
        return -(-len(self.lengths) // self.cells_per_step) * self.cells_per_step

    def settings(self) -> dict[str, Any]:
        """What the order depends on, besides the epoch; not how a step is split over processes and batches."""
        return {
            "cells": len(self.lengths),
            "lengths_checksum": checksum_of(self.lengths),
            "cells_per_step": self.cells_per_step,
            "length_group": self.length_group,
            "complete_last_step": self.complete_last_step,
            "megabatch_size": self.megabatch_size,
            "seed": self.seed,
        }

    def _items_of_epoch(self) -> list[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        group = self.length_group
        megabatch = max(self.megabatch_size // group, 1) * group
        order = self._sorted_in_megabatches(random.permutation(len(self.lengths)), megabatch)
        order, remainder = _without_remainder(order, group, megabatch, random)
        groups = order.reshape(-1, group)
        megabatch_of_group = np.arange(len(groups)) // (megabatch // group)
        shuffled = groups[np.lexsort((random.random(len(groups)), megabatch_of_group))]
        order = np.concatenate([shuffled.ravel(), remainder])
        return np.resize(order, len(self)).tolist()  # from its start again, where the last step is completed

    def _sorted_in_megabatches(self, order: npt.NDArray[np.int64], megabatch: int) -> npt.NDArray[np.int64]:
        lengths = self.lengths[order].astype(np.int64)
        # One key for both: the megabatch first, then the length, descending. Stable, so equal lengths stay shuffled.
        key = np.arange(len(order)) // megabatch * (lengths.max() + 1) - lengths
        return order[np.argsort(key, kind="stable")]


def _without_remainder(
    order: npt.NDArray[np.int64], group: int, megabatch: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Take the cells that fill no whole group out of the last megabatch: neighbours in length, of a random length."""
    size = len(order) % group
    if size == 0:
        return order, order[:0]
    first_of_last_megabatch = (len(order) - 1) // megabatch * megabatch
    places = (len(order) - first_of_last_megabatch) // group + 1
    start = first_of_last_megabatch + group * int(random.integers(places))
    return np.delete(order, slice(start, start + size)), order[start : start + size]
