"""Rank-value encoding of cells, straight on CSR buffers (Theodoris et al. 2023, https://doi.org/10.1038/s41586-023-06139-9).

A cell's counts / its total x 10,000, each gene divided by its non-zero median over the corpus, non-zero genes in
descending order, cut to the model's length. Arithmetic is float64 in exactly that order (count / total * 10,000 /
median), so that another implementation meets the same ties. Deviations: equal values come in ascending token id (the
original's order of ties is undefined), and columns that map to one gene are summed first. The total is over all genes
of the cell, in the vocabulary or not. The kernels release the GIL: run them in threads.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numba import njit

TARGET_TOTAL = 10_000.0
NOT_IN_VOCABULARY = -1  # counts towards the cell's total, gets no token
NOT_A_GENE = -2  # antibody or peak of a multimodal matrix: ignored altogether

KEPT, EXCLUDED, EMPTY, TOO_FEW_GENES = 0, 1, 2, 3
DROP_REASONS = {EXCLUDED: "excluded by the obs query", EMPTY: "no counts", TOO_FEW_GENES: "too few genes"}

_RADIX_BITS = 8
_RADIX = 1 << _RADIX_BITS


class RankedCells(NamedTuple):
    """Rank tokens of a chunk: `tokens[offsets[i]:offsets[i + 1]]` belongs to the i-th kept cell."""

    tokens: np.ndarray  # (tokens,) dtype of token_of_gene
    offsets: np.ndarray  # (kept cells + 1,) int32
    outcome: np.ndarray  # (cells,) int8: KEPT, EXCLUDED, EMPTY or TOO_FEW_GENES
    detected: np.ndarray  # (cells,) int32: vocabulary genes with a count, before the cut


class CellValues(NamedTuple):
    """Normalised counts of a chunk's kept cells, before the division by medians."""

    genes: np.ndarray  # (values,) int32
    values: np.ndarray  # (values,) float64: count / total * 10,000


def rank_cells(
    counts: sp.csr_matrix,
    gene_of_column: np.ndarray,
    *,
    median_of_gene: np.ndarray,
    token_of_gene: np.ndarray,
    candidates: np.ndarray,
    minimum_genes: int,
    max_length: int,
    first_token: int = -1,
    last_token: int = -1,
) -> RankedCells:
    """Rank tokens of `counts (cells, columns)`.

    `gene_of_column (columns,)` int32 gives each column's gene, or NOT_IN_VOCABULARY, or NOT_A_GENE; genes are numbered
    in ascending order of their token ids `token_of_gene (genes,)`. `candidates (cells,)` bool is False for the cells
    left out by the user. `max_length` counts `first_token` and `last_token` (-1: none), which frame every cell.
    """
    return RankedCells(
        *_rank_rows(
            *csr_buffers(counts),
            gene_of_column,
            median_of_gene,
            token_of_gene,
            candidates,
            minimum_genes,
            max_length,
            first_token,
            last_token,
        )
    )


def normalise_cells(
    counts: sp.csr_matrix, gene_of_column: np.ndarray, *, n_genes: int, candidates: np.ndarray, minimum_genes: int
) -> CellValues:
    """The normalised counts that the medians are taken over: those of the cells that `rank_cells` keeps."""
    return CellValues(*_normalise_rows(*csr_buffers(counts), gene_of_column, n_genes, candidates, minimum_genes))


