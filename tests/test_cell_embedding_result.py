"""Agreement of neighbours with labels: against scikit-learn's neighbours."""

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from omics_transformers.pipelines import cell_embedding_result
from omics_transformers.pipelines.cell_embedding_result import neighbour_agreement


@pytest.mark.parity
def test_equals_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_embedding_result, "_CELLS_A_BLOCK", 7)
    random = np.random.default_rng(0)
    labels = pd.Series(random.choice(["a", "b", "c"], 60, p=[0.5, 0.3, 0.2]))
    centres = {"a": 0.0, "b": 1.0, "c": 2.0}
    embeddings = random.normal(size=(60, 5)).astype(np.float32) + labels.map(centres).to_numpy(np.float32)[:, None]
    found = neighbour_agreement(embeddings, labels, neighbours=5)
    centred = embeddings - embeddings.mean(axis=0)
    nearest = NearestNeighbors(n_neighbors=5, metric="cosine").fit(centred).kneighbors(return_distance=False)
    same = labels.to_numpy()[nearest] == labels.to_numpy()[:, None]
    assert found["share_of_neighbours"] == pytest.approx(same.mean())
    majority = [pd.Series(labels.to_numpy()[row]).value_counts().sort_index().idxmax() for row in nearest]
    assert found["majority_accuracy"] == pytest.approx(np.mean(np.array(majority) == labels))
    sizes = labels.value_counts().to_numpy()
    assert found["share_expected"] == pytest.approx((sizes * (sizes - 1)).sum() / (60 * 59))
    assert found["share_of_neighbours"] > found["share_expected"]


def test_cells_that_are_left_out() -> None:
    embeddings = np.eye(6, dtype=np.float32)
    embeddings[0] = np.nan
    labels = pd.Series(["a", None, "a", "a", "a", np.nan])
    found = neighbour_agreement(embeddings, labels)
    assert found["cells_compared"] == 3 and found["cells_left_out"] == 3 and found["neighbours"] == 2
    assert found["share_of_neighbours"] == found["share_expected"] == found["majority_accuracy"] == 1.0
    nothing = neighbour_agreement(embeddings, pd.Series([None] * 6))
    assert np.isnan(nothing["share_of_neighbours"]) and nothing["cells_left_out"] == 6
