"""Plain co-expression with a gene over the same cells: the baseline that a deep model must beat to matter.

    python -m omics_transformers.training.coexpression_baseline --cells cells.h5ad --gene GATA4 --output genes.tsv

Spearman's correlation of each gene with the edited one, of raw counts divided by their cell's total, equal values
ranked by their mean as scipy.stats.spearmanr does. Ranks are kept as their distance to the rank of zero, so that the
matrix stays sparse; blocks of genes bound the memory.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from scipy import stats
from tqdm import tqdm

from ..modeling.raw_counts import checked_counts
from ..modeling.tokenization_gene_rank import LARGEST_LOGGED_COUNT, strip_version
from .coexpression_cells import read_counts

logger = logging.getLogger(__name__)

GENES_A_BLOCK = 1024


def coexpression_baseline(
    cells: Any,
    gene: str,
    *,
    gene_symbols: Mapping[str, str] | None = None,
    gene_ids: Sequence[str] | None = None,
    counts_layer: str | None = None,
    use_raw: bool = False,
    gene_id_column: str | None = None,
    only_cells_with_gene: bool = False,
    minimum_cells: int = 1,
    progress: bool = False,
) -> pd.DataFrame:
    """Each gene's co-expression with one gene, in the layout of a perturbation's table of genes.

    Args:
        cells: an AnnData of raw counts, or a path of a .h5ad.
        gene: gene id or symbol.
        gene_symbols: gene id -> symbol; the cells' own where None.
        gene_ids: only these genes, e.g. a model's vocabulary; all where None. Totals are over all genes all the same.
        counts_layer, use_raw, gene_id_column: as the perturbation pipeline.
        only_cells_with_gene: over the cells that express `gene`, which are the ones that a perturbation sees; all cells
            where False, as a model is trained on.
        minimum_cells: genes expressed in fewer of the cells are counted and left out.
        progress: show a progress bar.

    Returns:
        One row a gene, the strongest first: gene_id, symbol, n_cells (of the cells that express it), correlation, shift
        (its absolute value), rank, p_value (two-sided, of Student's t, as scipy). The gene itself, and genes that do
        not vary, have no correlation and are left out.

    Raises:
        FileNotFoundError: on a path where no file is.
        ValueError: on an unknown gene, counts that are no raw counts, or cells that all have equally much of `gene`.
    """
    read = read_counts(cells, counts_layer=counts_layer, use_raw=use_raw, gene_id_column=gene_id_column)
    named = read._replace(gene_symbols=[gene_symbols.get(name, "") for name in read.gene_ids]) if gene_symbols else read
    column = named.column_of(gene)
    counts = checked_counts(named.counts, what="RNA", whole=False, n_columns=len(named.gene_ids))
    _require_raw(counts)
    shares = shares_of_cells(counts)
    if only_cells_with_gene:
        shares = shares[np.flatnonzero(counts[:, [column]].toarray()[:, 0])]
    kept = _kept_columns(named.gene_ids, gene_ids, column)
    found = spearman_with(shares[:, [column]], shares[:, kept], progress=progress, name=gene)
    table = pd.DataFrame(
        {
            "gene_id": [named.gene_ids[number] for number in kept],
            "symbol": [named.gene_symbols[number] for number in kept],
            "n_cells": found.n_cells,
            "correlation": found.correlation,
            "shift": np.abs(found.correlation),
        }
    )
    usable = np.isfinite(found.correlation) & (found.n_cells >= minimum_cells)
    logger.info(
        "%d cells; %d of %d genes do not vary or are in fewer than %d cells, and are left out",
        shares.shape[0],
        int((~usable).sum()),
        len(usable),
        minimum_cells,
    )
    table = table[usable].sort_values("shift", ascending=False, kind="stable", ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1), p_value=_p_values(table["correlation"], shares.shape[0]))


class Correlations(NamedTuple):
    """Of each gene: Spearman's correlation, NaN where it does not vary, and in how many cells it is above zero."""

    correlation: npt.NDArray[np.float64]
    n_cells: npt.NDArray[np.int64]


def spearman_with(
    reference: sp.spmatrix, values: sp.spmatrix, *, progress: bool = False, name: str = "the gene"
) -> Correlations:
    """Spearman's correlation of one column with many.

    Args:
        reference: (cells, 1) values of at least 0.
        values: (cells, genes) likewise.
        progress: show a progress bar.
        name: of the reference, for messages.

    Raises:
        ValueError: where the reference does not vary.
    """
    (one, spread, _) = _centred_ranks(sp.csc_matrix(reference))
    if not spread[0] > 0:
        raise ValueError(
            f"all {reference.shape[0]:,} cells have equally much of {name}, so that nothing can vary with it: give "
            "cells that differ, or all cells in place of those that express it"
        )
    vector = one.toarray()[:, 0]
    columns = sp.csc_matrix(values)
    correlation, n_cells = np.empty(columns.shape[1]), np.empty(columns.shape[1], dtype=np.int64)
    starts = range(0, columns.shape[1], GENES_A_BLOCK)
    for start in tqdm(starts, desc="co-expression", unit="block", disable=not progress):
        block = slice(start, start + GENES_A_BLOCK)
        ranks, spreads, n_cells[block] = _centred_ranks(columns[:, block])
        # The covariance of the ranks does not change when all of a gene's are moved by the rank of its zeros.
        sums = np.asarray(ranks.sum(axis=0)).ravel()
        covariance = ranks.T @ vector - sums * vector.mean()
        with np.errstate(invalid="ignore", divide="ignore"):
            correlation[block] = np.where(spreads > 0, covariance / np.sqrt(spreads * spread[0]), np.nan)
    return Correlations(np.clip(correlation, -1, 1), n_cells)


def shares_of_cells(counts: sp.csr_matrix) -> sp.csr_matrix:
    """(cells, genes) counts / the cell's total; a cell without counts stays empty."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    per_value = np.repeat(np.where(totals > 0, totals, 1), np.diff(counts.indptr))
    return sp.csr_matrix((counts.data / per_value, counts.indices, counts.indptr), shape=counts.shape)


def _centred_ranks(
    columns: sp.csc_matrix,
) -> tuple[sp.csc_matrix, npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Ranks less that of zero, (cells, genes); each gene's squares about its mean rank, summed; its values above 0."""
    columns = columns.copy()
    columns.eliminate_zeros()
    n_cells, lengths = columns.shape[0], np.diff(columns.indptr).astype(np.int64)
    gene = np.repeat(np.arange(columns.shape[1]), lengths)
    order = np.lexsort((columns.data, gene))
    values = columns.data[order]
    # Runs of equal values within a gene share the mean of their ranks.
    first = np.flatnonzero(np.r_[True, (values[1:] != values[:-1]) | (gene[1:] != gene[:-1])][: len(values)])
    run_lengths = np.diff(np.r_[first, len(values)])
    n_zeros = n_cells - lengths
    place = first - columns.indptr[:-1][gene[first]]  # values of the gene below the run
    run_ranks = n_zeros[gene[first]] + place + (run_lengths + 1) / 2
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(run_ranks - (n_zeros[gene[first]] + 1) / 2, run_lengths)
    shifted = sp.csc_matrix((ranks, columns.indices, columns.indptr), shape=columns.shape)
    squares = np.bincount(gene, weights=ranks**2, minlength=columns.shape[1])
    sums = np.bincount(gene, weights=ranks, minlength=columns.shape[1])
    spreads = squares - sums**2 / max(n_cells, 1)
    return shifted, np.where(spreads > 1e-9 * np.maximum(squares, 1), spreads, 0), lengths


def _require_raw(counts: sp.csr_matrix) -> None:
    values = counts.data
    if len(values) and values.max() < LARGEST_LOGGED_COUNT and (values != np.rint(values)).any():
        raise ValueError(
            f"the counts look logged or scaled: they are no whole numbers and the largest is {values.max():.4g}; give "
            "the raw counts, perhaps kept in a layer or in `raw`"
        )


def _kept_columns(names: Sequence[str], wanted: Sequence[str] | None, column: int) -> npt.NDArray[np.int64]:
    kept = np.arange(len(names)) != column
    if wanted is not None:
        bare = {strip_version(name) for name in wanted}
        kept &= np.fromiter((strip_version(name) in bare for name in names), dtype=bool, count=len(names))
    if not kept.any():
        raise ValueError(
            f"none of the {len(names):,} genes of the cells, e.g. {', '.join(names[:3])}, is among the gene ids asked "
            f"for, e.g. {', '.join(list(wanted or [])[:3])}: give ids of the same kind, or a gene_id_column"
        )
    return np.flatnonzero(kept)


def _p_values(correlation: pd.Series, n_cells: int) -> npt.NDArray[np.float64]:
    freedom = n_cells - 2
    if freedom < 1:
        return np.full(len(correlation), np.nan)
    rho = correlation.to_numpy(dtype=float)
    with np.errstate(divide="ignore"):
        statistic = rho * np.sqrt(freedom / np.maximum((1 - rho) * (1 + rho), 0))
    return 2 * stats.t.sf(np.abs(statistic), freedom)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table of one gene; errors of the user's input end with one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, required=True, help=".h5ad of raw counts")
    parser.add_argument("--gene", required=True, help="gene id or symbol")
    parser.add_argument("--output", type=Path, required=True, help="table to write, .tsv")
    parser.add_argument("--counts-layer", help="layer with the raw counts; X without it")
    parser.add_argument("--use-raw", action="store_true", help="take raw.X")
    parser.add_argument("--gene-id-column", help="column of var with the gene ids")
    parser.add_argument("--only-cells-with-gene", action="store_true", help="over the cells that express the gene")
    parser.add_argument("--minimum-cells", type=int, default=1, help="leave out genes in fewer cells")
    given = vars(parser.parse_args(arguments))
    output, cells, gene = given.pop("output"), given.pop("cells"), given.pop("gene")
    if not output.parent.is_dir():
        parser.error(f"no folder {output.parent} to write {output.name} into: make it first")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        table = coexpression_baseline(cells, gene, progress=True, **given)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    table.to_csv(output, sep="\t", index=False)


if __name__ == "__main__":
    main()
