"""How well predicted probabilities name cell types: scores, confusion matrix, calibration.

`evaluate.load("training/cell_type_metric.py")`, or use the class directly; it works offline. Scores are scikit-learn's:
accuracy, MCC and weighted F1 are those of the thesis' tables 4.1 and 4.3. Beyond them: balanced accuracy and macro-F1,
for rare types; expected calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599) and Brier score.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import numpy.typing as npt
from sklearn import metrics
from sklearn.exceptions import UndefinedMetricWarning

SCORES = (
    "accuracy",
    "balanced_accuracy",
    "mcc",
    "macro_f1",
    "weighted_f1",
    "expected_calibration_error",
    "brier_score",
)
CALIBRATION_BINS = 15

Array = npt.NDArray[Any]

_TOLERANCE = 1e-3  # of a cell's sum of probabilities: bfloat16 has three digits
_OF_EQUALS, _LARGEST_LOSS = 1e-5, 100.0  # their product is less than MCC differs by between 1,000 cells
_DESCRIPTION = """Accuracy, balanced accuracy, MCC, F1, confusion matrix and calibration of predicted cell types."""
_INPUTS = """
    predictions: (cells, types) probabilities, which sum to 1 a cell.
    references: (cells,) integers, the type of each cell.
"""
_CITATION = """Guo et al. 2017, https://arxiv.org/abs/1706.04599; Brier 1950, Monthly Weather Review 78:1-3."""


class CellTypeMetric(evaluate.Metric):
    """Scores of cells, from batches of any size, in any order.

    - `accuracy`, `balanced_accuracy` (mean recall of the types that cells have), `mcc` (of all types; 0 where every
      cell is predicted, or is, of one type), `macro_f1` (over types that cells have or are predicted as; 0 for a type
      that has only one of the two), `weighted_f1` (weights are the cells of a type): as in scikit-learn.
    - `expected_calibration_error`: over 15 bins of equal width of the highest probability, open below and closed above,
      the mean of |accuracy - mean probability|, weighted by cells.
    - `brier_score`: mean over cells of the squared differences of probabilities and truth, summed over types: 0 to 2.

    Args:
        cell_types: names, in the order of the probabilities.
        options: of `evaluate.Metric`.

    Raises:
        ValueError: without names, or with one twice.
    """

    def __init__(self, cell_types: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        self.cell_types = [str(name) for name in cell_types]
        if not self.cell_types or len(set(self.cell_types)) < len(self.cell_types):
            raise ValueError(f"cell_types is {self.cell_types}: expected one or more names, each once")
        self.reset()

    def add_batch(self, *, predictions: Any = None, references: Any = None, **_: Any) -> None:
        """Add some cells.

        Raises:
            ValueError: where shapes do not agree, probabilities do not sum to 1, or a type is none of those named.
        """
        probabilities, types = np.asarray(predictions, dtype=np.float64), np.asarray(references)
        _check_batch(probabilities, types, len(self.cell_types))
        if not len(types):
            return
        truth = np.zeros_like(probabilities)
        truth[np.arange(len(types)), types] = 1
        self._references.append(types.astype(np.int64))
        self._predicted.append(probabilities.argmax(axis=1))
        self._confidence.append(probabilities.max(axis=1))
        self._squared_error += float(((probabilities - truth) ** 2).sum())

    def add(self, *, prediction: Any = None, reference: Any = None, **_: Any) -> None:
        """Add one cell, (types,)."""
        self.add_batch(predictions=[prediction], references=[reference])

    def compute(self, *, predictions: Any = None, references: Any = None, **_: Any) -> dict[str, Any]:
        """Scores of all that was added, which is then forgotten.

        Args:
            predictions, references: a last batch to add, or the only one.

        Returns:
            `SCORES`; `cells`; `confusion_matrix` (types, types), rows the true type; `by_cell_type`: name ->
            `precision`, `recall`, `f1`, `cells`, None where undefined; `calibration`: 15 bins' `cells`, `accuracy`,
            `confidence`, None where empty.

        Raises:
            ValueError: where nothing was added.
        """
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references)
        if not self._references:
            raise ValueError("no cell was added: call add_batch(predictions=..., references=...) before compute()")
        true, predicted = np.concatenate(self._references), np.concatenate(self._predicted)
        calibration, error = _calibration(np.concatenate(self._confidence), true == predicted)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            # of balanced accuracy, where a type is predicted that no cell has; and of a single type
            warnings.filterwarnings("ignore", "y_pred contains classes not in y_true")
            warnings.filterwarnings("ignore", "A single label was found")
            result: dict[str, Any] = {
                "accuracy": float(metrics.accuracy_score(true, predicted)),
                "balanced_accuracy": float(metrics.balanced_accuracy_score(true, predicted)),
                "mcc": float(metrics.matthews_corrcoef(true, predicted)),
                "macro_f1": float(metrics.f1_score(true, predicted, average="macro", zero_division=0)),
                "weighted_f1": float(metrics.f1_score(true, predicted, average="weighted", zero_division=0)),
            }
        result |= {
            "expected_calibration_error": error,
            "brier_score": self._squared_error / len(true),
            "cells": len(true),
            "confusion_matrix": self._confusion(true, predicted).tolist(),
            "by_cell_type": self._by_cell_type(true, predicted),
            "calibration": calibration,
        }
        self.reset()
        return result

    def reset(self) -> None:
        """Forget all that was added."""
        self._references: list[Array] = []
        self._predicted: list[Array] = []
        self._confidence: list[Array] = []
        self._squared_error = 0.0

    def __len__(self) -> int:
        return sum(len(some) for some in self._references)

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "predictions": datasets.List(datasets.Value("float64")),
            "references": datasets.Value("int64"),
        }
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )

    def _build_data_dir(self) -> str:
        return ""  # nothing is written, so no cache folder is made

    def _confusion(self, true: Array, predicted: Array) -> Array:
        return metrics.confusion_matrix(true, predicted, labels=np.arange(len(self.cell_types)))

    def _by_cell_type(self, true: Array, predicted: Array) -> dict[str, dict[str, float | int | None]]:
        scores = metrics.precision_recall_fscore_support(
            true, predicted, labels=np.arange(len(self.cell_types)), zero_division=np.nan
        )
        names = ("precision", "recall", "f1")
        return {
            cell_type: {name: _defined(scores[place][code]) for place, name in enumerate(names)}
            | {"cells": int(scores[3][code])}
            for code, cell_type in enumerate(self.cell_types)
        }


