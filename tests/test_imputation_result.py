"""Imputed values as AnnData, and the figure of correlations."""

import numpy as np
import pandas as pd

from omics_transformers.pipelines.aligned_cells import MultiomeCells
from omics_transformers.pipelines.imputation_result import ImputationResult, draw_correlations

CELLS = pd.Index(["a", "b", "c"])


def make_result(observed: np.ndarray | None) -> ImputationResult:
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    genes = pd.DataFrame({"symbol": ["G1", "G2"], "pearson": [0.5, np.nan]}, index=["ENSG1", "ENSG2"])
    scores = pd.DataFrame({"pearson": [0.1, 0.2, np.nan], "gene_mean_pearson": [0.3, 0.4, np.nan]}, index=CELLS)
    obs = pd.DataFrame({"kind": ["x", "y", "z"], "pearson": [9.0, 9.0, 9.0]}, index=CELLS)
    return ImputationResult(values / 10, values, genes, scores, MultiomeCells({}, obs, {}, {}, {}), {}, observed)


def test_anndata() -> None:
    made = make_result(np.ones((3, 2), dtype=np.float32)).anndata()
    np.testing.assert_array_equal(made.X, np.arange(6).reshape(3, 2))
    assert set(made.layers) == {"probability", "observed"} and made.var["symbol"].tolist() == ["G1", "G2"]
    assert made.obs.columns.tolist() == ["kind", "pearson", "gene_mean_pearson"]
    assert made.obs["pearson"].tolist() == [9.0] * 3  # the user's column stays
    assert set(make_result(None).anndata().layers) == {"probability"}


def test_figures() -> None:
    result = make_result(np.ones((3, 2), dtype=np.float32))
    drawn = draw_correlations(result.genes, result.cell_scores)
    assert result.figures() == {"correlations": drawn} and drawn.startswith(b"\x89PNG")
    assert drawn != draw_correlations(result.genes, result.cell_scores * 0 - 1)
    assert make_result(None).figures() == {}
