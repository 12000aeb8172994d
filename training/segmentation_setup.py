"""What a segmentation run trains on, and the model that it trains.

Windows that hold so many N, each of them a token, that they are longer than all others would be, are left out, counted
and reported. Class weights and the head's biases come from how many training bases carry each element.
"""

import dataclasses
import logging
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, PreTrainedConfig

from ..modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from ..modeling.configuration_segment_nt import SegmentNTConfig
from ..modeling.modeling_segment_nt import SegmentNTForTokenClassification
from ..modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from .segmentation_arguments import SegmentationDataArguments, SegmentationModelArguments
from .segmentation_data import SPLITS, SegmentationDataset, Segments, SegmentWindows

logger = logging.getLogger(__name__)

_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "initializer_range")


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
    chosen["test"] = _spaced(chosen.get("test", np.zeros(0, np.int64)), arguments.test_windows, "test_windows", report)
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
        None if validation is None else _some_of(validation, arguments.validation_windows),
        int(lengths["train"].max()),
        longest,
        report,
    )


def tokens_of_bases(bases: npt.NDArray[np.int64], kmer_size: int) -> npt.NDArray[np.int64]:
    """Tokens of so many bases without N, <cls> included."""
    return 1 + bases // kmer_size + bases % kmer_size


def load_tokenizer(encoder: str | None, revision: str | None = None) -> NucleotideKmerTokenizer:
    """The encoder's own tokenizer; that of the Nucleotide Transformer v2 where there is no encoder."""
    if encoder is None:
        return NucleotideKmerTokenizer()
    return NucleotideKmerTokenizer.from_pretrained(encoder, revision=revision or "main")


def make_segmentation_config(
    arguments: SegmentationModelArguments, segments: Segments, *, window_bp: int | None = None
) -> SegmentNTConfig:
    """Sizes from the encoder or the arguments; elements, class weights and loss.

    Raises:
        ValueError: where sizes are given beside an encoder, or the encoder is none of this package.
    """
    sizes = {name: getattr(arguments, name) for name in _SIZES if getattr(arguments, name) is not None}
    if arguments.encoder is None:
        fields: dict[str, Any] = sizes
    else:
        fields = _encoder_fields(arguments.encoder, arguments.encoder_revision)
        if sizes:
            raise ValueError(
                f"{', '.join(sizes)} and encoder are both given: the sizes are those of {arguments.encoder}; leave "
                "out one of the two"
            )
    same = ("unet_channels", "unet_convolutions", "focal_gamma", "attn_implementation")
    dropouts = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    return SegmentNTConfig(
        **fields | {name: getattr(arguments, name) for name in (*same, *dropouts)},
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


def rescale_positions(config: SegmentNTConfig, longest_tokens: int) -> None:
    """Set `rescaling_factor` where pieces are longer than the encoder was trained with; says so in the log.

    Raises:
        ValueError: where positions are learned, and so cannot be rescaled.
    """
    factor = longest_tokens / config.max_tokens
    if factor <= (config.rescaling_factor or 1):
        return
    if config.position_embedding_type != "rotary":
        bases = (config.max_tokens - 1) * config.kmer_size
        raise ValueError(
            f"windows of {longest_tokens:,} tokens are longer than the {config.max_tokens:,} that the encoder has "
            f"positions for: build segments with windows of at most {bases:,} bp"
        )
    logger.info(
        "windows have up to %d tokens with <cls>, and the encoder was trained with %d: rescaling_factor is set from "
        "%s to %.4f",
        longest_tokens,
        config.max_tokens,
        config.rescaling_factor,
        factor,
    )
    config.rescaling_factor = factor


def make_segmentation_model(
    arguments: SegmentationModelArguments, config: SegmentNTConfig, segments: Segments, *, seed: int = 0
) -> SegmentNTForTokenClassification | PeftModel:
    """The model, its encoder loaded, frozen or wrapped in LoRA as the arguments say; `seed` of composed embeddings.

    Raises:
        ValueError: where frozen encoder and LoRA are both asked for, or the encoder's weights do not fit.
    """
    if arguments.freeze_encoder and arguments.lora_rank:
        raise ValueError("freeze_encoder and lora_rank are both set: LoRA leaves the encoder's own weights as they are")
    if arguments.freeze_encoder and arguments.encoder is None:
        logger.warning("freeze_encoder is set without encoder: random weights of the encoder stay as they are")
    model = SegmentNTForTokenClassification(config)
    if arguments.encoder is not None:
        model.load_encoder(arguments.encoder, revision=arguments.encoder_revision)
    elif arguments.initial_embeddings == "composed":
        model.encoder.compose_kmer_embeddings(seed)
    if arguments.initial_probabilities == "frequencies":
        model.set_class_priors(torch.from_numpy(_weighted_frequencies(config, segments)))
    if arguments.freeze_encoder:
        model.freeze_encoder()
    return _with_lora(model, arguments) if arguments.lora_rank else model


def _with_lora(model: SegmentNTForTokenClassification, arguments: SegmentationModelArguments) -> PeftModel:
    """Adapters on the encoder's attention; U-Net and classifier are trained whole."""
    targets = "|".join(arguments.lora_targets or ["query", "value"])
    lora = LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=2 * arguments.lora_rank if arguments.lora_alpha is None else arguments.lora_alpha,  # type: ignore
        lora_dropout=arguments.lora_dropout,
        target_modules=rf"encoder\.layers\.\d+\.attention\.({targets})",
        modules_to_save=["unet", "classifier"],
    )
    with warnings.catch_warnings():  # peft asks for a name that transformers 5 has given up
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        wrapped = get_peft_model(model, lora)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def _weighted_frequencies(config: SegmentNTConfig, segments: Segments) -> npt.NDArray[np.float64]:
    """Shares of the loss's weight at bases that carry each element: what a constant prediction settles at."""
    frequencies = segments.frequencies("train")
    weighted = frequencies * np.array(config.class_weights or 1.0)
    return weighted / (weighted + 1 - frequencies)


def _encoder_fields(encoder: str, revision: str | None) -> dict[str, Any]:
    config: PreTrainedConfig = AutoConfig.from_pretrained(encoder, revision=revision or "main")
    if not hasattr(config, "kmer_token_ids"):
        raise ValueError(
            f"{encoder} is a model of type {config.model_type}: expected one of this package; published weights are "
            "converted with `omics-transformers convert nucleotide-transformer SRC DST`"
        )
    own = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    names = [field.name for field in dataclasses.fields(NucleotideTransformerConfig) if field.name not in own]
    return {name: getattr(config, name) for name in names}


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


def _spaced(
    numbers: npt.NDArray[np.int64], most: int | None, option: str, report: dict[str, int]
) -> npt.NDArray[np.int64]:
    """`most` of the windows, evenly spaced."""
    if most is None or not len(numbers):
        return numbers
    if most < 1:
        raise ValueError(f"{option} is {most}: expected a positive number, or none for all windows")
    chosen = numbers[np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(np.int64)]
    report[f"{option}_evaluated"] = len(chosen)
    return chosen


def _some_of(validation: SegmentationDataset, most: int | None) -> SegmentationDataset:
    places = _spaced(np.arange(len(validation)), most, "validation_windows", {})
    assert validation.block_of is not None
    return SegmentationDataset(validation.windows, validation.numbers[places], block_of=validation.block_of[places])
