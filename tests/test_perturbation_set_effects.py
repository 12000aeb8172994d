"""Effect sizes against all pairs, resampling by hand, and scipy; matched genes in worlds whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer
from omics_transformers.pipelines.perturbation_set_effects import (
    add_set_effects,
    auc_interval,
    hodges_lehmann,
    matched_null,
)
from omics_transformers.pipelines.perturbation_statistics import gene_set_table

N_GENES = 2000


def make_tokenizer() -> GeneRankTokenizer:
    dictionary = {token: number for number, token in enumerate(["<pad>", "<mask>", *names(range(N_GENES))])}
    return GeneRankTokenizer.from_dictionaries(dictionary, None)


def names(numbers: object) -> list[str]:
    return [f"G{number}" for number in numbers]


def make_table(seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "token_id": np.arange(2, N_GENES + 2),
            "shift": np.exp(generator.normal(-9, 1, N_GENES)),
            "mean_rank": generator.uniform(0, 500, N_GENES),
            "n_cells": generator.integers(1, 900, N_GENES),
        }
    )


values = st.lists(st.integers(-6, 6).map(float) | st.floats(-5, 5), min_size=1, max_size=14).map(np.array)


@pytest.mark.parity
@given(members=values, others=values)
def test_hodges_lehmann_equals_the_median_of_all_differences(members: np.ndarray, others: np.ndarray) -> None:
    differences = np.sort((members[:, None] - others).ravel())
    estimate, low, high = hodges_lehmann(members, others)
    assert estimate == pytest.approx(np.median(differences), abs=1e-9)
    n, m = len(members), len(others)
    half = stats.norm.ppf(0.975) * np.sqrt(n * m * (n + m + 1) / 12)
    number = int(np.clip(np.floor(n * m / 2 - half), 1, n * m))
    assert low == pytest.approx(differences[number - 1], abs=1e-9)
    assert high == pytest.approx(differences[-number], abs=1e-9)


def test_the_interval_of_hodges_lehmann_turns_the_rank_sum_test_round() -> None:
    generator = np.random.default_rng(4)
    members, others = generator.normal(0.5, 1, 40), generator.normal(0, 1, 90)
    _, low, high = hodges_lehmann(members, others)
    for shift, inside in ((low + 0.01, True), (high - 0.01, True), (low - 0.02, False), (high + 0.02, False)):
        assert (stats.mannwhitneyu(members - shift, others).pvalue > 0.05) == inside


@pytest.mark.parity
def test_the_interval_of_the_auc_equals_resampling_by_hand() -> None:
    generator = np.random.default_rng(1)
    members, others = generator.integers(0, 9, 30).astype(float) + 1, generator.integers(0, 9, 50).astype(float)
    found = auc_interval(members, others, level=0.9, bootstraps=3000, generator=np.random.default_rng(0))
    by_hand = []
    for _ in range(3000):
        first, second = generator.choice(members, 30)[:, None], generator.choice(others, 50)
        by_hand.append((first > second).mean() + (first == second).mean() / 2)
    np.testing.assert_allclose(found, np.quantile(by_hand, [0.05, 0.95]), atol=0.012)


def test_chunks_of_replicates_do_not_change_their_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    members, others = generator.normal(1, 1, 30), generator.normal(0, 1, 50)
    whole = auc_interval(members, others, level=0.9, bootstraps=2000, generator=np.random.default_rng(0))
    monkeypatch.setattr("omics_transformers.pipelines.perturbation_set_effects.VALUES_A_CHUNK", 1000)
    parts = auc_interval(members, others, level=0.9, bootstraps=2000, generator=np.random.default_rng(0))
    np.testing.assert_allclose(whole, parts, atol=0.015)


def test_strongly_expressed_genes_are_no_effect() -> None:
    """Shift follows rank alone: against all others the set stands out, against genes like it it does not."""
    table = make_table()
    table["shift"] = np.exp(-table["mean_rank"] / 50 + np.random.default_rng(1).normal(0, 0.1, N_GENES))
    strong = table.nsmallest(400, "mean_rank").sample(40, random_state=0).index
    sets = {"strong": names(strong)}
    found = with_effects(table, sets).iloc[0]
    assert found["p_value"] < 1e-6 and found["shift_ratio"] > 3
    assert found["p_value_matched"] > 0.05
    assert found["shift_ratio_matched"] == pytest.approx(1, rel=0.35)


def test_a_real_effect_stands_out_of_matched_genes_too() -> None:
    table = make_table()
    table.loc[:19, "shift"] *= 5
    found = with_effects(table, {"set": names(range(20))}).iloc[0]
    assert found["p_value_matched"] == pytest.approx(1 / 1001)
    assert 2 < found["shift_ratio_low"] < found["shift_ratio"] < found["shift_ratio_high"] < 9
    assert 2 < found["shift_ratio_matched"] < 9
    assert 0.5 < found["auc_low"] < found["auc"] < found["auc_high"] < 1


def test_the_null_of_matched_genes_is_uniform_where_nothing_is() -> None:
    table = make_table(3)
    p_values = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        inside = np.zeros(N_GENES, dtype=bool)
        inside[generator.choice(N_GENES, 25, replace=False)] = True
        row = matched_null(
            np.log(table["shift"].to_numpy()),
            inside,
            table[["mean_rank", "n_cells"]].to_numpy(),
            alternative="greater",
            draws=200,
            generator=generator,
        )
        p_values.append(row["p_value_matched"])
    assert 0.01 < np.mean(np.array(p_values) < 0.05) < 0.12


@pytest.mark.parametrize(
    ("alternative", "share"),
    [("greater", 1.0), ("less", 0.5), ("two-sided", 0.5)],
    ids=["greater", "less", "two-sided"],
)
def test_one_gene_and_one_like_it(alternative: str, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one neighbour, half of the draws are the gene itself (1), half the one nearest to it (5), none a far one."""
    monkeypatch.setattr("omics_transformers.pipelines.perturbation_set_effects.NEIGHBOURS", 1)
    values, inside = np.array([1.0, 5.0, 99.0, -99.0]), np.array([True, False, False, False])
    likeness = np.array([[1.0], [2.0], [11.0], [10.0]])
    found = matched_null(
        values, inside, likeness, alternative=alternative, draws=4000, generator=np.random.default_rng(0)
    )
    assert found["shift_ratio_matched"] == pytest.approx(np.exp(1.0 - 5.0))
    assert found["p_value_matched"] == pytest.approx(share, abs=0.03)


