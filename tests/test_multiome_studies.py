"""Arms of the studies of the multiome Performer, and their tables against plain formulas."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from omics_transformers.training.cell_type_arms import BaselineArm, ModelArm
from omics_transformers.training.multiome_data import MODALITIES, read_multiome
from omics_transformers.training.multiome_studies import (
    LOGISTIC_RNA,
    MIXED,
    RNA_ONLY,
    StudyArm,
    StudyData,
    bin_occupancy,
    binning_arms,
    feature_order_arms,
    modality_arms,
    summary_table,
    training_curves,
)

DATA = StudyData("labelled", "others", "gene_normalized")
SCBERT = StudyData("labelled-scbert", "others-scbert", "scbert")


def results_of(scores: dict[str, list[float]], cells_per_type: int | None = None) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for method, of_seeds in scores.items():
        for seed, mcc in enumerate(of_seeds):
            row = {"method": method, "modality": "rna", "cells_per_type": cells_per_type, "seed": seed, "mcc": mcc}
            rows.append({**row, "accuracy": mcc / 2, "weighted_f1": mcc / 4, "macro_f1": mcc / 8})
    return pd.DataFrame(rows)


def test_orders_differ_in_nothing_else() -> None:
    logistic, *arms = feature_order_arms(DATA)
    assert isinstance(logistic.arm, BaselineArm) and logistic.pretraining is None
    for order, (arm, pretraining) in zip(("fixed", "per_cell", "every_step"), arms, strict=True):
        assert isinstance(arm, ModelArm) and pretraining is not None
        assert (arm.feature_order, arm.modality, arm.data) == (order, "rna", "labelled")
        assert pretraining.options == {**RNA_ONLY, "feature_order": order} and pretraining.data == "others"
    assert len({arm.pretraining.name for arm in arms if arm.pretraining}) == 3


def test_each_binning_has_data_a_model_and_a_logistic_regression_of_its_own() -> None:
    quartile = StudyData("quartile", "quartile-others", "quartile")
    arms = binning_arms([DATA, quartile])
    assert [(type(arm.arm), arm.arm.data) for arm in arms[1:]] == [
        *((BaselineArm, "labelled"), (ModelArm, "labelled")),
        *((BaselineArm, "quartile"), (ModelArm, "quartile")),
    ]
    assert [arm.pretraining.data for arm in arms if arm.pretraining] == ["others", "quartile-others"]


@pytest.mark.parametrize("data", [[DATA], [DATA, DATA._replace(labelled="again")]])
def test_binnings_that_are_not_to_compare(data: list[StudyData]) -> None:
    with pytest.raises(ValueError, match=r"labelled \(gene_normalized\).*each binned otherwise"):
        binning_arms(data)


def test_modalities_are_the_six_rows_of_table_4_3() -> None:
    arms = modality_arms(DATA, SCBERT)
    assert [arm.arm.name for arm in arms] == [
        "Logistic Regression (scRNA)",
        "Logistic Regression (multiome)",
        "scBERT",
        "multiome Performer (scRNA)",
        "multiome Performer (mixed & scRNA)",
        "multiome Performer (mixed & multiome)",
    ]
    assert [arm.arm.modality for arm in arms] == ["rna", "both", "rna", "rna", "rna", "both"]
    _, _, scbert, rna, mixed, both = (arm.pretraining for arm in arms)
    assert scbert is not None and rna is not None and mixed is not None
    assert scbert.options == {**RNA_ONLY, "preset": "scbert"} and scbert.data == "others-scbert"
    assert rna.options == RNA_ONLY and mixed.options == MIXED and mixed == both
    assert [arm.arm.name for arm in modality_arms(DATA, None)] == [
        arm.arm.name for arm in arms if arm.arm.name != "scBERT"
    ]


def test_scbert_needs_its_own_bins() -> None:
    with pytest.raises(ValueError, match="binned as quartile: scBERT needs"):
        modality_arms(DATA, SCBERT._replace(strategy="quartile"))


def test_an_arm_takes_its_pre_trained_model() -> None:
    arm = StudyArm(ModelArm("one", "both", "data"))
    assert arm.with_model("folder") == ModelArm("one", "both", "data", model="folder")
    assert StudyArm(BaselineArm("majority")).with_model("folder") == BaselineArm("majority")


def test_summaries_are_students_intervals_paired_by_seed() -> None:
    scores = {LOGISTIC_RNA: [0.6, 0.7, 0.5], "model": [0.7, 0.75, 0.65]}
    summary = summary_table(results_of(scores), LOGISTIC_RNA).set_index("method")
    model, values = summary.loc["model"], np.array(scores["model"])
    half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / math.sqrt(3)
    np.testing.assert_allclose(
        model[["mcc", "mcc_low", "mcc_high"]].astype(float), values.mean() + half * np.array([0, -1, 1])
    )
    differences = values - np.array(scores[LOGISTIC_RNA])
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / math.sqrt(3)
    found = model[["mcc_difference", "mcc_difference_low", "mcc_difference_high"]].astype(float)
    np.testing.assert_allclose(found, differences.mean() + half * np.array([0, -1, 1]))
    assert summary.loc[LOGISTIC_RNA, "mcc_difference"] == 0
    assert (
        model["seeds"] == 3 and math.isclose(model["accuracy"], values.mean() / 2) and pd.isna(model["cells_per_type"])
    )


def test_differences_are_to_the_same_number_of_cells_a_type() -> None:
    few = results_of({LOGISTIC_RNA: [0.2], "model": [0.5]}, cells_per_type=10)
    many = results_of({LOGISTIC_RNA: [0.8], "model": [0.9]})
    summary = summary_table(pd.concat([few, many], ignore_index=True), LOGISTIC_RNA)
    found = summary[summary["method"] == "model"].set_index(
        summary["cells_per_type"].fillna(0)[summary["method"] == "model"]
    )
    np.testing.assert_allclose(found["mcc_difference"].loc[[10, 0]].astype(float), [0.3, 0.1])
    assert summary["mcc_low"].isna().all()


def test_a_summary_needs_its_reference() -> None:
    with pytest.raises(ValueError, match="no results of 'absent'"):
        summary_table(results_of({"model": [0.5]}), "absent")


def test_curves_are_the_histories_of_the_models() -> None:
    results = results_of({LOGISTIC_RNA: [0.5], "model": [0.6, 0.7]})
    history = [{"step": step, "training_accuracy": step / 10, "validation_accuracy": 0.5} for step in (1, 2)]
    curves = training_curves(results, [{"history": []}, {"history": history}, {"history": history[:1]}])
    assert curves[["method", "seed", "step"]].values.tolist() == [["model", 0, 1], ["model", 0, 2], ["model", 1, 1]]
    assert curves["training_accuracy"].tolist() == [0.1, 0.2, 0.1]
    assert training_curves(results[:1], [{"history": []}]).empty


def test_occupancy_counts_every_value(toy_multiome: Path, tmp_path: Path) -> None:
    folder = read_multiome(toy_multiome)
    occupancy = bin_occupancy(folder).set_index(["modality", "bin"])
    for modality in MODALITIES:
        values = folder.cells.values(np.flatnonzero(folder.cells.has(modality)), modality)
        for number in range(6):
            assert occupancy.loc[(modality, number), "values"] == (values == number).sum()
        share = occupancy.loc[modality, "share_of_nonzero"]
        assert math.isnan(share[0]) and math.isclose(share[1:].sum(), 1)
    assert set(occupancy["strategy"]) == {"quartile"}
    shutil.copytree(toy_multiome, tmp_path / "rna_bins_only")
    described = json.loads((tmp_path / "rna_bins_only" / "multiome.json").read_text())
    described["feature_extractor"]["atac_bins"] = None
    (tmp_path / "rna_bins_only" / "multiome.json").write_text(json.dumps(described))
    assert set(bin_occupancy(read_multiome(tmp_path / "rna_bins_only"))["modality"]) == {"rna"}
