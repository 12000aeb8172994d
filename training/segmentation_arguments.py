"""What a segmentation run can be told: the flags of run_segmentation.py, which are also the keys of its YAML file.

Learning rate and focal loss are SegmentNT's (de Almeida et al. 2025).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from .encoder_arguments import EncoderArguments, EncoderTrainingArguments, option
from .pretraining_arguments import parse_yaml_and_flags


@dataclass
class SegmentationModelArguments(EncoderArguments):
    """Encoder and head; see `SegmentNTConfig`."""

    unet_channels: list[int] | None = field(
        default=None, metadata={"help": "channels of the U-Net's levels; hidden_size x 1 and x 2 by default"}
    )
    unet_convolutions: int = option(2, "convolutions of each block of the U-Net")
    focal_gamma: float = option(2.0, "exponent of the focal loss; 0 is the cross-entropy")
    class_weights: Literal["none", "balanced", "sqrt_balanced"] = option(
        "none", "weight of bases that carry an element: 1, absent / present bases in training, or the root of that"
    )
    initial_probabilities: Literal["frequencies", "half"] = option(
        "frequencies", "what the untrained head gives: each element's share of the training bases, or one half"
    )


@dataclass
class SegmentationDataArguments:
    """Windows, their augmentation, and what is evaluated."""

    segments: str | None = option(None, "folder that `build segments` wrote (required)")
    crop_bp: int | None = option(None, "train on random pieces of this length; whole windows by default")
    reverse_complement: float = option(0.5, "share of the training windows that is read from the other strand")
    focus_elements: list[str] | None = field(
        default=None, metadata={"help": "elements that training windows should hold; see background_share"}
    )
    background_share: float = option(
        1.0, "share of the training windows without a focus element that is trained on, drawn at random"
    )
    block_bp: int = option(1_000_000, "windows of so many bp of a contig are one block of the intervals' bootstrap")
    resamples: int = option(1000, "resamples of the blocks for the intervals at the end; 0 for no intervals")
    validation_windows: int | None = option(
        None, "evaluate on so many windows during training, evenly spaced; at the end always on all"
    )
    test_windows: int | None = option(None, "test on so many windows, evenly spaced; all by default")


@dataclass
class SegmentationArguments(EncoderTrainingArguments):
    """transformers' own, with SegmentNT's defaults."""

    per_device_train_batch_size: int = option(8, "windows a step and process")
    per_device_eval_batch_size: int = option(8, "windows of evaluation a step and process")
    num_train_epochs: float = option(3.0, "passes over the training windows")


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
