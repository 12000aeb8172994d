"""Tables of a comparison: means, Student intervals, and differences paired by seed."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from omics_transformers.training.cell_type_metric import SCORES
from omics_transformers.training.cell_type_summary import results_table, summarise, summary_text


def run(method: str, seed: int, mcc: float, *, baseline: str = "", cells: int | None = None, **others: Any) -> dict:
    report = {"training_cells": 70, "validation_cells": 10, "test_cells": 20, "unseen_in_training": {"B": 3}}
    whole = {"method": method, "modality": "rna", "tuning": "" if baseline else "full", "baseline": baseline}
    whole |= {"cells_per_type": cells, "seed": seed, "report": report, "seconds": 1.0}
    return whole | {"test": dict.fromkeys(SCORES, 0.5) | {"mcc": mcc}, "validation": {"mcc": 0.25}} | others


MODEL, LOGISTIC = [0.8, 0.7, 0.9], [0.6, 0.65, 0.7]


def table(**others: Any) -> pd.DataFrame:
    runs = [run("model", seed, mcc, **others) for seed, mcc in enumerate(MODEL)]
    runs += [run("LR", seed, mcc, baseline="logistic_regression") for seed, mcc in enumerate(LOGISTIC)]
    return results_table(runs)


def interval(values: list[float]) -> tuple[float, float]:
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def test_one_row_a_run() -> None:
    results = table()
    assert len(results) == 6 and results["unseen_test_cells"].tolist() == [3] * 6
    assert results.loc[2, ["method", "seed", "mcc", "validation_mcc", "test_cells"]].tolist() == [
        "model", 2, 0.9, 0.25, 20,
    ]  # fmt: skip
    assert results["cells_per_type"].isna().all()


def test_means_and_intervals_are_students_and_differences_paired() -> None:
    summary = summarise(table())
    assert summary["method"].tolist() == ["model", "LR"]
    row = summary.iloc[0]
    assert row["mcc"] == pytest.approx(0.8) and row["seeds"] == 3
    assert (row["mcc_low"], row["mcc_high"]) == pytest.approx(interval(MODEL))
    differences = [one - other for one, other in zip(MODEL, LOGISTIC, strict=True)]
    assert row["mcc_difference"] == pytest.approx(np.mean(differences))
    assert (row["mcc_difference_low"], row["mcc_difference_high"]) == pytest.approx(interval(differences))
    assert summary.iloc[1]["mcc_difference"] == 0


def test_without_a_logistic_regression_of_the_modality_there_is_no_difference() -> None:
    summary = summarise(table(modality="both")).set_index("method")
    assert math.isnan(summary.loc["model", "mcc_difference"]) and summary.loc["LR", "mcc_difference"] == 0
    few = summarise(table(cells=5)).set_index("method")
    assert math.isnan(few.loc["model", "mcc_difference"])


def test_all_cells_come_first_then_many_then_few() -> None:
    runs = [run("model", 0, 0.5, cells=cells) for cells in (5, None, 20)] + [run("other", 0, 0.6, cells=5)]
    summary = summarise(results_table(runs))
    assert summary["cells_per_type"].astype(object).where(summary["cells_per_type"].notna(), None).tolist() == [
        None, 20, 5, 5,
    ]  # fmt: skip
    assert summary["method"].tolist()[2:] == ["other", "model"]
    assert summary["mcc_low"].isna().all()


def test_the_text_holds_means_and_intervals() -> None:
    text = summary_text(summarise(table()))
    low, high = interval(MODEL)
    assert f"0.800 ({low:.3f} to {high:.3f})" in text and "+0.150 (" in text
    assert "0.500" in summary_text(summarise(results_table([run("model", 0, 0.5)])))
