"""Volcano plot: p-values from sham edits against draws and formulas, and what is drawn of odd tables."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from omics_transformers.pipelines.perturbation_volcano import draw_volcano, gene_p_values, gene_q_values


def make_genes(n_genes: int = 400, n_sham: int = 8, seed: int = 0) -> pd.DataFrame:
    """Genes that the edit moves as sham edits do."""
    generator = np.random.default_rng(seed)
    logs = generator.normal(-5, 0.7, (n_sham + 1, n_genes)) + generator.normal(0, 2, n_genes)
    shams, edit = logs[:-1], logs[-1]
    normalised = edit - shams.mean(axis=0)
    return pd.DataFrame(
        {
            "gene_id": [f"G{number}" for number in range(n_genes)],
            "symbol": "",
            "shift": np.exp(edit),
            "n_sham": n_sham,
            "shift_normalised": normalised,
            "shift_standardised": normalised / shams.std(axis=0, ddof=1),
        }
    )


@pytest.mark.parametrize("n_sham", [3, 8, 30])
def test_p_values_are_uniform_where_the_edit_is_one_more_sham_edit(n_sham: int) -> None:
    p_values = gene_p_values(make_genes(2_000, n_sham))
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_q_values_are_scipys_and_genes_that_moved_stand_out() -> None:
    genes = make_genes()
    genes.loc[:4, ["shift_normalised", "shift_standardised"]] += 40
    q_values = gene_q_values(genes)
    assert np.allclose(q_values, stats.false_discovery_control(gene_p_values(genes)))
    assert set(np.flatnonzero(q_values < 0.001)) == set(range(5))


def test_too_few_sham_edits_are_no_test() -> None:
    genes = make_genes(10)
    genes.loc[:3, "n_sham"] = 2
    genes.loc[4, "shift_standardised"] = np.nan
    assert np.isnan(gene_p_values(genes)).tolist() == [True] * 5 + [False] * 5
    assert np.isnan(gene_q_values(genes)[:5]).all()


def test_the_tables_own_q_values_come_first() -> None:
    genes = make_genes(10).assign(q_value=0.5)
    assert gene_q_values(genes).tolist() == [0.5] * 10


def test_what_is_drawn() -> None:
    genes = make_genes()
    genes.loc[0, ["symbol", "shift_normalised", "shift_standardised"]] = ["NPPA", 9.0, 90.0]
    figure = draw_volcano(genes, {"targets": ["G0", "G1"]}, "GATA4")
    assert figure is not None and figure.name == "volcano" and "1 of 400 lie above" in figure.caption
    text = " ".join(ElementTree.fromstring(figure.svg).itertext())
    assert "NPPA" in text and "targets" in text and "GATA4" in text
    assert figure == draw_volcano(genes, {"targets": ["G0", "G1"]}, "GATA4")


def test_a_q_of_zero_is_drawn() -> None:
    assert draw_volcano(make_genes(5).assign(q_value=0.0), {}, "GATA4") is not None


@pytest.mark.parametrize("columns", [["n_sham"], ["shift_standardised"], ["shift_normalised", "n_sham"]])
def test_nothing_is_drawn_without_a_test(columns: list[str]) -> None:
    assert draw_volcano(make_genes().drop(columns=columns), {}, "GATA4") is None
