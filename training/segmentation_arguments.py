"""What a segmentation run can be told: the flags of run_segmentation.py, which are also the keys of its YAML file.

Learning rate and focal loss are SegmentNT's (de Almeida et al. 2025); the encoder's sizes default to those of the 50 M
parameter Nucleotide Transformer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import TrainingArguments

from .pretraining_arguments import parse_yaml_and_flags


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class SegmentationModelArguments:
    """Encoder and head; see `SegmentNTConfig`."""

    encoder: str | None = _option(
        None,
        "folder or Hub repository of a Nucleotide Transformer, SegmentNT or region ranker, to start from its encoder's "
        "weights and sizes; random weights by default",
    )
    encoder_revision: str | None = _option(None, "revision of the Hub repository")
    hidden_size: int | None = _option(None, "width of an encoder with random weights; 512 by default")
    num_hidden_layers: int | None = _option(None, "its layers; 12 by default")
    num_attention_heads: int | None = _option(None, "its attention heads a layer; 16 by default")
    intermediate_size: int | None = _option(None, "width of its feed-forward layers; 2048 by default")
    initializer_range: float | None = _option(None, "standard deviation of random weights; 0.02 by default")
    initial_embeddings: Literal["composed", "random"] = _option(
        "composed", "k-mers of an encoder with random weights: sums over their bases, or each by itself"
    )
    unet_channels: list[int] | None = field(
        default=None, metadata={"help": "channels of the U-Net's levels; hidden_size x 1 and x 2 by default"}
    )
    unet_convolutions: int = _option(2, "convolutions of each block of the U-Net")
    hidden_dropout_prob: float = _option(0.0, "dropout of the encoder's layers")
    attention_probs_dropout_prob: float = _option(0.0, "dropout of attention")
    attn_implementation: str | None = _option(None, "attention kernel: sdpa, flash_attention_2, eager; best by default")
    focal_gamma: float = _option(2.0, "exponent of the focal loss; 0 is the cross-entropy")
    class_weights: Literal["none", "balanced", "sqrt_balanced"] = _option(
        "none", "weight of bases that carry an element: 1, absent / present bases in training, or the root of that"
    )
    initial_probabilities: Literal["frequencies", "half"] = _option(
        "frequencies", "what the untrained head gives: each element's share of the training bases, or one half"
    )
    freeze_encoder: bool = _option(False, "train the head only")
    lora_rank: int = _option(0, "rank of LoRA on the encoder's attention, trained beside the whole head; 0 for none")
    lora_alpha: float | None = _option(None, "scale of LoRA; twice the rank by default")
    lora_dropout: float = _option(0.0, "dropout in front of LoRA")
    lora_targets: list[str] | None = field(
        default=None, metadata={"help": "projections that LoRA adapts; query and value by default"}
    )
    save_adapter: bool = _option(False, "also write LoRA's adapter and head by themselves, to OUTPUT/adapter")


@dataclass
class SegmentationDataArguments:
    """Windows, their augmentation, and what is evaluated."""

    segments: str | None = _option(None, "folder that `build segments` wrote (required)")
    crop_bp: int | None = _option(None, "train on random pieces of this length; whole windows by default")
    reverse_complement: float = _option(0.5, "share of the training windows that is read from the other strand")
    focus_elements: list[str] | None = field(
        default=None, metadata={"help": "elements that training windows should hold; see background_share"}
    )
    background_share: float = _option(
        1.0, "share of the training windows without a focus element that is trained on, drawn at random"
    )
    block_bp: int = _option(1_000_000, "windows of so many bp of a contig are one block of the intervals' bootstrap")
    resamples: int = _option(1000, "resamples of the blocks for the intervals at the end; 0 for no intervals")
    validation_windows: int | None = _option(
        None, "evaluate on so many windows during training, evenly spaced; at the end always on all"
    )
    test_windows: int | None = _option(None, "test on so many windows, evenly spaced; all by default")


@dataclass
class SegmentationArguments(TrainingArguments):
    """transformers' own, with SegmentNT's defaults, a learning rate for the encoder, and `resume`."""

    learning_rate: float = _option(5e-5, "peak of the learning rate, of the head where encoder_learning_rate is set")
    encoder_learning_rate: float | None = _option(None, "that of the encoder; learning_rate by default")
    per_device_train_batch_size: int = _option(8, "windows a step and process")
    per_device_eval_batch_size: int = _option(8, "windows of evaluation a step and process")
    num_train_epochs: float = _option(3.0, "passes over the training windows")
    warmup_steps: float = _option(0.05, "steps of linear warm-up, or below 1 their share of all steps")
    save_total_limit: int | None = _option(2, "checkpoints to keep")
    remove_unused_columns: bool = _option(False, "must be false: the collator needs all columns")
    resume: bool = _option(False, "go on from the last whole checkpoint in output_dir, if there is one")


SegmentationRun = tuple[SegmentationModelArguments, SegmentationDataArguments, SegmentationArguments]


def parse_segmentation_arguments(arguments: Sequence[str] | None = None) -> SegmentationRun:
    """Flags, or a YAML file, or both: `run_segmentation.py config.yaml --seed 3`.

    Raises:
        FileNotFoundError: where the YAML file does not exist.
        ValueError: where it has keys that are no options.
    """
    kinds = (SegmentationModelArguments, SegmentationDataArguments, SegmentationArguments)
    model, data, training = parse_yaml_and_flags(kinds, arguments)
    return model, data, training
