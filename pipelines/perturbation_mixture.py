"""Which genes moved at all: a mixture of two normal distributions over log shifts.

Source: the mixture of Theodoris et al. 2023 for in silico perturbation. Deviation: a component is named by its mean,
never by its number, which changes from fit to fit: "moved" is the one with the larger mean.
"""

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .perturbation_statistics import SMALLEST_SHIFT

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

FEWEST_GENES = 10
STARTS = 5


class Mixture(NamedTuple):
    """The table with its columns, and the fit.

    Attributes:
        genes: the table with p_moved, the probability of the component that moved, and moved (it is above a half).
        summary: fitted_on ("shift" or "shift_normalised"), converged, and of each component weight, mean and sd (of
            natural logs).
    """

    genes: "pd.DataFrame"
    summary: dict[str, Any]


def fit_mixture(table: "pd.DataFrame", *, seed: int = 0) -> Mixture:
    """Fit two components to the log shifts of all genes, relative to sham edits where the table has them.

    Args:
        table: of `gene_table`, with or without sham columns.
        seed: of the starts.

    Raises:
        ValueError: on fewer than 10 genes with a shift, or all of the same.
        ImportError: without scikit-learn.
    """
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise ImportError("the mixture needs scikit-learn: pip install scikit-learn") from error

    column = "shift_normalised" if "shift_normalised" in table else "shift"
    values = table[column].to_numpy()
    values = values if column == "shift_normalised" else np.log(np.maximum(values, SMALLEST_SHIFT))
    known = np.isfinite(values)
    if known.sum() < FEWEST_GENES or np.ptp(values[known]) == 0:
        raise ValueError(
            f"a mixture of two components needs {FEWEST_GENES} genes or more whose shifts differ, and there are "
            f"{int(known.sum()):,} genes with a shift: leave the mixture out"
        )
    model = GaussianMixture(n_components=2, n_init=STARTS, random_state=seed)
    converged = _fit(model, values[known, None])
    order = np.argsort(model.means_[:, 0])  # stable, then moved
    p_moved = np.full(len(values), np.nan)
    p_moved[known] = model.predict_proba(values[known, None])[:, order[1]]
    if not converged:
        logger.warning("the mixture over %s did not converge: its components mean little", column)
    summary: dict[str, Any] = {"fitted_on": column, "converged": converged}
    for name, component in zip(("stable", "moved"), order, strict=True):
        summary[f"{name}_weight"] = float(model.weights_[component])
        summary[f"{name}_mean"] = float(model.means_[component, 0])
        summary[f"{name}_sd"] = float(np.sqrt(model.covariances_[component, 0, 0]))
    return Mixture(table.assign(p_moved=p_moved, moved=p_moved > 0.5), summary)


def _fit(model: Any, values: np.ndarray) -> bool:
    """Whether the fit converged; scikit-learn's own warning of it becomes the flag."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*did not converge.*")
        model.fit(values)
    return bool(model.converged_)
