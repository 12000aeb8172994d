"""Exact non-zero median of every gene's normalised counts over a corpus, in bounded memory.

The median is a rank in the sorted non-zero values; float64 patterns of positive numbers sort as integers do. Each pass
over the corpus histograms every gene's values between two bounds and keeps the bin that holds the rank; once the values
left between the bounds fit in memory, a last pass collects and selects them. Two passes serve most corpora, three a
hundred times more; equal to `numpy.median` to the last bit. Medians: Theodoris et al. 2023 (there approximated by
t-digests).
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from .rank_values import CellValues

logger = logging.getLogger(__name__)

BINS = 512
_LARGEST_KEY = np.iinfo(np.int64).max
# Normalised counts lie between 10,000 / 2**53 (about 2**-40) and 10,000: the first bins share that range.
_FIRST_BASE = int(np.array([2.0**-40]).view(np.int64)[0])
_FIRST_END = int(np.array([10_000.0]).view(np.int64)[0]) + 1


class NonZeroMedians(NamedTuple):
    """Of every gene: the median of its non-zero values (NaN without any), and how many there are."""

    medians: np.ndarray  # (genes,) float64
    n_cells: np.ndarray  # (genes,) int64

    def to_json(self) -> dict[str, list[float | None] | list[int]]:
        """Lists; Python writes floats so that they are read back to the last bit."""
        medians = [None if np.isnan(median) else float(median) for median in self.medians]
        return {"medians": medians, "n_cells": self.n_cells.tolist()}

    @classmethod
    def from_json(cls, content: dict[str, list[Any]]) -> "NonZeroMedians":
        """What `to_json` gave."""
        return cls(np.array(content["medians"], np.float64), np.array(content["n_cells"], np.int64))


class _Bounds:
    """Per gene, the range of float64 patterns that holds the lower middle value, and what is known around it."""

    def __init__(self, n_genes: int) -> None:
        self.low = np.zeros(n_genes, np.int64)  # inclusive
        self.high = np.full(n_genes, _LARGEST_KEY)  # exclusive
        self.base = np.full(n_genes, _FIRST_BASE)  # where the first bin begins; smaller values fall in it too
        self.shift = _shifts_of(np.full(n_genes, _FIRST_END - _FIRST_BASE))  # a bin is 2**shift patterns wide
        self.n_below = np.zeros(n_genes, np.int64)
        self.n_within = np.zeros(n_genes, np.int64)
        self.n_values = np.zeros(n_genes, np.int64)

    @property
    def resolved(self) -> np.ndarray:
        return (self.n_values == 0) | (self.high - self.low == 1)

    @property
    def n_to_collect(self) -> np.ndarray:
        return np.where(self.resolved, 0, self.n_within)


def non_zero_medians(
    one_pass: Callable[[], Iterable[CellValues]], n_genes: int, *, values_in_memory: int = 32_000_000
) -> NonZeroMedians:
    """Medians of all positive values that `one_pass()` yields; it is called two times or more.

    `values_in_memory` bounds what is collected for the final selection (8 bytes each); beside it lies a histogram of
    2 kB a gene.
    """
    bounds = _Bounds(n_genes)
    n_passes = 0
    while n_passes == 0 or bounds.n_to_collect.sum() > values_in_memory:
        _narrow(bounds, one_pass())
        n_passes += 1
    medians = _collect(bounds, one_pass())
    logger.info("medians of %d genes found in %d passes", int((bounds.n_values > 0).sum()), n_passes + 1)
    return NonZeroMedians(medians, bounds.n_values)


def _shifts_of(widths: np.ndarray) -> np.ndarray:
    """Powers of two for bins of which at most BINS cover `widths` patterns."""
    bit_lengths = np.frexp((widths - 1).astype(np.float64))[1].astype(np.int64)
    return np.maximum(0, bit_lengths - (BINS.bit_length() - 1))


def _narrow(bounds: _Bounds, chunks: Iterable[CellValues]) -> None:
    """One pass: keeps, for each gene, the bin that holds its lower middle value."""
    n_genes = len(bounds.low)
    histogram = np.zeros((n_genes, BINS), np.uint32)
    below = np.zeros(n_genes, np.int64)
    above = np.zeros(n_genes, np.int64)
    for chunk in chunks:
        keys = chunk.values.view(np.int64)
        _fill_histogram(chunk.genes, keys, bounds.low, bounds.high, bounds.base, bounds.shift, histogram, below, above)
    bounds.n_values = below + above + histogram.sum(axis=1, dtype=np.int64)
    rank = np.maximum(bounds.n_values - 1, 0) // 2 - below
    ranks_through = np.cumsum(histogram, axis=1, dtype=np.int64)
    chosen = np.argmax(ranks_through > rank[:, None], axis=1)
    within = np.take_along_axis(histogram, chosen[:, None], axis=1).ravel().astype(np.int64)
    through = np.take_along_axis(ranks_through, chosen[:, None], axis=1).ravel()
    bounds.n_below, bounds.n_within = below + through - within, within
    _keep_bins(bounds, chosen)


def _keep_bins(bounds: _Bounds, chosen: np.ndarray) -> None:
    """Moves every gene's bounds to those of its chosen bin; the outermost bins reach to the bounds themselves."""
    begin = bounds.base + (chosen << bounds.shift)
    end = bounds.base + ((chosen + 1) << bounds.shift)
    bounds.low = np.where(chosen == 0, bounds.low, begin)
    bounds.high = np.where(chosen == BINS - 1, bounds.high, np.minimum(bounds.high, end))
    bounds.base = bounds.low
    bounds.shift = _shifts_of(bounds.high - bounds.low)


