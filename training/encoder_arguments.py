"""What runs that train a head on a Nucleotide Transformer can all be told: the encoder, and how it is trained.

Sizes of an encoder with random weights default to those of the 50 M parameter Nucleotide Transformer.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import TrainingArguments

NO_ENCODER = "none"


def option(default: Any, text: str) -> Any:
    """A field with its help."""
    return field(default=default, metadata={"help": text})


@dataclass
class EncoderArguments:
    """The encoder under a head; see `NucleotideTransformerConfig`."""

    encoder: str | None = option(
        None,
        "folder or Hub repository of a Nucleotide Transformer, SegmentNT or region ranker, to start from its encoder's "
        'weights and sizes; random weights by default, or where it is "none"',
    )
    encoder_revision: str | None = option(None, "revision of the Hub repository")
    random_weights: bool = option(
        False,
        "take the encoder's sizes and choices, and random weights in place of its own: the baseline without training",
    )
    hidden_size: int | None = option(None, "width of an encoder with random weights; 512 by default")
    num_hidden_layers: int | None = option(None, "its layers; 12 by default")
    num_attention_heads: int | None = option(None, "its attention heads a layer; 16 by default")
    intermediate_size: int | None = option(None, "width of its feed-forward layers; 2048 by default")
    initializer_range: float | None = option(None, "standard deviation of random weights; 0.02 by default")
    initial_embeddings: Literal["composed", "random"] = option(
        "composed", "k-mers of an encoder with random weights: sums over their bases, or each by itself"
    )
    hidden_dropout_prob: float = option(0.0, "dropout of the encoder's layers")
    attention_probs_dropout_prob: float = option(0.0, "dropout of attention")
    attn_implementation: str | None = option(None, "attention kernel: sdpa, flash_attention_2, eager; best by default")
    freeze_encoder: bool = option(False, "train the head only")
    lora_rank: int = option(0, "rank of LoRA on the encoder's attention, trained beside the whole head; 0 for none")
    lora_alpha: float | None = option(None, "scale of LoRA; twice the rank by default")
    lora_dropout: float = option(0.0, "dropout in front of LoRA")
    lora_targets: list[str] | None = field(
        default=None, metadata={"help": "projections that LoRA adapts; query and value by default"}
    )
    save_adapter: bool = option(False, "also write LoRA's adapter and head by themselves, to OUTPUT/adapter")

    def __post_init__(self) -> None:
        if self.encoder == NO_ENCODER:
            self.encoder = None
        if self.random_weights and self.encoder is None:
            raise ValueError("random_weights is set without encoder: without one, weights are random anyway")
        if self.freeze_encoder and self.lora_rank:
            raise ValueError(
                "freeze_encoder and lora_rank are both set: LoRA leaves the encoder's own weights as they are"
            )


@dataclass
class EncoderTrainingArguments(TrainingArguments):
    """transformers' own, with a learning rate for the encoder, and `resume`."""

    learning_rate: float = option(5e-5, "peak of the learning rate, of the head where encoder_learning_rate is set")
    encoder_learning_rate: float | None = option(None, "that of the encoder; learning_rate by default")
    warmup_steps: float = option(0.05, "steps of linear warm-up, or below 1 their share of all steps")
    save_total_limit: int | None = option(2, "checkpoints to keep")
    remove_unused_columns: bool = option(False, "must be false: the collator needs all columns")
    resume: bool = option(False, "go on from the last whole checkpoint in output_dir, if there is one")
