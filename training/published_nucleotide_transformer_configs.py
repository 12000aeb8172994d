"""The published configurations of the Nucleotide Transformer and SegmentNT as this package's, and back.

Source: config.json of the files on the Hub: the first version (learned positions, feed-forward with GELU and biases,
token dropout), the second (rotary positions, SwiGLU without biases) and SegmentNT (`features`, `num_layers_head`,
`rescaling_factor`). What a field leaves open, the shapes of the tensors say.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError

from ..modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from ..modeling.configuration_segment_nt import SegmentNTConfig
from ..modeling.nucleotide_kmers import KmerVocabulary

Config = TypeVar("Config", bound=NucleotideTransformerConfig)

_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
# Name -> what transformers' own class of this model type takes where the field is absent.
_OPTIONAL = {
    "position_embedding_type": "absolute",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "emb_layer_norm_before": False,
    "token_dropout": False,
    "tie_word_embeddings": True,
    "rope_theta": 10_000.0,
    "rescaling_factor": None,
}
_READ_OTHERWISE = {
    "model_type",
    "architectures",
    "add_bias_fnn",
    "features",
    "num_layers_head",
    "pad_token_id",
    "mask_token_id",
    "cls_token_id",
    "is_decoder",
    "is_folding_model",
    "add_cross_attention",
}
_FIRST_LAYER = "esm.encoder.layer.0.intermediate.dense"


def is_segment_nt(published: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether a checkpoint has, or by its config.json should have, the segmentation head."""
    return (
        "SegmentNT" in (published.get("architectures") or [])
        or "num_layers_head" in published
        or any(name.startswith("unet.") for name in tensors)
    )


def nucleotide_transformer_config(
    published: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], vocabulary: KmerVocabulary
) -> tuple[NucleotideTransformerConfig, list[str]]:
    """Our configuration of a published Nucleotide Transformer, and the published fields that were not used.

    Args:
        published: the content of config.json.
        tensors: by published name; they tell SwiGLU from GELU.
        vocabulary: of the checkpoint's vocab.txt.

    Raises:
        ValueError: where it is no configuration of a Nucleotide Transformer, or does not fit the vocabulary.
    """
    fields = _fields(published, tensors, vocabulary)
    return _checked(NucleotideTransformerConfig, fields), _unused(published)


def segment_nt_config(
    published: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    vocabulary: KmerVocabulary,
    elements: list[str] | None = None,
) -> tuple[SegmentNTConfig, list[str]]:
    """Our configuration of a published SegmentNT; arguments and errors as `nucleotide_transformer_config`.

    Args:
        elements: names in the order of the logits, where the published configuration has no `features`.
    """
    names = elements or published.get("features")
    if not names:
        raise ValueError(
            "config.json has no `features`, the names of SegmentNT's elements in the order of its logits: give them "
            "(elements)"
        )
    fields = _fields(published, tensors, vocabulary)
    levels = published.get("num_layers_head") or _count(tensors, r"unet\._downsample_blocks\.(\d+)\.")
    head = {
        "unet_channels": [fields["hidden_size"] * 2**level for level in range(levels)],
        "unet_convolutions": _count(tensors, r"unet\._downsample_blocks\.0\.conv_layers\.(\d+)\.") or 2,
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }
    return _checked(SegmentNTConfig, fields | head), _unused(published)


def to_published_config(config: NucleotideTransformerConfig) -> dict[str, Any]:
    """The content of a config.json in the published form: the way back."""
    published = {name: getattr(config, name) for name in (*_REQUIRED, *_OPTIONAL)}
    published |= {name: getattr(config, name) for name in ("pad_token_id", "mask_token_id")}
    published |= {"model_type": "esm", "is_folding_model": False, "architectures": ["EsmForMaskedLM"]}
    if config.hidden_act == "swiglu":
        published["add_bias_fnn"] = config.mlp_bias
    if isinstance(config, SegmentNTConfig) and config.id2label is not None and config.unet_channels is not None:
        features = [name for _, name in sorted(config.id2label.items())]
        published |= {"architectures": ["SegmentNT"], "features": features}
        published |= {"num_layers_head": len(config.unet_channels)}
    return published


