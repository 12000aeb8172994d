"""What a segmentation run trains on, and the model that it trains.

Windows that hold so many N, each of them a token, that they are longer than all others would be, are left out, counted
and reported. Class weights and the head's biases come from how many training bases carry each element.
"""

import dataclasses
import logging

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel

from ..modeling.configuration_segment_nt import SegmentNTConfig
from ..modeling.modeling_segment_nt import SegmentNTForTokenClassification
from ..modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from .encoder_setup import encoder_fields, prepare_encoder, tokens_of_bases
from .parquet_folder import SPLITS, evenly_spaced
from .segmentation_arguments import SegmentationDataArguments, SegmentationModelArguments
from .segmentation_data import SegmentationDataset, Segments, SegmentWindows

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class SegmentationData:
    """The windows of each use.

    Attributes:
        segments: the folder's content.
        training: whole windows; the collator crops them.
        training_tokens: (training windows,) tokens a window, or the most that a piece of it has.
        validation, test: in blocks; None where the folder has no such split.
        during_training: the windows of `validation` that are evaluated while training.
        window_bp: length of the longest piece that is trained on.
        longest_tokens: tokens of the longest piece without N of all splits, <cls> included.
        report: windows by split, and what was left out.
    """

    segments: Segments
    training: SegmentationDataset
    training_tokens: npt.NDArray[np.int64]
    validation: SegmentationDataset | None
    test: SegmentationDataset | None
    during_training: SegmentationDataset | None
    window_bp: int
    longest_tokens: int
    report: dict[str, int]


def prepare_segmentation_data(
    arguments: SegmentationDataArguments,
    segments: Segments,
    tokenizer: NucleotideKmerTokenizer,
    *,
    max_tokens: int,
    seed: int = 0,
) -> SegmentationData:
    """Choose the windows of training, validation and test.

    Args:
        arguments: crops, blocks and numbers of windows.
        segments: what `read_segments` read.
        tokenizer: of the model.
        max_tokens: longest input that the encoder was trained with.
        seed: of the windows without focus elements that are trained on.

    Raises:
        ValueError: where no training window is left, a number of windows is not positive, a share is none, or a focus
            element is not among the elements.
    """
    crops = {"train": arguments.crop_bp}
    lengths = {split: _piece_lengths(windows, crops.get(split)) for split, windows in segments.splits.items()}
    longest = max(int(tokens_of_bases(bases, tokenizer.kmer_size).max()) for bases in lengths.values())
    report: dict[str, int] = {}
    tokens = {
        split: _most_tokens(windows, lengths[split], tokenizer, is_cropped=crops.get(split) is not None)
        for split, windows in segments.splits.items()
    }
    chosen = {
        split: _leave_out(windows, tokens[split], max(longest, max_tokens), split, report)
        for split, windows in segments.splits.items()
    }
    chosen["train"] = _focused(arguments, segments, chosen["train"], report, seed)
    if not len(chosen["train"]):
        raise ValueError(f"no training window is left of {len(segments.splits['train']):,}: {report}")
    if "test" in chosen and arguments.test_windows is not None:
        chosen["test"] = evenly_spaced(chosen["test"], arguments.test_windows, option="test_windows")
        report["test_windows_evaluated"] = len(chosen["test"])
    datasets = {
        split: SegmentationDataset(segments.splits[split], numbers) for split, numbers in chosen.items() if len(numbers)
    }
    evaluated = {split: datasets[split].in_blocks(arguments.block_bp) for split in SPLITS[1:] if split in datasets}
    validation = evaluated.get("validation")
    return SegmentationData(
        segments,
        datasets["train"],
        tokens["train"][chosen["train"]],
        validation,
        evaluated.get("test"),
        None if validation is None else _during_training(validation, arguments),
        int(lengths["train"].max()),
        longest,
        report,
    )


def make_segmentation_config(
    arguments: SegmentationModelArguments, segments: Segments, *, window_bp: int | None = None
) -> SegmentNTConfig:
    """Sizes from the encoder or the arguments; elements, class weights and loss.

    Raises:
        ValueError: where sizes are given beside an encoder, or the encoder is none of this package.
    """
    own = ("unet_channels", "unet_convolutions", "focal_gamma")
    return SegmentNTConfig(
        **encoder_fields(arguments) | {name: getattr(arguments, name) for name in own},
        id2label=dict(enumerate(segments.elements)),
        label2id={name: number for number, name in enumerate(segments.elements)},
        class_weights=class_weights(segments, arguments.class_weights),
        window_bp=window_bp,
    )


