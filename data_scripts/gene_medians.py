"""Exact non-zero median of every gene's normalised counts over a corpus, in bounded memory.

The median is a rank in the sorted non-zero values; float64 patterns of positive numbers sort as integers do. Each pass
over the corpus histograms every gene's values between two bounds and keeps the bin that holds the rank; once the values
left between the bounds fit in memory, a last pass collects and selects them. Two passes serve most corpora, three a
hundred times more; equal to `numpy.median` to the last bit. What a pass finds in parts of the corpus adds up to what it
finds in the whole, in any order, so that parts may lie on many machines. Medians: Theodoris et al. 2023 (there
approximated by t-digests).
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from .rank_values import CellValues

logger = logging.getLogger(__name__)

BINS = 512
VALUES_IN_MEMORY = 32_000_000
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


class MedianBounds:
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


class ValueHistogram(NamedTuple):
    """Of every gene, how many values some cells have below the bounds, in each bin between them, and above."""

    bins: np.ndarray  # (genes, BINS) uint32
    below: np.ndarray  # (genes,) int64
    above: np.ndarray  # (genes,) int64


class ValuesWithin(NamedTuple):
    """The values of some cells between the bounds of genes not yet resolved, in any order."""

    genes: np.ndarray  # (values,) int32
    values: np.ndarray  # (values,) float64
    next_above: np.ndarray  # (genes,) float64: the smallest value above the bounds, infinity without any


def non_zero_medians(
    one_pass: Callable[[], Iterable[CellValues]], n_genes: int, *, values_in_memory: int = VALUES_IN_MEMORY
) -> NonZeroMedians:
    """Medians of all positive values that `one_pass()` yields; it is called two times or more.

    `values_in_memory` bounds what is collected for the final selection (8 bytes each); beside it lies a histogram of
    2 kB a gene.
    """
    return medians_by_passes(
        lambda bounds: value_histogram(one_pass(), bounds),
        lambda bounds: (values_within([chunk], bounds) for chunk in one_pass()),
        n_genes,
        values_in_memory=values_in_memory,
    )


def medians_by_passes(
    count: Callable[[MedianBounds], ValueHistogram],
    collect: Callable[[MedianBounds], Iterable[ValuesWithin]],
    n_genes: int,
    *,
    values_in_memory: int = VALUES_IN_MEMORY,
) -> NonZeroMedians:
    """Medians of all positive values of a corpus that is passed over elsewhere, whole or in parts.

    Args:
        count: the histogram of all values, as `value_histogram` or `merged_histograms` give it; called once or more.
        collect: `values_within` of every part, each once, in any order; called once.
        n_genes: genes.
        values_in_memory: values collected for the final selection at most.
    """
    bounds = MedianBounds(n_genes)
    n_passes = 0
    while n_passes == 0 or bounds.n_to_collect.sum() > values_in_memory:
        _narrow(bounds, count(bounds))
        n_passes += 1
    medians = _select_collected(bounds, collect(bounds))
    logger.info("medians of %d genes found in %d passes", int((bounds.n_values > 0).sum()), n_passes + 1)
    return NonZeroMedians(medians, bounds.n_values)


def value_histogram(chunks: Iterable[CellValues], bounds: MedianBounds) -> ValueHistogram:
    """Counts the values of the chunks, gene by gene, in the bins between `bounds`."""
    n_genes = len(bounds.low)
    found = ValueHistogram(np.zeros((n_genes, BINS), np.uint32), *np.zeros((2, n_genes), np.int64))
    for chunk in chunks:
        keys = chunk.values.view(np.int64)
        _fill_histogram(chunk.genes, keys, bounds.low, bounds.high, bounds.base, bounds.shift, *found)
    return found


def merged_histograms(histograms: Iterable[ValueHistogram]) -> ValueHistogram:
    """The histogram of all cells from those of parts of them; these are left as they are."""
    remaining: Iterator[ValueHistogram] = iter(histograms)
    total = ValueHistogram(*(part.copy() for part in next(remaining)))
    for histogram in remaining:
        for part, more in zip(total, histogram, strict=True):
            part += more
    return total


def values_within(chunks: Iterable[CellValues], bounds: MedianBounds) -> ValuesWithin:
    """The values of the chunks that the final selection needs."""
    next_above = np.full(len(bounds.low), np.inf)
    taken = [
        _take_values(chunk.genes, chunk.values, bounds.low, bounds.high, bounds.resolved, next_above)
        for chunk in chunks
    ]
    genes = np.concatenate([genes for genes, _ in taken]) if taken else np.empty(0, np.int32)
    values = np.concatenate([values for _, values in taken]) if taken else np.empty(0, np.float64)
    return ValuesWithin(genes, values, next_above)


def _shifts_of(widths: np.ndarray) -> np.ndarray:
    """Powers of two for bins of which at most BINS cover `widths` patterns."""
    bit_lengths = np.frexp((widths - 1).astype(np.float64))[1].astype(np.int64)
    return np.maximum(0, bit_lengths - (BINS.bit_length() - 1))


def _narrow(bounds: MedianBounds, found: ValueHistogram) -> None:
    """Keeps, for each gene, the bin that holds its lower middle value."""
    bounds.n_values = found.below + found.above + found.bins.sum(axis=1, dtype=np.int64)
    rank = np.maximum(bounds.n_values - 1, 0) // 2 - found.below
    ranks_through = np.cumsum(found.bins, axis=1, dtype=np.int64)
    chosen = np.argmax(ranks_through > rank[:, None], axis=1)
    within = np.take_along_axis(found.bins, chosen[:, None], axis=1).ravel().astype(np.int64)
    through = np.take_along_axis(ranks_through, chosen[:, None], axis=1).ravel()
    bounds.n_below, bounds.n_within = found.below + through - within, within
    _keep_bins(bounds, chosen)


def _keep_bins(bounds: MedianBounds, chosen: np.ndarray) -> None:
    """Moves every gene's bounds to those of its chosen bin; the outermost bins reach to the bounds themselves."""
    begin = bounds.base + (chosen << bounds.shift)
    end = bounds.base + ((chosen + 1) << bounds.shift)
    bounds.low = np.where(chosen == 0, bounds.low, begin)
    bounds.high = np.where(chosen == BINS - 1, bounds.high, np.minimum(bounds.high, end))
    bounds.base = bounds.low
    bounds.shift = _shifts_of(bounds.high - bounds.low)


