"""`pretrain` with the DNA encoder trained too: packed, stopped and resumed, written so that its parts fit together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from omics_transformers.data_scripts.gene_features import read_gene_features
from omics_transformers.modeling.modeling_enformer import EnformerForGeneFeatures
from omics_transformers.training.dna_encoder_arguments import DNAEncoderArguments
from omics_transformers.training.pretraining_arguments import DataArguments, ModelArguments, PretrainingArguments
from omics_transformers.training.run_mlm import pretrain

CHOSEN = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "test_fraction": 0.2,
    "packed": True,
    "use_cpu": True,
    "disable_tqdm": True,
    "report_to": "none",
    "per_device_train_batch_size": 16,
    "max_steps": 6,
    "save_steps": 3,
    "tune_dna_model": "lora",
    "dna_learning_rate": 0.05,
    "windows_per_step": 4,
    "windows_per_chunk": 4,
}


def run(corpus: Path, promoters: Path, output: Path, **changes: Any) -> dict[str, Any]:
    files = {
        "cells": str(corpus),
        "gene_features": str(promoters / "gene_features.safetensors"),
        "dna_model": str(promoters / "enformer"),
        "genome": str(promoters / "genome.fa"),
        "annotation": str(promoters / "tss.tsv"),
        "output_dir": str(output),
    }
    chosen = {**CHOSEN, **files, **changes}
    kinds = (ModelArguments, DataArguments, PretrainingArguments, DNAEncoderArguments)
    return pretrain(
        *(
            kind(**{name: value for name, value in chosen.items() if name in kind.__dataclass_fields__})
            for kind in kinds
        )
    )


def test_what_is_written_fits_together_and_resumes(toy_corpus: Path, toy_promoters: Path, tmp_path: Path) -> None:
    metrics = run(toy_corpus, toy_promoters, tmp_path / "model")
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    assert type(model).__name__ == "BioDTAForMaskedLM"
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model")) == 42
    features = read_gene_features(tmp_path / "model" / "gene_features.safetensors")
    start = read_gene_features(toy_promoters / "gene_features.safetensors")
    table = model.bert.gene_token_embeddings.table.features
    np.testing.assert_allclose(table[2:], features.features, rtol=1e-5)
    assert np.abs(features.features - start.features).max() > 1e-3
    assert features.metadata["tuned_from"] == str(toy_promoters / "enformer")
    encoder = EnformerForGeneFeatures.from_pretrained(tmp_path / "model" / "dna_encoder")
    assert sum(parameter.numel() for parameter in encoder.parameters()) > 0
    assert "tuned_from" in (tmp_path / "model" / "README.md").read_text()
    assert metrics["held_out"]["perplexity"] > 1
    (tmp_path / "resumed").mkdir()
    (tmp_path / "model" / "checkpoint-3").rename(tmp_path / "resumed" / "checkpoint-3")
    with pytest.raises(ValueError, match="windows_per_step was 4 and is 5"):
        run(toy_corpus, toy_promoters, tmp_path / "resumed", resume=True, windows_per_step=5)
    run(toy_corpus, toy_promoters, tmp_path / "resumed", resume=True)
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("model", "resumed"))
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_donors_dna_and_models_without_dna_are_refused(toy_corpus: Path, toy_promoters: Path, tmp_path: Path) -> None:
    features = str(toy_corpus / "gene_features.safetensors")
    with pytest.raises(ValueError, match="donor"):
        run(toy_corpus, toy_promoters, tmp_path / "donors", gene_features=features, donor_column="donor")
    with pytest.raises(ValueError, match="adapter_type is none: a model that reads no DNA has no encoder"):
        run(toy_corpus, toy_promoters, tmp_path / "none", adapter_type="none")
    with pytest.raises(ValueError, match="genome, annotation not set"):
        DNAEncoderArguments(tune_dna_model="full", dna_model="enformer")
