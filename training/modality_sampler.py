"""The mixed regime: one kind of input a step, the same on all processes, its cells drawn from data sets by weights.

Source: "Developing a Multimodal Single-Cell Foundation Model with scATAC", section 4.3.2: batches of RNA alone, ATAC
alone and both modalities in turn, one kind a step. What it leaves open is ours: kinds may have weights; within a kind
a data set is drawn with the weight size ** dataset_exponent; and each data set is walked in shuffles, without
replacement, one after the other across epochs. The order is a function of the seed and the settings, whatever the
process or the worker, so a run that was stopped goes on with the batches that it would have had.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .resumable_sampler import ResumableSampler, checksum_of

Kind = Literal["rna", "atac", "both"]
KINDS: tuple[Kind, ...] = ("rna", "atac", "both")
# What the random numbers are for, so that they are independent of each other.
_SHARES, _PLACES, _SHUFFLE = range(3)


class CellDraw(NamedTuple):
    """One cell of one step.

    Attributes:
        row: of the cell.
        kind: what is read of it.
        epoch: of the draw.
        step: blocks of all processes before this one in the epoch; micro-batches that are accumulated count singly.
    """

    row: int
    kind: Kind
    epoch: int
    step: int


class ModalityBlockSampler(ResumableSampler[CellDraw]):
    """Cells of an epoch, such that each step has cells of one kind only.

    A step is `accumulation_steps` blocks of `world_size * batch_size` cells. Cut into batches of `batch_size` and dealt
    out in turn (batch i of a block to process i, as accelerate does without `split_batches`), all processes have the
    same kind at the same time. With equal weights the kinds alternate in their order; otherwise each kind's steps lie
    evenly spaced. An epoch has as many steps as the distinct cells fill, at least one, rounded up to a multiple of the
    number of kinds: so with kinds that share cells, or weights, an epoch is not one pass over each cell.

    Args:
        rows: kind -> data set (its name) -> (cells,) int64 rows, each once.
        batch_size: cells a batch of one process.
        world_size: number of processes.
        accumulation_steps: batches that a process adds up before it moves the weights.
        kind_weights: shares of the steps, in the order of `rows`; equal where None.
        dataset_exponent: 1 draws every cell of a kind as often, 0 every data set; what lies between favours the cells
            of small data sets.
        seed: seed of the order.

    Raises:
        ValueError: where there are no cells, or a number is out of range.
    """

    keep_alike: ClassVar[str] = "folder, kinds, validation cells, batch size, number of processes and seed"

    def __init__(
        self,
        rows: Mapping[Kind, Mapping[str, npt.NDArray[np.int64]]],
        batch_size: int,
        *,
        world_size: int = 1,
        accumulation_steps: int = 1,
        kind_weights: Sequence[float] | None = None,
        dataset_exponent: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"batch_size": batch_size, "world_size": world_size, "accumulation_steps": accumulation_steps}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}: it must be at least 1")
        if not 0 <= dataset_exponent <= 1:
            raise ValueError(f"dataset_exponent is {dataset_exponent}: expected 0 (data sets alike) to 1 (cells alike)")
        self.rows = {kind: {name: part for name, part in of.items() if len(part)} for kind, of in rows.items()}
        empty = [kind for kind, of in self.rows.items() if not of]
        if empty or not self.rows:
            raise ValueError(f"no cells of the kind {', '.join(empty) or 'any'}: every kind needs at least one")
        self.kind_weights = _checked_weights(kind_weights, list(self.rows))
        self.batch_size = batch_size
        self.world_size = world_size
        self.accumulation_steps = accumulation_steps
        self.dataset_exponent = dataset_exponent
        self.seed = seed
        cells = len(np.unique(np.concatenate([part for of in self.rows.values() for part in of.values()])))
        steps = max(cells // self._cells_a_step, 1)
        self.kinds_of_steps = _spread(-(-steps // len(self.rows)) * len(self.rows), self.kind_weights)

    @property
    def _cells_a_step(self) -> int:
        return self.batch_size * self.world_size * self.accumulation_steps

    def __len__(self) -> int:
        return len(self.kinds_of_steps) * self._cells_a_step

    def settings(self) -> dict[str, Any]:
        """What the order depends on, besides the epoch."""
        return {
            "cells": {kind: {name: len(part) for name, part in of.items()} for kind, of in self.rows.items()},
            "cells_checksum": self._checksum(),
            "batch_size": self.batch_size,
            "world_size": self.world_size,
            "accumulation_steps": self.accumulation_steps,
            "kind_weights": self.kind_weights.tolist(),
            "dataset_exponent": self.dataset_exponent,
            "seed": self.seed,
        }

    def dataset_shares(self, kind: Kind) -> dict[str, float]:
        """Data set -> the share of the kind's cells that is expected of it."""
        sizes = np.array([len(part) for part in self.rows[kind].values()], dtype=np.float64)
        weights = sizes**self.dataset_exponent
        return dict(zip(self.rows[kind], (weights / weights.sum()).tolist(), strict=True))

    def _items_of_epoch(self) -> list[CellDraw]:
        kinds = [list(self.rows)[number] for number in self.kinds_of_steps]
        block = self.batch_size * self.world_size
        return [
            CellDraw(row, kinds[place // self._cells_a_step], self.epoch, place // block)
            for place, row in enumerate(self._rows_of_epoch().tolist())
        ]

    def _rows_of_epoch(self) -> npt.NDArray[np.int64]:
        """(cells of the epoch,) rows, step by step."""
        rows = np.empty((len(self.kinds_of_steps), self._cells_a_step), dtype=np.int64)
        for number, kind in enumerate(self.rows):
            is_kind = self.kinds_of_steps == number
            rows[is_kind] = self._rows_of_kind(number, kind, int(is_kind.sum())).reshape(-1, self._cells_a_step)
        return rows.ravel()

    def _rows_of_kind(self, number: int, kind: Kind, steps: int) -> npt.NDArray[np.int64]:
        cells, parts = steps * self._cells_a_step, list(self.rows[kind].values())
        shares = list(self.dataset_shares(kind).values())
        drawn = [self._random(_SHARES, number, epoch).multinomial(cells, shares) for epoch in range(self.epoch + 1)]
        before = np.asarray(drawn).sum(axis=0) - drawn[-1]
        dataset_of = np.repeat(np.arange(len(parts)), drawn[-1])
        self._random(_PLACES, number, self.epoch).shuffle(dataset_of)
        rows = np.empty(cells, dtype=np.int64)
        for dataset, part in enumerate(parts):
            walked = self._walk(number, dataset, part, int(before[dataset]), int(drawn[-1][dataset]))
            rows[dataset_of == dataset] = walked
        return rows

    def _walk(
        self, kind: int, dataset: int, part: npt.NDArray[np.int64], start: int, length: int
    ) -> npt.NDArray[np.int64]:
        """Cells start to start + length of the data set's endless walk: one shuffle of all its cells after another."""
        passes = range(start // len(part), -(-(start + length) // len(part)))
        shuffles = [self._random(_SHUFFLE, kind, dataset, number).permutation(part) for number in passes]
        walk = np.concatenate([part[:0], *shuffles])
        offset = start % len(part)
        return walk[offset : offset + length]

    def _random(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, *purpose))

    def _checksum(self) -> int:
        checksum = 0
        for of in self.rows.values():
            for part in of.values():
                checksum = checksum_of(part, checksum)
        return checksum


def _checked_weights(weights: Sequence[float] | None, kinds: list[Kind]) -> npt.NDArray[np.float64]:
    """(kinds,) shares that add up to 1."""
    if weights is None:
        return np.full(len(kinds), 1 / len(kinds))
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (len(kinds),) or not np.isfinite(given).all() or (given <= 0).any():
        raise ValueError(
            f"kind_weights are {', '.join(map(str, weights))}: expected a positive number for each of "
            f"{', '.join(kinds)}, in this order"
        )
    return given / given.sum()


def _spread(steps: int, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """(steps,) numbers of kinds: at least one step each, by largest remainders, evenly spaced; in turn if alike."""
    ideal = weights * steps
    counts = np.maximum(np.floor(ideal).astype(np.int64), 1)
    while counts.sum() != steps:
        if counts.sum() < steps:
            counts[np.argmax(ideal - counts)] += 1
        else:
            counts[np.argmax(np.where(counts > 1, counts - ideal, -np.inf))] -= 1
    kinds = np.repeat(np.arange(len(weights)), counts)
    within = np.arange(steps) - np.repeat(counts.cumsum() - counts, counts)
    return kinds[np.argsort((within + 0.5) / counts[kinds], kind="stable")]
