"""Bin edges fitted to the cells of all data sets, or taken from an earlier build; and how full the bins are.

Source: chapter 4 of the thesis, with the strategies of its Figure B.5; `modeling/value_bins.py` fits and applies them.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..modeling.value_bins import STRATEGIES, ValueBins, ValueBinsFitter
from .multiome_aligned import chunk_numbers

logger = logging.getLogger(__name__)

COMPARED_CELLS = 2_000  # drawn to show how full each strategy's bins are

Rows = Callable[[np.ndarray], sp.csr_matrix]


def fit_bins(
    rows: Rows, n_rows: int, n_genes: int, strategy: str, *, num_bins: int, chunk_cells: int, seed: int
) -> ValueBins:
    """Edges over all cells of a modality; `rows` gives the counts of rows `(rows, genes)`."""
    fitter = ValueBinsFitter(strategy, n_genes, num_bins=num_bins, seed=seed)
    for chunk in chunk_numbers(n_rows, chunk_cells):
        fitter.add(rows(np.arange(chunk.start, chunk.stop)))
    return fitter.finish()


def compare_strategies(rows: Rows, n_rows: int, chosen: ValueBins, *, seed: int) -> dict[str, Any]:
    """The numbers of Figure B.5: of each strategy the share of the non-zero counts in each bin, zero being the first.

    The chosen strategy keeps its edges; the others are fitted to the cells drawn.
    """
    drawn = np.random.default_rng([seed, 1]).permutation(n_rows)[:COMPARED_CELLS]
    counts = rows(np.sort(drawn))
    compared: dict[str, Any] = {"cells": len(drawn), "non-zero counts": int(counts.nnz)}
    for strategy in STRATEGIES:
        bins = chosen
        if strategy != chosen.strategy:
            fitter = ValueBinsFitter(strategy, counts.shape[1], num_bins=chosen.num_bins, seed=seed)
            fitter.add(counts)
            try:
                bins = fitter.finish()
            except ValueError as error:  # scbert leaves no value where all are below 1
                logger.warning("bins of the strategy %s cannot be shown: %s", strategy, error)
                compared[strategy] = None
                continue
        numbers = np.bincount(bins.bin(counts)[counts.nonzero()], minlength=chosen.num_bins + 1)
        compared[strategy] = {
            "share of each bin": [round(float(share), 6) for share in numbers / max(1, counts.nnz)],
            "edges": [round(float(edge), 6) for edge in bins.edges],
        }
    return compared
