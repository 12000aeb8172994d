"""Pre-training from end to end: the script as users launch it, what it learns and writes, and its resuming."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

from omics_transformers.data_scripts.gene_features import GeneFeatures, write_gene_features
from omics_transformers.modeling.modeling_multiome_performer import MultiomePerformerForPreTraining
from omics_transformers.training.multiome_data import read_multiome
from omics_transformers.training.multiome_masking import CellBatch, MultiomeMaskingCollator
from omics_transformers.training.multiome_pretraining_arguments import (
    MultiomeDataArguments,
    MultiomeModelArguments,
    MultiomePretrainingArguments,
)
from omics_transformers.training.multiome_pretraining_data import prepare_multiome_data
from omics_transformers.training.run_multiome_pretraining import pretrain_multiome

SCRIPT = Path(__file__).parents[1] / "training" / "run_multiome_pretraining.py"
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 16, "intermediate_size": 32}
NO_SIZES = dict.fromkeys(SIZES)
TINY = {
    **SIZES,
    "validation_share": 0.2,
    "use_cpu": True,
    "disable_tqdm": True,
    "report_to": "none",
    "per_device_train_batch_size": 16,
    "learning_rate": 0.01,
    "save_strategy": "no",
}


def settings(data: Path | None, output: Path, **changes: Any) -> dict[str, Any]:
    return {**TINY, "data": data and str(data), "output_dir": str(output), **changes}


def write_settings(data: Path, output: Path, **changes: Any) -> Path:
    """The YAML file that the script reads."""
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(settings(data, output, **changes)))
    return file


def run_here(data: Path | None, output: Path, **changes: Any) -> dict[str, Any]:
    chosen = settings(data, output, **changes)
    kinds = (MultiomeModelArguments, MultiomeDataArguments, MultiomePretrainingArguments)
    model, cells, training = (
        kind(**{name: value for name, value in chosen.items() if name in kind.__dataclass_fields__}) for kind in kinds
    )
    return pretrain_multiome((model, cells, training))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, toy_multiome: Path) -> Path:
    """The folder of a model that imputes too."""
    output = tmp_path_factory.mktemp("trained") / "performer"
    run_here(toy_multiome, output, max_steps=240, missing_modality_share=0.5, logging_steps=20)
    return output


def test_learns_more_than_how_frequent_bins_are(trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    kinds = metrics["validation"]["kinds"]
    assert list(kinds) == ["rna", "atac", "both", "rna_to_atac", "atac_to_rna"]
    assert metrics["validation"]["accuracy"] > metrics["validation"]["most_frequent_of_gene"] + 0.15
    assert kinds["both"]["atac"]["accuracy"] > kinds["both"]["atac"]["most_frequent_of_gene"] + 0.2
    for imputed in ("rna_to_atac", "atac_to_rna"):
        (scores,) = kinds[imputed].values()
        assert scores["accuracy"] > scores["most_frequent_of_gene"] + 0.2
    assert metrics["training"]["train_loss"] < 1.4
    data = metrics["data"]
    assert data["training"] == {"rna": {"rna-only": 96}, "atac": {"atac-only": 64}, "both": {"paired": 96}}
    assert data["validation"] == {"rna": 24, "atac": 16, "both": 24} and data["cells_not_used"] == 0
    assert data["cells_without_values"] == {"rna": 0, "atac": 0}


def test_the_folder_opens_by_the_auto_classes_and_gives_what_was_counted(trained: Path, toy_multiome: Path) -> None:
    model, folder = AutoModelForPreTraining.from_pretrained(trained), read_multiome(toy_multiome)
    assert type(model) is MultiomePerformerForPreTraining and model.config.gene_ids == folder.gene_ids
    assert type(AutoModel.from_pretrained(trained)).__name__ == "MultiomePerformerModel"
    extractor = AutoFeatureExtractor.from_pretrained(trained)
    assert extractor.gene_ids == folder.gene_ids
    data = prepare_multiome_data(MultiomeDataArguments(validation_share=0.2), folder, seed=42)
    rows = data.validation["rna"]
    batch = MultiomeMaskingCollator(6, seed=42)(CellBatch(rows, "rna", {"rna": folder.cells.values(rows, "rna")}))
    with torch.no_grad():
        loss = model.eval()(**batch).loss.item()
    expected = json.loads((trained / "metrics.json").read_text())["validation"]["kinds"]["rna"]["rna"]["loss"]
    assert loss == pytest.approx(expected, rel=1e-5)


def test_the_folder_brings_pipelines_card_and_settings(trained: Path) -> None:
    pipelines = json.loads((trained / "config.json").read_text())["custom_pipelines"]
    assert pipelines.keys() == {"cell-embedding", "multiome-imputation"}
    for entry in pipelines.values():
        assert (trained / f"{entry['impl'].split('.')[0]}.py").is_file()
    card = (trained / "README.md").read_text()
    scores = json.loads((trained / "metrics.json").read_text())["validation"]["kinds"]["rna_to_atac"]["atac"]
    shown = [f"{scores[name]:.3f}" for name in ("loss", "accuracy", "most_frequent_of_gene", "most_frequent_of_all")]
    assert f"| validation | rna_to_atac | atac | 24 | {' | '.join(shown)} |" in card
    assert "reads RNA and ATAC" in card and "| both | paired | 96 |" in card and "240 steps of 16 cells" in card
    assert json.loads((trained / "arguments.json").read_text())["data"]["missing_modality_share"] == 0.5
    assert not list(trained.glob("*.bin"))


def test_accelerate_launch_writes_a_model_that_loads(
    tmp_path: Path, toy_multiome: Path, accelerate_launch: Callable[..., tuple[str, str]]
) -> None:
    output = tmp_path / "model"
    changes = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "validation_cells": 5, "zero_share": 0.05}
    file = write_settings(toy_multiome, output, **changes, held_out_datasets=["rna-only"], kinds=["rna", "both"])
    printed, log = accelerate_launch(SCRIPT, str(file))
    assert '"hidden_size": 32' in log and printed.count("eval_both_atac_accuracy'") == 2
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["data"]["training"] == {"rna": {"paired": 96}, "both": {"paired": 96}}
    assert metrics["held_out"]["kinds"]["rna"]["rna"]["cells"] == 120 and "both" not in metrics["held_out"]["kinds"]
    assert AutoModel.from_pretrained(output).config.modalities == ["rna", "atac"]
    assert "data sets that are held out whole: rna-only." in (output / "README.md").read_text()


def test_two_processes_train_as_one(
    tmp_path: Path, toy_multiome: Path, in_two_processes: Callable[[Callable[[], Any]], None]
) -> None:
    """Batches of 4 on two processes are those of 8 on one: the same kinds, cells, masks, features and counts."""
    changes: dict[str, Any] = {
        "max_steps": 8,
        "missing_modality_share": 0.5,
        "feature_redraw_interval": 3,
        "zero_share": 0.05,
    }
    changes |= {"feature_order": "every_step", "genes_per_step": 30, "per_device_eval_batch_size": 7}
    halved = {"per_device_train_batch_size": 4, "dataloader_num_workers": 1}
    in_two_processes(lambda: run_here(toy_multiome, tmp_path / "two", **changes, **halved))
    expected = run_here(toy_multiome, tmp_path / "one", **changes, per_device_train_batch_size=8)
    assert json.loads((tmp_path / "two" / "arguments.json").read_text())["processes"] == 2
    found = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert found["data"] == json.loads(json.dumps(expected["data"]))
    for kind, modalities in expected["validation"]["kinds"].items():
        for modality, scores in modalities.items():
            other = found["validation"]["kinds"][kind][modality]
            assert (other["cells"], other["values"]) == (scores["cells"], scores["values"])
            assert other["loss"] == pytest.approx(scores["loss"], rel=2e-3), kind
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-2, atol=2e-3, msg=name)


@pytest.mark.parametrize("kind", ["whole", "LoRA"])
def test_resumes_to_the_weights_of_an_unbroken_run(
    tmp_path: Path, toy_multiome: Path, trained: Path, kind: str
) -> None:
    """In the middle of the second epoch of 18 steps, with features redrawn, orders, dropout and missing modalities."""
    changes: dict[str, Any] = {"max_steps": 25, "save_strategy": "steps", "save_steps": 22, "genes_per_step": 30}
    changes |= {"feature_order": "every_step", "hidden_dropout_prob": 0.1, "missing_modality_share": 0.5}
    if kind == "LoRA":
        changes |= {"lora_rank": 2, "model": str(trained), **NO_SIZES}
    else:
        changes["feature_redraw_interval"] = 4
    unbroken, stopped = tmp_path / "unbroken", tmp_path / "stopped"
    run_here(toy_multiome, unbroken, **changes)
    stopped.mkdir()
    shutil.copytree(unbroken / "checkpoint-22", stopped / "checkpoint-22")
    with pytest.raises(FileExistsError, match="holds an earlier run"):
        run_here(toy_multiome, stopped, **changes)
    run_here(toy_multiome, stopped, **changes, resume=True)
    expected, found = load_file(unbroken / "model.safetensors"), load_file(stopped / "model.safetensors")
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.slow
def test_an_interrupt_saves_a_checkpoint(tmp_path: Path, toy_multiome: Path) -> None:
    output = tmp_path / "model"
    file = write_settings(toy_multiome, output, max_steps=100_000, logging_steps=1)
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(file)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "'loss'" in line:
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr[-3000:]
    assert "stopped at step" in stderr and len(list(output.glob("checkpoint-*/trainer_state.json"))) == 1
    assert not (output / "model.safetensors").exists()


def test_lora_is_merged(tmp_path: Path, toy_multiome: Path, trained: Path) -> None:
    output = tmp_path / "adapted"
    run_here(
        toy_multiome, output, model=str(trained), lora_rank=2, save_adapter=True, max_steps=6, kinds=["rna"], **NO_SIZES
    )
    before, after = load_file(trained / "model.safetensors"), load_file(output / "model.safetensors")
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    attention = {f"performer.paths.rna.layers.0.attention.{part}.weight" for part in ("query", "value")}
    assert changed == {*attention, "rna_head.weight", "rna_head.bias"}
    assert (output / "adapter" / "adapter_model.safetensors").is_file()


def test_scbert_reads_rna_alone(tmp_path: Path, toy_multiome: Path) -> None:
    metrics = run_here(toy_multiome, tmp_path / "scbert", preset="scbert", max_steps=1, per_device_train_batch_size=2)
    assert list(metrics["data"]["training"]) == ["rna"]
    config = json.loads((tmp_path / "scbert" / "config.json").read_text())
    assert config["modalities"] == ["rna"] and config["custom_pipelines"].keys() == {"cell-embedding"}


def test_tokens_from_dna_train_and_load(tmp_path: Path, toy_multiome: Path) -> None:
    ids = read_multiome(toy_multiome).gene_ids
    features = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    write_gene_features(tmp_path / "dna.safetensors", GeneFeatures(ids, features))
    output = tmp_path / "model"
    run_here(toy_multiome, output, dna_features=str(tmp_path / "dna.safetensors"), max_steps=3)
    model: Any = MultiomePerformerForPreTraining.from_pretrained(output)
    assert model.config.gene_feature_size == 4 and model.base_model.gene_features.features.any()
    assert "from 4 DNA features each" in (output / "README.md").read_text()


def test_gradient_checkpointing_changes_nothing(tmp_path: Path, toy_multiome: Path) -> None:
    changes = {"max_steps": 4, "kinds": ["both"], "validation_share": 0.05}
    plain = run_here(toy_multiome, tmp_path / "plain", **changes)
    lean = run_here(toy_multiome, tmp_path / "lean", **changes, activation_checkpointing=True)
    assert lean["training"]["train_loss"] == pytest.approx(plain["training"]["train_loss"], rel=1e-5)


def test_without_held_out_cells_it_says_so(
    tmp_path: Path, toy_multiome: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        metrics = run_here(
            toy_multiome,
            tmp_path / "model",
            validation_share=0.0,
            max_steps=1,
            kinds=["rna"],
            missing_modality_share=0.5,
        )
    assert "validation" not in metrics and "no cells are held out" in caplog.text
    assert "no batches have both modalities: nothing is imputed" in caplog.text
    assert "No cells were held out." in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": None}, ValueError, "data is not set: give the folder"),
        ({"data": Path("no_such_folder")}, FileNotFoundError, "no folder of multiome at no_such_folder"),
        ({"mask_share": 0.0}, ValueError, r"mask_share is 0\.0"),
        ({"kinds": ["both"], "held_out_datasets": ["paired"]}, ValueError, "no cells to train on of the kind both"),
        ({"held_out_datasets": ["cortex"]}, ValueError, "names cortex, and the folder has rna-only"),
        ({"kind_weights": [1.0]}, ValueError, "kind_weights are"),
        ({"dataset_exponent": 3.0}, ValueError, "dataset_exponent is 3"),
    ],
)
def test_bad_input_is_refused_before_training(
    tmp_path: Path, toy_multiome: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_here(changes.pop("data", toy_multiome), tmp_path / "model", **changes)
    assert not list((tmp_path / "model").iterdir())


def test_folders_of_other_builders_are_refused(tmp_path: Path, toy_regions: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"has no multiome\.json: expected a folder that `build multiome` wrote"
    ):
        run_here(toy_regions, tmp_path / "model")
