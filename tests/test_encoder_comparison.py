"""Tables of a comparison: intervals against SciPy, differences paired by seed, elements that are not defined."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from omics_transformers.training.encoder_comparison import (
    MEAN_OF_ELEMENTS,
    HeadResult,
    best_head,
    compare_segmentations,
    mean_and_interval,
    write_heads_table,
    write_segmentation_table,
)
from omics_transformers.training.ranking_metric import SCORES


def scores(exact: float | None, **more: Any) -> dict[str, Any]:
    values = dict.fromkeys(SCORES, 0.5) | {f"{name}_chance": 0.2 for name in SCORES}
    return {**values, "exact_order": exact, "lists": 30, "groups": 3, **more}


def segmentation(**mcc: float | None) -> dict[str, Any]:
    return {"elements": {name: {"mcc": value} for name, value in mcc.items()}}


@pytest.mark.parity
def test_intervals_are_students() -> None:
    values = [0.3, 0.35, 0.28, 0.4]
    found = mean_and_interval(values)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found == pytest.approx({"mean": np.mean(values), "low": low, "high": high})


def test_one_seed_has_no_interval_and_undefined_no_mean() -> None:
    assert mean_and_interval([0.5]) == {"mean": 0.5, "low": None, "high": None}
    assert mean_and_interval([0.5, None]) == {"mean": None, "low": None, "high": None}


def test_the_head_is_chosen_by_validation_and_among_trained_encoders() -> None:
    results = [
        HeadResult("linear", False, scores(0.5), scores(0.9)),
        HeadResult("linear", True, scores(0.8), scores(0.9)),
        HeadResult("unet", False, scores(0.6), scores(0.1)),
        HeadResult("convolutional", False, scores(0.6), scores(0.2)),
        HeadResult("transformer", False, scores(None), scores(0.2)),
    ]
    assert best_head(results) == "unet"


def test_differences_are_paired_by_seed() -> None:
    metrics = {
        "given": [segmentation(exon=0.2, intron=0.4, absent=None), segmentation(exon=0.4, intron=0.6, absent=None)],
        "atac": [segmentation(exon=0.3, intron=0.4, absent=None), segmentation(exon=0.5, intron=0.7, absent=0.1)],
    }
    table, undefined = compare_segmentations(metrics, "given")
    assert undefined == ["absent"] and list(table) == ["exon", "intron", "absent", MEAN_OF_ELEMENTS]
    exon = table["exon"]["atac"]
    assert exon["mean"] == pytest.approx(0.4) and exon["low"] < 0 < exon["high"]
    assert exon["difference"]["mean"] == pytest.approx(0.1) == pytest.approx(exon["difference"]["low"])
    mean = table[MEAN_OF_ELEMENTS]["atac"]
    assert mean["seeds"] == pytest.approx([0.35, 0.6])
    assert mean["difference"]["seeds"] == pytest.approx([0.05, 0.1])
    assert table[MEAN_OF_ELEMENTS]["given"]["difference"]["mean"] == 0
    assert table["absent"]["atac"]["mean"] is None and table["absent"]["atac"]["difference"]["seeds"] == [None, None]


def test_a_comparison_of_undefined_elements_has_no_mean() -> None:
    table, undefined = compare_segmentations({"random": [segmentation(absent=None)]}, "random")
    assert undefined == ["absent"] and table[MEAN_OF_ELEMENTS]["random"]["mean"] is None


def test_tables_can_be_read_back(tmp_path: Path) -> None:
    results = [
        HeadResult("linear", False, scores(0.5), scores(0.75, exact_order_interval=[0.6, 0.9])),
        HeadResult("linear", True, scores(0.4), scores(None, exact_order_interval=None)),
    ]
    write_heads_table(tmp_path / "heads.tsv", results)
    heads = pd.read_csv(tmp_path / "heads.tsv", sep="\t")
    assert heads["encoder"].tolist() == ["trained", "frozen"]
    columns = ["exact_order", "exact_order_low", "exact_order_high", "exact_order_chance", "validation_exact_order"]
    assert heads.loc[0, columns].tolist() == [0.75, 0.6, 0.9, 0.2, 0.5]
    assert heads.loc[1, columns].isna().tolist() == [True, True, True, False, False]
    metrics = {"given": [segmentation(exon=0.2), segmentation(exon=0.4)]}
    table, _ = compare_segmentations(metrics, "given")
    write_segmentation_table(tmp_path / "segmentation.tsv", table, [4, 7])
    found = pd.read_csv(tmp_path / "segmentation.tsv", sep="\t").set_index(["element", "encoder"])
    assert found.index.tolist() == [("exon", "given"), (MEAN_OF_ELEMENTS, "given")]
    assert found.loc[("exon", "given"), ["mcc", "mcc_seed_4", "mcc_seed_7"]].tolist() == pytest.approx([0.3, 0.2, 0.4])
