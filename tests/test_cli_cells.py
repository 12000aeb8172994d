"""The commands `classify`, `impute` and `embed-cells` on small models, and how they answer to bad input."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
import typer
from scipy import sparse

from omics_transformers.cell_results import classify_cells, embed_cells, impute_cells
from omics_transformers.cli_cells import classify_command, embed_cells_command, impute_command
from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.feature_extraction_multiome import MultiomeFeatureExtractor
from omics_transformers.modeling.modeling_multiome_performer import (
    MultiomePerformerForCellTypeClassification,
    MultiomePerformerForPreTraining,
)
from omics_transformers.training.multiome_data import read_multiome

COMMANDS: dict[str, tuple[Callable[..., object], Callable[..., object]]] = {
    "classify": (classify_command, classify_cells),
    "impute": (impute_command, impute_cells),
    "embed-cells": (embed_cells_command, embed_cells),
}


@pytest.fixture(scope="module")
def files(toy_multiome: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, read = tmp_path_factory.mktemp("files"), read_multiome(toy_multiome)
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
        "intermediate_size": 16,
    }
    types = {number: f"type{number}" for number in range(4)}
    config = MultiomePerformerConfig(**sizes, num_genes=40, id2label=types, initializer_range=0.3)
    for name, model_class in (
        ("classifier", MultiomePerformerForCellTypeClassification),
        ("pretrained", MultiomePerformerForPreTraining),
    ):
        model_class(config).save_pretrained(folder / name)
        MultiomeFeatureExtractor(**read.feature_extractor).save_pretrained(folder / name)
    random, obs = np.random.default_rng(0), pd.DataFrame({"kind": ["type0", "type1"] * 6}, index=[*"abcdefghijkl"])
    peaks = [f"chr1:{100_000 * gene + 10_000}-{100_000 * gene + 10_400}" for gene in range(40)]
    for name, features in (("rna", read.gene_ids), ("atac", peaks)):
        counts = random.poisson(1.5, (12, 40)).astype(np.float32)
        counts[0] *= name == "atac"
        cells = anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=features))
        cells.write_h5ad(folder / f"{name}.h5ad")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> int:
    """As `omics-transformers WORDS` does, of these commands only."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    for name, (command, _) in COMMANDS.items():
        app.command(name)(command)
    monkeypatch.setattr(sys, "argv", ["omics-transformers", *words])
    with pytest.raises(SystemExit) as done:
        app()
    return done.value.code or 0  # type: ignore[return-value]


def test_classify(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    words = ["classify", "rna.h5ad", "--model=classifier", "--labels=kind", "--unknown-threshold=0.3", "--device=cpu"]
    assert run(monkeypatch, [*words, f"--output={tmp_path / 'out'}"]) == 0
    printed = capsys.readouterr().out
    assert "accuracy" in printed and "1 of 12 cells have no count" in printed and "cells.tsv, confusion.tsv" in printed
    assert len(pd.read_csv(tmp_path / "out" / "cells.tsv", sep="\t")) == 12


def test_impute(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    words = [
        "impute",
        "rna.h5ad",
        "--atac=atac.h5ad",
        "--model=pretrained",
        "--gene=GENE3",
        "--gene=GENE4",
        "--gene=GENE9",
    ]
    assert run(monkeypatch, [*words, "--device=cpu", f"--output={tmp_path / 'out'}"]) == 0
    assert "median Pearson's correlation of genes across cells" in capsys.readouterr().out
    assert anndata.read_h5ad(tmp_path / "out" / "imputed.h5ad").var["symbol"].tolist() == ["GENE3", "GENE4", "GENE9"]


def test_embed_cells(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    words = ["embed-cells", "rna.h5ad", "--model=pretrained", "--no-umap", "--labels=kind", "--device=cpu"]
    assert run(monkeypatch, [*words, f"--output={tmp_path / 'out'}"]) == 0
    assert "share of neighbours with a cell's label" in capsys.readouterr().out
    embeddings = anndata.read_h5ad(tmp_path / "out" / "embeddings.h5ad").obsm["X_multiome_performer"]
    assert np.isnan(embeddings).any(1).tolist() == [True] + [False] * 11
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["cells_without_any_value"] == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_have_every_option_of_their_functions(name: str) -> None:
    command, function = COMMANDS[name]
    assert set(inspect.signature(command).parameters) == set(inspect.signature(function).parameters) - {"progress"}
    assert f"Example: omics-transformers {name} " in (command.__doc__ or "")


def test_a_map_of_cells(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("umap")
    # In a process of its own: compiling UMAP would take longer than all other tests.
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    words = ["embed-cells", "rna.h5ad", "--model=pretrained", "--colour-by=kind", "--device=cpu"]
    command = [sys.executable, "-m", "omics_transformers.cli", *words, f"--output={tmp_path / 'out'}"]
    done = subprocess.run(command, cwd=files, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    written = anndata.read_h5ad(tmp_path / "out" / "embeddings.h5ad")
    assert written.obsm["X_umap_multiome_performer"].shape == (written.n_obs, 2)
    assert (tmp_path / "out" / "figures" / "umap.png").stat().st_size > 1000
