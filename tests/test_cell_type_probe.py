"""The linear probe: the head says what the regression on standardised embeddings says."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from omics_transformers.training.cell_type_baselines import PENALTIES, Parts
from omics_transformers.training.cell_type_probe import fit_linear_probe


def drawn(cells: int, types: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(cells) % types
    embeddings = 5 + random.normal(size=(cells, 6)) * [1, 10, 0.1, 1, 1, 1]
    embeddings[:, :types] += 2 * np.eye(types)[labels] * [1, 10, 0.1][:types]
    return embeddings.astype(np.float32), labels


@pytest.mark.parametrize("types", [2, 3])
@pytest.mark.parametrize("is_balanced", [False, True])
def test_probabilities_are_the_regression_s(types: int, is_balanced: bool) -> None:
    (training, labels), (validation, of_validation) = drawn(60, types, 0), drawn(20, types, 1)
    labels[:5] = 0  # not balanced
    head = nn.Linear(6, types)
    chosen = fit_linear_probe(
        head, Parts(training, validation, None), Parts(labels, of_validation, None), is_balanced=is_balanced
    )
    scaler = StandardScaler().fit(training.astype(float))
    model = LogisticRegression(
        C=chosen["penalty"], max_iter=5000, class_weight="balanced" if is_balanced else None
    ).fit(scaler.transform(training), labels)
    found = torch.softmax(head(torch.from_numpy(validation)), dim=1).detach().numpy()
    assert np.allclose(found, model.predict_proba(scaler.transform(validation)), atol=1e-4)


def test_without_validation_cells_the_first_penalty_is_taken() -> None:
    training, labels = drawn(30, 3, 0)
    nothing = Parts(training, training[:0], None), Parts(labels, labels[:0], None)
    assert fit_linear_probe(nn.Linear(6, 3), *nothing, is_balanced=False) == {"penalty": PENALTIES[0]}
