"""Imputed values beside measured ones: correlation of each gene across cells, and of each cell across genes.

Both are given, because they say different things: a predictor that gives every cell the gene's mean has no correlation
across cells and a high one across genes. It stands beside the model's in the table of cells.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

_COLUMNS_A_BLOCK = 512


class Correlations(NamedTuple):
    """float64 (columns,) each; NaN where a column has no variance in one of the two."""

    pearson: np.ndarray
    spearman: np.ndarray


def correlate_columns(observed: np.ndarray, predicted: np.ndarray) -> Correlations:
    """Correlate each column of one matrix with the same of another, in blocks of columns.

    Args:
        observed, predicted: (rows, columns) each, finite.
    """
    pearson, spearman = (np.full(observed.shape[1], np.nan) for _ in range(2))
    for first in range(0, observed.shape[1], _COLUMNS_A_BLOCK):
        block = slice(first, first + _COLUMNS_A_BLOCK)
        pair = [np.asarray(matrix[:, block], dtype=np.float64) for matrix in (observed, predicted)]
        pearson[block] = _pearson(*pair)
        spearman[block] = _pearson(*(rankdata(values, axis=0) for values in pair))
    return Correlations(pearson, spearman)


def correlate_rows(observed: np.ndarray, predicted: np.ndarray) -> Correlations:
    """Correlate each row of one matrix with the same of another; arguments as `correlate_columns`."""
    return correlate_columns(observed.T, predicted.T)


def describe_correlations(correlations: Correlations, unit: str) -> dict[str, Any]:
    """For a summary: medians and means over those that have variance, and how many have none."""
    has_variance = ~np.isnan(correlations.pearson)
    described: dict[str, Any] = {}
    for name, values in zip(("pearson", "spearman"), correlations, strict=True):
        known = values[has_variance]
        described[f"median_{name}"] = float(np.median(known)) if len(known) else float("nan")
        described[f"mean_{name}"] = float(known.mean()) if len(known) else float("nan")
    return described | {
        f"{unit}_compared": int(has_variance.sum()),
        f"{unit}_without_variance": int((~has_variance).sum()),
    }


def _pearson(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(columns,); a column that is constant up to rounding has no variance."""
    if len(observed) < 2:
        return np.full(observed.shape[1], np.nan)
    centred = [values - values.mean(axis=0) for values in (observed, predicted)]
    norms = [np.sqrt((values**2).sum(axis=0)) for values in centred]
    is_flat = np.zeros(observed.shape[1], dtype=bool)
    for values, norm in zip((observed, predicted), norms, strict=True):
        is_flat |= norm <= 1e-6 * np.sqrt(len(values)) * np.abs(values).max(axis=0) + 1e-300
    product = np.where(is_flat, 1.0, norms[0] * norms[1])
    return np.where(is_flat, np.nan, (centred[0] * centred[1]).sum(axis=0) / product)
