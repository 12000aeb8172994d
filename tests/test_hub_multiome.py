"""The saved multiome pipelines: with the package, and in a fresh process without it, from the code beside the model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from scipy import sparse

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.feature_extraction_multiome import MultiomeFeatureExtractor
from omics_transformers.modeling.modeling_multiome_performer import (
    MultiomePerformerForCellTypeClassification,
    MultiomePerformerForPreTraining,
)
from omics_transformers.pipelines.cell_embedding import CellEmbeddingPipeline
from omics_transformers.pipelines.cell_type_classification import CellTypeClassificationPipeline
from omics_transformers.pipelines.multiome_imputation import MultiomeImputationPipeline
from omics_transformers.training.multiome_data import read_multiome

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 16}
PIPELINES = {
    "cell-type-classification": (CellTypeClassificationPipeline, MultiomePerformerForCellTypeClassification),
    "multiome-imputation": (MultiomeImputationPipeline, MultiomePerformerForPreTraining),
    "cell-embedding": (CellEmbeddingPipeline, MultiomePerformerForPreTraining),
}
RESULTS = {
    "cell-type-classification": "probabilities",
    "multiome-imputation": "expected",
    "cell-embedding": "embeddings",
}
WITHOUT_PACKAGE = """
import sys
sys.modules["omics_transformers"] = None  # importing it now raises ImportError
import json
import numpy
from transformers import pipeline
folder, cells, results = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
for task, name in results.items():
    pipe = pipeline(task, model=f"{folder}/{task}", device="cpu", trust_remote_code=True)
    assert type(pipe).__module__.startswith("transformers_modules")
    assert type(pipe.feature_extractor).__name__ == "MultiomeFeatureExtractor"
    result = pipe(cells)
    result.anndata()
    numpy.save(f"{folder}/{task}.npy", getattr(result, name))
"""


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = np.random.default_rng(0).poisson(1.0, (6, 40)).astype(np.float32)
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    var = pd.DataFrame(index=[f"ENSG{gene:011d}" for gene in range(40)])
    obs = pd.DataFrame(index=[f"c{cell}" for cell in range(6)])
    anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=var).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def expected(toy_multiome: Path, cells: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Saves each pipeline into a folder of its task's name under `folder`, and gives what it says of the cells."""
    read, found = read_multiome(toy_multiome), {}
    folder = tmp_path_factory.mktemp("models")
    for task, (pipeline_class, model_class) in PIPELINES.items():
        torch.manual_seed(0)
        config = MultiomePerformerConfig(
            **TINY, num_genes=40, gene_ids=read.gene_ids, initializer_range=0.3, num_labels=3
        )
        extractor = MultiomeFeatureExtractor(**read.feature_extractor)
        pipe = pipeline_class(model_class(config), feature_extractor=extractor, device="cpu")
        pipe.save_pretrained(folder / task)
        found[task] = getattr(pipe(cells), RESULTS[task])
    return {**found, "folder": np.array(str(folder))}


def test_without_the_package(cells: Path, expected: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = Path(str(expected["folder"]))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE, str(folder), str(cells), json.dumps(RESULTS)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for task in RESULTS:
        np.testing.assert_allclose(np.load(folder / f"{task}.npy"), expected[task], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("task", list(PIPELINES))
def test_with_the_package(task: str, cells: Path, expected: dict[str, np.ndarray]) -> None:
    open_pipeline: Any = transformers.pipeline
    pipe = open_pipeline(task, model=f"{expected['folder']}/{task}", device="cpu")
    assert type(pipe) is PIPELINES[task][0]  # of the package, though its code lies beside the model
    assert type(pipe.feature_extractor) is MultiomeFeatureExtractor
    np.testing.assert_allclose(getattr(pipe(cells), RESULTS[task]), expected[task], rtol=1e-4, atol=1e-6)