def with_effects(table: pd.DataFrame, sets: dict[str, list[str]], **options: object) -> pd.DataFrame:
    tokenizer = make_tokenizer()
    return add_set_effects(gene_set_table(table, sets, tokenizer), table, sets, tokenizer, **options)


def test_columns_seeds_and_sets_that_cannot_be_tested() -> None:
    table = make_table()
    sets = {"some": names(range(30)), "more": names(range(10, 40)), "none": ["X"], "all": names(range(N_GENES))}
    found = with_effects(table, sets)
    pd.testing.assert_frame_equal(found, with_effects(table, sets))
    assert found["p_value_matched"].isna().tolist() == [False, False, True, True]
    assert found.loc[2:, ["auc_low", "shift_ratio", "p_value_two_sided", "q_value_matched"]].isna().all(axis=None)
    shifts = table["shift"].to_numpy()
    expected = [stats.mannwhitneyu(shifts[part], np.delete(shifts, part)).pvalue for part in (range(30), range(10, 40))]
    np.testing.assert_allclose(found["p_value_two_sided"][:2], expected)
    np.testing.assert_allclose(found["q_value_two_sided"][:2], multipletests(expected, method="fdr_bh")[1])
    alone = with_effects(table, {"more": sets["more"]}).iloc[0]  # a set's draws do not depend on the other sets
    assert alone["p_value_matched"] == found.loc[1, "p_value_matched"] and alone["auc_low"] == found.loc[1, "auc_low"]
    without = with_effects(table, sets, bootstraps=0, draws=0)
    assert without[["auc_low", "p_value_matched"]].isna().all(axis=None) and without["shift_ratio"][0] > 0
    assert len(with_effects(table, {})) == 0
