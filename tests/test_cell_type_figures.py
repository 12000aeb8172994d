"""Figures of types: drawn for few and many, and the same bytes again."""

import numpy as np
import pandas as pd
import pytest

from omics_transformers.pipelines.cell_type_figures import draw_confidence, draw_confusion

PNG = b"\x89PNG"


@pytest.mark.parametrize("values", [[0.5, 0.9, np.nan], [np.nan, np.nan]])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_confidence(values: list[float], threshold: float) -> None:
    drawn = draw_confidence(pd.Series(values), threshold)
    assert drawn.startswith(PNG) and drawn == draw_confidence(pd.Series(values), threshold)
    assert drawn != draw_confidence(pd.Series([0.1]), threshold)


@pytest.mark.parametrize("size", [0, 2, 30])
def test_confusion(size: int) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (size, size + 1))
    names = [f"type{number}" for number in range(size)]
    confusion = pd.DataFrame(counts, index=names, columns=[*names, "unknown"])
    drawn = draw_confusion(confusion)
    assert drawn.startswith(PNG) and drawn == draw_confusion(confusion)
    if size:
        assert drawn != draw_confusion(confusion.iloc[::-1])