def _checked(config_class: type[Config], fields: dict[str, Any]) -> Config:
    try:
        return config_class(**fields)
    except StrictDataclassError as error:
        raise ValueError(f"config.json does not describe a model: {error}") from error


def _fields(
    published: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], vocabulary: KmerVocabulary
) -> dict[str, Any]:
    _require_nucleotide_transformer(published)
    fields = {name: published[name] for name in _REQUIRED}
    for name, default in _OPTIONAL.items():
        value = published.get(name)
        fields[name] = default if value is None else value
    if fields["position_embedding_type"] not in ("rotary", "absolute"):
        raise ValueError(
            f"position_embedding_type in config.json is {fields['position_embedding_type']!r}: expected rotary or "
            "absolute"
        )
    return fields | _feed_forward(published, tensors) | _token_ids(published, vocabulary)


def _require_nucleotide_transformer(published: Mapping[str, Any]) -> None:
    model_type = published.get("model_type", "esm")
    if model_type != "esm":
        hint = "it is converted already" if model_type in ("nucleotide-transformer", "segment-nt") else "another model"
        raise ValueError(
            f"model_type in config.json is {model_type!r} ({hint}): expected a published Nucleotide Transformer or "
            "SegmentNT, whose model_type is 'esm'"
        )
    lacking = [name for name in _REQUIRED if not isinstance(published.get(name), int)]
    if lacking:
        raise ValueError(f"config.json lacks {', '.join(lacking)}: it is no configuration of a Nucleotide Transformer")
    foreign = [name for name in ("is_folding_model", "is_decoder", "add_cross_attention") if published.get(name)]
    if foreign:
        raise ValueError(f"config.json sets {', '.join(foreign)}: it is no configuration of a Nucleotide Transformer")


def _feed_forward(published: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """SwiGLU has twice as many rows in its first matrix; only the second version names its biases in config.json."""
    weight = tensors.get(f"{_FIRST_LAYER}.weight")
    is_gated = "add_bias_fnn" in published
    if weight is not None:
        is_gated = weight.shape[0] == 2 * published["intermediate_size"]
    if not is_gated:
        return {"hidden_act": "gelu", "mlp_bias": True}
    has_bias = published.get("add_bias_fnn", f"{_FIRST_LAYER}.bias" in tensors)
    return {"hidden_act": "swiglu", "mlp_bias": bool(has_bias)}


def _token_ids(published: Mapping[str, Any], vocabulary: KmerVocabulary) -> dict[str, Any]:
    ids = {name: vocabulary.ids[f"<{name}>"] for name in ("pad", "mask", "cls")}
    for name, token_id in ids.items():
        configured = published.get(f"{name}_token_id")
        if configured is not None and configured != token_id:
            raise ValueError(
                f"{name}_token_id in config.json is {configured}, and <{name}> is token {token_id} in vocab.txt: give "
                "the two files of one model"
            )
    return {f"{name}_token_id": token_id for name, token_id in ids.items()} | {
        "kmer_size": vocabulary.kmer_size,
        "kmer_token_ids": vocabulary.kmer_token_ids,
        "letter_token_ids": vocabulary.letter_token_ids,
        "n_token_id": vocabulary.ids["N"],
    }


def _count(tensors: Mapping[str, torch.Tensor], pattern: str) -> int:
    numbers = (re.match(pattern, name) for name in tensors)
    return max((int(match.group(1)) + 1 for match in numbers if match), default=0)


def _unused(published: Mapping[str, Any]) -> list[str]:
    return sorted(published.keys() - {*_REQUIRED, *_OPTIONAL} - _READ_OTHERWISE)
