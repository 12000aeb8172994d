"""Encoders under any head: their sizes, weights, random weights of the same sizes, LoRA, rescaled positions."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from omics_transformers.modeling.configuration_nt_region_ranker import NTRegionRankerConfig
from omics_transformers.modeling.configuration_nucleotide_transformer import NucleotideTransformerConfig
from omics_transformers.modeling.modeling_nt_region_ranker import NTRegionRanker
from omics_transformers.modeling.modeling_nucleotide_transformer import NucleotideTransformerModel
from omics_transformers.modeling.tokenization_nucleotide_kmer import NucleotideKmerTokenizer
from omics_transformers.training.encoder_arguments import EncoderArguments
from omics_transformers.training.encoder_setup import (
    encoder_fields,
    load_tokenizer,
    prepare_encoder,
    rescale_positions,
    tokens_of_bases,
)

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(1)
    NucleotideTransformerModel(NucleotideTransformerConfig(**TINY, max_position_embeddings=130)).save_pretrained(folder)
    NucleotideKmerTokenizer().save_pretrained(folder)
    return folder


def prepare(**options: Any) -> Any:
    arguments = EncoderArguments(**options)
    torch.manual_seed(0)
    model = NTRegionRanker(NTRegionRankerConfig(**encoder_fields(arguments), num_tokens=20))
    return prepare_encoder(model, arguments, head=["scorer"], seed=5)


def test_tokens_of_bases_are_those_of_the_tokenizer() -> None:
    tokenizer = load_tokenizer(None)
    expected = [len(tokenizer.encode_bases("A" * bases)) for bases in range(40)]
    np.testing.assert_array_equal(tokens_of_bases(np.arange(40), tokenizer.kmer_size), expected)


def test_weights_sizes_and_tokenizer_of_an_encoder(encoder: Path) -> None:
    model = prepare(encoder=str(encoder), freeze_encoder=True)
    assert (model.config.hidden_size, model.config.max_tokens) == (16, 128)
    source = NucleotideTransformerModel.from_pretrained(encoder).state_dict()
    assert all(torch.equal(tensor, source[name]) for name, tensor in model.encoder.state_dict().items())
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"scorer"}
    assert load_tokenizer(str(encoder)).get_vocab() == load_tokenizer(None).get_vocab()


def test_random_weights_of_the_encoders_sizes(encoder: Path) -> None:
    random, again = (prepare(encoder=str(encoder), random_weights=True) for _ in range(2))
    plain = prepare(**TINY)
    assert random.config.max_tokens == 128 and plain.config.max_tokens == 2048
    source = NucleotideTransformerModel.from_pretrained(encoder).state_dict()
    found = random.encoder.state_dict()
    for name in ("embeddings.word_embeddings.weight", "layers.0.attention.query.weight"):
        assert not torch.equal(found[name], source[name])
        assert torch.equal(found[name], again.encoder.state_dict()[name])
        assert torch.equal(found[name], plain.encoder.state_dict()[name])


def test_sizes_beside_an_encoder_are_refused(encoder: Path) -> None:
    with pytest.raises(ValueError, match="hidden_size, num_hidden_layers and encoder are both given"):
        encoder_fields(EncoderArguments(encoder=str(encoder), hidden_size=8, num_hidden_layers=2))


def test_lora_trains_adapters_and_the_whole_head(encoder: Path) -> None:
    model = prepare(encoder=str(encoder), lora_rank=2)
    assert isinstance(model, PeftModel)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[-4] for name in trained if "lora" in name} == {"query", "value"}
    assert any(".scorer.modules_to_save." in name for name in trained)
    assert all("lora" in name or ".scorer." in name for name in trained)


def test_says_that_random_weights_are_frozen(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        prepare(**TINY, freeze_encoder=True)
    assert "random weights of the encoder stay as they are" in caplog.text


def test_positions_are_rescaled_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    config = NucleotideTransformerConfig(**TINY)
    with caplog.at_level(logging.INFO):
        rescale_positions(config, 5001, inputs="regions")
    assert config.rescaling_factor == 5001 / 2048
    assert "regions have up to 5001 tokens" in caplog.text
    learned = NucleotideTransformerConfig(**TINY, position_embedding_type="absolute")
    with pytest.raises(ValueError, match=r"regions of 5,001 tokens are longer than the 2,048 .*: set num_tokens"):
        rescale_positions(learned, 5001, inputs="regions", mend="set num_tokens")
