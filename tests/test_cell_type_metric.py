"""The metric of cell types against plain formulas, and against scikit-learn."""

import math
from pathlib import Path

import evaluate
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from omics_transformers.training.cell_type_metric import CALIBRATION_BINS, SCORES, CellTypeMetric

NAMES = ["B", "NK", "T"]


def drawn(cells: int, seed: int = 0, types: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    references = random.integers(0, types, cells)
    logits = random.normal(size=(cells, types)) + 1.5 * np.eye(types)[references]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), references


def plain_scores(probabilities: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """By loops over cells and types."""
    types, cells = probabilities.shape[1], len(references)
    confusion = [[0] * types for _ in range(types)]
    for row, true in zip(probabilities.tolist(), references.tolist(), strict=True):
        confusion[true][row.index(max(row))] += 1
    true_of = [sum(row) for row in confusion]
    predicted_of = [sum(row[column] for row in confusion) for column in range(types)]
    right = sum(confusion[one][one] for one in range(types))
    f1 = {
        one: 2 * confusion[one][one] / (true_of[one] + predicted_of[one])
        for one in range(types)
        if true_of[one] + predicted_of[one]
    }
    recalls = [confusion[one][one] / true_of[one] for one in range(types) if true_of[one]]
    above = right * cells - sum(t * p for t, p in zip(true_of, predicted_of, strict=True))
    below = math.sqrt((cells**2 - sum(p * p for p in predicted_of)) * (cells**2 - sum(t * t for t in true_of)))
    error = 0.0
    for number in range(CALIBRATION_BINS):
        low, high = number / CALIBRATION_BINS, (number + 1) / CALIBRATION_BINS
        inside = [i for i in range(cells) if low < probabilities[i].max() <= high]
        if inside:
            accuracy = sum(probabilities[i].argmax() == references[i] for i in inside) / len(inside)
            confidence = sum(probabilities[i].max() for i in inside) / len(inside)
            error += len(inside) / cells * abs(accuracy - confidence)
    brier = sum((probabilities[i][one] - (references[i] == one)) ** 2 for i in range(cells) for one in range(types))
    return {
        "accuracy": right / cells,
        "balanced_accuracy": sum(recalls) / len(recalls),
        "mcc": above / below if below else 0.0,
        "macro_f1": sum(f1.values()) / len(f1),
        "weighted_f1": sum(true_of[one] * f1.get(one, 0) for one in range(types)) / cells,
        "expected_calibration_error": error,
        "brier_score": brier / cells,
    }


@given(cells=st.integers(1, 60), seed=st.integers(0, 10_000), types=st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_the_plain_formulas(cells: int, seed: int, types: int) -> None:
    probabilities, references = drawn(cells, seed, types)
    found = CellTypeMetric([str(one) for one in range(types)]).compute(predictions=probabilities, references=references)
    for name, value in plain_scores(probabilities, references).items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parity
def test_scores_are_those_of_scikit_learn() -> None:
    probabilities, references = drawn(500)
    found = CellTypeMetric(NAMES).compute(predictions=probabilities, references=references)
    predicted = probabilities.argmax(axis=1)
    report = metrics.classification_report(references, predicted, output_dict=True, target_names=NAMES)
    assert found["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    assert found["weighted_f1"] == pytest.approx(report["weighted avg"]["f1-score"])
    assert found["balanced_accuracy"] == pytest.approx(report["macro avg"]["recall"])
    by_type = found["by_cell_type"]["NK"]
    assert [by_type[name] for name in ("precision", "recall", "f1", "cells")] == pytest.approx(
        [report["NK"][name] for name in ("precision", "recall", "f1-score", "support")]
    )
    one_hot = np.eye(3)[references]
    brier = sum(metrics.brier_score_loss(one_hot[:, one], probabilities[:, one]) for one in range(3))
    assert found["brier_score"] == pytest.approx(brier)
    assert np.array_equal(found["confusion_matrix"], metrics.confusion_matrix(references, predicted))


def test_batches_and_single_cells_add_up() -> None:
    probabilities, references = drawn(50)
    whole = CellTypeMetric(NAMES).compute(predictions=probabilities, references=references)
    metric = CellTypeMetric(NAMES)
    metric.add(prediction=probabilities[0], reference=references[0])
    metric.add_batch(predictions=probabilities[1:30], references=references[1:30])
    metric.add_batch(predictions=probabilities[:0], references=references[:0])
    assert len(metric) == 30
    added = metric.compute(predictions=probabilities[30:], references=references[30:])
    assert {name: added[name] for name in SCORES} == pytest.approx({name: whole[name] for name in SCORES})
    assert added["confusion_matrix"] == whole["confusion_matrix"] and len(metric) == 0


def test_a_type_that_is_never_predicted_counts_against_recall_and_macro_f1() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.7, 0.3, 0.0]])
    found = CellTypeMetric(NAMES).compute(predictions=probabilities, references=[0, 0, 2])
    assert found["balanced_accuracy"] == 0.5 and found["mcc"] == 0
    assert found["macro_f1"] == pytest.approx(0.8 / 2)
    assert found["by_cell_type"]["T"] == {"precision": None, "recall": 0.0, "f1": 0.0, "cells": 1}
    assert found["by_cell_type"]["NK"] == {"precision": None, "recall": None, "f1": None, "cells": 0}


def test_right_and_sure_is_without_error_and_its_calibration_is_one_bin() -> None:
    found = CellTypeMetric(NAMES).compute(predictions=np.eye(3), references=[0, 1, 2])
    assert [found[name] for name in SCORES] == [1, 1, 1, 1, 1, 0, 0]
    assert found["calibration"]["cells"] == [0] * 14 + [3]
    assert found["calibration"]["accuracy"] == [None] * 14 + [1.0]


def test_opens_with_evaluate_as_a_file() -> None:
    path = Path(__file__).parents[1] / "training" / "cell_type_metric.py"
    metric = evaluate.load(str(path), cell_types=NAMES)
    assert metric.compute(predictions=np.eye(3), references=[0, 1, 2])["mcc"] == 1


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([[0.5, 0.5]], [0], "predictions have shape (1, 2) and references (1,): expected (cells, 3 types)"),
        ([[0.5, 0.5, 0.5]], [0], "1 of 1 cells have no probabilities that sum to 1, first cell 0"),
        ([[1.5, -0.5, 0.0]], [0], "1 of 1 cells have no probabilities"),
        ([[1, 0, 0], [np.nan, 0, 0]], [0, 0], "1 of 2 cells have no probabilities that sum to 1, first cell 1"),
        ([[1, 0, 0]], [3], "references lie between 3 and 3 (int64): expected the number of a type, 0 to 2"),
        ([[1, 0, 0]], [-1], "references lie between -1 and -1"),
        ([[1, 0, 0]], [0.5], "references lie between 0.5 and 0.5 (float64)"),
    ],
)
def test_what_is_no_prediction_is_refused(predictions: list, references: list, message: str) -> None:
    with pytest.raises(ValueError) as error:
        CellTypeMetric(NAMES).add_batch(predictions=predictions, references=references)
    assert message in str(error.value)


def test_names_and_cells_are_needed() -> None:
    with pytest.raises(ValueError, match="expected one or more names, each once"):
        CellTypeMetric(["B", "B"])
    with pytest.raises(ValueError, match="no cell was added"):
        CellTypeMetric(NAMES).compute()