def csr_buffers(counts: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`indptr` int64, `indices` int32 and `data` float32 or float64: few dtypes, so that few kernels are compiled."""
    data = counts.data if counts.data.dtype in (np.float32, np.float64) else counts.data.astype(np.float64)
    return counts.indptr.astype(np.int64), counts.indices.astype(np.int32, copy=False), data


def require_counts(
    counts: sp.csr_matrix,
    *,
    source: str,
    cell_ids: pd.Index,
    genes: pd.Index,
    allow_fractional: bool,
    advice: str = "",
    feature: str = "gene",
    if_estimated: str = "allow fractional counts if so",
) -> None:
    """Raise ValueError, saying what was recognised and how, unless every stored value is a count.

    `source` names the file and matrix, `cell_ids (cells,)` and `genes (columns,)` the offender; `feature` is what a
    column is; `if_estimated` advises where fractional values may be estimated counts.
    """
    indptr, indices, data = csr_buffers(counts)
    if len(indices) and (indices.min() < 0 or indices.max() >= counts.shape[1]):
        raise ValueError(
            f"{source}: a column index lies outside 0..{counts.shape[1] - 1}: the file is damaged; write it again"
        )
    n_negative, n_not_finite, n_fractional, largest, first_bad = _inspect_values(data, allow_fractional)
    if first_bad < 0:
        return
    row = int(np.searchsorted(indptr, first_bad, side="right")) - 1
    where = f"first: {data[first_bad]:g} at cell {str(cell_ids[row])!r}, {feature} {str(genes[indices[first_bad]])!r}"
    if n_not_finite:
        problem = f"{n_not_finite} values are NaN or infinite ({where})"
    elif n_negative:
        problem = f"{n_negative} values are negative ({where}), as in scaled or regressed-out data"
    else:
        scale = _describe_scale(counts, largest, n_fractional, if_estimated)
        problem = f"{n_fractional} of {len(data)} values are not whole numbers ({where}); {scale}"
    raise ValueError(f"{source} does not hold counts: {problem}. Expected raw counts. {advice}".rstrip())


def _describe_scale(counts: sp.csr_matrix, largest: float, n_fractional: int, if_estimated: str) -> str:
    """Says what fractional values look like: totals that agree between cells give normalisation away."""
    values = counts.astype(np.float64)
    totals = np.asarray(values.sum(axis=1)).ravel()
    if _nearly_constant(totals):
        return f"every cell sums to {np.median(totals):.6g}: they look normalised, not logged"
    if largest < 50:
        totals = np.asarray(values.expm1().sum(axis=1)).ravel()
        if _nearly_constant(totals):
            return f"exp(x) - 1 sums to {np.median(totals):.6g} in every cell: they look normalised and logged (log1p)"
        if n_fractional > 0.05 * len(counts.data):
            return f"the largest value is {largest:.4g}: they look logged"
    return f"totals differ between cells, so they may be estimated counts (alevin, SoupX): {if_estimated}"


def _nearly_constant(totals: np.ndarray) -> bool:
    totals = totals[totals > 0]
    return len(totals) > 1 and bool(np.ptp(totals) < 1e-3 * np.median(totals))


@njit(cache=True, nogil=True)
def _inspect_values(data, allow_fractional):  # type: ignore[no-untyped-def]
    n_negative = n_not_finite = n_fractional = 0
    largest = 0.0
    first_bad = -1
    for position in range(len(data)):
        value = data[position]
        bad = True
        if not np.isfinite(value):
            n_not_finite += 1
        elif value < 0:
            n_negative += 1
        elif value != np.floor(value):
            n_fractional += 1
            bad = not allow_fractional
        else:
            bad = False
        largest = max(largest, value)
        if bad and first_bad < 0:
            first_bad = position
    return n_negative, n_not_finite, n_fractional, largest, first_bad


@njit(cache=True, nogil=True)
def _rank_rows(  # type: ignore[no-untyped-def]
    indptr,
    indices,
    data,
    gene_of_column,
    median_of_gene,
    token_of_gene,
    candidates,
    minimum_genes,
    max_length,
    first_token,
    last_token,
):
    n_cells = len(indptr) - 1
    frame = (first_token >= 0) + (last_token >= 0)
    tokens = np.empty(len(data) + 2 * n_cells, token_of_gene.dtype)
    offsets = np.zeros(n_cells + 1, np.int32)
    outcome = np.empty(n_cells, np.int8)
    detected = np.zeros(n_cells, np.int32)
    widest = _widest_row(indptr)
    genes, values = np.empty(widest, np.int32), np.empty(widest, np.float64)
    spare_genes, spare_values = np.empty(widest, np.int32), np.empty(widest, np.float64)
    packed, spare_packed = np.empty(widest, np.uint64), np.empty(widest, np.uint64)
    rounded = np.empty(widest, np.float32)
    kept = written = 0
    for cell in range(n_cells):
        if not candidates[cell]:
            outcome[cell] = EXCLUDED
            continue
        row = slice(indptr[cell], indptr[cell + 1])
        total, n = _gather_cell(indices[row], data[row], gene_of_column, genes, values, spare_genes, spare_values)
        detected[cell] = n
        if total == 0:
            outcome[cell] = EMPTY
        elif n < minimum_genes:
            outcome[cell] = TOO_FEW_GENES
        else:
            outcome[cell] = KEPT
            for i in range(n):
                values[i] = values[i] / total * TARGET_TOTAL / median_of_gene[genes[i]]
            _order_descending(values, n, rounded, packed, spare_packed)
            if first_token >= 0:
                tokens[written] = first_token
                written += 1
            for i in range(min(n, max_length - frame)):
                tokens[written] = token_of_gene[genes[packed[i] & np.uint64(0xFFFFFFFF)]]
                written += 1
            if last_token >= 0:
                tokens[written] = last_token
                written += 1
            kept += 1
            offsets[kept] = written
    return tokens[:written], offsets[: kept + 1], outcome, detected


@njit(cache=True, nogil=True)
def _normalise_rows(indptr, indices, data, gene_of_column, n_genes, candidates, minimum_genes):  # type: ignore[no-untyped-def]
    all_genes, all_values = np.empty(len(data), np.int32), np.empty(len(data), np.float64)
    widest = _widest_row(indptr)
    genes, values = np.empty(widest, np.int32), np.empty(widest, np.float64)
    spare_genes, spare_values = np.empty(widest, np.int32), np.empty(widest, np.float64)
    written = 0
    for cell in range(len(indptr) - 1):
        if not candidates[cell]:
            continue
        row = slice(indptr[cell], indptr[cell + 1])
        total, n = _gather_cell(indices[row], data[row], gene_of_column, genes, values, spare_genes, spare_values)
        if total > 0 and n >= minimum_genes:
            for i in range(n):
                assert 0 <= genes[i] < n_genes
                all_genes[written] = genes[i]
                all_values[written] = values[i] / total * TARGET_TOTAL
                written += 1
    return all_genes[:written], all_values[:written]


@njit(cache=True, nogil=True)
def _widest_row(indptr):  # type: ignore[no-untyped-def]
    widest = 0
    for cell in range(len(indptr) - 1):
        widest = max(widest, indptr[cell + 1] - indptr[cell])
    return widest


@njit(cache=True, nogil=True)
def _gather_cell(indices, data, gene_of_column, genes, values, spare_genes, spare_values):  # type: ignore[no-untyped-def]
    """Total of the cell, and its vocabulary genes with their counts: ascending, each once, none zero."""
    total = 0.0
    n = 0
    ascending = True
    for position in range(len(indices)):
        value = np.float64(data[position])
        gene = gene_of_column[indices[position]]
        if value == 0 or gene == NOT_A_GENE:
            continue
        total += value
        if gene >= 0:
            ascending &= n == 0 or genes[n - 1] < gene
            genes[n] = gene
            values[n] = value
            n += 1
    if not ascending:
        _sort_by_gene(genes, values, n, spare_genes, spare_values)
        n = _sum_equal_genes(genes, values, n)
    return total, n


@njit(cache=True, nogil=True)
def _sort_by_gene(genes, values, n, spare_genes, spare_values):  # type: ignore[no-untyped-def]
    """Least-significant-digit radix sort of (gene, value) pairs; an even number of passes ends where it began."""
    for shift in (0, 8, 16, 24):
        if shift >= 16 and np.max(genes[:n]) < 1 << 16:
            break
        starts = np.zeros(_RADIX + 1, np.int64)
        for i in range(n):
            starts[((genes[i] >> shift) & (_RADIX - 1)) + 1] += 1
        for digit in range(_RADIX):
            starts[digit + 1] += starts[digit]
        for i in range(n):
            digit = (genes[i] >> shift) & (_RADIX - 1)
            spare_genes[starts[digit]] = genes[i]
            spare_values[starts[digit]] = values[i]
            starts[digit] += 1
        for i in range(n):
            genes[i] = spare_genes[i]
            values[i] = spare_values[i]


@njit(cache=True, nogil=True)
def _sum_equal_genes(genes, values, n):  # type: ignore[no-untyped-def]
    last = 0
    for i in range(1, n):
        if genes[i] == genes[last]:
            values[last] += values[i]
        else:
            last += 1
            genes[last] = genes[i]
            values[last] = values[i]
    return last + 1


@njit(cache=True, nogil=True)
def _order_descending(values, n, rounded, packed, spare_packed):  # type: ignore[no-untyped-def]
    """Leaves in the low 32 bits of `packed` the positions of `values[:n]` in descending order, ties in input order.

    A stable radix sort on the upper 24 bits of the float32 pattern (monotone for positive numbers) brings everything
    but near-ties into place; insertion sort on the float64 values then settles those.
    """
    for i in range(n):
        rounded[i] = values[i]
    patterns = rounded.view(np.uint32)
    for i in range(n):
        packed[i] = (np.uint64(~patterns[i] & np.uint32(0xFFFFFFFF)) << np.uint64(32)) | np.uint64(i)
    source, target = packed, spare_packed
    for shift in (40, 48, 56):
        starts = np.zeros(_RADIX + 1, np.int64)
        for i in range(n):
            starts[((source[i] >> np.uint64(shift)) & np.uint64(_RADIX - 1)) + np.uint64(1)] += 1
        for digit in range(_RADIX):
            starts[digit + 1] += starts[digit]
        for i in range(n):
            digit = (source[i] >> np.uint64(shift)) & np.uint64(_RADIX - 1)
            target[starts[digit]] = source[i]
            starts[digit] += 1
        source, target = target, source
    low_bits = np.uint64(0xFFFFFFFF)
    for i in range(n):  # three passes end in the spare array: the insertion sort copies back
        item = source[i]
        value = values[item & low_bits]
        j = i
        while j > 0 and values[packed[j - 1] & low_bits] < value:
            packed[j] = packed[j - 1]
            j -= 1
        packed[j] = item
