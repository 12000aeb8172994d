"""Figures: which are drawn for which tables, that equal tables give equal bytes, and what odd values do."""

import io
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from omics_transformers.pipelines.perturbation_canvas import Figure
from omics_transformers.pipelines.perturbation_figures import draw_figures
from omics_transformers.pipelines.target_recovery import target_recovery

SUMMARY = {"gene_id": "ENSG1", "symbol": "GATA4"}
SETS = {"targets": ["G1", "G2"], "a set with a name that is far too long for any legend": ["G3"], "absent": ["X"]}


def make_genes(*, with_sham: bool = False, n_genes: int = 30) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    genes = pd.DataFrame(
        {
            "gene_id": [f"G{number}" for number in range(n_genes)],
            "symbol": [f"SYM{number}" if number % 3 else "" for number in range(n_genes)],
            "n_cells": generator.integers(1, 500, n_genes),
            "shift": np.sort(10 ** generator.normal(-4, 1, n_genes))[::-1],
        }
    )
    if with_sham:
        genes["shift_sham"] = 10 ** generator.normal(-4, 1, n_genes)
        genes["shift_normalised"] = np.log(genes["shift"] / genes["shift_sham"])
        genes["n_sham"] = 12
        genes["shift_standardised"] = genes["shift_normalised"] / 0.5
    return genes


@pytest.fixture(scope="module")
def drawn() -> list[Figure]:
    """All figures of a table with sham edits and gene sets."""
    return draw_figures(make_genes(with_sham=True), SETS, SUMMARY)


@pytest.mark.parametrize(
    ("with_sham", "sets", "names"),
    [
        (False, {}, ["top_genes", "shift_against_cells", "network"]),
        (False, SETS, ["top_genes", "gene_sets", "shift_against_cells", "gene_set_ridges", "network"]),
        (
            True,
            SETS,
            [
                "top_genes",
                "top_genes_normalised",
                "shift_against_sham",
                "gene_sets",
                "shift_against_cells",
                "volcano",
                "gene_set_ridges",
                "network",
            ],
        ),
    ],
)
def test_what_is_drawn(with_sham: bool, sets: dict[str, list[str]], names: list[str], drawn: list[Figure]) -> None:
    figures = drawn if with_sham else draw_figures(make_genes(), sets, SUMMARY)
    assert [figure.name for figure in figures] == names
    for figure in figures:
        image = Image.open(io.BytesIO(figure.png))
        assert image.width > 600 and len(image.getcolors(10**6) or []) > 2
        text = " ".join(ElementTree.fromstring(figure.svg).itertext())
        assert "GATA4" in text or figure.name == "shift_against_cells"
        assert figure.caption.endswith(".")


def test_the_most_shifted_genes_are_named() -> None:
    text = " ".join(ElementTree.fromstring(draw_figures(make_genes(), {}, SUMMARY)[0].svg).itertext())
    assert "G0" in text and "SYM1" in text and "SYM19" in text and "SYM20" not in text


def test_equal_tables_give_equal_bytes(drawn: list[Figure]) -> None:
    assert draw_figures(make_genes(with_sham=True), SETS, SUMMARY) == drawn


@pytest.mark.parametrize(
    "genes",
    [
        make_genes().assign(shift=0.0),
        make_genes(n_genes=1),
        make_genes(with_sham=True).assign(shift_normalised=np.nan, shift_sham=np.nan),
        make_genes(with_sham=True, n_genes=1),
    ],
    ids=["all zero", "one gene", "no sham seen", "one gene with sham"],
)
def test_odd_tables_are_drawn_without_a_warning(genes: pd.DataFrame) -> None:
    assert len(draw_figures(genes, SETS, SUMMARY)) >= 2


def test_recovery_and_the_edit_are_drawn_where_they_are_given() -> None:
    genes = make_genes()
    bases = pd.DataFrame({"position": [7], "offset": [0], "reference": ["A"], "edited": ["C"], "is_changed": [True]})
    recovery = target_recovery(genes, {"targets": ["G1", "G2"]}, draws=20, top_k=[5, 10])
    names = [one.name for one in draw_figures(genes, {}, SUMMARY, recovery=recovery, edited_bases=bases)]
    assert names[0] == "sequence_edit" and names[-3:] == ["precision_recall", "precision_over_k", "figure_3"]


def test_no_gene_no_figure() -> None:
    assert draw_figures(make_genes().head(0), SETS, SUMMARY) == []