def class_weights(segments: Segments, kind: str) -> list[float] | None:
    """(elements,) weight of the training bases that carry each element; 1 for elements that none carries."""
    if kind == "none":
        return None
    present = segments.positive_bases["train"]
    ratio = (segments.scored_bases["train"] - present) / np.maximum(present, 1)
    weights = np.sqrt(ratio) if kind == "sqrt_balanced" else ratio
    absent = [name for name, bases in zip(segments.elements, present, strict=True) if not bases]
    if absent:
        logger.warning("no training base carries %s: its class weight is 1", ", ".join(absent))
    return np.where(present > 0, weights, 1.0).tolist()


def make_segmentation_model(
    arguments: SegmentationModelArguments, config: SegmentNTConfig, segments: Segments, *, seed: int = 0
) -> SegmentNTForTokenClassification | PeftModel:
    """The model as the arguments say; see `prepare_encoder`."""
    model = SegmentNTForTokenClassification(config)
    if arguments.initial_probabilities == "frequencies":
        model.set_class_priors(torch.from_numpy(_weighted_frequencies(config, segments)))
    prepared = prepare_encoder(model, arguments, head=["unet", "classifier"], seed=seed)
    assert isinstance(prepared, SegmentNTForTokenClassification | PeftModel)
    return prepared


def _weighted_frequencies(config: SegmentNTConfig, segments: Segments) -> npt.NDArray[np.float64]:
    """Shares of the loss's weight at bases that carry each element: what a constant prediction settles at."""
    frequencies = segments.frequencies("train")
    weighted = frequencies * np.array(config.class_weights or 1.0)
    return weighted / (weighted + 1 - frequencies)


def _piece_lengths(windows: SegmentWindows, crop_bp: int | None) -> npt.NDArray[np.int64]:
    bases = windows.end - windows.start
    return bases if crop_bp is None else np.minimum(bases, crop_bp)


def _most_tokens(
    windows: SegmentWindows, bases: npt.NDArray[np.int64], tokenizer: NucleotideKmerTokenizer, *, is_cropped: bool
) -> npt.NDArray[np.int64]:
    """(windows,) tokens of whole windows; of cropped ones at most so many, wherever the piece lies."""
    tokens, size = tokens_of_bases(bases, tokenizer.kmer_size), tokenizer.kmer_size
    with_n = np.flatnonzero(windows.n_counts())
    for number in with_n.tolist():
        sequence = windows.window(number).sequence
        if is_cropped:
            is_n = sequence == ord("N")
            runs = 1 + int((is_n[1:] > is_n[:-1]).sum() + is_n[0])  # of other letters, at most
            letters = min(int(is_n.sum()), int(bases[number]))
            tokens[number] = 1 + letters + (bases[number] - letters) // size + runs * (size - 1)
        else:
            tokens[number] = len(tokenizer.encode_bases(sequence.tobytes()))
    return tokens


def _leave_out(
    windows: SegmentWindows, tokens: npt.NDArray[np.int64], limit: int, split: str, report: dict[str, int]
) -> npt.NDArray[np.int64]:
    is_kept = tokens <= limit
    report[f"{split}_windows"] = int(is_kept.sum())
    report[f"{split}_windows_left_out_for_their_n"] = left_out = int((~is_kept).sum())
    if left_out:
        logger.warning(
            "%d of %d %s windows are left out: their N make them longer than %d tokens, first %s",
            left_out,
            len(windows),
            split,
            limit,
            windows.place(int(is_kept.argmin())),
        )
    return np.flatnonzero(is_kept)


def _focused(
    arguments: SegmentationDataArguments,
    segments: Segments,
    numbers: npt.NDArray[np.int64],
    report: dict[str, int],
    seed: int,
) -> npt.NDArray[np.int64]:
    """The training windows that hold a focus element, and a share of the others."""
    share, focus = arguments.background_share, arguments.focus_elements or []
    unknown = sorted(set(focus) - set(segments.elements))
    if unknown:
        raise ValueError(f"focus_elements has {', '.join(unknown)}: expected some of {', '.join(segments.elements)}")
    if not 0 <= share <= 1 or (share < 1 and not focus):
        raise ValueError(
            f"background_share is {share} and focus_elements {focus or None}: expected a share from 0 to 1, and below "
            "1 the elements that windows should hold, for example exon"
        )
    if share == 1:
        return numbers
    is_kept = segments.splits["train"].holds_any([segments.elements.index(name) for name in focus])[numbers]
    is_kept |= np.random.default_rng(seed).random(len(numbers)) < share
    report["train_windows_without_focus_elements_left_out"] = int((~is_kept).sum())
    report["train_windows"] = int(is_kept.sum())
    return numbers[is_kept]


def _during_training(validation: SegmentationDataset, arguments: SegmentationDataArguments) -> SegmentationDataset:
    places = evenly_spaced(np.arange(len(validation)), arguments.validation_windows, option="validation_windows")
    return validation.some_of(places)
