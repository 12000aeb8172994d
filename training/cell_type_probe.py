"""The linear probe: a linear head on frozen cell embeddings, at its optimum rather than after so many steps.

Multinomial logistic regression on standardised embeddings of the training cells, its penalty chosen by MCC on the
validation cells; the standardisation is then folded into the head's weights, so that the model gives the same.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from .cell_type_baselines import PENALTIES, Parts, validation_score

_MOST_ITERATIONS = 5000


def fit_linear_probe(head: nn.Linear, embeddings: Parts, labels: Parts, *, is_balanced: bool) -> dict[str, Any]:
    """Set the weights of a head.

    Args:
        head: of (types,) outputs.
        embeddings: (cells, hidden) float32 of the training and validation cells; without validation cells the first
            penalty is taken.
        labels: (cells,) int64 of both, all types among those of training.
        is_balanced: whether types weigh alike.

    Returns:
        The penalty (scikit-learn's C) that was chosen.
    """
    scaler = StandardScaler().fit(embeddings.training.astype(np.float64))
    training = scaler.transform(embeddings.training)
    best: tuple[float, LogisticRegression] | None = None
    for penalty in PENALTIES:
        weights = "balanced" if is_balanced else None
        model = LogisticRegression(C=penalty, max_iter=_MOST_ITERATIONS, class_weight=weights)
        model.fit(training, labels.training)
        if not len(labels.validation):
            best = (0.0, model)
            break
        predicted = model.predict_proba(scaler.transform(embeddings.validation))
        score = validation_score(predicted, labels.validation)
        if best is None or score > best[0]:
            best = (score, model)
    assert best is not None
    weights_of_types, biases = _of_embeddings(best[1], scaler)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weights_of_types))
        head.bias.copy_(torch.from_numpy(biases))
    return {"penalty": best[1].C}


def _of_embeddings(model: LogisticRegression, scaler: StandardScaler) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(types, hidden) weights and (types,) biases for embeddings that are not standardised."""
    weights, biases = model.coef_, model.intercept_
    if len(weights) == 1:  # scikit-learn has one score for two types
        weights, biases = np.vstack([-weights, weights]) / 2, np.concatenate([-biases, biases]) / 2
    weights = weights / scaler.scale_
    return weights, biases - weights @ scaler.mean_
