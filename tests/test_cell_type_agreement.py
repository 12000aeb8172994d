"""Scores of predicted types against scikit-learn's."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from omics_transformers.pipelines.cell_type_agreement import compare_with_labels, matthews_correlation

TYPES = ["alpha", "beta", "gamma"]


@pytest.mark.parity
@given(st.lists(st.tuples(st.sampled_from(TYPES), st.sampled_from([*TYPES, "unknown"])), min_size=2, max_size=30))
def test_equals_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    labels, predicted = (pd.Series(values, dtype=object) for values in zip(*pairs, strict=True))
    found = compare_with_labels(predicted, labels, TYPES)
    there = sorted(set(labels))
    assert found.summary["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    if len(set(labels)) + len(set(predicted)) > 2:
        expected = metrics.matthews_corrcoef(labels, predicted)
        assert found.summary["matthews_correlation"] == pytest.approx(expected)
    expected = metrics.f1_score(labels, predicted, labels=there, average="macro", zero_division=0)
    assert found.summary["macro_f1"] == pytest.approx(expected)
    square = metrics.confusion_matrix(labels, predicted, labels=[*TYPES, "unknown"])
    np.testing.assert_array_equal(found.confusion, square[[TYPES.index(name) for name in there]])
    assert found.confusion.index.tolist() == there
    called = predicted != "unknown"
    if called.any():
        expected = metrics.accuracy_score(labels[called], predicted[called])
        assert found.summary["accuracy_of_called"] == pytest.approx(expected)


def test_labels_that_do_not_count() -> None:
    labels = pd.Series(pd.Categorical(["alpha", "delta", None, "delta", "omega", "beta"]))
    found = compare_with_labels(pd.Series(["alpha"] * 6), labels, TYPES)
    assert found.summary["cells_compared"] == 2 and found.summary["cells_without_label"] == 1
    assert found.summary["cells_of_types_that_the_model_does_not_know"] == 3
    assert found.summary["types_that_the_model_does_not_know"] == {"delta": 2, "omega": 1}
    assert found.summary["accuracy"] == 0.5


def test_a_type_called_unknown_is_a_type_of_the_model() -> None:
    names = pd.Series(["unknown", "alpha"])
    found = compare_with_labels(names, names, ["alpha", "unknown"])
    assert found.summary["accuracy"] == 1.0 and found.confusion.columns.tolist() == ["alpha", "unknown"]


def test_nothing_to_compare() -> None:
    found = compare_with_labels(pd.Series(["alpha"]), pd.Series([np.nan]), TYPES)
    assert math.isnan(found.summary["accuracy"]) and math.isnan(found.summary["macro_f1"])
    assert found.confusion.empty and found.summary["cells_without_label"] == 1
    assert matthews_correlation(np.array([[3, 0], [0, 0]])) == 0.0
