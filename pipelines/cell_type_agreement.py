"""Predicted types of cells beside labels: accuracy, Matthews' correlation, F1 and the confusion of types.

Only cells whose label is one of the model's types count; the others are counted and named. "unknown" is a prediction
like another, and always wrong. Matthews' correlation of several classes is Gorodkin's (2004), macro-F1 the mean over
the types that are among the labels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = "unknown"
_NO_LABELS = ("", "nan", "None", "NA")


@dataclass(frozen=True)
class CellTypeAgreement:
    """What `compare_with_labels` found.

    Attributes:
        confusion: cells, int64; a row a label, a column a predicted type, "unknown" last.
        summary: accuracy, accuracy_of_called (cells that are not "unknown"), matthews_correlation, macro_f1, and how
            many cells were compared and left out.
    """

    confusion: "pd.DataFrame"
    summary: dict[str, Any]


def compare_with_labels(predicted: "pd.Series", labels: "pd.Series", cell_types: Sequence[str]) -> CellTypeAgreement:
    """Compare predictions with labels.

    Args:
        predicted: (cells,) names of types, or "unknown".
        labels: (cells,) any values; missing ones are left out.
        cell_types: the model's.

    Returns:
        CellTypeAgreement; its numbers are NaN where no label is one of the model's types.
    """
    import pandas as pd

    texts = labels.astype(object).where(labels.notna(), "").astype(str).str.strip()
    is_labelled = ~texts.isin(_NO_LABELS).to_numpy()
    is_known = texts.isin(list(cell_types)).to_numpy() & is_labelled
    columns = [*cell_types, *([] if UNKNOWN in cell_types else [UNKNOWN])]
    codes = [pd.Categorical(series[is_known], categories=columns).codes for series in (texts, predicted.astype(object))]
    counts = np.bincount(codes[0].astype(int) * len(columns) + codes[1], minlength=len(columns) ** 2)
    square = counts.reshape(len(columns), len(columns))
    strange = texts[is_labelled & ~is_known].value_counts()
    n_cells, correct = int(square.sum()), int(np.trace(square[: len(cell_types), : len(cell_types)]))
    called = n_cells - int(square[:, len(cell_types) :].sum())
    summary = {
        "cells_compared": n_cells,
        "cells_without_label": int((~is_labelled).sum()),
        "cells_of_types_that_the_model_does_not_know": int(strange.sum()),
        "types_that_the_model_does_not_know": {str(name): int(count) for name, count in strange.items()},
        "accuracy": correct / n_cells if n_cells else math.nan,
        "accuracy_of_called": correct / called if called else math.nan,
        "matthews_correlation": matthews_correlation(square),
        "macro_f1": _macro_f1(square),
    }
    is_row = square.sum(axis=1) > 0
    rows = [name for name, is_there in zip(columns, is_row, strict=True) if is_there]
    return CellTypeAgreement(pd.DataFrame(square[is_row], index=pd.Index(rows, name="label"), columns=columns), summary)


def matthews_correlation(confusion: np.ndarray) -> float:
    """Of a square confusion, rows labels; 0 where labels or predictions are all of one class, NaN without cells."""
    square = confusion.astype(np.float64)
    total, labelled, predicted = square.sum(), square.sum(axis=1), square.sum(axis=0)
    if total == 0:
        return math.nan
    spread = (total**2 - labelled @ labelled) * (total**2 - predicted @ predicted)
    return float((np.trace(square) * total - labelled @ predicted) / math.sqrt(spread)) if spread > 0 else 0.0


def _macro_f1(square: np.ndarray) -> float:
    labelled, predicted = square.sum(axis=1), square.sum(axis=0)
    is_there = labelled > 0
    scores = 2 * np.diag(square)[is_there] / (labelled + predicted)[is_there]
    return float(scores.mean()) if len(scores) else math.nan
