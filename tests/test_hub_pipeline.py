"""The saved pipeline: with the package, and in a fresh process without it, from the code that lies beside the model."""

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

from omics_transformers.modeling.configuration_bio_dta import BioDTAConfig
from omics_transformers.modeling.modeling_bio_dta import BioDTAForMaskedLM
from omics_transformers.modeling.tokenization_gene_rank import GeneRankTokenizer
from omics_transformers.pipelines.gene_embedding_perturbation import GeneEmbeddingPerturbationPipeline

GENES = [f"ENSG{number:011d}" for number in range(20)]
WITHOUT_PACKAGE = """
import sys
sys.modules["omics_transformers"] = None  # importing it now raises ImportError
from transformers import pipeline
model, cells, output = sys.argv[1:]
pipe = pipeline("gene-embedding-perturbation", model=model, device="cpu", trust_remote_code=True)
assert type(pipe).__module__.startswith("transformers_modules")
result = pipe(cells, gene="SYM3", edit="mask", gene_sets={"set": ["SYM1", "SYM2"]}, sham_genes=2)
result.save(output)
"""


@pytest.fixture(scope="module")
def pipe() -> GeneEmbeddingPerturbationPipeline:
    tokens = {token: number for number, token in enumerate(["<pad>", "<mask>", *GENES])}
    tokenizer = GeneRankTokenizer.from_dictionaries(
        tokens, dict.fromkeys(GENES, 1.5), {gene: f"SYM{number}" for number, gene in enumerate(GENES)}
    )
    torch.manual_seed(0)
    config = BioDTAConfig(
        vocab_size=22,
        hidden_size=16,
        num_hidden_layers=2,
        intermediate_size=20,
        max_position_embeddings=30,
        dna_feature_size=5,
        gene_ids=list(tokens),
        initializer_range=0.3,
    )
    model = BioDTAForMaskedLM(config)
    model.set_gene_features(torch.randn(22, 5))
    return GeneEmbeddingPerturbationPipeline(model, tokenizer, device="cpu")


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = np.random.default_rng(0).poisson(1.0, (12, 20)).astype(np.float32)
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    obs = pd.DataFrame(index=[f"c{number}" for number in range(12)])
    anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=GENES)).write_h5ad(path)
    return path


def run_in_a_fresh_process(model: Path, cells: Path, folder: Path) -> pd.DataFrame:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(folder / "modules")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE, str(model), str(cells), str(folder / "result")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return pd.read_csv(folder / "result" / "genes.tsv", sep="\t")


def test_without_the_package(pipe: GeneEmbeddingPerturbationPipeline, cells: Path, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "model")
    found = run_in_a_fresh_process(tmp_path / "model", cells, tmp_path)
    expected = pipe(cells, gene="SYM3", edit="mask", gene_sets={"set": ["SYM1", "SYM2"]}, sham_genes=2).genes
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4, check_dtype=False)
    assert (tmp_path / "result" / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("saved_by", ["pipeline", "model and tokenizer"])
def test_with_the_package(pipe: GeneEmbeddingPerturbationPipeline, cells: Path, tmp_path: Path, saved_by: str) -> None:
    if saved_by == "pipeline":
        pipe.save_pretrained(tmp_path / "model")
    else:
        pipe.model.save_pretrained(tmp_path / "model")
        pipe.tokenizer.save_pretrained(tmp_path / "model")
    open_pipeline: Any = transformers.pipeline
    opened = open_pipeline("gene-embedding-perturbation", model=str(tmp_path / "model"), device="cpu")
    assert type(opened) is GeneEmbeddingPerturbationPipeline  # of the package, though its code may lie beside the model
    result = opened(cells, gene="SYM3", edit="mask", gene_sets={"set": ["SYM1", "SYM2"]}, sham_genes=2)
    expected = pipe(cells, gene="SYM3", edit="mask", gene_sets={"set": ["SYM1", "SYM2"]}, sham_genes=2)
    pd.testing.assert_frame_equal(result.genes, expected.genes, rtol=1e-4)
