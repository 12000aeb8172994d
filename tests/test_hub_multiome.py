"""The saved multiome pipelines in a fresh process: with the package, and without it from the code beside the model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
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
"""
RUN = """
import json
import sys
import numpy
from transformers import pipeline
folder, cells, results = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
for task, name in results.items():
    options = {"trust_remote_code": True} if "omics_transformers" in sys.modules and not sys.modules["omics_transformers"] else {}
    pipe = pipeline(task, model=f"{folder}/{task}", device="cpu", **options)
    assert type(pipe).__module__.startswith("transformers_modules" if options else "omics_transformers")
    assert type(pipe.feature_extractor).__name__ == "MultiomeFeatureExtractor"
    result = pipe(cells)
    result.anndata()
    numpy.save(f"{folder}/{task}.npy", getattr(result, name))
"""  # noqa: E501


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


def run_in_a_fresh_process(code: str, cells: Path, expected: dict[str, np.ndarray], modules: Path) -> None:
    folder = Path(str(expected["folder"]))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(modules)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(cells), json.dumps(RESULTS)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for task in RESULTS:
        found = np.load(folder / f"{task}.npy")
        np.testing.assert_allclose(found, expected[task], rtol=1e-4, atol=1e-6)
        (folder / f"{task}.npy").unlink()


def test_without_the_package(cells: Path, expected: dict[str, np.ndarray], tmp_path: Path) -> None:
    run_in_a_fresh_process(WITHOUT_PACKAGE + RUN, cells, expected, tmp_path / "modules")


def test_with_the_package(cells: Path, expected: dict[str, np.ndarray], tmp_path: Path) -> None:
    run_in_a_fresh_process("import omics_transformers\n" + RUN, cells, expected, tmp_path / "modules")
