"""Baselines on regions: what is fitted, that it finds what it can, and what is written."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.optimize import minimize

from omics_transformers.training.ranking_baselines import (
    BASELINES,
    RankingBaselineArguments,
    TrainingPairs,
    main,
    run_ranking_baselines,
    score_rows,
)
from omics_transformers.training.ranking_data import RegionRankingDataset, read_regions
from omics_transformers.training.ranking_metric import RegionRankingMetric
from omics_transformers.training.region_kmer_features import RegionKmerFeatures

FEW = RegionKmerFeatures(2)


@pytest.fixture(scope="module")
def training(toy_regions: Path) -> RegionRankingDataset:
    return RegionRankingDataset(read_regions(toy_regions).splits["train"])


@pytest.fixture(scope="module")
def pairs(training: RegionRankingDataset) -> TrainingPairs:
    return TrainingPairs.of(training, FEW)


def test_pairs_are_higher_less_lower_in_standard_deviations(
    training: RegionRankingDataset, pairs: TrainingPairs
) -> None:
    assert pairs.differences.shape == (3 * 256, len(FEW))
    assert pairs.signs.sum() == 0
    rows = [training[number] for number in range(256)]
    matrix = FEW.matrix([sequence.tobytes() for row in rows for sequence in row.sequences])
    np.testing.assert_allclose(pairs.deviations, matrix.astype(np.float64).std(axis=0), rtol=1e-4)
    highest_less_lowest = [
        matrix[3 * number + row.counts.argmax()] - matrix[3 * number + row.counts.argmin()]
        for number, row in enumerate(rows)
    ]
    turned = pairs.differences * pairs.signs[:, None] * pairs.deviations
    for expected in highest_less_lowest[:20]:
        assert np.isclose(turned, expected, atol=1e-5).all(axis=1).any()


@pytest.mark.parity
def test_weights_are_the_minimum_of_the_pairwise_logistic_loss(pairs: TrainingPairs) -> None:
    weights, converged = pairs.fit(0.01)
    turned = (pairs.differences * pairs.signs[:, None]).astype(np.float64)

    def loss(some: Any) -> tuple[float, Any]:
        margin = turned @ some
        return (
            some @ some / 2 + 0.01 * np.logaddexp(0, -margin).sum(),
            some - 0.01 * turned.T @ (1 / (1 + np.exp(margin))),
        )

    best = minimize(loss, np.zeros(len(FEW)), jac=True, options={"gtol": 1e-8}).x
    assert converged
    np.testing.assert_allclose(weights * pairs.deviations, best, atol=2e-3)


def test_features_left_out_have_no_weight_and_come_back(pairs: TrainingPairs) -> None:
    before = pairs.differences.copy()
    weights, _ = pairs.fit(0.01, without=[FEW.length])
    assert weights[FEW.length] == 0 and (weights[1:] != 0).any()
    np.testing.assert_array_equal(pairs.differences, before)
    assert not pairs.fit(1e3, max_iterations=1)[1]


def test_scores_are_features_times_weights(training: RegionRankingDataset) -> None:
    weights = np.random.default_rng(0).normal(size=(len(FEW), 2))
    found = score_rows(training.in_groups(10_000), FEW, weights)[1].compute(resamples=20)
    metric = RegionRankingMetric()
    for number in range(256):
        row = training[number]
        scores = FEW.matrix([sequence.tobytes() for sequence in row.sequences]) @ weights[:, 1]
        start = int(training.rows.span_start[number])
        metric.add(prediction=scores, reference=row.counts, group=start // 10_000)
    expected = metric.compute(resamples=20)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name


def test_rows_may_have_any_number_of_regions(tmp_path: Path, toy_regions: Path) -> None:
    """A fourth region, of no count, in every other row."""
    for source in toy_regions.rglob("*"):
        target = tmp_path / source.relative_to(toy_regions)
        if source.is_dir():
            target.mkdir(exist_ok=True)
        elif source.suffix != ".parquet":
            target.write_bytes(source.read_bytes())
        else:
            table = pq.read_table(source)
            rows = table.to_pylist()
            for row in rows[::2]:
                for name, value in {"starts": 0, "ends": 4, "counts": 0.0, "sequences": "ACGT"}.items():
                    row[name].append(value)
                row["peaks"].append("")
                row["padding_share"].append(0.0)
            pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), target)
    rows = RegionRankingDataset(read_regions(tmp_path).splits["train"])
    assert len(TrainingPairs.of(rows, FEW).differences) == 128 * (3 + 5)
    weights = np.zeros((len(FEW), 1))
    weights[FEW.length] = 1
    assert score_rows(rows, FEW, weights)[0].compute()["lists"] == 256


def test_finds_what_kmers_tell_and_writes_it_down(tmp_path: Path, toy_regions: Path) -> None:
    arguments = RankingBaselineArguments(
        str(toy_regions), str(tmp_path / "out"), longest_kmer=4, penalties=[1e-7, 1e-2], block_bp=6_000, resamples=50
    )
    metrics = run_ranking_baselines(arguments)
    assert metrics["data"]["training_rows"] == 256 and metrics["data"]["training_pairs"] == 768
    assert metrics["data"]["baselines"]["kmer"] == {"penalty": 1e-2, "converged": True}
    test = metrics["test"]
    assert test["kmer"]["exact_order_interval"][0] > 0.6
    assert test["kmer_length"]["exact_order"] > 0.6
    assert test["length"]["pair_accuracy"] < 0.6
    assert metrics["data"]["baselines"]["length"]["training_pair_accuracy"] >= 0.5
    assert metrics["data"]["baselines"]["gc"]["sign"] == -1  # the motif has few G and C
    assert test["gc"]["pair_accuracy"] > 0.7
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    table = pd.read_csv(tmp_path / "out" / "baselines.tsv", sep="\t")
    assert table["split"].tolist() == ["validation"] * 4 + ["test"] * 4
    assert table["baseline"].tolist() == [*BASELINES] * 2
    kmer = table[(table["split"] == "test") & (table["baseline"] == "kmer")].iloc[0]
    assert kmer["lists"] == 64 and kmer["groups"] == 7
    assert kmer["exact_order"] == pytest.approx(test["kmer"]["exact_order"], rel=1e-5)
    assert kmer["exact_order_low"] == pytest.approx(test["kmer"]["exact_order_interval"][0], rel=1e-5)
    assert kmer["exact_order_chance"] == pytest.approx(1 / 6, rel=1e-5)


def test_draws_training_rows_by_seed(tmp_path: Path, toy_regions: Path) -> None:
    def run(seed: int) -> dict[str, Any]:
        arguments = RankingBaselineArguments(
            str(toy_regions), str(tmp_path), longest_kmer=1, penalties=[1e-3], resamples=0,
            maximum_training_rows=20, seed=seed,
        )  # fmt: skip
        return run_ranking_baselines(arguments)

    first = run(0)
    assert first["data"]["training_rows"] == 20
    assert run(0) == first
    assert run(1)["test"]["kmer"] != first["test"]["kmer"]


def test_runs_from_the_command_line_and_says_what_is_missing(tmp_path: Path, toy_regions: Path) -> None:
    flags = ["--longest-kmer", "1", "--penalties", "0.001", "0.01", "--resamples", "0"]
    main(["--regions", str(toy_regions), "--output-dir", str(tmp_path / "out"), *flags])
    settings = json.loads((tmp_path / "out" / "metrics.json").read_text())["settings"]
    assert (settings["penalties"], settings["longest_kmer"]) == ([0.001, 0.01], 1)
    with pytest.raises(ValueError, match="regions and output_dir must be set"):
        main(["--regions", str(toy_regions)])
    with pytest.raises(FileNotFoundError, match="no folder of regions"):
        run_ranking_baselines(RankingBaselineArguments(str(tmp_path / "absent"), "out"))
    for wrong, message in (
        ({"maximum_training_rows": 0}, "maximum_training_rows is 0"),
        ({"penalties": [0.1, 0.0]}, "penalties is"),
        ({"penalties": []}, "penalties is"),
    ):
        with pytest.raises(ValueError, match=message):
            run_ranking_baselines(RankingBaselineArguments(str(toy_regions), "out", **wrong))


def test_needs_validation_rows_and_pairs(tmp_path: Path, toy_regions: Path, training: RegionRankingDataset) -> None:
    shutil.copytree(toy_regions, tmp_path / "regions")
    next((tmp_path / "regions" / "data").glob("validation-*")).unlink()
    readme = tmp_path / "regions" / "README.md"
    readme.write_text(readme.read_text().replace("  - split: validation\n    path: data/validation-*.parquet\n", ""))
    with pytest.raises(ValueError, match="has no validation rows"):
        run_ranking_baselines(RankingBaselineArguments(str(tmp_path / "regions"), "out"))
    with pytest.raises(ValueError, match="0 training rows have 0 pairs"):
        TrainingPairs.of(training.some_of(np.zeros(0, dtype=np.int64)), FEW)
