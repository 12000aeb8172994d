"""Streamed pre-training from settings to a model: features, donors, vocabulary, resume, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from omics_transformers.training.pretraining_arguments import DataArguments, ModelArguments, PretrainingArguments
from omics_transformers.training.run_mlm import pretrain
from omics_transformers.training.streamed_data import prepare_streamed_data, sampled_training_cells
from omics_transformers.training.streaming_cells import StreamedCells

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
         "max_position_embeddings": 16, "hidden_dropout_prob": 0.1}  # fmt: skip
TRAINING = {"use_cpu": True, "disable_tqdm": True, "report_to": "none", "per_device_train_batch_size": 16,
            "learning_rate": 0.01, "save_strategy": "steps", "save_steps": 4, "logging_steps": 4}  # fmt: skip


@pytest.fixture(scope="module")
def shards(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy corpus in three shards."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "data").mkdir()
    for name in ("token_dictionary.json", "gene_medians.json"):
        (folder / name).write_bytes((toy_corpus / name).read_bytes())
    table = pq.read_table(toy_corpus / "data")
    for number, rows in enumerate((table.slice(0, 90), table.slice(90, 100), table.slice(190))):
        pq.write_table(rows, folder / "data" / f"train-{number:05d}-of-00003.parquet", row_group_size=50)
    return folder


def run(shards: Path, features: Path, output: Path, **changes: Any) -> dict[str, Any]:
    chosen = {
        **SIZES,
        **TRAINING,
        "cells": str(shards),
        "gene_features": str(features / "gene_features.safetensors"),
        "streaming": True,
        "buffer_cells": 64,
        "test_fraction": 0.2,
        "max_steps": 12,
        "output_dir": str(output),
        **changes,
    }
    kinds = (ModelArguments, DataArguments, PretrainingArguments)
    return pretrain(
        *(kind(**{key: value for key, value in chosen.items() if key in kind.__dataclass_fields__}) for kind in kinds)
    )


@pytest.mark.parametrize(
    "changes", [{"donor_column": "donor", "variant_encoding": "difference"}, {"packed": True, "token_budget": 150}]
)
def test_resumes_to_the_weights_of_an_unbroken_run(
    shards: Path, toy_corpus: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    metrics = run(shards, toy_corpus, tmp_path / "unbroken", **changes)
    assert metrics["held_out"]["masked_tokens"] > 20
    assert metrics["held_out"]["unseen_gene_frequency_perplexity"] < metrics["held_out"]["gene_frequency_perplexity"]
    assert metrics["data"]["cells_read"] >= metrics["data"]["cells_streamed_an_epoch"]
    (tmp_path / "resumed").mkdir()
    kept = tmp_path / "resumed" / "checkpoint-8"
    (tmp_path / "unbroken" / "checkpoint-8").rename(kept)
    resumed = run(shards, toy_corpus, tmp_path / "resumed", resume=True, **changes)
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("unbroken", "resumed"))
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert resumed["held_out"] == metrics["held_out"]
    again = run(shards, toy_corpus, tmp_path / "resumed", resume=True, **changes)  # all steps are there already
    assert again["held_out"] == metrics["held_out"]
    with pytest.raises(ValueError, match="buffer_cells was 64 and is 80"):
        run(shards, toy_corpus, tmp_path / "resumed", resume=True, max_steps=20, **{**changes, "buffer_cells": 80})


def prepared(shards: Path, tmp_path: Path, max_length: int = 16, max_steps: int = 1, **changes: Any) -> Any:
    arguments = DataArguments(cells=str(shards), streaming=True, buffer_cells=64, **changes)
    training = PretrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", max_steps=max_steps)
    reads_dna = "gene_features" in changes
    return prepare_streamed_data(arguments, training, reads_dna=reads_dna, max_length=max_length), arguments


def test_held_out_cells_are_not_sampled_nor_streamed(shards: Path, tmp_path: Path) -> None:
    data, arguments = prepared(shards, tmp_path, test_fraction=0.3, max_length=6)
    assert isinstance(data.training, StreamedCells)
    sample = sampled_training_cells(data, arguments)
    assert not np.isin(sample.numbers, data.held_out.numbers).any()
    assert len(sample) + len(data.held_out) == data.report["cells"] == 240
    assert 40 < len(data.held_out) < 110
    assert data.held_out.lengths.max() == 6
    assert data.report["held_out_cells"] == len(data.held_out)


def test_genes_outside_a_restriction_leave_vocabulary_and_cells(shards: Path, tmp_path: Path) -> None:
    genes = [gene for gene in json.loads((shards / "token_dictionary.json").read_text()) if gene.startswith("ENSG")]
    (tmp_path / "genes.txt").write_text("\n".join(genes[:20]) + "\n")
    data, arguments = prepared(shards, tmp_path, restrict_genes=str(tmp_path / "genes.txt"), test_fraction=0.1)
    assert data.vocabulary.tokens[2:] == genes[:20]
    tokens = np.concatenate([cell.input_ids for cell in sampled_training_cells(data, arguments).__getitems__([0, 1])])
    assert tokens.min() >= 2 and tokens.max() < 22


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_steps": 0}, "max_steps is not set: a stream has no end"),
        ({"test_donors": "donor1", "donor_column": "donor"}, "set test_fraction in place of test_cells or test_donors"),
        ({"token_budget": 100}, "token_budget is 100 without packed"),
        ({"packed": True, "pad_to_multiple_of": 8}, "both packed and pad_to_multiple_of are set"),
        ({"maximum_held_out_cells": 0}, "maximum_cells is 0: expected at least 1 (--maximum-held-out-cells)"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    shards: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        prepared(shards, tmp_path, **changes)


def test_donors_have_the_rows_of_the_features(shards: Path, toy_corpus: Path, tmp_path: Path) -> None:
    from omics_transformers.data_scripts.gene_features import read_gene_features

    features = read_gene_features(toy_corpus / "gene_features.safetensors")
    assert features.donors is not None
    data, _ = prepared(
        shards, tmp_path, gene_features=str(toy_corpus / "gene_features.safetensors"), donor_column="donor"
    )
    assert data.donor_variants is not None and data.training.preparation.donor_rows == {
        name: row for row, name in enumerate(features.donors)
    }


def test_a_shard_of_another_vocabulary_is_named(shards: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    for name in ("token_dictionary.json", "gene_medians.json"):
        (other / name).write_bytes((shards / name).read_bytes())
    pq.write_table(pa.table({"input_ids": pa.array([[2, 99]], pa.list_(pa.uint16()))}), other / "data/train-0.parquet")
    with pytest.raises(ValueError, match=r"train-0.parquet.*99"):
        prepared(other, tmp_path)
