"""Single runs: a model that is trained, embeddings that are only read, a baseline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omics_transformers.modeling.configuration_multiome_performer import MultiomePerformerConfig
from omics_transformers.modeling.modeling_multiome_performer import MultiomePerformerModel
from omics_transformers.training.cell_type_arguments import CellTypeTrainingArguments
from omics_transformers.training.cell_type_arms import BaselineArm, ModelArm
from omics_transformers.training.cell_type_data import CellTypeDataset, labelled_cells
from omics_transformers.training.cell_type_runs import (
    SplitOfFolder,
    embed_cells,
    learned_nothing,
    run_baseline,
    run_model,
    run_zero_shot,
)
from omics_transformers.training.cell_type_splits import CellTypeSplit, split_cells
from omics_transformers.training.multiome_data import read_multiome

SIZES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 32,
}  # fmt: skip


def data(toy_multiome: Path, split: CellTypeSplit | None = None) -> SplitOfFolder:
    folder = read_multiome(toy_multiome)
    split = split or CellTypeSplit()
    cells = labelled_cells({"a": folder}, {"a": {"rna", "atac"}}, split)
    drawn = split_cells(split, cells.keys, cells.types, cells.groups, type_names=cells.type_names, seed=0)
    return SplitOfFolder(folder, cells.rows["a"], cells, drawn)


def training(tmp_path: Path) -> CellTypeTrainingArguments:
    return CellTypeTrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        disable_tqdm=True,
        minimum_steps=40,
        num_train_epochs=1,
        per_device_train_batch_size=32,
        learning_rate=1e-3,
    )


def test_a_trained_model_finds_plain_types_and_leaves_no_checkpoint(toy_multiome: Path, tmp_path: Path) -> None:
    kept: list[Any] = []
    found = run_model(
        ModelArm("a", "both", config=SIZES, class_weights="balanced"),
        data(toy_multiome),
        training(tmp_path),
        seed=0,
        folder=tmp_path / "run",
        keep_model=kept.append,
    )
    assert found["test"]["mcc"] > 0.8 and found["test"]["cells"] == 24 and found["validation"]["cells"] == 12
    assert found["history"] and found["chosen"]["trained_parameters"] == found["chosen"]["parameters"] > 1000
    assert len(kept) == 1 and not (tmp_path / "run").exists()


def test_the_same_seed_gives_the_same_and_no_validation_cells_the_last_step(toy_multiome: Path, tmp_path: Path) -> None:
    cells = data(toy_multiome, CellTypeSplit(validation_share=0.0))
    first, again, other = (
        run_model(ModelArm("a", config=SIZES), cells, training(tmp_path), seed=seed, folder=tmp_path / "run")
        for seed in (0, 0, 1)
    )
    assert first["test"] == again["test"] and first["test"] != other["test"]
    assert "validation" not in first and first["chosen"]["step"] == first["chosen"]["steps"] == 40


def test_a_linear_probe_is_solved_for(toy_multiome: Path, tmp_path: Path) -> None:
    arm = ModelArm("a", "both", config=SIZES, tuning="frozen", classification_head="linear")
    found = run_model(arm, data(toy_multiome), training(tmp_path), seed=0, folder=tmp_path / "run")
    assert found["chosen"]["penalty"] > 0 and found["history"] == []
    assert found["chosen"]["trained_parameters"] == 4 * 17
    assert found["test"]["mcc"] > 0.3  # of random embeddings, where chance is 0


def test_embeddings_are_the_encoder_s(toy_multiome: Path) -> None:
    torch.manual_seed(0)
    encoder = MultiomePerformerModel(MultiomePerformerConfig(num_genes=40, **SIZES)).eval()
    cells, rows = read_multiome(toy_multiome).cells, np.arange(200, 211)
    options: dict[str, Any] = {"types": rows, "labels": rows, "keys": rows.astype(str).astype(object)}
    dataset = CellTypeDataset(cells, rows, modalities=("atac",), **options)
    found = embed_cells(encoder, dataset, batch_size=4)
    with torch.no_grad():
        expected = encoder(atac_values=torch.from_numpy(cells.values(rows, "atac"))).cell_embedding
    assert np.allclose(found, expected.numpy(), atol=1e-5)


def test_neighbours_and_baselines_give_the_same_kind_of_result(
    toy_multiome: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = data(toy_multiome)
    near = run_zero_shot(ModelArm("a", tuning="zero_shot", config=SIZES), cells, training(tmp_path), seed=0)
    logistic = run_baseline(BaselineArm("logistic_regression"), cells, seed=0)
    assert near.keys() == logistic.keys() and near["chosen"] == {"neighbours": 15}
    assert logistic["test"]["mcc"] > 0.9 and "weights are random" in caplog.text


def test_a_model_whose_mcc_never_left_0_learned_nothing() -> None:
    assert learned_nothing([{"validation_mcc": 0.0}, {"validation_mcc": 0.0}])
    assert not learned_nothing([{"validation_mcc": 0.0}, {"validation_mcc": -0.1}])
    assert not learned_nothing([])
