"""Correlations of columns and rows against scipy's, and what has no variance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from omics_transformers.pipelines import imputation_scores
from omics_transformers.pipelines.imputation_scores import correlate_columns, correlate_rows, describe_correlations


@pytest.mark.parity
@given(st.integers(0, 1000), st.integers(3, 20), st.integers(1, 9))
def test_equals_scipy(seed: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(seed)
    observed = random.poisson(1.0, (rows, columns)).astype(np.float32)  # with ties
    predicted = random.normal(size=(rows, columns)).astype(np.float32)
    found = correlate_columns(observed, predicted)
    for column in range(columns):
        if np.ptp(observed[:, column]) == 0:
            assert np.isnan(found.pearson[column]) and np.isnan(found.spearman[column])
            continue
        pair = observed[:, column].astype(float), predicted[:, column].astype(float)
        assert found.pearson[column] == pytest.approx(stats.pearsonr(*pair).statistic, abs=1e-9)
        assert found.spearman[column] == pytest.approx(stats.spearmanr(*pair).statistic, abs=1e-9)


def test_rows_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    observed, predicted = random.normal(size=(2, 5, 11))
    whole = correlate_columns(observed.T, predicted.T)
    monkeypatch.setattr(imputation_scores, "_COLUMNS_A_BLOCK", 2)
    np.testing.assert_allclose(correlate_rows(observed, predicted), whole)


def test_a_constant_has_no_variance_whatever_the_rounding() -> None:
    observed = np.arange(12.0).reshape(6, 2)
    predicted = np.full((6, 2), np.float32(0.1) + np.float32(0.2))
    predicted[3] = np.nextafter(predicted[3], 1)
    found = correlate_columns(observed, predicted)
    assert np.isnan(found.pearson).all()
    described = describe_correlations(found, "genes")
    assert described["genes_without_variance"] == 2 and np.isnan(described["median_pearson"])
    assert np.isnan(correlate_columns(observed[:1], observed[:1]).pearson).all()


def test_description() -> None:
    found = correlate_columns(np.arange(6.0).reshape(3, 2), np.array([[0, 5], [1, 5], [2, 5.0]]))
    assert describe_correlations(found, "cells") == pytest.approx(
        {
            "median_pearson": 1.0,
            "mean_pearson": 1.0,
            "median_spearman": 1.0,
            "mean_spearman": 1.0,
            "cells_compared": 1,
            "cells_without_variance": 1,
        }
    )
