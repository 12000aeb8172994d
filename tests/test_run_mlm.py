"""Pre-training from end to end: the script as users launch it, and `pretrain` itself.

Two processes: test_run_mlm_processes.py; a run that is killed: test_run_mlm_resume.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from omics_transformers.training.pretraining_arguments import DataArguments, ModelArguments, PretrainingArguments
from omics_transformers.training.run_mlm import main, pretrain

SCRIPT = Path(__file__).parents[1] / "training" / "run_mlm.py"
BY_PATH = ["accelerate", "launch", "--num_processes=1", "--num_machines=1", "--mixed_precision=no",
           "--dynamo_backend=no", "--cpu", str(SCRIPT)]  # fmt: skip
AS_MODULE = [*BY_PATH[:-1], "-m", "omics_transformers.training.run_mlm"]
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "attention_probs_dropout_prob": 0.0,
    "use_cpu": True,
    "disable_tqdm": True,
    "report_to": "none",
    "test_fraction": 0.2,
    "per_device_train_batch_size": 16,
    "learning_rate": 0.01,
    "mlm_probability": 0.2,
}


def settings(corpus: Path, output: Path, **changes: Any) -> dict[str, Any]:
    features = str(corpus / "gene_features.safetensors")
    return {**TINY, "cells": str(corpus), "gene_features": features, "output_dir": str(output), **changes}


def launch(command: list[str], corpus: Path, output: Path, **changes: Any) -> subprocess.CompletedProcess[str]:
    """Run the script in processes of its own, by a YAML file, from a folder that is not the repository."""
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(settings(corpus, output, **changes)))
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    program = str(Path(sys.executable).parent / command[0])
    return subprocess.run(
        [program, *command[1:], str(file)],
        env=environment,
        cwd=output.parent,
        capture_output=True,
        text=True,
        timeout=240,
    )


def run_here(corpus: Path, output: Path, **changes: Any) -> dict[str, Any]:
    chosen = settings(corpus, output, **changes)
    arguments = [
        kind(**{name: value for name, value in chosen.items() if name in kind.__dataclass_fields__})
        for kind in (ModelArguments, DataArguments, PretrainingArguments)
    ]
    return pretrain(*arguments)


@pytest.mark.parametrize(
    "command", [BY_PATH, pytest.param(AS_MODULE, marks=pytest.mark.slow)], ids=["by path", "as module"]
)
def test_accelerate_launch_writes_a_model_that_loads(tmp_path: Path, toy_corpus: Path, command: list[str]) -> None:
    output = tmp_path / "model"
    done = launch(
        command, toy_corpus, output, max_steps=4, donor_column="donor", variant_encoding="difference", save_steps=2
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert '"hidden_size": 32' in done.stderr  # it says what it resolved
    model = AutoModelForMaskedLM.from_pretrained(output)
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert (type(model).__name__, type(tokenizer).__name__) == ("BioDTAForMaskedLM", "GeneRankTokenizer")
    assert model.config.gene_ids[2] == tokenizer.decode_genes([2])[0] == "ENSG00000000000"
    assert model.config.gene_features_metadata["layer"] == "transformer"
    features = load_file(output / "gene_features.safetensors")["features"]
    assert torch.equal(model.bert.gene_token_embeddings.table.features[2:], features)
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["data"]["training_cells"] == 192
    assert metrics["held_out"].keys() >= {"loss", "perplexity", "gene_frequency_perplexity"}
    assert json.loads((output / "arguments.json").read_text())["model"]["variant_encoding"] == "difference"
    card = (output / "README.md").read_text()
    assert "192 cells of 4 donors" in card and "perplexity" in card
    assert not list(output.glob("*.bin"))


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter_type": "none"},
        {"adapter_type": "linear"},
        {"adapter_type": "mlp", "donor_column": "donor", "variant_encoding": "replace"},
        {"donor_column": "donor", "variant_encoding": "difference", "dataloader_num_workers": 1},
    ],
    ids=["adapter-free", "linear", "mlp and donors", "differences and workers"],
)
def test_learns_more_than_gene_frequencies(tmp_path: Path, toy_corpus: Path, changes: dict[str, Any]) -> None:
    """Ten genes of forty go together: from 40 to about 10, and less among the unseen."""
    held_out = run_here(toy_corpus, tmp_path / "model", num_train_epochs=25, save_strategy="no", **changes)["held_out"]
    assert held_out["gene_frequency_perplexity"] > 35
    assert held_out["perplexity"] < 0.5 * held_out["gene_frequency_perplexity"]
    assert held_out["perplexity"] < held_out["gene_frequency_by_rank_perplexity"]
    assert held_out["perplexity"] < held_out["unseen_gene_frequency_perplexity"]


def test_refuses_before_training(tmp_path: Path, toy_corpus: Path) -> None:
    with pytest.raises(ValueError, match="no cell carries a donor's DNA"):
        run_here(toy_corpus, tmp_path / "a", variant_encoding="difference")
    with pytest.raises(ValueError, match="no multiple of num_attention_heads 5"):
        run_here(toy_corpus, tmp_path / "b", num_attention_heads=5)
    with pytest.raises(FileNotFoundError, match="no gene features at"):
        run_here(toy_corpus, tmp_path / "c", gene_features=str(tmp_path / "absent.safetensors"))
    assert not list(tmp_path.glob("*/config.json"))


def test_refuses_to_mix_runs(tmp_path: Path, toy_corpus: Path) -> None:
    output = tmp_path / "model"
    run_here(toy_corpus, output, max_steps=2, save_steps=1, test_fraction=0.0)
    assert "No cells were held out" in (output / "README.md").read_text()
    with pytest.raises(FileExistsError, match="holds an earlier run"):
        run_here(toy_corpus, output, max_steps=2)
    with pytest.raises(ValueError, match=r"hidden_size was 32 and is 64"):
        run_here(toy_corpus, output, max_steps=2, resume=True, hidden_size=64, test_fraction=0.0)


@pytest.mark.slow
def test_ctrl_c_saves_a_checkpoint_to_resume_from(tmp_path: Path, toy_corpus: Path) -> None:
    output = tmp_path / "model"
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings(toy_corpus, output, max_steps=100_000, logging_steps=1)))
    process = subprocess.Popen(
        [sys.executable, "-u", str(SCRIPT), str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    while "'loss'" not in (line := process.stdout.readline()):
        assert line, process.communicate()[1][-3000:]
    process.send_signal(2)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors[-3000:]
    assert "go on with --resume" in errors
    assert not (output / "config.json").exists()
    step = int(next(output.glob("checkpoint-*")).name.split("-")[1])
    file.write_text(yaml.safe_dump(settings(toy_corpus, output, max_steps=step + 2)))
    main([str(file), "--resume"])
    assert json.loads((output / "metrics.json").read_text())["training"]["step"] == step + 2
