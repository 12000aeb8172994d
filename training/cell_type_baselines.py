"""What classifiers without a foundation model achieve on cell types, on the same cells as the model.

Source: the logistic regression of the thesis' tables 4.1 and 4.3, which won there. Its settings are not said there, so
it gets a fair chance: penalty and scaling are chosen by MCC on the validation cells. Beyond it: logistic regression on
the model's own bins, k-nearest neighbours of principal components, MultiVI's latent space, and the types' shares.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import matthews_corrcoef
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from .cell_type_arms import BaselineArm, modalities_of
from .cell_type_metric import selection_score
from .cell_type_splits import Rows
from .multiome_data import Modality, MultiomeCells
from .multivi_baseline import latent_space

logger = logging.getLogger(__name__)

TARGET_TOTAL = 10_000.0  # of a cell's normalised counts
PENALTIES = (0.01, 0.001, 0.1, 1.0, 10.0)  # inverse strengths (C); the first where there is nothing to choose by
NEIGHBOURS = (15, 5, 30)
COMPONENTS = 50
_MOST_ITERATIONS = 1000
_LEAST_PROBABILITY = 1e-6  # for the loss

Array = npt.NDArray[Any]


class Parts(NamedTuple):
    """Something of the training, validation and test cells: rows, or features."""

    training: Any
    validation: Any
    test: Any


class BaselinePrediction(NamedTuple):
    """What a baseline says.

    Attributes:
        validation, test: (cells, types) probabilities of the types seen in training.
        chosen: settings that the validation cells decided, and what is to be known of the fit.
    """

    validation: Array
    test: Array
    chosen: dict[str, Any]


def predict_baseline(
    arm: BaselineArm, cells: MultiomeCells, rows: Parts, labels: Parts, *, n_types: int, seed: int
) -> BaselinePrediction:
    """Fit on the training cells, choose by the validation cells, and predict both others.

    Args:
        arm: which baseline, on what.
        cells: of a folder.
        rows: (cells,) int64 of each part; validation may be empty, and the first of the settings is then taken.
        labels: (cells,) int64 of the training and validation cells, among the types seen in training; below 0 for
            others.
        n_types: seen in training.
        seed: of components and of MultiVI.

    Raises:
        ValueError: where the folder has no counts, or lacks the modality.
        ImportError: for MultiVI without scvi-tools.
    """
    if arm.baseline == "majority":
        return _shares(labels.training, rows, n_types)
    if not len(rows.validation):
        logger.warning("%s: no validation cells to choose settings by: the first of each is taken", arm.name)
    modalities = modalities_of(arm.modality)
    if arm.baseline == "pca_knn":
        features = _components(cells, rows, modalities, seed)
        return _best(_neighbour_fits(features, labels.training), features, labels, n_types)
    if arm.baseline == "multivi":
        features = Parts(*latent_space(cells, rows, modalities, seed=seed, maximum_epochs=arm.maximum_epochs))
    else:
        read = binned if arm.baseline == "logistic_bins" else log_counts
        features = Parts(*(sp.hstack([read(cells, some, one) for one in modalities], format="csr") for some in rows))
    return _best(_logistic_fits(features.training, labels.training, arm.name), features, labels, n_types)


def log_counts(cells: MultiomeCells, rows: Rows, modality: Modality) -> sp.csr_matrix:
    """(rows, genes) float32: log1p of counts brought to a total of 10,000 a cell; zeros of a cell without counts."""
    counts = cells.counts(rows, modality)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    scale = np.divide(TARGET_TOTAL, totals, out=np.zeros(len(totals)), where=totals > 0)
    scaled = sp.csr_matrix(sp.diags_array(scale) @ counts, dtype=np.float32)
    scaled.data = np.log1p(scaled.data)
    return scaled


def binned(cells: MultiomeCells, rows: Rows, modality: Modality) -> sp.csr_matrix:
    """(rows, genes) float32: numbers of bins."""
    return sp.csr_matrix(cells.values(rows, modality), dtype=np.float32)


def validation_score(probabilities: Array, labels: Rows) -> float:
    """`selection_score` of (cells, types seen) probabilities; cells of other types, below 0, are wrong, and no loss."""
    mcc = float(matthews_corrcoef(labels, probabilities.argmax(axis=1)))
    known = np.flatnonzero(labels >= 0)
    of_truth = np.maximum(probabilities[known, labels[known]], _LEAST_PROBABILITY)
    return selection_score(mcc, float(-np.log(of_truth).mean()) if len(known) else 0.0)


def neighbour_probabilities(
    training: Array, labels: Rows, others: Sequence[Array], *, neighbours: int, metric: str, n_types: int
) -> list[Array]:
    """(cells, types) shares of the types among the nearest training cells; all of these where there are fewer."""
    model = KNeighborsClassifier(n_neighbors=min(neighbours, len(labels)), metric=metric).fit(training, labels)
    return [_spread(model, some, n_types) for some in others]


def _shares(labels: Rows, rows: Parts, n_types: int) -> BaselinePrediction:
    shares = np.bincount(labels, minlength=n_types) / len(labels)
    validation, test = (np.tile(shares, (len(some), 1)) for some in (rows.validation, rows.test))
    return BaselinePrediction(validation, test, {})


def _components(cells: MultiomeCells, rows: Parts, modalities: Sequence[Modality], seed: int) -> Parts:
    """Principal components of each modality, fitted to the training cells, side by side."""
    of_modalities = []
    for modality in modalities:
        counts = [log_counts(cells, some, modality) for some in rows]
        number = min(COMPONENTS, min(counts[0].shape) - 1)
        pca = PCA(number, svd_solver="arpack", random_state=seed).fit(counts[0])
        of_modalities.append([_transformed(pca, some) for some in counts])
    return Parts(*(np.hstack(some) for some in zip(*of_modalities, strict=True)))


def _transformed(pca: PCA, counts: sp.csr_matrix) -> Array:
    return pca.transform(counts) if counts.shape[0] else np.zeros((0, pca.n_components_))


def _neighbour_fits(features: Parts, labels: Rows) -> Iterator[tuple[dict[str, Any], Any, Callable[[Any], Any]]]:
    for neighbours in NEIGHBOURS:
        number = min(neighbours, len(labels))
        model = KNeighborsClassifier(n_neighbors=number).fit(features.training, labels)
        yield {"neighbours": number, "components": features.training.shape[1]}, model, lambda some: some


def _logistic_fits(
    training: Any, labels: Rows, name: str
) -> Iterator[tuple[dict[str, Any], Any, Callable[[Any], Any]]]:
    """Each penalty, on features as they are and divided by their standard deviation (which keeps zeros zero)."""
    for is_scaled in (False, True):
        scaler = StandardScaler(with_mean=False, with_std=is_scaled).fit(training)
        scaled = scaler.transform(training)
        for penalty in PENALTIES:
            model = LogisticRegression(C=penalty, max_iter=_MOST_ITERATIONS)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ConvergenceWarning)
                model.fit(scaled, labels)
            converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
            if not converged:
                logger.warning("%s with penalty %g ended at the limit of iterations", name, penalty)
            yield {"penalty": penalty, "scaled": is_scaled, "converged": converged}, model, scaler.transform


def _best(
    fits: Iterator[tuple[dict[str, Any], Any, Callable[[Any], Any]]], features: Parts, labels: Parts, n_types: int
) -> BaselinePrediction:
    """The best fit on the validation cells, by `selection_score`; the first one without such cells."""
    best: BaselinePrediction | None = None
    best_score = -np.inf
    for chosen, model, transform in fits:
        if not len(labels.validation):
            return BaselinePrediction(np.zeros((0, n_types)), _spread(model, transform(features.test), n_types), chosen)
        validation = _spread(model, transform(features.validation), n_types)
        score = validation_score(validation, labels.validation)
        if score > best_score:
            test = _spread(model, transform(features.test), n_types)
            best, best_score = BaselinePrediction(validation, test, chosen), score
    assert best is not None
    return best


def _spread(model: Any, features: Any, n_types: int) -> Array:
    """(cells, types) probabilities, in float64, which sum to 1."""
    if not features.shape[0]:
        return np.zeros((0, n_types))
    probabilities = np.zeros((features.shape[0], n_types))
    probabilities[:, model.classes_] = model.predict_proba(features)
    return probabilities
