"""The encoder under a head: its configuration, tokenizer and weights; frozen, adapted by LoRA, or trained whole."""

import dataclasses
import logging
import warnings
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, PreTrainedConfig

from ..modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from ..modeling.modeling_nucleotide_transformer import NucleotideTransformerModel
from ..modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from .encoder_arguments import EncoderArguments

logger = logging.getLogger(__name__)

ENCODER_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "initializer_range",
)
_CHOICES = ("attn_implementation", "hidden_dropout_prob", "attention_probs_dropout_prob")


class ModelWithEncoder(Protocol):
    """A model with a head, as `SegmentNTForTokenClassification` and `NTRegionRanker` are."""

    encoder: NucleotideTransformerModel

    def load_encoder(self, source: str, *, revision: str | None = None) -> None: ...

    def freeze_encoder(self) -> None: ...


def encoder_fields(arguments: EncoderArguments) -> dict[str, Any]:
    """Fields of the model's configuration: sizes from the encoder or the arguments, and choices of this run.

    Raises:
        ValueError: where sizes are given beside an encoder, or the encoder is none of this package.
    """
    sizes = {name: getattr(arguments, name) for name in ENCODER_SIZES if getattr(arguments, name) is not None}
    fields: dict[str, Any] = sizes
    if arguments.encoder is not None:
        fields = _fields_of(arguments.encoder, arguments.encoder_revision)
        if sizes:
            raise ValueError(
                f"{', '.join(sizes)} and encoder are both given: the sizes are those of {arguments.encoder}; leave "
                "out one of the two"
            )
    return fields | {name: getattr(arguments, name) for name in _CHOICES}


def load_tokenizer(encoder: str | None, revision: str | None = None) -> NucleotideKmerTokenizer:
    """The encoder's own tokenizer; that of the Nucleotide Transformer v2 where there is no encoder."""
    if encoder is None:
        return NucleotideKmerTokenizer()
    return NucleotideKmerTokenizer.from_pretrained(encoder, revision=revision or "main")


def tokens_of_bases(bases: npt.NDArray[np.int64], kmer_size: int) -> npt.NDArray[np.int64]:
    """Tokens of so many bases without N, <cls> included."""
    return 1 + bases // kmer_size + bases % kmer_size


def rescale_positions(
    config: NucleotideTransformerConfig, longest_tokens: int, *, inputs: str = "windows", mend: str | None = None
) -> None:
    """Set `rescaling_factor` where inputs are longer than the encoder was trained with; says so in the log.

    Args:
        config: of the model.
        longest_tokens: of an input, <cls> included.
        inputs: what the inputs are called, for messages.
        mend: how to make shorter ones; "build segments with windows of at most ... bp" by default.

    Raises:
        ValueError: where positions are learned, and so cannot be rescaled.
    """
    factor = longest_tokens / config.max_tokens
    if factor <= (config.rescaling_factor or 1):
        return
    if config.position_embedding_type != "rotary":
        bases = (config.max_tokens - 1) * config.kmer_size
        raise ValueError(
            f"{inputs} of {longest_tokens:,} tokens are longer than the {config.max_tokens:,} that the encoder has "
            f"positions for: {mend or f'build segments with windows of at most {bases:,} bp'}"
        )
    logger.info(
        "%s have up to %d tokens with <cls>, and the encoder was trained with %d: rescaling_factor is set from %s to "
        "%.4f",
        inputs,
        longest_tokens,
        config.max_tokens,
        config.rescaling_factor,
        factor,
    )
    config.rescaling_factor = factor


def prepare_encoder(
    model: ModelWithEncoder, arguments: EncoderArguments, *, head: list[str], seed: int = 0
) -> ModelWithEncoder | PeftModel:
    """The model, its encoder loaded, frozen or wrapped in LoRA as the arguments say.

    Args:
        model: with random weights.
        arguments: of the encoder.
        head: names of the modules that LoRA leaves to be trained whole.
        seed: of composed embeddings.

    Raises:
        ValueError: where the encoder's weights do not fit.
    """
    has_weights = arguments.encoder is not None and not arguments.random_weights
    if arguments.freeze_encoder and not has_weights:
        logger.warning("freeze_encoder is set without encoder: random weights of the encoder stay as they are")
    if has_weights:
        model.load_encoder(str(arguments.encoder), revision=arguments.encoder_revision)
    elif arguments.initial_embeddings == "composed":
        model.encoder.compose_kmer_embeddings(seed)
    if arguments.freeze_encoder:
        model.freeze_encoder()
    return _with_lora(model, arguments, head) if arguments.lora_rank else model


def _with_lora(model: Any, arguments: EncoderArguments, head: list[str]) -> PeftModel:
    """Adapters on the encoder's attention; the head is trained whole."""
    targets = "|".join(arguments.lora_targets or ["query", "value"])
    lora = LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=2 * arguments.lora_rank if arguments.lora_alpha is None else arguments.lora_alpha,  # type: ignore
        lora_dropout=arguments.lora_dropout,
        target_modules=rf"encoder\.layers\.\d+\.attention\.({targets})",
        modules_to_save=head,
    )
    with warnings.catch_warnings():  # peft asks for a name that transformers 5 has given up
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        wrapped = get_peft_model(model, lora)
    assert isinstance(wrapped, PeftModel)
    return wrapped


def _fields_of(encoder: str, revision: str | None) -> dict[str, Any]:
    config: PreTrainedConfig = AutoConfig.from_pretrained(encoder, revision=revision or "main")
    if not hasattr(config, "kmer_token_ids"):
        raise ValueError(
            f"{encoder} is a model of type {config.model_type}: expected one of this package; published weights are "
            "converted with `omics-transformers convert nucleotide-transformer SRC DST`"
        )
    own = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    names = [field.name for field in dataclasses.fields(NucleotideTransformerConfig) if field.name not in own]
    return {name: getattr(config, name) for name in names}
