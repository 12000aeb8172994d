"""Published configurations: those of the Hub by hand, the way back, and what is no such configuration."""

from typing import Any

import pytest
import torch

from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.configuration_segment_nt import SEGMENT_NT_ELEMENTS, SegmentNTConfig
from omics_transformers.modeling.nucleotide_kmers import KmerVocabulary
from omics_transformers.training.published_nucleotide_transformer_configs import (
    is_segment_nt,
    nucleotide_transformer_config,
    segment_nt_config,
    to_published_config,
)

V2 = KmerVocabulary.published()
V1 = KmerVocabulary([*V2.tokens[:4], *V2.tokens[6:], "<eos>", "<bos>"])
# As on the Hub: 500M of the first version, and 100M of the second.
FIRST = {
    "model_type": "esm",
    "architectures": ["EsmForMaskedLM"],
    "vocab_size": 4105,
    "hidden_size": 1280,
    "num_hidden_layers": 24,
    "num_attention_heads": 20,
    "intermediate_size": 5120,
    "max_position_embeddings": 1002,
    "position_embedding_type": "absolute",
    "attention_probs_dropout_prob": 0.0,
    "hidden_dropout_prob": 0.0,
    "emb_layer_norm_before": False,
    "layer_norm_eps": 1e-12,
    "mask_token_id": 2,
    "pad_token_id": 1,
    "tie_word_embeddings": False,
    "token_dropout": True,
    "initializer_range": 0.02,
    "is_folding_model": False,
    "use_cache": False,
}
SECOND = FIRST | {
    "vocab_size": 4107,
    "hidden_size": 512,
    "num_hidden_layers": 22,
    "num_attention_heads": 16,
    "intermediate_size": 2048,
    "max_position_embeddings": 2050,
    "position_embedding_type": "rotary",
    "token_dropout": False,
    "add_bias_fnn": False,
}
HEAD = {"architectures": ["SegmentNT"], "features": ["exon", "intron"], "num_layers_head": 3, "rescaling_factor": 2.44}


def first_matrix(rows: int, hidden: int) -> dict[str, torch.Tensor]:
    return {"esm.encoder.layer.0.intermediate.dense.weight": torch.empty(rows, hidden, device="meta")}


def test_the_first_version() -> None:
    config, unused = nucleotide_transformer_config(FIRST, first_matrix(5120, 1280), V1)
    assert (config.hidden_act, config.mlp_bias, config.position_embedding_type) == ("gelu", True, "absolute")
    assert config.token_dropout and config.max_tokens == 1000 and not config.tie_word_embeddings
    assert (config.kmer_token_ids, config.letter_token_ids, config.n_token_id) == ([4, 4100], [4100, 4105], 4104)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (1280, 24, 20)
    assert (config.vocab_size, config.layer_norm_eps, unused) == (4105, 1e-12, ["use_cache"])


def test_the_second_version() -> None:
    config, _ = nucleotide_transformer_config(SECOND, first_matrix(4096, 512), V2)
    expected = NucleotideTransformerConfig(num_hidden_layers=22)
    assert {k: v for k, v in config.to_dict().items() if k != "rope_theta"} == {
        k: v for k, v in expected.to_dict().items() if k != "rope_theta"
    }
    assert config.rope_theta == expected.rope_theta
    without_tensors, _ = nucleotide_transformer_config(SECOND, {}, V2)
    assert without_tensors.to_dict() == config.to_dict()


def test_segment_nt() -> None:
    config, unused = segment_nt_config(SECOND | HEAD, first_matrix(4096, 512), V2)
    assert config.id2label == {0: "exon", 1: "intron"} and config.unet_channels == [512, 1024, 2048]
    assert config.rescaling_factor == 2.44 and config.unet_convolutions == 2 and unused == ["use_cache"]
    assert is_segment_nt(SECOND | HEAD, {}) and not is_segment_nt(SECOND, {})
    assert is_segment_nt(SECOND, {"unet.final_block.conv_layers.0.bias": torch.zeros(1)})


def test_segment_nt_by_its_tensors() -> None:
    published = SECOND | {"features": list(SEGMENT_NT_ELEMENTS)}
    blocks = [f"unet._downsample_blocks.{i}.conv_layers.{j}.weight" for i in range(2) for j in range(3)]
    config, _ = segment_nt_config(published, dict.fromkeys(blocks, torch.zeros(1)), V2)
    assert config.unet_channels == [512, 1024] and config.unet_convolutions == 3
    assert list(config.id2label.values()) == list(SEGMENT_NT_ELEMENTS)


def test_elements_are_never_assumed() -> None:
    published = {name: value for name, value in (SECOND | HEAD).items() if name != "features"}
    with pytest.raises(ValueError, match=r"no `features`.*give them \(elements\)"):
        segment_nt_config(published, {}, V2)
    assert segment_nt_config(published, {}, V2, ["a", "b", "c"])[0].label2id == {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize("published", [FIRST, SECOND, SECOND | HEAD])
def test_the_way_back(published: dict[str, Any]) -> None:
    vocabulary = V1 if published is FIRST else V2
    read = segment_nt_config if "features" in published else nucleotide_transformer_config
    config, _ = read(published, {}, vocabulary)
    back = to_published_config(config)
    always = {"rope_theta": 10_000.0, "rescaling_factor": config.rescaling_factor}
    assert back == {name: value for name, value in published.items() if name != "use_cache"} | always
    assert read(back, {}, vocabulary)[0].to_dict() == config.to_dict()
    assert isinstance(config, SegmentNTConfig) == ("features" in published)


def test_fields_that_are_absent_are_those_of_transformers_class() -> None:
    from transformers import EsmConfig

    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    bare = {name: FIRST[name] for name in (*sizes, "max_position_embeddings")}
    config, _ = nucleotide_transformer_config(bare, {}, V1)
    theirs = EsmConfig(**bare, mask_token_id=2, pad_token_id=1)
    for name in ("position_embedding_type", "hidden_dropout_prob", "layer_norm_eps", "tie_word_embeddings"):
        assert getattr(config, name) == getattr(theirs, name)
    assert not config.emb_layer_norm_before and not config.token_dropout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, r"model_type in config\.json is 'bert' \(another model\)"),
        ({"model_type": "segment-nt"}, r"it is converted already"),
        ({"hidden_size": None, "vocab_size": "many"}, r"lacks vocab_size, hidden_size"),
        ({"is_folding_model": True}, "sets is_folding_model"),
        ({"is_decoder": True, "add_cross_attention": True}, "sets is_decoder, add_cross_attention"),
        ({"position_embedding_type": "relative_key"}, "'relative_key': expected rotary or absolute"),
        ({"mask_token_id": 32}, r"mask_token_id in config\.json is 32, and <mask> is token 2 in vocab\.txt"),
        ({"num_attention_heads": 7}, "hidden_size 512 is no multiple"),
    ],
)
def test_other_configurations_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nucleotide_transformer_config(SECOND | changes, {}, V2)
