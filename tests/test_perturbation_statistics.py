"""Shifts, ranks, rank-sum tests and false discovery rates against plain formulas, scipy and statsmodels."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer
from omics_transformers.pipelines.perturbation_statistics import (
    ShiftMoments,
    ShiftSums,
    add_intervals,
    add_rank_columns,
    add_sham_columns,
    benjamini_hochberg,
    gene_set_table,
    gene_table,
    one_minus_cosine,
)

TOKENS = ["<pad>", "<mask>", *[f"G{number}" for number in range(40)]]


def make_tokenizer() -> GeneRankTokenizer:
    dictionary = {token: number for number, token in enumerate(TOKENS)}
    return GeneRankTokenizer.from_dictionaries(dictionary, None, {f"G{number}": f"SYM{number}" for number in range(40)})


def make_moments(shifts: np.ndarray, n_cells: int = 3) -> ShiftMoments:
    """Shifts of the 40 genes; the two special tokens have none."""
    counts = np.r_[0, 0, np.full(40, n_cells)]
    return ShiftMoments(counts, np.r_[np.nan, np.nan, shifts], np.zeros(42))


@pytest.mark.parity
def test_one_minus_cosine_equals_the_cosine(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(50, 16, generator=generator).to(device) for _ in range(2))
    expected = 1 - torch.nn.functional.cosine_similarity(a.double(), b.double())
    torch.testing.assert_close(one_minus_cosine(a, b), expected, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("angle", [1e-3, 1e-5, 1e-7])
def test_one_minus_cosine_of_nearly_equal_vectors(angle: float) -> None:
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[np.cos(angle), np.sin(angle)]], dtype=torch.float64)
    assert one_minus_cosine(a, b).item() == pytest.approx(2 * np.sin(angle / 2) ** 2, rel=1e-6)
    assert one_minus_cosine(a, a).item() == 0


@given(seed=st.integers(0, 1000), parts=st.integers(1, 5))
def test_running_sums_equal_the_moments_of_all(seed: int, parts: int) -> None:
    generator = np.random.default_rng(seed)
    tokens, distances = generator.integers(0, 6, 60), generator.random(60) ** 8
    sums = ShiftSums(7, torch.device("cpu"))
    for part in np.array_split(np.arange(60), parts):
        sums.add(torch.from_numpy(tokens[part]), torch.from_numpy(distances[part]))
    found = sums.result()
    for token in range(7):
        seen = distances[tokens == token]
        assert found.n_cells[token] == len(seen)
        if len(seen):
            assert found.mean[token] == pytest.approx(seen.mean(), rel=1e-12)
        if len(seen) > 1:
            assert found.standard_deviation[token] == pytest.approx(seen.std(ddof=1), rel=1e-6)
        else:
            assert np.isnan(found.standard_deviation[token])


def test_gene_table_ranks_and_sets_the_edited_gene_apart() -> None:
    shifts = np.linspace(0, 1, 40)
    shifts[10] = shifts[20]  # a tie: the smaller token id comes first
    moments = make_moments(shifts)
    moments.n_cells[5] = 1
    table = gene_table(moments, TOKENS, {"G39": "SYM39"}, edited_token=41, minimum_cells=2)
    assert table.edited_gene == {"n_cells": 3, "cosine_mean": 0.0, "cosine_sd": 0.0, "shift": 1.0}
    assert table.n_left_out == 1
    assert table.genes["gene_id"].head(2).tolist() == ["G38", "G37"]
    assert table.genes["rank"].tolist() == list(range(1, 39))
    assert not table.genes["gene_id"].isin(["G39", "G3", "<pad>"]).any()
    order = table.genes["gene_id"].tolist()
    assert order.index("G20") == order.index("G10") + 1


def test_several_edited_genes_are_set_apart() -> None:
    table = gene_table(make_moments(np.linspace(0, 1, 40)), TOKENS, {"G1": "SYM1"}, edited_token=[2, 3])
    assert table.edited_gene is None
    assert [(row["gene_id"], row["symbol"]) for row in table.edited_genes] == [("G0", ""), ("G1", "SYM1")]
    assert len(table.genes) == 38 and table.genes["rank"].iloc[-1] == 38


@pytest.mark.parity
def test_intervals_equal_scipy() -> None:
    cells = np.random.default_rng(0).random((5, 12))
    moments = ShiftMoments(np.full(5, 12), cells.mean(axis=1), cells.std(axis=1, ddof=1))
    moments.n_cells[4], moments.standard_deviation[4] = 1, np.nan
    table = add_intervals(gene_table(moments, TOKENS, {}, edited_token=9).genes, level=0.9)
    for row in table.itertuples():
        if row.token_id == 4:
            assert np.isnan(row.shift_low) and np.isnan(row.shift_high)
            continue
        expected = stats.ttest_1samp(cells[row.token_id], 0).confidence_interval(0.9)
        np.testing.assert_allclose([row.shift_low, row.shift_high], expected)


def test_ranks_and_shares_of_cells() -> None:
    table = gene_table(make_moments(np.linspace(0, 1, 40), 3), TOKENS, {}, edited_token=1).genes
    found = add_rank_columns(table, np.arange(42) * 10.0, 12)
    assert (found["mean_rank"] == found["token_id"] * 10).all() and (found["share_of_cells"] == 0.25).all()


@pytest.mark.parity
@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_gene_sets_equal_scipy(alternative: str) -> None:
    shifts = np.random.default_rng(3).random(40)
    shifts[:10] += 0.3
    table = gene_table(make_moments(shifts), TOKENS, {}, edited_token=1).genes
    sets = {"up": ["SYM0", "G1", "SYM2", "G9", "UNKNOWN", "G1"], "rest": [f"G{n}" for n in range(12, 20)]}
    found = gene_set_table(table, sets, make_tokenizer(), alternative=alternative)
    expected = [
        stats.mannwhitneyu(shifts[members], np.delete(shifts, members), alternative=alternative)
        for members in ([0, 1, 2, 9], list(range(12, 20)))
    ]
    np.testing.assert_allclose(found["p_value"], [test.pvalue for test in expected])
    np.testing.assert_allclose(found["statistic"], [test.statistic for test in expected])
    np.testing.assert_allclose(found["q_value"], multipletests(found["p_value"], method="fdr_bh")[1])
    assert found["auc"][0] == pytest.approx(np.mean(shifts[[0, 1, 2, 9], None] > np.delete(shifts, [0, 1, 2, 9])))
    assert found.loc[0, ["n_given", "n_in_vocabulary", "n_tested"]].tolist() == [6, 4, 4]


def test_a_set_without_genes_in_the_table_is_reported_and_not_tested() -> None:
    table = gene_table(make_moments(np.arange(40.0)), TOKENS, {}, edited_token=1).genes
    sets = {"none": ["X"], "all": [f"G{n}" for n in range(40)], "some": ["G39", "G38"]}
    found = gene_set_table(table, sets, make_tokenizer())
    assert found["n_tested"].tolist() == [0, 40, 2]
    assert found["p_value"].isna().tolist() == [True, True, False]
    assert found["q_value"][2] == found["p_value"][2]
    assert len(gene_set_table(table, {}, make_tokenizer())) == 0


@pytest.mark.parity
@given(st.lists(st.floats(0, 1) | st.just(float("nan")), max_size=12))
def test_benjamini_hochberg_equals_statsmodels(p_values: list[float]) -> None:
    array = np.array(p_values)
    found = benjamini_hochberg(array)
    tested = ~np.isnan(array)
    assert np.isnan(found[~tested]).all()
    if tested.any():
        np.testing.assert_allclose(found[tested], multipletests(array[tested], method="fdr_bh")[1], rtol=1e-12)


def test_sham_columns_by_a_plain_loop() -> None:
    generator = np.random.default_rng(0)
    shifts = generator.random(40)
    shams = [make_moments(generator.random(40)) for _ in range(3)]
    shams[0].n_cells[5] = shams[1].n_cells[5] = 0
    for sham in shams:
        sham.n_cells[6] = 0
    table = add_sham_columns(gene_table(make_moments(shifts), TOKENS, {}, edited_token=1).genes, shams)
    for row in table.itertuples():
        seen = [np.log(sham.mean[row.token_id]) for sham in shams if sham.n_cells[row.token_id]]
        assert row.n_sham == len(seen)
        if seen:
            assert row.shift_sham == pytest.approx(np.exp(np.mean(seen)))
            assert row.shift_normalised == pytest.approx(np.log(row.shift) - np.mean(seen))
        if len(seen) > 1:
            assert row.shift_standardised == pytest.approx(row.shift_normalised / np.std(seen, ddof=1))
        else:
            assert np.isnan(row.shift_standardised)
    missing = table[table["gene_id"] == "G4"].iloc[0]
    assert missing["n_sham"] == 0 and np.isnan(missing["shift_normalised"]) and pd.isna(missing["rank_normalised"])
    ranked = table.dropna(subset=["rank_normalised"]).sort_values("rank_normalised")
    assert ranked["rank_normalised"].tolist() == list(range(1, 40))
    assert ranked["shift_normalised"].is_monotonic_decreasing


def test_gene_sets_are_tested_on_normalised_shifts_too() -> None:
    generator = np.random.default_rng(1)
    table = gene_table(make_moments(generator.random(40)), TOKENS, {}, edited_token=1).genes
    table = add_sham_columns(table, [make_moments(generator.random(40)) for _ in range(2)])
    found = gene_set_table(table, {"set": ["G1", "G5", "G8"]}, make_tokenizer())
    inside = table["gene_id"].isin(["G1", "G5", "G8"])
    values = table["shift_normalised"]
    expected = stats.mannwhitneyu(values[inside], values[~inside], alternative="greater")
    assert found["p_value_normalised"][0] == pytest.approx(expected.pvalue)
    assert found["q_value_normalised"][0] == found["p_value_normalised"][0]


def test_shifts_of_zero_have_a_finite_logarithm() -> None:
    table = gene_table(make_moments(np.zeros(40)), TOKENS, {}, edited_token=1).genes
    found = add_sham_columns(table, [make_moments(np.zeros(40))])
    assert (found["shift_normalised"] == 0).all()
