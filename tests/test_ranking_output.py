"""The table of scores by split and cell type."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omics_transformers.training.ranking_metric import SCORES, RegionRankingMetric
from omics_transformers.training.ranking_output import write_ranking_table
from omics_transformers.training.segmentation_output import without_nan


def result(resamples: int) -> dict:
    random, metric = np.random.default_rng(0), RegionRankingMetric()
    return metric.compute(
        predictions=random.random((40, 3)),
        references=random.random((40, 3)),
        groups=np.arange(40) // 10,
        resamples=resamples,
    )


def test_table_has_a_row_a_split_and_cell_type(tmp_path: Path) -> None:
    with_intervals, without = result(50), result(0)
    undefined = RegionRankingMetric().compute(predictions=[[0.0, 1.0]], references=[[1.0, 1.0]])
    results = {"validation": without, "test": {**with_intervals, "cell_types": {"T": without, "B": undefined}}}
    write_ranking_table(tmp_path / "ranking.tsv", without_nan(results))
    table = pd.read_csv(tmp_path / "ranking.tsv", sep="\t").set_index(["split", "cell_type"])
    assert table.index.tolist() == [("validation", "all"), ("test", "all"), ("test", "T"), ("test", "B")]
    row = table.loc[("test", "all")]
    assert (row["lists"], row["groups"]) == (40, 4)
    for score in SCORES:
        assert row[score] == pytest.approx(with_intervals[score], rel=1e-5)
        assert row[f"{score}_chance"] == pytest.approx(with_intervals[f"{score}_chance"], rel=1e-5)
        low, high = with_intervals[f"{score}_interval"]
        assert row[[f"{score}_low", f"{score}_high"]].tolist() == pytest.approx([low, high], rel=1e-5)
    assert table.loc[("validation", "all")].filter(regex="_low|_high").isna().all()
    assert table.loc[("test", "B"), "lists_without_order"] == 1 and np.isnan(table.loc[("test", "B"), "ndcg"])