def _collect(bounds: _Bounds, chunks: Iterable[CellValues]) -> np.ndarray:
    """The last pass: gathers the values between the bounds and selects the one or two middle ones."""
    starts = np.concatenate([[0], np.cumsum(bounds.n_to_collect)])
    collected = np.empty(starts[-1], np.float64)
    ends = starts[:-1].copy()
    next_above = np.full(len(bounds.low), np.inf)
    resolved = bounds.resolved
    for chunk in chunks:
        _gather_values(
            chunk.genes, chunk.values, bounds.low, bounds.high, resolved, ends, starts, collected, next_above
        )
    assert (ends == starts[1:]).all(), "the passes saw different values"
    lowest = bounds.low.view(np.float64)
    return _select(collected, starts, lowest, resolved, bounds.n_values, bounds.n_below, bounds.n_within, next_above)


@njit(cache=True, nogil=True)
def _fill_histogram(genes, keys, low, high, base, shift, histogram, below, above):  # type: ignore[no-untyped-def]
    for i in range(len(genes)):
        gene, key = genes[i], keys[i]
        if key < low[gene]:
            below[gene] += 1
        elif key >= high[gene]:
            above[gene] += 1
        else:
            chosen = (key - base[gene]) >> shift[gene]
            histogram[gene, max(0, min(chosen, BINS - 1))] += 1


@njit(cache=True, nogil=True)
def _gather_values(genes, values, low, high, resolved, ends, starts, collected, next_above):  # type: ignore[no-untyped-def]
    keys = values.view(np.int64)
    for i in range(len(genes)):
        gene, key = genes[i], keys[i]
        if key >= high[gene]:
            next_above[gene] = min(next_above[gene], values[i])
        elif key >= low[gene] and not resolved[gene]:
            assert ends[gene] < starts[gene + 1]
            collected[ends[gene]] = values[i]
            ends[gene] += 1


@njit(cache=True, nogil=True)
def _select(collected, starts, lowest, resolved, n_values, n_below, n_within, next_above):  # type: ignore[no-untyped-def]
    medians = np.full(len(n_values), np.nan)
    for gene in range(len(n_values)):
        n = n_values[gene]
        if n == 0:
            continue
        lower_rank = (n - 1) // 2 - n_below[gene]
        upper_rank = n // 2 - n_below[gene]
        if resolved[gene]:
            lower = lowest[gene]
            upper = lower if upper_rank < n_within[gene] else next_above[gene]
        else:
            within = np.sort(collected[starts[gene] : starts[gene + 1]])
            lower = within[lower_rank]
            upper = within[upper_rank] if upper_rank < n_within[gene] else next_above[gene]
        medians[gene] = lower if lower_rank == upper_rank else (lower + upper) / 2
    return medians
