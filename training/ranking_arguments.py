"""What a region-ranking run can be told: the flags of run_region_ranking.py, which are also the keys of its YAML file.

The defaults are those of "Region Ranking on scATAC" (table A.4): learning rate 5e-5, 64 rows a step, Adam with a
regularisation of 1e-3, softmax loss, convolutional head, trainable encoder, no augmentation. What it leaves open is
ours: three passes, a linear schedule with 5 % of warm-up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .encoder_arguments import EncoderArguments, EncoderTrainingArguments, option
from .pretraining_arguments import parse_yaml_and_flags


@dataclass
class RankingModelArguments(EncoderArguments):
    """Encoder and head; see `NTRegionRankerConfig`."""

    scorer_head: Literal["linear", "transformer", "unet", "convolutional"] = option(
        "convolutional", "what scores a region, on top of the encoder"
    )
    num_tokens: int | None = option(
        None, "tokens of a region, <cls> and padding included; span_bp // bases of a k-mer + 1 by default"
    )
    ranking_loss: Literal["softmax", "pairwise_logistic", "listmle", "approx_ndcg", "poisson"] = option(
        "softmax", "loss of a row's scores against its counts"
    )
    ranking_labels: Literal["counts", "ranks"] = option(
        "counts", "labels of the loss: counts as they are, or their ranks within the row"
    )
    condition_on_cell_type: bool = option(
        False, "scores depend on the cell type, by an embedding of each of the data's"
    )


@dataclass
class RankingDataArguments:
    """Rows, their padding and augmentation, and what is evaluated."""

    regions: str | None = option(None, "folder that `build regions` wrote (required)")
    padding: Literal["stored", "end", "random"] = option(
        "stored", "where padding stands: as each row has it stored, at the end, or at random, anew each epoch"
    )
    reverse_complement: float = option(0.0, "share of the training rows that is read from the other strand")
    maximum_training_rows: int | None = option(None, "train on so many rows, evenly spaced; all by default")
    validation_rows: int | None = option(
        None, "evaluate on so many rows during training, evenly spaced; at the end always on all"
    )
    test_rows: int | None = option(None, "test on so many rows, evenly spaced; all by default")
    block_bp: int = option(
        1_000_000,
        "rows of so many bp of a contig are one group of the intervals' bootstrap, where there are under 5 contigs",
    )
    resamples: int = option(1000, "resamples of the groups for the intervals at the end; 0 for no intervals")


@dataclass
class RankingArguments(EncoderTrainingArguments):
    """transformers' own, with the publication's defaults, and early stopping."""

    weight_decay: float = option(1e-3, "weight decay of AdamW")
    per_device_train_batch_size: int = option(64, "rows a step and process")
    per_device_eval_batch_size: int = option(64, "rows of evaluation a step and process")
    num_train_epochs: float = option(3.0, "passes over the training rows")
    early_stopping_patience: int | None = option(
        None, "stop after so many evaluations without a better metric_for_best_model; needs load_best_model_at_end"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.early_stopping_patience is not None and not self.load_best_model_at_end:
            raise ValueError(
                "early_stopping_patience is set without load_best_model_at_end: set it too, with eval_strategy, "
                "save_strategy and metric_for_best_model (exact_order, for one)"
            )


RankingRun = tuple[RankingModelArguments, RankingDataArguments, RankingArguments]


def parse_ranking_arguments(arguments: Sequence[str] | None = None) -> RankingRun:
    """Flags, or a YAML file, or both: `run_region_ranking.py config.yaml --seed 3`.

    Raises:
        FileNotFoundError: where the YAML file does not exist.
        ValueError: where it has keys that are no options, or options that exclude each other.
    """
    kinds = (RankingModelArguments, RankingDataArguments, RankingArguments)
    model, data, training = parse_yaml_and_flags(kinds, arguments)
    return model, data, training
