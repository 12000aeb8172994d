"""Baselines of cell types: what they read, how they are chosen, and how well they do where types are plain."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, matthews_corrcoef

from omics_transformers.training.cell_type_arms import BaselineArm
from omics_transformers.training.cell_type_baselines import (
    PENALTIES,
    Parts,
    binned,
    log_counts,
    neighbour_probabilities,
    predict_baseline,
    validation_score,
)
from omics_transformers.training.multiome_data import MultiomeCells, read_multiome

ROWS = Parts(np.arange(200, 280), np.arange(280, 296), np.arange(296, 320))
LABELS = Parts(*(rows % 4 for rows in ROWS))


@pytest.fixture(scope="module")
def cells(toy_multiome: Path) -> MultiomeCells:
    return read_multiome(toy_multiome).cells


@pytest.mark.parametrize("modality", ["rna", "atac", "both"])
@pytest.mark.parametrize("baseline", ["logistic_regression", "logistic_bins", "pca_knn"])
def test_plain_types_are_found(cells: MultiomeCells, baseline: str, modality: str) -> None:
    arm = BaselineArm(baseline, modality)  # type: ignore[arg-type]
    found = predict_baseline(arm, cells, ROWS, LABELS, n_types=4, seed=0)
    assert found.test.shape == (24, 4) and found.validation.shape == (16, 4)
    assert np.allclose(found.test.sum(axis=1), 1)
    assert (found.test.argmax(axis=1) == LABELS.test).mean() > 0.9
    assert found.chosen


def test_log_counts_are_the_plain_formula(cells: MultiomeCells) -> None:
    counts = cells.counts(ROWS.test, "atac").toarray()
    expected = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 10_000)
    assert np.allclose(log_counts(cells, ROWS.test, "atac").toarray(), expected, rtol=1e-5)
    assert np.array_equal(binned(cells, ROWS.test, "atac").toarray(), cells.values(ROWS.test, "atac"))


def test_the_penalty_is_the_best_on_the_validation_cells(cells: MultiomeCells) -> None:
    """By a loop over penalties and scalings of scikit-learn alone."""
    rows = ROWS._replace(training=ROWS.training[::5])
    labels = LABELS._replace(training=LABELS.training[::5])
    found = predict_baseline(BaselineArm("logistic_regression"), cells, rows, labels, n_types=4, seed=0)
    training, validation = (log_counts(cells, some, "rna").toarray() for some in rows[:2])
    scores = {}
    for scaled in (False, True):
        deviation = training.std(axis=0)
        scale = np.where(deviation > 0, deviation, 1) if scaled else 1
        for penalty in PENALTIES:
            model = LogisticRegression(C=penalty, max_iter=1000).fit(training / scale, labels.training)
            predicted = model.predict_proba(validation / scale)
            loss = log_loss(labels.validation, predicted, labels=range(4))
            mcc = matthews_corrcoef(labels.validation, predicted.argmax(axis=1))
            scores[penalty, scaled] = mcc - 1e-5 * loss
    assert (found.chosen["penalty"], found.chosen["scaled"]) == max(scores, key=lambda key: scores[key])
    assert validation_score(found.validation, labels.validation) == pytest.approx(max(scores.values()), abs=1e-7)


def test_without_validation_cells_the_first_setting_is_taken(
    cells: MultiomeCells, caplog: pytest.LogCaptureFixture
) -> None:
    rows, labels = ROWS._replace(validation=np.arange(0)), LABELS._replace(validation=np.arange(0))
    found = predict_baseline(BaselineArm("logistic_regression"), cells, rows, labels, n_types=4, seed=0)
    assert (found.chosen["penalty"], found.chosen["scaled"]) == (PENALTIES[0], False)
    assert found.validation.shape == (0, 4) and "no validation cells" in caplog.text
    neighbours = predict_baseline(BaselineArm("pca_knn"), cells, rows, labels, n_types=4, seed=0)
    assert neighbours.chosen["neighbours"] == 15 and neighbours.validation.shape == (0, 4)


def test_the_majority_is_the_shares_of_the_training_cells(cells: MultiomeCells) -> None:
    labels = LABELS._replace(training=np.array([0, 1, 1, 3]))
    found = predict_baseline(BaselineArm("majority"), cells, ROWS, labels, n_types=4, seed=0)
    assert np.array_equal(found.test, np.tile([0.25, 0.5, 0, 0.25], (24, 1)))


def test_cells_of_types_unseen_in_training_are_wrong_and_no_loss() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    expected = matthews_corrcoef([0, 1, -100], [0, 1, 0]) - 1e-5 * -(np.log(0.9) + np.log(0.8)) / 2
    assert validation_score(probabilities, np.array([0, 1, -100])) == pytest.approx(expected)


def test_neighbours_are_those_of_a_plain_search() -> None:
    random = np.random.default_rng(0)
    training, other, labels = random.normal(size=(30, 5)), random.normal(size=(7, 5)), np.arange(30) % 3
    (found,) = neighbour_probabilities(training, labels, [other], neighbours=4, metric="cosine", n_types=3)
    norm = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    nearest = np.argsort(-norm(other) @ norm(training).T, axis=1)[:, :4]
    assert np.allclose(found, [np.bincount(labels[some], minlength=3) / 4 for some in nearest])
    (all_of_them,) = neighbour_probabilities(training, labels, [other], neighbours=99, metric="cosine", n_types=3)
    assert np.allclose(all_of_them, 1 / 3)
