"""Batches of a token budget, for rows that hold several cells without padding.

Without padding nothing is gained by grouping cells of like length, so the order of an epoch is fully random. It is cut
where the tokens of each batch are nearly as many, into a number of batches that is known beforehand: other packers fill
each batch to the brim, and then ranks take unlike numbers of steps, and schedules do not know the length of an epoch.
"""

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .resumable_sampler import ResumableSampler, checksum_of


class TokenBudgetBatchSampler(ResumableSampler[list[int]]):
    """Batches of indices, each with at most `token_budget` tokens, and nearly as many tokens as the others.

    An epoch: shuffle all cells, lay them end to end, and cut the tokens at equal shares into
    ceil(tokens / (token_budget - longest)) batches, rounded up to whole optimizer steps; a cell is in the batch in
    which it begins. So a batch exceeds its share by less than the longest cell, and each cell comes once. Dealt out in
    turn (batch i to process i % world_size, as accelerate does with `even_batches=False`), every process takes as many
    steps. Made for `DataLoader(batch_sampler=...)`.

    The batches depend on `seed`, the epoch, `token_budget` and the product `world_size * accumulation` only: how a
    step's batches are split over processes may change where a run is resumed.

    Args:
        lengths: (cells,) tokens a cell, at least one each.
        token_budget: most tokens of a batch of one process.
        world_size: number of processes.
        accumulation: batches of a process that make one optimizer step.
        seed: seed of the order.

    Raises:
        ValueError: where a number is not positive, a cell has no tokens, the budget is below twice the longest cell,
            or there are fewer cells than batches.
    """

    keep_alike: ClassVar[str] = (
        "cells, token budget, seed and batches a step (processes * accumulated batches; how they are split may change)"
    )

    def __init__(
        self,
        lengths: npt.ArrayLike,
        token_budget: int,
        *,
        world_size: int = 1,
        accumulation: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.lengths = np.asarray(lengths)
        self.token_budget = token_budget
        self.batches_per_step = world_size * accumulation
        self.seed = seed
        for name, size in {"world_size": world_size, "accumulation": accumulation}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}: it must be at least 1")
        self._check_lengths()
        longest, self._tokens = int(self.lengths.max()), int(self.lengths.sum(dtype=np.int64))
        if token_budget < 2 * longest:
            raise ValueError(
                f"token_budget is {token_budget:,}, and the longest cell has {longest:,} tokens: a batch must have "
                f"room for at least two, {2 * longest:,}, so raise the budget or cut the cells"
            )
        batches = -(-self._tokens // (token_budget - longest))
        self._batches = -(-batches // self.batches_per_step) * self.batches_per_step
        if len(self.lengths) < self._batches:
            raise ValueError(
                f"there are {len(self.lengths):,} cells for {self._batches:,} batches ({world_size} processes, "
                f"{accumulation} accumulated): take fewer processes, accumulate less, or give more cells"
            )

    def __len__(self) -> int:
        """Batches of an epoch, over all processes."""
        return self._batches

    def settings(self) -> dict[str, Any]:
        """What the batches depend on, besides the epoch; not how a step's batches are split over processes."""
        return {
            "cells": len(self.lengths),
            "lengths_checksum": checksum_of(self.lengths),
            "token_budget": self.token_budget,
            "batches_per_step": self.batches_per_step,
            "seed": self.seed,
        }

    def _items_of_epoch(self) -> list[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.lengths))
        lengths = self.lengths[order].astype(np.int64)
        batch_of_cell = (lengths.cumsum() - lengths) * self._batches // self._tokens  # by where the cell begins
        numbers = np.arange(self._batches)
        firsts = np.searchsorted(batch_of_cell, numbers)
        # A cell as long as several shares would leave batches empty: those take one cell each of their neighbours.
        firsts = np.maximum.accumulate(firsts - numbers) + numbers
        firsts = np.minimum(firsts, len(order) - self._batches + numbers)
        cells, bounds = order.tolist(), [*firsts.tolist(), len(order)]
        return [cells[first:end] for first, end in pairwise(bounds)]

    def _check_lengths(self) -> None:
        if self.lengths.ndim != 1 or not len(self.lengths):
            raise ValueError(
                f"lengths have shape {self.lengths.shape}: expected one length a cell, and at least a cell"
            )
        empty = int((self.lengths < 1).sum())
        if empty:
            raise ValueError(f"{empty:,} of {len(self.lengths):,} cells have no tokens: leave them out beforehand")
