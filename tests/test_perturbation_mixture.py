"""The mixture: components by their means whatever their numbers, recovered from two planted groups."""

import numpy as np
import pandas as pd
import pytest

from omics_transformers.pipelines.perturbation_mixture import fit_mixture


def make_table(seed: int = 0, moved: int = 60, stable: int = 240) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    logs = np.r_[generator.normal(-4, 0.5, moved), generator.normal(-10, 0.7, stable)]
    return pd.DataFrame({"shift": np.exp(logs), "planted": np.arange(moved + stable) < moved})


@pytest.mark.parametrize("seed", range(5))
def test_components_are_named_by_their_means(seed: int) -> None:
    """Over several seeds scikit-learn numbers the two either way."""
    genes, summary = fit_mixture(make_table(), seed=seed)
    assert (genes["moved"] == genes["planted"]).all()
    assert summary["converged"] is True and summary["fitted_on"] == "shift"
    assert summary["moved_mean"] == pytest.approx(-4, abs=0.3) and summary["stable_mean"] == pytest.approx(-10, abs=0.3)
    assert summary["moved_weight"] == pytest.approx(0.2, abs=0.02)
    assert summary["stable_sd"] == pytest.approx(0.7, abs=0.15)


@pytest.mark.parity
def test_probabilities_equal_the_plain_formula() -> None:
    genes, found = fit_mixture(make_table())
    logs = np.log(genes["shift"].to_numpy())
    densities = [
        found[f"{name}_weight"]
        / found[f"{name}_sd"]
        * np.exp(-(((logs - found[f"{name}_mean"]) / found[f"{name}_sd"]) ** 2) / 2)
        for name in ("moved", "stable")
    ]
    np.testing.assert_allclose(genes["p_moved"], densities[0] / sum(densities), atol=1e-9)


def test_shifts_beyond_the_usual_are_taken_where_they_are() -> None:
    table = make_table()
    table["shift_normalised"] = np.log(table["shift"]) + 7
    table.loc[0, "shift_normalised"] = np.nan
    genes, summary = fit_mixture(table)
    assert summary["fitted_on"] == "shift_normalised"
    assert np.isnan(genes.loc[0, "p_moved"]) and not genes.loc[0, "moved"]
    assert (genes["moved"] == genes["planted"])[1:].all()


def test_a_fit_that_does_not_converge_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from sklearn import mixture

    whole = mixture.GaussianMixture

    def hasty(**options: object) -> object:
        return whole(**options, max_iter=1, tol=1e-12)

    monkeypatch.setattr(mixture, "GaussianMixture", hasty)
    table = pd.DataFrame({"shift": np.exp(np.random.default_rng(0).normal(size=50))})
    assert fit_mixture(table).summary["converged"] is False
    assert "did not converge" in caplog.text


@pytest.mark.parametrize("shifts", [np.ones(3), np.full(40, 0.5)])
def test_too_little_to_fit(shifts: np.ndarray) -> None:
    with pytest.raises(ValueError, match="needs 10 genes or more whose shifts differ"):
        fit_mixture(pd.DataFrame({"shift": shifts}))
