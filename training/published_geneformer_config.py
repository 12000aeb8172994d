"""The config.json of a published Geneformer, a BERT, to that of an adapter-free Bio-DTA, and back."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import BertConfig

from ..modeling.configuration_bio_dta import BioDTAConfig

# Fields that decide what the model computes.
FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
    "tie_word_embeddings",
)
# A model that has any other value computes something else than ours.
_ONLY_VALUES: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}
# Known to say nothing of what is computed.
_SILENT = ("model_type", "architectures", "transformers_version", "torch_dtype", "dtype", "use_cache", *_ONLY_VALUES)
_SPECIAL_TOKEN = re.compile(r"<[^<>\s]+>")


def bio_dta_config(published: Mapping[str, Any], tokens: Sequence[str]) -> tuple[BioDTAConfig, list[str]]:
    """Our configuration, and the published fields that it has no use for.

    Args:
        published: the content of config.json.
        tokens: (vocabulary,) the token of each id.

    Raises:
        ValueError: where it is no BERT encoder, or the token dictionary is another model's.
    """
    if published.get("model_type") != "bert":
        raise ValueError(
            f"config.json says model_type {published.get('model_type')!r}, expected 'bert', as Geneformer's are"
        )
    for name, values in _ONLY_VALUES.items():
        if published.get(name) not in (None, *values):
            raise ValueError(f"config.json says {name} {published[name]!r}; only {values[0]!r} can be converted")
    # Through BertConfig, so that what is left out has BERT's default.
    bert = BertConfig(**{name: published[name] for name in FIELDS if name in published})
    fields = {name: getattr(bert, name) for name in FIELDS}
    _require_fitting_dictionary(tokens, bert)
    config = BioDTAConfig(
        **fields, adapter_type="none", gene_ids=list(tokens), num_special_tokens=_count_special_tokens(tokens)
    )
    return config, sorted(published.keys() - {*FIELDS, *_SILENT})


def to_published_config(config: BioDTAConfig) -> BertConfig:
    """BERT's configuration of an adapter-free model.

    Raises:
        ValueError: where the model has an adapter.
    """
    if config.adapter_type != "none":
        raise ValueError(
            f'the model has adapter_type="{config.adapter_type}", and BERT has no adapter: only adapter-free models '
            'can be written as Geneformer is published (train with adapter_type="none")'
        )
    return BertConfig(**{name: getattr(config, name) for name in FIELDS})


def _require_fitting_dictionary(tokens: Sequence[str], bert: BertConfig) -> None:
    if len(tokens) != bert.vocab_size:
        raise ValueError(
            f"the token dictionary has {len(tokens):,} tokens, and vocab_size in config.json is {bert.vocab_size:,}: "
            "give the dictionary of this model (25,426 tokens in the first version of Geneformer, 20,275 in the second)"
        )
    pad = list(tokens).index("<pad>")
    if bert.pad_token_id not in (None, pad):
        raise ValueError(
            f"<pad> is {pad} in the token dictionary, and pad_token_id in config.json is {bert.pad_token_id}: give the "
            "dictionary and the config.json of one model"
        )


def _count_special_tokens(tokens: Sequence[str]) -> int:
    special = [number for number, token in enumerate(tokens) if _SPECIAL_TOKEN.fullmatch(token)]
    if special != list(range(len(special))):
        late = next(number for place, number in enumerate(special) if place != number)
        raise ValueError(
            f"the special token {tokens[late]} has the id {late}, behind genes: special tokens must have the first ids"
        )
    return len(special)
