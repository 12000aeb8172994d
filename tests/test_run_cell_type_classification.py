"""Cell types from end to end: the script as users launch it, its tables, its resuming, and the model it leaves."""

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import transformers
import yaml

from omics_transformers.training.multiome_data import read_multiome
from omics_transformers.training.run_cell_type_classification import main

SCRIPT = Path(__file__).parents[1] / "training" / "run_cell_type_classification.py"
TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "head_dim": 8,
    "intermediate_size": 32,
    "seeds": [0, 1],
    "use_cpu": True,
    "disable_tqdm": True,
    "per_device_train_batch_size": 32,
    "minimum_steps": 40,
    "num_train_epochs": 1,
    "learning_rate": 0.001,
}


def settings(data: Path, output: Path, **changes: Any) -> Path:
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({**TINY, "data": str(data), "output_dir": str(output), **changes}))
    return file


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, toy_multiome: Path) -> tuple[Path, str]:
    """The folder that the script left, and what it printed."""
    output = tmp_path_factory.mktemp("trained") / "classifier"
    file = settings(toy_multiome, output, modality=["rna"], cells_per_type=[4], zero_shot=True)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main([str(file)])
    return output, printed.getvalue()


def test_the_model_stands_beside_the_others(trained: tuple[Path, str]) -> None:
    output, printed = trained
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["test"]["mcc"] > 0.7 and metrics["seed"] == 0 and metrics["split"]["test_cells"] == 48
    assert np.sum(metrics["test"]["confusion_matrix"]) == 48 and metrics["history"]
    results = pd.read_csv(output / "results.tsv", sep="\t")
    methods = ["multiome_performer", "multiome_performer_neighbours", "logistic_regression", "pca_knn", "majority"]
    assert results["method"].tolist() == methods * 4
    assert results["mcc"][0] == pytest.approx(metrics["test"]["mcc"], rel=1e-5)
    summary = pd.read_csv(output / "summary.tsv", sep="\t")
    assert len(summary) == 10 and summary["mcc"][:5].is_monotonic_decreasing
    assert all(method in printed for method in methods) and "MCC less logistic_regression's" in printed
    card = (output / "README.md").read_text()
    assert f"MCC {metrics['test']['mcc']:.3f}" in card and "| majority | rna | - | all |" in card
    assert "left out: without modality | 80" in card
    assert json.loads((output / "arguments.json").read_text())["data"]["cells_per_type"] == [4]
    assert sorted(path.name for path in (output / "figures").iterdir()) == ["cells_per_type.png", "confusion.png"]


def test_the_folder_brings_its_pipeline(trained: tuple[Path, str], toy_multiome: Path) -> None:
    folder = read_multiome(toy_multiome)
    rows = np.arange(40)
    cells = anndata.AnnData(folder.cells.counts(rows, "rna"))
    cells.var_names, cells.obs_names = folder.gene_ids, folder.cells.cell_names[rows].astype(str)
    open_pipeline: Any = transformers.pipeline
    pipe = open_pipeline("cell-type-classification", model=str(trained[0]), device="cpu")
    assert type(pipe).__name__ == "CellTypeClassificationPipeline"
    assert set(pipe(cells).table["cell_type"]) <= {"type0", "type1", "type2", "type3", "unknown"}


def test_it_goes_on_where_it_stopped(
    trained: tuple[Path, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run whose file is missing is made again, and gives the same; nothing else is."""
    output = trained[0]
    file = output.with_suffix(".yaml")
    with pytest.raises(FileExistsError, match="holds an earlier run"):
        main([str(file)])
    before = (output / "results.tsv").read_text()
    lost = output / "runs" / "logistic_regression-rna-4-1.json"
    lost.unlink()
    with caplog.at_level(logging.INFO):
        main([str(file), "--resume"])
    assert caplog.text.count("is finished, and is not repeated") == 19
    assert lost.is_file()
    columns = ["method", "seed", "cells_per_type", "mcc", "brier_score"]
    now, then = (pd.read_csv(source, sep="\t")[columns] for source in (output / "results.tsv", _file(before, tmp_path)))
    pd.testing.assert_frame_equal(now, then)


def _file(text: str, folder: Path) -> Path:
    path = folder / "before.tsv"
    path.write_text(text)
    return path


def test_accelerate_launch_gives_a_model_too(
    toy_multiome: Path, tmp_path: Path, accelerate_launch: Callable[..., tuple[str, str]]
) -> None:
    file = settings(toy_multiome, tmp_path / "classifier", seeds=[0], modality=["both"], baselines=["majority"])
    printed, _ = accelerate_launch(SCRIPT, str(file))
    require_a_model_and_a_baseline(tmp_path / "classifier", printed)


@pytest.mark.slow
def test_torchrun_gives_a_model_too(toy_multiome: Path, tmp_path: Path) -> None:
    file = settings(toy_multiome, tmp_path / "classifier", seeds=[0], modality=["both"], baselines=["majority"])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(SCRIPT)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(file)], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300
    )
    require_a_model_and_a_baseline(tmp_path / "classifier", done.stdout)


def require_a_model_and_a_baseline(output: Path, printed: str) -> None:
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["test"]["cells"] == 24 and metrics["test"]["mcc"] > 0.5
    assert len(pd.read_csv(output / "results.tsv", sep="\t")) == 2
    assert printed.count("majority") == 1


def test_mistakes_end_before_training(toy_multiome: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data is not set"):
        main(["--output_dir", str(tmp_path / "a"), "--use_cpu"])
    with pytest.raises(FileNotFoundError, match="no folder of multiome at"):
        main(["--data", str(tmp_path / "nowhere"), "--output_dir", str(tmp_path / "b"), "--use_cpu"])
    with pytest.raises(ValueError, match="scBERT reads values binned as scbert"):
        main(["--data", str(toy_multiome), "--preset", "scbert", "--output_dir", str(tmp_path / "c"), "--use_cpu"])
