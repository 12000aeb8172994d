"""Counts to bins: per-cell normalisation, log, per-gene scaling and edges that are fitted once and then kept.

Source: chapter 4 of the thesis behind the multiome Performer (its gene-normalised, quartile and absolute strategies)
and scBERT (https://doi.org/10.1038/s42256-022-00534-z). Zero is bin 0; a non-zero value is in bin 1 to `num_bins`, as
`numpy.digitize(value, edges) + 1` has it: a value equal to an edge is in the upper bin. Needs numpy and scipy only.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

logger = logging.getLogger(__name__)

STRATEGIES = ("gene_normalized", "quartile", "absolute", "scbert")
DEFAULT_NUM_BINS = 5
DEFAULT_TARGET_TOTAL = 10_000.0
_LARGEST_NUM_BINS = 254  # bins and the mask's id are uint8


@dataclass(frozen=True, eq=False)
class ValueBins:
    """Fitted bins of one modality.

    Values are counts / the cell's total over the given genes x `target_total`, then log(1 + x); log2(1 + x) for
    `scbert`. What is binned, the scaled value, is that divided by the gene's scale for `gene_normalized`, else itself.

    - `gene_normalized`: scale = the gene's non-zero median over cells; edges = equal percentiles of all non-zero ones.
    - `quartile`: the same percentiles without scaling.
    - `absolute`: bins of equal width between 0 and the largest value that was fitted.
    - `scbert`: the value rounded down, at most `num_bins`; values below 1 count as zero.

    Attributes:
        strategy: one of STRATEGIES.
        edges: float64 `(num_bins - 1,)`, in scaled units.
        centres: float64 `(num_bins + 1,)`: mean scaled value of each bin, 0 for zero; middle of an empty bin's edges.
        num_bins: bins of non-zero values.
        target_total: what a cell's counts are brought to.
        scales: float64 `(genes,)`, 1 for a gene that was never seen; None where values are not scaled.
        num_genes: columns that counts must have; None where unknown.
        values_seen, values_fitted: non-zero values that came, and those that edges, scales and centres rest on.
        genes_unseen: genes without any non-zero value.
        genes_scaled_by_mean: genes whose values were all left out by sampling; the mean of all stands for the median.
    """

    strategy: str
    edges: np.ndarray
    centres: np.ndarray
    num_bins: int = DEFAULT_NUM_BINS
    target_total: float = DEFAULT_TARGET_TOTAL
    scales: np.ndarray | None = None
    num_genes: int | None = None
    values_seen: int = 0
    values_fitted: int = 0
    genes_unseen: int = 0
    genes_scaled_by_mean: int = 0

    def __post_init__(self) -> None:
        _require_options(self.strategy, self.num_bins, self.target_total)
        for name, length in (("edges", self.num_bins - 1), ("centres", self.num_bins + 1)):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if values.shape != (length,) or not np.isfinite(values).all() or (np.diff(values) < 0).any():
                raise ValueError(
                    f"{name} of {self.num_bins} bins are {values.tolist()}: expected {length} numbers, ascending"
                )
            object.__setattr__(self, name, values)
        if (self.scales is not None) != (self.strategy == "gene_normalized"):
            raise ValueError(
                f"bins of the strategy {self.strategy} {'lack' if self.scales is None else 'have'} scales of genes: "
                "gene_normalized needs them, and no other strategy takes them"
            )
        if self.scales is not None:
            object.__setattr__(self, "scales", _checked_scales(self.scales, self.num_genes))
            object.__setattr__(self, "num_genes", len(self.scales))

    def bin(self, counts: Any) -> np.ndarray:
        """Bins of raw counts `(cells, genes)`, sparse or dense -> uint8 `(cells, genes)`; errors as `log_values`."""
        values = self.scaled_values(counts)
        bins = (np.digitize(values.data, self.edges) + 1).astype(np.uint8)
        if self.strategy == "scbert":
            bins[values.data < 1] = 0
        binned = np.zeros(values.shape, dtype=np.uint8)
        binned[np.repeat(np.arange(values.shape[0]), np.diff(values.indptr)), values.indices] = bins
        return binned

    def scaled_values(self, counts: Any) -> sp.csr_matrix:
        """What is binned, float64 `(cells, genes)`, of raw counts `(cells, genes)`; errors as `log_values`."""
        values = self.log_values(counts)
        if self.scales is not None:
            values.data /= self.scales[values.indices]
        return values

    def log_values(self, counts: Any) -> sp.csr_matrix:
        """Normalised, logged values, float64 `(cells, genes)` CSR, of raw counts `(cells, genes)`, sparse or dense.

        A cell without any count stays empty.

        Raises:
            ValueError: on another number of genes than was fitted, and counts that are negative or not finite.
        """
        return _log_values(counts, self.num_genes, self.target_total, self.strategy)

    def expected_log_values(self, probabilities: np.ndarray) -> np.ndarray:
        """Expected log(1 + normalised count), float64 `(cells, genes)`, of `(cells, genes, num_bins + 1)`."""
        probabilities = np.asarray(probabilities, dtype=np.float64)
        shape = probabilities.shape
        if len(shape) != 3 or shape[2] != self.num_bins + 1 or shape[1] != (self.num_genes or shape[1]):
            raise ValueError(
                f"probabilities have shape {shape}: expected (cells, {self.num_genes or 'genes'}, "
                f"{self.num_bins + 1}), the last the bins, zero among them"
            )
        expected = probabilities @ self.centres
        if self.strategy == "scbert":
            return expected * np.log(2)
        return expected if self.scales is None else expected * self.scales

    def to_dict(self) -> dict[str, Any]:
        """For JSON, exactly; `from_dict` is the way back."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, dictionary: Mapping[str, Any]) -> "ValueBins":
        """Bins of what `to_dict` gave; ValueError on fields that are missing, unknown or of the wrong length."""
        known = [field.name for field in fields(cls)]
        missing = [name for name in known[:3] if name not in dictionary]
        unknown = [name for name in dictionary if name not in known]
        if missing or unknown:
            raise ValueError(
                f"fitted bins have the fields {', '.join(dictionary)}: "
                + (f"{', '.join(missing)} missing" if missing else f"{', '.join(unknown)} unknown")
                + f"; expected what ValueBins.to_dict() gives: {', '.join(known)}"
            )
        return cls(**dictionary)


