"""Options of run_cell_type_classification.py: defaults of the thesis, arms, and YAML files."""

from pathlib import Path

import pytest

from omics_transformers.training.cell_type_arguments import (
    CellTypeModelArguments,
    parse_cell_type_arguments,
    read_arms,
    settings_of_arm,
)
from omics_transformers.training.cell_type_arms import BaselineArm, ModelArm

CONFIG = Path(__file__).parents[1] / "training" / "configs" / "cell_types.yaml"


def test_defaults_are_those_of_table_b_2() -> None:
    model, data, training = parse_cell_type_arguments(["--output_dir", "out"])
    assert (training.learning_rate, training.weight_decay, training.per_device_train_batch_size) == (5e-4, 1e-4, 256)
    assert (data.test_share, data.validation_share, data.seeds) == (0.2, 0.1, [0, 1, 2, 3, 4])
    assert [arm.name for arm in model.to_arms()] == [
        "multiome_performer", "logistic_regression", "pca_knn", "majority",
    ]  # fmt: skip


def test_each_modality_has_its_model_and_baselines() -> None:
    arms = CellTypeModelArguments(
        model="folder", modality=["rna", "both"], tuning="lora", baselines=["majority"], hidden_dropout_prob=0.1
    ).to_arms()
    config = {"hidden_dropout_prob": 0.1}
    assert arms[:3] == [
        ModelArm("multiome_performer", "rna", model="folder", tuning="lora", config=config),
        ModelArm("multiome_performer_neighbours", "rna", model="folder", tuning="zero_shot", config=config),
        BaselineArm("majority", "rna"),
    ]
    assert [(arm.name, arm.modality) for arm in arms[3:]] == [(arm.name, "both") for arm in arms[:3]]


def test_neighbours_are_asked_for_or_not() -> None:
    names = [arm.name for arm in CellTypeModelArguments(zero_shot=True, baselines=["none"]).to_arms()]
    assert names == ["multiome_performer", "multiome_performer_neighbours"]
    without = CellTypeModelArguments(model="folder", zero_shot=False, baselines=["none"], preset=None).to_arms()
    assert [arm.name for arm in without] == ["multiome_performer"]
    assert CellTypeModelArguments(preset="scbert").to_arms()[0].name == "scbert"


def test_the_file_of_the_repository_is_read_and_flags_override_it() -> None:
    model, data, training = parse_cell_type_arguments([str(CONFIG), "--seeds", "7", "--output_dir", "out"])
    assert model.model == "multiome-performer" and data.seeds == [7] and training.minimum_steps == 300
    assert model.baselines == ["logistic_regression", "pca_knn", "majority"] and model.modality == ["rna"]


def test_further_arms_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "arms.yaml"
    path.write_text("- {name: small, data: other, config: {hidden_size: 8}}\n- {baseline: pca_knn, modality: atac}\n")
    arms = CellTypeModelArguments(arms=str(path), baselines=["none"]).to_arms()
    assert arms[1:] == [ModelArm("small", data="other", config={"hidden_size": 8}), BaselineArm("pca_knn", "atac")]
    assert settings_of_arm(arms[1])["config"] == {"hidden_size": 8}
    path.write_text("name: small\n")
    with pytest.raises(ValueError, match="holds a dict, expected a list of arms"):
        read_arms(path)
    with pytest.raises(FileNotFoundError, match="no YAML file of arms at"):
        read_arms(tmp_path / "nowhere.yaml")


def test_other_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"modality is \['rna', 'rna'\]: expected some of rna, atac, both, each once"):
        CellTypeModelArguments(modality=["rna", "rna"])
    with pytest.raises(ValueError, match="baseline of arm '' is 'forest'"):
        CellTypeModelArguments(baselines=["forest"]).to_arms()
    path = tmp_path / "cells.yaml"
    path.write_text("epochs: 3\n")
    with pytest.raises(ValueError, match="unknown options in the YAML file: epochs"):
        parse_cell_type_arguments([str(path), "--output_dir", "out"])