def _select_collected(bounds: MedianBounds, parts: Iterable[ValuesWithin]) -> np.ndarray:
    """Puts the collected values in order by gene and selects the one or two middle ones."""
    starts = np.concatenate([[0], np.cumsum(bounds.n_to_collect)])
    collected = np.empty(starts[-1], np.float64)
    ends = starts[:-1].copy()
    next_above = np.full(len(bounds.low), np.inf)
    for part in parts:
        _place_values(part.genes, part.values, starts, ends, collected)
        np.minimum(next_above, part.next_above, out=next_above)
    assert (ends == starts[1:]).all(), "the passes saw different values"
    lowest = bounds.low.view(np.float64)
    return _select(
        collected, starts, lowest, bounds.resolved, bounds.n_values, bounds.n_below, bounds.n_within, next_above
    )


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
def _take_values(genes, values, low, high, resolved, next_above):  # type: ignore[no-untyped-def]
    keys = values.view(np.int64)
    taken_genes, taken_values = np.empty(len(genes), np.int32), np.empty(len(genes), np.float64)
    n_taken = 0
    for i in range(len(genes)):
        gene, key = genes[i], keys[i]
        if key >= high[gene]:
            next_above[gene] = min(next_above[gene], values[i])
        elif key >= low[gene] and not resolved[gene]:
            taken_genes[n_taken], taken_values[n_taken] = gene, values[i]
            n_taken += 1
    return taken_genes[:n_taken].copy(), taken_values[:n_taken].copy()


@njit(cache=True, nogil=True)
def _place_values(genes, values, starts, ends, collected):  # type: ignore[no-untyped-def]
    for i in range(len(genes)):
        gene = genes[i]
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