class ValueBinsFitter:
    """Fits bins to raw counts that come in chunks of cells: `add` each chunk once, then `finish`; one pass.

    Keeps up to `maximum_values` non-zero values (12 bytes each while adding, about 40 in `finish`). Up to that number
    the result is exact; above it, it rests on whole cells drawn at random, the same for the same seed and the same
    order of cells, however they are cut into chunks.

    Args:
        strategy: one of STRATEGIES.
        num_genes: columns of the counts.
        num_bins: bins of non-zero values, 2 to 254.
        target_total: what a cell's counts are brought to.
        maximum_values: non-zero values to keep.
        seed: of the draw of cells.

    Raises:
        ValueError: on an unknown strategy and numbers out of range.
    """

    def __init__(
        self,
        strategy: str,
        num_genes: int,
        *,
        num_bins: int = DEFAULT_NUM_BINS,
        target_total: float = DEFAULT_TARGET_TOTAL,
        maximum_values: int = 50_000_000,
        seed: int = 0,
    ) -> None:
        _require_options(strategy, num_bins, target_total)
        if num_genes < 1 or maximum_values < 1:
            raise ValueError(f"num_genes is {num_genes} and maximum_values {maximum_values}: give at least 1 of each")
        self._strategy, self._num_bins, self._target_total = strategy, num_bins, float(target_total)
        self._maximum_values = maximum_values
        self._random = np.random.default_rng(seed)
        self._draw_limit = np.inf  # cells that drew this or more are left out
        self._kept: list[_KeptCells] = []
        self._sums = np.zeros(num_genes)
        self._numbers = np.zeros(num_genes, dtype=np.int64)
        self._largest = 0.0

    def add(self, counts: Any) -> None:
        """Take in raw counts `(cells, genes)`, sparse or dense; errors as `ValueBins.log_values`."""
        values = _log_values(counts, len(self._sums), self._target_total, self._strategy)
        if self._strategy == "scbert":
            values.data[values.data < 1] = 0
            values.eliminate_zeros()
        np.add.at(self._sums, values.indices, values.data)  # in order, whatever the chunks
        self._numbers += np.bincount(values.indices, minlength=len(self._sums))
        self._largest = max(self._largest, float(values.data.max(initial=0)))
        draws = self._random.random(values.shape[0])
        cells = _KeptCells(draws, np.diff(values.indptr), values.data, values.indices.astype(np.int32))
        self._kept.append(cells.below(self._draw_limit))
        if sum(len(cells.values) for cells in self._kept) > 1.5 * self._maximum_values:
            self._leave_cells_out()

    def finish(self) -> ValueBins:
        """The fitted bins; ValueError where no chunk had a non-zero value."""
        if not self._numbers.any():
            raise ValueError("no cell has a non-zero value of the genes: there is nothing to fit bins to")
        self._leave_cells_out()
        (cells,) = self._kept
        scales, scaled_by_mean = None, 0
        values = cells.values
        if self._strategy == "gene_normalized":
            scales, scaled_by_mean = self._scales(cells)
            values = values / scales[cells.genes]
        edges = self._edges(values)
        bins = ValueBins(
            strategy=self._strategy,
            edges=edges,
            centres=_centres(values, edges, 1.0 if self._strategy == "scbert" else 0.0),
            num_bins=self._num_bins,
            target_total=self._target_total,
            scales=scales,
            num_genes=len(self._sums),
            values_seen=int(self._numbers.sum()),
            values_fitted=len(values),
            genes_unseen=int((self._numbers == 0).sum()),
            genes_scaled_by_mean=scaled_by_mean,
        )
        _log_fit(bins)
        return bins

    def _edges(self, values: np.ndarray) -> np.ndarray:
        if self._strategy == "scbert":
            return np.arange(2.0, self._num_bins + 1)
        inner = np.arange(1, self._num_bins)
        if self._strategy == "absolute":
            return self._largest * inner / self._num_bins
        return np.percentile(values, 100 * inner / self._num_bins)

    def _scales(self, cells: "_KeptCells") -> tuple[np.ndarray, int]:
        """Median of each gene's values; of all its values the mean where sampling left none, 1 where there is none."""
        numbers = np.bincount(cells.genes, minlength=len(self._sums))
        by_gene = cells.values[np.lexsort((cells.values, cells.genes))]
        first = np.cumsum(numbers) - numbers
        seen = np.flatnonzero(numbers)
        lower, upper = (first + (numbers - 1) // 2)[seen], (first + numbers // 2)[seen]
        scales = np.divide(self._sums, self._numbers, out=np.ones(len(self._sums)), where=self._numbers > 0)
        scales[seen] = (by_gene[lower] + by_gene[upper]) / 2
        return scales, int(((numbers == 0) & (self._numbers > 0)).sum())

    def _leave_cells_out(self) -> None:
        """Keep the cells of the smallest draws, as many as have no more than `maximum_values`, but at least one."""
        cells = _KeptCells(*(np.concatenate(parts) for parts in zip(*self._kept, strict=True)))
        self._kept = [cells]
        if len(cells.values) > self._maximum_values:
            order = np.argsort(cells.draws)
            too_many = np.cumsum(cells.lengths[order]) > self._maximum_values
            first_left_out = max(1, int(too_many.argmax()))
            if first_left_out < len(order):
                self._draw_limit = cells.draws[order[first_left_out]]
                self._kept = [cells.below(self._draw_limit)]


class _KeptCells(NamedTuple):
    """Non-zero values of some cells, cell after cell."""

    draws: np.ndarray  # (cells,) float64
    lengths: np.ndarray  # (cells,) int, number of values
    values: np.ndarray  # (values,) float64
    genes: np.ndarray  # (values,) int32

    def below(self, limit: float) -> "_KeptCells":
        """The cells that drew less than `limit` and have a value."""
        kept = (self.draws < limit) & (self.lengths > 0)
        if kept.all():
            return self
        of_kept = np.repeat(kept, self.lengths)
        return _KeptCells(self.draws[kept], self.lengths[kept], self.values[of_kept], self.genes[of_kept])


def _log_values(counts: Any, num_genes: int | None, target_total: float, strategy: str) -> sp.csr_matrix:
    values = sp.csr_matrix(counts, dtype=np.float64, copy=True)
    if num_genes is not None and values.shape[1] != num_genes:
        raise ValueError(
            f"the counts have {values.shape[1]:,} genes and the bins are of {num_genes:,}: align the counts to the "
            "genes that the bins were fitted on, or fit bins to these genes"
        )
    values.sum_duplicates()
    values.eliminate_zeros()
    cells = np.repeat(np.arange(values.shape[0]), np.diff(values.indptr))
    for wrong, what in ((~np.isfinite(values.data), "not finite"), (values.data < 0, "negative")):
        if wrong.any():
            first = int(wrong.argmax())
            raise ValueError(
                f"{int(wrong.sum()):,} counts are {what}, the first {values.data[first]} in cell {cells[first]}, gene "
                f"number {values.indices[first]}: raw counts are expected"
            )
    totals = values @ np.ones(values.shape[1])
    normalized = values.data / totals[cells] * target_total
    values.data = np.log2(1 + normalized) if strategy == "scbert" else np.log1p(normalized)
    return values


def _centres(values: np.ndarray, edges: np.ndarray, lowest: float) -> np.ndarray:
    bins = np.digitize(values, edges)
    numbers = np.bincount(bins, minlength=len(edges) + 1)
    sums = np.bincount(bins, weights=values, minlength=len(edges) + 1)
    lower = np.append(lowest, edges)
    upper = np.append(edges, max(edges[-1], values.max()))
    means = np.divide(sums, numbers, out=(lower + upper) / 2, where=numbers > 0)
    return np.append(0, np.clip(means, lower, upper))  # a mean of equal values may be off by a rounding error


def _log_fit(bins: ValueBins) -> None:
    logger.info(
        "bins (%s) fitted to %d of %d non-zero values: edges %s; %d of %d genes have none",
        *(bins.strategy, bins.values_fitted, bins.values_seen, np.round(bins.edges, 4).tolist()),
        *(bins.genes_unseen, bins.num_genes),
    )
    if (np.diff(bins.edges) == 0).any():
        logger.warning(
            "edges of the bins are equal (%s), so that some bins stay empty: too few distinct values for %d bins",
            *(np.round(bins.edges, 4).tolist(), bins.num_bins),
        )


def _checked_scales(scales: Any, num_genes: int | None) -> np.ndarray:
    scales = np.asarray(scales, dtype=np.float64)
    if scales.ndim != 1 or (num_genes is not None and len(scales) != num_genes):
        raise ValueError(f"scales have shape {scales.shape}: expected one a gene, of {num_genes or 'all'} genes")
    wrong = np.flatnonzero(~(np.isfinite(scales) & (scales > 0)))
    if len(wrong):
        raise ValueError(
            f"{len(wrong):,} scales are not positive, the first {scales[wrong[0]]} of gene number {wrong[0]}: give 1 "
            "for a gene that was never seen"
        )
    return scales


def _require_options(strategy: str, num_bins: int, target_total: float) -> None:
    if strategy not in STRATEGIES:
        raise ValueError(f"no binning strategy {strategy!r}: choose one of {', '.join(STRATEGIES)}")
    if not 2 <= num_bins <= _LARGEST_NUM_BINS:
        raise ValueError(f"num_bins is {num_bins}: give 2 to {_LARGEST_NUM_BINS}")
    if not (np.isfinite(target_total) and target_total > 0):
        raise ValueError(f"target_total is {target_total}: give a positive number, by custom {DEFAULT_TARGET_TOTAL:g}")
