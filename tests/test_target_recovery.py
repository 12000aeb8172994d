"""Recovery of targets: parity with scikit-learn and scipy, the random band against draws, ties, and bad input."""

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from omics_transformers.pipelines.target_recovery import at_top, compare_recovery, target_recovery


def make_genes(values: np.ndarray, **columns: np.ndarray) -> pd.DataFrame:
    names = [f"G{number}" for number in range(len(values))]
    return pd.DataFrame({"gene_id": names, "symbol": [name.lower() for name in names], "shift": values, **columns})


def names_of(is_target: np.ndarray) -> list[str]:
    return [f"G{number}" for number in np.flatnonzero(is_target)]


@pytest.mark.parity
@settings(max_examples=30, deadline=None)
@given(st.integers(5, 80), st.integers(1, 4), st.booleans(), st.integers(0, 10**6))
def test_scores_are_those_of_scikit_learn(n_genes: int, n_targets: int, tied: bool, seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 5, n_genes) / 4 if tied else generator.permutation(n_genes) / n_genes
    is_target = np.zeros(n_genes, dtype=bool)
    is_target[generator.choice(n_genes, n_targets, replace=False)] = True
    row = target_recovery(make_genes(values), {"set": names_of(is_target)}, draws=5, top_k=[1]).scores.iloc[0]
    assert row["auroc"] == pytest.approx(roc_auc_score(is_target, values))
    assert row["average_precision"] == pytest.approx(average_precision_score(is_target, values))
    assert (row["n_genes"], row["n_targets"], row["n_given"]) == (n_genes, n_targets, n_targets)


@pytest.mark.parity
def test_top_k_is_that_of_scikit_learn_and_its_p_value_that_of_scipy() -> None:
    generator = np.random.default_rng(0)
    values, is_target = generator.permutation(np.arange(300.0)), generator.random(300) < 0.1
    values[is_target] += 100
    table = target_recovery(make_genes(values), {"set": names_of(is_target)}, top_k=[1, 10, 50, 300], draws=5).top_k
    for row in table.itertuples():
        taken = np.zeros(300, dtype=bool)
        taken[np.argsort(-values)[: row.k]] = True
        assert row.precision == pytest.approx(precision_score(is_target, taken))
        assert row.recall == pytest.approx(recall_score(is_target, taken))
        assert row.f1 == pytest.approx(f1_score(is_target, taken, zero_division=0))
        assert row.hits == (taken & is_target).sum()
        contingency = [
            [(taken & is_target).sum(), (taken & ~is_target).sum()],
            [(~taken & is_target).sum(), (~taken & ~is_target).sum()],
        ]
        assert row.p_value == pytest.approx(stats.fisher_exact(contingency, alternative="greater").pvalue)
    assert np.allclose(table["q_value"], stats.false_discovery_control(table["p_value"]))


def test_the_random_band_holds_what_random_sets_do() -> None:
    generator = np.random.default_rng(1)
    k, n_targets, n_genes = 40, 25, 400
    drawn = np.array([(generator.choice(n_genes, k, replace=False) < n_targets).sum() for _ in range(4_000)])
    row = {name: column[0] for name, column in at_top(np.array([0.0]), np.array([k]), n_targets, n_genes).items()}
    assert row["precision_random"] == pytest.approx(drawn.mean() / k, rel=0.03)
    for name, factor in (("precision", 1 / k), ("recall", 1 / n_targets), ("f1", 2 / (k + n_targets))):
        assert row[f"{name}_random_low"] == pytest.approx(np.quantile(drawn, 0.025, method="inverted_cdf") * factor)
        assert row[f"{name}_random_high"] == pytest.approx(np.quantile(drawn, 0.975, method="inverted_cdf") * factor)


def test_random_rankings_lie_in_their_bands_and_good_ones_above() -> None:
    generator = np.random.default_rng(2)
    is_target = np.arange(500) < 20
    inside = []
    for _ in range(40):
        row = target_recovery(make_genes(generator.random(500)), {"set": names_of(is_target)}, draws=300).scores.iloc[0]
        inside.append(
            row["average_precision_random_low"] <= row["average_precision"] <= row["average_precision_random_high"]
        )
    assert 33 <= sum(inside) <= 40  # 38 expected
    good = target_recovery(make_genes(is_target + generator.random(500)), {"set": names_of(is_target)}).scores.iloc[0]
    assert good["average_precision"] == 1 > good["average_precision_random_high"]
    assert good["average_precision_p_value"] == pytest.approx(1 / 1001)
    assert good["auroc"] == 1 and good["auroc_p_value"] < 1e-10


def test_equal_values_count_by_the_share_that_fits_in() -> None:
    genes = make_genes(np.array([3.0, 1, 1, 1, 1, 0]))
    table = target_recovery(genes, {"set": ["G1", "G2", "G5"]}, top_k=[1, 3, 5], draws=5).top_k
    assert table["hits"].tolist() == [0, 1, 2]  # of four equal genes, half are targets
    shuffled = target_recovery(genes.iloc[[4, 2, 0, 5, 1, 3]], {"set": ["G1", "G2", "G5"]}, top_k=[1, 3, 5], draws=5)
    pd.testing.assert_frame_equal(shuffled.top_k, table)


