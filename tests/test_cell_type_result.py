"""The table of types from probabilities."""

import numpy as np
import pandas as pd
import pytest

from omics_transformers.pipelines.cell_type_result import cell_type_table

BARCODES = pd.Index(["a", "b", "c", "d"])


def test_table() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2], [np.nan] * 3, [0, 0, 1]], dtype=np.float32)
    found = cell_type_table(probabilities, ["alpha", "beta", "gamma"], BARCODES, 0.5)
    assert found["cell_type"].tolist() == ["alpha", "unknown", "unknown", "gamma"]
    assert found["best_type"].tolist() == ["alpha", "alpha", None, "gamma"]  # the first of equals
    assert found["second_type"].tolist() == ["beta", "beta", None, "alpha"]
    assert found["is_unknown"].tolist() == [False, True, True, False]
    np.testing.assert_allclose(found["confidence"], [0.7, 0.4, np.nan, 1.0], rtol=1e-6)
    np.testing.assert_allclose(found["second_confidence"], [0.2, 0.4, np.nan, 0.0], rtol=1e-6)
    entropy = -(0.7 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1))
    np.testing.assert_allclose(found["entropy"].iloc[[0, 2, 3]], [entropy, np.nan, 0.0], rtol=1e-5)
    assert found.index.equals(BARCODES)


def test_a_threshold_that_is_met_is_no_unknown() -> None:
    probabilities = np.array([[0.5, 0.5]] * 4, dtype=np.float32)
    assert not cell_type_table(probabilities, ["alpha", "beta"], BARCODES, 0.5)["is_unknown"].any()


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_one_type(threshold: float) -> None:
    found = cell_type_table(np.ones((4, 1), dtype=np.float32), ["alpha"], BARCODES, threshold)
    assert found["cell_type"].tolist() == ["alpha"] * 4 and found["second_type"].isna().all()
