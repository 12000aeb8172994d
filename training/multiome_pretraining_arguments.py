"""What a pre-training run of the multiome Performer can be told: flags, which are also the keys of its YAML file.

Learning rate, weight decay and batch are those of "Developing a Multimodal Single-Cell Foundation Model with scATAC"
(table B.2), masking is scBERT's. What both leave open is ours: three epochs, a linear schedule with 5 % of warm-up, and
data sets drawn by the square root of their size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from transformers import TrainingArguments

from .encoder_arguments import option
from .pretraining_arguments import parse_yaml_and_flags

SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "head_dim",
    "intermediate_size",
    "attention_type",
    "num_random_features",
    "pooling",
    "joint_embedding",
    "initializer_range",
)


@dataclass
class MultiomeModelArguments:
    """Sizes and choices of the model; see `MultiomePerformerConfig`."""

    preset: Literal["thesis", "scbert"] = option(
        "thesis", "sizes that are not given: of the thesis, or of scBERT, which reads RNA alone"
    )
    model: str | None = option(None, "folder or Hub repository of a pre-trained model of the same genes, to go on from")
    model_revision: str | None = option(None, "revision of the Hub repository")
    hidden_size: int | None = option(None, "width; 128 by default (scBERT 200)")
    num_hidden_layers: int | None = option(None, "layers of each path; 6 by default")
    num_attention_heads: int | None = option(None, "attention heads a layer; 10 by default")
    head_dim: int | None = option(None, "width of a head, independent of hidden_size; 64 by default")
    intermediate_size: int | None = option(None, "width of the feed-forward layers; 512 by default (scBERT 800)")
    attention_type: Literal["performer", "sdpa"] | None = option(
        None, "attention by random features, linear in the genes (the default), or exact, for comparison"
    )
    num_random_features: int | None = option(None, "random features a head; int(head_dim * ln head_dim) by default")
    feature_redraw_interval: int | None = option(
        None, "training steps after which random features are drawn anew; 1000 by default, 0 for never"
    )
    pooling: Literal["mean", "nonzero_mean", "cls"] | None = option(
        None, "a cell's embedding: mean of all genes (the default), of those with a value, or a token of its own"
    )
    joint_embedding: Literal["mean", "cross_attention"] | None = option(
        None, "of both modalities: mean of the two paths (the thesis, default), or cross-attention between them"
    )
    initializer_range: float | None = option(None, "standard deviation of random weights; 0.02 by default")
    hidden_dropout_prob: float = option(0.0, "dropout of layers")
    dna_features: str | None = option(
        None, "safetensors file that `embed` wrote: gene tokens then come from the genes' DNA features"
    )
    gene2vec: str | None = option(
        None, "text file, a gene and hidden_size numbers a line, that gene tokens start from, as scBERT's do"
    )
    train_gene2vec: bool = option(False, "go on training gene tokens that start from gene2vec; scBERT freezes them")
    lora_rank: int = option(0, "rank of LoRA on the attention of a pre-trained model, its heads trained whole; 0: none")
    lora_alpha: float | None = option(None, "scale of LoRA; twice the rank by default")
    lora_dropout: float = option(0.0, "dropout in front of LoRA")
    save_adapter: bool = option(False, "also write LoRA's adapter and heads by themselves, to OUTPUT/adapter")

    def __post_init__(self) -> None:
        if self.lora_rank and self.model is None:
            raise ValueError("lora_rank is set without model: LoRA adapts a pre-trained model, give one")
        given = [name for name in (*SIZES, "dna_features", "gene2vec") if getattr(self, name) is not None]
        if self.model is not None and given:
            raise ValueError(
                f"{', '.join(given)} and model are both given: sizes and gene tokens are those of {self.model}; leave "
                "out one of the two"
            )
        if self.dna_features is not None and self.gene2vec is not None:
            raise ValueError("dna_features and gene2vec are both given: gene tokens start from one of the two")


@dataclass
class MultiomeDataArguments:
    """Cells, the regime, masking, and what is held out."""

    data: str | None = option(None, "folder that `build multiome` wrote (required)")
    kinds: list[str] | None = field(
        default=None,
        metadata={"help": "kinds of batches, of rna, atac and both, in turn; all that the folder has by default"},
    )
    kind_weights: list[float] | None = field(
        default=None, metadata={"help": "shares of the steps, one a kind in the same order; alike by default"}
    )
    split_paired: Literal["if_needed", "always", "never"] = option(
        "if_needed",
        "whether one modality of cells with both also serves in batches of that alone: if no cell has only that, "
        "always, or never",
    )
    dataset_exponent: float = option(
        0.5, "within a kind, data sets are drawn by size ** this: 1 draws all cells alike, 0 all data sets"
    )
    mask_share: float = option(0.15, "share of the non-zero values that is masked, at least one a cell")
    mask_replace_share: float = option(0.9, "share of these that the model sees as masked; the rest stay as they are")
    zero_share: float = option(0.0, "share of the zeros that is masked too; none in the thesis")
    missing_modality_share: float = option(
        0.0, "share of the batches of both that is given one modality, to predict the other: needed for imputation"
    )
    missing_labels: Literal["balanced", "all"] = option(
        "balanced", "labels of a missing modality: non-zero values and as many zeros, or all"
    )
    feature_order: Literal["fixed", "per_cell", "every_step"] = option(
        "fixed", "order of the genes: the same for all cells (the thesis' choice), one a cell, or anew every step"
    )
    genes_per_step: int | None = option(None, "train each step on so many genes, drawn anew; all by default")
    validation_share: float = option(0.05, "share of each data set's cells that is held out, at random; 0 for none")
    held_out_datasets: list[str] | None = field(
        default=None, metadata={"help": "names of data sets that are held out whole, and evaluated apart"}
    )
    validation_cells: int | None = option(
        None, "evaluate on so many cells a kind during training, evenly spaced; at the end always on all"
    )


@dataclass
class MultiomePretrainingArguments(TrainingArguments):
    """transformers' own, with the thesis' defaults, and `resume`."""

    learning_rate: float = option(5e-5, "peak of the learning rate")
    weight_decay: float = option(1e-4, "weight decay of AdamW")
    warmup_steps: float = option(0.05, "steps of linear warm-up, or below 1 their share of all steps")
    per_device_train_batch_size: int = option(256, "cells a step and process")
    per_device_eval_batch_size: int = option(64, "held-out cells a step and process")
    num_train_epochs: float = option(3.0, "times as many steps as the cells fill")
    save_total_limit: int | None = option(2, "checkpoints to keep")
    remove_unused_columns: bool = option(False, "must be false: the collator needs all columns")
    ddp_find_unused_parameters: bool | None = option(True, "must be true: a step of one modality leaves the other's")
    resume: bool = option(False, "go on from the last whole checkpoint in output_dir, if there is one")


MultiomePretrainingRun = tuple[MultiomeModelArguments, MultiomeDataArguments, MultiomePretrainingArguments]


def parse_multiome_arguments(arguments: Sequence[str] | None = None) -> MultiomePretrainingRun:
    """Flags, or a YAML file, or both: `run_multiome_pretraining.py config.yaml --seed 3`.

    Raises:
        FileNotFoundError: where the YAML file does not exist.
        ValueError: where it has keys that are no options, or options that exclude each other.
    """
    kinds = (MultiomeModelArguments, MultiomeDataArguments, MultiomePretrainingArguments)
    model, data, training = parse_yaml_and_flags(kinds, arguments)
    return model, data, training