def test_a_constant_ranking_is_chance() -> None:
    row = target_recovery(make_genes(np.zeros(50)), {"set": ["G1", "G2"]}, draws=20).scores.iloc[0]
    assert row["auroc"] == row["auroc_random"] == 0.5
    assert row["average_precision"] == pytest.approx(0.04)


def test_models_stand_side_by_side_on_the_genes_that_all_have() -> None:
    generator = np.random.default_rng(3)
    ours = make_genes(generator.random(60), shift_normalised=np.r_[generator.random(50), np.full(10, np.nan)])
    other = make_genes(generator.random(60)).iloc[5:]
    recovery = compare_recovery(
        {"Bio-DTA": ours, "co-expression": other}, {"a": ["G7", "g8"], "b": ["G9.1", "G20", "G1"]}
    )
    assert recovery.scores[["model", "ranked_by"]].drop_duplicates().to_numpy().tolist() == [
        ["Bio-DTA", "shift"],
        ["Bio-DTA", "shift_normalised"],
        ["co-expression", "shift"],
    ]
    assert (recovery.scores["n_genes"] == 45).all()
    assert recovery.scores.set_index("gene_set")["n_targets"].to_dict() == {"a": 2, "b": 1}
    assert sorted(recovery.top_k["k"].unique()) == [10, 20]
    own = compare_recovery({"Bio-DTA": ours, "co-expression": other}, {"a": ["G7"]}, universe="own").scores
    assert own["n_genes"].tolist() == [60, 50, 55]


def test_each_model_may_be_ranked_by_its_own_column() -> None:
    genes = make_genes(np.arange(30.0), q=np.arange(30.0)[::-1])
    columns = {"one": ["shift"], "other": ["q"]}
    scores = compare_recovery({"one": genes, "other": genes}, {"set": ["G0"]}, ranked_by=columns, draws=5).scores
    assert scores["auroc"].tolist() == [0, 1]


def test_ensembl_versions_do_not_matter() -> None:
    genes = make_genes(np.arange(4.0)).assign(gene_id=["ENSG01.3", "ENSG02", "ENSG03.1", "ENSG04"])
    assert target_recovery(genes, {"set": ["ENSG01", "ENSG02.7"]}, draws=5).scores["n_targets"].item() == 2


def test_all_models_have_the_same_targets_whichever_table_knows_a_symbol() -> None:
    genes = make_genes(np.arange(20.0))
    other = genes.assign(gene_id=genes["gene_id"], symbol="")
    scores = compare_recovery({"a": genes, "b": other}, {"set": ["g1", "g2", "G3"]}, draws=5).scores
    assert scores["n_targets"].tolist() == [3, 3] and scores["average_precision"].nunique() == 1


def test_the_curve_starts_at_the_first_hit_and_ends_with_all() -> None:
    curve = target_recovery(make_genes(np.arange(10.0)[::-1]), {"set": ["G1", "G2", "G8"]}, draws=5).curve
    assert curve["k"].tolist() == [2, 3, 9]
    assert curve["precision"].tolist() == pytest.approx([1 / 2, 2 / 3, 3 / 9])
    assert curve["recall"].tolist() == pytest.approx([1 / 3, 2 / 3, 1])


def test_the_same_seed_gives_the_same_tables() -> None:
    genes = make_genes(np.random.default_rng(4).random(100))
    first, second, other = (target_recovery(genes, {"set": ["G3", "G5"]}, draws=50, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first.scores, second.scores)
    assert not first.scores.equals(other.scores)


def test_symbols_of_several_genes_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    genes = make_genes(np.arange(5.0)).assign(symbol=["A", "A", "B", "C", ""])
    with caplog.at_level(logging.WARNING):
        assert target_recovery(genes, {"set": ["A", "B"]}, draws=5).scores["n_targets"].item() == 1
    assert "A name several genes" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": {"set": ["TBX5", "X"]}}, "none of the genes of the set 'set', e.g. TBX5, X, is among the 6"),
        ({"targets": {"set": [f"G{number}" for number in range(6)]}}, "all 6 ranked genes of model are in the set"),
        ({"genes": make_genes(np.arange(6.0)).drop(columns="gene_id")}, "has no column gene_id"),
        ({"genes": make_genes(np.arange(6.0)).assign(gene_id="G1")}, "5 genes twice, e.g. G1"),
        ({"genes": make_genes(np.full(6, np.nan))}, "has no value in shift or shift_normalised"),
        ({"top_k": [0, 5]}, r"top_k is \[0, 5\]"),
        ({"draws": 0}, "draws is 0"),
        ({"universe": "all"}, "universe is 'all'"),
        ({"targets": {}}, "1 tables of genes and 0 sets"),
    ],
)
def test_bad_input(changes: dict, message: str) -> None:
    arguments = {"genes": make_genes(np.arange(6.0)), "targets": {"set": ["G1"]}, "draws": 5} | changes
    genes, targets = arguments.pop("genes"), arguments.pop("targets")
    with pytest.raises(ValueError, match=message):
        target_recovery(genes, targets, **arguments)


def test_tables_that_share_no_gene() -> None:
    genes = make_genes(np.arange(6.0))
    with pytest.raises(ValueError, match="no gene has a value in all of a, b"):
        compare_recovery({"a": genes, "b": genes.assign(gene_id=genes["gene_id"] + "x")}, {"set": ["G1"]})
