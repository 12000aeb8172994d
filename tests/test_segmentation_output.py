"""The table of scores by element, and JSON without NaN."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omics_transformers.training.segmentation_metric import SCORES, SegmentationMetric
from omics_transformers.training.segmentation_output import without_nan, write_element_table


def results(resamples: int) -> dict:
    random = np.random.default_rng(0)
    labels = (random.random((4, 50, 2)) < [0.4, 0.0]).astype(np.int8)
    metric = SegmentationMetric(["exon", "absent"])
    return metric.compute(
        predictions=random.random((4, 50, 2)), references=labels, blocks=[0, 0, 1, 1], resamples=resamples
    )


def test_table_has_a_row_a_split_and_element_with_all_digits(tmp_path: Path) -> None:
    with_intervals, without = results(20), results(0)
    write_element_table(tmp_path / "elements.tsv", {"validation": without, "test": without_nan(with_intervals)})
    table = pd.read_csv(tmp_path / "elements.tsv", sep="\t").set_index(["split", "element"])
    assert table.index.tolist() == [(split, name) for split in ("validation", "test") for name in ("exon", "absent")]
    row, expected = table.loc[("test", "exon")], with_intervals["elements"]["exon"]
    assert (row["scored_bases"], row["positive_bases"]) == (200, expected["positive_bases"])
    for score in SCORES:
        assert row[score] == pytest.approx(expected[score], rel=1e-5)
        assert row[[f"{score}_low", f"{score}_high"]].tolist() == pytest.approx(expected[f"{score}_interval"], rel=1e-5)
    assert table.loc[("validation", "exon")].filter(regex="_low|_high").isna().all()
    assert table.loc[("test", "absent")][list(SCORES)].isna().all()


def test_json_has_null_in_place_of_nan() -> None:
    content = without_nan({"a": [float("nan"), 1.5], "b": {"c": float("nan")}, "d": (2, "x", None)})
    assert content == {"a": [None, 1.5], "b": {"c": None}, "d": [2, "x", None]}
    json.dumps(without_nan(results(5)), allow_nan=False)
