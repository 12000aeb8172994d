"""The table of names: one to one, over all tensors of all models, and what is known to be unused."""

import pytest
import torch
from transformers import PreTrainedModel

from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.configuration_segment_nt import SegmentNTConfig
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerForMaskedLM
from omics_transformers.modeling.modeling_segment_nt import SegmentNTForTokenClassification
from omics_transformers.training.published_nucleotide_transformer_names import (
    NAMES,
    canonical_names,
    our_name,
    published_name,
    unused_names,
)

SIZES = {"hidden_size": 24, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 32}
FIRST_VERSION = {"hidden_act": "gelu", "mlp_bias": True, "position_embedding_type": "absolute"}


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (NucleotideTransformerForMaskedLM, NucleotideTransformerConfig(**SIZES)),
        (
            NucleotideTransformerForMaskedLM,
            NucleotideTransformerConfig(**SIZES, **FIRST_VERSION, emb_layer_norm_before=True),
        ),
        (SegmentNTForTokenClassification, SegmentNTConfig(**SIZES, unet_channels=[24, 32, 40], unet_convolutions=3)),
    ],
)
def test_every_tensor_has_one_published_name(model_class: type[PreTrainedModel], config: object) -> None:
    with torch.device("meta"):
        names = list(model_class(config).state_dict())
    published = [published_name(name) for name in names]
    assert len(set(published)) == len(names)
    assert [our_name(name) for name in published] == names


def test_numbers_keep_their_places() -> None:
    assert published_name("encoder.layers.11.attention.query.bias") == "esm.encoder.layer.11.attention.self.query.bias"
    assert our_name("unet._upsample_blocks.1.conv_layers.0.weight") == "unet.up.1.convolutions.0.weight"
    assert our_name("unet.final_block.conv_layers.1.bias") == "unet.final.convolutions.1.bias"
    assert published_name("lm_head.decoder.bias") == "lm_head.bias"
    assert our_name("fc.weight") == "classifier.weight"


def test_the_table_is_one_to_one() -> None:
    assert len(set(NAMES.values())) == len(NAMES)


@pytest.mark.parametrize(
    "name", ["esm.pooler.dense.weight", "lm_head.decoder.scale", "esm.encoder.layer.x.LayerNorm.weight", "fc", ""]
)
def test_other_names_are_no_names(name: str) -> None:
    with pytest.raises(KeyError):
        our_name(name)


def test_other_names_of_layer_norms() -> None:
    names = ["esm.encoder.layer.0.LayerNorm.gamma", "lm_head.layer_norm.beta", "esm.encoder.gamma", "fc.bias"]
    assert list(canonical_names(names).values()) == [
        "esm.encoder.layer.0.LayerNorm.weight",
        "lm_head.layer_norm.bias",
        "esm.encoder.gamma",
        "fc.bias",
    ]
    with pytest.raises(ValueError, match=r"hold lm_head\.layer_norm\.beta and lm_head\.layer_norm\.bias"):
        canonical_names([*names, "lm_head.layer_norm.bias"])


def test_what_is_known_to_be_unused() -> None:
    always = [
        "esm.contact_head.regression.bias",
        "esm.embeddings.position_ids",
        "esm.encoder.layer.3.attention.self.rotary_embeddings.inv_freq",
        "esm.rotary_embeddings.inv_freq",
    ]
    positions, head = "esm.embeddings.position_embeddings.weight", ["lm_head.bias", "lm_head.decoder.weight"]
    names = [*always, positions, *head, "esm.encoder.layer.3.LayerNorm.bias", "other.inv_freq"]
    assert unused_names(names, is_rotary=False, is_segment_nt=False) == sorted(always)
    assert unused_names(names, is_rotary=True, is_segment_nt=False) == sorted([*always, positions])
    assert unused_names(names, is_rotary=True, is_segment_nt=True) == sorted([*always, positions, *head])
