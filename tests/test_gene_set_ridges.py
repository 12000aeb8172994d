"""Ridges: which sets are drawn, on which scale, and odd values."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from omics_transformers.pipelines.gene_set_ridges import _density, draw_ridges

GENES = pd.DataFrame(
    {"gene_id": [f"G{number}" for number in range(60)], "shift": 10 ** np.random.default_rng(0).normal(-4, 1, 60)}
)


def text_of(figure) -> str:
    return " ".join(ElementTree.fromstring(figure.svg).itertext())


def test_each_set_with_genes_has_a_ridge() -> None:
    figure = draw_ridges(GENES, {"targets": ["G1", "G2", "G3"], "absent": ["X"]}, "GATA4")
    assert "targets (3)" in text_of(figure) and "genes of no set (57)" in text_of(figure)
    assert "absent" not in text_of(figure) and "log10 of the shift" in text_of(figure)
    assert figure == draw_ridges(GENES, {"targets": ["G1", "G2", "G3"], "absent": ["X"]}, "GATA4")


def test_shifts_beyond_usual_are_preferred() -> None:
    genes = GENES.assign(shift_normalised=np.log(GENES["shift"]))
    assert "less its mean under sham edits" in text_of(draw_ridges(genes, {"targets": ["G1"]}, "GATA4"))
    assert "log10" in text_of(draw_ridges(genes.assign(shift_normalised=np.nan), {"targets": ["G1"]}, "GATA4"))


@pytest.mark.parametrize("shift", [0.0, 1e-5])
def test_equal_shifts(shift: float) -> None:
    figure = draw_ridges(GENES.assign(shift=shift), {"targets": ["G1", "G2"]}, "GATA4")
    assert (figure is None) == (shift == 0)


def test_no_set_no_ridges() -> None:
    assert draw_ridges(GENES, {}, "GATA4") is None


@pytest.mark.parity
def test_the_density_is_that_of_scipy() -> None:
    values, grid = np.random.default_rng(1).normal(0, 1, 200), np.linspace(-4, 4, 300)
    found = _density(values, grid)
    expected = stats.gaussian_kde(values, "silverman")(grid)
    assert np.abs(found / found.sum() - expected / expected.sum()).max() < 0.02 * (expected / expected.sum()).max()
