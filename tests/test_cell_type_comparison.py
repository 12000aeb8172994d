"""Comparisons: the same cells for all arms, runs that are not repeated, and mistakes that show before training."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omics_transformers.training.cell_type_arguments import CellTypeTrainingArguments
from omics_transformers.training.cell_type_comparison import (
    BaselineArm,
    CellTypeSplit,
    ModelArm,
    compare_cell_types,
)
from omics_transformers.training.multiome_data import read_multiome

SIZES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 32,
}  # fmt: skip
MAJORITY, LOGISTIC = BaselineArm("majority"), BaselineArm("logistic_regression")


def training(folder: Path, **options: Any) -> CellTypeTrainingArguments:
    options = {"minimum_steps": 10, "num_train_epochs": 1, "learning_rate": 1e-3} | options
    return CellTypeTrainingArguments(output_dir=str(folder), use_cpu=True, disable_tqdm=True, **options)


def shuffled(folder: Path, where: Path, *, without_counts: bool = False) -> Path:
    """Another build of the same cells, in another order; `datasets` caches by the folder's name."""
    shutil.copytree(folder, where)
    (path,) = (where / "data").iterdir()
    rows = pq.read_table(path)
    rows = rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    if without_counts:
        rows = rows.drop_columns([f"{one}_{what}" for one in ("rna", "atac") for what in ("genes", "counts")])
    pq.write_table(rows, path)
    return where


def test_arms_are_compared_on_every_seed_and_number_of_cells(toy_multiome: Path, tmp_path: Path) -> None:
    model = ModelArm("model", "both", config=SIZES)
    arms = [MAJORITY, model, BaselineArm("logistic_regression", "both"), LOGISTIC]
    kept: list[Any] = []
    found = compare_cell_types(
        arms,
        toy_multiome,
        seeds=(0, 1),
        cells_per_type=(None, 3),
        training=training(tmp_path),
        output_dir=tmp_path / "out",
        keep_model=kept.append,
    )
    assert len(found.results) == len(found.runs) == 16 and len(found.summary) == 8
    assert found.results["method"].tolist() == [arm.name for arm in arms] * 4
    assert found.results["test_cells"].unique().tolist() == [24]  # of paired cells, for arms of RNA too
    assert found.results["training_cells"].tolist() == [84] * 8 + [12] * 8
    logistic = found.summary[(found.summary["method"] == "logistic_regression") & (found.summary["modality"] == "both")]
    assert (logistic["mcc"] > 0.8).all() and (logistic["mcc_difference"] == 0).all()
    assert found.summary.iloc[3]["method"] == "majority" and found.summary["cells_per_type"].isna().sum() == 4
    assert len(kept) == 1 and kept[0].args.seed == 0
    assert found.report["cells"] == 120


def test_finished_runs_are_not_repeated_and_others_are_not_overwritten(toy_multiome: Path, tmp_path: Path) -> None:
    arms = [ModelArm("model", config=SIZES), LOGISTIC]
    options: dict[str, Any] = {"seeds": (0,), "output_dir": tmp_path / "out"}
    first = compare_cell_types(arms, toy_multiome, training=training(tmp_path), **options)
    files = sorted((tmp_path / "out" / "runs").iterdir())
    assert [path.name for path in files] == ["logistic_regression-rna-all-0.json", "model-rna-all-0.json"]
    times = [path.stat().st_mtime_ns for path in files]
    again = compare_cell_types([*arms, MAJORITY], toy_multiome, training=training(tmp_path), **options)
    assert [path.stat().st_mtime_ns for path in files] == times
    assert again.results.iloc[:2]["seconds"].tolist() == first.results["seconds"].tolist()
    with pytest.raises(ValueError, match=r"model-rna-all-0.json is of other settings: training was .*learning_rate"):
        compare_cell_types(arms, toy_multiome, training=training(tmp_path, learning_rate=1e-4), **options)
    with pytest.raises(ValueError, match="is of other settings: cells was 239 and is 120"):
        compare_cell_types([LOGISTIC, BaselineArm("majority", "both")], toy_multiome, **options)


def test_two_builds_of_the_same_cells_give_the_same(toy_multiome: Path, tmp_path: Path) -> None:
    other = shuffled(toy_multiome, tmp_path / "multiome-shuffled")
    bins = [BaselineArm("logistic_bins", "rna"), BaselineArm("logistic_bins", "rna", other, name="other")]
    found = compare_cell_types(bins, toy_multiome, seeds=(0, 1)).results
    of_arm = [found[found["method"] == name]["mcc"].tolist() for name in ("logistic_bins", "other")]
    assert of_arm[0] == pytest.approx(of_arm[1], abs=1e-9) and found["test_cells"].unique().tolist() == [48]


def test_donors_are_held_out_whole(toy_multiome: Path) -> None:
    found = compare_cell_types([LOGISTIC], toy_multiome, seeds=(0,), split=CellTypeSplit("donor"))
    cells = read_multiome(toy_multiome).cells
    codes, names = cells.labels("donor")
    sizes = np.bincount(codes[cells.has("rna") & (cells.labels("cell_type")[0] >= 0)], minlength=len(names))
    parts = found.results.loc[0, ["training_cells", "validation_cells", "test_cells"]].tolist()
    assert parts[1] in sizes and parts[2] in sizes and sum(parts) == 239
    assert found.results["unseen_test_cells"].tolist() == [0]


def test_mistakes_show_before_anything_is_trained(
    toy_multiome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = shuffled(toy_multiome, tmp_path / "multiome-without-counts", without_counts=True)
    model = ModelArm("model", config=SIZES)
    cases: list[tuple[list, dict[str, Any], str]] = [
        ([], {}, "there are no arms"),
        ([LOGISTIC, LOGISTIC], {}, r"several arms are called logistic_regression \(rna\)"),
        ([model], {"seeds": ()}, "seeds are \\[\\]: expected at least one, each once"),
        ([model], {"seeds": (1, 1)}, "seeds are \\[1, 1\\]"),
        ([model], {"cells_per_type": (None, 0)}, "cells_per_type is 0"),
        ([model], {"split": CellTypeSplit("dataset"), "data": toy_multiome}, "the cells are of 2 data sets"),
        ([model, BaselineArm("pca_knn", data=bare)], {}, "the baseline pca_knn needs counts, and .*-without-counts"),
        ([model, ModelArm("s", preset="scbert")], {}, "scBERT reads values binned as scbert"),
        ([model], {"data": None}, "arm 'model' names no data"),
    ]
    for arms, options, message in cases:
        given = {"data": toy_multiome, "seeds": (0,)} | options
        data = given.pop("data")
        with pytest.raises(ValueError, match=message):
            compare_cell_types(arms, data, output_dir=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError, match="no folder of multiome at"):
        compare_cell_types([model], tmp_path / "nowhere")
    monkeypatch.setitem(__import__("sys").modules, "scvi", None)
    with pytest.raises(ImportError, match=r"omics-transformers\[multivi\]"):
        compare_cell_types([model, BaselineArm("multivi")], toy_multiome)