def selection_score(mcc: float, loss: float) -> float:
    """What models are chosen by on validation cells: MCC, and of equals the lower cross-entropy.

    Few cells give many equal MCCs, of which the first would be of a model that has hardly been trained.
    """
    return mcc - _OF_EQUALS * min(loss, _LARGEST_LOSS)


def _calibration(confidence: Array, is_right: Array) -> tuple[dict[str, list[Any]], float]:
    """Cells, accuracy and mean confidence of each bin; and the expected calibration error."""
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    cells, right, summed = (
        np.bincount(bins, weights, CALIBRATION_BINS) for weights in (None, is_right.astype(np.float64), confidence)
    )
    error = float(np.abs(right - summed).sum() / len(confidence))
    some = np.maximum(cells, 1)
    of_bins = {"accuracy": right / some, "confidence": summed / some}
    table: dict[str, list[Any]] = {"cells": cells.tolist()}
    for name, values in of_bins.items():
        table[name] = [float(value) if number else None for value, number in zip(values, cells, strict=True)]
    return table, error


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _check_batch(probabilities: Array, types: Array, n_types: int) -> None:
    if probabilities.ndim != 2 or probabilities.shape[1] != n_types or types.shape != probabilities.shape[:1]:
        raise ValueError(
            f"predictions have shape {probabilities.shape} and references {types.shape}: expected (cells, {n_types} "
            "types) and (cells,)"
        )
    is_bad = ~(np.isfinite(probabilities).all(axis=1) & (probabilities >= 0).all(axis=1))
    is_bad |= ~(np.abs(probabilities.sum(axis=1) - 1) <= _TOLERANCE)
    if is_bad.any():
        raise ValueError(
            f"{is_bad.sum():,} of {len(types):,} cells have no probabilities that sum to 1, first cell "
            f"{is_bad.argmax()}: give the softmax of logits; has the training diverged?"
        )
    if len(types) and not (np.issubdtype(types.dtype, np.integer) and types.min() >= 0 and types.max() < n_types):
        raise ValueError(
            f"references lie between {types.min()} and {types.max()} ({types.dtype}): expected the number of a type, "
            f"0 to {n_types - 1}"
        )
