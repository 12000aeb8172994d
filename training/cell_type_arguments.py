"""What a comparison of cell type classifiers can be told: flags of run_cell_type_classification.py, and its YAML keys.

Learning rate, weight decay and batch size are the thesis' (table B.2), as is the head. What it leaves open is ours: at
most 20 passes over the training cells, and where these are few at least 300 steps; early stopping by MCC on validation
cells; a constant learning rate.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from transformers import TrainingArguments

from .cell_type_arms import (
    BASELINES,
    CELL_MODALITIES,
    Arm,
    BaselineArm,
    ModelArm,
    arm_from_options,
)
from .encoder_arguments import option
from .pretraining_arguments import parse_yaml_and_flags

SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "head_dim",
    "intermediate_size",
    "attention_type",
    "pooling",
    "joint_embedding",
    "hidden_dropout_prob",
    "classifier_dropout",
)
NO_BASELINES = "none"


@dataclass
class CellTypeModelArguments:
    """The model, and what stands beside it; see `ModelArm`, `BaselineArm` and `MultiomePerformerConfig`."""

    model: str | None = option(
        None, "folder or Hub repository of a pre-trained multiome Performer; random weights by default"
    )
    preset: Literal["scbert"] | None = option(None, "sizes of scBERT, for random weights; needs cells binned as scbert")
    modality: list[str] = field(
        default_factory=lambda: ["rna"],
        metadata={"help": "rna, atac or both: what cells are shown as; with several, each for model and baselines"},
    )
    tuning: Literal["full", "frozen", "lora"] = option("full", "train all, the head alone, or LoRA and the head")
    classification_head: Literal["convolutional", "linear"] | None = option(
        None, "the thesis' head, or one linear layer on the cell embedding; the model's own by default"
    )
    class_weights: Literal["balanced", "none"] = option("none", "weights of types in the loss")
    feature_order: Literal["fixed", "per_cell", "every_step"] | None = option(
        None, "order of the genes: the same for all cells, one a cell, or one a batch; the model's own by default"
    )
    lora_rank: int = option(8, "rank of LoRA on queries and values")
    zero_shot: bool | None = option(
        None, "also k-nearest neighbours of the frozen cell embeddings; by default where a model is given"
    )
    neighbours: int = option(15, "k of the zero-shot neighbours")
    baselines: list[str] = field(
        default_factory=lambda: ["logistic_regression", "pca_knn", "majority"],
        metadata={"help": f"some of {', '.join(BASELINES)}; {NO_BASELINES} for none"},
    )
    arms: str | None = option(
        None, "YAML file with a list of further arms: options of ModelArm, or of BaselineArm (baseline: NAME)"
    )
    hidden_size: int | None = option(None, "width of a model with random weights; 128 by default")
    num_hidden_layers: int | None = option(None, "its layers; 6 by default")
    num_attention_heads: int | None = option(None, "its attention heads; 10 by default")
    head_dim: int | None = option(None, "numbers a head; 64 by default")
    intermediate_size: int | None = option(None, "width of its feed-forward layers; 512 by default")
    attention_type: Literal["performer", "sdpa"] | None = option(None, "attention; performer by default")
    pooling: Literal["mean", "nonzero_mean", "cls"] | None = option(None, "cell embedding; the mean by default")
    joint_embedding: Literal["mean", "cross_attention"] | None = option(None, "of both modalities; mean by default")
    hidden_dropout_prob: float | None = option(None, "dropout of the layers; 0 by default")
    classifier_dropout: float | None = option(None, "dropout of the head; 0 by default")

    def __post_init__(self) -> None:
        if self.baselines == [NO_BASELINES]:
            self.baselines = []
        if not self.modality or len(set(self.modality)) < len(self.modality):
            raise ValueError(f"modality is {self.modality}: expected some of {', '.join(CELL_MODALITIES)}, each once")

    def to_arms(self) -> list[Arm]:
        """The first is the one whose model is written.

        Raises:
            ValueError: for settings that exclude each other.
            FileNotFoundError: where the file of arms does not exist.
        """
        config = {name: getattr(self, name) for name in SIZES if getattr(self, name) is not None}
        name = self.preset or "multiome_performer"
        fixed: dict[str, Any] = {"model": self.model, "preset": self.preset, "config": config}
        fixed |= {"class_weights": self.class_weights, "feature_order": self.feature_order}
        arms: list[Arm] = []
        for modality in self.modality:
            chosen = {"modality": modality, "tuning": self.tuning, "classification_head": self.classification_head}
            arms.append(ModelArm(name, **(fixed | chosen), lora_rank=self.lora_rank))
            if self.model is not None if self.zero_shot is None else self.zero_shot:
                arms.append(ModelArm(
                    f"{name}_neighbours", **(fixed | {"modality": modality}), tuning="zero_shot",
                    neighbours=self.neighbours,
                ))  # fmt: skip
            arms += [BaselineArm(baseline, modality) for baseline in self.baselines]  # type: ignore[arg-type]
        return arms + ([] if self.arms is None else read_arms(Path(self.arms)))


@dataclass
class CellTypeDataArguments:
    """Cells, and what is held out."""

    data: str | None = option(None, "folder that `build multiome` wrote, with cell types (required)")
    split_by: Literal["cell", "donor", "batch", "dataset"] = option(
        "cell", "hold out cells of each type, or whole donors, batches or data sets"
    )
    test_share: float = option(0.2, "share of a type's cells, or of the groups, to test on")
    validation_share: float = option(0.1, "share to stop training by, and to choose settings of baselines by")
    rare_classes: Literal["error", "drop"] = option("error", "types with a single cell: raise, or leave out and count")
    cells_per_type: list[int] = field(
        default_factory=list,
        metadata={"help": "few-shot: training (and validation) cells of each type, beside all; each number a run"},
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2, 3, 4], metadata={"help": "each draws a split and weights; all arms see it"}
    )


@dataclass
class CellTypeTrainingArguments(TrainingArguments):
    """transformers' own, with the thesis' defaults; when to evaluate, save and stop follows from the cells."""

    learning_rate: float = option(5e-4, "peak of the learning rate")
    weight_decay: float = option(1e-4, "weight decay of AdamW")
    lr_scheduler_type: str = option("constant", "course of the learning rate")
    per_device_train_batch_size: int = option(256, "cells a step and process")
    per_device_eval_batch_size: int = option(256, "cells of evaluation a step and process")
    num_train_epochs: float = option(20.0, "passes over the training cells at most")
    minimum_steps: int = option(300, "more passes where these are fewer steps: of few cells")
    early_stopping_patience: int | None = option(
        5, "stop after so many evaluations (each a pass, or a twentieth of minimum_steps) without a better MCC"
    )
    save_total_limit: int | None = option(1, "checkpoints to keep, beside the best")
    remove_unused_columns: bool = option(False, "must be false: batches are made by the data set")
    resume: bool = option(False, "go on with the comparison in output_dir; finished runs are not repeated")


CellTypeRun = tuple[CellTypeModelArguments, CellTypeDataArguments, CellTypeTrainingArguments]


def parse_cell_type_arguments(arguments: Sequence[str] | None = None) -> CellTypeRun:
    """Flags, or a YAML file, or both: `run_cell_type_classification.py config.yaml --seeds 0 1`.

    Raises:
        FileNotFoundError: where the YAML file does not exist.
        ValueError: where it has keys that are no options, or options that exclude each other.
    """
    kinds = (CellTypeModelArguments, CellTypeDataArguments, CellTypeTrainingArguments)
    model, data, training = parse_yaml_and_flags(kinds, arguments)
    return model, data, training


def read_arms(path: Path) -> list[Arm]:
    """The arms of a YAML file.

    Raises:
        FileNotFoundError: where it does not exist.
        ValueError: where it is no list of options of arms.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no YAML file of arms at {path}")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a list of arms, each with `key: value`")
    return [arm_from_options(options) for options in content]


def settings_of_arm(arm: Arm) -> dict[str, Any]:
    """All options, for JSON."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(arm).items()}
